"""``oamarl sweep``."""
