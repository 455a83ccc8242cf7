"""The zoo: trained teams that come with oamarl, each in a folder with its policies, curve, command and score.

| file of a team | what |
|---|---|
| `checkpoint_<steps>.pt` | a checkpoint with the policies and the configuration alone |
| `team.json` | :data:`FACTS` |
| `curve.json` | the run's curve file (:mod:`oamarl.storage.curve_files`) |
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..storage.run_files import task_of
from ..utils.errors import UserError, nearest
from ..utils.project import PACKAGE, checkout

#: how a team of the zoo is named where a run is expected
PREFIX = "zoo:"
TEAM_FILE, CURVE_FILE = "team.json", "curve.json"
#: entries of team.json
FACTS = {
    "algorithm": "name of the method",
    "env": "environment, by its --env-config",
    "env_args": "its arguments",
    "seed": "of the run",
    "step": "environment steps that the policies were trained for",
    "command": "command line that trains such a team",
    "commit": "of the code that trained it",
    "trained_with": "versions of the packages that trained it",
    "evaluated_with": "versions of the packages that evaluated it",
    "score": "greedy and sampled: seed, episodes, mean, ci95, std, length, and the returns of the first episodes",
}
#: episodes whose returns team.json has one by one
FIRST = 10
#: a returned mean of K episodes is within the bounds if it is at most this many standard errors from the stored one
ERRORS = 3.0
#: returns closer than this are equal: a sum of float32 rewards
EQUAL = 1e-5


@dataclass(frozen=True)
class Entry:
    """A team of the zoo: its folder and what team.json says."""

    folder: Path
    facts: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Name of the team, that of its folder."""
        return self.folder.name

    @property
    def task(self) -> str:
        """Map, key or scenario, or the environment (:func:`oamarl.storage.run_files.task_of`)."""
        return str(task_of(self.facts))

    @property
    def checkpoint(self) -> Path:
        """The file with its policies.

        Raises:
            UserError: there is none.
        """
        found = sorted(self.folder.glob("checkpoint_*.pt"))
        if not found:
            raise UserError(f"The team {self.folder} has no checkpoint.")
        return found[-1]


def folder() -> Path:
    """Return the folder of the zoo: of the checkout, or of the installed package."""
    return (checkout() or PACKAGE) / "zoo"


def entries(place: Path | None = None) -> list[Entry]:
    """Return the teams of the zoo in order of their names.

    Args:
        place: another folder of teams.

    Raises:
        UserError: a team.json cannot be read.
    """
    return [read(path.parent) for path in sorted((place or folder()).glob(f"*/{TEAM_FILE}"))]


def names() -> list[str]:
    """Return the names of the teams of the zoo, in order."""
    return sorted(path.parent.name for path in folder().glob(f"*/{TEAM_FILE}"))


def read(place: Path) -> Entry:
    """Return the team in a folder.

    Raises:
        UserError: its team.json is missing, or is not one.
    """
    path = place / TEAM_FILE
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"The file {path} cannot be read as JSON: {error}.") from None
    missing = sorted(set(FACTS) - set(facts)) if isinstance(facts, dict) else sorted(FACTS)
    if missing:
        raise UserError(f"The file {path} is not one of the zoo: it lacks {', '.join(missing)}.")
    return Entry(place, facts)


def find(name: str) -> Entry:
    """Return the team of this name, with or without the prefix ``zoo:``.

    Raises:
        UserError: there is none.
    """
    wanted = name.removeprefix(PREFIX)
    known = names()
    if wanted not in known:
        raise UserError(
            f"There is no team '{wanted}' in the zoo: `oamarl zoo list` names them{nearest(wanted, known) or '.'}"
        )
    return read(folder() / wanted)


def agreement(stored: Mapping[str, Any], returns: list[float]) -> str:
    """Compare an evaluation with a stored score.

    Args:
        stored: ``facts["score"]["greedy"]`` or ``["sampled"]``.
        returns: team returns of the first episodes of the same seed.

    Returns:
        ``equal``: each of the first episodes has the stored return, and all of them the stored mean; ``within
        bounds``: the mean is at most ERRORS standard errors from the stored one (another machine or version rounds
        otherwise); ``differs``.
    """
    same = all(abs(a - b) <= EQUAL for a, b in zip(stored["first"], returns, strict=False))
    mean = sum(returns) / len(returns)
    if same and (len(returns) < stored["episodes"] or abs(mean - stored["mean"]) <= EQUAL):
        return "equal"
    bound = ERRORS * stored["std"] / len(returns) ** 0.5 + EQUAL
    return "within bounds" if abs(mean - stored["mean"]) <= bound else "differs"
