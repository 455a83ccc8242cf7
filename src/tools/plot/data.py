"""The data of pictures and reports: selected and sorted runs, and their lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...analysis import reliable
from ...analysis.curves import AXES, SCORES, Line, kinds, line, of_other_actions, on_axis, stretches, with_metric
from ...analysis.runs import Run, find
from ...analysis.select import check_key, chosen, configuration, contradicting, differing, flat, grouped, once, variants
from ...settings import learned, learned_in_full, results_folder
from ...storage.run_files import CONFIG_FILE, read_json
from ...storage.tested_actions import TEST
from ...utils.errors import UserError, counted
from ...utils.schema import yamls

#: label -> task -> runs
Groups = Mapping[str, Mapping[str, Sequence[Run]]]


@dataclass
class Selection:
    """The runs of a command, sentences about runs left out, how their actions were chosen, and the keys whose values
    are the labels."""

    runs: list[Run]
    groups: Groups
    notices: list[str] = field(default_factory=list)
    actions: str = ""
    keys: Sequence[str] = ("name",)

    @property
    def tasks(self) -> list[str]:
        """All tasks, in alphabetical order."""
        return sorted({task for tasks in self.groups.values() for task in tasks})


def results() -> Path:
    """Return the results folder in which paths of the command line are looked up."""
    return Path(results_folder(None))


def load(words: Sequence[str], conditions: Sequence[str]) -> tuple[list[Run], list[str], list[str]]:
    """Return the selected training runs without repetitions; notices; and the keys that their sweeps vary.

    Raises:
        UserError: a path that does not exist, an invalid condition, or no run at all.
    """
    varied: list[str] = []
    called: dict[Path, str] = {}
    if not words and not (results() / "sacred").is_dir():
        raise UserError(f"There is no run in {results() / 'sacred'} yet.")
    asked = words or [str(results() / "sacred")]
    runs, notices = find(asked, results(), lambda file: sweep_paths(file, varied, called))
    if not runs:
        raise UserError(f"There is no run in {', '.join(words) or results() / 'sacred'}.")
    every, runs = len(runs), [run for run in runs if not run.is_evaluation]
    if not runs:
        raise UserError(f"{counted(every, 'run', 'are')} selected, all of them evaluations, which have no curves.")
    wanted = chosen(runs, conditions)
    if not wanted:
        none = "The only run does not meet" if len(runs) == 1 else f"None of the {len(runs)} runs meets"
        raise UserError(f"{none} --filter {' '.join(conditions)}.")
    kept, dropped = once(wanted, learned_in_full)
    for run in kept:
        run.called = called.get(run.path.resolve(), "")
    if dropped:
        notices.append(
            f"{len(dropped)} of {len(wanted)} runs repeat another one (same configuration and seed) or were continued "
            f"by it: left out ({_paths(dropped)})."
        )
    return kept, notices, varied


def sweep_paths(file: Path, varied: list[str], called: dict[Path, str]) -> list[Path]:
    """Return the curve files and run folders of a sweep's cells.

    Args:
        varied: takes in the keys by which cells of one algorithm, as the file calls it, and task differ.
        called: takes in what the file calls the algorithm of each.

    Raises:
        UserError: whatever is wrong with the file.
    """
    from ..sweep.file import load as read_sweep

    sweep, found = read_sweep(file), list[Path]()
    alike: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in sweep.cells:
        begin = len(found)
        found.append(sweep.curves / f"{cell.name}.json")
        parent = results() / cell.parent
        for folder in parent.iterdir() if parent.is_dir() else ():
            if learned(read_json(folder / CONFIG_FILE)) == cell.config:
                found.append(folder)
        called.update({path.resolve(): cell.method for path in found[begin:]})
        config = {k: v for k, v in flat(cell.config).items() if k != "seed"}
        alike.setdefault((cell.parent, cell.method), []).append(config)
    varied += sorted({key for configs in alike.values() for key in contradicting(configs)} - set(varied))
    return found


def select(words: Sequence[str], conditions: Sequence[str], by: Sequence[str], metric: str) -> Selection:
    """Return the runs that have a metric, sorted by label and task.

    Raises:
        UserError: see :func:`load`; nothing has the metric; or no run knows a key of ``by``.
    """
    runs, notices, varied = load(words, conditions)
    have, without = with_metric(runs, metric)
    if without:
        kin = of_other_actions(without, metric)
        notices.append(
            f"{len(without)} of {len(runs)} runs have no '{metric}' and are left out{f'; {kin}' if kin else ''}: "
            f"{_paths(without)}."
        )
    keys = list(by) or ["name", *varied]
    for key in keys:
        check_key(key, have, f"--by {key}")
    troubles = [sentence for run in runs for sentence in run.troubles]
    how = kinds(have, metric)
    if len(how) < 2 or not metric.startswith(TEST):
        return Selection(have, grouped(have, keys), notices + troubles, _joined(how), keys)
    apart = {kind: [run for run in have if kinds([run], metric) == [kind]] for kind in how}
    told = "; ".join(f"{kind}: {_paths(runs)}" for kind, runs in apart.items())
    notices.append(f"'{metric}' is not of the same kind of actions in all runs, which do not compare ({told}).")
    groups = {f"{name}, {kind}": tasks for kind, runs in apart.items() for name, tasks in grouped(runs, keys).items()}
    return Selection(have, dict(sorted(groups.items())), notices + troubles, _joined(how), keys)


def _joined(how: Sequence[str]) -> str:
    """Join kinds of actions: ``epsilon-greedy and sampled actions``."""
    return " and ".join([*(kind.removesuffix(" actions") for kind in how[:-1]), *how[-1:]])


def below_here(path: Path) -> Path:
    """Return ``path`` as it is found from the current folder: a page that is passed on names nobody's home."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _paths(runs: Sequence[Run]) -> str:
    return ", ".join(str(below_here(run.path)) for run in runs[:3]) + (" ..." if len(runs) > 3 else "")


