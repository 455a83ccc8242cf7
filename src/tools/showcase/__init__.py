"""``oamarl showcase``."""
