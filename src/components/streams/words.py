"""numpy's SFC64 (Doty-Humphrey's PractRand) as tensors: the 32-bit words of many streams at once, on any device.

64-bit numbers are int64 here, whose sums and products wrap around as unsigned ones do.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_LOW = 0xFFFFFFFF
_WARM = 12  # rounds that numpy drops after seeding


def _next(a: Tensor, b: Tensor, c: Tensor, counter: Tensor | int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the next number and the state after it."""
    drawn = a + b + counter
    turned = (c << 24) | ((c >> 40) & 0xFFFFFF)
    return drawn, b ^ ((b >> 11) & (2**53 - 1)), c * 9, turned + drawn


@dataclass
class Streams:
    """The state of streams of words, of any shape [...].

    | field | meaning |
    |---|---|
    | a, b, c, counter | the generator's state |
    | half | 1 where the upper half of the last number is still to be read, else 0 |
    | spare | that half |
    """

    a: Tensor
    b: Tensor
    c: Tensor
    counter: Tensor
    half: Tensor
    spare: Tensor

    @classmethod
    def seeded(cls, a: Tensor, b: Tensor, c: Tensor) -> Streams:
        """Return the streams that numpy starts from the three numbers of a SeedSequence."""
        for k in range(_WARM):
            _, a, b, c = _next(a, b, c, k + 1)
        return cls(a, b, c, torch.full_like(a, _WARM + 1), torch.zeros_like(a), torch.zeros_like(a))

    def fields(self) -> tuple[Tensor, ...]:
        """Return the tensors."""
        return self.a, self.b, self.c, self.counter, self.half, self.spare

    def where(self, mask: Tensor, other: Streams) -> Streams:
        """Return the streams of ``other`` where ``mask`` holds, these elsewhere."""
        return Streams(*(torch.where(mask, y, x) for x, y in zip(self.fields(), other.fields(), strict=True)))

    def clone(self) -> Streams:
        """Return a copy."""
        return Streams(*(x.clone() for x in self.fields()))

    def become(self, other: Streams) -> None:
        """Take the state of ``other``, in place."""
        for x, y in zip(self.fields(), other.fields(), strict=True):
            x.copy_(y)

    def at(self, index: Tensor) -> Streams:
        """Return streams [B], of those [B, K] the ``index``-th [B] of each row."""
        return Streams(*(x.gather(1, index.unsqueeze(1)).squeeze(1) for x in self.fields()))

    def ahead(self, count: int) -> Ahead:
        """Return the next ``count`` words of streams [B], without reading them."""
        a, b, c = self.a, self.b, self.c
        states, drawn = [(a, b, c)], []
        for k in range(-(-count // 2)):
            number, a, b, c = _next(a, b, c, self.counter + k)
            states.append((a, b, c))
            drawn.append(number)
        numbers = torch.stack(drawn, 1)
        raw = torch.stack([numbers & _LOW, (numbers >> 32) & _LOW], 2).flatten(1)
        shifted = torch.cat([self.spare.unsqueeze(1), raw[:, :-1]], 1)
        words = torch.where(self.half.unsqueeze(1) == 1, shifted, raw)
        return Ahead(self, words, raw, tuple(torch.stack(x, 1) for x in zip(*states, strict=True)))


@dataclass
class Ahead:
    """Words [B, M] of streams, and what is needed to continue after any of them."""

    streams: Streams
    words: Tensor
    raw: Tensor
    states: tuple[Tensor, ...]

    def after(self, count: Tensor) -> Streams:
        """Return the streams when ``count`` [B] words, one at least, have been read."""
        read = count - self.streams.half
        numbers, half = (read + 1) // 2, read % 2
        a, b, c = (x.gather(1, numbers.unsqueeze(1)).squeeze(1) for x in self.states)
        spare = self.raw.gather(1, read.clamp(max=self.raw.shape[1] - 1).unsqueeze(1)).squeeze(1)
        return Streams(a, b, c, self.streams.counter + numbers, half, spare)
