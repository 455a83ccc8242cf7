"""Stored runs, read from run folders, sacred folders of EPyMARL, and curve files.

Nothing here fails because of a damaged file: readable parts are read, and ``Run.troubles`` reports the others.
"""

from __future__ import annotations

import datetime as dt
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..storage.liveness import alive
from ..storage.records import METRICS_FILE
from ..storage.run_files import CONFIG_FILE, INFO_FILE, RUN_FILE, task_of
from ..storage.tested_actions import actions, named
from ..utils.errors import UserError, nearest
from .reading import LARGEST, Points, columns_of, left_out, mapping, points_of, read_folder, tail

#: shown status of a run with the status RUNNING whose process no longer exists
DEAD = "DEAD"
#: endings of files that `oamarl sweep` reads
SWEEP_SUFFIXES = (".yaml", ".yml")
#: folders of a run's checkpoints
CHECKPOINT_FOLDERS = ("checkpoints", "models", "best")
#: facts that curve files hold beside their curves: totals at the run's end
TOTALS = ("wall_clock", "processed_samples", "updates")


@dataclass(eq=False)
class Run:
    """One run.

    | field | meaning |
    |---|---|
    | path | its folder or curve file |
    | config | the merged configuration ({} where it cannot be read) |
    | facts | info.json or the head of a curve file: command line, commit, versions |
    | entry | run.json: status, times, host |
    | troubles | sentences about what could not be read |
    | called | what the sweep file through which it was selected calls its algorithm; empty: its own name |
    """

    path: Path
    config: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)
    entry: dict[str, Any] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)
    totals: dict[str, float] = field(default_factory=dict)  # of a curve file
    _curves: dict[str, Points] | None = None  # of a curve file
    called: str = ""

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder (and not a curve file)."""
        return self._curves is None

    @property
    def name(self) -> str:
        """Name of the algorithm."""
        folder = self.path.parent.parent.name if self.is_folder else self.path.stem
        return self.called or str(self.config.get("name") or folder)

    @property
    def task(self) -> str:
        """What was played: a map, a key, a scenario with its agents, or the environment."""
        return task_of(self.config) or self.path.parent.name

    @property
    def is_evaluation(self) -> bool:
        """Whether it played test episodes with the policies of another run (``evaluate=True``), and trained nothing."""
        return bool(self.config.get("evaluate"))

    @property
    def kind(self) -> str:
        """``training`` or ``evaluation``."""
        return "evaluation" if self.is_evaluation else "training"

    @property
    def evaluated(self) -> Path | None:
        """Of an evaluation the folder of the run whose policies played, or their checkpoint; None where unknown."""
        told = self.facts.get("evaluated") or self.config.get("checkpoint_path")
        if not self.is_evaluation or not told:
            return None
        path = Path(str(told))
        return path.parent.parent if path.parent.name in CHECKPOINT_FOLDERS else path

    @property
    def seed(self) -> Any:
        """The run's seed; None where it is not known."""
        return self.config.get("seed")

    @property
    def command(self) -> str:
        """The command line that started it; "" where it is not known."""
        meta = self.entry.get("meta")
        told = self.facts.get("command_line") or self.facts.get("command")
        return str(told or (meta.get("command_line") if isinstance(meta, Mapping) else "") or "")

    @cached_property
    def status(self) -> str:
        """Status of run.json; DEAD for a run that was killed; ? where unknown."""
        status = str(self.entry.get("status") or ("COMPLETED" if not self.is_folder else "?"))
        if status != "RUNNING":
            return status
        process = self.facts.get("process")
        interval = self.config.get("beat_interval")
        beat = moment(self.entry.get("heartbeat")) or moment(self.entry.get("start_time"))
        lives = alive(
            process if isinstance(process, Mapping) else None, beat,
            float(interval) if isinstance(interval, (int, float)) else 30.0,
        )  # fmt: skip
        return status if lives else "RUNNING?" if lives is None else DEAD

    @cached_property
    def curves(self) -> dict[str, Points]:
        """Every metric's points, in order of steps; a long curve is thinned evenly."""
        found = self._curves if self._curves is not None else read_folder(self.path, self.troubles)
        return named(found, self.config, self.facts)

    @cached_property
    def newest(self) -> tuple[int, dict[str, float]]:
        """The last recorded environment step, and the newest value of every metric.

        Of a run folder only the end of the metrics is read, so that a list of many runs is fast.
        """
        if self.is_folder and "curves" not in self.__dict__ and (found := tail(self.path / METRICS_FILE)):
            return found[0], named(found[1], self.config, self.facts)
        values = {name: float(points[1][-1]) for name, points in self.curves.items()}
        steps = max((int(steps[-1]) for steps, _, _ in self.curves.values()), default=0)
        return steps, {**self.totals, **values}

    @property
    def steps(self) -> int:
        """The last recorded environment step."""
        return self.newest[0]

    @property
    def seconds(self) -> float:
        """Seconds that the run has taken, nan where unknown."""
        if "wall_clock" in self.newest[1]:
            return self.newest[1]["wall_clock"]
        start, end = moment(self.entry.get("start_time")), moment(self.entry.get("stop_time"))
        end = end or moment(self.entry.get("heartbeat"))
        return (end - start).total_seconds() if start and end else math.nan

    def actions(self, metric: str) -> str:
        """How the actions behind a metric were chosen, in words; "" where it counts no episodes."""
        return actions(metric, self.config)

    def last(self, metric: str) -> float:
        """The newest value of a metric, nan where there is none."""
        return self.newest[1].get(metric, math.nan)


