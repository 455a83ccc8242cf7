"""``oamarl doctor``: what works on this machine, by really starting each thing."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from ... import __version__
from ...utils import signals
from ...utils.console import Screen, is_live
from ...utils.errors import UserError, counted, nearest, one_of
from ...utils.layout import entry, hanging, line_width
from ..arguments import Arguments, at_least
from .checks import FAILS, MISSING, NOT_HERE, STATES, WORKS, Check, catalogue, names
from .processes import FLAG, Result, child, run

USAGE = """usage: oamarl doctor [NAME ...] [--json] [--seconds N]

Tries what oamarl can use on this machine: each environment for a few steps, devices, the C compiler, video files,
drawing without a window, MongoDB, optional packages. Each is really started, in a process of its own.

  NAME       only these: names of the list, its groups (core, environments, devices, pictures, servers, extras), or
             files of config/envs such as gymma
  --json     a JSON object in place of the list, for scripts (docs/commands.md)
  --seconds  that each may take; 90 without it

works: it was used. not installed: the line says how to install it. not here: this machine has none, or it was not asked
for. fails: it is there and does not work.
Exit status: 0 all that training needs works, and nothing that is installed fails; 1 otherwise; 2 a user error on the
command line."""

_LIMIT = 90
_STYLES = {WORKS: "green", MISSING: "yellow", NOT_HERE: "bright_black", FAILS: "bold red"}


def asked(argv: list[str]) -> Any:
    """Return the values of the command line; ``checks`` are those that it names, all where it names none.

    Raises:
        UserError: a wrong flag, or a name that there is not.
    """
    parser = Arguments("doctor", "names of checks")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=at_least(1), default=_LIMIT)
    given = parser.parse_args(argv)
    known = names()
    for name in given.names:
        if name not in known:
            raise UserError(f"`oamarl doctor` does not know '{name}': use {one_of(known)}{nearest(name, known)}")
    every = catalogue()
    given.checks = [c for c in every if not given.names or any(c.called(name) for name in given.names)]
    return given


def sound(check: Check, result: Result) -> bool:
    """Whether a result is no reason for the exit status 1."""
    return result.state == WORKS if check.core else result.state != FAILS


def machine() -> dict[str, Any]:
    """Return what the results are about."""
    return {
        "oamarl": __version__, "python": platform.python_version(), "executable": sys.executable,
        "platform": f"{platform.system()} {platform.machine()}",
    }  # fmt: skip


def main(argv: list[str]) -> int:
    """Try everything; return the exit status."""
    if argv[:1] == [FLAG]:
        check = next(check for check in catalogue() if check.name == argv[1])
        child(check, Path(argv[2]), int(argv[3]))
    given = asked(argv)
    with signals.Stop().listening():
        results = tried(given.checks, given.seconds, not given.json)
    fine = all(sound(check, results[check.name]) for check in given.checks)
    if given.json:
        print(json.dumps(document(given.checks, results, fine), indent=2, ensure_ascii=False))
    else:
        show(given.checks, results)
    sys.stdout.flush()
    return 0 if fine else 1


def tried(checks: Sequence[Check], limit: float, live: bool) -> dict[str, Result]:
    """Return the results by name; ``live``: on a terminal, what is being tried is shown meanwhile."""
    results: dict[str, Result] = {}
    screen = Screen(live=None if live else False)
    try:
        for at_work, check, result in run(checks, limit):
            if check is not None and result is not None:
                results[check.name] = result
            screen.status(f"{len(results)} of {len(checks)}: {', '.join(at_work)}", len(results) / len(checks))
    finally:
        screen.close()
    return results


def document(checks: Sequence[Check], results: dict[str, Result], fine: bool) -> dict[str, Any]:
    """Return the results for scripts."""
    return {
        **machine(),
        "ok": fine,
        "checks": [
            {
                "name": check.name, "group": check.group, "core": check.core, "state": results[check.name].state,
                "said": results[check.name].said, "seconds": round(results[check.name].seconds, 2),
            }
            for check in checks
        ],
    }  # fmt: skip


def show(checks: Sequence[Check], results: dict[str, Result]) -> None:
    """Print the results, a group after the other, and how many there are of each state."""
    console = Console(highlight=False, markup=False) if is_live(sys.stdout) else None
    about = machine()
    width = line_width()
    head = f"oamarl {about['oamarl']}, Python {about['python']} ({about['executable']}), {about['platform']}"
    print(*hanging(head, width), sep="\n")
    wide = max(len(check.name) for check in checks) + 4
    column = wide + max(map(len, STATES)) + 2
    group = ""
    for check in checks:
        if check.group != group:
            group = check.group
            print(f"\n{group}")
        result = results[check.name]
        first, *rest = entry(f"  {check.name:<{wide - 2}}{result.state}", result.said, width, column)
        if console is None:
            print(first)
        else:
            text = Text(first)
            text.stylize(_STYLES[result.state], wide, wide + len(result.state))
            console.print(text, soft_wrap=True)
        for line in rest:
            print(line)
    counts = {state: sum(results[c.name].state == state for c in checks) for state in STATES}
    verbs = {WORKS: "work", FAILS: "fail"}  # of several
    said = [f"{n} {state if n == 1 else verbs.get(state, state)}" for state, n in counts.items() if n]
    print("", *hanging(f"{counted(len(checks), 'check')}: {', '.join(said)}.", width), sep="\n")
