"""Overcooked (JaxMARL's)."""

from .overcooked import Overcooked

__all__ = ["Overcooked"]
