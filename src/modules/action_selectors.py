"""Action selectors: how actions are chosen from a network's outputs (EPyMARL's key ``action_selector``).

| name | outputs | actions |
|---|---|---|
| multinomial | [..., A] logits | drawn from the softmax over the legal actions (EPyMARL's soft_policies) |
| epsilon_greedy | [..., A] values or logits | the best legal one or, with probability epsilon, any legal one |
| gaussian | [..., 2 D] mean and log std | drawn from a diagonal Gaussian |
| noisy | [..., A] logits | the best legal one of logits and Gumbel noise: drawn from their softmax |
| noisy | [..., D] numbers, whose tanh is an action between the bounds | that action and Gaussian noise |

They run in numpy, in environment workers too: nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar

import numpy as np

from ..components.experience import EnvInfo
from ..components.schedules import scheduled
from ..utils import moved
from ..utils.errors import UserError
from ..utils.schema.keys import key, read
from ..utils.schema.registry import resolve
from .continuous_selectors import NoisyActions, NoisyConfig
from .kernels.numpy_policy import choose
from .selector_checks import check_fields, checked_selector
from .selector_contract import DRAW, Context, Noise, Selector, SelectorBase

#: `action_selector:` key -> "module:class", the module relative to this package
REGISTRY = {
    "multinomial": ".action_selectors:Multinomial",
    "epsilon_greedy": ".action_selectors:EpsilonGreedy",
    "gaussian": ".continuous_selectors:Gaussian",
    "noisy": ".action_selectors:NoisyLogits",
}
_NEVER, _BELOW = np.float32(-np.inf), np.float32(-1.0)  # an illegal action's value, and its uniform noise


class Multinomial(SelectorBase):
    """Actions drawn from the policy, by the Gumbel-max rule."""

    reads_steps: ClassVar[bool] = False

    def select(
        self, outputs: np.ndarray, avail: np.ndarray, noise: np.ndarray | None, context: Context
    ) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`~.selector_contract.Selector`."""
        return choose(outputs, avail, noise)


@dataclass(frozen=True)
class EpsilonConfig:
    """Configuration of epsilon-greedy exploration."""

    epsilon_start: float = key("Epsilon-greedy: share of random actions at the beginning.", low=0, high=1)
    epsilon_finish: float = key("Epsilon-greedy: share of random actions from epsilon_anneal_time on.", low=0, high=1)
    epsilon_anneal_time: int = key("Environment steps over which epsilon goes linearly to epsilon_finish.", low=1)
    evaluation_epsilon: float = key("Share of random actions in sampled tests and evaluations.", low=0, high=1)


class EpsilonGreedy(SelectorBase):
    """The best legal action or, with probability epsilon, one of all legal actions at random.

    Its log-probability is the behaviour's: log(epsilon / L + (1 - epsilon) [a is the best]) with L legal actions.
    """

    Config = EpsilonConfig
    noise: ClassVar[Noise] = "uniform"

    def __init__(self, config: EpsilonConfig) -> None:
        self.config = config
        self._known, self._log_prob = (-1.0, 0), np.zeros((0, 0), np.float32)  # what the table was made for

    @property
    def greedy_in_tests(self) -> bool:
        """Whether sampled tests have no random action."""
        return self.config.evaluation_epsilon == 0

    def width(self, n_actions: int) -> int:
        """One number for each action, and one for whether to explore."""
        return n_actions + 1

    def epsilon(self, context: Context) -> float:
        """Return the share of random actions."""
        if context.greedy:
            return 0.0
        c = self.config
        if context.test:
            return c.evaluation_epsilon
        return scheduled("linear", c.epsilon_start, c.epsilon_finish, context.t_env, c.epsilon_anneal_time)

    def select(
        self, outputs: np.ndarray, avail: np.ndarray, noise: np.ndarray | None, context: Context
    ) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`~.selector_contract.Selector`."""
        # a row of NaN has its first NaN for a maximum, which is legal where any is; without any the action is 0
        best = np.where(avail, outputs, _NEVER).argmax(-1)
        epsilon, actions, width = self.epsilon(context), best, avail.shape[-1]
        if noise is not None and epsilon > 0:
            drawn = np.where(avail, noise[..., :-1], _BELOW).argmax(-1)
            actions = np.where(noise[..., -1] < epsilon, drawn, best)
        if self._known != (epsilon, width):
            self._known, self._log_prob = (epsilon, width), self.log_probabilities(epsilon, width)
        log_prob = self._log_prob[(actions == best).view(np.int8), np.add.reduce(avail, axis=-1, dtype=np.int64)]
        if isfinite(np.add.reduce(outputs, axis=None)):
            return actions, log_prob
        broken = ~np.isfinite(outputs).all(-1)  # is found in log_prob, as with the other selectors
        return actions, np.where(broken, np.float32(np.nan), log_prob)

    @staticmethod
    def log_probabilities(epsilon: float, n_actions: int) -> np.ndarray:
        """Log-probabilities of other actions than the best and of the best, by the number of legal ones: [2, A+1]."""
        legal = np.maximum(np.arange(n_actions + 1), 1)
        probability = epsilon / legal + (1.0 - epsilon) * np.array([[False], [True]])
        with np.errstate(divide="ignore"):
            return np.log(probability).astype(np.float32)


class NoisyLogits(Multinomial):
    """Actions drawn from the policy; in the first `warmup_steps` steps of training any legal action."""

    Config = NoisyConfig

    def __init__(self, config: NoisyConfig) -> None:
        self.config = config

    def select(
        self, outputs: np.ndarray, avail: np.ndarray, noise: np.ndarray | None, context: Context
    ) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`~.selector_contract.Selector`."""
        warm = not context.test and context.t_env < self.config.warmup_steps
        return super().select(np.zeros_like(outputs) if warm else outputs, avail, noise, context)


def selector_class(name: str | None, continuous: bool) -> Any:
    """Return the class that the key ``action_selector`` names; null: multinomial or gaussian, by the action space.

    Raises:
        UserError: an unknown name.
    """
    default = "gaussian" if continuous else "multinomial"
    found = resolve(__package__, REGISTRY, default if name is None else name, "action_selector")
    return NoisyActions if continuous and found is NoisyLogits else found


def make_selector(values: Mapping[str, Any], info: EnvInfo) -> Selector:
    """Return the selector of a configuration.

    Raises:
        UserError: an unknown name, one for other actions than the environment's, or a class that does not keep the
            contract of selectors.
    """
    name = values["action_selector"]
    cls = selector_class(name, info.continuous)
    missing = [m for m in ("width", "noise", "select", "record", "fields", "continuous") if not hasattr(cls, m)]
    if missing:
        raise UserError(f"action_selector={name} has no {' or '.join(missing)}: every action selector needs it.")
    if cls.continuous != info.continuous:
        kinds = ("numbered (Discrete)", "vectors (Box)")
        raise UserError(
            f"action_selector={name} chooses actions that are {kinds[cls.continuous]}, and those of '{info.name}' are "
            f"{kinds[info.continuous]}: use action_selector={'gaussian' if info.continuous else 'multinomial'}."
        )
    check_fields(name, cls.fields)
    given = (read(cls.Config, values),) if getattr(cls, "Config", None) else ()
    if cls is NoisyActions:
        return NoisyActions(read(NoisyConfig, values), info)
    if cls.__module__.partition(".")[0] != __name__.partition(".")[0]:
        return checked_selector(cls, given, str(name), info, DRAW)
    selector: Selector = cls(*given)
    return selector


def __getattr__(name: str) -> object:
    return moved.attribute(__name__, name)
