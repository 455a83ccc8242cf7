"""Role disagreement: whether agents whose policies are alike are also rewarded alike.

Two agents of one role gain by the same changes of the same policy: the gradient of learner i's objective is, in
expectation, the same on its own experience and on source j's. Where their roles differ it is not, also while their
policies are still equal and every distance between them is 0. With the gradient g_ij of learner i on source j's
experience, this module follows the difference over the iterations:

    delta_ij = g_ij - g_ii                                     one iteration's difference, of noise V_ij (over episodes)
    mean_ij  = beta mean_ij + (1 - beta) delta_ij              so that its noise falls and what persists is left
    noise_ij = beta^2 noise_ij + (1 - beta)^2 V_ij             the variance of mean_ij
    F_ij     = |mean_ij|^2 / noise_ij                          1 in expectation where the roles are the same

and (F - 1) noise is an estimate of the squared bias without bias of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: Memory of the moving averages: their noise is that of about (1 + beta) / (1 - beta) = 19 iterations.
BETA = 0.9
#: A ratio F up to this is noise.
NOISE = 1.2
#: How many times the bias counts that remains after the averages' noise, for it also remains in later updates.
HORIZON = 5.0
#: The squared bias that is presumed before anything is measured, in units of own experience's variance ...
PRIOR = 4.0
#: ... and what is left of it after each iteration.
PRIOR_DECAY = 0.95
#: How many times its noise a squared difference may be for the parts of a batch to count as independent.
COPIES = 100.0
#: Fewest parts of a batch that the noise is measured over; fewer episodes are cut into pieces.
PARTS = 8
#: The features are whitened down to this share of their mean variance: small directions are mostly noise.
RIDGE = 0.01
#: Most features that gradients are compared in: a whitening costs their third power.
WIDEST = 256
#: Most products of features and scores that are held at once.
_PRODUCTS = 2**21


def parts_of(episode: Tensor) -> tuple[Tensor, int]:
    """Number the parts of a batch that count as independent: its episodes, or pieces of them where they are few.

    Args:
        episode: [S] the episode of each step, those of one episode next to each other.

    Returns:
        [S] the part of each step, from 0, and the number of parts.
    """
    first = torch.cat([torch.ones_like(episode[:1]), episode.diff()]) != 0
    number = first.long().cumsum(0) - 1
    count = int(number[-1]) + 1 if len(number) else 0
    if not 0 < count < PARTS:
        return number, count
    pieces = -(-PARTS // count)
    length = torch.bincount(number)
    place = torch.arange(len(number), device=number.device) - (length.cumsum(0) - length)[number]
    part = number * pieces + place * pieces // length[number]
    part = part.unique(return_inverse=True)[1]
    return part, int(part.max()) + 1


def whitening(features: Tensor) -> Tensor:
    """[F, F] symmetric W for which ``features`` [L, F] times W have second moments near the identity.

    The gradient of a last layer in these coordinates is its natural gradient but for the actions' part: a step in each
    direction is measured by what it does to the outputs.
    """
    values, vectors = torch.linalg.eigh((features.T @ features).double() / max(len(features), 1))
    scale = values.clamp(min=0.0) + RIDGE * values.mean().clamp(min=1e-12)
    return ((vectors * scale.rsqrt()) @ vectors.T).to(features.dtype)


def narrowed(features: Tensor) -> Tensor:
    """``features`` [L, F], or a fixed random projection of them where they are more than :data:`WIDEST`."""
    width = features.shape[1]
    if width <= WIDEST:
        return features
    return features @ _projection(width).to(features)


@lru_cache(maxsize=1)
def _projection(width: int) -> Tensor:
    """[width, WIDEST] fixed random numbers, the same in every run."""
    fixed = torch.Generator().manual_seed(width)
    return torch.randn(width, WIDEST, generator=fixed, dtype=torch.float32) / WIDEST**0.5


def sums_by_part(features: Tensor, scores: Tensor, part: Tensor, n_parts: int) -> Tensor:
    """[E, P * F]: the sum over each part's rows of the outer product of ``scores`` [L, P] and ``features`` [L, F].

    Args:
        part: [L] the rows' parts, below ``n_parts`` E.
    """
    size = features.shape[1] * scores.shape[1]
    found = features.new_zeros(n_parts, size)
    rows = max(1, _PRODUCTS // size)
    for x, y, at in zip(features.split(rows), scores.split(rows), part.split(rows), strict=True):
        found.index_add_(0, at, (y.unsqueeze(2) * x.unsqueeze(1)).flatten(1))
    return found


def difference(own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """The difference of two gradients, and the variance of that difference (the trace of its covariance).

    Args:
        own, other: [E, K] each part's share of the gradient on own and on another agent's experience.

    Returns:
        [K] and a number.
    """
    apart = other - own
    n = len(apart)
    noise = (apart - apart.mean(0)).square().sum() * (n / max(n - 1, 1))
    return apart.sum(0), noise


class RoleEvidence:
    """What the iterations so far say of the roles of all pairs, learner by source.

    Args:
        n_agents: N.
    """

    def __init__(self, n_agents: int) -> None:
        self.mean: Tensor | None = None  # [N, N, K]
        self.noise = torch.zeros(n_agents, n_agents, dtype=torch.float64)
        self.iterations = 0

    def add(self, differences: Tensor, noise: Tensor) -> None:
        """Take in one iteration's delta [N, N, K] and V [N, N].

        A pair whose numbers are not finite (an importance weight beyond the type's range) says nothing this time, nor
        does one whose episodes are copies of one another, as deterministic policies play them: one observation.
        """
        sound = noise.isfinite() & differences.isfinite().all(-1)
        sound &= differences.square().sum(-1) <= COPIES * noise
        differences = torch.where(sound.unsqueeze(-1), differences, 0.0)
        noise = torch.where(sound, noise, 0.0)
        if self.mean is None:
            self.mean = torch.zeros_like(differences)
        self.mean = BETA * self.mean + (1.0 - BETA) * differences
        self.noise = BETA**2 * self.noise + (1.0 - BETA) ** 2 * noise.double().cpu()
        self.iterations += 1

    def ratios(self) -> np.ndarray:
        """F [N, N]: 1 on the diagonal and where nothing has been measured."""
        n = len(self.noise)
        if self.mean is None:
            return np.ones((n, n))
        square = self.mean.double().square().sum(-1).cpu()
        found = torch.where(self.noise > 0, square / self.noise.clamp(min=1e-300), 1.0)
        return found.fill_diagonal_(1.0).numpy()

    def squared_bias(self, variance: np.ndarray) -> np.ndarray:
        """[N, N] squared bias of each source, in units of the variance of own experience's gradient.

        What is left of the presumption of unlike roles, and of the ratio F what is more than noise. That is in units
        of the difference's noise, to which own experience adds 1 and the source its own ``variance`` [N, N].
        """
        excess = np.maximum(self.ratios() - NOISE, 0.0) * HORIZON
        # no excess of a source with infinite variance is none: 0 times infinity would not be a number
        found = np.where(excess > 0, excess, 1.0) * (1.0 + variance)
        found = np.where(excess > 0, found, 0.0) + PRIOR * PRIOR_DECAY**self.iterations
        np.fill_diagonal(found, 0.0)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return the averages."""
        return {"mean": self.mean, "noise": self.noise, "iterations": self.iterations}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device | str = "cpu") -> None:
        """Take the averages back."""
        mean = state["mean"]
        self.mean = None if mean is None else mean.to(device)
        self.noise, self.iterations = state["noise"].cpu(), int(state["iterations"])
