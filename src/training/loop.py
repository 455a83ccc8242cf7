"""The training loop:

while t_env < t_max:
    batch = runner.run()                  collect experience with the acting policies
    learner.train(batch, t_env)           update
    test, log, save                       at their intervals

and how it ends: at t_max, early in good order (a signal, `max_seconds`), or at a fault that ends the run.
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..components.batch import Batch
from ..controllers.contract import Controller
from ..envs.build import EnvError
from ..learners.contract import Learner
from ..runners.contract import Runner
from ..runners.testing import play
from ..storage import checkpoints
from ..storage.checkpoints import BEST, FOLDER, MODELS
from ..storage.log import LOG_FILE, RunLog
from ..storage.replay_files import ReplayFiles
from ..storage.tested_actions import MARK, measure
from ..utils.errors import PartFailed, RunError, UserError, first_line, lacks_memory
from ..utils.hints import SHORTEST, hints
from ..utils.intervals import interval
from ..utils.signals import Stop, Terminated
from .curve import Curve
from .faults import part_failure, user_supplied
from .payload_check import sound
from .resume import carry_best, carry_curve
from .run_config import RunConfig
from .saving import CheckpointFiles
from .update import NotFinite, Seat, checked_update


class Training:
    """The training loop of one run, with its state between iterations.

    Args:
        config: its keys.
        values: the whole configuration, for checkpoints.
        runner, mac, learner: the parts.
        stop: asks it to end early; None: nothing does.
        seat: its place among several runs that train together; None: it trains alone.
    """

    def __init__(
        self, config: RunConfig, values: Mapping[str, Any], runner: Runner, mac: Controller, learner: Learner,
        stop: Stop | None = None, seat: Seat | None = None,
    ) -> None:  # fmt: skip
        self.config, self.values, self.seat = config, values, seat
        self.runner, self.mac, self.learner, self.stop = runner, mac, learner, stop or Stop()
        #: what a point is made of, and the environment steps between points that have it
        self.log_intervals = {
            "runner": interval(config.runner_log_interval or config.log_interval, config.t_max),
            "learner": interval(config.learner_log_interval or config.log_interval, config.t_max),
            "log": interval(config.log_interval, config.t_max),
        }
        self.test_interval = interval(config.test_interval, config.t_max)
        # what is due next, in environment steps; the first test comes before the first update
        self.next = {"test": 0, "checkpoint": config.checkpoint_interval, "model": config.save_model_interval,
                     **self.log_intervals}  # fmt: skip
        self.curve = Curve(runner, learner, config.common_reward)
        self.best: dict[str, Any] | None = None
        self.files = CheckpointFiles()
        self._best: checkpoints.Written | None = None  # the best
        self.hinted = 0.0  # when hints were given, in seconds of training

    def run(self, log: RunLog, saved: Mapping[str, Any] | None) -> dict[str, float]:
        """Train to t_max; returns the result that is stored with the run.

        Args:
            saved: payload of the checkpoint to resume from.

        Raises:
            RunError: numbers that are not finite, or files that cannot be written.
            Terminated: `stop` asked for the end; the message says how to resume.
        """
        self.stop.say = log.info
        replay = getattr(self.learner, "replay", None)  # learners without one need not say so
        self.files.replay = None if replay is None else ReplayFiles(log.folder, replay)
        try:
            if saved is not None:
                self._take(saved, log)
            self._train(log)
            return self._finish(log)
        except KeyboardInterrupt as error:
            code = error.exit_code if isinstance(error, Terminated) else 130
            raise Terminated(f"{str(error) or 'Interrupted: the run stops here.'} {self._advice(log)}", code) from None
        except Exception as error:
            if lacks_memory(error):
                raise RunError(f"There is not enough memory ({first_line(error)}). {self.files.state()}") from error
            known = isinstance(error, (UserError, RunError)) and not isinstance(error, (EnvError, PartFailed))
            if known:
                raise
            if not self.stop.received:
                self._raise_part_failure(error, log)
                raise
            # a batch system signals all processes of a job: workers may be gone before the loop could end
            log.note(traceback.format_exc().rstrip())
            text = f"Ended by {self.stop.why()} ({type(error).__name__} while it ended). {self._advice(log)}"
            raise Terminated(text, self.stop.exit_code) from error

    def _raise_part_failure(self, error: Exception, log: RunLog) -> None:
        """End the run in a sentence, its traceback in run.log alone, if a user-supplied part failed."""
        parts = {"learner": self.learner, "mac": self.mac, "runner": self.runner}
        failure = None if isinstance(error, EnvError) else part_failure(error, user_supplied(self.values, parts))
        if failure is not None:
            log.note(traceback.format_exc().rstrip())
            text = f"Stopped at step {self.runner.t_env:,}: {failure} The traceback is in {log.folder / LOG_FILE}."
            raise RunError(f"{text} {self.files.state()}") from error

    def _train(self, log: RunLog) -> None:
        c, runner = self.config, self.runner
        curve, seconds = self.curve, self.curve.seconds
        began, start_t = time.perf_counter() - curve.elapsed, runner.t_env
        recent = (time.perf_counter(), runner.t_env)
        self._flush(log)  # what an earlier run could not write
        while runner.t_env < c.t_max:
            self._pause(log)
            self._due_test(log)
            self._pause(log)
            t_begin = runner.t_env
            batch, played = runner.run()
            clock = self._clock()
            scalars, arrays = self._update(batch, t_begin, log)
            seconds["learning"] += self._clock() - clock
            clock = time.perf_counter()
            curve.remember(played, scalars, arrays)
            curve.elapsed = clock - began
            # speed over the last few seconds, so that it follows what the machine does now
            if clock - recent[0] > 5.0 or recent[1] == start_t:
                speed = (runner.t_env - recent[1]) / max(clock - recent[0], 1e-9)
                recent = (clock, runner.t_env)
            log.progress(runner.t_env, c.t_max, speed, curve.latest_return)
            due = [part for part, steps in self.log_intervals.items() if self._is_due(part, steps)]
            curve.point(due)
            self._flush(log)
            if "log" in due:  # the first test came before anything else: its share says nothing yet
                self._hint(log, curve.split() | {"testing": 0.0})
            self._due_files(log)
            seconds["logging"] += time.perf_counter() - clock
        curve.elapsed = time.perf_counter() - began

    def _finish(self, log: RunLog) -> dict[str, float]:
        """The last checkpoint, the last point and the last test."""
        # before the closing point and test, which a run resumed to a later t_max has not
        closing = self.payload(log)
        written = self._save(log, FOLDER, 2, closing)
        self._pause(log)
        t, latest = self.runner.t_env, self.curve.latest_return
        log.progress(t, self.config.t_max, t / max(self.curve.elapsed, 1e-9), latest)
        if left := self.curve.left():
            self.curve.point(left)
            self._flush(log)
        split = self.curve.split()
        result = self._test(log, closing) if self.config.test_nepisode else {}
        if self.curve.elapsed > 2 * self.hinted:
            self.hinted = 0.0
            self._hint(log, split)
        if not self.learner.updates:
            log.info(f"Hint: t_max={self.config.t_max} was reached before the first update: nothing was learned.")
        if written:
            self._flush(log)  # nothing pending: a last look at what there is
        if not written or self.files.newest is None:
            raise RunError(
                f"The run has reached t_max, but its last checkpoint could not be written. {self.files.state()}"
            )
        self.stop.over()
        return {"t_env": float(t), "return_mean": latest, **result}

    # -- ending early ------------------------------------------------------------------------------------------

    def _pause(self, log: RunLog) -> None:
        """End here, with a checkpoint, if a signal or `max_seconds` asks for it."""
        why = self.stop.why()
        if why:
            self.stop.settle()
            t = self.runner.t_env
            if not self.files.is_of(t):
                self._save(log, FOLDER, 2)
            raise Terminated(f"Ended by {why} at step {t:,}.", self.stop.exit_code)

    def _advice(self, log: RunLog) -> str:
        return self.files.advice(log, self.config.load_step)

    # -- learning ----------------------------------------------------------------------------------------------

    def _update(self, batch: Batch, t_begin: int, log: RunLog) -> tuple[dict[str, float], dict[str, Any]]:
        """One update on ``batch``, which began at step ``t_begin``.

        Raises:
            RunError: numbers that are not finite; the batch is in the run's folder.
        """
        try:
            return checked_update(self.config, self.runner, self.mac, self.learner, batch, t_begin, self.seat)
        except NotFinite as fault:
            kept = fault.dump(log.folder / f"dump-{self.runner.t_env}.npz", batch)
            text = f"Stopped at step {self.runner.t_env:,}: {fault}. {kept} {self.files.state()}"
        raise RunError(text)

    def _clock(self) -> float:
        """Seconds of this run alone, whose differences count: without those in which it waited for other runs."""
        return time.perf_counter() - (0.0 if self.seat is None else self.seat.waited)

    # -- logging -----------------------------------------------------------------------------------------------

    def _is_due(self, what: str, every: int) -> bool:
        """Whether `what` is due at this step; its next time is then the next multiple of its interval."""
        t = self.runner.t_env
        if t < self.next[what]:
            return False
        self.next[what] = (t // every + 1) * every
        return True

    def _flush(self, log: RunLog) -> None:
        """Write what is pending. The loop is between two steps here, so a checkpoint made now can be resumed.

        Raises:
            RunError: it cannot be written, or what was written is gone; a checkpoint has been tried, and holds what is
                still pending.
        """
        try:
            log.check()  # before more is written into files that are gone
            self.curve.flush(log)
        except UserError as error:
            if log.foreign:  # another run may have this folder now, with checkpoints of its own
                self.files.newest = None
            else:
                self._save(log, FOLDER, 2)
                log.begin_again()
            raise RunError(f"{error} The run cannot continue without its records. {self.files.state()}") from error
        if self.files.forget_changed(log):  # it is what the run would be resumed from
            self._save(log, FOLDER, 2)

    def _hint(self, log: RunLog, split: Mapping[str, float]) -> None:
        """Log hints about a wasted machine, once, where the time ``split`` covers enough to know."""
        if not self.hinted and sum(split.values()) >= SHORTEST:
            self.hinted = self.curve.elapsed
            for hint in hints(split, self.values, self.runner.use()):
                log.info(f"Hint: {hint}")

    # -- tests -------------------------------------------------------------------------------------------------

    def _due_test(self, log: RunLog) -> None:
        if self.config.test_nepisode and self._is_due("test", self.test_interval):
            self._test(log)

    def _test(self, log: RunLog, closing: dict[str, Any] | None = None) -> dict[str, float]:
        """Play test episodes; ``closing`` is the state to keep if this, the last test, was the best."""
        clock = self._clock()
        metrics, by = play(self.runner, self.config), measure(self.config.test_greedy, self.config.common_reward)
        self.curve.seconds["testing"] += self._clock() - clock
        now = time.perf_counter()
        self.curve.add(metrics)
        self._flush(log)
        reached = metrics[by]
        if self._best is not None and not self._best.there():
            what = "was deleted, moved or changed: the best is looked for anew"
            log.warning(f"The best checkpoint {self._best.path} {what}.")
            self.best = self._best = None
        better = self.best is None or reached > self.best["return_mean"]
        if self.config.save_best and better and math.isfinite(reached):
            self.best = {"t_env": self.runner.t_env, "return_mean": reached, "metric": by}
            payload = closing or self.payload(log)
            if self._save(log, BEST, 1, payload | {"loop": payload["loop"] | {"best": self.best}}):
                self._best = self._kept_best(log, self.runner.t_env)
        self.curve.seconds["logging"] += time.perf_counter() - now
        return metrics

    # -- files -------------------------------------------------------------------------------------------------

    def _due_files(self, log: RunLog) -> None:
        if self._is_due("model", self.config.save_model_interval) and self.config.save_model:
            self._save(log, MODELS, None)
        # last: it must know that everything else was done
        if self._is_due("checkpoint", self.config.checkpoint_interval):
            self._save(log, FOLDER, 2)

    def _save(self, log: RunLog, folder: str, keep: int | None, payload: dict[str, Any] | None = None) -> bool:
        """Write a checkpoint of now, or ``payload``; returns whether that succeeded."""
        return self.files.save(log, folder, keep, self.runner.t_env, lambda: payload or self.payload(log))

    @staticmethod
    def _kept_best(log: RunLog, t_env: int) -> checkpoints.Written:
        return checkpoints.Written(log.folder / BEST / checkpoints.name_of(t_env))

    def payload(self, log: RunLog) -> dict[str, Any]:
        """Everything that a resumed run needs to continue with the same numbers.

        Raises:
            RunError: a parameter is not finite: such a checkpoint would replace a good one.
        """
        payload = {
            "config": dict(self.values),
            "info": asdict(self.runner.info),
            "folder": str(log.folder),
            "position": log.checkpoint_position(),
            "mac": self.mac.state_dict(),
            "learner": self.learner.state_dict(),
            "runner": self.runner.state_dict(),
            "loop": {"next": dict(self.next), "best": self.best, **self.curve.state_dict()},
            **MARK,
        }  # fmt: skip
        if not sound(payload):
            raise RunError(f"Stopped at step {self.runner.t_env:,}: a parameter is not finite. {self.files.state()}")
        return payload

    def _take(self, saved: Mapping[str, Any], log: RunLog) -> None:
        try:
            self.load(saved, log)
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError, OverflowError) as error:
            raise UserError(
                f"The checkpoint does not fit this version of the program ({type(error).__name__}: {error})."
            ) from error

    def load(self, saved: Mapping[str, Any], log: RunLog) -> None:
        """Resume from a checkpoint, its run's curve first."""
        loop = carry_curve(saved, log)
        self.mac.load_state_dict(saved["mac"])
        self.learner.load_state_dict(saved["learner"])
        if self.files.replay is not None and "replay" in saved:
            self.files.replay.resume(saved["replay"], Path(saved["folder"]))
        elif self.files.replay is not None:
            log.warning("The replay begins empty: it is kept with the rolling checkpoints in checkpoints/ alone.")
        for notice in self.runner.load_state_dict(saved["runner"]):
            log.warning(notice)
        t = self.runner.t_env
        for what, steps in (
            ("test", self.test_interval), ("checkpoint", self.config.checkpoint_interval),
            ("model", self.config.save_model_interval), *self.log_intervals.items(),
        ):  # fmt: skip
            # an older version's checkpoint has one time for all that is logged
            stored = loop["next"].get(what, loop["next"]["log"])
            # an interval may have changed: the stored time holds unless the new interval comes sooner
            self.next[what] = min(int(stored), (t // steps + 1) * steps)
        self.curve.load_state_dict(loop)
        self.best = carry_best(saved, log, measure(self.config.test_greedy, self.config.common_reward))
        if self.best is not None:
            self._best = self._kept_best(log, int(self.best["t_env"]))
