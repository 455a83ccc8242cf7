"""What a run leaves behind: its log, records, checkpoints, curve files; sacred's layout and MongoDB."""
