"""The training loop:

while t_env < t_max:
    batch = runner.run()                  collect experience with the acting policies
    learner.train(batch, t_env)           update
    test, log, save                       at their intervals

and how it ends: at t_max, early in good order (a signal, `max_seconds`), or at something that it cannot go on from.
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..components.batch import Batch
from ..components.finite import all_finite, broken_scalars, dump, first_fault
from ..components.parallel import default_threads, use_threads
from ..envs.build import EnvError
from ..envs.vector.base import usable_cpus
from ..runners.testing import play
from ..storage import checkpoints
from ..storage.checkpoints import BEST, FOLDER, MODELS
from ..storage.log import RunLog
from ..storage.provenance import resume_command
from ..storage.tested_actions import MARK, measure
from ..utils.errors import RunError, UserError, first_line, lacks_memory
from ..utils.hints import SHORTEST, hints
from ..utils.schema.keys import key
from ..utils.signals import Stop, Terminated
from .curve import Curve
from .resume import carry_best, carry_curve, sound


def _size(path: Path) -> int:
    """The bytes of a file, -1 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


@dataclass(frozen=True)
class RunConfig:
    """What the training loop reads."""

    seed: int = key("Seed of everything random in the run; null draws one.", low=0)
    t_max: int = key("Environment steps to train for.", low=1)
    max_seconds: float | None = key(
        "Seconds after which the run saves a checkpoint and ends, at the next update (null: no limit).", above=0
    )
    stop_seconds: float = key(
        "Seconds that a signalled run may take to end its update and save a checkpoint; 0: it stops at once.",
        low=0,
        high=1e6,
    )
    common_reward: bool = key("All agents are rewarded for the team's reward; otherwise each for its own.")
    test_nepisode: int = key("Episodes of a test, exactly, of each kind (test_greedy); 0 for no tests.", low=0)
    test_interval: int = key("Environment steps between tests.", low=1)
    test_greedy: bool = key(
        "A test plays sampled episodes (test_return_mean ..., as EPyMARL tests its actor-critics) and as many greedy "
        "ones of the same seeds, by the most probable actions (test_greedy_return_mean ...); False: sampled ones alone."
    )
    log_interval: int = key(
        "Environment steps between tables and logged points (of some values others, with runner_log_interval and "
        "learner_log_interval).",
        low=1,
    )
    runner_log_interval: int | None = key(
        "Environment steps between logged returns, lengths and metrics of training episodes; null: log_interval.", low=1
    )
    learner_log_interval: int | None = key(
        "Environment steps between logged scalars of updates (their means since the last ones); null: log_interval.",
        low=1,
    )
    save_model: bool = key("Keep permanent snapshots too, in the run's folder models/.")
    save_model_interval: int = key("Environment steps between snapshots.", low=1)
    save_best: bool = key(
        "Keep the checkpoint with the best mean return of a test, in the run's folder best/: of its greedy episodes "
        "(test_greedy_return_mean), or of the sampled ones (test_return_mean) with test_greedy=False."
    )
    checkpoint_interval: int = key("Environment steps between resume checkpoints (the newest two are kept).", low=1)
    checkpoint_path: str = key(
        "Resume from this run's folder, folder of checkpoints, or checkpoint file; `latest`: from the newest run of "
        "this configuration that is not over, if there is one."
    )
    load_step: int = key(
        "The checkpoint of checkpoint_path to load is the one closest to this step: of a run's folder, among all in "
        "checkpoints/, models/ and best/; 0: the newest in checkpoints/.",
        low=0,
    )
    init_from: str = key("Start from the weights (alone) of this run, folder or checkpoint file.")
    use_cuda: bool = key("Learn and act on the GPU, where there is one.")
    torch_threads: int = key("Threads of torch's operations on the CPU.", low=1, high=1024)
    learner_threads: int | None = key(
        "Threads that share the work of updates, when environment workers wait; null: 2, or 1 where there is one core "
        "or OMP_NUM_THREADS=1, but never less than torch_threads.",
        low=1, high=1024,
    )  # fmt: skip


