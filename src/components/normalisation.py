"""Running mean and standard deviation, over real steps only."""

from __future__ import annotations

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
