"""A search for good settings: Optuna proposes, the sweep runs, and every trial is recorded.

A trial is the file's runs of one algorithm in one environment, all seeds, with the proposed settings on top. Its
value is the metric's mean over the last 10 % of training, averaged over seeds. While the first seed trains, a trial
that is worse than the others may be stopped (``pruner``).
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...storage import curve_files
from ...storage.records import curve
from ...storage.run_files import read_json, write_json
from ...storage.tested_actions import MARK, actions, greedy_name, is_plain, run_records
from ...utils.errors import UserError, nearest
from ...utils.project import optional
from .file import Cell, Sweep, with_seed, with_values
from .space import Range, Search
from .view import State

#: a trial is compared with others this often while its first seed trains
STAGES = 10


@dataclass
class Trial:
    """Proposed settings and their result. `state` is running, complete, pruned or failed; `told` is Optuna's trial."""

    number: int
    params: dict[str, Any]
    told: Any = None
    state: str = "running"
    value: float | None = None
    stages: list[float] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    values: dict[int, float] = field(default_factory=dict)

    def stored(self, metric: str) -> dict[str, Any]:
        """Return its entry in the record."""
        return {
            "number": self.number, "params": self.params, "state": self.state, "value": self.value, "metric": metric,
            "values": {str(k): v for k, v in self.values.items()}, "stages": self.stages,
            "commands": [cell.command for cell in self.cells],
        }  # fmt: skip


def import_optuna() -> Any:
    """Return the package ``optuna``.

    Raises:
        UserError: it is not installed, or cannot be imported.
    """
    return optional("optuna", "A search")


