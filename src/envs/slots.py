"""Slots stepped one after another, one environment instance a slot."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..components.errors import UserError
from .base import Arrays, Env
from .build import BUILDING, RESETTING, STEPPING, EnvError, make_env
from .closing import close_all, only_here
from .watch import Watch


class Slots:
    """Consecutive slots, stepped one after another in this process; used by `serial` and by each worker.

    Attributes:
        arrays: what they show.
        seeds, steps: [S] int64, of each slot's episode.
        lost: [S] bool, never: where this process fails, it fails.
    """

    def __init__(
        self,
        env: str,
        env_args: Mapping[str, Any],
        arrays: Arrays,
        seeds: np.ndarray,
        steps: np.ndarray,
        first: int = 0,
        busy: np.ndarray | None = None,
    ) -> None:
        """Build an environment for each row of ``arrays``; slots are counted from 0 here.

        Args:
            seeds, steps: [S] int64 to be kept up to date.
            first: number of the first slot in the whole run.
            busy: [3] int64 that always holds the slot that is being built, reset or stepped (its number in the whole
                run, -1 for none), how many such calls there were, and which of them it is.
        """
        self.arrays, self.seeds, self.steps, self.first = arrays, seeds, steps, first
        self.process = os.getpid()
        self.lost = np.zeros(len(seeds), bool)
        self.busy = np.array([-1, 0, 0]) if busy is None else busy
        self.envs: list[Env] = []
        self.busy[2] = BUILDING
        for i in range(len(seeds)):
            self.busy[0] = first + i
            self.envs.append(make_env(env, env_args))
        self.busy[0] = -1
        self.rows = [arrays.slot(i) for i in range(len(seeds))]
        self.watch = Watch(self.envs[0].info.name, arrays, seeds, steps, first)

    def reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        """Start episodes in ``slots`` [k] from ``seeds`` [k].

        Raises:
            UserError: an agent has no legal action.
            EnvError: an environment failed (the cause is chained).
        """
        self.watch.begin(slots, seeds)
        self.busy[2] = RESETTING
        for i, seed in zip(slots.tolist(), seeds.tolist(), strict=True):
            self._call("reset", i, self.envs[i].reset, seed)
        self.busy[0] = -1
        self.watch.check()

    def step(self, actions: np.ndarray, active: np.ndarray) -> None:
        """Apply ``actions`` [S, N] in the slots where ``active`` [S].

        Raises:
            UserError: an agent has no legal action.
            EnvError: an environment failed (the cause is chained).
        """
        self.steps += active
        self.busy[2] = STEPPING
        for i in np.flatnonzero(active).tolist():
            self._call("step", i, self.envs[i].step, actions[i])
        self.busy[0] = -1
        self.watch.check()

    def _call(self, what: str, i: int, call: Callable[[Any, Arrays], None], given: Any) -> None:
        self.busy[0] = self.first + i
        self.busy[1] += 1
        try:
            call(given, self.rows[i])
        except UserError:
            raise
        except (Exception, SystemExit) as exc:
            only_here(self.process)
            if what == "step":
                what = f"step {self.steps[i]}"
            where = f"slot {self.first + i}, episode seed {self.seeds[i]}"
            shown = "".join(traceback.format_exception(exc)).rstrip()
            raise EnvError(
                f"The environment failed in {what} ({where}): {type(exc).__name__}: {exc}\n"
                f"--- its traceback ---\n{shown}"
            ) from exc
        only_here(self.process)

    def close(self) -> None:
        """Close every environment."""
        close_all([env.close for env in self.envs], self.watch.name)
