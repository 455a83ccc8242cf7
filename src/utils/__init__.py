"""Utilities of all parts: errors, the terminal, the machine, signals, hints, video; in schema/, configuration."""
