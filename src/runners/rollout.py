"""The `rollout` runner: segments of fixed length from every slot, with automatic reset, so that no slot waits.

A batch is B rows of `rollout_length` steps. An episode may begin and end anywhere in them; where one ends, the
observations it ended with are kept apart (``Batch.final_*``) and the next step belongs to the next episode. An
episode that is under way at a segment's end continues in the next one, with the policies' hidden state.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..components.batch import Batch
from ..components.experience import fields_of, no_action, steps_layout
from ..components.seeding import episode_seed
from ..controllers.basic_mac import BasicMAC
from ..envs.base import EnvInfo
from ..envs.on_device import check_device_form
from ..envs.vector.base import VecEnv
from ..envs.vector.episode_store import Job, cursor_layout
from ..envs.vector.make import check_memory, make_vec
from ..envs.vector.playing import bring_back
from ..utils.errors import UserError
from ..utils.schema.keys import key
from .episode import EpisodeConfig, EpisodeRunner
from .episodes import Episodes

#: What a checkpoint holds of every slot as it is.
KEPT = ("number", "step", "returns", "last", "hidden", "fresh")


@dataclass(frozen=True)
class RolloutConfig(EpisodeConfig):
    """Configuration of the segment runner."""

    rollout_length: int = key("Steps of each environment in a batch.", low=1)


class RolloutRunner(EpisodeRunner):
    """Runner that steps all B slots at every step; its arguments are :class:`~.episode.EpisodeRunner`'s."""

    Config = RolloutConfig
    config: RolloutConfig

    def __init__(
        self, config: RolloutConfig, env: str, env_args: Mapping[str, Any], mac: BasicMAC, device: torch.device,
        seed: int, make: Callable[..., VecEnv] = make_vec,
    ) -> None:  # fmt: skip
        super().__init__(config, env, env_args, mac, device, seed, make)
        self._tester: EpisodeRunner | None = None

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse a batch counted in episodes."""
        if values["batch_size"] is not None:
            raise UserError(
                f"batch_size={values['batch_size']} counts whole episodes: runner=rollout trains on "
                "batch_size_run segments of rollout_length steps, leave batch_size null."
            )
        slots, steps = values["batch_size_run"], values["rollout_length"]
        room = {**steps_layout(info, slots, steps), **cursor_layout(info, slots, 1, played=True)}
        size = f"batch_size_run={slots} and rollout_length={steps}"
        if values["backend"] == "device":
            check_device_form(values["env"])
            # the observations after every step are kept too
            final = {f"final_{f.name}": room[f.name] for f in fields_of(info) if f.final}
            cls.check_room({**room, **final}, info, size, device_memory() if values["use_cuda"] else None)
            return
        cls.check_room(room, info, size)
        check_memory(info, 2 * slots, values["backend"])  # tests are played in environments of their own

    # -- training ----------------------------------------------------------------------------------------------

    def run(self) -> tuple[Batch, Episodes]:
        """Collect one batch: `rollout_length` steps of every slot; returns it and the episodes that ended in it."""
        cursor, steps, endings = self.store.cursor, self.store.steps, self.store.endings
        cursor["hidden"][cursor["fresh"]], cursor["last"][cursor["fresh"]] = 0.0, no_action(self.info)
        hidden, before = cursor["hidden"].copy(), cursor["last"].copy()
        self._clear()
        cursor["row"][:] = np.arange(self.n_slots)
        job = Job(self.seed, "train", False, self._rewards, True, None, self.config.rollout_length, self.t_env)
        self._play_job(job)
        self._count()
        order = [(b, k) for b in range(self.n_slots) for k in range(int(cursor["done"][b]))]
        order.sort(key=lambda x: int(endings["column"][x]))
        self.episodes += len(order)
        where = tuple(np.array(order, np.int64).reshape(-1, 2).T)
        finals = {f"final_{name}": torch.from_numpy(endings[name][where]) for name in self._final}
        index = np.stack([where[0], endings["column"][where]], axis=1)
        batch = Batch.of(
            {k: torch.from_numpy(v) for k, v in steps.items()}, **finals, final_index=torch.from_numpy(index),
            hidden=torch.from_numpy(hidden), before=torch.from_numpy(before),
        )  # fmt: skip
        return batch.to(self.device), Episodes.of(self.store, order, self.vec.info_metrics)

    def origin(self, batch: Batch, row: int, step: int) -> tuple[int, int]:
        """Return slot and episode seed of a step of the batch that was collected last."""
        number = self._number_of(row) - int(batch.begins[row, step + 1 :].sum())
        return row, episode_seed(self.seed, "train", row, number)

    def _number_of(self, row: int) -> int:
        """Return the number of a slot's present episode."""
        return int(self.store.cursor["number"][row])

    @property
    def _batch_shape(self) -> tuple[int, int]:
        return self.n_slots, self.config.rollout_length

    @property
    def _segments(self) -> bool:
        return True

    @property
    def _most(self) -> int:
        return self.config.rollout_length

    # -- testing -----------------------------------------------------------------------------------------------

    def test(self, n_episodes: int, greedy: bool) -> Episodes:
        """Play exactly ``n_episodes`` test episodes, in environments of their own: training's are under way."""
        enough = self._tester is not None and self._tester.n_slots >= min(n_episodes, self.n_slots)
        if self._tester is None or not enough:
            self._close_tester()
            self._tester = self._new_tester(n_episodes)
        self._tester.t_env = self.t_env
        return self._tester.test(n_episodes, greedy)

    def _new_tester(self, n_episodes: int) -> EpisodeRunner:
        """Build the runner of tests of ``n_episodes``."""
        return EpisodeRunner(self.config, *self.task, self.mac, self.device, self.seed, self.make)

    # -- state -------------------------------------------------------------------------------------------------

    @property
    def worker_restarts(self) -> int:
        """Workers started again in the whole run, those of the tests included."""
        return super().worker_restarts + (self._tester.vec.worker_restarts if self._tester else 0)

    def _seen(self, b: int) -> str:
        """Return a digest of slot b's observations, state, legal actions and alive agents."""
        out = self.vec.arrays
        return digest((out.obs[b], out.state[b], out.avail[b], out.alive[b]))

    def state_dict(self) -> dict[str, Any]:
        """Return the counters and each slot's episode: its number and its actions since its reset."""
        return super().state_dict() | {"slots": self._slots_state()}

    def _slots_state(self) -> dict[str, Any]:
        cursor = self.store.cursor
        return {name: cursor[name].copy() for name in KEPT} | {
            "played": cursor["played"][:, : int(cursor["step"].max())].copy(),
            "seen": [self._seen(b) for b in range(self.n_slots)],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> list[str]:
        """Restore the state: every slot's episode is replayed up to where it was.

        Where that does not lead back (an environment that cannot be repeated), the slot begins a new episode.

        Returns:
            a sentence about that, if it was so.
        """
        super().load_state_dict(state)
        astray = self._load_slots(state["slots"])
        return (
            [
                f"{len(astray)} of {self.n_slots} environments could not be brought back to where they were (the same "
                "seed and actions led elsewhere): they begin new episodes, and the run is not exactly the same one."
            ]
            if astray
            else []
        )

    def _load_slots(self, slots: Mapping[str, Any]) -> list[int]:
        """Bring every slot's episode to where it was; returns the slots where that failed."""
        cursor = self.store.cursor
        for name in KEPT:
            cursor[name][...] = torch.as_tensor(slots[name]).numpy()  # a checkpoint's arrays are tensors
        actions, under_way = torch.as_tensor(slots["played"]).numpy(), ~cursor["fresh"]
        cursor["played"][:, : actions.shape[1]] = actions
        going = np.flatnonzero(under_way)
        bring_back(self.vec, going, self._episode_seeds(going), actions, cursor["step"])
        astray = [b for b in np.flatnonzero(under_way).tolist() if self._seen(b) != slots["seen"][b]]
        cursor["fresh"][astray] = True
        return astray

    def _episode_seeds(self, slots: np.ndarray) -> np.ndarray:
        """Return the seeds [k] of the present episodes of ``slots`` [k]."""
        numbers = self.store.cursor["number"][slots].tolist()
        seeds = [episode_seed(self.seed, "train", b, k) for b, k in zip(slots.tolist(), numbers, strict=True)]
        return np.array(seeds, np.int64)

    def close(self) -> None:
        """Release environments and workers."""
        super().close()
        self._close_tester()

    def _close_tester(self) -> None:
        if self._tester is not None:
            self._tester.close()


def digest(arrays: Iterable[np.ndarray]) -> str:
    """Return a digest of what a slot shows."""
    return hashlib.blake2b(b"".join(x.tobytes() for x in arrays), digest_size=16).hexdigest()


def device_memory() -> int | None:
    """Return the bytes of the GPU that torch uses; None where it uses none."""
    return int(torch.cuda.mem_get_info()[1]) if torch.cuda.is_available() else None