def mixed(groups: Groups) -> list[str]:
    """Return a sentence for each line that would contain runs of different configurations."""
    told = []
    for label, tasks in groups.items():
        for task, runs in tasks.items():
            args = [{k: v for k, v in flat(run.config).items() if k.startswith("env_args.") and k != "env_args.seed"}
                    for run in runs]  # fmt: skip
            keys = contradicting([configuration(run, learned_in_full) for run in runs]) + contradicting(args)
            if keys:
                some = ", ".join(keys[:4]) + (" ..." if len(keys) > 4 else "")
                told.append(
                    f"{label} on {task}: runs with different {some} are combined; "
                    f"--by name,{keys[0]} or --best separates them."
                )
    return told


def best_configurations(groups: Groups, metric: str, score: str) -> tuple[Groups, list[str]]:
    """Return each label's runs of its best configuration on each task (by the mean score over runs), and sentences."""
    kept: dict[str, dict[str, Sequence[Run]]] = {}
    told = []
    for label, tasks in groups.items():
        for task, runs in tasks.items():
            members = variants(runs, learned_in_full)
            means = [float(np.mean([SCORES[score](run, metric) for run in some])) for some in members]
            order = sorted(range(len(members)), key=lambda k: -means[k])
            kept.setdefault(label, {})[task] = members[order[0]]
            if len(members) > 1:
                keys = differing([configuration(some[0], learned_in_full) for some in members])
                names = [
                    f"{_named(members[k][0], keys)} ({means[k]:.4g}, {counted(len(members[k]), 'run')})" for k in order
                ]
                told.append(f"{label} on {task}: {names[0]} is the best of {len(members)}; {'; '.join(names[1:])}.")
    return kept, told


def _named(run: Run, keys: Sequence[str]) -> str:
    config = flat(run.config)
    return " ".join(f"{k}={yamls.inline(config[k]) if k in config else '-'}" for k in keys)


# -- lines ------------------------------------------------------------------------------------------------------


def statistic(use_iqm: bool) -> tuple[reliable.Statistic, str]:
    """Return what a line's centre is, and its name."""
    return (reliable.iqm, "IQM") if use_iqm else (reliable.mean, "mean")


def lines(
    groups: Groups, metric: str, axis: str, use_iqm: bool, smooth: float, notices: list[str],
    scales: Mapping[str, tuple[float, float]] | None = None,
) -> list[Line]:  # fmt: skip
    """Return a line for each label and task, or, with ``scales`` (see :func:`scale`), one for each label.

    Raises:
        UserError: no run can be drawn against this axis.
    """
    found: list[Line | None] = []
    for label, tasks in groups.items():
        pieces: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        for task, runs in tasks.items():
            low, high = (scales or {}).get(task, (0.0, 1.0))
            for run in runs:
                piece = on_axis(run, metric, axis)
                if piece is None:
                    notices.append(f"{run.path} does not say how far it was in {AXES[axis][1]}: left out.")
                else:
                    pieces.setdefault(task, []).append((piece[0], (piece[1] - low) / (high - low)))
        of = statistic(use_iqm)[0]
        if scales is not None and pieces:
            found.append(line(label, "all tasks", pieces, of, smooth))
        for task, some in pieces.items() if scales is None else ():
            apart = stretches(some)
            found += [line(label, task, {task: own}, of, smooth) for own in apart]
            if len(apart) == 1 and axis == "steps":
                notices += _uneven(label, task, tasks[task], metric)
            elif len(apart) > 1:
                notices.append(
                    f"{label} on {task}: no stretch is in all of its runs; they are drawn as {len(apart)} lines, each "
                    f"over its own."
                )
    drawn = [x for x in found if x is not None]
    if len(drawn) < len(found):
        notices.append(f"{len(found) - len(drawn)} lines are left out: their runs have no stretch in common.")
    if not drawn:
        raise UserError(f"No run can be drawn against {AXES[axis][1]}.")
    return drawn


def _uneven(label: str, task: str, runs: Sequence[Run], metric: str) -> list[str]:
    ends = [on_axis(run, metric, "steps") for run in runs]
    last = [float(piece[0][-1]) for piece in ends if piece is not None]
    if min(last) >= 0.9 * max(last):
        return []
    shortest = runs[last.index(min(last))]
    return [
        f"{label} on {task} is drawn to step {min(last):,.0f} of {max(last):,.0f}, where {shortest.path} "
        f"({shortest.status}) ends."
    ]
