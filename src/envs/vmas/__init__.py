"""VMAS: two-dimensional physics of many agents, batched in torch."""

from .vmas import Vmas

__all__ = ["Vmas"]
