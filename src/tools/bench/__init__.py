"""``oamarl bench``."""
