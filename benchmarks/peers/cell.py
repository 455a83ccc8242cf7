"""What a comparison is: a cell of sides, each a program with the exact configuration that it runs with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: no program reaches it: the clock ends the run
NEVER = 100_000_000


@dataclass(frozen=True)
class Side:
    """One program with one configuration.

    | field | meaning |
    |---|---|
    | name | its name in the table |
    | program | ``oamarl``, ``epymarl``, ``harl``, ``pymarlzooplus``, ``benchmarl`` or ``random`` |
    | spec | what the program in ``sides/`` gets: ``kind``, ``words`` (the command line) and its own entries |
    """

    name: str
    program: str
    spec: Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """One comparison.

    | field | meaning |
    |---|---|
    | name | to select it by |
    | title | what is compared |
    | measure | a key of :data:`report.MEASURES` |
    | sides | in the order in which each round runs them |
    | reference | the name of the side that ratios are to |
    | target | ``(">=", x)`` or ``("<=", x)`` for the first side's ratio; None: none |
    | quick | part of ``--quick`` |
    """

    name: str
    title: str
    measure: str
    sides: tuple[Side, ...]
    reference: str
    target: tuple[str, float] | None = None
    quick: bool = False
    note: str = field(default="")

    @property
    def programs(self) -> set[str]:
        """The programs that it needs."""
        return {side.program for side in self.sides}


def words(config: str, env: Mapping[str, Any], env_config: str = "gymma", **settings: Any) -> list[str]:
    """Return a training command line, which EPyMARL and this project read alike."""
    given = {f"env_args.{name}": value for name, value in env.items()} | settings
    return [
        f"--config={config}",
        f"--env-config={env_config}",
        "with",
        *(f"{k}={'null' if v is None else v}" for k, v in given.items()),
    ]
