"""Slots stepped one after another, one environment instance a slot, and the checks of what any slots show."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...utils.errors import UserError, shortened, text_of
from ...utils.signals import Terminated
from ...utils.warn_once import END_TAKEN_BACK, OPPOSED, RENAMED, TOO_MANY, Warn, warn_once
from ..base import Arrays, Env, EnvInfo, Together
from ..build import BUILDING, RESETTING, STEPPING, EnvError, Unsound, make_env
from ..closing import close_all, only_here
from ..info_metrics import NOT_BACK, InfoMetrics, attach, renaming, summarise
from .opposed import RewardRecord, names_of

#: the rule about ends
FOR_GOOD = "an agent's end is for good"
#: characters of an environment's traceback that are shown
_SHOWN = 8000


def beyond_limit(info: EnvInfo) -> str:
    """Return what is wrong with an episode that is not over at its limit."""
    return f"the episode continues, and info.episode_limit={info.episode_limit}"


class SlotChecks:
    """Checks of S slots after each reset and step: episode limits, agents' ends, legal actions; keeps seeds and steps.

    Args:
        info: of the environment.
        arrays: what the slots show.
        seeds, steps: [S] int64, written here: each slot's episode seed (-1 before the first) and steps in it.
        first: number of the first slot in the whole run.
        warn: issues a warning, or passes it on to the process that does.
    """

    def __init__(
        self,
        info: EnvInfo,
        arrays: Arrays,
        seeds: np.ndarray,
        steps: np.ndarray,
        first: int = 0,
        warn: Warn = warn_once,
    ) -> None:
        self.info, self.arrays, self.seeds, self.steps, self.first, self._warn = info, arrays, seeds, steps, first, warn
        self._legal = b""  # the newest avail in which every agent had a legal action
        self._flags = b""  # the newest flags of agents
        self._began = np.zeros(len(seeds), bool)
        # agents of the present episodes that have ended, and those among them that were not alive then
        self._ended, self._down = np.zeros((2, *arrays.alive.shape), bool)
        self._extra = [arrays.extra[f.name] for f in info.extra if f.known == "after"]
        self._calls = 0  # that may come before a slot can be at its limit
        self._warned: set[str] = set()
        self._record = RewardRecord(info)

    def begin(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        """Record that episodes begin in ``slots`` [k] from ``seeds`` [k], and zero their rewards, flags, metrics."""
        out = self.arrays
        for array in (out.reward, out.terminated, out.truncated, out.agent_terminated, out.metrics, *self._extra):
            array[slots] = 0
        self.seeds[slots], self.steps[slots] = seeds, 0
        self._ended[slots] = self._down[slots] = False
        self._began[slots] = True

    def check(self) -> None:
        """Check the arrays after a reset or a step.

        Raises:
            UserError: an agent has no legal action.
            Unsound: an episode is not over at the environment's limit.
        """
        self._calls -= 1
        if self._calls <= 0:
            self._check_limit()
        self._check_ends()
        self._check_actions()

    def _where(self, slot: int) -> str:
        return f"after step {self.steps[slot]} (slot {self.first + slot}, episode seed {self.seeds[slot]})"

    def _check_limit(self) -> None:
        """Raise where an episode is longer than the environment's limit: arrays have its length."""
        out, limit = self.arrays, self.info.episode_limit
        going = self._began & ~(out.terminated | out.truncated)
        late = np.flatnonzero(going & (self.steps >= limit)).tolist()
        if late:
            where = self._where(late[0])
            raise Unsound(f"The environment '{self.info.name}' outlives its limit: {where} {beyond_limit(self.info)}.")
        # no slot makes more than one step a call
        self._calls = limit - int(self.steps[going].max(initial=0))

    def _check_ends(self) -> None:
        """Warn where an agent that had ended is alive, or no longer terminated."""
        out = self.arrays
        flags = out.agent_terminated.tobytes() + out.alive.tobytes()
        if flags == self._flags:
            return
        self._flags = flags
        over = out.terminated | out.truncated
        back = (self._ended & ~out.agent_terminated) | (self._down & out.alive & ~over[:, None])
        if back.any():
            slot, agent = np.argwhere(back)[0].tolist()
            self.end_taken_back(
                slot, agent, "is alive again" if out.agent_terminated[slot, agent] else "is no longer terminated"
            )
        self._ended = out.agent_terminated.copy()
        self._down = self._ended & ~out.alive

    def end_taken_back(self, slot: int, agent: Any, how: str) -> None:
        """Warn that an agent's end was taken back."""
        if END_TAKEN_BACK not in self._warned:
            self.warn(
                END_TAKEN_BACK,
                f"The environment '{self.info.name}' takes an agent's end back: {self._where(slot)} agent {agent} "
                f"{how}: {FOR_GOOD}.",
            )

    def compare_rewards(self, active: np.ndarray, env: Any) -> None:
        """Warn once where the rewards of a run's first steps are opposed; ``env`` may name its agents."""
        if self._record.open and not self.first:
            found = self._record.add(self.arrays.reward[active])
            if found is not None:
                self.warn(OPPOSED, found.sentence(names_of(env, self.info)))

    def warn(self, kind: str, text: str) -> None:
        """Issue a warning, one of each kind."""
        if kind not in self._warned:
            self._warned.add(kind)
            self._warn(kind, text)

    def _check_actions(self) -> None:
        """Raise for the first agent without a legal action; slots without an episode, or at its very end, need none."""
        avail = self.arrays.avail
        shown = avail.tobytes()
        if shown == self._legal:  # ten times as quick as a check, and most environments' actions are always legal
            return
        if avail.any(-1).all():
            self._legal = shown
            return
        playing = (self.seeds >= 0) & ~self.arrays.terminated
        stuck = np.argwhere(~avail.any(-1) & playing[:, None])
        if len(stuck):
            slot, agent = stuck[0].tolist()
            raise UserError(
                f"The environment '{self.info.name}' leaves agent {agent} without a legal action after step "
                f"{self.steps[slot]} (slot {self.first + slot}, episode seed {self.seeds[slot]}): also an agent that "
                "has ended needs one."
            )


