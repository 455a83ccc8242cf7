"""The tables of docs/results.md that compare methods, from the curve files of a sweep's runs.

    oamarl sweep experiments/maze-black-red.yaml    # trains what is missing
    .venv/bin/python benchmarks/study.py            # prints every study's table
    .venv/bin/python benchmarks/study.py --write    # and puts it into its place in the page

A table stands between the lines `<!-- study NAME -->` and `<!-- end -->`. Of each method, over seeds:

| column | what |
|---|---|
| end | mean training return of the last 10 % of the steps, divided by the optimum; mean ± standard deviation |
| at the optimum | seeds whose end is within 1 % of it; p of Fisher's exact test, to the reference |
| area | mean training return over all steps; 95 % bootstrap interval |
| to the reference | difference of mean areas: 95 % stratified bootstrap interval, p of a two-sided permutation test |
| steps to 0.9 | environment steps until 0.9 of the optimum was first reached; median over seeds that did (how many) |
| samples | rows evaluated in updates, in millions |
| at equal samples | area against these, up to where the first run of the method or the reference ends; the difference |
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oamarl.analysis import reliable
from oamarl.analysis.curves import area, final, metric_of
from oamarl.analysis.runs import Run, find
from oamarl.envs.maze.maze import Maze
from oamarl.tools.plot.scores import Scores, equal_cost
from oamarl.tools.sweep.file import Cell
from oamarl.tools.sweep.file import load as read_sweep

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "results.md"
METRIC = "return_mean"
HEAD = (
    "| method (seeds) | end | at the optimum | area | area to {reference} | steps to 0.9 | samples "
    "| at equal samples |",
    "|---|---|---|---|---|---|---|---|",
)


@dataclass(frozen=True)
class Study:
    """A table: the sweep that its runs are of, the environment's label there, and what methods are compared to.

    ``reference``: a method, or the one of each method where they differ (``own``); ``also``: further sweeps' methods in
    it; ``optimum``: the largest possible return, None: the maze's, computed; ``further``: comparisons below the table.
    """

    sweep: str
    environment: str
    reference: str
    optimum: float | None = None
    own: Mapping[str, str] | None = None
    also: tuple[tuple[str, str], ...] = ()
    further: tuple[tuple[str, str], ...] = ()


STUDIES = {
    "maze-black-red": Study(
        "maze-black-red", "maze-black-red", "happo", own={"oatrpo": "hatrpo", "oatrpo_paper": "hatrpo"},
        further=(("oappo", "happo-epochs"), ("oappo", "mappo"), ("oappo", "seps"), ("oappo", "oappo_paper"),
                 ("oatrpo", "oatrpo_paper"), ("oatrpo", "oappo")),
    ),
    "maze-black-blue-red": Study(
        "maze-black-blue-red", "maze-black-blue-red", "NR",
        further=(("RR", "UR"), ("RR", "AR"), ("oappo", "RR"), ("oappo", "oappo_paper")),
    ),
    "maze-rules": Study(
        "maze-rules", "maze-black-red", "oappo_paper",
        also=(("maze-black-red", "oappo_paper"), ("maze-black-red", "oappo")),
    ),
    "foraging-8x8-2p-2f-coop": Study("alike", "foraging-8x8-2p-2f-coop", "happo", 1.0, {"oatrpo": "hatrpo"}),
    "foraging-8x8-2p-3f": Study("alike", "foraging-8x8-2p-3f", "happo", 1.0, {"oatrpo": "hatrpo"}),
}  # fmt: skip


def cells(study: Study) -> dict[str, list[Cell]]:
    """The sweeps' runs of a study, by method, in the order of the files."""
    found: dict[str, list[Cell]] = {}
    for sweep, only in ((study.sweep, None), *study.also):
        for cell in read_sweep(ROOT / "experiments" / f"{sweep}.yaml").cells:
            name, at, method = cell.group.partition(f"{study.environment}-")
            if at and not name and (only is None or only == method):
                found.setdefault(method, []).append(cell)
    return found


