"""Sweep files: a short YAML is expanded to cells, each the checked command line of one run."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...utils.errors import UserError, nearest
from ...utils.schema import yamls
from ...utils.schema.command_line import parse
from ...utils.schema.layers import CONFIGS, leaves
from .space import Search, read_search

#: what makes cells: also allowed in each entry of `runs`
CELLS = ("algorithms", "environments", "seeds", "with", "overrides")
#: the rest of a file
REST = ("name", "runs", "curves", "retries", "cpus_per_run", "gpus_per_run", "search")
#: keys of a run that a sweep sets itself
OWN = ("seed", "label", "local_results_path", "checkpoint_path", "evaluate", "render")

#: experiments that come with the checkout, their curves too; no other file writes there, not even a copy of one
SHIPPED = (
    "alike",
    "alike-settings",
    "maze",
    "maze-black-blue-red",
    "maze-black-red",
    "maze-rules",
    "scales",
    "smac",
    "smac-smax",
    "smax-2s3z",
    "smax-3m",
    "smax-unit-types",
    "trust-region",
    "value-based",
)

_LABEL = re.compile(r"[\w.+=,-]+")


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


@dataclass(frozen=True)
class _Part:
    """An algorithm, an environment or an override: its label, its YAML, its settings."""

    label: str
    config: str
    values: Mapping[str, Any]


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
            "seeds, and the values to try under `search:` (docs/sweeps.md)."
        )
    _known(content, (*CELLS, *REST), shown)
    name = content.get("name", path.stem)
    if not isinstance(name, str) or not _LABEL.fullmatch(name):
        raise UserError(f"{shown}: name={name!r} cannot name a sweep: use letters, digits and any of _.+=,-")
    search = read_search(content["search"], shown) if content.get("search") is not None else None
    cells: list[Cell] = []
    for block in _blocks(content, shown):
        cells += _cells(block, shown)
    _refuse_twice(cells, shown)
    return Sweep(
        name=name, path=path, cells=tuple(cells), curves=_curves(content.get("curves"), path, results),
        retries=int(_number(content, "retries", 2, shown, whole=True)),
        cpus_per_run=_number(content, "cpus_per_run", None, shown),
        gpus_per_run=_number(content, "gpus_per_run", 0.0, shown) or 0.0, search=search,
    )  # fmt: skip


def _known(content: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for word in content:
        if word not in known:
            raise UserError(f"{where}: unknown key '{word}': use {', '.join(known)}{nearest(word, known)}")


def _number(content: Mapping[str, Any], name: str, default: Any, shown: str, whole: bool = False) -> Any:
    value = content.get(name, default)
    if value is default:
        return value
    fine = not isinstance(value, bool) and isinstance(value, int if whole else (int, float)) and 0 <= value < 10**6
    if not fine:
        raise UserError(f"{shown}: {name}={value!r} is not allowed: a {'whole ' if whole else ''}number from 0 on.")
    return value


def _curves(value: Any, path: Path, results: Path | None) -> Path:
    """Return the folder of curve files: of a shipped experiment `docs/results/data`, else `curves` in the results."""
    from ...settings import results_folder

    if value is not None and not isinstance(value, str):
        raise UserError(f"{path}: curves={value!r} is not a folder.")
    if value:
        return Path(value).expanduser().absolute()
    project = CONFIGS.parent.parent
    if path.resolve() in [project.resolve() / "experiments" / f"{name}.yaml" for name in SHIPPED]:
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
        _known(entry, CELLS, f"{shown}, entry {i} of runs")
        common = {**_settings(top.get("with"), "with", shown), **_settings(entry.get("with"), "with", shown)}
        yield {**top, **entry, "with": common}


def _cells(block: Mapping[str, Any], shown: str) -> Iterator[Cell]:
    algorithms, environments = (_parts(block.get(what), what, shown) for what in ("algorithms", "environments"))
    common, seeds = _settings(block.get("with"), "with", shown), _seeds(block.get("seeds"), shown)
    for env, alg, over in itertools.product(environments, algorithms, _overrides(block.get("overrides"), shown)):
        # more specific settings take precedence
        values = {**common, **env.values, **alg.values, **over.values}
        group = "-".join(part.label for part in (env, alg, over) if part.label)
        cell = resolved(group, seeds[0], (f"--config={alg.config}", f"--env-config={env.config}"), values, shown)
        yield from (with_seed(cell, seed) for seed in seeds)


def resolved(group: str, seed: int, flags: Sequence[str], values: Mapping[str, Any], shown: str) -> Cell:
    """Return the cell of one command line, checked as far as that goes without building the environment.

    Raises:
        UserError: what is wrong with it, and in which cell.
    """
    from ...parts import resolve
    from ...settings import learned
    from ...storage.sacred_run import run_parent

    words = (*flags, "with", f"seed={seed}", *(f"{k}={yamls.inline(v)}" for k, v in values.items()))
    try:
        settings = resolve(parse(words)[0])
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


def _parts(value: Any, what: str, shown: str) -> list[_Part]:
    """Read `[oappo, ./mine.yaml]` or `{label: {config: oappo, with: {...}}}`."""
    example = "oappo" if what == "algorithms" else "maze"
    if not value or not isinstance(value, (list, Mapping, str)):
        raise UserError(f"{shown}: no {what} are given: write {what}: [{example}]")
    if not isinstance(value, Mapping):
        names = [value] if isinstance(value, str) else value
        if not all(isinstance(n, str) for n in names):
            raise UserError(f"{shown}: {what} must be names, paths, or a mapping of names to `config` and `with`.")
        return [_Part(_label(Path(n).stem.replace(":", "."), what, shown), n, {}) for n in names]
    parts = []
    for label, entry in value.items():
        entry = {} if entry is None else entry
        if not isinstance(entry, Mapping):
            raise UserError(f"{shown}: '{label}' of {what} must hold `config` and `with`.")
        _known(entry, ("config", "with"), f"{shown}, '{label}' of {what}")
        values = _settings(entry.get("with"), f"{label}.with", shown)
        parts.append(_Part(_label(label, what, shown), str(entry.get("config", label)), values))
    return parts


def _label(label: str, what: str, shown: str) -> str:
    if not _LABEL.fullmatch(label):
        raise UserError(f"{shown}: '{label}' of {what} cannot be part of a file's name: use letters, digits and _.+=,-")
    return label


def _settings(value: Any, where: str, shown: str) -> dict[str, Any]:
    """Return settings with dotted keys."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UserError(f"{shown}: `{where}` must hold `key: value` lines.")
    found = dict(leaves(value))
    for own in OWN:
        if own in found:
            instead = "list it under `seeds`" if own == "seed" else "take it out"
            raise UserError(f"{shown}: '{own}' in `{where}` is set by the sweep itself: {instead}.")
    return found


