"""Noise of sampled actions for slots on a device: the numbers of :class:`~oamarl.envs.vector.playing.ActionNoise`."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ..envs.vector.episode_store import Job
from ..envs.vector.playing import ActionNoise
from ..modules.action_selectors import Noise


class DeviceNoise(Protocol):
    """Noise [B, N, W] of each slot's present step: a function of the run's seed, slot, episode and step."""

    def begin(self, number: Tensor, step: Tensor, length: int) -> None:
        """Prepare ``length`` steps of all slots, which are at ``step`` [B] of the episodes ``number`` [B]."""

    def draw(self, number: Tensor, step: Tensor) -> Tensor | None:
        """Return the noise of this step; None where actors need none."""

    def advance(self, over: Tensor) -> None:
        """Note that the slots ``over`` [B] bool begin their next episode, and the others go to their next step."""


class HostNoise:
    """Noise drawn by numpy, for slots whose tensors are in the host's memory; nothing is copied."""

    def __init__(self, seed: int, shape: tuple[int, int, int], kind: Noise) -> None:
        self._noise = ActionNoise(0, shape, kind)
        self._job = Job(seed, "train", False, "own", True, None)

    def begin(self, number: Tensor, step: Tensor, length: int) -> None:
        """Nothing."""

    def draw(self, number: Tensor, step: Tensor) -> Tensor:
        """See :class:`DeviceNoise`."""
        return torch.from_numpy(self._noise(self._job, number.numpy(), step.numpy()))

    def advance(self, over: Tensor) -> None:
        """Nothing."""


class NoNoise:
    """For actors that need none."""

    def begin(self, number: Tensor, step: Tensor, length: int) -> None:
        """Nothing."""

    def draw(self, number: Tensor, step: Tensor) -> None:
        """Nothing."""

    def advance(self, over: Tensor) -> None:
        """Nothing."""


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
    return HostNoise(seed, shape, kind)
