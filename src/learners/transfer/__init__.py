"""MAPTF: agents learn from one another's policies, by options that say whose to follow."""
