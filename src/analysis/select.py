"""The selection of runs: conditions, labels, configurations that differ, repeated runs."""

from __future__ import annotations

import fnmatch
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..utils.errors import UserError, nearest
from ..utils.schema import yamls
from .methods import method_name
from .names import task_name
from .runs import Run

#: names that a condition may use beside the configuration's keys
FIELDS: dict[str, Callable[[Run], Any]] = {
    "name": lambda run: run.name,
    "task": lambda run: run.task,
    "kind": lambda run: run.kind,
    "seed": lambda run: run.seed,
    "status": lambda run: run.status,
    "steps": lambda run: run.steps,
    "seconds": lambda run: run.seconds,
    "path": lambda run: str(run.path),
}
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le, ">=": operator.ge, "!=": operator.ne, "=": operator.eq, "<": operator.lt, ">": operator.gt
}  # fmt: skip
_CONDITION = re.compile(r"^\s*([\w.\-]+)\s*(<=|>=|!=|==|=|<|>)\s*(.*?)\s*$", re.DOTALL)
_NONE = object()


def flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return a nested mapping with dotted keys."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{before}{name}.")
        else:
            found[f"{before}{name}"] = value
    return found


def value_of(run: Run, name: str) -> Any:
    """Return a run's value of ``name``: a field, ``config.KEY``, ``metrics.NAME`` (newest), or a key; else _NONE."""
    if name in FIELDS:
        return FIELDS[name](run)
    if name.startswith("metrics."):
        metric = name.removeprefix("metrics.")
        return run.newest[1].get(metric, _NONE)
    return flat(run.config).get(name.removeprefix("config."), _NONE)


def check_key(name: str, runs: Iterable[Run], what: str) -> None:
    """Check that some run has ``name``.

    Raises:
        UserError: none has.
    """
    runs = list(runs)
    if all(value_of(run, name) is _NONE for run in runs):
        known = {*FIELDS, *(k for run in runs for k in flat(run.config))}
        if name.startswith("metrics."):
            known = {f"metrics.{m}" for run in runs for m in run.newest[1]}
        else:
            name = name.removeprefix("config.")
        hint = nearest(name, known) or f": a key of the configuration, metrics.NAME or one of {', '.join(FIELDS)}"
        raise UserError(f"{what}: no run has '{name}'{hint}")


@dataclass(frozen=True)
class Condition:
    """``name op value``, such as ``config.lr<0.001``; text may hold * and ?. ``typed``: the value as it was typed."""

    name: str
    op: str
    value: Any
    typed: str = ""

    def holds(self, run: Run) -> bool:
        """Whether a run meets it; a run without the name does not."""
        found = value_of(run, self.name)
        if found is _NONE:
            return False
        if isinstance(self.value, str) and self.op in ("=", "!="):
            return fnmatch.fnmatchcase(str(found), self.value) is (self.op == "=")
        if isinstance(found, str) and self.op in ("=", "!="):  # 007 is text where the run's value is
            return (found == self.typed) is (self.op == "=")
        try:
            return bool(_COMPARE[self.op](found, self.value))
        except TypeError:  # a number and a text
            return False


def conditions(words: Sequence[str]) -> list[Condition]:
    """Return the conditions of ``words``.

    Raises:
        UserError: a word of another form.
    """
    found = []
    for word in words:
        match = _CONDITION.match(word)
        if match is None:
            raise UserError(f"--filter takes NAME=VALUE, also with != < <= > >=, such as 'lr<0.001', and not '{word}'.")
        name, op, text = match.groups()
        found.append(Condition(name, "=" if op == "==" else op, yamls.scalar(text), text))
    return found


def chosen(runs: Sequence[Run], words: Sequence[str]) -> list[Run]:
    """Return the runs that meet all conditions.

    Raises:
        UserError: a condition of another form, or with a name that no run has.
    """
    wanted = conditions(words)
    for condition in wanted if runs else ():
        check_key(condition.name, runs, f"--filter {condition.name}")
    return [run for run in runs if all(c.holds(run) for c in wanted)]


