"""Small environments whose agents' observations can be counted: for methods with tables, and for all others too."""

from .blocker import Blocker
from .digital import Digital
from .landmarks import Landmarks
from .navigation import Navigation

__all__ = ["Blocker", "Digital", "Landmarks", "Navigation"]
