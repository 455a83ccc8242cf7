"""Whole episodes from every slot: the `episode` and `parallel` runners, over any backend.

Each slot contributes the same number of episodes to a batch; a slot that has played its share waits for the
others, so that batches have no bias towards short episodes. `episode` is `parallel` with one slot.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..components.batch import Batch
from ..components.experience import Layout, fields_of, no_action, steps_layout
from ..components.seeding import Purpose
from ..controllers.basic_mac import BasicMAC
from ..envs.base import EnvInfo
from ..envs.vector.base import VecConfig, VecEnv, usable_cpus
from ..envs.vector.episode_store import EpisodeStore, Job, cursor_layout, endings_layout
from ..envs.vector.make import check_memory, make_vec
from ..envs.vector.memory import nbytes
from ..modules.kernels.build import library
from ..utils.errors import UserError
from ..utils.hints import Use
from ..utils.machine import in_use, memory
from ..utils.schema.keys import key
from .episodes import Episodes


@dataclass(frozen=True)
class EpisodeConfig(VecConfig):
    """Configuration of the whole-episode runners."""

    batch_size_run: int = key("Environments stepped side by side (slots).", low=1)
    batch_size: int | None = key(
        "Episodes to train on at once, a multiple of batch_size_run; null: one episode from each slot.", low=1
    )
    common_reward: bool = key("All agents are rewarded for the team's reward; otherwise each for its own.")
    reward_scalarisation: str = key("How agents' rewards make the common one.", choices=("sum", "mean"))


class EpisodeRunner:
    """Runner that plays whole episodes in B slots.

    Args:
        config: slots, backend and batch.
        env, env_args: the environment.
        mac: the controller that acts.
        device: where the controller's networks are.
        seed: the run's seed.
        make: builds the vectorised environment; arguments as of :func:`~oamarl.envs.vector.make.make_vec`.
    """

    Config = EpisodeConfig
    #: what batches are collected for
    purpose: Purpose = "train"

    def __init__(
        self,
        config: EpisodeConfig,
        env: str,
        env_args: Mapping[str, Any],
        mac: BasicMAC,
        device: torch.device,
        seed: int,
        make: Callable[..., VecEnv] = make_vec,
    ) -> None:
        self.config, self.mac, self.device, self.seed = config, mac, device, seed
        self.task, self.make = (env, env_args), make
        self.n_slots = config.batch_size_run
        self.per_slot = (config.batch_size or self.n_slots) // self.n_slots
        self.info = self._open(env, env_args)
        self.t_env = self.episodes = self.agent_steps = 0
        #: episodes of each slot that were lost with a worker: their numbers are not used again
        self.skipped = np.zeros(self.n_slots, np.int64)
        self._earlier_restarts = 0
        self._row_seeds = np.full(self.n_slots * self.per_slot, -1, np.int64)
        self.time_env = self.time_act = 0.0
        #: steps that slots could have made in this process's batches, and those in which they waited for others
        self._slot_steps = self._waited = 0
        own = not config.common_reward or self.info.team_reward
        self._rewards: Any = "own" if own else config.reward_scalarisation
        self._allocate()

    def _open(self, env: str, env_args: Mapping[str, Any]) -> EnvInfo:
        """Build the environments; returns their sizes."""
        self.vec: VecEnv = self.make(env, env_args, self.n_slots, **self.config.options())
        return self.vec.info

    def _allocate(self) -> None:
        """Lay out what is recorded."""
        self.store = self._new_store()

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse a batch that the slots cannot share evenly, and `episode` with several slots."""
        slots, size = values["batch_size_run"], values["batch_size"]
        if values["backend"] == "device":
            raise UserError(
                f"backend=device plays segments, with runner=rollout: runner={values['runner']} plays whole episodes, "
                "use backend=native."
            )
        if values["runner"] == "episode" and slots != 1:
            raise UserError(f"runner=episode steps one environment: batch_size_run={slots} needs runner=parallel.")
        if size is not None and size % slots:
            raise UserError(
                f"batch_size={size} must be a multiple of batch_size_run={slots}: each slot plays as many episodes."
            )
        cls.check_room(steps_layout(info, size or slots, info.episode_limit), info, f"batch_size={size or slots}")
        check_memory(info, slots, values["backend"])

    @staticmethod
    def check_room(layout: Layout, info: EnvInfo, batch: str, room: int | None = None) -> None:
        """Refuse arrays that this machine has no memory for.

        Args:
            layout: theirs.
            info: of the environment, for the message.
            batch: what else makes them large, for the message.
            room: bytes of the memory that they go to; None: this machine's.

        Raises:
            UserError: they are too large.
        """
        size, there = nbytes(layout), memory() if room is None else room
        if there is not None and size > there:
            has = f"{'the machine' if room is None else 'the GPU'} has {there / 1e9:,.0f} GB"
            raise UserError(
                f"The configuration asks for more memory than there is: info.episode_limit={info.episode_limit} of the "
                f"environment '{info.name}' with {info.n_agents} agents that see {info.obs_size} numbers and {batch} "
                f"needs {size / 1e9:,.0f} GB, and {has}."
            )

    # -- what training and testing share -----------------------------------------------------------------------

    def _new_store(self) -> EpisodeStore:
        """Allocate the store in which episodes are recorded."""
        hidden, self.fields = self.mac.initial_hidden(1).shape[-1], self.mac.actor().fields
        cursor = self.vec.room(cursor_layout(self.info, self.n_slots, hidden, self._segments))
        cursor["number"][:], cursor["last"][:], cursor["fresh"][:] = -1, no_action(self.info), True
        steps = self.vec.room(steps_layout(self.info, *self._batch_shape, self.fields))
        return EpisodeStore(cursor, self._new_endings(self._most), steps)

    def _new_endings(self, most: int) -> dict[str, np.ndarray]:
        """Allocate the endings of up to ``most`` episodes of each slot."""
        infos = self.vec.info_metrics.width
        return self.vec.room(endings_layout(self.info, self.n_slots, most, infos, self._segments, self.fields))

    def _play(self, purpose: Purpose, plan: list[list[int]], greedy: bool, keep: bool) -> Episodes:
        """Play the episodes ``plan[b]`` (numbers) in each slot b, one after another.

        In place of an episode that is lost with its worker comes one more, with the number that follows the plan's.

        Args:
            keep: record their steps too, in rows by slot and place in the plan.
        """
        most, b = max(len(p) for p in plan), self.n_slots
        if self.store.endings["length"].shape[1] < most:
            self.store = replace(self.store, endings=self._new_endings(most))
        cursor = self.store.cursor
        cursor["fresh"][:], cursor["row"][:] = True, np.cumsum([0, *(len(p) for p in plan)])[:-1]
        numbers = tuple(tuple(p) for p in plan)
        self._play_job(Job(self.seed, purpose, greedy, self._rewards, keep, numbers, t_env=self.t_env))
        order = [(i, k) for i in range(b) for k in range(int(cursor["done"][i]))]
        return Episodes.of(self.store, order, self.vec.info_metrics)

    def _play_job(self, job: Job) -> None:
        """Play a job and measure the time of acting and of the environments."""
        cursor = self.store.cursor
        for name in ("column", "done", "lost", "acting", "playing"):
            cursor[name][:] = 0
        began = time.perf_counter()
        self.vec.play(self.store, job, self.mac.actor())
        took = self.vec.played or time.perf_counter() - began
        acting = took * float(cursor["acting"].sum()) / max(float(cursor["playing"].sum()), 1e-9)
        self.time_act += acting
        self.time_env += took - acting

    def _count(self) -> None:
        """Count the steps in the store."""
        filled = self.store.steps["filled"]
        self.t_env += int(np.count_nonzero(filled))
        self.agent_steps += int(np.count_nonzero(self.store.steps["alive"][filled]))

    def _clear(self) -> None:
        """Empty the store: what is not filled must not hold the last batch's flags."""
        for array in self.store.steps.values():
            array.fill(0)

    # -- training ----------------------------------------------------------------------------------------------

    def run(self) -> tuple[Batch, Episodes]:
        """Collect one batch: `batch_size` whole episodes, cut to the longest."""
        began = self.episodes // self.n_slots
        plan = [list(range(k, k + self.per_slot)) for k in (began + self.skipped).tolist()]
        self._clear()
        played = self._play(self.purpose, plan, greedy=False, keep=True)
        self._count()
        self._row_seeds = self.store.endings["seed"][:, : self.per_slot].flatten()
        self.skipped += self.store.cursor["lost"]
        self.episodes += self.n_slots * self.per_slot
        busy = np.array(played.lengths).reshape(self.n_slots, self.per_slot).sum(1)
        self._slot_steps += int(busy.max()) * self.n_slots
        self._waited += int(busy.max()) * self.n_slots - int(busy.sum())
        longest = max(played.lengths)
        final = self._final
        tensors = {k: torch.from_numpy(v[:, : longest + (k in final)]) for k, v in self.store.steps.items()}
        none = {f"final_{k}": tensors[k][:0, 0] for k in final}
        batch = Batch.of(tensors, **none, final_index=torch.zeros(0, 2, dtype=torch.int64))
        return batch.to(self.device), played

    def use(self) -> Use:
        """Return how collecting uses the machine, for :func:`~oamarl.utils.hints.hints`."""
        return self._use(self.vec.workers, self.vec.native)

    def _use(self, workers: int, native: bool) -> Use:
        return Use(
            cores=usable_cpus(), busy=in_use(), workers=workers, native=native,
            gpu=torch.cuda.is_available(), device=self.device.type,
            compiled=library("network") is not None, waiting=self._waited / max(self._slot_steps, 1),
        )  # fmt: skip

    def origin(self, batch: Batch, row: int, step: int) -> tuple[int, int]:
        """Return slot and episode seed of a step of the batch that was collected last."""
        return row // self.per_slot, int(self._row_seeds[row])

    @property
    def _final(self) -> list[str]:
        """Names of the fields of which there is a final value."""
        return [f.name for f in fields_of(self.info, self.fields) if f.final]

    @property
    def _batch_shape(self) -> tuple[int, int]:
        """Rows of a batch, and the most steps of a row."""
        return self.n_slots * self.per_slot, self.info.episode_limit

    @property
    def _segments(self) -> bool:
        """Whether batches are segments, in which episodes begin and end."""
        return False

    @property
    def _most(self) -> int:
        """Most episodes that a slot can end in a batch."""
        return self.per_slot

    # -- testing -----------------------------------------------------------------------------------------------

    def test(self, n_episodes: int, greedy: bool) -> Episodes:
        """Play exactly ``n_episodes`` test episodes; they leave training as it is.

        They are the same episodes at every test of a run, down to the noise of sampled actions: common seeds make
        tests comparable.
        """
        timers = self.time_env, self.time_act
        plan = [list(range(len(range(b, n_episodes, self.n_slots)))) for b in range(self.n_slots)]
        played = self._play("test", plan, greedy, keep=False)
        self.time_env, self.time_act = timers
        return played

    # -- state -------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the counters: whole-episode runners have no other state between batches."""
        return {
            "t_env": self.t_env, "episodes": self.episodes, "agent_steps": self.agent_steps,
            "skipped": self.skipped.copy(), "worker_restarts": self.worker_restarts,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> list[str]:
        """Restore the counters; returns notices (none)."""
        self.t_env, self.episodes, self.agent_steps = (int(state[k]) for k in ("t_env", "episodes", "agent_steps"))
        self.skipped = torch.as_tensor(state["skipped"]).numpy().copy()
        self._earlier_restarts = int(state["worker_restarts"]) - self._restarts
        return []

    @property
    def worker_restarts(self) -> int:
        """Environment workers that were started again so far, those before a resume included."""
        return self._earlier_restarts + self._restarts

    @property
    def _restarts(self) -> int:
        """Those of this process."""
        return self.vec.worker_restarts

    def close(self) -> None:
        """Release environments and workers."""
        self.vec.close()
