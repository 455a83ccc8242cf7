"""Networks as the framework sees them: K copies of one network, whose parameters are the rows of one matrix."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from ..components.experience import EnvInfo
from ..components.packing import Packing


class Inputs(int):
    """Width I of a network's input rows, an ``int`` that also says what is in them.

    The first ``obs_size`` columns are the observation (of a critic on the state: the state); the last action's one-hot
    code and the agent's id come after it, where they are configured.

    Attributes:
        obs_size: numbers of one observation, flat and padded.
        obs_shape: its shape, where observations are arrays such as images; None: flat.
        n_actions: actions A (continuous ones: dimensions).
        n_agents: agents N.
    """

    obs_size: int
    obs_shape: tuple[int, ...] | None
    n_actions: int
    n_agents: int

    def __new__(
        cls,
        size: int,
        obs_size: int = 0,
        obs_shape: tuple[int, ...] | None = None,
        n_actions: int = 0,
        n_agents: int = 0,
    ) -> Inputs:
        """Make an int of ``size`` with the parts that it is made of."""
        self = super().__new__(cls, size)
        self.obs_size, self.obs_shape = obs_size, None if obs_shape is None else tuple(obs_shape)
        self.n_actions, self.n_agents = n_actions, n_agents
        return self

    @classmethod
    def of(cls, size: int, info: EnvInfo) -> Inputs:
        """Return rows of ``size`` numbers, the first of which are an observation of ``info``."""
        return cls(size, info.obs_size, info.obs_shape, info.n_actions, info.n_agents)


class Stack(Protocol):
    """K networks of one architecture: K, P parameters each, I inputs and A outputs, H numbers of memory.

    Feed-forward networks take rows in any order. Recurrent ones take packed rows (:class:`Packing`): time first, the
    longest sequence first, S rows of R sequences in all.

    | attribute | meaning |
    |---|---|
    | params | [K, P] the parameter matrix, an ``nn.Parameter`` |
    | recurrent | whether they have a memory |
    | memory | H |
    """

    params: torch.nn.Parameter
    recurrent: bool
    memory: int

    def row(self, k: int) -> Tensor:
        """Return network k's parameters [P] as a leaf sharing their storage: training it changes network k alone."""

    def initial_hidden(self, *rows: int) -> Tensor:
        """Return zeros [*rows, H]: the memory before an episode's first step."""

    def single(
        self,
        params: Tensor,
        x: Tensor,
        packing: Packing | None = None,
        hidden: Tensor | None = None,
        twice: bool = False,
    ) -> Tensor:
        """Evaluate ONE network.

        Args:
            params: [P].
            x: [L, I], or packed rows [S, I] when recurrent.
            packing: their layout, when recurrent.
            hidden: [R, H] the memory before each sequence, in the order of ``packing.order``; None: zeros.
            twice: whether the result is differentiated twice.

        Returns:
            [L, A] or [S, A].
        """

    def stacked(self, params: Tensor, x: Tensor, twice: bool = False) -> Tensor:
        """Evaluate feed-forward networks ``params`` [K, P] on their own rows ``x`` [K, L, I]: [K, L, A]."""

    def features(
        self, params: Tensor, x: Tensor, packing: Packing | None = None, hidden: Tensor | None = None
    ) -> Tensor:
        """Return what ONE network's head reads, [L, F] or [S, F]; arguments as of :meth:`single`.

        Raises:
            UserError: the module does not tell them.
        """

    def with_features(self, params: Tensor, x: Tensor, packing: Packing | None = None) -> tuple[Tensor, Tensor]:
        """Return ONE network's outputs and what its head reads, from one evaluation where the network allows it.

        Sequences start from zeros. A module that does not tell what its head reads gives ``x`` itself in its place.

        Returns:
            [L, A] and [L, F], or [S, A] and [S, F].
        """

    def layers(self, params: Tensor) -> dict[str, Tensor]:
        """Return the views of ``params`` [..., P] that :meth:`step` takes: name -> [..., *shape]."""

    def step(self, w: dict[str, Tensor], x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate one time step.

        Args:
            w: the layers of one network, or of K.
            x: [L, I], or [K, L, I].
            hidden: [L, H], or [K, L, H] (returned as it is by feed-forward networks).

        Returns:
            outputs [(K,) L, A], the next memory.
        """

    def to(self, device: Any) -> Any:
        """Move the parameters."""
