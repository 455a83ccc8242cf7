"""Action selectors on a torch device: the rules of :mod:`.action_selectors` as tensors, without a look at a number."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..utils.errors import UserError
from .action_selectors import EpsilonGreedy, Multinomial, NoisyLogits
from .continuous_selectors import LOG_STD, Gaussian, NoisyActions
from .kernels.numpy_policy import ILLEGAL
from .selector_contract import Context, Selector

#: (outputs [B, N, P], avail [B, N, A], noise [B, N, W] or None, context) -> actions, log-probabilities [B, N]
Select = Callable[[Tensor, Tensor, Tensor | None, Context], tuple[Tensor, Tensor]]


@runtime_checkable
class WithTable(Protocol):
    """A rule that has numbers of its own on the device."""

    def prepare(self, context: Context, width: int, device: torch.device) -> None:
        """Copy them there, for a batch in which ``width`` actions are chosen from."""


def multinomial(outputs: Tensor, avail: Tensor, noise: Tensor | None, context: Context) -> tuple[Tensor, Tensor]:
    """Draw from the softmax over the legal actions by the Gumbel-max rule; greedy without noise."""
    legal = torch.where(avail, outputs, float(ILLEGAL))
    score = legal if noise is None else legal + noise
    actions = torch.where(avail, score, -math.inf).argmax(-1)
    log_prob = F.log_softmax(legal, -1).gather(-1, actions.unsqueeze(-1)).squeeze(-1)
    return actions, log_prob


class _EpsilonGreedy:
    """:class:`~.action_selectors.EpsilonGreedy`; epsilon is a number of the batch, its table is made once for it."""

    def __init__(self, selector: EpsilonGreedy) -> None:
        self._selector = selector
        self._known: tuple[Any, ...] = ()
        self._table = torch.zeros(0)

    def prepare(self, context: Context, width: int, device: torch.device) -> None:
        """Copy the table to the device, which a CUDA graph of the call cannot do."""
        epsilon = self._selector.epsilon(context)
        if self._known != (epsilon, width, device):
            self._known = epsilon, width, device
            self._table = torch.from_numpy(self._selector.log_probabilities(epsilon, width)).to(device)

    def __call__(self, outputs: Tensor, avail: Tensor, noise: Tensor | None, context: Context) -> tuple[Tensor, Tensor]:
        epsilon, width = self._selector.epsilon(context), avail.shape[-1]
        self.prepare(context, width, outputs.device)
        actions = best = torch.where(avail, outputs, -math.inf).argmax(-1)
        if noise is not None and epsilon > 0:
            drawn = torch.where(avail, noise[..., :-1], -1.0).argmax(-1)
            actions = torch.where(noise[..., -1] < epsilon, drawn, best)
        log_prob = self._table[(actions == best).long(), avail.sum(-1)]
        return actions, torch.where(outputs.isfinite().all(-1), log_prob, math.nan)


class _Gaussian:
    """:class:`~.continuous_selectors.Gaussian`."""

    def __init__(self, selector: Gaussian) -> None:
        self._config = selector.config

    def _log_std(self, numbers: Tensor) -> Tensor:
        c = self._config
        if c.action_std_form == "sigmoid":
            numbers = math.log(c.std_y_coef) + F.logsigmoid(numbers / c.std_x_coef)
        return numbers.clamp(*LOG_STD)

    def __call__(self, outputs: Tensor, avail: Tensor, noise: Tensor | None, context: Context) -> tuple[Tensor, Tensor]:
        mean, log_std = outputs.chunk(2, -1)
        log_std = self._log_std(log_std)
        z = torch.zeros_like(mean) if noise is None else noise
        actions = mean + log_std.exp() * z
        terms = -0.5 * z * z - log_std - 0.5 * math.log(2 * math.pi) + 0.0 * mean  # NaN where the mean is
        actions = torch.where(avail & actions.isfinite(), actions, 0.0)
        return actions, torch.where(avail, terms, 0.0).sum(-1)


class _NoisyLogits:
    """:class:`~.action_selectors.NoisyLogits`."""

    def __init__(self, selector: NoisyLogits) -> None:
        self._config = selector.config

    def __call__(self, outputs: Tensor, avail: Tensor, noise: Tensor | None, context: Context) -> tuple[Tensor, Tensor]:
        warm = not context.test and context.t_env < self._config.warmup_steps
        return multinomial(torch.zeros_like(outputs) if warm else outputs, avail, noise, context)


class _NoisyActions:
    """:class:`~.continuous_selectors.NoisyActions`."""

    def __init__(self, selector: NoisyActions, device: torch.device) -> None:
        self._config = selector.config
        self._centre, self._half = (torch.from_numpy(x).to(device) for x in (selector.centre, selector.half))

    def __call__(self, outputs: Tensor, avail: Tensor, noise: Tensor | None, context: Context) -> tuple[Tensor, Tensor]:
        c, unit = self._config, outputs.tanh()
        if noise is not None and not context.test:
            u, v = noise.chunk(2, -1)
            if context.t_env < c.warmup_steps:
                unit = 2.0 * u - 1.0 + 0.0 * unit
            else:
                z = (-2.0 * torch.log1p(-u)).sqrt() * (2.0 * math.pi * v).cos()
                unit = (unit + c.act_noise * z).clamp(-1.0, 1.0)
        actions = torch.where(avail, self._centre + self._half * unit, 0.0)
        broken = ~actions.isfinite()
        log_prob = torch.where(broken.any(-1), math.nan, 0.0)
        return torch.where(broken, 0.0, actions), log_prob


def device_selector(selector: Selector, name: str | None, device: torch.device) -> Select:
    """Return the rule of a selector as a function of tensors on ``device``.

    Args:
        selector: a shipped one.
        name: the value of ``action_selector``, for the message.

    Raises:
        UserError: a selector of the user's own, which is written in numpy.
    """
    if type(selector) is Multinomial:
        return multinomial
    if type(selector) is NoisyActions:
        return _NoisyActions(selector, device)
    for kind, on_device in ((EpsilonGreedy, _EpsilonGreedy), (Gaussian, _Gaussian), (NoisyLogits, _NoisyLogits)):
        if type(selector) is kind:
            made: Select = on_device(selector)  # type: ignore[arg-type]
            return made
    raise UserError(
        f"backend=device cannot choose actions by action_selector={name}, which is written in numpy: use a shipped "
        "selector, or backend=native."
    )
