"""Shared memory for arrays: a file without a name that lives while a process has it open, and grows by groups."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from dataclasses import dataclass

import numpy as np

from ...components.experience import Layout

_LINE = 64  # bytes; an array begins on a cache line of its own


def nbytes(layout: Layout) -> int:
    """Return how many bytes the arrays of a layout have."""
    return sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in layout.values())


def nameless() -> int:
    """Return the descriptor of an empty file without a name: nothing is left behind, however we end."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("environments")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


@dataclass(frozen=True)
class Group:
    """A group of arrays in the file: its first byte, its length, and name -> (offset in it, shape, dtype)."""

    start: int
    length: int
    places: dict[str, tuple[int, tuple[int, ...], str]]

    def arrays(self, descriptor: int) -> dict[str, np.ndarray]:
        """Return the arrays, as views of the file's memory."""
        block = mmap.mmap(descriptor, self.length, offset=self.start)
        return {
            name: np.ndarray(shape, dtype, buffer=block, offset=offset)
            for name, (offset, shape, dtype) in self.places.items()
        }


class Memory:
    """The shared file; a process that inherits ``descriptor`` sees the same arrays through :class:`Group`."""

    def __init__(self) -> None:
        self.descriptor = nameless()
        self._size = 0

    def add(self, layout: Layout) -> Group:
        """Add a group of arrays, all zeros. Untouched pages take no memory."""
        places, length = {}, 0
        for name, (shape, dtype) in layout.items():
            places[name] = (length, tuple(shape), dtype)
            size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
            length += -(-size // _LINE) * _LINE
        length = max(length, _LINE)
        group = Group(self._size, length, places)
        self._size += -(-length // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        os.ftruncate(self.descriptor, self._size)
        return group
