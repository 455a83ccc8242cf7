"""What the last word of a command line may become. Files are read as text: YAMLs for keys, usages for flags."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from ...utils.project import checkout
from ...utils.schema import plugins
from ...utils.schema.layers import CONFIGS, shipped, tuned
from .. import COMMANDS

_TOOLS = Path(__file__).resolve().parents[1]
RUNS = ("list", "show", "compare", "delete", "export")
ZOO = ("list", "get", "evaluate", "add")
#: commands whose words are runs, and those that take the command line of a run
OF_RUNS = ("evaluate", "showcase", "plot", "report", "runs")
LIKE_TRAIN = ("train", "config", "bench", "check-env")
#: fixed words that a command takes
TAKES = {"list": ("algorithms", "environments"), "completion": ("bash", "zsh", "fish"), "runs": RUNS, "zoo": ZOO}
#: keys whose values are runs, and those that name a registered class -> its package
RUN_KEYS = ("checkpoint_path", "init_from")
REGISTRIES = {"runner": "runners", "mac": "controllers", "agent": "modules", "learner": "learners", "env": "envs"}
_KEY = re.compile(r"^(\w+): *([^#\n]*)", re.M)
_ARGUMENT = re.compile(r"^ {2}(\w+): *([^#\n]*)", re.M)
_FLAG = re.compile(r"(?<![\w`-])--[a-z][a-z-]*")
_CHOICES = re.compile(r"(--[a-z][a-z-]*) ([\w.]+(?:\|[\w.]+)+)")
#: a folder with more entries than this is not searched for runs below it
_MOST = 500


def candidates(line: str) -> list[str]:
    """Return the whole words that the last one of ``line`` may become, in order.

    Args:
        line: what was typed up to the cursor, the program's name included.
    """
    try:
        words = shlex.split(line)
    except ValueError:  # an open quote
        return []
    current = "" if not line or line[-1].isspace() else words.pop() if words else ""
    return [word for word in _offered(words[1:], current) if word.startswith(current) and " " not in word]


def _offered(before: list[str], current: str) -> Iterable[str]:
    """Return what may stand after the words ``before``, among it what begins like ``current``."""
    command = before[0] if before else ""
    if not before and not current.startswith("-"):
        return ["train", *COMMANDS, *_train_flags(), "--help", "--version", "with"]
    if command not in COMMANDS and command != "train":
        command, before = "train", ["train", *before]
    if "with" in before:
        return _settings(before, current)
    flag, equals, _ = current.partition("=")
    if equals and flag.startswith("--"):
        return [f"{flag}={value}" for value in _values_of(command, flag, current.partition("=")[2])]
    of_flag = len(before) > 1 and before[-1].startswith("--") and not current.startswith("-")
    if of_flag and (values := _values_of(command, before[-1], current, files_too=False)):
        return values
    return _words(command, before, current)


def _words(command: str, before: list[str], current: str) -> list[str]:
    """Return a command's own words: flags, names, runs, files."""
    flags = [*_flags(command, before[1] if len(before) > 1 else ""), "--help"]
    if command in LIKE_TRAIN:
        flags += [*_train_flags(), "with"]
    flags = [flag for flag in flags if flag.rstrip("=") not in (word.partition("=")[0] for word in before)]
    if current.startswith("-"):
        return flags
    plain = [word for word in flags if not word.startswith("-")]
    if command in TAKES and len(before) == 1:
        return [*TAKES[command], *plain]
    if command == "install" and len(before) == 1:
        return [
            name for some in re.findall(r"oamarl install ([\w|]+)", _usage(command, "")) for name in some.split("|")
        ]
    if command == "config":
        return [*_keys(), *(f"env_args.{name}" for name in _arguments(None)), *plain]
    if command == "check-env":
        return [*_names("--env-config"), *(_files(current, (".yaml", ".yml")) if _is_path(current) else ()), *plain]
    if command == "doctor":
        from ..doctor.checks import names  # with numpy, which other lines do not wait for

        return [*names(), *plain]
    if command == "sweep":
        return _files(current, (".yaml", ".yml"))
    if command == "zoo" and before[1] in ("get", "evaluate"):
        from ...evaluation.zoo import names as teams

        return [*teams(), *plain]
    if command in OF_RUNS or command == "zoo":
        return _runs(current)
    return [*plain, *(_train_flags() if command in LIKE_TRAIN else ())]


# -- flags -------------------------------------------------------------------------------------------------------


def _train_flags() -> list[str]:
    return ["--config=", "--env-config="]


@cache
def _usage(command: str, sub: str) -> str:
    """Return the text of the module with a command's usage, unread by Python: importing it may take long."""
    if command in ("runs", "zoo"):
        path = _TOOLS / command / f"{sub if sub in TAKES[command] else 'list'}.py"
    elif command in COMMANDS:
        path = _TOOLS.joinpath(*COMMANDS[command][0].split(".")).with_suffix(".py")
    else:
        return ""
    found = re.search(r'USAGE = f?"""(.*?)"""', path.read_text(encoding="utf-8"), re.S)
    return found[1] if found else ""


def _flags(command: str, sub: str) -> list[str]:
    found = dict.fromkeys(_FLAG.findall(_usage(command, sub)))
    return [flag for flag in found if flag not in ("--config", "--env-config", "--help", "--line")]


