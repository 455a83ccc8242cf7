"""Requirements of StarCraft environments (package, game, map), and a sentence for each that is missing."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...utils.errors import NotInstalled, UserError, first_line, nearest
from ...utils.schema import yamls
from ...utils.schema.layers import shipped
from ..smax.maps import smax_map

_SRC = Path(__file__).resolve().parents[2]


def _program() -> tuple[str, list[str]]:
    """Return how this program was called (so that it can be again), and its words; "" where it is another one."""
    path = Path(sys.argv[0])
    if path.name == "oamarl":
        return "oamarl", sys.argv[1:]
    if path.name == "__main__.py" and path.resolve() == _SRC / "__main__.py":
        return "python -m oamarl", sys.argv[1:]
    if path.name == "main.py" and path.resolve() == _SRC / "main.py":
        here = Path.cwd()
        inside = path.resolve().relative_to(here) if path.resolve().is_relative_to(here) else path
        return f"python {shlex.quote(str(inside))}", sys.argv[1:]
    return "", []


def _on_smax(words: list[str], map_name: str) -> list[str]:
    """Return the words of a command with the environment `smax` in place of this one, and what it takes too."""
    cut = words.index("with") if "with" in words else len(words)
    head, others = words[:cut], words[cut + 1 :]
    if head[:1] == ["check-env"]:
        flags = [word for word in head[1:] if word.startswith("--") and not word.startswith("--env-config")]
        head = ["check-env", "smax", *flags]
    else:
        for i, word in enumerate(head):
            if word == "--env-config":
                head[i : i + 2] = ["--env-config=smax"]
            elif word.startswith("--env-config="):
                head[i] = "--env-config=smax"
    takes = {f"env_args.{name}" for name in yamls.load(shipped("envs")["smax"], "smax")["env_args"]} - {
        "env_args.map_name"
    }
    drop = ("env_args.", "env_args=", "env=", "checkpoint_path=", "backend=", "on_worker_death=", "save_replay=")
    kept = [word for word in others if word.partition("=")[0] in takes or not word.startswith(drop)]
    return [*head, "with", f"env_args.map_name={smax_map(map_name)}", *kept]


def smax_command(map_name: str) -> str:
    """Return what was typed, for the nearest map of `smax`; "" where there is no such command.

    A trained team plays in the environment that it was trained in: its evaluation has none.
    """
    program, words = _program()
    if not program:  # a user's own program, which makes an environment
        program, words = "oamarl", ["--config=oappo", "--env-config=smax"]
    first = words[0] if words else ""
    if first == "sweep":
        near = {word: Path(word).with_name(f"{Path(word).stem}-smax.yaml") for word in words if word.endswith(".yaml")}
        found = {word: str(path) for word, path in near.items() if path.is_file()}
        words = [found.get(word, word) for word in words] if found else []
    elif first in ("train", "bench", "check-env") or first.startswith("--"):
        words = [] if "evaluate=True" in words else _on_smax(words, map_name)
    else:
        words = []
    return f"{program} {shlex.join(words)}" if words else ""


def otherwise(map_name: str) -> str:
    """Return the end of a sentence about something missing: what runs without it, if anything does."""
    command = smax_command(map_name)
    if not command:
        return ""
    what = "the same map" if smax_map(map_name) == map_name else "a map like it"
    if " sweep " in command:
        what = "what of it can be played"
    return f"; {what} without the game: `{command}`"


def load(env: str, module: str, attribute: str, map_name: str) -> Any:
    """Import ``attribute`` of a StarCraft package (``smac.env``).

    Raises:
        UserError: it is not installed, is another package of that name, or cannot be imported.
    """
    package = module.partition(".")[0]
    _plain_protobuf()
    get = f"run `oamarl install {env}`{otherwise(map_name)}"
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        missing = error.name or package
        if missing == package:
            raise NotInstalled(
                f"The environment '{env}' needs the package '{package}', which is not installed: {get}"
            ) from error
        if missing.split(".")[0] != package:
            raise NotInstalled(
                f"The environment '{env}' needs the package '{missing.split('.')[0]}', which '{package}' uses and "
                f"which is not installed: {get}"
            ) from error
        wrong: Exception = error
    except AttributeError as error:
        wrong = error
    except Exception as error:
        if "Descriptors cannot be created" in str(error):
            raise UserError(
                f"The environment '{env}' cannot talk to StarCraft II with this 'protobuf', which was loaded before "
                "it: start the program with PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python in the environment."
            ) from error
        raise UserError(
            f"The environment '{env}' cannot be used: importing '{module}' fails: {type(error).__name__}: "
            f"{first_line(error)}; install it anew with `oamarl install {env}`{otherwise(map_name)}"
        ) from error
    raise UserError(
        f"The installed package '{package}' is not StarCraft's (PyPI has another one of that name): "
        f"run `pip uninstall {package}`, then `oamarl install {env}`{otherwise(map_name)}"
    ) from wrong


def _plain_protobuf() -> None:
    """StarCraft's messages were compiled by an old protobuf: newer ones read them in their Python mode only.

    Workers inherit the choice. It must be made before protobuf is first imported.
    """
    try:
        version = importlib.metadata.version("protobuf").split(".")
    except importlib.metadata.PackageNotFoundError:
        return
    if tuple(int(v) for v in version[:2] if v.isdigit()) > (3, 20):
        os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")


def unknown_map(env: str, map_name: Any, known: Iterable[str]) -> UserError:
    """Return the error of a map that does not exist."""
    names = sorted(known)
    listed = f": use one of {', '.join(names)}" if names else ""
    if map_name is None:
        return UserError(f"The environment '{env}' needs env_args.map_name{listed}.")
    near = nearest(str(map_name), names)
    return UserError(f"env_args.map_name='{map_name}' is not a map of '{env}'{near or f'{listed}.'}")


def check_game(env: str, version: str | float | None, map_name: str) -> None:
    """Look for the game and the map's file as SMAC will, without starting anything.

    Raises:
        UserError: one of them is missing, or the game is not of the version that is asked for.
    """
    if "pysc2" not in sys.modules:  # whatever plays it does so without StarCraft II
        return
    maps, run_configs = (importlib.import_module(f"pysc2.{name}") for name in ("maps", "run_configs"))
    try:
        found = run_configs.get(version=version)
        path = maps.get(map_name).path
    except Exception as error:
        raise explain(env, map_name, error) from error
    folder = Path(found.data_dir)
    if not (folder / "Maps" / path).is_file():
        raise NotInstalled(
            f"The map file {folder / 'Maps' / path} is missing: run `oamarl install {env} --only maps`"
            f"{otherwise(map_name)}"
        )


def explain(env: str, map_name: str, error: Exception) -> UserError:
    """Return the user's sentence for what SMAC or PySC2 raise when they look for StarCraft II and start it."""
    if isinstance(error, ValueError) and "version" in str(error):
        known = re.findall(r"'([^']+)'", str(error).partition("Known")[2])
        has = f"; it has {', '.join(known)}" if known else ""
        return UserError(f"StarCraft II of env_args.game_version is not installed in {game_folder()}{has}.")
    where = f"in {game_folder()} ({'SC2PATH' if os.environ.get('SC2PATH') else 'SC2PATH is not set'})"
    cure = f"run `oamarl install {env}`"
    if isinstance(error, FileNotFoundError) or not game_folder().is_dir():
        what = f"StarCraft II is not installed {where}"
    else:
        what = f"StarCraft II {where} cannot be started: {type(error).__name__}: {first_line(error)}"
        if programs := sorted(game_folder().glob("Versions/Base*/SC2_x64")):
            cure = f"start {programs[-1]} by hand to see why"
    kind = NotInstalled if "is not installed" in what else UserError
    return kind(f"{what.rstrip('.')}: {cure}{otherwise(map_name)}")


def game_folder() -> Path:
    """Return where StarCraft II is looked for: SC2PATH, otherwise ~/StarCraftII."""
    return Path(os.environ.get("SC2PATH") or "~/StarCraftII").expanduser()
