"""Replay of past experience."""

from .buffer import Drawn, Replay

__all__ = ["Drawn", "Replay"]
