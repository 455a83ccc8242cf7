"""Policy objectives as sums over weighted rows, each written once."""

from __future__ import annotations

import torch
from torch import Tensor


def clipped_surrogate(ratio: Tensor, advantage: Tensor, eps_clip: float) -> Tensor:
    """PPO's clipped objective per row (HATRPO paper, eq. 5 and 11): min(r A, clip(r, 1-eps, 1+eps) A).

    Args:
        ratio: [L, ...] new over acting probability.
        advantage: [L, ...] advantage times whatever factor it carries.
    """
    return (ratio * advantage).minimum(ratio.clamp(1.0 - eps_clip, 1.0 + eps_clip) * advantage)


def approx_kl(log_ratio: Tensor) -> Tensor:
    """Per-row estimate of KL(acting || new): (r - 1) - log r, never negative (Schulman's k3)."""
    return log_ratio.exp() - 1.0 - log_ratio


def factor_of(log_ratios: Tensor, exclude: int | None = None) -> Tensor:
    """Product of the updated agents' ratios (HATRPO paper, eq. 9-11; off-agent paper, eq. 6).

    Args:
        log_ratios: [E, N, *T] log pi_k_new - log mu_k in each slot; 0 where it was not updated or the agent is dead.
        exclude: a slot that is left out of its own factor.

    Returns:
        [E, *T].
    """
    if exclude is None:
        return log_ratios.sum(1).exp()
    # the slot is left out of the sum, not subtracted from it: a large own ratio would cost the others their digits
    return (log_ratios[:, :exclude].sum(1) + log_ratios[:, exclude + 1 :].sum(1)).exp()


def factors_without_own(log_ratios: Tensor) -> Tensor:
    """:func:`factor_of` with each slot left out in turn, [E, N, *T]: sums over the slots before and after it."""
    none = torch.zeros_like(log_ratios[:, :1])
    before = torch.cat([none, log_ratios[:, :-1]], dim=1).cumsum(1)
    after = torch.cat([log_ratios[:, 1:], none], dim=1).flip(1).cumsum(1).flip(1)
    return (before + after).exp()