def _values_of(command: str, flag: str, current: str, files_too: bool = True) -> list[str]:
    """Return the values of a flag; of one that takes anything, files."""
    if flag in ("--config", "--env-config"):
        return [*_names(flag), *(_files(current, (".yaml", ".yml")) if _is_path(current) else ())]
    choices = dict(_CHOICES.findall(_usage(command, "")))
    if flag in choices:
        return [value for value in choices[flag].split("|") if not value.isupper()]
    takes = re.search(rf"{re.escape(flag)} (\[?[A-Z])", _usage(command, ""))
    return _files(current, None) if takes or files_too else []


@cache
def _names(flag: str) -> tuple[str, ...]:
    """Return the names of algorithms or environments: shipped ones, and those of other packages."""
    kind = "algorithm" if flag == "--config" else "environment"
    own = [*shipped("algs"), *tuned()] if flag == "--config" else list(shipped("envs"))
    return tuple(dict.fromkeys([*own, *plugins.installed(kind)]))


# -- settings after `with` ---------------------------------------------------------------------------------------


def _settings(before: list[str], current: str) -> list[str]:
    """Return words ``KEY=`` that are not there yet, or of a key that is typed its values."""
    name, equals, value = current.partition("=")
    environment = next((w.partition("=")[2] for w in before if w.startswith("--env-config=")), None)
    if environment is None and "--env-config" in before[:-1]:
        environment = before[before.index("--env-config") + 1]
    if equals:
        return [f"{name}={one}" for one in _values(name, value, environment)]
    given = {word.partition("=")[0] for word in before}
    names = [*_keys(), *(f"env_args.{one}" for one in _arguments(environment))]
    return [f"{one}=" for one in names if one not in given and one not in ("env_args", "base")]


def _values(name: str, typed: str, environment: str | None) -> list[str]:
    """Return values of a key, as far as its shipped value tells them."""
    if name in RUN_KEYS:
        return _runs(typed)
    if name in REGISTRIES:
        return re.findall(r'^ +"(\w+)":', (CONFIGS.parent / REGISTRIES[name] / "__init__.py").read_text("utf-8"), re.M)
    if name == "local_results_path":
        return _files(typed, None)
    inner = name.partition(".")[2]
    default = _arguments(environment).get(inner) if inner else _keys().get(name)
    if default in ("True", "False", "true", "false"):
        return ["True", "False"]
    return _choices(name) + (["null"] if default == "null" else [])


def _choices(name: str) -> list[str]:
    """Return the values that a key's declaration allows, ``name: str = key(..., choices=(...))`` somewhere."""
    field = re.compile(rf"^    {re.escape(name)}: [^=\n]*= key\((.*?)^(?:    \w+: |\S|\Z)", re.M | re.S)
    for path in CONFIGS.parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if f"\n    {name}: " in text and (match := field.search(text)):
            allowed = re.search(r"choices=[(\[](.*?)[)\]]", match[1], re.S)
            return re.findall(r'"([^"]+)"', allowed[1]) if allowed else []
    return []


@cache
def _keys() -> dict[str, str]:
    """Return every key of the shipped YAMLs, with its value in default.yaml (or in the first that has it)."""
    found: dict[str, str] = {}
    for path in (CONFIGS / "default.yaml", *shipped("envs").values(), *shipped("algs").values(), *tuned().values()):
        for name, value in _KEY.findall(path.read_text(encoding="utf-8")):
            found.setdefault(name, value.strip())
    return dict(sorted(found.items()))


@cache
def _arguments(environment: str | None) -> dict[str, str]:
    """Return the arguments in the YAML of an environment, or of all where it is none of the shipped ones."""
    files = shipped("envs")
    found: dict[str, str] = {}
    for path in [files[environment]] if environment in files else files.values():
        _, _, below = path.read_text(encoding="utf-8").partition("env_args:")
        block = re.split(r"^(?=\w)", below, maxsplit=1, flags=re.M)[0]
        for name, value in _ARGUMENT.findall(block):
            found.setdefault(name, value.strip())
    return found


# -- files -------------------------------------------------------------------------------------------------------


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted((e for e in found if not e.name.startswith((".", "_"))), key=lambda e: e.name)[:_MOST]
    except OSError:
        return []


def _files(current: str, suffixes: tuple[str, ...] | None) -> list[str]:
    """Return folders, ending in ``/``, and files (of these suffixes) in the folder that ``current`` has begun."""
    head = current[: current.rfind("/") + 1]
    folder = Path(head or ".").expanduser()
    found = []
    for entry in _entries(folder):
        if entry.is_dir():
            found.append(f"{head}{entry.name}/")
        elif suffixes is None or entry.name.endswith(suffixes):
            found.append(head + entry.name)
    return found


def _is_path(current: str) -> bool:
    return "/" in current or current.startswith((".", "~"))


def _runs(current: str) -> list[str]:
    """Return runs, level by level below results/sacred, as ``current`` has begun them; else files."""
    below = (checkout() or Path.cwd()) / "results" / "sacred"
    head = current[: current.rfind("/") + 1]
    if head.startswith(("/", "~", ".")) or not (below / head).is_dir():
        return _files(current, None)
    found = [] if head else ["latest"]
    for entry in _entries(below / head):
        if entry.is_dir():
            run = (Path(entry.path) / "config.json").is_file()
            found.append(f"{head}{entry.name}{'' if run else '/'}")
    return found if any(word.startswith(current) for word in found) else _files(current, None)
