"""Samples of categorical distributions that have a gradient: straight-through estimators.

An estimator gives a one-hot sample, whose gradient is that of a surrogate s: in the derivative of f(sample) with
respect to the logits, ds stands for d sample.

| `gumbel` | sample | surrogate s |
|---|---|---|
| st | one-hot of argmax(logits + G) | softmax((logits + G) / tau) (Jang et al. 2017; Maddison et al. 2017) |
| gst | the same | softmax((logits + m1 - m2) / tau) (Fan et al. 2022, section 4) |

G is Gumbel noise. In the gapped estimator, with the sampled action a and logits l,

    m1 = max(l) - l_a at a, 0 elsewhere;  m2 = max(l_k + gap - max(l), 0) at k other than a, 0 at a

so that the sampled action has the largest number, and others lie the gap below it: the surrogate is near the sample,
and given the sample there is no noise in it, which lowers the variance of the gradient.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .distributions import ILLEGAL


def _sample(logits: Tensor, avail: Tensor) -> Tensor:
    """One-hot rows of the largest legal ``logits`` [..., A]; zeros where nothing is legal."""
    best = logits.masked_fill(~avail, -torch.inf).argmax(-1)
    return F.one_hot(best, logits.shape[-1]).to(logits.dtype) * avail


def _with_gradient_of(sample: Tensor, surrogate: Tensor) -> Tensor:
    """``sample`` itself, to the bit, with the gradient of ``surrogate``."""
    return sample + (surrogate - surrogate.detach())


def greedy_one_hot(logits: Tensor, avail: Tensor) -> Tensor:
    """One-hot rows of the best legal actions [..., A]; zeros where nothing is legal. There is no gradient."""
    return _sample(logits.detach(), avail)


def straight_through(logits: Tensor, avail: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """Straight-through Gumbel-softmax samples.

    Args:
        logits: [..., A].
        avail: [..., A] bool, the legal actions: others are never sampled, and have no gradient.
        noise: [..., A] Gumbel noise.
        temperature: tau, above 0.

    Returns:
        [..., A] one-hot rows; zeros where nothing is legal.
    """
    noisy = logits.masked_fill(~avail, ILLEGAL) + noise
    soft = F.softmax(noisy / temperature, dim=-1) * avail
    return _with_gradient_of(_sample(noisy.detach(), avail), soft)


def gapped_straight_through(logits: Tensor, avail: Tensor, noise: Tensor, temperature: float, gap: float) -> Tensor:
    """Gapped straight-through samples; arguments and result as of :func:`straight_through`.

    Args:
        gap: how far the other actions are kept below the sampled one.
    """
    legal = logits.masked_fill(~avail, ILLEGAL)
    fixed = legal.detach()
    sample = _sample(fixed + noise, avail)
    top = fixed.amax(-1, keepdim=True)
    raised = (top - fixed) * sample
    lowered = (fixed + gap - top).clamp(min=0.0) * (1.0 - sample)
    soft = F.softmax((legal + raised - lowered) / temperature, dim=-1) * avail
    return _with_gradient_of(sample, soft)
