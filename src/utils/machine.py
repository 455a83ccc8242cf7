"""The machine: its processor, memory and versions, the peak memory of processes, the folder of caches."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PROC = Path("/proc")
#: limit and use of memory in a container, in both versions of cgroups
_CGROUP = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_OF_GLIBC = {"GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"}


def facts(cores: int) -> dict[str, Any]:
    """Return the properties of the machine that affect a result; None where the system does not provide them.

    | key | meaning |
    |---|---|
    | cpu, cores, cores_all | the processor's name; cores that this process may use; cores there are |
    | ram_gb | memory of the machine, 10^9 bytes |
    | load | processes that wanted to run in the last minute, this one included |
    | system, python, torch, numpy | names and versions |
    | omp_num_threads | the environment variable |
    """
    return {
        "cpu": cpu_name(), "cores": cores, "cores_all": os.cpu_count(), "ram_gb": _ram_gb(), "load": load(),
        "system": f"{platform.system()} {platform.machine()}", "python": platform.python_version(),
        "torch": _version("torch"), "numpy": _version("numpy"), "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
    }  # fmt: skip


def cpu_name() -> str | None:
    """Return the processor's model."""
    for name, value in _pairs(_PROC / "cpuinfo"):
        if name in ("model name", "Model", "cpu model"):
            return value
    return platform.processor() or None


def cache_home() -> Path:
    """Return the folder for caches.

    Raises:
        RuntimeError: the user has no home.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "oamarl"


def keep_freed_memory() -> bool:
    """Have freed memory (up to 512 MB of it) kept for the next batch's arrays, which are as large as the last one's.

    Glibc returns large blocks to the system at once, and each page that is requested again causes a page fault. If the
    user has set glibc's own variables, nothing is changed. Returns whether it was done.
    """
    if sys.platform != "linux" or not _OF_GLIBC.isdisjoint(os.environ):
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    # each also ends glibc's own changes of both; 32 MB is the most that it takes for M_MMAP_THRESHOLD
    return bool(set_option(_M_MMAP_THRESHOLD, 32 << 20)) and bool(set_option(_M_TRIM_THRESHOLD, 512 << 20))


def load() -> float | None:
    """Return the load of the last minute: processes running or waiting for a core."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows
        return None


def in_use() -> float:
    """Return the share of all the machine's cores that were in use in the last minute, 0 to 1 (0 where unknown)."""
    return min(1.0, (load() or 0.0) / (os.cpu_count() or 1))


def peak_memory(pid: int) -> int:
    """Return the peak resident memory of a process in bytes; 0 where unknown."""
    for name, value in _pairs(_PROC / str(pid) / "status"):
        if name == "VmHWM":
            return 1024 * int(value.split()[0])
    if pid == os.getpid():
        with contextlib.suppress(ImportError):
            import resource

            # in bytes on macOS, in kilobytes elsewhere
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return 0


def peak_memory_below(pid: int) -> list[int]:
    """Return for each child of a process the peak memory (bytes) of it and its own children, largest first.

    Memory that processes share counts in each of them. Empty where the system has no /proc.
    """
    below = _children()

    def tree(top: int) -> int:
        return peak_memory(top) + sum(tree(child) for child in below.get(top, ()))

    return sorted((tree(child) for child in below.get(pid, ())), reverse=True)


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for path in _PROC.glob("[0-9]*/stat"):
        # after the name, which may hold anything: state, parent
        with contextlib.suppress(OSError, IndexError, ValueError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            found.setdefault(parent, []).append(int(path.parent.name))
    return found


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the ``name: value`` lines of a file of the system's; nothing where there is none."""
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            name, colon, value = line.partition(":")
            if colon and value.strip():
                yield name.strip(), value.strip()


def memory() -> int | None:
    """Return the memory of the machine in bytes."""
    for name, value in _pairs(_PROC / "meminfo"):
        if name == "MemTotal":
            return int(value.split()[0]) * 1024
    return None


def free_memory() -> int | None:
    """Return the memory in bytes that this process can still have: what is free, within the limit of its cgroup."""
    found = [int(v.split()[0]) * 1024 for name, v in _pairs(_PROC / "meminfo") if name == "MemAvailable"]
    for limit, used in _CGROUP:
        with contextlib.suppress(OSError, ValueError):  # no limit is the word `max`
            found.append(int(limit.read_text()) - int(used.read_text()))
    return max(min(found), 0) if found else None


def _ram_gb() -> float | None:
    size = memory()
    return None if size is None else round(size / 1e9, 1)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
