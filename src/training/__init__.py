"""The training loop, the curve that it logs, and how a run is resumed."""
