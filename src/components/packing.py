"""Sequences of different lengths laid out without padding: time first, the longest sequence first.

It is the layout of torch's ``PackedSequence``: the rows of one time step are side by side, and those of step t are the
first ``batch_sizes[t]`` of the sequences. A recurrent network computes the rows that are there and no others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def sent(x: Tensor, device: torch.device) -> Tensor:
    """Return ``x`` on ``device``; to a GPU it is copied while that works on what it has."""
    if device.type == "cuda" and x.device.type == "cpu":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


@dataclass(frozen=True)
class Packing:
    """The layout of R sequences with S steps in all as S rows.

    | field | shape | meaning |
    |---|---|---|
    | batch_sizes | [T] int64, on the CPU | sequences that have a step t: R at first, never increasing, S in all |
    | order | [R] int64 | the sequences, the longest first: row r of step t is of sequence ``order[r]`` |
    | sequence, step | [S] int64 | the sequence of each row, and its step in it |
    """

    batch_sizes: Tensor
    order: Tensor
    sequence: Tensor
    step: Tensor

    @classmethod
    def of(cls, lengths: Tensor, device: torch.device | None = None) -> Packing:
        """Lay out sequences of ``lengths`` [R] int64; those of length 0 have no rows.

        Args:
            device: where the rows are; None: where ``lengths`` are. Nothing is read from there if these are on the CPU.
        """
        device, lengths = device or lengths.device, lengths.cpu()
        lengths, order = lengths.sort(descending=True, stable=True)
        order = order[lengths > 0]
        ending = torch.bincount(lengths[lengths > 0])  # [T+1] sequences of each length
        batch_sizes = len(order) - ending.cumsum(0)[:-1]
        # rows are many: where they are needed they are worked out, of what is short
        rows, sizes, order = int(batch_sizes.sum()), sent(batch_sizes, device), sent(order, device)
        step = torch.arange(len(sizes), device=device).repeat_interleave(sizes, output_size=rows)
        first = sizes.cumsum(0) - sizes
        sequence = order[torch.arange(rows, device=device) - first[step]]
        return cls(batch_sizes, order, sequence, step)

    def __len__(self) -> int:
        return len(self.step)
