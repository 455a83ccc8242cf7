"""Evaluation of a trained team: loading it, playing episodes, their statistics, and runs with evaluate=True."""
