"""What updates are made of: objectives, gradient steps, natural-gradient steps, threads."""
