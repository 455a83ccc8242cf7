"""Sweep files: a short YAML is expanded to cells, each the checked command line of one run."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...utils.errors import UserError
from ...utils.project import checkout, page
from ...utils.schema import yamls
from ...utils.schema.command_line import parse
from .entries import OWN, check_known, check_number, names_a_file, read_overrides, read_parts, read_seeds, read_settings
from .space import Search, read_search

#: what makes cells: also allowed in each entry of `runs`
CELLS = ("algorithms", "environments", "seeds", "with", "overrides", "seeds_at_once")
#: the rest of a file
REST = ("name", "runs", "curves", "retries", "cpus_per_run", "gpus_per_run", "search")
#: bytes of a run's or a sweep's name: the names of its files have some more, and 255 at most
_LONGEST = 200
#: experiments that come with the checkout, their curves too; no other file writes there, not even a copy of one
SHIPPED = (
    "alike",
    "alike-batches",
    "alike-settings",
    "football",
    "football-pass-and-shoot",
    "mamujoco",
    "maze-black-blue-red",
    "maze-black-red",
    "maze-lambda",
    "maze-rules",
    "maze-sigma",
    "reciprocity",
    "reciprocity-figure8",
    "scales",
    "seac-arenas",
    "seac-authors",
    "seac-rware",
    "smac",
    "smac-smax",
    "smax-2s3z",
    "smax-3m",
    "smax-3s5z_vs_3s6z",
    "smax-finals",
    "smax-settings",
    "tabular-agents",
    "tabular-consensus",
    "tabular-convergence",
    "value-based",
    "value-finals",
    "value-settings",
)


@dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    | field | meaning |
    |---|---|
    | name | `<environment>-<algorithm>[-<override>]-seed<n>`, which is also its curve file's name |
    | group | the same without the seed |
    | words | the command line after the program's name |
    | config | what decides its numbers (`settings.learned`), as JSON has it |
    | parent | folder of its numbered runs, relative to the results folder |
    | team | name of the metric that is the team's return |
    | threads | that torch takes at most |
    | shares | it takes `workers`, and the file leaves that to the sweep |
    | method | what the file calls its algorithm |
    | at_once | seeds that are trained in one process |
    """

    name: str
    group: str
    seed: int
    words: tuple[str, ...]
    config: dict[str, Any] = field(repr=False)
    parent: str
    t_max: int
    team: str
    threads: int
    shares: bool
    method: str = ""
    at_once: int = 1

    @property
    def command(self) -> str:
        """The command line, quoted for a shell."""
        import shlex

        return shlex.join(["oamarl", *self.words])


@dataclass(frozen=True)
class Sweep:
    """A sweep file, checked. `cells` are all runs; with `search`, those of each trial without its overrides."""

    name: str
    path: Path
    cells: tuple[Cell, ...]
    curves: Path
    retries: int
    cpus_per_run: float | None
    gpus_per_run: float
    search: Search | None


def load(path: Path, results: Path | None = None) -> Sweep:
    """Read a sweep file and check every cell.

    Args:
        path: the file.
        results: the results folder (None: as for any run), which holds the curve files where the file names no folder.

    Raises:
        UserError: whatever is wrong with the file or a cell, in one sentence.
    """
    shown = str(path)
    content = yamls.load(path, shown)
    if "grid-search" in content:
        raise UserError(
            f"{shown} is a file of EPyMARL's search.py, which is not read here: name algorithms, environments and "
            f"seeds, and the values to try under `search:` ({page('sweeps.md')})."
        )
    check_known(content, (*CELLS, *REST), shown)
    name = content.get("name", path.stem)
    if not names_a_file(name) or len(name) > _LONGEST:
        raise UserError(
            f"{shown}: name={name!r} cannot name a sweep: use at most "
            f"{_LONGEST} letters, digits and any of _.+=,-, and not dots alone."
        )
    search = read_search(content["search"], shown) if content.get("search") is not None else None
    cells: list[Cell] = []
    for block in _blocks(content, shown):
        cells += _cells(block, shown)
    _refuse_twice(cells, shown)
    if search is not None:
        for cell in {cell.group: cell for cell in cells}.values():
            _check_space(search, cell, shown)
    if search is not None and any(cell.at_once > 1 for cell in cells):
        raise UserError(f"{shown}: a search stops each run by itself: leave `seeds_at_once` out.")
    return Sweep(
        name=name, path=path, cells=tuple(cells), curves=_curves(content.get("curves"), path, results),
        retries=int(_number(content, "retries", 2, shown, whole=True)),
        cpus_per_run=_number(content, "cpus_per_run", None, shown),
        gpus_per_run=_number(content, "gpus_per_run", 0.0, shown) or 0.0, search=search,
    )  # fmt: skip


