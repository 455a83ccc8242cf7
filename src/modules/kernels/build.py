"""C files beside the modules, compiled for the processor at hand when first used.

Everything that they do can be done without them, more slowly: where there is no compiler, or OAMARL_NATIVE=0 says so,
:func:`library` returns None. What was compiled is kept in the user's cache folder.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ...utils.machine import cache_home, cpu_name

#: "0": nothing is compiled
VARIABLE = "OAMARL_NATIVE"
_COMPILERS = ("cc", "gcc", "clang")
#: tried in this order: not every compiler knows every way to ask for this processor's instructions
_FLAGS: tuple[list[str], ...] = (["-march=native"], ["-mcpu=native"], [])
#: clang runs out of registers with the widest vectors, which is several times slower than without them
_CLANG: tuple[list[str], ...] = (["-march=native", "-mno-avx512f"], *_FLAGS)
_TIME = 120.0  # seconds that a compiler may take


@functools.cache
def library(name: str) -> ctypes.CDLL | None:
    """Return the library of ``name``.c, or None where it cannot be had.

    A call into it does not hold Python's lock. Whole numbers are ``ptrdiff_t``: pass them as ``ctypes.c_ssize_t``.
    """
    if os.environ.get(VARIABLE, "").strip() == "0" or sys.platform == "win32":
        return None
    source = Path(__file__).with_name(f"{name}.c")
    compiler = find_compiler()
    if compiler is None:
        return None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        for folder in _folders():
            # compiled for one processor it may not run on another, and homes are shared between machines
            texts = [x.read_text("utf-8") for x in (source, *sorted(source.parent.glob("*.h")))]
            key = hashlib.sha256("\0".join([*texts, *compiler, _processor()]).encode()).hexdigest()
            built = folder / f"{name}-{key[:16]}.so"
            if built.exists():
                with contextlib.suppress(OSError):  # damaged
                    return ctypes.CDLL(str(built))
            compile_library(source, compiler, built)
            return ctypes.CDLL(str(built))
    return None


def find_compiler() -> list[str] | None:
    """Return the words that call the C compiler: CC's, or the first that is there."""
    said = shlex.split(os.environ.get("CC", ""))
    for words in [said] if said else [[name] for name in _COMPILERS]:
        found = shutil.which(words[0])
        if found:
            return [found, *words[1:]]
    return None


def _folders() -> Iterator[Path]:
    """Yield folders of ours that can be written to: the user's cache, or one that goes with the process."""
    try:
        folder = cache_home() / "native"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        yield folder
    except (OSError, RuntimeError):  # no home, no right to write
        with tempfile.TemporaryDirectory() as own:
            yield Path(own)  # loaded before it is deleted


def compile_library(source: Path, compiler: list[str], built: Path) -> None:
    """Compile ``source`` to ``built``; several processes may do so at once.

    Raises:
        OSError, subprocess.SubprocessError: it cannot be compiled; of a compiler that fails, with its ``stderr``.
    """
    descriptor, part = tempfile.mkstemp(suffix=".so", dir=built.parent)
    os.close(descriptor)
    try:
        told = subprocess.run([*compiler, "--version"], capture_output=True, text=True, timeout=_TIME).stdout
        tried = _CLANG if "clang" in told else _FLAGS
        for last, flags in enumerate(tried, 1 - len(tried)):
            words = [*compiler, "-O3", "-ffp-contract=off", *flags, "-shared", "-fPIC", "-o", part, str(source), "-lm"]
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIME)
            if done.returncode == 0:
                break
            if last == 0:
                raise subprocess.CalledProcessError(done.returncode, words, stderr=done.stderr)
        os.replace(part, built)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(part)


def _processor() -> str:
    """Return what the instructions that a compiler may use depend on."""
    told = [f"{platform.machine()} {cpu_name()}"]
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        told += [line for line in lines if line.lower().startswith(("flags", "features"))][:1]
    return "\n".join(told)
