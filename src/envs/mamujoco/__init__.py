"""Multi-Agent MuJoCo: one robot whose joints are shared out among agents."""

from .mamujoco import Mamujoco

__all__ = ["Mamujoco"]
