"""Whole episodes from every slot: the `episode` and `parallel` runners, over any backend.

Each slot contributes the same number of episodes to a batch; a slot that has played its share waits for the
others, which is the price of no bias towards short episodes. `episode` is `parallel` with one slot.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from ..components.batch import Batch
from ..components.config import key
from ..components.errors import UserError
from ..components.generators import generator
from ..components.hints import Use
from ..components.machine import in_use
from ..components.seeding import episode_seed
from ..controllers.acting import Noise
from ..controllers.basic_mac import BasicMAC
from ..envs.base import EnvInfo
from ..envs.vec import VecConfig, VecEnv, make_vec, usable_cpus
from .common import Acting, Episodes


@dataclass(frozen=True)
class EpisodeConfig(VecConfig):
    """What the whole-episode runners read."""

    batch_size_run: int = key("Environments stepped side by side (slots).", low=1)
    batch_size: int | None = key(
        "Episodes to train on at once, a multiple of batch_size_run; null: one episode from each slot.", low=1
    )
    common_reward: bool = key("All agents are rewarded for the team's reward; otherwise each for its own.")
    reward_scalarisation: str = key("How agents' rewards make the common one.", choices=("sum", "mean"))


class EpisodeRunner:
    """Steps B slots with one network call for all of them, ended ones included: the call's shape, and so its last
    bits, depend on the configuration alone.

    Args:
        config: what it reads.
        env, env_args: the environment.
        mac: who acts.
        device: where the controller's networks are.
        seed: the run's seed.
    """

    Config = EpisodeConfig

    def __init__(
        self,
        config: EpisodeConfig,
        env: str,
        env_args: Mapping[str, Any],
        mac: BasicMAC,
        device: torch.device,
        seed: int,
    ) -> None:
        self.config, self.mac, self.device, self.seed = config, mac, device, seed
        self.task = env, env_args
        self.n_slots = config.batch_size_run
        self.per_slot = (config.batch_size or self.n_slots) // self.n_slots
        self.vec: VecEnv = make_vec(env, env_args, self.n_slots, **config.options())
        self.info = self.vec.info
        self.t_env = self.episodes = self.agent_steps = 0
        #: episodes of each slot that were lost with a worker: their numbers are not used again
        self.skipped = np.zeros(self.n_slots, np.int64)
        self._earlier_restarts = 0
        self._row_seeds = np.full(self.n_slots * self.per_slot, -1, np.int64)
        self.acting = generator(seed, "acting")
        self.time_env = self.time_act = 0.0
        #: steps that slots could have made in this process's batches, and those in which they waited for others
        self._slot_steps = self._waited = 0
        self._store: dict[str, np.ndarray] = {}

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse a batch that the slots cannot share evenly, and `episode` with several slots."""
        slots, size = values["batch_size_run"], values["batch_size"]
        if values["runner"] == "episode" and slots != 1:
            raise UserError(f"runner=episode steps one environment: batch_size_run={slots} needs runner=parallel.")
        if size is not None and size % slots:
            raise UserError(
                f"batch_size={size} must be a multiple of batch_size_run={slots}: each slot plays as many episodes."
            )

    # -- the loop shared by training and testing ----------------------------------------------------------

    def _play(
        self,
        purpose: Literal["train", "test"],
        plan: list[list[int]],
        noise: torch.Generator | None,
        store: dict[str, np.ndarray] | None,
    ) -> Episodes:
        """Play the episodes ``plan[b]`` (numbers) in each slot b, one after another.

        In place of an episode that is lost with its worker comes one more, with the number that follows the plan's.

        Args:
            noise: where action noise comes from; None acts greedily.
            store: arrays [rows, T+1, ...] to fill, row = position in the plan, slot by slot; None keeps nothing.
        """
        out, n = self.vec.arrays, self.n_slots
        todo = [list(numbers) for numbers in plan]
        beyond = [numbers[-1] + 1 if numbers else 0 for numbers in plan]
        first = np.cumsum([0, *(len(p) for p in plan)])[:-1]
        row, step = first.copy(), np.zeros(n, np.int64)
        active = np.array([bool(p) for p in todo])
        hidden = self.mac.initial_hidden(n)
        last = np.full((n, self.info.n_agents), -1, np.int64)
        returns = np.zeros((n, self.info.n_agents), np.float64)
        # an idle slot is a dummy row of the network call: all actions legal, whatever is left in its arrays
        finished: dict[int, tuple[np.ndarray, int, np.ndarray]] = {}
        slots = np.flatnonzero(active)
        now = time.perf_counter()
        self._reset(purpose, slots, np.array([todo[b].pop(0) for b in slots]))
        self.time_env += time.perf_counter() - now
        act = self._actor(noise)
        while active.any():
            began = time.perf_counter()
            policy, choice, hidden = act(last, hidden)
            now = time.perf_counter()
            self.time_act += now - began
            at, taken = self._places(row, step, active)
            if store is not None:
                self._keep(store, at, taken, "obs", "state", "avail", "alive")
            alive = out.alive.sum(-1)
            actions = choice.cpu().numpy()
            self.vec.begin(actions, active)
            if store is not None:  # while the workers are at it
                store["actions"][at] = actions[taken]
                store["log_prob"][at] = policy.log_prob(choice).cpu().numpy()[taken]
            self.vec.finish()
            lost, real = np.flatnonzero(self.vec.lost), active
            if len(lost):
                real = active & ~self.vec.lost
                at, taken = (row[real], step[real]), real
            reward = self._reward(out.reward)
            returns[real] += reward[real]
            if store is not None:
                store["filled"][at] = True
                store["reward"][at] = reward[taken]
                self._keep(store, at, taken, "terminated", "truncated", "agent_terminated")
            step[real] += 1
            last = actions
            if purpose == "train":
                self.t_env += int(np.count_nonzero(real))
                self.agent_steps += int(alive[real].sum())
            for b in lost:
                todo[b].append(beyond[b])
                beyond[b] += 1
                if store is not None:
                    self._drop(int(b), store, int(row[b]), int(step[b]))
            ended = np.flatnonzero(real & (out.terminated | out.truncated))
            for b in ended:
                finished[int(row[b])] = (returns[b].copy(), int(step[b]), out.metrics[b].astype(np.float64))
                if store is not None:
                    self._keep_end(int(b), store, int(row[b]), int(step[b]))
            row[ended] += 1
            ended = np.concatenate([ended, lost])
            if len(ended):
                step[ended], returns[ended], last[ended] = 0, 0.0, -1
                hidden[torch.from_numpy(ended).to(hidden.device)] = 0.0
                again = np.array([b for b in ended if todo[b]], np.int64)
                active[[b for b in ended if not todo[b]]] = False
                self._reset(purpose, again, np.array([todo[b].pop(0) for b in again]))
            self.time_env += time.perf_counter() - now
        act.settle()
        ends = [finished[r] for r in sorted(finished)]
        return Episodes([r for r, *_ in ends], [length for _, length, _ in ends], [m for *_, m in ends])

    def _keep(self, store: dict[str, np.ndarray], at: tuple[Any, Any], taken: Any, *names: str) -> None:
        """Keep what the slots ``taken`` show, at the places ``at``."""
        for name in names:
            store[name][at] = getattr(self.vec.arrays, name)[taken]

    def _keep_end(self, b: int, store: dict[str, np.ndarray], row: int, step: int) -> None:
        """Keep what slot b's episode ended with."""
        self._row_seeds[row] = self.vec.seeds[b]
        self._keep(store, (row, step), b, "obs", "state", "avail")

    def _drop(self, b: int, store: dict[str, np.ndarray], row: int, step: int) -> None:
        """Forget the ``step`` steps of slot b's training episode, which was lost with its worker."""
        self.t_env -= step
        self.agent_steps -= int(store["alive"][row, :step].sum())
        self.skipped[b] += 1
        for array in store.values():
            array[row] = 0

    def _reset(self, purpose: Literal["train", "test"], slots: np.ndarray, numbers: np.ndarray) -> None:
        if len(slots):
            seeds = [episode_seed(self.seed, purpose, int(b), int(k)) for b, k in zip(slots, numbers, strict=False)]
            self.vec.reset(slots, np.array(seeds, np.int64))

    @staticmethod
    def _places(row: np.ndarray, step: np.ndarray, active: np.ndarray) -> tuple[tuple[Any, Any], Any]:
        """Where in the store this step of the slots goes, and which of the slots it is (slices where they will do)."""
        if active.all() and (step == step[0]).all() and len(row) == row[-1] - row[0] + 1:
            return (slice(row[0], row[-1] + 1), int(step[0])), slice(None)
        return (row[active], step[active]), active

    def _actor(self, noise: torch.Generator | None) -> Acting:
        shape = (self.n_slots, self.info.n_agents, self.info.n_actions)
        drawn = None if noise is None else Noise(noise, shape, self.device)
        return Acting(self.mac.actor(self.n_slots), self.vec.arrays, drawn, self.device)

    def _reward(self, reward: np.ndarray) -> np.ndarray:
        """[B, N] rewards as the learners see them: the common one in every column, or each agent's own."""
        if not self.config.common_reward or self.info.team_reward:
            return reward
        team = (
            reward.sum(-1, keepdims=True)
            if self.config.reward_scalarisation == "sum"
            else reward.mean(-1, keepdims=True)
        )
        return np.broadcast_to(team, reward.shape)

    # -- training ----------------------------------------------------------------------------------------------

    def run(self) -> tuple[Batch, Episodes]:
        """Collect one batch: `batch_size` whole episodes, cut to the longest."""
        began = self.episodes // self.n_slots
        plan = [list(range(k, k + self.per_slot)) for k in (began + self.skipped).tolist()]
        store = self._storage()
        played = self._play("train", plan, self.acting, store)
        self.episodes += self.n_slots * self.per_slot
        busy = np.array(played.lengths).reshape(self.n_slots, self.per_slot).sum(1)
        self._slot_steps += int(busy.max()) * self.n_slots
        self._waited += int(busy.max()) * self.n_slots - int(busy.sum())
        steps = max(played.lengths)
        tensors = {k: torch.from_numpy(v[:, : steps + (k in ("obs", "state", "avail"))]) for k, v in store.items()}
        none = {f"final_{k}": tensors[k][:0, 0] for k in ("obs", "state", "avail")}
        batch = Batch(**tensors, **none, final_index=torch.zeros(0, 2, dtype=torch.int64))
        return batch.to(self.device), played

    def use(self) -> Use:
        """Return what collecting has of the machine, for :func:`~oamarl.components.hints.hints`."""
        return Use(
            cores=usable_cpus(), busy=in_use(), workers=self.vec.workers, native=self.vec.native,
            gpu=torch.cuda.is_available(), device=self.device.type, waiting=self._waited / max(self._slot_steps, 1),
        )  # fmt: skip

    def origin(self, batch: Batch, row: int, step: int) -> tuple[int, int]:
        """Return slot and episode seed of a step of the batch that was collected last."""
        return row // self.per_slot, int(self._row_seeds[row])

    @property
    def _batch_shape(self) -> tuple[int, int]:
        """Rows of a batch, and the most steps of a row."""
        return self.n_slots * self.per_slot, self.info.episode_limit

    def _storage(self) -> dict[str, np.ndarray]:
        """The preallocated arrays of one batch, cleared (what is not filled must not hold the last batch's flags)."""
        if not self._store:
            i, (rows, t) = self.info, self._batch_shape
            n = i.n_agents
            self._store = {
                "obs": np.zeros((rows, t + 1, n, i.obs_size), np.float32),
                "state": np.zeros((rows, t + 1, i.state_size), np.float32),
                "avail": np.zeros((rows, t + 1, n, i.n_actions), bool),
                "actions": np.zeros((rows, t, n), np.int64),
                "log_prob": np.zeros((rows, t, n), np.float32),
                "reward": np.zeros((rows, t, n), np.float32),
                "terminated": np.zeros((rows, t), bool),
                "truncated": np.zeros((rows, t), bool),
                "agent_terminated": np.zeros((rows, t, n), bool),
                "filled": np.zeros((rows, t), bool),
                "alive": np.zeros((rows, t, n), bool),
            }
        for array in self._store.values():
            array.fill(0)
        return self._store

    # -- testing -----------------------------------------------------------------------------------------------

    def test(self, n_episodes: int, greedy: bool) -> Episodes:
        """Play exactly ``n_episodes`` test episodes; training goes on afterwards as if they had not been.

        They are the same episodes at every test of a run (common seeds make tests comparable); sampled actions
        come from a stream of their own.
        """
        timers = self.time_env, self.time_act
        plan = [list(range(len(range(b, n_episodes, self.n_slots)))) for b in range(self.n_slots)]
        noise = None if greedy else generator(self.seed, "test", self.t_env)
        played = self._play("test", plan, noise, None)
        self.time_env, self.time_act = timers
        return played

    # -- state -------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Counters and the acting stream: between batches nothing else is alive."""
        return {
            "t_env": self.t_env, "episodes": self.episodes, "agent_steps": self.agent_steps,
            "acting": self.acting.get_state(), "skipped": self.skipped.copy(),
            "worker_restarts": self.worker_restarts,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> list[str]:
        """Take counters and stream back; returns notices (none)."""
        self.t_env, self.episodes, self.agent_steps = (int(state[k]) for k in ("t_env", "episodes", "agent_steps"))
        self.acting.set_state(state["acting"])
        self.skipped = torch.as_tensor(state["skipped"]).numpy().copy()
        self._earlier_restarts = int(state["worker_restarts"]) - self.vec.worker_restarts
        return []

    @property
    def worker_restarts(self) -> int:
        """Environment workers that were started again so far, those before a resume included."""
        return self._earlier_restarts + self.vec.worker_restarts

    def close(self) -> None:
        """Release environments and workers."""
        self.vec.close()
