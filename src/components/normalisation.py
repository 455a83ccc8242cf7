"""Scales of what networks see and predict: running statistics over real steps, and each observation's own scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class RunningMeanStd:
    """Mean and variance of everything seen so far, merged batch by batch (Chan et al. 1979).

    Args:
        shape: the trailing shape that keeps statistics of its own, for example ``(N,)`` for one per agent.
    """

    def __init__(self, shape: tuple[int, ...] = (), device: torch.device | str = "cpu") -> None:
        self.mean = torch.zeros(shape, dtype=torch.float64, device=device)
        self.var = torch.ones(shape, dtype=torch.float64, device=device)
        self.count = torch.zeros((), dtype=torch.float64, device=device)

    def update(self, x: Tensor) -> None:
        """Take in ``x`` [n, *shape]: padding must have been left out."""
        if not len(x):
            return
        x = x.double()
        mean, var, n = x.mean(0), x.var(0, unbiased=False), float(len(x))
        total = self.count + n
        delta = mean - self.mean
        self.var = (self.var * self.count + var * n + delta**2 * self.count * n / total) / total
        self.mean = self.mean + delta * n / total
        self.count = total

    @property
    def std(self) -> Tensor:
        """Standard deviation, float32, at least 1e-4; 1 before the first update."""
        return self.var.sqrt().clamp(min=1e-4).float()

    def normalise(self, x: Tensor) -> Tensor:
        """Return (x - mean) / std."""
        return (x - self.mean.float()) / self.std

    def scale(self, x: Tensor) -> Tensor:
        """Return x / root mean square: a change of unit, which keeps signs and the order of sums of any length."""
        return x / (self.var + self.mean**2).sqrt().clamp(min=1e-4).float()

    def denormalise(self, x: Tensor) -> Tensor:
        """Return x * std + mean."""
        return x * self.std + self.mean.float()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the statistics."""
        return {"mean": self.mean, "var": self.var, "count": self.count}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take the statistics back."""
        device = self.mean.device
        self.mean, self.var, self.count = (state[k].to(device) for k in ("mean", "var", "count"))


class ObservationNormaliser:
    """Observations and states on a running scale: mean 0, deviation 1, clipped to [-10, 10].

    Agents of one group share their statistics, so that an observation looks the same to each of them.

    Args:
        groups: the group of each agent, [N] numbers from 0 without gaps.
        obs_size, state_size: widths O and S.
    """

    CLIP = 10.0

    def __init__(self, groups: Sequence[int], obs_size: int, state_size: int) -> None:
        self.groups = list(groups)
        self.obs_stats = [RunningMeanStd((obs_size,)) for _ in range(max(groups) + 1)]
        self.state_stats = RunningMeanStd((state_size,))
        self._refresh()

    def _refresh(self) -> None:
        """Lay the groups' statistics out by agent: [N, O]."""
        self._mean = torch.stack([self.obs_stats[g].mean.float() for g in self.groups])
        self._std = torch.stack([self.obs_stats[g].std for g in self.groups])

    def to(self, device: torch.device | str) -> None:
        """Move the statistics."""
        for stats in (*self.obs_stats, self.state_stats):
            stats.mean, stats.var, stats.count = (x.to(device) for x in (stats.mean, stats.var, stats.count))
        self._refresh()

    def obs(self, obs: Tensor) -> Tensor:
        """Return observations [..., N, O] on the running scale."""
        return ((obs - self._mean) / self._std).clamp(-self.CLIP, self.CLIP)

    def scale(self) -> tuple[Tensor, Tensor]:
        """Return the observations' means and deviations, [N, O] each."""
        return self._mean, self._std

    def state(self, state: Tensor) -> Tensor:
        """Return states [..., S] on the running scale."""
        return self.state_stats.normalise(state).clamp(-self.CLIP, self.CLIP)

    def update(self, obs: Tensor, valid: Tensor, state: Tensor, filled: Tensor) -> None:
        """Take in what was seen at real steps.

        Args:
            obs: [B, T, N, O].
            valid: [B, T, N] bool: the agent took a decision there (the dead show zeros).
            state: [B, T, S].
            filled: [B, T] bool.
        """
        for g, stats in enumerate(self.obs_stats):
            members = [i for i, group in enumerate(self.groups) if group == g]
            stats.update(obs[:, :, members][valid[:, :, members]])
        self.state_stats.update(state[filled])
        self._refresh()

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics."""
        return {"obs": [s.state_dict() for s in self.obs_stats], "state": self.state_stats.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the statistics back."""
        for stats, saved in zip(self.obs_stats, state["obs"], strict=True):
            stats.load_state_dict(saved)
        self.state_stats.load_state_dict(state["state"])
        self._refresh()


class FeatureNormaliser:
    """Each observation and state on its own scale: mean 0 and variance 1 over its numbers (`feature_norm`).

    Layer normalisation (Ba et al. 2016) of the networks' input without a scale and shift of its own, which the first
    layer has. It keeps no statistics: what an agent sees looks the same to every agent with the same number of inputs,
    at any time. An agent's padded numbers are left out of mean and variance, and stay 0.

    Args:
        obs_sizes: each agent's own numbers, [N].
        obs_size: O, the largest of them.
    """

    EPS = 1e-5

    def __init__(self, obs_sizes: Sequence[int], obs_size: int) -> None:
        self.obs_sizes = tuple(obs_sizes)
        self._own = torch.arange(obs_size) < torch.tensor(self.obs_sizes).unsqueeze(1)
        self._sizes = torch.tensor(self.obs_sizes, dtype=torch.get_default_dtype()).unsqueeze(1)
        self._padded = not bool(self._own.all())

    def to(self, device: torch.device | str) -> None:
        """Move what is known of the agents' sizes."""
        self._own, self._sizes = self._own.to(device), self._sizes.to(device)

    def obs(self, obs: Tensor) -> Tensor:
        """Return observations [..., N, O], each normalised over its agent's own numbers."""
        if not self._padded:
            return self.state(obs)
        # of a constant observation exactly 0 is left, whatever its size
        x = torch.where(self._own, obs - obs[..., :1], 0.0)
        x = torch.where(self._own, x - x.sum(-1, keepdim=True) / self._sizes, 0.0)
        return x / (x.square().sum(-1, keepdim=True) / self._sizes + self.EPS).sqrt()

    def state(self, state: Tensor) -> Tensor:
        """Return states [..., S], each normalised over all its numbers."""
        x = state - state[..., :1]
        x = x - x.mean(-1, keepdim=True)
        return x / (x.square().mean(-1, keepdim=True) + self.EPS).sqrt()
