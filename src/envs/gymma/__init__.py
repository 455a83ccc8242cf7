"""Environments of other packages, by EPyMARL's name: Gymnasium ids and PettingZoo."""

from .build import as_typed, gymma, notices

__all__ = ["as_typed", "gymma", "notices"]
