"""``oamarl completion``: completion of command lines in bash, zsh and fish."""
