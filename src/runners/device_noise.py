"""Noise of sampled actions for slots on a device: the numbers of :class:`~oamarl.envs.vector.playing.ActionNoise`."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..components.streams.draws import draw
from ..components.streams.hashing import stream_states
from ..components.streams.words import Streams
from ..envs.vector.episode_store import Job
from ..envs.vector.playing import ActionNoise
from ..modules.selector_contract import Noise


class DeviceNoise(Protocol):
    """Noise [B, N, W] of each slot's present step: a function of the run's seed, slot, episode and step.

    Between two calls of ``begin``, tensors are changed in place: a CUDA graph may hold the calls.
    """

    def begin(self, number: Tensor, step: Tensor, length: int) -> None:
        """Prepare ``length`` steps of all slots, which are at ``step`` [B] of the episodes ``number`` [B]."""

    def draw(self, number: Tensor, step: Tensor) -> Tensor | None:
        """Return the noise of this step; None where actors need none."""

    def advance(self, over: Tensor) -> None:
        """Note that the slots ``over`` [B] bool begin their next episode, and the others go to their next step."""

    def forget(self) -> None:
        """Note that the slots are elsewhere than the last call left them."""

    def check(self) -> None:
        """Raise where numbers of the last rollout were not drawn; the device is read here, and nowhere else."""


class Silent:
    """What most kinds of noise need not do."""

    def begin(self, number: Tensor, step: Tensor, length: int) -> None:
        """Nothing."""

    def advance(self, over: Tensor) -> None:
        """Nothing."""

    def forget(self) -> None:
        """Nothing."""

    def check(self) -> None:
        """Nothing."""


class HostNoise(Silent):
    """Noise drawn by numpy, for slots whose tensors are in the host's memory; nothing is copied."""

    def __init__(self, seed: int, shape: tuple[int, int, int], kind: Noise) -> None:
        self._noise = ActionNoise(0, shape, kind)
        self._job = Job(seed, "train", False, "own", True, None)

    def draw(self, number: Tensor, step: Tensor) -> Tensor:
        """See :class:`DeviceNoise`."""
        return torch.from_numpy(self._noise(self._job, number.numpy(), step.numpy()))


class NoNoise(Silent):
    """For actors that need none."""

    def draw(self, number: Tensor, step: Tensor) -> None:
        """Nothing."""


class StreamNoise:
    """Noise drawn on the device: numpy's streams and draws as tensors (:mod:`oamarl.components.streams`).

    Its numbers are :class:`HostNoise`'s but for last digits. The streams of all episodes that can begin in a rollout
    are seeded before it, 48 bytes for each slot and step.
    """

    def __init__(self, seed: int, shape: tuple[int, int, int], kind: Noise, device: torch.device) -> None:
        self.seed, self.kind, (slots, *self._each) = seed, kind, shape
        self._count = int(np.prod(self._each))
        self._slots = torch.arange(slots, device=device)
        self._now: Streams | None = None
        self._short = torch.zeros(slots, dtype=torch.bool, device=device)

    def _seeded(self, slot: Tensor, number: Tensor) -> Streams:
        return Streams.seeded(*stream_states(self.seed, "train", slot, number))

    def begin(self, number: Tensor, step: Tensor, length: int) -> None:
        """See :class:`DeviceNoise`."""
        if self._now is None:
            self._now = self._found(number, step)
        following = number.unsqueeze(1) + torch.arange(1, length + 1, device=number.device)
        self._following = self._seeded(self._slots.unsqueeze(1), following)
        self._begun = torch.zeros_like(number)
        self._short.zero_()

    def _found(self, number: Tensor, step: Tensor) -> Streams:
        """Return the streams of episodes after ``step`` [B] steps, where a run begins or was resumed."""
        now = self._seeded(self._slots, number)
        for t in range(int(step.max())):
            now = now.where(step > t, draw(now, self._count, self.kind)[1])
        return now.clone()

    def draw(self, number: Tensor, step: Tensor) -> Tensor:
        """See :class:`DeviceNoise`."""
        assert self._now is not None
        numbers, following, short = draw(self._now, self._count, self.kind)
        self._now.become(following)
        self._short |= short
        return numbers.unflatten(1, self._each)

    def advance(self, over: Tensor) -> None:
        """See :class:`DeviceNoise`."""
        assert self._now is not None
        begun = self._following.at(self._begun.clamp(max=self._following.a.shape[1] - 1))
        self._now.become(self._now.where(over, begun))
        self._begun += over

    def forget(self) -> None:
        """See :class:`DeviceNoise`."""
        self._now = None

    def check(self) -> None:
        """See :class:`DeviceNoise`.

        Raises:
            RuntimeError: a step took more words of a stream than were looked at.
        """
        if self._short.any():
            raise RuntimeError("action noise took more random words than are looked at; use backend=native")


def device_noise(seed: int, shape: tuple[int, int, int], kind: Noise | None, device: torch.device) -> DeviceNoise:
    """Return the noise of a run's training episodes.

    Args:
        seed: the run's.
        shape: B, N, W.
        kind: that the actor needs; None: none.
        device: where it is needed.
    """
    if kind is None:
        return NoNoise()
    return HostNoise(seed, shape, kind) if device.type == "cpu" else StreamNoise(seed, shape, kind, device)
