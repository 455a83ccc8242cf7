"""Segments of fixed length from every slot, with automatic reset: nobody waits for anybody.

A batch is B rows of `rollout_length` steps. An episode may begin and end anywhere in them; where one ends, the
observations it ended with are kept apart (``Batch.final_*``) and the next step belongs to the next episode. What
is still going on at a segment's end goes on in the next one, the policies' hidden state included.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..components.batch import Batch
from ..components.config import key
from ..components.errors import UserError
from ..components.seeding import episode_seed
from ..controllers.basic_mac import BasicMAC
from ..envs.base import EnvInfo
from .common import Episodes
from .episode import EpisodeConfig, EpisodeRunner


@dataclass(frozen=True)
class RolloutConfig(EpisodeConfig):
    """What the segment runner reads."""

    rollout_length: int = key("Steps of each environment in a batch.", low=1)


class RolloutRunner(EpisodeRunner):
    """Steps all B slots, always; its arguments are :class:`~.episode.EpisodeRunner`'s."""

    Config = RolloutConfig
    config: RolloutConfig

    def __init__(
        self, config: RolloutConfig, env: str, env_args: Mapping[str, Any], mac: BasicMAC, device: torch.device,
        seed: int,
    ) -> None:  # fmt: skip
        super().__init__(config, env, env_args, mac, device, seed)
        b, n = self.n_slots, self.info.n_agents
        self._tester: EpisodeRunner | None = None
        #: number of each slot's present episode; -1 before the first
        self._number = np.full(b, -1, np.int64)
        self._step = np.zeros(b, np.int64)
        self._returns = np.zeros((b, n), np.float64)
        self._last = np.full((b, n), -1, np.int64)
        self._hidden = mac.initial_hidden(b)
        # what a slot has done since its reset: played again, it leads to where the slot is now
        self._played = np.zeros((b, self.info.episode_limit, n), np.int64)

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse a batch counted in episodes."""
        if values["batch_size"] is not None:
            raise UserError(
                f"batch_size={values['batch_size']} counts whole episodes: runner=rollout trains on "
                "batch_size_run segments of rollout_length steps, leave batch_size null."
            )

    # -- training ----------------------------------------------------------------------------------------------

    def run(self) -> tuple[Batch, Episodes]:
        """Collect one batch: `rollout_length` steps of every slot; returns it and the episodes that ended in it."""
        if self._number[0] < 0:
            now = time.perf_counter()
            self._begin(np.arange(self.n_slots))
            self.time_env += time.perf_counter() - now
        store, played, finals = self._storage(), Episodes(), []
        hidden, before = self._hidden.clone(), torch.from_numpy(self._last.copy())
        everywhere, act = np.ones(self.n_slots, bool), self._actor(self.acting)
        for t in range(self.config.rollout_length):
            began = time.perf_counter()
            policy, choice, self._hidden = act(self._last, self._hidden)
            now = time.perf_counter()
            self.time_act += now - began
            self._show(store, t)
            actions = choice.cpu().numpy()
            self.vec.begin(actions, everywhere)
            # while the workers are at it
            store["actions"][:, t], store["log_prob"][:, t] = actions, policy.log_prob(choice).cpu().numpy()
            self.vec.finish()
            finals += self._take(store, t, actions, played)
            self.time_env += time.perf_counter() - now
        act.settle()
        self._show(store, self.config.rollout_length)
        tensors = {k: torch.from_numpy(v) for k, v in store.items()}
        batch = Batch(**tensors, **self._finals(finals), hidden=hidden, before=before)
        return batch.to(self.device), played

    def _show(self, store: dict[str, np.ndarray], t: int) -> None:
        """Keep what the slots show before step ``t``."""
        for name in ("obs", "state", "avail", "alive"):
            if t < store[name].shape[1]:
                store[name][:, t] = getattr(self.vec.arrays, name)

    def _take(
        self, store: dict[str, np.ndarray], t: int, actions: np.ndarray, played: Episodes
    ) -> list[tuple[int, int, dict[str, np.ndarray]]]:
        """Keep what step ``t`` led to, and begin a new episode where one ended; returns their final observations."""
        out, real = self.vec.arrays, ~self.vec.lost
        reward = self._reward(out.reward)
        store["filled"][:, t], store["reward"][:, t] = real, reward
        for name in ("terminated", "truncated", "agent_terminated"):
            store[name][:, t] = getattr(out, name)
        self._played[np.arange(self.n_slots), self._step] = actions
        self._step += 1
        self._returns += reward
        self._last = actions.copy()
        self.t_env += int(real.sum())
        self.agent_steps += int(store["alive"][real, t].sum())
        over = out.terminated | out.truncated
        finals = []
        for b in np.flatnonzero(over & real).tolist():
            played.returns.append(self._returns[b].copy())
            played.lengths.append(int(self._step[b]))
            played.metrics.append(out.metrics[b].astype(np.float64))
            finals.append((b, t, {name: getattr(out, name)[b].copy() for name in ("obs", "state", "avail")}))
        self.episodes += len(finals)
        self._begin(np.flatnonzero(over | ~real))
        return finals

    def _begin(self, slots: np.ndarray) -> None:
        """Begin the next episode in ``slots`` [k]."""
        if len(slots):
            self._number[slots] += 1
            self._reset("train", slots, self._number[slots])
            self._step[slots], self._returns[slots], self._last[slots] = 0, 0.0, -1
            self._hidden[torch.from_numpy(slots).to(self._hidden.device)] = 0.0

    def _finals(self, finals: list[tuple[int, int, dict[str, np.ndarray]]]) -> dict[str, torch.Tensor]:
        shapes = {name: getattr(self.vec.arrays, name)[:0] for name in ("obs", "state", "avail")}
        return {
            f"final_{name}": torch.from_numpy(np.stack([seen[name] for *_, seen in finals]) if finals else none)
            for name, none in shapes.items()
        } | {"final_index": torch.tensor([[b, t] for b, t, _ in finals], dtype=torch.int64).view(-1, 2)}

    def origin(self, batch: Batch, row: int, step: int) -> tuple[int, int]:
        """Return slot and episode seed of a step of the batch that was collected last."""
        number = int(self._number[row]) - int(batch.begins[row, step + 1 :].sum())
        return row, episode_seed(self.seed, "train", row, number)

    @property
    def _batch_shape(self) -> tuple[int, int]:
        return self.n_slots, self.config.rollout_length

    # -- testing -----------------------------------------------------------------------------------------------

    def test(self, n_episodes: int, greedy: bool) -> Episodes:
        """Play exactly ``n_episodes`` test episodes, in environments of their own: training's are under way."""
        if self._tester is None:
            self._tester = EpisodeRunner(self.config, *self.task, self.mac, self.device, self.seed)
        self._tester.t_env = self.t_env
        return self._tester.test(n_episodes, greedy)

    # -- state -------------------------------------------------------------------------------------------------

    @property
    def worker_restarts(self) -> int:
        """Workers started again in the whole run, those of the tests included."""
        return super().worker_restarts + (self._tester.vec.worker_restarts if self._tester else 0)

    def _seen(self, b: int) -> str:
        """A digest of what slot b shows."""
        out = self.vec.arrays
        shown = (out.obs[b], out.state[b], out.avail[b], out.alive[b])
        return hashlib.blake2b(b"".join(x.tobytes() for x in shown), digest_size=16).hexdigest()

    def state_dict(self) -> dict[str, Any]:
        """Counters, the acting stream, and each slot's episode: its number and its actions since its reset."""
        slots = {
            "number": self._number.copy(), "step": self._step.copy(), "returns": self._returns.copy(),
            "last": self._last.copy(), "hidden": self._hidden.clone(),
            "played": self._played[:, : int(self._step.max())].copy(),
            "seen": [self._seen(b) for b in range(self.n_slots)],
        }  # fmt: skip
        return super().state_dict() | {"slots": slots}

    def load_state_dict(self, state: Mapping[str, Any]) -> list[str]:
        """Take the state back: every slot's episode is played again up to where it was.

        Where that does not lead back (an environment that cannot be repeated), the slot begins a new episode.

        Returns:
            a sentence about that, if it was so.
        """
        super().load_state_dict(state)
        slots = state["slots"]
        # copies: the state may be alive elsewhere, and a checkpoint's arrays are tensors
        kept = {k: torch.as_tensor(slots[k]).numpy().copy() for k in ("number", "step", "last", "returns", "played")}
        self._number, self._step, self._last, self._returns = (kept[k] for k in ("number", "step", "last", "returns"))
        self._hidden = torch.as_tensor(slots["hidden"]).to(self.device).clone()
        actions = kept["played"]
        if self._number[0] < 0:
            return []
        self._played[:, : actions.shape[1]] = actions
        self._reset("train", np.arange(self.n_slots), self._number)
        out = self.vec.arrays
        for t in range(actions.shape[1]):
            # an episode that ends too early is not the one that was played before
            self.vec.step(actions[:, t], (t < self._step) & ~(out.terminated | out.truncated | self.vec.lost))
        lost = np.array([b for b in range(self.n_slots) if self._seen(b) != slots["seen"][b]], np.int64)
        self._begin(lost)
        return (
            [
                f"{len(lost)} of {self.n_slots} environments could not be brought back to where they were (the same "
                "seed and actions led elsewhere): they begin new episodes, and the run is not exactly the same one."
            ]
            if len(lost)
            else []
        )

    def close(self) -> None:
        """Release environments and workers."""
        super().close()
        if self._tester is not None:
            self._tester.close()
