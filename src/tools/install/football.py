"""``oamarl install football``: build Google Research Football's engine once a machine, install it, play an episode."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from ...envs.base import Arrays
from ...envs.build import make_env
from ...envs.football.scenarios import VERSION
from ...utils.errors import UserError, counted
from ...utils.machine import cache_home
from .pip import pip

#: Python packages that its games need: gym 0.26 breaks it, and it uses `six` without saying so. It also asks for pygame
#: (for a keyboard), which would overwrite the pygame-ce of others, and for scipy and psutil, which games do not use.
REQUIREMENTS = ("gym==0.25.2", "six", "opencv-python", "absl-py")
#: what its build imports, beside psutil
_BUILDING = ("setuptools>=77.0.3,<81", "wheel", "psutil")
#: Debian's packages for the build
DEBIAN = (
    "g++", "make", "cmake", "libopengl-dev", "libsdl2-dev", "libsdl2-image-dev", "libsdl2-ttf-dev", "libsdl2-gfx-dev",
    "libboost-python-dev", "libboost-filesystem-dev", "libboost-thread-dev", "libboost-system-dev",
)  # fmt: skip
_KEPT_LINES = 30  # of the build's output, for the message where it fails
_STEP = 5  # percent between two lines about the build's progress
_SMOKE = "academy_pass_and_shoot_with_keeper"


def install() -> None:
    """Install the engine into this Python, from the wheel that an earlier build has left, and play an episode.

    Raises:
        UserError: something is missing here, pip or the build fails, or the engine does not play.
    """
    if importlib.util.find_spec("pip") is None:
        raise UserError("The build of Google Research Football needs pip: run `uv pip install pip`, then try again.")
    folder = cache_home() / "football"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Cannot write into {folder}: {error.strerror or error}.") from error
    with _alone(folder):
        wheel = find_wheel(folder)
        if wheel is None:
            check_system()
            pip("install", "-q", *_BUILDING)
            wheel = _build(folder)
        else:
            print(f"The engine was built before: {wheel}")
        pip("install", "-q", *REQUIREMENTS)
        pip("install", "-q", "--no-deps", "--force-reinstall", str(wheel))
    print(f"gfootball {VERSION} is installed.")
    play()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other installations of this user out of the folder."""
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print("Another `oamarl install football` is at work: waiting for it.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


# -- what the system must have -----------------------------------------------------------------------------------


def check_system() -> None:
    """Install what the build needs of the system, where this user may; otherwise say what is missing.

    Raises:
        UserError: something is missing.
    """
    if not sys.platform.startswith("linux"):
        raise UserError("Google Research Football's engine is built on Linux: use Debian 12, or a container of it.")
    if shutil.which("apt-get") and shutil.which("dpkg-query"):
        missing = [name for name in DEBIAN if not _has(name)]
        if missing:
            _apt(missing)
    else:
        missing = [name for name in ("g++", "make", "cmake") if shutil.which(name) is None]
        if missing:
            raise UserError(
                f"The build of Google Research Football needs {', '.join(missing)} (and SDL2 with its image, ttf and "
                "gfx libraries, OpenGL and Boost with Boost.Python): install them, or use Debian 12, where this "
                "command does."
            )
    _check_boost()


def _has(package: str) -> bool:
    """Return whether Debian's package is installed."""
    words = ["dpkg-query", "-W", "-f", "${db:Status-Status}", package]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() == "installed"


def _apt(missing: list[str]) -> None:
    words = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if os.geteuid() != 0:
        raise UserError(
            f"The build of Google Research Football needs {counted(len(missing), 'package')} of the system: have an "
            f"administrator run `{' '.join(words)}`, then try again."
        )
    print(f"Installing {', '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for prepare in ((), ("apt-get", "update")):  # lists of packages may be old, or not there at all
        if prepare:
            subprocess.run(prepare, stdin=subprocess.DEVNULL, check=False, env=environment)
        done = subprocess.run(words, stdin=subprocess.DEVNULL, check=False, env=environment, capture_output=True)
        if not done.returncode:
            return
    lines = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines() or ["no reason given"]
    raise UserError(f"`{' '.join(words)}` failed: {lines[-1]}")


def _check_boost() -> None:
    """Raise UserError where the system's Boost.Python is for another Python than this one."""
    own = f"libboost_python{sys.version_info[0]}{sys.version_info[1]}.so"
    found = {path.name.partition(".")[0] + ".so" for path in _boosts()}
    if found and own not in found:
        versions = sorted(re.sub(r"libboost_python(\d)(\d+)\.so", r"\1.\2", name) for name in found)
        raise UserError(
            f"This system's Boost.Python is for Python {' and '.join(versions)}, and this is Python "
            f"{sys.version_info[0]}.{sys.version_info[1]}: make the environment with `python{versions[-1]}`."
        )
    if not found:
        raise UserError(
            "The build of Google Research Football needs Boost.Python, which is not found: install it (Debian: "
            "libboost-python-dev)."
        )


def _boosts() -> list[Path]:
    folders = (
        Path(root) for root in ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/conda/lib", f"{sys.prefix}/lib")
    )
    pattern = re.compile(r"libboost_python\d{2,}\.(so|a).*")
    places = [p for folder in folders for p in (folder, *folder.glob("*-linux-gnu"))]
    return [path for place in places if place.is_dir() for path in place.iterdir() if pattern.fullmatch(path.name)]


# -- the build ---------------------------------------------------------------------------------------------------


def find_wheel(folder: Path) -> Path | None:
    """Return the newest wheel for this Python and processor that a build has left in ``folder``."""
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    machine = sysconfig.get_platform().rpartition("-")[2]
    found = sorted(folder.glob(f"gfootball-{VERSION}-{tag}-*{machine}.whl"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else None


def _build(folder: Path) -> Path:
    """Build the wheel; what an interrupted build has compiled is used."""
    source = folder / f"source-cp{sys.version_info[0]}{sys.version_info[1]}"
    if not source.is_dir():
        _fetch(folder, source)
    print(f"Building the engine in {source}: about 12 minutes of processor time.")
    log = folder / "build.log"
    made = folder / "made"
    shutil.rmtree(made, ignore_errors=True)
    words = ["wheel", "-v", "--no-build-isolation", "--no-deps", "-w", str(made), str(source)]
    with tempfile.TemporaryDirectory() as programs:
        # its build script runs a bare `python3`, which must be this one
        python = Path(programs) / "python3"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
        environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"}
        status, last = _watched([sys.executable, "-m", "pip", *words], environment, log)
    wheels = sorted(made.glob("*.whl"))
    if status or not wheels:
        print("\n".join(last), file=sys.stderr)
        raise UserError(
            f"The build of Google Research Football failed (its end is above, all of it in {log}); the same command "
            "continues with what was compiled."
        )
    target = folder / wheels[0].name
    os.replace(wheels[0], target)
    for left in (made, source):
        shutil.rmtree(left, ignore_errors=True)
    log.unlink()
    return target


def _fetch(folder: Path, source: Path) -> None:
    """Bring the package's source to the folder ``source``, whole or not at all."""
    with tempfile.TemporaryDirectory(dir=folder) as given:
        part = Path(given)
        pip("download", "-q", "--no-deps", "--no-build-isolation", "--no-binary", "gfootball", "-d", given,
            f"gfootball=={VERSION}")  # fmt: skip
        archive = next(part.glob("gfootball-*.tar.gz"))
        with tarfile.open(archive) as opened:
            safely: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            opened.extractall(part, **safely)
        os.replace(part / f"gfootball-{VERSION}", source)


def _watched(words: list[str], environment: dict[str, str], log: Path) -> tuple[int, list[str]]:
    """Run a build: its output goes to ``log``, its progress is shown; returns exit status and last lines."""
    last: deque[str] = deque(maxlen=_KEPT_LINES)
    shown, began = -_STEP, time.monotonic()
    with (
        open(log, "w", encoding="utf-8") as file,
        subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment,
            text=True, errors="replace",
        ) as process,
    ):  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            last.append(line.rstrip())
            percent = re.match(r"\s*\[ *(\d+)%\]", line)
            if percent and int(percent[1]) >= shown + _STEP:
                shown = int(percent[1])
                print(f"  {shown:3} % after {time.monotonic() - began:.0f} s", flush=True)
    return process.returncode, list(last)


# -- the episode -------------------------------------------------------------------------------------------------


def play(seed: int = 1) -> None:
    """Play one episode with random actions, and say so.

    Raises:
        UserError: it cannot be played.
    """
    importlib.invalidate_caches()
    env = make_env("gfootball", {"map_name": _SMOKE})
    out, draw = Arrays.allocate(env.info, 1).slot(0), np.random.default_rng(seed)
    began, steps = time.monotonic(), 0
    try:
        env.reset(seed, out)
        while not (out.terminated or out.truncated):
            env.step(draw.integers(env.info.n_actions, size=env.info.n_agents), out)
            steps += 1
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"Google Research Football is installed but does not play: {error}") from error
    finally:
        env.close()
    print(f"An episode of {_SMOKE} with random actions: {steps} steps in {time.monotonic() - began:.1f} s.")
