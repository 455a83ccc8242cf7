"""Matrix games."""

from .matrix import Matrix

__all__ = ["Matrix"]
