"""Parts of all off-policy learners: configuration, replay, the number of updates, optimisers and target networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..components.batch import Batch
from ..components.experience import steps_layout
from ..components.finite import broken_scalars
from ..components.generators import generator
from ..components.normalisation import RunningMeanStd
from ..components.replay import Drawn, Replay
from ..components.schedules import scheduled
from ..components.updates.descent import clip_rows, follow
from ..components.updates.optimisers import Adam
from ..controllers.basic_mac import BasicMAC
from ..envs.base import EnvInfo
from ..envs.vector.memory import nbytes
from ..modules.agents.rnn import NetworkConfig
from ..modules.build import memory_of
from ..utils.errors import PartFailed, UserError
from ..utils.machine import free_memory
from ..utils.schema.keys import key
from .value.config import REWARDS_DOC, REWARDS_MEAN_DOC
from .value.targets import scaled_rewards


@dataclass(frozen=True)
class OffPolicyConfig:
    """Configuration of every off-policy learner."""

    buffer_size: int = key("Episodes that the replay holds; the oldest make room for new ones.", low=1)
    batch_size: int = key("Episodes (with replay_steps: rows of steps) drawn from the replay for one update.", low=1)
    replay_steps: int | None = key(
        "Steps of each row that is drawn (1: single transitions), cut where its episode ends; null: whole episodes.",
        low=1,
    )
    updates_per_step: float | None = key(
        "Updates per environment step, fractions carried over; null: one update after each batch of batch_size_run "
        "episodes, as EPyMARL has it.",
        above=0,
    )
    replay: str = key(
        "How the replay is drawn from: uniform, or prioritised by the last TD errors (Schaul et al. 2016).",
        choices=("uniform", "prioritised"),
    )
    replay_alpha: float = key(
        "Exponent of the priorities under replay=prioritised (0: uniform).", low=0, only={"replay": ("prioritised",)}
    )
    replay_beta: float = key(
        "Exponent of the importance weights under replay=prioritised at the start; it grows linearly to 1 at t_max.",
        low=0,
        high=1,
        only={"replay": ("prioritised",)},
    )
    gamma: float = key("Discount factor.", low=0, high=1)
    standardise_rewards: bool = key(REWARDS_DOC)
    standardise_rewards_mean: bool = key(REWARDS_MEAN_DOC, only={"standardise_rewards": (True,)})
    target_update_interval_or_tau: float = key(
        "Targets come from target networks: up to 1 the soft update's share (1: no target network), above 1 the "
        "number of updates between copies.",
        above=0,
        high=1e9,
    )
    grad_norm_clip: float = key("Largest L2 norm of each network's gradient.", above=0)
    lr: float = key("Learning rate (Adam).", above=0, high=1e6)
    optim_eps: float = key("Epsilon of Adam.", above=0, high=1e6)
    t_max: int = key("Environment steps to train for.", low=1)


class OffPolicyLearner:
    """Base of every off-policy learner: the replay, number of updates, optimisers, target networks, and their state.

    A learner's method is :meth:`update`, one update on a drawn batch. Learning begins once `batch_size` entries can be
    drawn. Observations are standardised as they are drawn.

    Args:
        config: what the learner reads.
        mac: the policies, on ``device`` already.
        info: the environment's sizes.
        device: where everything lives.
        seed: the run's seed.
    """

    #: its batches are drawn from the replay, and `batch_size` is theirs; runners collect one episode from each slot
    on_policy = False
    config: OffPolicyConfig

    def __init__(
        self, config: OffPolicyConfig, net: NetworkConfig, mac: BasicMAC, info: EnvInfo, *, common_reward: bool,
        device: torch.device, seed: int,
    ) -> None:  # fmt: skip
        self.config, self.net, self.mac, self.info, self.device = config, net, mac, info, device
        self.replay = Replay(
            config.buffer_size, info.episode_limit, generator(seed, "replay"), device,
            transitions=config.replay_steps is not None,
            alpha=config.replay_alpha if config.replay == "prioritised" else None,
        )  # fmt: skip
        shape = () if common_reward else (info.n_agents,)
        self.reward_stats = RunningMeanStd(shape, device) if config.standardise_rewards else None
        self.optimisers: list[Adam] = []
        self._optimised: list[Sequence[Tensor]] = []
        self._copies: list[tuple[Tensor, Tensor]] = []
        self.updates = self.processed = 0
        self.owed = 0.0  # updates that are due, fractions included

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse a replay that cannot be drawn from as the learner does, or that this machine has no memory for.

        Raises:
            UserError: naming the keys.
        """
        size, batch, segments = values["buffer_size"], values["batch_size"], values["runner"] == "rollout"
        steps = values["replay_steps"]
        if steps is None and segments:
            raise UserError(
                "replay_steps=null draws whole episodes, and runner=rollout collects segments: use runner=parallel, or "
                "replay_steps=1 for transitions."
            )
        remembering = memory_of("agent", values)
        if steps is not None and remembering:
            raise UserError(
                f"{remembering} needs whole episodes: replay_steps={steps} is refused, use replay_steps=null."
            )
        if values["mac"] == "reuse_mac":
            raise UserError(
                "mac=reuse_mac is refused: a replay holds no experience to be reused in; use mac=basic_mac."
            )
        if steps is None and size < batch:
            raise UserError(f"buffer_size={size} is less than batch_size={batch}: an update draws that many episodes.")
        check_room(size, min(info.episode_limit, values["rollout_length"]) if segments else info.episode_limit, info)

    # -- what is learned, and how much -------------------------------------------------------------------------

    def train(self, batch: Batch, t_env: int) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Take ``batch`` into the replay and make the updates that are due; returns the means of their scalars."""
        self.replay.add(batch)
        if self.reward_stats is not None:
            real = batch.reward[batch.filled]
            self.reward_stats.update(real[:, 0] if self.reward_stats.mean.dim() == 0 else real)
        found: dict[str, list[float]] = {}
        for _ in range(self._due(int(batch.filled.sum()))):
            for name, value in self._update(t_env).items():
                found.setdefault(name, []).append(value)
        return {name: float(np.mean(values)) for name, values in found.items()}, {}

    def update(self, batch: Batch, weight: Tensor) -> tuple[dict[str, float], Tensor]:
        """Make one update; a learner's own method.

        Args:
            batch: B whole episodes, or B rows of `replay_steps` steps.
            weight: [B] importance weights of the rows (ones if the replay is uniform).

        Returns:
            scalars, and the rows' priorities [B] (mean absolute TD errors).
        """
        raise NotImplementedError

    def _update(self, t_env: int) -> dict[str, float]:
        drawn = self.draw(t_env)
        found = self.update(self.prepared(drawn.batch), drawn.weight)
        pair = isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], Mapping)
        if not (pair and isinstance(found[1], Tensor) and found[1].shape == drawn.weight.shape):
            raise PartFailed(
                f"{type(self).__name__}.update must return a dict of scalars and the priorities of its rows, a tensor "
                f"[{len(drawn.weight)}]."
            )
        scalars, priority = found
        if not bool((priority >= 0).all()):  # also where one is NaN
            if broken_scalars(scalars):  # what the run says of them tells more
                return dict(scalars)
            raise PartFailed(f"{type(self).__name__}.update returned priorities that are negative or no numbers.")
        self.replay.set_priorities(drawn.index, priority + 1e-6)  # what is known now may be wrong later
        self.updates += 1
        self.processed += int(drawn.batch.valid.sum())
        self._move_copies()
        return scalars

    def _due(self, steps: int) -> int:
        """The updates after ``steps`` new environment steps."""
        if not self.replay.can_draw(self.config.batch_size):
            return 0
        per_step = self.config.updates_per_step
        self.owed += 1.0 if per_step is None else per_step * steps
        due = int(self.owed + 1e-9)  # 3 * (1 / 3) is one update
        self.owed -= due
        return due

    def notices(self) -> list[str]:
        """What a run says once about how much is learned."""
        c, limit = self.config, self.info.episode_limit
        kind = "episodes" if c.replay_steps is None else f"rows of {c.replay_steps} steps"
        one = f"an update learns from {c.batch_size} {kind} out of the last {c.buffer_size:,} episodes"
        if c.updates_per_step is not None:
            return [f"{c.updates_per_step:g} updates per environment step (updates_per_step); {one}."]
        return [
            "One update after each batch of batch_size_run episodes (updates_per_step=null, as in EPyMARL): more "
            f"environments side by side mean fewer updates per step, and {1 / limit:.2g} or more with one environment, "
            f"whose episodes have up to {limit} steps; {one}."
        ]

    # -- drawing -----------------------------------------------------------------------------------------------

    def draw(self, t_env: int) -> Drawn:
        """Draw `batch_size` entries from the replay."""
        c = self.config
        beta = scheduled("linear", c.replay_beta, 1.0, t_env, c.t_max)
        if c.replay_steps is None:
            return self.replay.draw_episodes(c.batch_size, beta)
        return self.replay.draw_transitions(c.batch_size, c.replay_steps, beta)

    def prepared(self, batch: Batch) -> Batch:
        """Return a drawn batch as networks see it: observations and rewards on their running scales."""
        batch = self.mac.standardised(batch)
        if self.reward_stats is None:
            return batch
        return replace(batch, reward=scaled_rewards(self.config, self.reward_stats, batch.reward))

    # -- networks ----------------------------------------------------------------------------------------------

    def optimise(self, *parameters: Tensor, lr: float | None = None) -> None:
        """Add an optimiser of ``parameters``, whose last dimension are one network's numbers."""
        self.optimisers.append(Adam(parameters, lr=lr or self.config.lr, eps=self.config.optim_eps))
        self._optimised.append(parameters)

    def gradient_step(self, loss: Tensor, k: int = 0) -> float:
        """Step optimiser ``k`` on ``loss``, each network's gradient clipped; returns the largest norm before."""
        self.optimisers[k].zero_grad()
        loss.backward()
        return self.step(k)

    def step(self, k: int = 0) -> float:
        """Step optimiser ``k`` by the gradients that its parameters have, as :meth:`gradient_step` does."""
        norms = [clip_rows(x.grad, self.config.grad_norm_clip) for x in self._optimised[k]]
        self.optimisers[k].step()
        return float(torch.stack(norms).max())

    def target_copy(self, params: Tensor) -> Tensor:
        """Return a copy of ``params`` that follows them as `target_update_interval_or_tau` says."""
        if self.config.target_update_interval_or_tau == 1:
            return params.detach()
        self._copies.append((params, params.detach().clone()))
        return self._copies[-1][1]

    def _move_copies(self) -> None:
        for params, copy in self._copies:
            follow(copy, params, self.config.target_update_interval_or_tau, self.updates)

    # -- state -------------------------------------------------------------------------------------------------

    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Yield ("policies", [K, P])."""
        yield "policies", self.mac.network.params

    def load_weights(self, state: Mapping[str, Any]) -> list[str]:
        """Start from the controller's weights, which are there already: the target networks take them."""
        with torch.no_grad():
            for params, copy in self._copies:
                copy.copy_(params)
        return []

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs beside the replay, which has files of its own."""
        return {
            "optimisers": [o.state_dict() for o in self.optimisers],
            "targets": [copy.clone() for _, copy in self._copies],
            "reward_stats": self.reward_stats.state_dict() if self.reward_stats else {},
            "owed": self.owed,
            "updates": self.updates,
            "processed": self.processed,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state back; the controller's parameters are loaded by its own method."""
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        with torch.no_grad():
            for (_, copy), stored in zip(self._copies, state["targets"], strict=True):
                copy.copy_(stored)
        if self.reward_stats is not None:
            self.reward_stats.load_state_dict(state["reward_stats"])
        self.owed, self.updates, self.processed = state["owed"], state["updates"], state["processed"]


def check_room(buffer_size: int, limit: int, info: EnvInfo, name: str = "buffer_size") -> None:
    """Refuse a replay that this machine has no memory for, if all its episodes are as long as they can be.

    Args:
        buffer_size: episodes.
        limit: most steps of one.
        info: the environment's sizes.
        name: the key that ``buffer_size`` is of.

    Raises:
        UserError: it is larger than the free memory.
    """
    each, free = nbytes(steps_layout(info, 1, limit + 1)), free_memory()
    size = each * buffer_size
    if free is not None and size > free:
        raise UserError(
            f"The replay may need {size / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB of memory are free: "
            f"{name}={buffer_size} episodes of up to {limit} steps in '{info.name}' take {each / 1e6:,.2f} MB "
            f"each; lower {name} to {max(int(free / each), 1):,} or less, or the environment's time limit."
        )
