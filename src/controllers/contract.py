"""The contracts of controllers ('mac') and of what has to be found out before their networks can be built."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from ..components.batch import Batch
    from ..envs.base import EnvInfo
    from ..modules.acting import Actor


class Controller(Protocol):
    """The policies of all agents, chosen by ``mac:`` in the configuration.

    Shapes: B slots or episodes, N agents, O numbers in an observation, A actions, H numbers of memory. What a learner
    needs of a controller is between the two of them; this is what the run, its runners and a loaded team need. The
    class attribute ``Config`` is a frozen dataclass of the keys that it reads.
    """

    def to(self, device: torch.device) -> None:
        """Move the networks, before anything else is done with them."""

    def initial_hidden(self, n_slots: int) -> Tensor:
        """Return the memory before an episode's first step, [B, N, H] float32 (H is at least 1)."""

    def actor(self) -> Actor:
        """Return the policies as they are now, prepared for many steps: what runners and teams act with.

        (obs [B, N, O], avail [B, N, A], last actions [B, N], hidden [B, N, H], noise, context) -> actions [B, N], their
        log-probabilities [B, N], the next hidden state. :class:`~oamarl.modules.acting.Actor` says which attributes it
        has; :class:`~oamarl.modules.acting.NetworkActor` makes one of a function of outputs and a selector.
        """

    def observe(self, batch: Batch) -> None:
        """Take a batch into running statistics of observations; the training loop calls it after each update."""

    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Yield what is learned as ("policies", tensor)."""

    def state_dict(self) -> dict[str, Any]:
        """Return everything that acting needs: containers, numbers, text, arrays and tensors."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take parameters back; tensors that a learner holds keep pointing at them.

        Raises:
            ValueError: they have another shape; the message says both.
            UserError: they cannot be used under this configuration.
        """


class MakeController(Protocol):
    """How a controller is built: its class is called."""

    def __call__(self, config: Any, agent: Any, net: Any, info: EnvInfo, generator: torch.Generator) -> Controller:
        """Build it.

        Args:
            config: an instance of its ``Config``.
            agent: the class of the policy networks (``agent:``).
            net: an instance of the ``Config`` of that class.
            info: the environment's sizes.
            generator: source of the initial parameters.
        """


class ControllerHooks(Protocol):
    """Methods that a controller may have."""

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse a configuration before anything is built.

        Raises:
            UserError: one sentence that names the key, and what is allowed.
        """

    def select_by(self, values: Mapping[str, Any]) -> None:
        """Choose actions by the selector of a configuration; called once, before anything is acted."""

    @classmethod
    def prepare(cls, values: Mapping[str, Any], info: EnvInfo) -> Preparation | None:
        """Return what has to be found out before the networks of this configuration can be built; None: nothing."""

    @staticmethod
    def kernel(agent: Any, net: Any, device: torch.device) -> str:
        """Return what networks are evaluated by, for the last digits depend on it: ``C`` or ``torch``.

        It is stored with the run. Arguments as of :class:`MakeController`.
        """


class Prepared(Protocol):
    """What was found out before the networks were built, and what it cost.

    | attribute | meaning |
    |---|---|
    | name | of the file of its arrays, ``<name>.arrays`` |
    | t_env, agent_steps | what was played: environment steps, and steps of single agents; they count as the run's |
    | environment, inference, learning | seconds that it took |
    | seconds | their sum |
    """

    @property
    def name(self) -> str:
        """Name of the file of its arrays, ``<name>.arrays``."""
    @property
    def t_env(self) -> int:
        """Environment steps that it played."""
    @property
    def agent_steps(self) -> int:
        """Steps of single agents that it played."""
    @property
    def environment(self) -> float:
        """Seconds that environments took."""
    @property
    def inference(self) -> float:
        """Seconds that policies took."""
    @property
    def learning(self) -> float:
        """Seconds that learning took."""
    @property
    def seconds(self) -> float:
        """Seconds that all of it took."""

    def changes(self) -> dict[str, Any]:
        """Return the values of the controller's keys that follow from it."""

    def scalars(self) -> dict[str, float]:
        """Return scalars to log."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Return arrays to log."""


class RandomPlay(Protocol):
    """Batches of random play, as :class:`~oamarl.runners.random_play.RandomRunner` collects them.

    | field | meaning |
    |---|---|
    | t_env, agent_steps | environment steps and steps of single agents so far |
    | time_env, time_act | seconds in the environments and in acting |
    """

    t_env: int
    agent_steps: int
    time_env: float
    time_act: float

    def batch(self) -> Batch:
        """Collect one episode from each slot."""

    def close(self) -> None:
        """Release environments and workers."""


class Preparation(Protocol):
    """What has to be done before the networks of a run can be built; see :meth:`ControllerHooks.prepare`."""

    @property
    def announcement(self) -> str:
        """A sentence for the log when :meth:`find` begins."""

    def known(
        self, saved: Mapping[str, Any] | None, weights: Mapping[str, Any] | None, say: Callable[[str], None]
    ) -> Prepared | None:
        """Return what is known without play, None where it has to be found.

        Args:
            saved: payload of the checkpoint that the run resumes from.
            weights: payload of the checkpoint whose weights the run starts from (``init_from``).
            say: called with notices for the user.

        Raises:
            UserError: what they say does not fit this configuration.
        """

    def find(self, play: Callable[[], RandomPlay], check_stop: Callable[[], None] = ...) -> Prepared:
        """Find it out.

        Args:
            play: starts random play.
            check_stop: called at intervals; what it raises ends the work early.
        """

    def stored(self, state: Mapping[str, Any], where: str) -> Prepared:
        """Return what policies were trained with.

        Args:
            state: the controller's ``state_dict``.
            where: what it is from, the beginning of a sentence.

        Raises:
            UserError: it does not say, or says it of other agents.
        """


def preparation_of(mac: Any, values: Mapping[str, Any], info: EnvInfo) -> Preparation | None:
    """Return what has to be found out before the networks of the controller class ``mac`` can be built, if anything."""
    found: Preparation | None = mac.prepare(values, info) if hasattr(mac, "prepare") else None
    return found
