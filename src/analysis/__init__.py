"""Analysis of stored runs: reading and selecting them, curves, statistics. No torch, no pictures."""
