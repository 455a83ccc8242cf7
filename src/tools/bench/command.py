"""``oamarl bench``: the speed of a configuration on this machine, the time of each phase, and the limit."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...utils.errors import RunError, UserError
from ...utils.schema.command_line import Request, parse
from ..arguments import Arguments, at_least
from ..tables import table
from .request import Options, name_of, settings_of, words_of

USAGE = """\
usage: oamarl bench --config=ALGORITHM --env-config=ENVIRONMENT [options] [with KEY=VALUE ...]
       oamarl bench --standard [options] [with KEY=VALUE ...]

Measures training end to end, collection without learning, and random stepping of the same environment (in one process,
and with the configured workers), in turn, several times; shows medians, the time of each phase, memory and the machine.
The arguments are those of `oamarl train`; tests are off, and only FILE is stored.

  --standard       the maze, and LBF and RWARE where they are installed, each case in a process of its own
  --seconds S      of training, after a warm-up (20); the other measures together take about as long again
  --rounds N       the time is divided into so many rounds (5)
  --json FILE      write everything, round by round; `-` prints it in place of the tables
  --compare FILE   ratios to an earlier result of --json"""

FLAGS = ("--standard", "--seconds", "--rounds", "--json", "--compare")


def options_of(argv: Sequence[str]) -> tuple[Options, list[str]]:
    """Take this command's own flags out of ``argv``; returns them and the other words.

    Raises:
        UserError: a flag without its value, or with a wrong one.
    """
    p = Arguments("bench")
    p.add_argument("--seconds", type=at_least(0.1, float), default=Options.seconds)
    p.add_argument("--rounds", type=at_least(1), default=Options.rounds)
    p.add_argument("--json")
    p.add_argument("--compare", type=Path)
    p.add_argument("--standard", action="store_true")
    given, rest = p.parse_known_args(argv)
    return Options(**vars(given)), rest


def measure_one(request: Request, options: Options, folder: Path) -> dict[str, Any]:
    """Measure one configuration in this process.

    Raises:
        UserError: an invalid configuration, or a missing package.
    """
    settings = settings_of(request)
    from rich.console import Console
    from rich.progress import Progress

    from .measure import measure

    err = Console(stderr=True)
    name = name_of(settings, request)
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        bar = progress.add_task("rounds", total=1.0)
        found = measure(
            settings, folder, options.seconds, options.rounds, lambda done: progress.update(bar, completed=done)
        )
    return {"name": name, "words": words_of(request), **found}


def machine_now() -> dict[str, Any]:
    """Return the description of this machine."""
    from ...envs.vector.base import usable_cpus
    from ...utils import machine

    return machine.facts(usable_cpus())


def report(cases: list[dict[str, Any]], missing: list[str], found: dict[str, Any], options: Options) -> dict[str, Any]:
    """Return the content of the JSON file; ``found`` is the machine."""
    from ... import __version__
    from ...storage.provenance import commit
    from .report import FORMAT

    gpu = next((case["gpu"] for case in cases if case["gpu"]), None)
    return {
        "bench": FORMAT, "oamarl": __version__, "commit": commit(), "machine": {**found, "gpu": gpu},
        "seconds": options.seconds, "rounds": options.rounds, "cases": cases, "missing": missing,
    }  # fmt: skip


def show(content: Mapping[str, Any], earlier: Mapping[str, Any] | None) -> None:
    """Print a result, and its ratios to an earlier one."""
    from . import report as r

    cases = content["cases"]
    alone = len(cases) == 1
    if alone:
        print(cases[0]["name"], end="\n\n")

    def show_rows(rows: Sequence[tuple[str, Mapping[str, str]]]) -> None:
        lines = [["" if alone else name, *list(row.values())[1:]] for name, row in rows]
        print(table([list(rows[0][1]), *lines], " " + "r" * (len(lines[0]) - 1)), end="\n\n")

    show_rows([(case["name"], r.speed_row(case)) for case in cases])
    show_rows([(case["name"], r.time_row(case)) for case in cases])
    if earlier is not None:
        if pairs := r.pairs(cases, earlier):
            show_rows([(case["name"], r.compare_row(case, old)) for case, old in pairs])
            print("~: within the spread of the rounds; per limit: each divided by its random stepping on one core.")
        else:
            print(f"Nothing to compare: the earlier result has {', '.join(c['name'] for c in earlier['cases'])}.")
        print(r.differences(content["machine"], earlier["machine"]) or "The same machine and software.", end="\n\n")
    for case in cases:
        of_case = "" if alone else f" ({case['name']})"
        for hint in case["hints"]:
            print(f"Hint{of_case}: {hint}")
    for sentence in content["missing"]:
        print(f"Left out: {sentence}")
    print(f"Machine: {r.machine_line(content['machine'])}")
    if load := r.load_line(content["machine"]):
        print(load)


def main(argv: list[str]) -> int:
    """Measure and show; return the exit status.

    Raises:
        UserError: an invalid command line, or a package missing that the configuration needs.
    """
    options, words = options_of(argv)
    request, _ = parse(words, switches=FLAGS)
    if options.standard and (request.config or request.env_config):
        raise UserError("--standard has its own algorithms and environments: leave --config and --env-config out.")

    from ...envs.build import EnvError
    from ...utils.signals import Stop
    from ...utils.video import check_file
    from .report import read

    earlier = read(options.compare) if options.compare else None
    target = None if options.json in (None, "-") else Path(str(options.json)).expanduser()
    if target is not None:
        check_file(target, "file")
    found = machine_now()
    missing: list[str] = []
    try:
        # a signal ends the command after everything has been closed and removed
        with Stop().listening(), tempfile.TemporaryDirectory(prefix="oamarl-bench-") as folder:
            if options.standard:
                from .standard import measure_standard

                cases, missing = measure_standard(request, options, Path(folder))
            else:
                cases = [measure_one(request, options, Path(folder))]
    except (RunError, EnvError) as error:
        print(error, file=sys.stderr)
        return 1
    content = report(cases, missing, found, options)
    if options.json == "-":
        print(json.dumps(content, indent=1))
        return 0
    show(content, earlier)
    if target is not None:
        from ...evaluation.play import write_report

        write_report(target, content)
        print(f"JSON: {target}")
    return 0
