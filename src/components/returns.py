"""Value targets and advantages, with terminations, truncations and padding in one place.

All functions take time along dimension 1 and treat further dimensions (agents) alike.
``next_value`` at a step is the value of the observation that FOLLOWS it: the true final one where
an episode was cut inside the row, so that a truncation bootstraps from what the agents saw last.
"""

from __future__ import annotations

import torch
from torch import Tensor


def next_values(values: Tensor, final_values: Tensor, final_index: Tensor) -> Tensor:
    """Return [B, T, ...]: the value of the observation after each step.

    Args:
        values: [B, T+1, ...] values along the rows.
        final_values: [K, ...] values of the final observations of episodes that end inside a row.
        final_index: [K, 2] their (row, step).
    """
    following = values[:, 1:].clone()
    if len(final_index):
        row, step = final_index.unbind(1)
        following[row, step] = final_values
    return following


def gae(
    reward: Tensor, value: Tensor, next_value: Tensor, terminated: Tensor, ended: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16).

    delta_t = r_t + gamma V(o_{t+1}) (1 - terminated_t) - V(o_t),  A_t = delta_t + gamma lambda (1 - ended_t) A_{t+1}

    Args:
        reward, value, next_value: [B, T, ...].
        terminated: [B, T, ...] bool: no bootstrap.
        ended: [B, T, ...] bool: the trace is cut (terminated, truncated, or padding).

    Returns:
        advantages and value targets (advantage + value), [B, T, ...].
    """
    delta = reward + gamma * next_value * (~terminated) - value
    decay = gamma * lam * (~ended).to(delta.dtype)
    advantage = torch.empty_like(delta)
    trace = torch.zeros_like(delta[:, 0])
    for t in range(delta.shape[1] - 1, -1, -1):
        trace = delta[:, t] + decay[:, t] * trace
        advantage[:, t] = trace
    return advantage, advantage + value


def lambda_returns(
    reward: Tensor, next_value: Tensor, terminated: Tensor, ended: Tensor, gamma: float, lam: float
) -> Tensor:
    """lambda-returns (Sutton and Barto 2018, eq. 12.20), of any values of what follows a step.

    G_t = r_t + gamma (1 - terminated_t) [(1 - lambda) v_{t+1} + lambda G_{t+1}], where after the step that ends a trace
    G_{t+1} is v_{t+1} alone.

    Args:
        reward: [B, T, ...].
        next_value: [B, T, ...] v_{t+1}; of action values those of the actions that targets are made of.
        terminated, ended: [B, T, ...] bool, as in :func:`gae`.
        lam: 0: one-step targets; 1: all rewards up to the trace's end.

    Returns:
        [B, T, ...] (meaningless where a step is padding).
    """
    # inside a trace the value of a step's own observation is that of what followed the step before
    value = torch.cat([torch.zeros_like(next_value[:, :1]), next_value[:, :-1]], dim=1)
    return gae(reward, value, next_value, terminated, ended, gamma, lam)[1]


def nstep(
    reward: Tensor, next_value: Tensor, terminated: Tensor, ended: Tensor, filled: Tensor, gamma: float, n: int
) -> Tensor:
    """n-step value targets: y_t = sum_{k<n} gamma^k r_{t+k} + gamma^n V(o_{t+n}).

    The sum stops at the step that ends the episode, adding gamma^{k+1} V(final observation) when that
    step was not a termination; it stops likewise at the row's end.

    Args:
        reward, next_value: [B, T, ...].
        terminated, ended: [B, T, ...] bool, as in :func:`gae`.
        filled: [B, T, ...] bool: a row's padding is never entered.
        n: number of rewards, at least 1.

    Returns:
        targets [B, T, ...] (meaningless where not filled).
    """
    bootstrap = gamma * next_value * (~terminated)
    # after[t]: the target of step t from the longest horizon reached so far; one reward at first
    target = reward + bootstrap
    for _ in range(n - 1):
        ahead = torch.cat([target[:, 1:], target[:, -1:]], dim=1)
        last = torch.zeros_like(ended)
        last[:, -1] = True
        stop = ended | last
        stop[:, :-1] |= ~filled[:, 1:]
        target = torch.where(stop, reward + bootstrap, reward + gamma * ahead)
    return target


def nstep_parts(
    reward: Tensor, terminated: Tensor, ended: Tensor, filled: Tensor, gamma: float, n: int, steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The parts that n-step targets of a row's first steps are made of, for values that are asked for at one
    observation alone: y_t = R_t + d_t V(o_{t + k_t}), equal to :func:`nstep`.

    Args:
        reward: [B, T, V].
        terminated, ended: [B, T, V] bool, as in :func:`gae`.
        filled: [B, T] bool: a row's padding is never entered.
        gamma: discount factor.
        n: number of rewards, at least 1.
        steps: L of the T steps have targets.

    Returns:
        R_t, the discounted sum of up to n rewards [B, L, V]; d_t, gamma^k_t, or 0 where a termination is among these
        steps [B, L, V]; k_t, the steps to the observation that the sum ends at [B, L] int64.
    """

    def ahead(x: Tensor, padding: float) -> Tensor:
        """[B, L, V, n]: x at each of the n steps from each step on."""
        short = max(steps + n - 1 - x.shape[1], 0)
        beyond = x.new_full((len(x), short, *x.shape[2:]), padding)
        return torch.cat([x, beyond], dim=1)[:, : steps + n - 1].unfold(1, n, 1)

    last = ended.clone()
    last[:, -1] = True
    stop = ahead(last | ~filled.unsqueeze(-1), True).to(reward.dtype)
    going = torch.cat([torch.ones_like(stop[..., :1]), (1.0 - stop[..., :-1]).cumprod(-1)], dim=-1)  # [B, L, V, n]
    powers = gamma ** torch.arange(n, dtype=reward.dtype, device=reward.device)
    total = (ahead(torch.where(filled.unsqueeze(-1), reward, 0.0), 0.0) * going * powers).sum(-1)
    over = (ahead(terminated, False).to(reward.dtype) * going).sum(-1) > 0
    # what one agent ends does not move the observation that the others' sums end at
    taken = going.sum(-1)
    return total, torch.where(over, 0.0, gamma**taken), taken.amax(-1).long()


def explained_variance(value: Tensor, target: Tensor, mask: Tensor) -> float:
    """1 - Var(target - value) / Var(target) over ``mask``; 0.0 where the target does not vary."""
    y, v = target[mask], value[mask]
    variance = y.var(unbiased=False)
    if y.numel() < 2 or variance <= 1e-12:
        return 0.0
    if torch.isinf(variance) and bool(torch.isfinite(scale := y.abs().max())):  # squares beyond float32
        return explained_variance(value / scale, target / scale, mask)
    return float(1.0 - (y - v).var(unbiased=False) / variance)


#: a standard deviation below so much of the mean is one of rounding errors
_ROUNDING = 1e-6


def standardise(x: Tensor, mask: Tensor, eps: float = 1e-8) -> Tensor:
    """Return x with mean 0 and standard deviation 1 over ``mask`` (0 outside it, and where x is constant there)."""
    taken = x[mask]
    if taken.numel() < 2:
        return torch.where(mask, x, 0.0)
    mean, std = taken.mean(), taken.std(unbiased=False)
    # the mean of equal numbers is off by a rounding, which must not become 1
    spread = std > _ROUNDING * mean.abs()
    return torch.where(mask & spread, (x - mean) / (std + eps), 0.0)
