"""Environments of other packages, by EPyMARL's name: Gymnasium ids and PettingZoo."""

from .gymnasium import gymma

__all__ = ["gymma"]
