"""Import of JAX and one game of JaxMARL's: quick, quiet, and with compiled programs kept between runs."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import types
from pathlib import Path
from typing import Any

from ...utils.errors import NotInstalled, UserError, first_line, nearest, one_of
from ...utils.machine import cache_home, cpu_name
from ...utils.project import extra

DEVICES = ("cpu", "gpu")
#: the user's own choice of a folder, which is JAX's own variable
CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"


def load(device: str, game: str = "smax") -> tuple[Any, Any]:
    """Return the package ``jaxmarl.environments.<game>`` and the JAX device that games run on.

    Raises:
        UserError: JAX or JaxMARL is missing or broken, or there is no such device.
    """
    if device not in DEVICES:
        raise UserError(f"env_args.device={device!r} is not known: use {one_of(DEVICES)}{nearest(device, DEVICES)}")
    # networks on the same GPU need its memory too
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    try:
        # as Any: its settings are attributes that no type checker knows
        jax: Any = importlib.import_module("jax")
    except ImportError as error:
        raise missing("jax", game, error) from None
    if device == "cpu" and not jax.config.jax_platforms:
        jax.config.update("jax_platforms", "cpu")  # a GPU that is there is not even looked at
    _keep_programs(jax)
    package = _package(game)
    try:
        return package, jax.devices(device)[0]
    except RuntimeError as error:
        raise UserError(
            f"env_args.device={device} is not there for JAX ({first_line(error)}): "
            + ("use env_args.device=cpu, or `pip install 'jax[cuda12]'`." if device == "gpu" else "see JAX_PLATFORMS.")
        ) from None


def missing(package: str, game: str, error: ImportError) -> UserError:
    """Return the sentence about a package of a game in JAX that is not installed, or cannot be imported."""
    if not isinstance(error, ModuleNotFoundError) or (error.name or "").partition(".")[0] not in ("jax", "jaxmarl"):
        return UserError(f"{game} cannot be used: importing '{package}' fails: {first_line(error)}.")
    python = "" if sys.version_info >= (3, 11) else " with Python 3.11 or newer"
    return NotInstalled(
        f"{game} needs the Python package '{package}', which is not installed: run `{extra('smax')}`{python}."
    )


def _package(game: str) -> Any:
    """Import a game of JaxMARL's without the other ones, which take five times as long and print.

    For the import the two packages above it are empty ones; a later ``import jaxmarl`` gets the whole package.
    """
    name = f"jaxmarl.environments.{game}"
    if name in sys.modules:
        return sys.modules[name]
    above = [] if "jaxmarl" in sys.modules else ["jaxmarl", "jaxmarl.environments"]
    try:
        if above:
            found = importlib.util.find_spec("jaxmarl")
            if found is None or not found.submodule_search_locations:
                raise ModuleNotFoundError("no module 'jaxmarl'", name="jaxmarl")
            root = Path(found.submodule_search_locations[0])
            for package, folder in zip(above, (root, root / "environments"), strict=True):
                sys.modules[package] = empty = types.ModuleType(package)
                empty.__path__ = [str(folder)]
        return importlib.import_module(name)
    except ImportError as error:
        raise missing("jaxmarl", game, error) from None
    finally:
        for package in above:
            sys.modules.pop(package, None)


def cache_folder() -> Path:
    """Return the folder in which compiled programs are kept, one for each kind of processor.

    A program that was compiled for one processor may not run on another, and homes are shared between machines.
    """
    return cache_home() / "jax" / (re.sub(r"\W+", "-", cpu_name() or "").strip("-").lower() or "any")


def _keep_programs(jax: Any) -> None:
    """Have JAX keep what it compiles, unless the user keeps it elsewhere; without a folder to write to it compiles."""
    if os.environ.get(CACHE_VARIABLE) == "" or not jax.config.jax_enable_compilation_cache:
        return  # the user wants none
    if not jax.config.jax_compilation_cache_dir:
        folder = cache_folder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            return
        jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
