"""Storage of a run: its log, records, checkpoints, curve files; sacred's layout and MongoDB."""
