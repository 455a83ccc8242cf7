"""numpy's SeedSequence (O'Neill's seed_seq_fe, 2015) as tensors: seeds of many episodes at once, on any device.

It is the hash behind :mod:`..seeding`, and gives its numbers: 32-bit words in int64 tensors, cut after each operation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..seeding import _ACTIONS, _PURPOSES, Purpose

#: words of the pool, and numpy's constants
_POOL = 4
_INIT_A, _MULT_A, _INIT_B, _MULT_B = 0x43B0D7E5, 0x931E8875, 0x8B51F9DD, 0x58F38DED
_LEFT, _RIGHT = 0xCA01F9DD, 0x4973F715
_WORD = 0xFFFFFFFF


class _Hash:
    """The running hash of SeedSequence; its constants do not depend on the words, which may be ints or tensors."""

    def __init__(self) -> None:
        self.constant = _INIT_A

    def __call__(self, word: int | Tensor) -> int | Tensor:
        word = word ^ self.constant
        self.constant = self.constant * _MULT_A & _WORD
        word = word * self.constant & _WORD
        return word ^ (word >> 16)


def _mix(x: int | Tensor, y: int | Tensor) -> int | Tensor:
    mixed = _LEFT * x - _RIGHT * y & _WORD
    return mixed ^ (mixed >> 16)


def _pool(words: list[int | Tensor]) -> list[int | Tensor]:
    """Return the pool of at least ``_POOL`` words of entropy."""
    hashed = _Hash()
    pool = [hashed(word) for word in words[:_POOL]]
    for source in range(_POOL):
        for target in range(_POOL):
            if source != target:
                pool[target] = _mix(pool[target], hashed(pool[source]))
    for word in words[_POOL:]:
        pool = [_mix(kept, hashed(word)) for kept in pool]
    return pool


def _words(seed: int, purpose: Purpose, slot: Tensor, episode: Tensor) -> list[int | Tensor]:
    """Return the entropy of an episode: the run's seed, at least four words of it, and the spawn key."""
    run: list[int | Tensor] = [seed >> shift & _WORD for shift in range(0, max(seed.bit_length(), 1), 32)]
    return [*run, *[0] * (_POOL - len(run)), _PURPOSES[purpose], slot, episode]


def _state(pool: list[int | Tensor], n_words: int) -> list[Tensor]:
    """Return ``n_words`` words of the sequence's state."""
    constant, found = _INIT_B, []
    for i in range(n_words):
        word = pool[i % _POOL] ^ constant
        constant = constant * _MULT_B & _WORD
        word = word * constant & _WORD
        found.append(torch.as_tensor(word ^ (word >> 16)))
    return found


def episode_seeds(seed: int, purpose: Purpose, slot: Tensor, episode: Tensor) -> Tensor:
    """Return the seeds of episodes, int64 of the shape of ``slot`` and ``episode`` (int64, below 2**32): those of
    :func:`~oamarl.components.seeding.episode_seed`."""
    (word,) = _state(_pool(_words(seed, purpose, slot, episode)), 1)
    return word >> 1


def stream_states(seed: int, purpose: Purpose, slot: Tensor, episode: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the three numbers of 64 bits (in int64) that the streams of
    :func:`~oamarl.components.seeding.action_noise` start from."""
    words = _state(_pool([*_words(seed, purpose, slot, episode), _ACTIONS]), 6)
    a, b, c = (low | (high << 32) for low, high in zip(words[::2], words[1::2], strict=True))
    return a, b, c
