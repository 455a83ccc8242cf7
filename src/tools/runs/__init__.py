"""``oamarl runs``."""
