"""What all tests share: one thread each, this checkout as ``oamarl``, and ways to call the program."""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

# before torch is imported, here and in every process that a test starts
os.environ["OMP_NUM_THREADS"] = "1"

# tables are as wide as they need, whatever the terminal that the tests are started from
os.environ.pop("COLUMNS", None)

# runs of tests must not be stored in a user's database: only test_mongo.py looks there, in a database of its own
if "MONGO_URL" in os.environ:
    os.environ["OAMARL_TEST_MONGO_URL"] = os.environ.pop("MONGO_URL")

# a shell that runs the tests in the background has them, and all they start, ignore Ctrl-C
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: before the first test, and before fixtures of whole modules, which are set up ahead of those of a test
_HANDLERS = {number: signal.getsignal(number) for number in signal.valid_signals()}

#: Seconds that a test waits for a process or an event at most. It bounds what a failure costs: what is right comes
#: sooner on every machine, however busy, so no test may wait for less.
PATIENCE = 900.0

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"

# `oamarl` is this checkout also where another one is installed
_spec = importlib.util.spec_from_file_location("entry_script", SRC / "main.py")
assert _spec is not None
assert _spec.loader is not None
_entry = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_entry)
_entry.as_package()

Program = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """No test leaves its handlers to the next one: packages install some for good, such as Ray's nodes for SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    yield
    for number, handler in _HANDLERS.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def program() -> Program:
    """Run the program in a process of its own: ``program("list", cwd=...)``; ``how`` is script or module."""

    def call(
        *words: str,
        cwd: Path | None = None,
        how: str = "script",
        timeout: float = PATIENCE,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        start: Sequence[str] = [str(SRC / "main.py")] if how == "script" else ["-m", "oamarl"]
        return subprocess.run(
            [sys.executable, *start, *words],
            cwd=cwd or ROOT, env={**os.environ, **(env or {})}, timeout=timeout,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return call


@pytest.fixture(scope="session")
def networks() -> Iterator[Any]:
    """The example networks' module, importable by its name (also in processes of their own, from its folder)."""
    folder = str(ROOT / "examples" / "networks")
    sys.path.append(folder)
    yield importlib.import_module("networks")
    sys.path.remove(folder)


@pytest.fixture
def sides() -> Iterator[None]:
    """`peers` and the programs of its sides are importable as they are for benchmarks/compare.py."""
    benchmarks = ROOT / "benchmarks"
    added = [str(benchmarks), str(benchmarks / "peers" / "sides")]
    sys.path[:0] = added
    yield
    for entry in added:
        sys.path.remove(entry)