class Study:
    """The search of one group: one algorithm in one environment.

    Args:
        group: cells of the file, equal but for their seeds.
        search: the space, the metric and Optuna's options.
        path: the record, read at the start, so that a search that was stopped is continued.
        shown: how messages name the sweep file.

    Raises:
        UserError: Optuna is missing, the space names no keys of this algorithm, or the record is of another space.
    """

    def __init__(self, group: list[Cell], search: Search, path: Path, shown: str) -> None:
        optuna = import_optuna()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.optuna, self.group, self.search, self.path, self.shown = optuna, group, search, path, shown
        self.space = {name: _distribution(optuna, r) for name, r in search.space.items()}
        self.trials: list[Trial] = []
        self._waiting: list[Cell] = []
        self._again: list[Trial] = []
        record = read_json(path)
        stored = record.get("trials", [])
        # with the trials that are there, or the same proposals would come again
        seed = search.seed + len(stored)
        samplers, pruners = optuna.samplers, optuna.pruners
        self.study = optuna.create_study(
            direction="maximize" if search.direction == "maximize" else "minimize",
            sampler=samplers.TPESampler(seed=seed) if search.sampler == "tpe" else samplers.RandomSampler(seed=seed),
            pruner={"none": pruners.NopPruner, "median": lambda: pruners.MedianPruner(n_startup_trials=4),
                    "halving": pruners.SuccessiveHalvingPruner}[search.pruner](),
        )  # fmt: skip
        self._check_space()
        before = _with_names_of_now(record)
        if stored and before != self._space_stored():
            if is_plain(search.metric) and before == self._space_stored(greedy_name(search.metric)):
                raise UserError(
                    f"{path} holds trials by greedy tests, whose {search.metric} is called "
                    f"{greedy_name(search.metric)} now: set the search's metric to that, or move the record away."
                )
            raise UserError(
                f"{path} holds trials of another space or of other runs: move it away, or rename the sweep."
            )
        self._recall(stored)

    def _space_stored(self, metric: str | None = None) -> Any:
        space = {k: {"kind": r.kind, "options": list(r.options), "low": r.low, "high": r.high}
                 for k, r in self.search.space.items()}  # fmt: skip
        goal = [metric or self.search.metric, self.search.direction]
        return json.loads(json.dumps([space, goal, [cell.command for cell in self.group]]))

    def _check_space(self) -> None:
        """Check that the bounds of all ranges are allowed, before anything runs."""
        for pick in (0, -1):
            ends = {k: (r.options[pick] if r.options else (r.low, r.high)[pick]) for k, r in self.search.space.items()}
            with_values(self.group[0], self.group[0].group, ends, self.shown)

    def _recall(self, stored: list[dict[str, Any]]) -> None:
        """Take over the trials of the record; those that were running are the first to be run."""
        for old in stored:
            params = {name: old["params"][name] for name in self.space}
            trial = Trial(old["number"], params, state=old["state"], value=old["value"], stages=old["stages"])
            trial.values = {int(k): v for k, v in old["values"].items()}
            with contextlib.suppress(UserError):  # recorded as failed for that
                trial.cells = self._cells(trial)
            self.trials.append(trial)
            if trial.state == "running":
                self._again.append(trial)
                continue
            self._add(trial)

    def _add(self, trial: Trial) -> None:
        """Tell Optuna of a trial that is over and that it did not hand out in this process."""
        self.study.add_trial(
            self.optuna.trial.create_trial(
                params=self._encoded(trial.params), distributions=self.space, state=self._state(trial),
                value=trial.value if trial.state == "complete" else None,
                intermediate_values=dict(enumerate(trial.stages)),
            )
        )  # fmt: skip

    def _state(self, trial: Trial) -> Any:
        states = self.optuna.trial.TrialState
        return {"complete": states.COMPLETE, "pruned": states.PRUNED}.get(trial.state, states.FAIL)

    def _encoded(self, params: dict[str, Any]) -> dict[str, Any]:
        """Optuna's choices are numbers: it takes no lists as options."""
        ranges = self.search.space
        return {k: ranges[k].options.index(v) if ranges[k].kind == "choice" else v for k, v in params.items()}

    def _cells(self, trial: Trial) -> list[Cell]:
        group = f"{self.group[0].group}-trial{trial.number:03d}"
        first = with_values(self.group[0], group, trial.params, self.shown)
        return [with_seed(first, cell.seed) for cell in self.group]

    # -- the plan --------------------------------------------------------------------------------------------

    def next(self) -> Cell | None:
        """Return the next run, of a trial that has begun or of a new one; None: all have begun."""
        if not self._waiting:
            trial = self._again.pop(0) if self._again else self._propose()
            if trial is None:
                return None
            self._waiting = list(trial.cells)
        return self._waiting.pop(0)

    def _propose(self) -> Trial | None:
        """Ask Optuna for settings; contradictory ones are recorded as failed, and the next ones are asked for."""
        ranges = self.search.space
        while len(self.trials) < self.search.trials:
            told = self.study.ask(self.space)
            params = {k: ranges[k].options[v] if ranges[k].kind == "choice" else v for k, v in told.params.items()}
            trial = Trial(len(self.trials), params, told)
            self.trials.append(trial)
            try:
                trial.cells = self._cells(trial)
            except UserError:
                self._tell(trial, "failed")
                continue
            finally:
                self.record()
            return trial
        return None

    def trial_of(self, cell: Cell) -> Trial | None:
        """Return the trial that a run belongs to."""
        return next((t for t in self.trials if any(c.name == cell.name for c in t.cells)), None)

    def ended(self, trial: Trial, state: State) -> None:
        """Record a run that has ended; after the last one of a trial, report the trial to Optuna."""
        if trial.state == "running":
            value = None if state.curve is None else curve_files.final(state.curve, self.search.metric)
            if state.curve is not None and value is None:
                known = ["return_mean", *state.curve["metrics"]]
                raise UserError(
                    f"{self.shown}, search: the runs do not log the metric '{self.search.metric}': "
                    f"such as {', '.join(known)}{nearest(self.search.metric, known)}"
                )
            if state.status == "pruned":
                self._tell(trial, "pruned")
            elif value is None:
                self._tell(trial, "failed")
            else:
                trial.values[state.cell.seed] = value
                if len(trial.values) == len(trial.cells):
                    trial.value = float(np.mean(list(trial.values.values())))
                    self._tell(trial, "complete")
        self.record()

    def _tell(self, trial: Trial, state: str) -> None:
        trial.state = state
        self._waiting = [c for c in self._waiting if c not in trial.cells]
        if trial.told is None:  # it was begun before this sweep was
            self._add(trial)
        elif state == "complete":
            self.study.tell(trial.told, trial.value)
        else:
            self.study.tell(trial.told, state=self._state(trial))

    def unpromising(self, trial: Trial, state: State) -> bool:
        """Return whether a running run belongs to a trial that should be, or has been, pruned."""
        if trial.state != "running":
            return True
        first = state.cell.name == trial.cells[0].name
        if self.search.pruner == "none" or trial.told is None or not first or state.folder is None:
            return False
        stage = min(STAGES * state.step // state.cell.t_max, STAGES - 1)
        if stage <= len(trial.stages):
            return False
        steps, values = curve(run_records(state.folder), self.search.metric)
        for k in range(len(trial.stages), stage):
            part = values[(steps > k * state.cell.t_max / STAGES) & (steps <= (k + 1) * state.cell.t_max / STAGES)]
            trial.stages.append(float(part.mean()) if len(part) else (trial.stages[-1] if trial.stages else np.nan))
            if np.isfinite(trial.stages[-1]):
                trial.told.report(trial.stages[-1], k)
        return bool(trial.told.should_prune())

    # -- the record ------------------------------------------------------------------------------------------

    def best(self) -> Trial | None:
        """Return the winner so far."""
        done = [t for t in self.trials if t.state == "complete" and t.value is not None]
        sign = 1 if self.search.direction == "maximize" else -1
        return max(done, key=lambda t: sign * (t.value or 0.0), default=None)

    def record(self) -> None:
        """Write all trials and the winner."""
        best = self.best()
        content = {
            "group": self.group[0].group, "file": self.shown, "metric": self.search.metric,
            "direction": self.search.direction, "space": self._space_stored(),
            "best": None if best is None else best.stored(self.search.metric),
            "trials": [t.stored(self.search.metric) for t in self.trials], **MARK,
        }  # fmt: skip
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, content, indent=1)


