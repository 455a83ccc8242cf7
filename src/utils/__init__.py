"""What every part may use: errors, the terminal, the machine, signals, hints, video; in schema/, configuration."""
