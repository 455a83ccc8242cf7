"""A stand-in for Google Research Football: the interface that oamarl uses, and a game of a few lines."""
