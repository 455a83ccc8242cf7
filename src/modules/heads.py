"""Heads: what a policy network puts out for an action space, and the distribution made of it.

| actions | outputs | distribution |
|---|---|---|
| Discrete(A) | A logits | categorical over the legal actions |
| Box [D], ``action_std: free`` | D means; D numbers for standard deviations are free | diagonal Gaussian |
| Box [D], ``action_std: state`` | D means and D numbers for standard deviations | diagonal Gaussian |
| Box [D], deterministic policies | D numbers, whose tanh is the action between its bounds | none |

``action_std_form`` says how a number stands for a standard deviation: by its logarithm, or HARL's bounded form.
Free numbers do not depend on the state: they are the last columns of a network's row of parameters, so that a
trust-region step sees one flat vector, and follow the network's own outputs in what it returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from ..components.distributions import DiagonalGaussian, MaskedCategorical, StdForm
from ..components.experience import EnvInfo
from ..utils.schema.keys import key
from .continuous_selectors import StdConfig

Policy: TypeAlias = MaskedCategorical | DiagonalGaussian


@dataclass(frozen=True)
class HeadConfig(StdConfig):
    """Configuration of policies over continuous actions."""

    action_std: str = key(
        "Standard deviation of continuous actions: free (numbers of each network) or from the state (an output).",
        choices=("free", "state"), actions="continuous",
    )  # fmt: skip
    log_std_init: float = key(
        "Logarithm of the standard deviation that continuous policies begin with (action_std=free, "
        "action_std_form=exp; the sigmoid form begins with std_y_coef * sigmoid(1), as HARL's does).",
        low=-10, high=2, actions="continuous", only={"action_std": ("free",), "action_std_form": ("exp",)},
    )  # fmt: skip

    @property
    def std_form(self) -> StdForm | None:
        """How the networks' numbers stand for standard deviations; None: by their logarithms."""
        return StdForm(self.std_x_coef, self.std_y_coef) if self.action_std_form == "sigmoid" else None


@dataclass(frozen=True)
class Head:
    """The outputs of a policy network: ``outputs`` numbers that it computes, and ``free`` ones, ``start`` at first."""

    outputs: int
    free: int = 0
    start: float = 0.0


def head(info: EnvInfo, config: HeadConfig, deterministic: bool = False) -> Head:
    """Return the outputs of a policy network for an environment's actions; ``deterministic``: without deviations."""
    if not info.continuous or deterministic:
        return Head(info.n_actions)
    if config.action_std == "state":
        return Head(2 * info.n_actions)
    return Head(info.n_actions, info.n_actions, config.std_x_coef if config.std_form else config.log_std_init)


def distribution(info: EnvInfo, outputs: Tensor, avail: Tensor, form: StdForm | None = None) -> Policy:
    """Return the distribution that a network's ``outputs`` [..., P] stand for, where ``avail`` [..., A] is legal."""
    return DiagonalGaussian(outputs, avail, form) if info.continuous else MaskedCategorical(outputs, avail)


def distribution_from(info: EnvInfo, params: Tensor, avail: Tensor) -> Policy:
    """Return the distribution that had ``params`` [..., P]; see :class:`~oamarl.components.distributions`."""
    kind = DiagonalGaussian if info.continuous else MaskedCategorical
    return kind.from_params(params, avail)
