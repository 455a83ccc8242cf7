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

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from ..components.experience import EnvInfo, Field
from ..components.schedules import scheduled
from ..utils.errors import UserError
from ..utils.schema.keys import key, read
from ..utils.schema.registry import resolve
from .kernels.numpy_policy import choose
from .selector_checks import check_fields, checked_selector

#: `action_selector:` key -> "module:class", the module relative to this package
REGISTRY = {
    "multinomial": ".action_selectors:Multinomial",
    "epsilon_greedy": ".action_selectors:EpsilonGreedy",
    "gaussian": ".action_selectors:Gaussian",
    "noisy": ".action_selectors:NoisyLogits",
}
_LEAST = np.float32(1e-30)  # an exponential draw may be 0
_NEVER, _BELOW = np.float32(-np.inf), np.float32(-1.0)  # an illegal action's value, and its uniform noise
#: the noise that a selector needs: Gumbel, standard normal, or uniform in [0, 1)
Noise = Literal["gumbel", "normal", "uniform"]
#: standard deviations are kept within exp(-10) and exp(2); components.distributions does the same
LOG_STD = (-10.0, 2.0)


def _gumbel(stream: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    drawn = stream.standard_exponential(shape, np.float32)
    noise: np.ndarray = -np.log(np.maximum(drawn, _LEAST))
    return noise


#: noise -> how it is drawn, for several steps in one go: (stream, shape) -> float32
DRAW: dict[Noise, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "gumbel": _gumbel,
    "normal": lambda stream, shape: stream.standard_normal(shape, np.float32),
    "uniform": lambda stream, shape: stream.random(shape, np.float32),
}


@dataclass(frozen=True)
class Context:
    """What an actor knows beside the observations: ``t_env`` environment steps made so far in the run (when the batch
    began), ``test``: not training, ``greedy``: the best actions instead of drawn ones."""

    t_env: int = 0
    test: bool = False
    greedy: bool = False


class Selector(Protocol):
    """How actions are chosen. It is pickled to workers; the noise of a step is a function of the episode and the step.

    | attribute | meaning |
    |---|---|
    | fields | what is recorded of each step beside actions and log_prob (``Field``, known by the actor) |
    | continuous | whether actions are vectors of numbers |
    | noise | the kind of noise that it needs |
    """

    @property
    def fields(self) -> tuple[Field, ...]: ...
    @property
    def continuous(self) -> bool: ...
    @property
    def noise(self) -> Noise: ...

    def width(self, n_actions: int) -> int:
        """Return how many numbers of noise an agent needs at one step."""

    def select(
        self, outputs: np.ndarray, avail: np.ndarray, noise: np.ndarray | None, context: Context
    ) -> tuple[np.ndarray, np.ndarray]:
        """Choose actions.

        Args:
            outputs: [S, N, P] of the networks.
            avail: [S, N, A] bool, the legal actions (of continuous ones: the dimensions that an agent has).
            noise: [S, N, width]; None where ``context.greedy``.
            context: see :class:`Context`.

        Returns:
            actions [S, N] int64 or [S, N, D] float32, and the log-probability [S, N] float32 that they were chosen
            with: the behaviour's, which for epsilon-greedy actions is not the softmax's.
        """

    def record(self, outputs: np.ndarray, avail: np.ndarray, actions: np.ndarray) -> Mapping[str, np.ndarray]:
        """Return ``fields`` of this step, [S, *shape]."""


class SelectorBase:
    """Base of selectors: discrete actions, nothing further is recorded, and a number of noise for each action."""

    fields: ClassVar[tuple[Field, ...]] = ()
    continuous: ClassVar[bool] = False
    #: of continuous actions: networks put out the actions alone, without deviations
    deterministic: ClassVar[bool] = False
    noise: ClassVar[Noise] = "gumbel"
    #: whether the choice depends on the context's ``t_env``; False only where a class itself says so
    reads_steps: ClassVar[bool] = True

    def width(self, n_actions: int) -> int:
        """One number for each action."""
        return n_actions

    def record(self, outputs: np.ndarray, avail: np.ndarray, actions: np.ndarray) -> Mapping[str, np.ndarray]:
        """Nothing."""
        return {}


class Multinomial(SelectorBase):
    """Actions drawn from the policy, by the Gumbel-max rule."""

    reads_steps: ClassVar[bool] = False

    def select(
        self, outputs: np.ndarray, avail: np.ndarray, noise: np.ndarray | None, context: Context
    ) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Selector`."""
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
        """See :class:`Selector`."""
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


@dataclass(frozen=True)
class StdConfig:
    """What standard deviation a network's number l stands for: exp(l), or std_y_coef * sigmoid(l / std_x_coef)."""

    action_std_form: str = key(
        "Standard deviation of continuous actions from a network's number l: exp (exp(l), usual) or sigmoid "
        "(HARL's: std_y_coef * sigmoid(l / std_x_coef), which has a bound).",
        choices=("exp", "sigmoid"),
    )
    std_x_coef: float = key("action_std_form=sigmoid: what l is divided by.", low=0.01)
    std_y_coef: float = key("action_std_form=sigmoid: the bound of the standard deviation.", low=0.001, high=7)


class Gaussian(SelectorBase):
    """Actions drawn from a diagonal Gaussian: mean + std * noise, 0 in the dimensions that an agent lacks."""

    Config = StdConfig
    continuous: ClassVar[bool] = True
    noise: ClassVar[Noise] = "normal"
    reads_steps: ClassVar[bool] = False

    def __init__(self, config: StdConfig) -> None:
        self.config = config

    def log_std(self, numbers: np.ndarray) -> np.ndarray:
        """Return the logarithms of the standard deviations that a network's ``numbers`` stand for."""
        c = self.config
        if c.action_std_form == "sigmoid":
            numbers = np.float32(np.log(c.std_y_coef)) - np.logaddexp(
                np.float32(0), numbers / np.float32(-c.std_x_coef)
            )
        return np.clip(numbers, *LOG_STD)

    def select(
        self, outputs: np.ndarray, avail: np.ndarray, noise: np.ndarray | None, context: Context
    ) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Selector`; the same numbers as ``components.distributions.DiagonalGaussian``."""
        d = outputs.shape[-1] // 2
        mean, log_std = outputs[..., :d], outputs[..., d:]
        log_std = self.log_std(log_std)
        z = np.zeros_like(mean) if noise is None else noise
        actions = mean + np.exp(log_std) * z
        terms = -0.5 * z * z - log_std - np.float32(0.5 * np.log(2 * np.pi)) + 0.0 * mean  # NaN where the mean is
        # environments get numbers; what is broken is found in log_prob
        actions = np.where(avail & np.isfinite(actions), actions, 0.0).astype(np.float32)
        return actions, np.where(avail, terms, 0.0).sum(-1).astype(np.float32)


WARMUP_DOC = (
    "Environment steps at the beginning of a run with uniformly random actions, without updates (HARL's name for it)."
)


@dataclass(frozen=True)
class NoisyConfig:
    """Configuration of noise on actions."""

    act_noise: float = key(
        "Deviation of the Gaussian noise on continuous actions, of which -1 and 1 are the bounds; none in tests.", low=0
    )
    warmup_steps: int = key(WARMUP_DOC, low=0)


class NoisyLogits(Multinomial):
    """Actions drawn from the policy; in the first `warmup_steps` steps of training any legal action."""

    Config = NoisyConfig

    def __init__(self, config: NoisyConfig) -> None:
        self.config = config

    def select(
        self, outputs: np.ndarray, avail: np.ndarray, noise: np.ndarray | None, context: Context
    ) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Selector`."""
        warm = not context.test and context.t_env < self.config.warmup_steps
        return super().select(np.zeros_like(outputs) if warm else outputs, avail, noise, context)


class NoisyActions(SelectorBase):
    """The action of a deterministic policy, between the bounds, and Gaussian noise of which -1 and 1 are the bounds:
    low + (high - low) (1 + clip(tanh(output) + act_noise z, -1, 1)) / 2 (Lillicrap et al. 2016, with the noise of
    Fujimoto et al. 2018). In the first `warmup_steps` steps of training uniform actions; no noise in tests.

    Such an action has no density: its log-probability is 0, NaN where the network put out no number.
    """

    Config = NoisyConfig
    continuous: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True
    noise: ClassVar[Noise] = "uniform"
    #: sampled tests have no random action
    greedy_in_tests: ClassVar[bool] = True

    def __init__(self, config: NoisyConfig, info: EnvInfo) -> None:
        self.config, (self.centre, self.half) = config, info.action_scale()

    def width(self, n_actions: int) -> int:
        """Two numbers for each dimension, which make a normal one (Box and Muller 1958)."""
        return 2 * n_actions

    def select(
        self, outputs: np.ndarray, avail: np.ndarray, noise: np.ndarray | None, context: Context
    ) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Selector`."""
        c, unit = self.config, np.tanh(outputs)
        if noise is not None and not context.test:
            u, v = np.split(noise, 2, axis=-1)
            if context.t_env < c.warmup_steps:
                unit = 2.0 * u - 1.0 + 0.0 * unit
            else:
                z = np.sqrt(-2.0 * np.log1p(-u)) * np.cos(np.float32(2.0 * np.pi) * v)
                unit = np.clip(unit + np.float32(c.act_noise) * z, -1.0, 1.0)
        actions = np.where(avail, self.centre + self.half * unit, 0.0)
        broken = ~np.isfinite(actions)  # environments get numbers; what is broken is found in log_prob
        log_prob = np.where(broken.any(-1), np.float32(np.nan), np.float32(0.0))
        return np.where(broken, 0.0, actions).astype(np.float32), log_prob


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