class Slots:
    """Consecutive slots, stepped one after another in this process; used by `serial` and by each worker.

    Attributes:
        info: sizes and names of their environment.
        arrays: what they show.
        info_metrics: numbers that their environments report at an episode's end.
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
        info_metrics: InfoMetrics,
        first: int = 0,
        busy: np.ndarray | None = None,
        warn: Warn = warn_once,
    ) -> None:
        """Build an environment for each row of ``arrays``; slots are counted from 0 here.

        Args:
            seeds, steps: [S] int64 to be kept up to date.
            info_metrics: where the numbers are written that environments report in their infos.
            first: number of the first slot in the whole run.
            busy: [3] int64 that always holds the slot that is being built, reset or stepped (its number in the whole
                run, -1 for none), how many such calls there were, and which of them it is.
            warn: issues a warning, or passes it on.
        """
        self.arrays, self.seeds, self.steps, self.info_metrics, self.first = arrays, seeds, steps, info_metrics, first
        self.process = os.getpid()
        self.lost = np.zeros(len(seeds), bool)
        self.busy = np.array([-1, 0, 0]) if busy is None else busy
        self.envs: list[Env] = []
        self.busy[2] = BUILDING
        for i in range(len(seeds)):
            self.busy[0] = first + i
            self.envs.append(make_env(env, env_args))
        self.busy[0] = -1
        self.info = self.envs[0].info
        together = getattr(type(self.envs[0]), "together", None)
        self._together: Together | None = None if together is None else together(self.envs)
        self.rows = [arrays.slot(i) for i in range(len(seeds))]
        self.checks = SlotChecks(self.info, arrays, seeds, steps, first, warn)
        for i, built in enumerate(self.envs):
            attach(built, InfoRecorder(self.checks, info_metrics, i))

    def reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        """Start episodes in ``slots`` [k] from ``seeds`` [k].

        Raises:
            UserError: an agent has no legal action.
            EnvError: an environment failed (the cause is chained).
        """
        self.checks.begin(slots, seeds)
        self.info_metrics.begin(slots)
        self.busy[2] = RESETTING
        for i, seed in zip(slots.tolist(), seeds.tolist(), strict=True):
            self._call("reset", i, self.envs[i].reset, seed)
        self.busy[0] = -1
        self.checks.check()

    def step(self, actions: np.ndarray, active: np.ndarray) -> None:
        """Apply ``actions`` [S, N] (or [S, N, D]) in the slots where ``active`` [S].

        Raises:
            UserError: an agent has no legal action.
            EnvError: an environment failed (the cause is chained), or an episode outlives its limit.
        """
        self.steps += active
        self.busy[2] = STEPPING
        if self._together is not None:
            self._step_together(self._together, actions, active)
            return
        for i in np.flatnonzero(active).tolist():
            self._call("step", i, self.envs[i].step, actions[i])
        self.busy[0] = -1
        self._checked(active)

    def _step_together(self, together: Together, actions: np.ndarray, active: np.ndarray) -> None:
        """Step environments that are stepped in one call."""
        i = 0
        try:
            for i in together.step(actions, active, self.arrays):
                self.busy[0] = self.first + i
                self.busy[1] += 1
        except UserError:
            raise
        except BaseException as exc:  # as in _call
            if _is_users(exc):
                raise
            raise self._failed("step", i, exc) from exc
        only_here(self.process)
        self.busy[0] = -1
        self._checked(active)

    def _checked(self, active: np.ndarray) -> None:
        """Check what the slots show after a step, and of the first steps whether agents' rewards are opposed."""
        self.checks.check()
        self.checks.compare_rewards(active, self.envs[0])

    def _call(self, what: str, i: int, call: Callable[[Any, Arrays], None], given: Any) -> None:
        self.busy[0] = self.first + i
        self.busy[1] += 1
        try:
            call(given, self.rows[i])
        except UserError:
            raise
        except BaseException as exc:  # also a game's sys.exit(), or an interrupt that nobody asked for
            if _is_users(exc):
                raise
            raise self._failed(what, i, exc) from exc
        only_here(self.process)

    def _failed(self, what: str, i: int, exc: BaseException) -> EnvError:
        """Return the error that slot ``i`` failed."""
        only_here(self.process)
        if what == "step":
            what = f"step {self.steps[i]}"
        where = f"slot {self.first + i}, episode seed {self.seeds[i]}"
        shown = shortened("".join(traceback.format_exception(exc)).rstrip(), _SHOWN)
        return EnvError(
            f"The environment failed in {what} ({where}): {type(exc).__name__}: {text_of(exc)}\n"
            f"--- its traceback ---\n{shown}"
        )

    def close(self) -> None:
        """Close every environment."""
        close_all([env.close for env in self.envs], self.checks.info.name)


