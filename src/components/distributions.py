"""The policy distribution: a categorical over legal actions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

#: What an illegal action's logit becomes. Finite, so that 0 * logit stays 0 in entropies and gradients.
ILLEGAL = -1e10

#: so many actions are not worth turning the matrix for
FEW = 32


def gumbel(uniform: Tensor) -> Tensor:
    """Standard Gumbel noise from ``uniform`` noise in [0, 1), of the same shape."""
    return -torch.log(-torch.log(uniform.clamp(1e-20, 1.0 - 1e-7)))


def _log_softmax(logits: Tensor) -> Tensor:
    """[..., A] log-probabilities; on the CPU torch takes a few actions several times as quickly down columns."""
    if logits.device.type != "cpu" or logits.shape[-1] >= FEW or logits.dim() < 2:
        return F.log_softmax(logits, dim=-1)
    return F.log_softmax(logits.flatten(0, -2).t(), dim=0).t().view(logits.shape)


class MaskedCategorical:
    """Categorical distribution over the actions that are legal.

    Args:
        logits: [..., A] unnormalised log-probabilities.
        avail: [..., A] bool; a row without any legal action (padding) is uniform.
    """

    def __init__(self, logits: Tensor, avail: Tensor) -> None:
        self._illegal = ~avail
        self.log_probs = _log_softmax(logits.masked_fill(self._illegal, ILLEGAL))

    @classmethod
    def from_params(cls, params: Tensor, avail: Tensor) -> MaskedCategorical:
        """The distribution that had ``params``; see :attr:`params`."""
        made = cls.__new__(cls)
        made._illegal, made.log_probs = ~avail, params
        return made

    @property
    def params(self) -> Tensor:
        """[..., A] what the distribution is made of: its log-probabilities."""
        return self.log_probs

    def __getitem__(self, index: Any) -> MaskedCategorical:
        """The distributions at ``index`` of the leading dimensions."""
        illegal = self._illegal.expand_as(self.log_probs)  # one mask may serve several policies
        return self.from_params(self.log_probs[index], ~illegal[index])

    def log_prob(self, actions: Tensor) -> Tensor:
        """[...] log-probability of ``actions`` [...] int64."""
        return self.log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """[...] entropy in nats; illegal actions add nothing."""
        return entropy_categorical(self.log_probs)

    def kl(self, other: MaskedCategorical) -> Tensor:
        """[...] exact KL(self || other) in nats, under the same mask."""
        return kl_categorical(self.log_probs, other.log_probs)

    def sample(self, noise: Tensor) -> Tensor:
        """[...] int64 actions drawn with Gumbel ``noise`` [..., A] (:func:`gumbel`) by the Gumbel-max rule.

        They are legal even where logits are NaN: who looks for such numbers shall find them, not a failed game.
        """
        return (self.log_probs + noise).masked_fill(self._illegal, -torch.inf).argmax(-1)

    def mode(self) -> Tensor:
        """[...] int64 greedy (argmax) actions (the first of equals)."""
        return self.log_probs.masked_fill(self._illegal, -torch.inf).argmax(-1)


def entropy_categorical(log_p: Tensor) -> Tensor:
    """[...] entropy in nats from log-probabilities [..., A]; an action with p = 0 adds nothing."""
    return -(log_p.exp() * log_p).sum(-1)


def kl_categorical(log_p: Tensor, log_q: Tensor) -> Tensor:
    """[...] exact KL(p || q) from log-probabilities [..., A]; an action with p = 0 adds nothing."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)
