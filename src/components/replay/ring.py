"""A ring of rows: flat arrays, one for each field, in which new rows take the places of the oldest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

#: fewest rows of a ring
FEWEST = 256


class Ring:
    """Rows in the order in which they came: row i lies at i modulo ``size``, and those of begin <= i < end are there.

    Args:
        most: rows that it grows to, unless more are needed at once.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.fields: dict[str, np.ndarray] = {}
        self.size = 0
        self.begin = self.end = 0

    def allocate(self, layout: Mapping[str, tuple[tuple[int, ...], Any]]) -> None:
        """Lay out the fields at the first rows: name -> (shape of a row, dtype)."""
        if not self.fields:
            self.fields = {name: np.zeros((self.size, *shape), dtype) for name, (shape, dtype) in layout.items()}

    def reserve(self, n: int) -> bool:
        """Add ``n`` rows, which are to be written; returns whether the ring grew, so that all rows lie elsewhere."""
        needed = self.end - self.begin + n
        grew = needed > self.size
        if grew:
            self._grow(max(needed, min(max(self.size * 3 // 2, FEWEST), self.most)))
        self.end += n
        return grew

    def _grow(self, size: int) -> None:
        """Enlarge the ring, one field after another, so that one at a time exists twice."""
        kept = np.arange(self.begin, self.end)
        for name, x in self.fields.items():
            larger = np.zeros((size, *x.shape[1:]), x.dtype)
            larger[kept % size] = x[kept % self.size]
            self.fields[name] = larger
        self.size = size

    def place(self, row: np.ndarray) -> np.ndarray:
        """Return where rows lie."""
        return row % self.size

    def row_bytes(self) -> int:
        """Return the size of one row of all fields, in bytes."""
        return sum(x[:1].nbytes for x in self.fields.values())
