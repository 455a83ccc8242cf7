"""``oamarl bench``: the speed of a configuration on this machine, the time of each phase, and the limit."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...utils.errors import RunError, UserError
from ...utils.schema.command_line import Request, parse
from .request import Options, name_of, settings_of, words_of

if TYPE_CHECKING:
    pass

USAGE = """\
usage: oamarl bench --config=ALGORITHM --env-config=ENVIRONMENT [options] [with KEY=VALUE ...]
       oamarl bench --standard [options] [with KEY=VALUE ...]

Measures training end to end, collection without learning, and random stepping of the same environment (in one process,
and with the configured workers), in turn, several times; shows medians, the time of each phase, memory and the machine.
The arguments are those of `oamarl train`; tests are off, and only FILE is stored.

  --standard       the maze, and LBF and RWARE if installed, one after another, each in a process of its own
  --seconds S      seconds of training, after a warm-up (20); the other measures together take about as long again
  --rounds N       number of rounds into which the time is divided (5)
  --json FILE      write all results, round by round; `-` prints them instead of the tables
  --compare FILE   ratios to an earlier result of --json"""

FLAGS = ("--seconds", "--rounds", "--json", "--compare")


def _number(flag: str, text: str, kind: type, low: float) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = low - 1
    if not low <= value <= 1e6:
        what = "a whole number" if kind is int else "a number"
        raise UserError(f"{flag} {text} is not allowed: {what} from {low:g} on is expected.")
    return value


def options_of(argv: Sequence[str]) -> tuple[Options, list[str]]:
    """Take this command's own flags out of ``argv``; returns them and the other words.

    Raises:
        UserError: a flag without its value, or with a wrong one.
    """
    given: dict[str, str] = {}
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        name, equals, text = word.partition("=")
        if name not in FLAGS:
            rest.append(word)
            continue
        value = text if equals else next(words, "")
        if not value or value == "with":
            raise UserError(f"{name} needs a value; see `oamarl bench --help`.")
        given[name] = value
    return Options(
        _number("--seconds", given.get("--seconds", "20"), float, 0.1),
        _number("--rounds", given.get("--rounds", "5"), int, 1),
        given.get("--json"),
        Path(given["--compare"]) if "--compare" in given else None,
    ), rest


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
    """Return the content of the JSON file."""
    from ... import __version__
    from ...storage.provenance import commit
    from .report import FORMAT

    found["gpu"] = next((case["gpu"] for case in cases if case["gpu"]), None)
    return {
        "bench": FORMAT, "oamarl": __version__, "commit": commit(), "machine": found,
        "seconds": options.seconds, "rounds": options.rounds, "cases": cases, "missing": missing,
    }  # fmt: skip


def show(content: Mapping[str, Any], earlier: Mapping[str, Any] | None) -> None:
    """Print a result, and its ratios to an earlier one."""
    from . import report as r

    cases = content["cases"]
    if len(cases) == 1:
        print(cases[0]["name"], end="\n\n")
    r.show(r.speed_rows(cases))
    r.show(r.time_rows(cases))
    if earlier is not None:
        if r.pairs(cases, earlier):
            r.show(r.compare_rows(cases, earlier))
            print("~: within the spread of the rounds; per limit: each divided by its random stepping on one core.")
        else:
            print(f"Nothing to compare: the earlier result has {', '.join(c['name'] for c in earlier['cases'])}.")
        print(r.differences(content["machine"], earlier["machine"]) or "The same machine and software.", end="\n\n")
    for case in cases:
        whose = f" ({case['name']})" if len(cases) > 1 else ""
        for hint in case["hints"]:
            print(f"Hint{whose}: {hint}")
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
    if "-h" in argv or "--help" in argv:
        print(USAGE)
        return 0
    options, words = options_of(argv)
    request, switches = parse(words, switches=("--standard", *FLAGS))
    if "--standard" in switches and (request.config or request.env_config):
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
            if "--standard" in switches:
                from .standard import standard

                cases, missing = standard(request.overrides, options, Path(folder))
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
