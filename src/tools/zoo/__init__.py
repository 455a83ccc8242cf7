"""``oamarl zoo``: trained teams that come with the program."""