def runs(study: Study) -> dict[str, list[Run]]:
    """The curve files of a study that are there, by method."""
    data = ROOT / "docs" / "results" / "data"
    found = {}
    for method, members in cells(study).items():
        paths = [str(path) for cell in members if (path := data / f"{cell.name}.json").is_file()]
        if paths:
            found[method] = find(paths, ROOT)[0]
    return found


def optimum(study: Study, one: Run) -> float:
    """The largest possible return."""
    return Maze(n_slots=1, **one.config["env_args"]).optimum().team_return if study.optimum is None else study.optimum


def compared(scores: Mapping[str, np.ndarray], method: str, reference: str) -> str:
    """A difference in words, "" of the reference itself."""
    if method == reference or reference not in scores:
        return ""
    found = reliable.difference([scores[method][:, None]], [scores[reference][:, None]])
    bounds = "" if found.low is None else f" [{found.low:+.2f}, {found.high:+.2f}], p {_p(found.p)}"
    return f"{found.value:+.2f}{bounds}"


def _p(p: float | None) -> str:
    return "-" if p is None else "< .001" if p < 0.001 else f"{p:.3f}".lstrip("0")


def table(study: Study, groups: Mapping[str, Sequence[Run]]) -> str:
    """The table of a study's runs, one row for each method."""
    best = optimum(study, next(iter(groups.values()))[0])
    areas = {method: np.array([area(run, METRIC) for run in some]) for method, some in groups.items()}
    every = {method: np.array([final(run, METRIC) for run in some]) / best for method, some in groups.items()}
    lines = [HEAD[0].format(reference=study.reference), HEAD[1]]
    for method, some in groups.items():
        reference, ends = (study.own or {}).get(method, study.reference), every[method]
        low_high = reliable.interval([areas[method][:, None]], reliable.mean)
        bounds = "" if low_high is None else f" [{low_high[0][0]:.2f}, {low_high[1][0]:.2f}]"
        told = compared(areas, method, reference)
        pair = {name: {"": groups[name]} for name in (method, reference) if name in groups}
        equal = _of(equal_cost(pair, METRIC)) if method != reference else {}
        at_equal = f"{equal[method].mean():.2f}; {compared(equal, method, reference)}" if len(equal) == 2 else "-"
        lines.append(
            f"| {method} ({len(some)}) | {ends.mean():.3f} ± {ends.std():.3f} | {reached(every, method, reference)} "
            f"| {areas[method].mean():.2f}{bounds} "
            f"| {told + (f' (to {reference})' if told and reference != study.reference else '')} "
            f"| {_when(some, 0.9 * best)} | {np.mean([run.last('processed_samples') for run in some]) / 1e6:.1f} "
            f"| {at_equal} |"
        )
    apart = [pair for pair in study.further if set(pair) <= set(groups)]
    if apart:
        lines += ["", "| | difference of areas | at the optimum |", "|---|---|---|"]
    lines += [f"| {x} to {y} | {compared(areas, x, y)} | {reached(every, x, y, True)} |" for x, y in apart]
    return "\n".join(lines)


def reached(ends: Mapping[str, np.ndarray], method: str, reference: str, both: bool = False) -> str:
    """The seeds at the optimum (``both``: and those of the reference), and whether they are more or fewer than its."""
    counts = [(int((ends[name] >= 0.99).sum()), len(ends[name])) for name in (method, reference) if name in ends]
    told = " against ".join(f"{k}/{n}" for k, n in counts[: 1 + both])
    return told if method == reference or len(counts) < 2 else f"{told}, p {_p(reliable.exact(*counts[0], *counts[1]))}"


def _of(scores: Scores) -> dict[str, np.ndarray]:
    return {method: own[""] for method, own in scores.items() if "" in own}


def _when(some: Sequence[Run], bar: float) -> str:
    """When runs first reached ``bar``."""
    reached = []
    for run in some:
        steps, values, _ = run.curves[metric_of(run, METRIC) or METRIC]
        if (values >= bar).any():
            reached.append(int(steps[(values >= bar).argmax()]))
    return f"{int(np.median(reached)):,} ({len(reached)})" if reached else "-"


