"""The provenance of a run's numbers (versions, commit, command line), in a form that JSON and databases can store."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np

from ..utils.errors import UserError
from ..utils.schema import yamls
from .records import plain_float

#: Packages whose versions a run stores where they are installed: whatever may change its numbers.
_PACKAGES = (
    *("oamarl", "torch", "numpy", "sacred", "gymnasium", "lbforaging", "rware", "pettingzoo", "mpe2", "mujoco"),
    *("gymnasium-robotics", "vmas", "jax", "jaxlib", "jaxmarl", "gfootball", "smac", "smacv2", "smaclite"),
)


def storable(value: Any, where: str = "") -> Any:
    """Return ``value`` in types that JSON and databases can hold: dicts, lists, strings, plain numbers, booleans, None.

    Raises:
        UserError: a key that sacred refuses (with '.', '=' or a leading '$'), or a value of another kind.
    """
    if isinstance(value, np.generic):  # before float: numpy's float64 is one, and would be stored as an object
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str) or "." in name or "=" in name or name.startswith(("$", "json://", "py/")):
                raise UserError(
                    f"The key {name!r}{f' in {where}' if where else ''} cannot be stored: "
                    "a word without '.' and '=' and without '$' in front is expected."
                )
        return {name: storable(v, f"{where}.{name}" if where else name) for name, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [storable(v, f"{where}[{i}]") for i, v in enumerate(value)]
    if hasattr(value, "item"):  # a one-element tensor
        return plain_float(where, value)
    raise UserError(f"{where or 'A value'} is a {type(value).__name__}, which cannot be stored with the run.")


def versions(env_key: str = "") -> dict[str, str]:
    """Return versions of Python and of every installed package that can change a run's numbers.

    Args:
        env_key: an environment's id, such as ``lbforaging:Foraging-8x8-2p-3f-v3``; the package before the colon is
            looked up too.
    """
    found = {"python": platform.python_version()}
    names = list(_PACKAGES)
    if ":" in env_key:
        names.append(env_key.partition(":")[0].partition(".")[0])
    if env_key.startswith("pz-"):
        names += ["pettingzoo", "mpe2"]
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError, ValueError):
            found[name] = importlib.metadata.version(name)
    return found


def commit() -> str | None:
    """Return the git commit of this source code, ``+changes`` where the code differs from it; None outside a checkout.

    Other files of the checkout (documents, sweep files) change no run's numbers.
    """
    here = Path(__file__).resolve().parent

    def git(*args: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *args], capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        git(
            "ls-files", "--error-unmatch", Path(__file__).name
        )  # an installed copy inside the checkout of another project
        return git("rev-parse", "HEAD") + (
            "+changes" if git("status", "--porcelain", "-uno", "--", str(here.parent)) else ""
        )
    except (OSError, subprocess.SubprocessError):
        return None


#: in a thread that has one of several runs of this process: the command line of this run alone
own_words: ContextVar[tuple[str, ...] | None] = ContextVar("own_words", default=None)


def _words() -> list[str]:
    own = own_words.get()
    if own is not None:
        return list(own)
    arguments = sys.orig_argv[1:]
    if arguments and os.path.basename(arguments[0]) == "oamarl":  # the installed command
        return ["oamarl", *arguments[1:]]
    return [os.path.basename(sys.executable) or "python", *arguments]


def words() -> list[str]:
    """Return the words of the command line of this run."""
    return _words()


def command_line() -> str:
    """Return the command line of this process, quoted for a shell."""
    return shlex.join(_words())


def resume_command(folder: str | Path, *more: str) -> str:
    """Return the command line that resumes the run in ``folder``, where this process is that run.

    Args:
        folder: of the run, or its checkpoint.
        more: words to append.
    """
    words = [word for word in _words() if not word.startswith(("checkpoint_path=", "load_step="))]
    return shlex.join(
        [*words, *([] if "with" in words else ["with"]), yamls.word("checkpoint_path", str(folder)), *more]
    )