def _number(content: Mapping[str, Any], name: str, default: Any, shown: str, whole: bool = False) -> Any:
    value = content.get(name, default)
    if value is default:
        return value
    fine = not isinstance(value, bool) and isinstance(value, int if whole else (int, float)) and 0 <= value < 10**6
    if not fine:
        raise UserError(f"{shown}: {name}={value!r} is not allowed: a {'whole ' if whole else ''}number from 0 on.")
    return value


def _at_once(block: Mapping[str, Any], shown: str) -> int:
    from ...training.seeds import MOST

    found = block.get("seeds_at_once", 1)
    if not isinstance(found, int) or isinstance(found, bool) or not 1 <= found <= MOST:
        raise UserError(f"{shown}: seeds_at_once={found!r} is not allowed: a whole number from 1 to {MOST:,}.")
    return found


def _curves(value: Any, path: Path, results: Path | None) -> Path:
    """Return the folder of curve files: of a shipped experiment `docs/results/data`, else `curves` in the results."""
    from ...settings import results_folder

    if value is not None and not isinstance(value, str):
        raise UserError(f"{path}: curves={value!r} is not a folder.")
    if value:
        return Path(value).expanduser().absolute()
    project = checkout()
    if project and path.resolve() in [project / "experiments" / f"{name}.yaml" for name in SHIPPED]:
        return project / "docs" / "results" / "data"
    return (Path(results_folder(None)) if results is None else results) / "curves"


def _blocks(content: Mapping[str, Any], shown: str) -> Iterator[dict[str, Any]]:
    """Yield what makes cells: the file itself, or each entry of `runs` laid over it."""
    top = {k: v for k, v in content.items() if k in CELLS}
    runs = content.get("runs")
    if runs is None:
        yield top
        return
    if not isinstance(runs, list) or not runs or not all(isinstance(r, Mapping) for r in runs):
        raise UserError(f"{shown}: `runs` must be a list of mappings with {', '.join(CELLS)}.")
    for i, entry in enumerate(runs, 1):
        check_known(entry, CELLS, f"{shown}, entry {i} of runs")
        common = {**read_settings(top.get("with"), "with", shown), **read_settings(entry.get("with"), "with", shown)}
        yield {**top, **entry, "with": common}


def _cells(block: Mapping[str, Any], shown: str) -> Iterator[Cell]:
    algorithms, environments = (read_parts(block.get(what), what, shown) for what in ("algorithms", "environments"))
    common, seeds = read_settings(block.get("with"), "with", shown), read_seeds(block.get("seeds"), shown)
    overrides = read_overrides(block.get("overrides"), shown)
    at_once = _at_once(block, shown)
    check_number(len(environments) * len(algorithms) * len(overrides) * len(seeds), "runs", shown)
    for env, alg, over in itertools.product(environments, algorithms, overrides):
        # more specific settings take precedence
        values = {**common, **env.values, **alg.values, **over.values}
        group = "-".join(part.label for part in (env, alg, over) if part.label)
        flags = (f"--config={alg.config}", f"--env-config={env.config}")
        cell = replace(resolved(group, seeds[0], flags, values, shown), method=alg.label, at_once=at_once)
        if at_once > 1:  # what a process of several seeds refuses
            resolved(group, seeds[0], flags, {**values, "seeds_at_once": at_once}, shown)
        yield from (with_seed(cell, seed) for seed in seeds)


