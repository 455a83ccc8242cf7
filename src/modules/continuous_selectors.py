"""Action selectors of continuous actions: vectors of numbers, 0 in the dimensions that an agent lacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..components.experience import EnvInfo
from ..utils.schema.keys import key
from .selector_contract import Context, Noise, SelectorBase

#: standard deviations are kept within exp(-10) and exp(2); components.distributions does the same
LOG_STD = (-10.0, 2.0)
#: under which HARL's two keys have an effect
_SIGMOID = {"action_std_form": ("sigmoid",)}


@dataclass(frozen=True)
class StdConfig:
    """What standard deviation a network's number l stands for: exp(l), or std_y_coef * sigmoid(l / std_x_coef)."""

    action_std_form: str = key(
        "Standard deviation of continuous actions from a network's number l: exp (exp(l), usual) or sigmoid "
        "(HARL's: std_y_coef * sigmoid(l / std_x_coef), which has a bound).",
        choices=("exp", "sigmoid"), actions="continuous",
    )  # fmt: skip
    std_x_coef: float = key("action_std_form=sigmoid: what l is divided by.", low=0.01, only=_SIGMOID)
    std_y_coef: float = key("action_std_form=sigmoid: the bound of the standard deviation.", low=0.001, high=7,
                            only=_SIGMOID)  # fmt: skip


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
        """See :class:`~.selector_contract.Selector`; numbers as ``components.distributions.DiagonalGaussian``'s."""
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
    "Environment steps at the beginning of a run with uniformly random actions and without updates, to the end of the "
    "batch in which they are reached (HARL's name for it)."
)


@dataclass(frozen=True)
class NoisyConfig:
    """Configuration of noise on actions."""

    act_noise: float = key(
        "Deviation of the Gaussian noise on continuous actions, of which -1 and 1 are the bounds; none in tests.",
        low=0, actions="continuous",
    )  # fmt: skip
    warmup_steps: int = key(WARMUP_DOC, low=0)


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
        """See :class:`~.selector_contract.Selector`."""
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
