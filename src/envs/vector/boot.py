"""The command line of a child process of this package that loads nothing of the program's main module."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

#: A process starts here rather than in multiprocessing's spawn, which would import the user's main script again, and
#: torch with it. The package is loaded from the parent's folder: another copy may be installed, or none.
#: Batch systems send their signals to every process of a job: what to do about them is for the parent alone. What is
#: ignored stays so in the games that a worker starts; SIGTERM, by which libraries end their games, gets a handler
#: instead, which is not passed on. (Handlers for all would not do: several at once overflow faulthandler's stack.)
BOOT = """
import os, signal
for name in ("SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"):
    signal.signal(getattr(signal, name), signal.SIG_IGN)
signal.signal(signal.SIGTERM, lambda *_: None)
os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
import importlib.util, json, sys
path, package, folder, worker, argv = json.loads(sys.argv[1])
descriptors, sys.argv[:] = [int(word) for word in sys.argv[2:]], argv
sys.path[:] = path
spec = importlib.util.spec_from_file_location(package, folder + "/__init__.py", submodule_search_locations=[folder])
sys.modules[package] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
importlib.import_module(worker).main(*descriptors)
"""


def command(module: str, arguments: Sequence[int]) -> list[str]:
    """Return the words that start Python and call ``main(*arguments)`` of ``module``, a module of this package."""
    package = __name__.partition(".")[0]
    folder = os.path.abspath(next(iter(sys.modules[package].__path__)))
    what = json.dumps([sys.path, package, folder, module, sys.argv])
    return [sys.executable, "-u", "-c", BOOT, what, *map(str, arguments)]


def environment() -> dict[str, str]:
    """Return the environment variables of a child process."""
    variables = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        variables.setdefault(name, "1")  # many processes with many threads each would fight for the cores
    return variables
