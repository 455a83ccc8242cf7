"""StarCraft II (SMAC, SMACv2) and SMAClite."""
