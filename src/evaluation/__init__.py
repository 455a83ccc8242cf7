"""A trained team: loading it, playing evaluation episodes, their statistics, and runs with evaluate=True."""
