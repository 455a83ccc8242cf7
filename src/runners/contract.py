"""The contract of runners: collect experience for training, and play tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

    from ..components.batch import Batch
    from ..controllers.contract import Controller
    from ..envs.base import EnvInfo
    from ..utils.hints import Use
    from .episodes import Episodes


class Runner(Protocol):
    """A runner, chosen by ``runner:`` in the configuration.

    | attribute | meaning |
    |---|---|
    | Config | class attribute: frozen dataclass of the keys that it reads |
    | info | the environment's sizes |
    | t_env | environment steps so far, of all slots; tests do not count |
    | episodes, agent_steps | episodes so far, and steps of single agents |
    | time_env, time_act | seconds in the environments, and in acting |
    | worker_restarts | environment workers that were started again |
    """

    info: EnvInfo
    t_env: int
    episodes: int
    agent_steps: int
    time_env: float
    time_act: float

    @property
    def worker_restarts(self) -> int:
        """Restarts of workers so far."""

    def run(self) -> tuple[Batch, Episodes]:
        """Collect one batch with the policies as they are; returns it, and the episodes that ended in it."""

    def test(self, n_episodes: int, greedy: bool) -> Episodes:
        """Play exactly ``n_episodes`` test episodes; training continues as if they had not been played."""

    def origin(self, batch: Batch, row: int, step: int) -> tuple[int, int]:
        """Return slot and episode seed of a step of the batch that was collected last, for messages."""

    def use(self) -> Use:
        """Return how collecting uses the machine, for hints."""

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs to collect the same experience, ``t_env`` with it."""

    def load_state_dict(self, state: Mapping[str, Any]) -> list[str]:
        """Take the state back; returns notices for the user."""

    def close(self) -> None:
        """Release environments and workers."""


class MakeRunner(Protocol):
    """How a runner is built: its class is called."""

    def __call__(
        self, config: Any, env: str, env_args: Mapping[str, Any], mac: Controller, device: torch.device, seed: int
    ) -> Runner:
        """Build it.

        Args:
            config: an instance of its ``Config``.
            env, env_args: the environment.
            mac: the controller that acts, with ``actor()`` and ``initial_hidden(n_slots)``.
            device: where batches go.
            seed: the run's seed.
        """


class RunnerHooks(Protocol):
    """Methods that a runner may have."""

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse a configuration before anything is built.

        Raises:
            UserError: one sentence that names the key, and what is allowed.
        """
