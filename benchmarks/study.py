"""The tables of docs/ that compare methods, from the curve files of a sweep's runs.

    oamarl sweep experiments/maze-black-red.yaml    # trains what is missing
    .venv/bin/python benchmarks/study.py            # prints every study's table
    .venv/bin/python benchmarks/study.py --write    # and puts it into its place in its page

A table stands between the lines `<!-- study NAME -->` and `<!-- end -->`, the trials of settings of a sweep between
`<!-- settings SWEEP -->` and `<!-- end -->`. Of each method, over seeds:

| column | what |
|---|---|
| end | mean training return of the last 10 % of the steps, divided by the optimum; mean ± standard deviation |
| at the optimum | seeds whose end is within 1 % of it; p of Fisher's exact test, to the reference |
| area | mean training return over all steps; 95 % bootstrap interval |
| to the reference | difference of mean areas: 95 % stratified bootstrap interval, p of a two-sided permutation test |
| steps to 0.9 | environment steps until 0.9 of the optimum was first reached; median over seeds that did (how many) |
| samples | rows evaluated in updates, in millions |
| at equal samples | area against these, up to where the first run of the method or the reference ends; the difference |

Where the largest possible return is not known, the end is the return itself, and the columns that need it are left out.
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
DOCS, DATA = ROOT / "docs", ROOT / "docs" / "results" / "data"


@dataclass(frozen=True)
class Study:
    """A table: the sweep that its runs are of, the environment's label there, and what methods are compared to.

    ``reference``: a method, or the one of each method where they differ (``own``); ``optimum``: the largest possible
    value of ``metric``, "maze": the maze's, computed; None: not known; ``further``: comparisons below the table.
    """

    sweep: str
    environment: str
    reference: str
    optimum: float | str | None = None
    own: Mapping[str, str] | None = None
    further: tuple[tuple[str, str], ...] = ()
    metric: str = "return_mean"


STUDIES = {
    "maze-black-red": Study(
        "maze-black-red", "maze-black-red", "happo", "maze", own={"oatrpo": "hatrpo", "oatrpo_paper": "hatrpo"},
        further=(("oappo", "happo-epochs"), ("oappo", "mappo"), ("oappo", "seps"), ("oappo", "oappo_paper"),
                 ("oatrpo", "oatrpo_paper"), ("oatrpo", "oappo")),
    ),
    "maze-black-blue-red": Study(
        "maze-black-blue-red", "maze-black-blue-red", "NR", "maze",
        further=(("RR", "UR"), ("RR", "AR"), ("oappo", "RR"), ("oappo", "oappo_paper")),
    ),
    "maze-sigma": Study(
        "maze-sigma", "maze-black-red", "oappo_paper", "maze", further=(("sigma-1", "sigma-0.01"),),
    ),
    "maze-lambda": Study(
        "maze-lambda", "maze-black-red", "oappo_paper", "maze",
        further=(("lambda-0.4", "lambda-1"), ("lambda-0.4", "lambda-0.2")),
    ),
    "maze-rules": Study(
        "maze-rules", "maze-black-red", "oappo_paper", "maze",
        own=dict.fromkeys(
            ("mode-frequency", "mode-sample", "mode-sample-own-factor", "clip-learner", "rho-clip-2", "factor-clip-2"),
            "oappo",
        ),
    ),
    "foraging-8x8-2p-2f-coop": Study(
        "alike", "foraging-8x8-2p-2f-coop", "happo", 1.0, {"oatrpo": "hatrpo"},
        further=(("oappo", "happo-epochs"), ("oappo", "mappo"), ("oappo", "oappo-fixed"), ("oappo", "oappo_paper"),
                 ("oatrpo", "oappo")),
    ),
    "batches-8x8-2p-2f-coop": Study("alike-batches", "batches-8x8-2p-2f-coop", "hatrpo", 1.0),
    "foraging-8x8-2p-3f": Study(
        "alike", "foraging-8x8-2p-3f", "happo", 1.0, {"oatrpo": "hatrpo"},
        further=(("oappo", "happo-epochs"), ("oappo", "mappo"), ("oappo", "oappo-fixed"), ("oappo", "oappo_paper"),
                 ("oatrpo", "oappo")),
    ),
    "value-lbf-8x8-2p-2f-coop": Study(
        "value-based", "value-lbf-8x8-2p-2f-coop", "mappo", 1.0,
        further=(("pqn_vdn", "vdn"), ("qmix", "vdn"), ("iql", "vdn")),
    ),
    "value-lbf-8x8-2p-3f": Study(
        "value-based", "value-lbf-8x8-2p-3f", "mappo", 1.0,
        further=(("pqn_vdn", "vdn"), ("qmix", "vdn"), ("iql", "vdn")),
    ),
    "value-lbf-8x8-2p-3f-individual": Study(
        "value-based", "value-lbf-8x8-2p-3f-individual", "iql-separate", 1.0,
    ),
}  # fmt: skip


def cells(study: Study) -> dict[str, list[Cell]]:
    """The sweep's runs of a study, by method, in the order of the file."""
    found: dict[str, list[Cell]] = {}
    for cell in read_sweep(ROOT / "experiments" / f"{study.sweep}.yaml").cells:
        name, at, method = cell.group.partition(f"{study.environment}-")
        if at and not name and method.startswith(cell.method):  # an environment's label may begin with another's
            found.setdefault(method, []).append(cell)
    return found


