"""What many runs say together: reading them, picking among them, curves, statistics. No torch, no pictures."""
