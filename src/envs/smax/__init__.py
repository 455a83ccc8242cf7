"""SMAX: StarCraft-like battles in JAX."""

from .smax import Smax

__all__ = ["Smax"]
