"""Named random streams: every consumer of randomness has its own, so that none shifts another's."""

from __future__ import annotations

import zlib

import numpy as np
import torch


def generator(seed: int, *names: str | int) -> torch.Generator:
    """Return a CPU generator whose stream depends on ``seed`` and its names alone.

    Streams live on the CPU whatever the device, so that a run draws the same numbers everywhere.
    """
    spawn_key = tuple(n if isinstance(n, int) else zlib.crc32(n.encode()) for n in names)
    state = np.random.SeedSequence(seed, spawn_key=spawn_key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))