def _overrides(value: Any, shown: str) -> list[_Part]:
    """Read `{label: {key: value}}`, or a grid `{key: [values]}` whose combinations are named by their values."""
    if value is None:
        return [_Part("", "", {})]
    if not isinstance(value, Mapping) or not value:
        raise UserError(f"{shown}: `overrides` must hold `label: {{key: value}}` or `key: [values]` lines.")
    # a grid may be written nested, as any settings
    flat = dict(leaves(value))
    if all(isinstance(v, list) for v in flat.values()):
        _settings(value, "overrides", shown)
        combinations = [dict(zip(flat, values, strict=True)) for values in itertools.product(*flat.values())]
        return [_Part(grid_label(c), "", c) for c in combinations]
    if not all(isinstance(v, Mapping) or v is None for v in value.values()):
        raise UserError(f"{shown}: `overrides` mixes labels and lists: use `label: {{key: value}}` or `key: [values]`.")
    return [_Part(_label(k, "overrides", shown), "", _settings(v, f"overrides.{k}", shown)) for k, v in value.items()]


def grid_label(values: Mapping[str, Any]) -> str:
    """Return `lr=0.001,epochs=5` for a combination."""
    texts = (f"{k.rpartition('.')[2]}={yamls.inline(v)}" for k, v in values.items())
    return re.sub(r"[^\w.+=,-]+", "_", ",".join(texts))


def _seeds(value: Any, shown: str) -> list[int]:
    """Read `[1, 2, 5]` or `1-5` or `1-3, 7`."""
    items: Sequence[Any] = value if isinstance(value, list) else str(value).split(",")
    if value is None or isinstance(value, (int, float)) or not items:
        one = f": [{value}] is this seed, 1-{value} that many" if isinstance(value, int) else ""
        raise UserError(f"{shown}: seeds={value!r} is not allowed: a list or a range such as 1-5 is expected{one}.")
    found: list[int] = []
    for item in items:
        match = re.fullmatch(r"\s*(\d{1,10})\s*(?:-\s*(\d{1,10})\s*)?", str(item))
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if isinstance(item, (bool, float)) or not first <= last < 2**31 or last - first >= 10**5:
            raise UserError(f"{shown}: '{item}' in seeds is not allowed: whole numbers and ranges such as 1-5 are.")
        found += range(first, last + 1)
    twice = sorted({s for s in found if found.count(s) > 1})
    if twice:
        raise UserError(f"{shown}: seed {twice[0]} is listed twice: a run must not be counted twice.")
    return found


def _refuse_twice(cells: Sequence[Cell], shown: str) -> None:
    names: dict[str, Cell] = {}
    configs: dict[str, Cell] = {}
    for cell in cells:
        if cell.name in names:
            raise UserError(f"{shown}: the run {cell.name} is there twice: a run must not be counted twice.")
        other = configs.setdefault(json.dumps(cell.config, sort_keys=True), cell)
        if other is not cell:
            raise UserError(f"{shown}: {cell.name} and {other.name} are the same run under two names.")
        names[cell.name] = cell