class Searches:
    """The plan of a sweep with a search: one study after the other, as the pool has room."""

    def __init__(self, sweep: Sweep, folder: Path) -> None:
        groups: dict[str, list[Cell]] = {}
        for cell in sweep.cells:
            first = groups.setdefault(cell.group, [cell])[0]
            if with_seed(first, cell.seed).words != cell.words:
                raise UserError(f"{sweep.path}: a search needs one configuration for all seeds of {cell.group}.")
            if cell is not first:
                groups[cell.group].append(cell)
        assert sweep.search is not None
        self.studies = [
            Study(cells, sweep.search, folder / f"search-{name}.json", str(sweep.path))
            for name, cells in groups.items()
        ]

    def next(self) -> Cell | None:
        """Return the next trial to start; None: none now."""
        return next((cell for study in self.studies if (cell := study.next()) is not None), None)

    def like(self, cell: Cell) -> Cell | None:
        """None: each run of a search may be stopped by itself, and has a process of its own."""
        return None

    def _of(self, cell: Cell) -> tuple[Study, Trial] | None:
        found = ((study, study.trial_of(cell)) for study in self.studies)
        return next(((study, trial) for study, trial in found if trial is not None), None)

    def ended(self, state: State) -> None:
        """Report a trial that is done, failed or pruned to its study."""
        found = self._of(state.cell)
        if found is not None:
            found[0].ended(found[1], state)

    def unpromising(self, state: State) -> bool:
        """Return whether a running trial should be pruned."""
        found = self._of(state.cell)
        return found is not None and found[0].unpromising(found[1], state)

    def left(self) -> int:
        """Return how many trials are still to be run."""
        over = sum(t.state != "running" for study in self.studies for t in study.trials)
        return sum(study.search.trials for study in self.studies) - over

    def summary(self) -> list[str]:
        """Return the winners, with their command lines."""
        lines = []
        for study in self.studies:
            best, done = study.best(), sum(t.state != "running" for t in study.trials)
            if best is None:
                lines.append(f"{study.group[0].group}: no trial of {done} is complete.")
                continue
            params = ", ".join(f"{k}={v}" for k, v in best.params.items())
            how = actions(study.search.metric, {})
            lines.append(
                f"{study.group[0].group}: best of {done} trials is {best.number}: {study.search.metric} "
                f"{best.value:.4g}{f' ({how})' if how else ''} with {params}"
            )
            lines += [f"  {best.cells[0].command}", f"  (all trials: {study.path})"]
        return lines


def _with_names_of_now(record: dict[str, Any]) -> Any:
    """Return the space of a record, its metric under the name that greedy tests have now, if it is of before."""
    space = record.get("space")
    if MARK.items() <= record.items() or not isinstance(space, list) or len(space) != 3:
        return space
    ranges, (metric, direction), commands = space
    sampled = any("test_greedy=False" in command.split() for command in commands)
    return [ranges, [metric if sampled else greedy_name(metric), direction], commands]


def _distribution(optuna: Any, r: Range) -> Any:
    d = optuna.distributions
    if r.kind == "choice":
        return d.CategoricalDistribution(tuple(range(len(r.options))))
    if r.kind in ("int", "logint"):
        return d.IntDistribution(int(r.low), int(r.high), log=r.kind == "logint")
    return d.FloatDistribution(float(r.low), float(r.high), log=r.kind == "loguniform")
