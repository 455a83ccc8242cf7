"""``oamarl report``."""