def label(run: Run, keys: Sequence[str], as_written: bool = False) -> str:
    """Return the label of a run: the values of ``keys``, those other than the name with their key.

    Args:
        as_written: methods and tasks as papers write them.
    """
    parts = []
    for key in keys:
        value = value_of(run, key)
        text = "-" if value is _NONE else value if isinstance(value, str) else yamls.inline(value)
        if as_written and key in ("name", "task"):
            text = method_name(run.name) if key == "name" else task_name(run.task, run.config)
        short = key.removeprefix("config.").removeprefix("env_args.")
        parts.append(str(text) if key in ("name", "task") else f"{short}={text}")
    return ", ".join(parts)


def grouped(runs: Iterable[Run], keys: Sequence[str]) -> dict[str, dict[str, list[Run]]]:
    """Return label -> task -> runs, labels and tasks in alphabetical order."""
    found: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        found.setdefault(label(run, keys), {}).setdefault(run.task, []).append(run)
    return {name: dict(sorted(found[name].items())) for name in sorted(found)}


# -- configurations ---------------------------------------------------------------------------------------------

#: keys (EPyMARL's among them) that differ between repetitions: they are no part of a method's configuration
_REPETITION = frozenset({"seed", "env_args.seed", "run_id", "unique_token", "repeat_id", "hypergroup"})


#: removes the keys from a configuration that do not affect learning
Learned = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def configuration(run: Run, learned: Learned) -> dict[str, Any]:
    """Return a run's learning configuration in dotted keys, without its seed and its task."""
    left_out = _REPETITION | {"env"}
    return {k: v for k, v in flat(learned(run.config)).items() if k not in left_out and not k.startswith("env_args.")}


def differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys about which configurations that have them disagree, or that some have and some have not."""
    keys = sorted({k for config in configs for k in config})
    return [k for k in keys if any(c.get(k, _NONE) != configs[0].get(k, _NONE) for c in configs)]


def contradicting(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys that have different values in configurations that have them: a missing key says nothing."""
    seen: dict[str, Any] = {}
    wrong = set()
    for config in configs:
        for k, v in config.items():
            if seen.setdefault(k, v) != v:
                wrong.add(k)
    return sorted(wrong)


def variants(runs: Sequence[Run], learned: Learned) -> list[list[Run]]:
    """Return the runs by configuration (:func:`configuration`), in order of their first run."""
    found: list[tuple[dict[str, Any], list[Run]]] = []
    for run in runs:
        own = configuration(run, learned)
        for config, members in found:
            if not contradicting([config, own]):
                config.update(own)
                members.append(run)
                break
        else:
            found.append((own, [run]))
    return [members for _, members in found]


def once(runs: Sequence[Run], learned: Learned) -> tuple[list[Run], list[Run]]:
    """Return the runs without repetitions, and what was left out.

    A run that was resumed by another one is part of that one. Of runs with the same name, task, seed and configuration
    (one whose curve file is there too) the one that got furthest counts; of equals the folder, and the newest.
    """
    resumed = {path.parent.parent.absolute() for run in runs if (path := _resumed_from(run))}
    dropped = [run for run in runs if run.path.absolute() in resumed]
    alike: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        if run not in dropped and run.seed is not None:  # without a seed it is unknown whether two are the same
            alike.setdefault((run.name, run.task, repr(run.seed)), []).append(run)
    for members in alike.values():
        for same in _same_game(members, learned):
            same.sort(key=lambda run: (run.steps, run.is_folder, str(run.entry.get("start_time", ""))))
            dropped += same[:-1]
    gone = {id(run) for run in dropped}
    return [run for run in runs if id(run) not in gone], dropped


def _resumed_from(run: Run) -> Path | None:
    told = run.facts.get("resumed_from")
    return Path(told) if isinstance(told, str) else None


def _same_game(runs: Sequence[Run], learned: Learned) -> list[list[Run]]:
    """Return the runs by configuration and arguments of the environment."""
    found = []
    for members in variants(runs, learned):
        games: list[tuple[dict[str, Any], list[Run]]] = []
        for run in members:
            args = {k: v for k, v in flat(run.config).items() if k.startswith("env_args.") and k != "env_args.seed"}
            for game, same in games:
                if not contradicting([game, args]):
                    game.update(args)
                    same.append(run)
                    break
            else:
                games.append((args, [run]))
        found += [same for _, same in games]
    return found
