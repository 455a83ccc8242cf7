"""``oamarl doctor``."""
