"""A stand-in for the engine of Google Research Football: tests/helpers/standins/gfootball plays its games."""