class Training:
    """The loop, with what it must remember between iterations.

    Args:
        config: what it reads.
        values: the whole configuration, for checkpoints.
        runner, mac, learner: the parts.
        stop: what may ask it to end early; None: nothing.
    """

    def __init__(
        self, config: RunConfig, values: Mapping[str, Any], runner: Any, mac: Any, learner: Any,
        stop: Stop | None = None,
    ) -> None:  # fmt: skip
        self.config, self.values = config, values
        self.runner, self.mac, self.learner, self.stop = runner, mac, learner, stop or Stop()
        #: what a point is made of, and the environment steps between points that have it
        self.log_intervals = {
            "runner": config.runner_log_interval or config.log_interval,
            "learner": config.learner_log_interval or config.log_interval,
            "log": config.log_interval,
        }
        # what is due next, in environment steps; the first test comes before the first update
        self.next = {"test": 0, "checkpoint": config.checkpoint_interval, "model": config.save_model_interval,
                     **self.log_intervals}  # fmt: skip
        self.curve = Curve(runner, learner, config.common_reward)
        self.best: dict[str, Any] | None = None
        self.newest: Path | None = None  # checkpoint to go on from
        self._size = -1  # of it, if this run wrote it
        self._best: Path | None = None  # where the best is kept
        self.trouble = False
        self.hinted = 0.0  # when hints were given, in seconds of training

    def run(self, log: RunLog, saved: Mapping[str, Any] | None) -> dict[str, float]:
        """Train to t_max; returns the result that is stored with the run.

        Args:
            saved: payload of the checkpoint to go on from.

        Raises:
            RunError: numbers that are not finite, or files that cannot be written.
            Terminated: `stop` asked for the end; the message says how to go on.
        """
        self.stop.say = log.info
        try:
            if saved is not None:
                self._take(saved, log)
            self._train(log)
            return self._finish(log)
        except KeyboardInterrupt as error:
            code = error.exit_code if isinstance(error, Terminated) else 130
            raise Terminated(f"{error or 'Interrupted: the run stops here.'} {self._advice(log)}", code) from None
        except Exception as error:
            if lacks_memory(error):
                raise RunError(f"There is not enough memory ({first_line(error)}). {self._state()}") from error
            told = isinstance(error, (UserError, RunError)) and not isinstance(error, EnvError)
            if told or not self.stop.received:
                raise
            # a batch system signals all processes of a job: workers may be gone before the loop could end
            log.note(traceback.format_exc().rstrip())
            text = f"Ended by {self.stop.why()} ({type(error).__name__} while it ended). {self._advice(log)}"
            raise Terminated(text, self.stop.exit_code) from error

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
            clock = time.perf_counter()
            scalars, arrays = self._update(batch, t_begin, log)
            seconds["learning"] += time.perf_counter() - clock
            clock = time.perf_counter()
            curve.remember(played, scalars, arrays)
            curve.elapsed = clock - began
            due = [part for part, interval in self.log_intervals.items() if self._is_due(part, interval)]
            curve.point(due)
            self._flush(log)
            if "log" in due:  # the first test came before anything else: its share says nothing yet
                self._hint(log, curve.split() | {"testing": 0.0})
            # speed over the last few seconds, so that it follows what the machine does now
            if clock - recent[0] > 5.0 or recent[1] == start_t:
                speed = (runner.t_env - recent[1]) / max(clock - recent[0], 1e-9)
                recent = (clock, runner.t_env)
            log.progress(runner.t_env, c.t_max, speed, curve.latest_return)
            self._due_files(log)
            seconds["logging"] += time.perf_counter() - clock
        curve.elapsed = time.perf_counter() - began

    def _finish(self, log: RunLog) -> dict[str, float]:
        """The last checkpoint, the last point and the last test."""
        # before the closing point and test, which a run resumed to a later t_max has not
        closing = self.payload(log)
        written = self._save(log, FOLDER, 2, closing)
        self._pause(log)
        if left := self.curve.left():
            self.curve.point(left)
            self._flush(log)
        split = self.curve.split()
        result = self._test(log, closing) if self.config.test_nepisode else {}
        if self.curve.elapsed > 2 * self.hinted:
            self.hinted = 0.0
            self._hint(log, split)
        t, latest = self.runner.t_env, self.curve.latest_return
        log.progress(t, self.config.t_max, t / max(self.curve.elapsed, 1e-9), latest)
        if not written:
            raise RunError(f"The run has reached t_max, but its last checkpoint could not be written. {self._state()}")
        self._flush(log)  # nothing pending: a last look at what there is
        self.stop.over()
        return {"t_env": float(t), "return_mean": latest, **result}

    # -- ending early ------------------------------------------------------------------------------------------

    def _pause(self, log: RunLog) -> None:
        """End here, with a checkpoint, if something asks for it."""
        why = self.stop.why()
        if why:
            self.stop.settle()
            t = self.runner.t_env
            if self.newest is None or checkpoints.steps_of(self.newest) != t:
                self._save(log, FOLDER, 2)
            raise Terminated(f"Ended by {why} at step {t:,}.", self.stop.exit_code)

    def _state(self) -> str:
        if self.newest is None or not self.newest.is_file():
            return "There is no checkpoint."
        return f"The newest checkpoint is {self.newest} (step {checkpoints.steps_of(self.newest):,})."

    def _advice(self, log: RunLog) -> str:
        if self.newest is None or not self.newest.is_file():
            return self._state()
        # the run's own folder, unless it has nothing yet and stands where an earlier one stood
        own = self.newest.parent.parent == log.folder
        newest = ["load_step=0"] if self.config.load_step else []  # also where a YAML chooses an earlier one
        return f"{self._state()} To go on: {resume_command(log.folder if own else self.newest, *newest)}"

    # -- learning ----------------------------------------------------------------------------------------------

    def _update(self, batch: Batch, t_begin: int, log: RunLog) -> tuple[dict[str, float], dict[str, Any]]:
        """One update, between a look at what goes in and a look at what came out.

        Raises:
            RunError: numbers that are not finite; the batch is in the run's folder.
        """
        fault = first_fault(batch)
        if fault is not None:
            slot, seed = self.runner.origin(batch, fault.row, fault.step)
            where = f"row {fault.row}, step {fault.step}, slot {slot}, episode seed {seed}"
            who = "the policies" if fault.field == "log_prob" else "the environment"
            raise self._broken(log, f"{who} gave a number that is not finite: {fault} ({where})", batch, {})
        # schedules go by the step at which the batch began: the first update has their first value
        use_threads(self.config.learner_threads or max(self.config.torch_threads, default_threads(usable_cpus())))
        scalars, arrays = self.learner.train(batch, t_begin)
        # here, so that no learner can forget it, and only now: during the update the policies see what they acted on
        self.mac.observe(batch)
        torch.set_num_threads(self.config.torch_threads)
        broken = broken_scalars(scalars)
        parameters = {"policies": self.mac.network.params, "critic": self.learner.value.network.params}
        if not all_finite(parameters.values()):
            broken += [f"the parameters of the {name}" for name, x in parameters.items() if not all_finite([x])]
        if broken:
            what = f"update {self.learner.updates} left numbers that are not finite: {', '.join(broken)}"
            raise self._broken(log, what, batch, scalars)
        return scalars, arrays

    def _broken(self, log: RunLog, what: str, batch: Batch, scalars: Mapping[str, float]) -> RunError:
        path = log.folder / f"dump-{self.runner.t_env}.npz"
        try:
            dump(path, batch, scalars)
            kept = f"The batch is in {path}."
        except OSError as error:
            kept = f"The batch could not be kept ({error.strerror or error})."
        return RunError(f"Stopped at step {self.runner.t_env:,}: {what}. {kept} {self._state()}")

    # -- logging -----------------------------------------------------------------------------------------------

    def _is_due(self, what: str, interval: int) -> bool:
        """Whether `what` is due at this step; its next time is then the next multiple of its interval."""
        t = self.runner.t_env
        if t < self.next[what]:
            return False
        self.next[what] = (t // interval + 1) * interval
        return True

    def _flush(self, log: RunLog) -> None:
        """Write what is pending. The loop is between two steps here, so a checkpoint made now can be resumed.

        Raises:
            RunError: it cannot be written, or what was written is gone; a checkpoint has been tried, and holds what is
                still pending.
        """
        try:
            log.check()  # before more is written into files that nobody can find
            self.curve.flush(log)
        except UserError as error:
            if log.foreign:  # another run may have this folder now, with checkpoints of its own
                self.newest = None
            else:
                self._save(log, FOLDER, 2)
                log.begin_again()
            raise RunError(f"{error} The run cannot go on without its records. {self._state()}") from error
        self._look_after(log)

    def _look_after(self, log: RunLog) -> None:
        """Write the newest checkpoint again if somebody took it away: it is what the run would go on from."""
        if self.newest is None or self.newest.parent != log.folder / FOLDER or self._size == _size(self.newest):
            return
        log.warning(f"The checkpoint {self.newest} was deleted, moved or changed: a new one is written.")
        self.newest = None
        self._save(log, FOLDER, 2)

    def _hint(self, log: RunLog, split: Mapping[str, float]) -> None:
        """Say, once, what plainly wastes the machine, if the time ``split`` covers enough to know."""
        if not self.hinted and sum(split.values()) >= SHORTEST:
            self.hinted = self.curve.elapsed
            for hint in hints(split, self.values, self.runner.use()):
                log.info(f"Hint: {hint}")

    # -- tests -------------------------------------------------------------------------------------------------

    def _due_test(self, log: RunLog) -> None:
        if self.config.test_nepisode and self._is_due("test", self.config.test_interval):
            self._test(log)

    def _test(self, log: RunLog, closing: dict[str, Any] | None = None) -> dict[str, float]:
        """Play test episodes; ``closing`` is the state to keep if this, the last test, was the best."""
        clock = time.perf_counter()
        metrics, by = play(self.runner, self.config), measure(self.config.test_greedy, self.config.common_reward)
        now = time.perf_counter()
        self.curve.seconds["testing"] += now - clock
        self.curve.add(metrics)
        self._flush(log)
        reached = metrics[by]
        if self._best is not None and not self._best.exists():
            log.warning(f"The best checkpoint {self._best} was deleted or moved: the best is looked for anew.")
            self.best = self._best = None
        better = self.best is None or reached > self.best["return_mean"]
        if self.config.save_best and better and math.isfinite(reached):
            self.best = {"t_env": self.runner.t_env, "return_mean": reached, "metric": by}
            payload = closing or self.payload(log)
            if self._save(log, BEST, 1, payload | {"loop": payload["loop"] | {"best": self.best}}):
                self._best = log.folder / BEST / checkpoints.name_of(self.runner.t_env)
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
        """Write a checkpoint into a subfolder of the run's; returns whether that went well.

        A full disk may be empty again at the next interval, so it is said once and the run goes on.
        """
        try:
            payload = payload or self.payload(log)
            path = checkpoints.save(log.folder / folder, self.runner.t_env, payload, keep=keep)
        except (UserError, OSError) as error:
            if not self.trouble:
                log.warning(f"{error} The next one is tried at its time.")
            self.trouble = True
            return False
        if self.trouble:
            log.info(f"Checkpoints can be written again: {path}.")
        self.trouble = False
        if folder == FOLDER:
            self.newest, self._size = path, _size(path)
        return True

    def payload(self, log: RunLog) -> dict[str, Any]:
        """Everything that a resumed run needs to go on with the same numbers.

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
            raise RunError(f"Stopped at step {self.runner.t_env:,}: a parameter is not finite. {self._state()}")
        return payload

    def _take(self, saved: Mapping[str, Any], log: RunLog) -> None:
        try:
            self.load(saved, log)
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError, OverflowError) as error:
            raise UserError(
                f"The checkpoint does not fit this version of the program ({type(error).__name__}: {error})."
            ) from error

    def load(self, saved: Mapping[str, Any], log: RunLog) -> None:
        """Go on from a checkpoint, its run's curve first."""
        loop = carry_curve(saved, log)
        self.mac.load_state_dict(saved["mac"])
        self.learner.load_state_dict(saved["learner"])
        for notice in self.runner.load_state_dict(saved["runner"]):
            log.warning(notice)
        t = self.runner.t_env
        for what, interval in (
            ("test", self.config.test_interval), ("checkpoint", self.config.checkpoint_interval),
            ("model", self.config.save_model_interval), *self.log_intervals.items(),
        ):  # fmt: skip
            # an older version's checkpoint has one time for all that is logged
            stored = loop["next"].get(what, loop["next"]["log"])
            # an interval may have changed: the stored time holds unless the new interval comes sooner
            self.next[what] = min(int(stored), (t // interval + 1) * interval)
        self.curve.load_state_dict(loop)
        self.best = carry_best(saved, log, measure(self.config.test_greedy, self.config.common_reward))
        if self.best is not None:
            self._best = log.folder / BEST / checkpoints.name_of(int(self.best["t_env"]))