def _is_users(exc: BaseException) -> bool:
    """Whether an exception that comes out of an environment is the user's own end of the run.

    While a run handles signals, Ctrl-C is a :class:`~oamarl.utils.signals.Terminated`, and not Python's own interrupt.
    """
    if isinstance(exc, Terminated):
        return True
    return isinstance(exc, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler


class InfoRecorder:
    """Records what an environment reports beside its arrays: info metrics, and warnings about them.

    Args:
        checks, metrics: of the slots.
        slot: which of them it is.
    """

    def __init__(self, checks: SlotChecks, metrics: InfoMetrics, slot: int) -> None:
        self._checks, self._metrics, self._slot = checks, metrics, slot

    def infos(self, infos: Sequence[Any]) -> None:
        """Record the numbers of the episode that ends."""
        summary, name = summarise(infos), self._checks.info.name
        if summary.renamed:
            keys, how = ", ".join(f"'{key}'" for key in summary.renamed), renaming(summary.renamed)
            self._checks.warn(RENAMED, f"The environment '{name}' tells {keys} in its info: {how}.")
        if not self._metrics.write(self._slot, summary.values):
            self._checks.warn(
                TOO_MANY,
                f"The environment '{name}' tells more numbers in its info than can be logged: {self._metrics.width} of "
                "them are, those that came first.",
            )

    def end_taken_back(self, agent: Any, flag: str = "terminated") -> None:
        """Warn of an agent whose end is taken back."""
        self._checks.end_taken_back(self._slot, agent, NOT_BACK.format(flag=flag))