def runs(study: Study) -> dict[str, list[Run]]:
    """The curve files of a study that are there, by method."""
    found = {}
    for method, members in cells(study).items():
        paths = [str(path) for cell in members if (path := DATA / f"{cell.name}.json").is_file()]
        if paths:
            found[method] = find(paths, ROOT)[0]
    return found


def optimum(study: Study, one: Run) -> float | None:
    """The largest possible value, if it is known."""
    if isinstance(study.optimum, str):
        return Maze(n_slots=1, **one.config["env_args"]).optimum().team_return
    return study.optimum


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
    best, metric = optimum(study, next(iter(groups.values()))[0]), study.metric
    areas = {method: np.array([area(run, metric) for run in some]) for method, some in groups.items()}
    every = {method: np.array([final(run, metric) for run in some]) / (best or 1.0) for method, some in groups.items()}
    rows = []
    for method, some in groups.items():
        reference, ends = (study.own or {}).get(method, study.reference), every[method]
        low_high = reliable.interval([areas[method][:, None]], reliable.mean)
        bounds = "" if low_high is None else f" [{low_high[0][0]:.2f}, {low_high[1][0]:.2f}]"
        told = compared(areas, method, reference)
        row = {"method (seeds)": f"{method} ({len(some)})", "end": f"{ends.mean():.3f} ± {ends.std():.3f}"}
        if best is not None:
            row["at the optimum"] = reached(every, method, reference)
        row["area"] = f"{areas[method].mean():.2f}{bounds}"
        row[f"area to {study.reference}"] = told + (
            f" (to {reference})" if told and reference != study.reference else ""
        )
        if best is not None:
            row["steps to 0.9"] = _when(some, metric, 0.9 * best)
        if all("processed_samples" in run.curves for run in some):
            row["samples"] = f"{np.mean([run.last('processed_samples') for run in some]) / 1e6:.1f}"
            pair = {name: {"": groups[name]} for name in (method, reference) if name in groups}
            equal = _of(equal_cost(pair, metric)) if method != reference else {}
            row["at equal samples"] = (
                f"{equal[method].mean():.2f}; {compared(equal, method, reference)}" if len(equal) == 2 else "-"
            )
        rows.append(row)
    lines = as_markdown(rows)
    if apart := [pair for pair in study.further if set(pair) <= set(groups)]:
        told = [
            {"": f"{x} to {y}", "difference of areas": compared(areas, x, y)}
            | ({"at the optimum": reached(every, x, y, True)} if best is not None else {})
            for x, y in apart
        ]
        lines += ["", *as_markdown(told)]
    return "\n".join(lines)


