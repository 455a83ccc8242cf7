"""``oamarl install``."""
