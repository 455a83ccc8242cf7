"""Slots stepped one after another, one environment instance a slot."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...utils.errors import UserError
from ...utils.said import CROWD, RENAMED, Say, say_once
from ..base import Arrays, Env
from ..build import BUILDING, RESETTING, STEPPING, EnvError, make_env
from ..closing import close_all, only_here
from ..notes import NOT_BACK, Notes, listen, numbers, renamed
from .watch import Watch


class Slots:
    """Consecutive slots, stepped one after another in this process; used by `serial` and by each worker.

    Attributes:
        arrays: what they show.
        notes: what their environments tell at an episode's end.
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
        notes: Notes,
        first: int = 0,
        busy: np.ndarray | None = None,
        say: Say = say_once,
    ) -> None:
        """Build an environment for each row of ``arrays``; slots are counted from 0 here.

        Args:
            seeds, steps: [S] int64 to be kept up to date.
            notes: takes the numbers that environments tell in their infos.
            first: number of the first slot in the whole run.
            busy: [3] int64 that always holds the slot that is being built, reset or stepped (its number in the whole
                run, -1 for none), how many such calls there were, and which of them it is.
            say: takes warnings.
        """
        self.arrays, self.seeds, self.steps, self.notes, self.first = arrays, seeds, steps, notes, first
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
        self.watch = Watch(self.envs[0].info, arrays, seeds, steps, first, say)
        for i, built in enumerate(self.envs):
            listen(built, Ear(self.watch, notes, i))

    def reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        """Start episodes in ``slots`` [k] from ``seeds`` [k].

        Raises:
            UserError: an agent has no legal action.
            EnvError: an environment failed (the cause is chained).
        """
        self.watch.begin(slots, seeds)
        self.notes.begin(slots)
        self.busy[2] = RESETTING
        for i, seed in zip(slots.tolist(), seeds.tolist(), strict=True):
            self._call("reset", i, self.envs[i].reset, seed)
        self.busy[0] = -1
        self.watch.check()

    def step(self, actions: np.ndarray, active: np.ndarray) -> None:
        """Apply ``actions`` [S, N] in the slots where ``active`` [S].

        Raises:
            UserError: an agent has no legal action.
            EnvError: an environment failed (the cause is chained), or an episode outlives its limit.
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
        close_all([env.close for env in self.envs], self.watch.info.name)


class Ear:
    """Takes what an environment tells beside its arrays: numbers go to the notes, and warnings to the watch.

    Args:
        watch, notes: of the slots.
        slot: which of them it is.
    """

    def __init__(self, watch: Watch, notes: Notes, slot: int) -> None:
        self._watch, self._notes, self._slot = watch, notes, slot

    def told(self, infos: Sequence[Any]) -> None:
        """Note the numbers of the episode that ends."""
        told, name = numbers(infos), self._watch.info.name
        if told.renamed:
            keys = ", ".join(f"'{key}'" for key in told.renamed)
            self._watch.say(RENAMED, f"The environment '{name}' tells {keys} in its info: {renamed(told.renamed)}.")
        if not self._notes.write(self._slot, told.values):
            self._watch.say(
                CROWD,
                f"The environment '{name}' tells more numbers in its info than can be logged: {self._notes.width} of "
                "them are, those that came first.",
            )

    def back(self, agent: Any) -> None:
        """Warn of an agent whose end is taken back."""
        self._watch.back(self._slot, agent, NOT_BACK)
