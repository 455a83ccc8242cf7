"""The contract of learners: what the training loop asks of them, and nothing that it does not.

A learner gets experience and improves the policies of its controller. It never logs and never touches an environment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..components.batch import Batch
    from ..controllers.contract import Controller
    from ..envs.base import EnvInfo


class Learner(Protocol):
    """A learner, chosen by ``learner:`` in the configuration.

    Shapes: B rows (episodes, or segments) of T steps, N agents, A actions, O numbers in an observation.

    | attribute | meaning |
    |---|---|
    | Config | class attribute: frozen dataclass of the keys that it reads |
    | updates | iterations so far, logged as ``updates`` |
    | processed | agents' steps that gradients were computed on so far, logged as ``processed_samples`` |

    """

    updates: int
    processed: int

    def train(self, batch: Batch, t_env: int) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
        """Improve the policies by one iteration.

        Args:
            batch: the experience that the acting policies collected: obs [B, T+1, N, O], actions [B, T, N], reward
                [B, T, N], valid [B, T, N] and the other fields of :class:`~oamarl.components.batch.Batch`.
            t_env: environment steps before the batch; schedules follow it.

        Returns:
            scalars to log, name -> number (floats, or tensors and numpy arrays of one number), and arrays to log, file
            name -> (name -> array), often ``{}``.
        """

    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Yield what is learned as (name, tensor of any shape): ``policies``, ``critic`` ...

        After each update all numbers must be finite; the sentence that ends the run otherwise says the name.
        """

    def load_weights(self, state: Mapping[str, Any]) -> list[str]:
        """Take networks from the ``state_dict`` of a learner, maybe of another class, for ``init_from``.

        The policies are loaded by the controller: here belongs what else is learned, such as a critic. Optimisers,
        random streams and counters are not taken.

        Returns:
            names of the networks that ``state`` lacks or that have another shape there: they start anew. ``[]`` where
            everything was taken, or where there is nothing but policies.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return everything, beside the policies, that a resumed run needs to continue with the same numbers.

        Containers, numbers, text, arrays and tensors; all floating-point tensors must be finite.
        """

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state back from a checkpoint."""


class MakeLearner(Protocol):
    """How a learner is built: its class is called."""

    def __call__(
        self, config: Any, net: Any, mac: Controller, info: EnvInfo, *, common_reward: bool, device: torch.device,
        seed: int,
    ) -> Learner:  # fmt: skip
        """Build it.

        Args:
            config: an instance of its ``Config``.
            net: the keys of the networks' architecture (``agent``'s Config).
            mac: the controller, whose policies it improves, on ``device`` already.
            info: the environment's sizes.
            common_reward: whether all agents have the same reward.
            device: where batches and networks are.
            seed: the run's seed, from which a learner makes random streams of its own.
        """


class LearnerHooks(Protocol):
    """Methods that a learner may have."""

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse a configuration before anything is built.

        Args:
            values: all keys of the run.
            info: the environment's sizes.

        Raises:
            UserError: one sentence that names the key, and what is allowed.
        """

    def notices(self) -> list[str]:
        """Return sentences that are shown when the run begins, such as how many updates each step has."""
