"""The Black and Red maze."""

from .maze import Maze

__all__ = ["Maze"]
