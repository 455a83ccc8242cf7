"""ROMA's two losses on roles: that behaviour tells them, and that agents' roles differ where they should.

ROMA (Wang et al. 2020), eq. 4-9, in the form of its authors' program. p_i = p(rho | o_i) and q_i are Gaussians of D
independent numbers, H entropy; sums over pairs are over the agents that take decisions at the step.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

#: nearly the logarithm of 1e-6, which is added to log-densities and is their least value
_OFFSET = 13.9
#: the largest weighted sum of entropy and divergence that the first loss sees
_LARGEST = 2000.0


def entropy(var: Tensor) -> Tensor:
    """Entropy [...] of Gaussians with variances ``var`` [..., D]: sum_d log(2 pi e var_d) / 2."""
    return 0.5 * (math.log(2.0 * math.pi * math.e) + var.log()).sum(-1)


def divergence(mean: Tensor, var: Tensor, other_mean: Tensor, other_var: Tensor) -> Tensor:
    """KL [...] of Gaussians of means and variances [..., D] to others."""
    terms = var / other_var + (other_mean - mean).square() / other_var - 1.0 + (other_var / var).log()
    return 0.5 * terms.sum(-1)


def identifiability(
    p: tuple[Tensor, Tensor], q: tuple[Tensor, Tensor], valid: Tensor, entropy_coef: float, kl_coef: float
) -> Tensor:
    """L_I = log(1 + exp(min(2000, mean_i( a H(p_i) + b KL(p_i || q_i) )))) (eq. 6).

    Args:
        p, q: means and variances [..., N, D].
        valid: [..., N] bool, the agents that the mean is over.
        entropy_coef, kl_coef: a and b.

    Returns:
        [...].
    """
    found = entropy_coef * entropy(p[1]) + kl_coef * divergence(*p, *q)
    return F.softplus(masked_mean(found, valid).clamp(max=_LARGEST))


def log_densities(mean: Tensor, var: Tensor, roles: Tensor) -> Tensor:
    """mean_d max(log p_i(rho_j)_d + 13.9, -13.9), i before j: [..., N, N].

    Args:
        mean, var: of p, [..., N, D].
        roles: rho [..., N, D].
    """
    mean, var, roles = mean.unsqueeze(-2), var.unsqueeze(-2), roles.unsqueeze(-3)
    log_p = -0.5 * ((roles - mean).square() / var + var.log() + math.log(2.0 * math.pi))
    return (log_p + _OFFSET).clamp(min=-_OFFSET).mean(-1)


def specialisation(information: Tensor, unlike: Tensor, valid: Tensor, soft_coef: float) -> Tensor:
    """L_D = mean_i( sum_j d_ij - c sum_j min(m_ij + d_ij, 1) ) / N (eq. 7-9).

    m and d are ``information`` and ``unlike``, each put between 0 and 1 over agent i's pairs.

    Args:
        information: [..., N, N], see :func:`log_densities`.
        unlike: [..., N, N], 0 or more: how unlike the roles of two agents are.
        valid: [..., N] bool.
        soft_coef: c.

    Returns:
        [...].
    """
    pairs = valid.unsqueeze(-1) & valid.unsqueeze(-2)
    m, d = _scaled(information, pairs), _scaled(unlike, pairs)
    gained = torch.where(pairs, (m + d).clamp(max=1.0), 0.0).sum(-1)
    return masked_mean(d.sum(-1) - soft_coef * gained, valid) / valid.shape[-1]


def masked_mean(x: Tensor, valid: Tensor) -> Tensor:
    """Mean [...] of ``x`` [..., N] where ``valid``; 0 where nothing is."""
    return torch.where(valid, x, 0.0).sum(-1) / valid.sum(-1).clamp(min=1)


def _scaled(x: Tensor, there: Tensor) -> Tensor:
    """``x`` [..., N] minus its least value over its range where ``there``, 0 elsewhere."""
    low = torch.where(there, x, torch.inf).amin(-1, keepdim=True)
    high = torch.where(there, x, -torch.inf).amax(-1, keepdim=True)
    some = there.any(-1, keepdim=True)
    low, high = torch.where(some, low, 0.0), torch.where(some, high, 0.0)
    return torch.where(there, (x - low) / (high - low + 1e-12), 0.0)
