"""Sparse predator-prey."""

from .predator_prey import PredatorPrey

__all__ = ["PredatorPrey"]
