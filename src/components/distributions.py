"""The policies' distributions: a categorical over legal actions (Discrete), a diagonal Gaussian (Box)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

#: What an illegal action's logit becomes. Finite, so that 0 * logit stays 0 in entropies and gradients.
ILLEGAL = -1e10

#: so many actions are not worth turning the matrix for
FEW = 32
#: Standard deviations are kept within exp(-10) and exp(2): beyond them ratios and divergences lose their digits.
LOG_STD = (-10.0, 2.0)
_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)

D = TypeVar("D", bound="Distribution")


class Distribution(Protocol):
    """The distribution of an agent's action, at each of [...] steps; learners need nothing else of a policy.

    Actions are [...] int64 (Discrete) or [..., D] float (Box).
    """

    @property
    def params(self) -> Tensor:
        """[..., P] what the distribution is made of: with the legal actions it makes the same one again."""

    @classmethod
    def from_params(cls: type[D], params: Tensor, avail: Tensor) -> D:
        """The distribution that had ``params`` [..., P] where ``avail`` [..., A] was legal."""

    def __getitem__(self: D, index: Any) -> D:
        """The distributions at ``index`` of the leading dimensions."""

    def log_prob(self, actions: Tensor) -> Tensor:
        """[...] log-probability (or log-density) of ``actions``."""

    def entropy(self) -> Tensor:
        """[...] entropy in nats (differential for Box)."""

    def kl(self, other: Any) -> Tensor:
        """[...] exact KL(self || other) in nats, under the same ``avail``."""

    def total_variation(self, other: Any) -> Tensor:
        """[...] total variation of self and other, in [0, 1], or a bound of it, under the same ``avail``."""

    def chi_square(self, other: Any) -> Tensor:
        """[...] chi-square(self || other), E_other[ (self / other)^2 ] - 1, under the same ``avail``."""

    def score(self, actions: Tensor) -> Tensor:
        """[..., P] gradient of the log-probability of ``actions`` with respect to what the network puts out."""

    def sample(self, noise: Tensor) -> Tensor:
        """Actions drawn with ``noise`` [..., A or D]: Gumbel (Discrete) or standard normal (Box)."""

    def mode(self) -> Tensor:
        """The most probable actions."""


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

    def kl(self, other: Any) -> Tensor:
        """[...] exact KL(self || other) in nats, under the same mask."""
        return kl_categorical(self.log_probs, other.log_probs)

    def total_variation(self, other: Any) -> Tensor:
        """[...] exact total variation 1/2 sum_a |p_a - q_a|, under the same mask."""
        return 0.5 * (self.log_probs.exp() - other.log_probs.exp()).abs().sum(-1)

    def chi_square(self, other: Any) -> Tensor:
        """[...] exact chi-square(self || other), sum_a p_a^2 / q_a - 1, under the same mask; see
        :func:`chi_square_categorical`."""
        return chi_square_categorical(self.log_probs, other.log_probs)

    def score(self, actions: Tensor) -> Tensor:
        """[..., A] gradient of log_prob with respect to the logits: one-hot(actions) - p, 0 for illegal actions."""
        found, taken = -self.log_probs.exp(), actions.unsqueeze(-1)
        return found.scatter_add(-1, taken, torch.ones_like(taken, dtype=found.dtype)).masked_fill(self._illegal, 0.0)

    def sample(self, noise: Tensor) -> Tensor:
        """[...] int64 actions drawn with Gumbel ``noise`` [..., A] (:func:`gumbel`) by the Gumbel-max rule.

        They are legal even where logits are NaN: who looks for such numbers shall find them, not a failed game.
        """
        return (self.log_probs + noise).masked_fill(self._illegal, -torch.inf).argmax(-1)

    def mode(self) -> Tensor:
        """[...] int64 greedy (argmax) actions (the first of equals)."""
        return self.log_probs.masked_fill(self._illegal, -torch.inf).argmax(-1)


@dataclass(frozen=True)
class StdForm:
    """What standard deviation a network's number l stands for: bound * sigmoid(l / scale) (HARL's), in the place of
    exp(l). Such a deviation never grows above ``bound``."""

    scale: float
    bound: float

    def log_std(self, numbers: Tensor) -> Tensor:
        """Logarithms of the standard deviations, of the shape of ``numbers``."""
        return F.logsigmoid(numbers / self.scale) + math.log(self.bound)

    def slope(self, numbers: Tensor) -> Tensor:
        """Derivatives of :meth:`log_std`: (1 - sigmoid(l / scale)) / scale."""
        return torch.sigmoid(-numbers / self.scale) / self.scale


class DiagonalGaussian:
    """Gaussian over the dimensions that an agent has, each with a standard deviation of its own.

    Dimensions that an agent lacks (ragged agents, padding) are 0 and add nothing to log_prob, entropy and KL.

    Args:
        outputs: [..., 2 D] means, then what stands for standard deviations.
        avail: [..., D] bool, the dimensions that the agent has.
        form: how it stands for them; None: by their logarithms. They are kept within :data:`LOG_STD`.
    """

    def __init__(self, outputs: Tensor, avail: Tensor, form: StdForm | None = None) -> None:
        mean, log_std = outputs.chunk(2, dim=-1)
        self._own = avail
        # the slope is needed by `score` alone: a loss must not pay for it at each of its evaluations
        self._form, self._numbers = form, log_std
        log_std = log_std if form is None else form.log_std(log_std)
        self.mean = mean.masked_fill(~avail, 0.0)
        self.log_std = log_std.clamp(*LOG_STD).masked_fill(~avail, 0.0)

    @classmethod
    def from_params(cls, params: Tensor, avail: Tensor) -> DiagonalGaussian:
        """The distribution that had ``params``; see :attr:`params`."""
        made = cls.__new__(cls)
        made._own, made._form = avail, None
        made.mean, made.log_std = params.chunk(2, dim=-1)
        return made

    @property
    def params(self) -> Tensor:
        """[..., 2 D] means and logarithms of standard deviations, 0 in the dimensions that an agent lacks."""
        return torch.cat([self.mean, self.log_std], dim=-1)

    def __getitem__(self, index: Any) -> DiagonalGaussian:
        """The distributions at ``index`` of the leading dimensions."""
        return self.from_params(self.params[index], self._own.expand_as(self.mean)[index])

    def _sum(self, terms: Tensor) -> Tensor:
        """[...] sum of ``terms`` [..., D] over the dimensions that the agent has."""
        return torch.where(self._own, terms, 0.0).sum(-1)

    def log_prob(self, actions: Tensor) -> Tensor:
        """[...] log-density of ``actions`` [..., D]: sum_d ( -z_d^2 / 2 - log std_d - log(2 pi) / 2 )."""
        z = (actions - self.mean) * (-self.log_std).exp()
        return self._sum(-0.5 * z.square() - self.log_std - _HALF_LOG_2PI)

    def entropy(self) -> Tensor:
        """[...] differential entropy in nats: sum_d ( log std_d + (1 + log(2 pi)) / 2 )."""
        return self._sum(self.log_std + (0.5 + _HALF_LOG_2PI))

    def kl(self, other: Any) -> Tensor:
        """[...] exact KL(self || other): sum_d ( log(s'/s) + (s^2 + (m - m')^2) / (2 s'^2) - 1/2 )."""
        shift = ((self.mean - other.mean) * (-other.log_std).exp()).square()
        apart = self.log_std - other.log_std
        return self._sum(0.5 * ((2.0 * apart).exp() + shift - 1.0) - apart)

    def total_variation(self, other: Any) -> Tensor:
        """[...] Pinsker's bound of the total variation, sqrt( KL(self || other) / 2 ), at most 1: the total variation
        of Gaussians has no closed form."""
        return (0.5 * self.kl(other).clamp(min=0.0)).sqrt().clamp(max=1.0)

    def chi_square(self, other: Any) -> Tensor:
        """[...] exact chi-square(self || other), E_other[ (self / other)^2 ] - 1: with standard deviations s and s',
        means m and m', and v = 2 - s^2 / s'^2,

            prod_d  s'/s  v^(-1/2)  exp( (m - m')^2 / (s'^2 v) )  - 1

        It diverges where s^2 >= 2 s'^2 in some dimension. There the result is exp( KL(self || other) ) - 1, a LOWER
        bound of every chi-square (Jensen's inequality): finite, and large where the policies are far apart.
        """
        apart = self.log_std - other.log_std
        v = 2.0 - (2.0 * apart).exp()
        shift = ((self.mean - other.mean) * (-other.log_std).exp()).square()
        room = torch.where(v > 0, v, 1.0)
        exact = self._sum(shift / room - 0.5 * room.log() - apart)
        diverges = (self._own & (v <= 0)).any(-1)
        return torch.expm1(torch.where(diverges, self.kl(other), exact))

    def score(self, actions: Tensor) -> Tensor:
        """[..., 2 D] gradient of log_prob with respect to what the network puts out (not counting the limits of
        :data:`LOG_STD`), with u = (a - mean) / std: u / std, then (u^2 - 1) times the slope of the form; 0 in the
        dimensions that an agent lacks."""
        u = (actions - self.mean) * (-self.log_std).exp()
        own, spread = self._own, u.square() - 1.0
        parts = (u * (-self.log_std).exp(), spread if self._form is None else spread * self._form.slope(self._numbers))
        return torch.cat([x.masked_fill(~own, 0.0) for x in parts], dim=-1)

    def sample(self, noise: Tensor) -> Tensor:
        """[..., D] actions drawn with standard normal ``noise`` [..., D].

        They are finite even where means are NaN, as the categorical's are legal: log_prob shows such numbers.
        """
        return torch.where(self._own, self.mean + self.log_std.exp() * noise, 0.0).nan_to_num(0.0, 0.0, 0.0)

    def mode(self) -> Tensor:
        """[..., D] the means."""
        return self.mean.nan_to_num(0.0, 0.0, 0.0)


def entropy_categorical(log_p: Tensor) -> Tensor:
    """[...] entropy in nats from log-probabilities [..., A]; an action with p = 0 adds nothing."""
    return -(log_p.exp() * log_p).sum(-1)


def kl_categorical(log_p: Tensor, log_q: Tensor) -> Tensor:
    """[...] exact KL(p || q) from log-probabilities [..., A]; an action with p = 0 adds nothing."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def chi_square_categorical(log_p: Tensor, log_q: Tensor) -> Tensor:
    """[...] exact chi-square(p || q) = sum_a p_a^2 / q_a - 1 from log-probabilities [..., A]; an action with p = 0 adds
    nothing.

    Summed as q_a (p_a / q_a - 1)^2: equal policies have exactly 0, and near ones keep their digits.
    """
    apart, q = log_p - log_q, log_q.exp()
    # where the ratio is large, p^2 / q from its logarithm: 0 times infinity must not arise where q underflows
    far = (log_p + apart).exp() - 2.0 * log_p.exp() + q
    return torch.where(apart > 1.0, far, q * torch.expm1(apart.clamp(max=1.0)).square()).sum(-1)
