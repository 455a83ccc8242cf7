"""Environments of other packages, by EPyMARL's name: Gymnasium ids and PettingZoo."""

from .gymnasium import gymma, notices

__all__ = ["gymma", "notices"]
