"""What updates are made of: samples, objectives, gradient steps, natural-gradient steps, threads."""
