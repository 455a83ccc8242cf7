"""Google Research Football: agents that control players of one team, against the game's own players."""

from .football import Football

__all__ = ["Football"]