def moment(value: Any) -> dt.datetime | None:
    """Return a time of sacred's (ISO text, UTC), None where it is none."""
    try:
        return dt.datetime.fromisoformat(value).replace(tzinfo=None)
    except (TypeError, ValueError):
        return None


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's."""
    return any((folder / name).is_file() for name in (CONFIG_FILE, METRICS_FILE, RUN_FILE))


def open_folder(folder: Path) -> Run:
    """Return the run of a folder; its curves are read when they are first used."""
    troubles: list[str] = []
    config, entry = (mapping(folder / name, troubles) for name in (CONFIG_FILE, RUN_FILE))
    facts = mapping(folder / INFO_FILE, troubles) if (folder / INFO_FILE).exists() else {}
    return Run(folder, config, facts, entry, troubles)


# -- curve files ------------------------------------------------------------------------------------------------


def curve_file(path: Path, content: Mapping[str, Any]) -> Run | None:
    """Return the run of a curve file (:mod:`oamarl.storage.curve_files`); None: the content is no curve file's.

    Any list of [step, value] at the top or under ``metrics`` is a metric's curve.
    """
    config = content.get("config")
    if not isinstance(config, Mapping):
        return None
    inner = content.get("metrics")
    named = {**content, **(inner if isinstance(inner, Mapping) else {})}
    columns = {str(name): pair for name, value in named.items() if (pair := columns_of(value))}
    found = {name: points for name, pair in columns.items() if len((points := points_of(*pair))[0])}
    if not found:
        return None
    numbers = {k: content[k] for k in TOTALS if k in content}
    totals = {
        k: float(v)
        for k, v in numbers.items()
        if isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) <= LARGEST
    }
    facts = {k: v for k, v in content.items() if k not in found and k not in ("config", "metrics")}
    return Run(
        path,
        dict(config),
        facts,
        {"status": content.get("status") or "COMPLETED"},
        left_out(path, columns),
        totals,
        found,
    )


# -- finding them -----------------------------------------------------------------------------------------------


def find(
    words: Iterable[str], results: Path, sweep: Callable[[Path], Iterable[Path]] | None = None
) -> tuple[list[Run], list[str]]:
    """Return the runs that ``words`` select, each once, and sentences about files that could not be read.

    Args:
        words: run folders, folders with runs or curve files at any depth, curve files, paths below
            ``results/sacred``, sweep files.
        results: the results folder.
        sweep: returns the folders and files in which a sweep's runs lie.

    Raises:
        UserError: there is nothing at one of the words.
    """
    runs: dict[Path, Run] = {}
    troubles: list[str] = []
    for word in words:
        for path in _paths(word, results, sweep):
            found = list(_below(path, troubles))
            if path.is_file() and not found:
                raise UserError(troubles[-1] if troubles else f"{path} is no curve file of a run.")
            for run in found:
                runs.setdefault(run.path.resolve(), run)
    return list(runs.values()), troubles


def _paths(word: str, results: Path, sweep: Callable[[Path], Iterable[Path]] | None) -> list[Path]:
    given = Path(word).expanduser()
    for path in (given, results / "sacred" / word):
        if path.is_file() and path.suffix in SWEEP_SUFFIXES and sweep is not None:
            return [p for p in sweep(path) if p.exists()]
        if path.exists():
            return [path]
    near = [p.name for p in given.parent.glob("*")] if given.parent.is_dir() else []
    below = results / "sacred"
    near += [str(p.relative_to(below)) for depth in ("*", "*/*", "*/*/*") for p in below.glob(depth)]
    hint = nearest(word, near) or "."
    raise UserError(f"There is nothing at '{word}': a folder, a run or a curve file is expected{hint}")


def _in_order(entry: os.DirEntry[str]) -> tuple[int, str]:
    """Sort numbers as such (2 before 10), after names."""
    return (int(entry.name) if entry.name.isdecimal() else -1, entry.name)


def _below(path: Path, troubles: list[str]) -> Iterator[Run]:
    if path.is_file():
        content = mapping(path, troubles)
        run = curve_file(path, content) if content else None
        if run is not None:
            yield run
        elif content and path.suffix == ".json":
            troubles.append(f"{path} is no curve file of a run: it has no configuration or no curve.")
        return
    if is_run(path):
        yield open_folder(path)
        return
    try:
        inside = sorted(os.scandir(path), key=_in_order)
    except OSError as error:
        troubles.append(f"{path} cannot be read: {error.strerror or error}.")
        return
    for entry in inside:
        if entry.name.startswith((".", "_")):
            continue
        if entry.is_dir(follow_symlinks=False) or (entry.is_file() and entry.name.endswith(".json")):
            yield from _below(Path(entry.path), troubles)
