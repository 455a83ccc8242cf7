"""Draws in proportion to priorities (Schaul et al. 2016)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .sum_tree import SumTree


class Priorities:
    """Priorities of entries to the power of alpha, P(i) = p_i^alpha / sum_k p_k^alpha; entry i lies at i modulo size.

    Args:
        alpha: the exponent; 0: uniform in effect.
        size: of the ring that the entries lie in.
    """

    def __init__(self, alpha: float, size: int) -> None:
        self.alpha, self.size = alpha, size
        self.tree = SumTree(size)
        self.largest = 1.0  # priority of new entries: the largest so far

    def resize(self, size: int, kept: np.ndarray) -> None:
        """Move the entries ``kept`` to a ring of ``size``."""
        there = self[kept]
        self.tree, self.size = SumTree(size), size
        self[kept] = there

    def __getitem__(self, entries: np.ndarray) -> np.ndarray:
        """Return p^alpha of entries."""
        return self.tree[entries % self.size]

    def __setitem__(self, entries: np.ndarray, powers: np.ndarray | float) -> None:
        self.tree[entries % self.size] = powers

    def add(self, entries: np.ndarray) -> None:
        """Give new entries the largest priority so far, so that each is drawn soon."""
        self[entries] = self.largest**self.alpha

    def drop(self, entries: np.ndarray) -> None:
        """Let entries be drawn no more."""
        self[entries] = 0.0

    def set(self, entries: np.ndarray, priority: np.ndarray) -> None:
        """Set the priorities (above 0) of entries."""
        if len(entries):
            self.largest = max(self.largest, float(priority.max()))
            self[entries] = priority**self.alpha

    def draw(
        self, n: int, oldest: int, n_entries: int, beta: float, generator: torch.Generator
    ) -> tuple[np.ndarray, Tensor]:
        """Draw ``n`` entries, one in each n-th of the total, in random order.

        Args:
            oldest: the lowest number of an entry.
            n_entries: N, how many there are.
            beta: exponent of the importance weights.

        Returns:
            their numbers [n], and the weights (N P(i))^-beta over their largest [n].
        """
        share = torch.rand(n, generator=generator, dtype=torch.float64).numpy()
        piece = torch.randperm(n, generator=generator).numpy()
        place = self.tree.find((piece + share) / n * self.tree.total)
        weight = (n_entries * self.tree[place] / self.tree.total) ** -beta
        return oldest + (place - oldest) % self.size, torch.from_numpy(weight / weight.max()).float()