#: methods of README.md's table of the maze -> how they are called there
FRONT = {
    "mappo": "MAPPO", "happo": "HAPPO", "happo-epochs": "HAPPO, 11 epochs", "oappo": "OAPPO", "hatrpo": "HATRPO",
    "oatrpo": "OATRPO",
}  # fmt: skip


def front() -> str:
    """README.md's table: areas with 95 % bootstrap intervals, and seeds at the optimum, of methods with equal seeds."""
    study = STUDIES["maze-black-red"]
    groups = {method: some for method, some in runs(study).items() if method in FRONT}
    best = optimum(study, groups["happo"][0])
    shown = {}
    for method in FRONT:
        areas = np.array([area(run, METRIC) for run in groups[method]])
        low, high = reliable.interval([areas[:, None]], reliable.mean)
        ends = np.array([final(run, METRIC) for run in groups[method]]) / best
        shown[method] = (
            f"{areas.mean():.2f} [{low[0]:.2f}, {high[0]:.2f}]",
            f"{(ends >= 0.99).sum()} of {len(ends)}",
            f"{np.mean([run.last('processed_samples') for run in groups[method]]) / 1e6:.1f} M",
        )
    rows = zip(
        ("area under the curve", "seeds at the optimum", "processed samples"),
        zip(*shown.values(), strict=True),
        strict=True,
    )
    head = ["| | " + " | ".join(FRONT.values()) + " |", "|---" * (len(FRONT) + 1) + "|"]
    return "\n".join([*head, *(f"| {name} | " + " | ".join(values) + " |" for name, values in rows)])


def settings() -> str:
    """The trials of settings on foraging: mean area over the tuning seeds by method and trial, the largest in bold."""
    found: dict[str, dict[str, list[float]]] = {}
    for cell in read_sweep(ROOT / "experiments" / "alike-settings.yaml").cells:
        (run,), _ = find([str(ROOT / "docs" / "results" / "data" / f"{cell.name}.json")], ROOT)
        trial = cell.group.partition(f"-{cell.method}-")[2]
        found.setdefault(cell.method, {}).setdefault(trial, []).append(area(run, METRIC))
    lines = []
    for method, trials in found.items():
        means = {trial: float(np.mean(areas)) for trial, areas in trials.items()}
        best = max(means, key=lambda trial: means[trial])
        told = [
            f"{'**' * (trial == best)}{trial} {value:.3f}{'**' * (trial == best)}" for trial, value in means.items()
        ]
        lines.append(f"| {method} | {', '.join(told)} |")
    return "\n".join(["| method | area of each trial |", "|---|---|", *lines])


def page(text: str) -> str:
    """The page with every study's table, and the trials of settings, as the curves have them."""
    place = re.compile(r"(<!-- settings -->\n).*?(\n<!-- end -->)", re.DOTALL)
    if place.search(text):
        text = place.sub(lambda at: f"{at[1]}\n{settings()}\n{at[2]}", text)
    for name, study in STUDIES.items():
        place = re.compile(rf"(<!-- study {re.escape(name)} -->\n).*?(\n<!-- end -->)", re.DOTALL)
        if place.search(text):
            made = table(study, runs(study))
            text = place.sub(lambda at, made=made: f"{at[1]}\n{made}\n{at[2]}", text)  # type: ignore[misc]
    return text


def states(groups: Mapping[str, Sequence[Run]]) -> set[str]:
    """The states of src/ that runs are of, as git names them; of a commit that is not in this clone the commit."""
    commits = {str(json.loads(run.path.read_text())["commit"]) for some in groups.values() for run in some}
    found = set()
    for commit in commits:
        asked = ["git", "rev-parse", "--verify", "--quiet", f"{commit}:src"]
        told = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
        found.add(told.stdout.strip() or commit)
    return found


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        for name, study in STUDIES.items():
            if found := runs(study):
                print(f"{name} (states {', '.join(sorted(x[:7] for x in states(found)))})\n\n{table(study, found)}\n")