def resolved(group: str, seed: int, flags: Sequence[str], values: Mapping[str, Any], shown: str) -> Cell:
    """Return the cell of one command line, checked as far as that goes without building the environment.

    Raises:
        UserError: what is wrong with it, and in which cell.
    """
    from ...parts import resolve
    from ...settings import learned
    from ...storage.sacred_run import run_parent
    from ...training.seeds import seeds_of

    words = (*flags, "with", f"seed={seed}", *(yamls.word(k, v) for k, v in values.items()))
    try:
        # a number in a file is a number: text that is written like one stands in quotes there
        settings = resolve(replace(parse(words)[0], typed={}))
        seeds_of(settings)
    except UserError as error:
        text = str(error).replace("(command line)", f"({shown})")
        text = text.replace("take it off the command line", "set it only for algorithms that do")
        raise UserError(f"{shown}, runs {group}: {text}") from None
    found = settings.values
    return Cell(
        name=f"{group}-seed{seed}", group=group, seed=seed, words=words,
        config=json.loads(json.dumps(learned(found))),
        parent=str(run_parent({**found, "local_results_path": ""})), t_max=found["t_max"],
        team="return_mean" if found["common_reward"] else "total_return_mean",
        threads=max(found["torch_threads"], found.get("learner_threads") or 1),
        shares="workers" in found and not {"workers", "backend"} & set(values),
    )  # fmt: skip


def with_seed(cell: Cell, seed: int) -> Cell:
    """Return a checked cell with another seed."""
    words = tuple(f"seed={seed}" if word.startswith("seed=") else word for word in cell.words)
    return replace(cell, name=f"{cell.group}-seed{seed}", seed=seed, words=words, config={**cell.config, "seed": seed})


def with_values(cell: Cell, group: str, values: Mapping[str, Any], shown: str) -> Cell:
    """Return a cell with further settings, checked, under another group's name."""
    at = cell.words.index("with")
    old = dict(word.split("=", 1) for word in cell.words[at + 2 :])
    settings = {**{k: yamls.scalar(v) for k, v in old.items()}, **values}
    return resolved(group, cell.seed, cell.words[:at], settings, shown)


def _check_space(search: Search, cell: Cell, shown: str) -> None:
    """Refuse a space with a value that no trial could use: each by itself, then beside the others' first ones.

    Raises:
        UserError: what the configuration says of it.
    """
    first = {name: values[0] for name, values in search.ends().items()}
    for name, values in search.ends().items():
        if name in OWN or name == "name":
            raise UserError(f"{shown}, search: '{name}' is set by the sweep itself: take it out of `space`.")
        for value in values:
            try:
                with_values(cell, cell.group, {name: value}, shown)
            except UserError:
                with_values(cell, cell.group, {**first, name: value}, shown)


def _refuse_twice(cells: Sequence[Cell], shown: str) -> None:
    names: dict[str, Cell] = {}
    configs: dict[str, Cell] = {}
    for cell in cells:
        if len(cell.name.encode()) > _LONGEST:
            raise UserError(
                f"{shown}: the run {cell.name[:60]}... would have a name of {len(cell.name.encode())} bytes, as its "
                f"files have, and at most {_LONGEST} are allowed: name settings by `label: {{key: value}}`."
            )
        if cell.name in names:
            raise UserError(f"{shown}: the run {cell.name} is there twice: a run must not be counted twice.")
        other = configs.setdefault(json.dumps(cell.config, sort_keys=True), cell)
        if other is not cell:
            raise UserError(f"{shown}: {cell.name} and {other.name} are the same run under two names.")
        names[cell.name] = cell