def as_markdown(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Rows by column; a column that a row lacks is "-" there."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    return [*lines, *("| " + " | ".join(row.get(name, "-") for name in names) + " |" for row in rows)]


def reached(ends: Mapping[str, np.ndarray], method: str, reference: str, both: bool = False) -> str:
    """The seeds at the optimum (``both``: and those of the reference), and whether they are more or fewer than its."""
    counts = [(int((ends[name] >= 0.99).sum()), len(ends[name])) for name in (method, reference) if name in ends]
    told = " against ".join(f"{k}/{n}" for k, n in counts[: 1 + both])
    return told if method == reference or len(counts) < 2 else f"{told}, p {_p(reliable.exact(*counts[0], *counts[1]))}"


def _of(scores: Scores) -> dict[str, np.ndarray]:
    return {method: own[""] for method, own in scores.items() if "" in own}


def _when(some: Sequence[Run], metric: str, bar: float) -> str:
    """When runs first reached ``bar``."""
    reached = []
    for run in some:
        steps, values, _ = run.curves[metric_of(run, metric) or metric]
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
    best, shown = optimum(study, groups["happo"][0]) or 1.0, {}
    for method in FRONT:
        areas = np.array([area(run, study.metric) for run in groups[method]])
        low, high = reliable.interval([areas[:, None]], reliable.mean)
        ends = np.array([final(run, study.metric) for run in groups[method]]) / best
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


def settings(sweep: str) -> str:
    """The trials of a sweep of settings: mean area over its seeds by method and trial, the largest in bold."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for cell in read_sweep(ROOT / "experiments" / f"{sweep}.yaml").cells:
        (run,), _ = find([str(DATA / f"{cell.name}.json")], ROOT)
        environment, _, trial = cell.group.partition(f"-{cell.method}-")
        found.setdefault((environment, cell.method), {}).setdefault(trial, []).append(area(run, "return_mean"))
    several = len({environment for environment, _ in found}) > 1
    rows = []
    for (environment, method), trials in found.items():
        means = {trial: float(np.mean(areas)) for trial, areas in trials.items()}
        best = max(means, key=lambda trial: means[trial])
        told = [
            f"{'**' * (trial == best)}{trial} {value:.3f}{'**' * (trial == best)}" for trial, value in means.items()
        ]
        where = {"environment": environment.rpartition("-")[2]} if several else {}
        rows.append({**where, "method": method, "area of each trial": ", ".join(told)})
    return "\n".join(as_markdown(rows))


def pages() -> list[Path]:
    """The pages with tables of this program."""
    return sorted(page for page in DOCS.glob("*.md") if "\n<!-- s" in page.read_text(encoding="utf-8"))


def shown(text: str) -> list[str]:
    """Names of the studies whose tables stand in a page."""
    return re.findall(r"<!-- study (\S+) -->", text)


def written(text: str) -> str:
    """A page with its studies' tables, and the trials of settings, as the curves have them."""

    def fill(at: re.Match[str]) -> str:
        made = table(STUDIES[at[3]], runs(STUDIES[at[3]])) if at[2] == "study" else settings(at[3])
        return f"{at[1]}\n{made}\n\n{at[4]}"

    place = re.compile(r"(<!-- (study|settings) (\S+) -->\n)(?:.*?\n)??(<!-- end -->)", re.DOTALL)
    return place.sub(fill, text)


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
        for page in pages():
            page.write_text(written(page.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        for name, study in STUDIES.items():
            if found := runs(study):
                print(f"{name} (states {', '.join(sorted(x[:7] for x in states(found)))})\n\n{table(study, found)}\n")
