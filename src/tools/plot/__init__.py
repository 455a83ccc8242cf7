"""``oamarl plot``."""
