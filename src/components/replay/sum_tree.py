"""A tree of sums: draws in proportion to priorities that change a few at a time (Schaul et al. 2016, appendix B)."""

from __future__ import annotations

import numpy as np


class SumTree:
    """Priorities of n entries, 0 for those that cannot be drawn.

    Every inner node is the sum of its two children as they are, so that the sums depend on the priorities alone and
    not on the order in which they were set.

    Args:
        n: number of entries.
    """

    def __init__(self, n: int) -> None:
        self.leaves = 1 << max(n - 1, 1).bit_length()
        self.nodes = np.zeros(2 * self.leaves)  # node k has the children 2k and 2k + 1; the leaves come last

    @property
    def total(self) -> float:
        """The sum of all priorities."""
        return float(self.nodes[1])

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        return self.nodes[self.leaves + index]

    def __setitem__(self, index: np.ndarray, priority: np.ndarray | float) -> None:
        """Set the priorities of entries ``index`` [k]."""
        nodes = self.leaves + index
        self.nodes[nodes] = priority
        while len(nodes) and nodes[0] > 1:
            nodes = nodes >> 1
            if len(nodes) > 64:  # neighbours share their parents
                nodes = np.unique(nodes)
            self.nodes[nodes] = self.nodes[2 * nodes] + self.nodes[2 * nodes + 1]

    def find(self, mass: np.ndarray) -> np.ndarray:
        """Return the entries [k] in whose share of the total the numbers ``mass`` [k] in [0, total) fall."""
        node, mass = np.ones(len(mass), np.int64), mass.copy()
        while node.size and node[0] < self.leaves:
            left = self.nodes[2 * node]
            # rounding must not lead to where there is nothing
            right = (mass >= left) & (self.nodes[2 * node + 1] > 0)
            mass -= left * right
            node = 2 * node + right
        return node - self.leaves
