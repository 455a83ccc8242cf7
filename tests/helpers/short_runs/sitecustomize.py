"""Makes the runs of printed commands short. Every Python that a test of the documents starts loads it (PYTHONPATH).

The commands stay as they are printed: what they ask for is changed when it has been read. Shipped experiments are left
alone, since their runs are done.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

#: what a run of a test needs not be
SHORT = {"t_max": 1000, "test_nepisode": 2, "test_interval": 500, "log_interval": 250}
#: the most that a run of a test is asked for
MOST = {"rollout_length": 16, "batch_size_run": 16}


def _request(module: ModuleType) -> None:
    parse = module.parse

    def shorter(*args: Any, **kwargs: Any) -> Any:
        request, seen = parse(*args, **kwargs)
        if request.config is not None and not any("experiments/" in word for word in sys.argv):
            request.overrides.update(SHORT)
            request.overrides.update({k: min(v, MOST[k]) for k, v in request.overrides.items() if k in MOST})
            if request.config == "seps" or request.overrides.get("sharing") == "selective":
                request.overrides["seps_steps"] = 500
            if request.env_config == "smax":  # JAX compiles for a minute, and again for tests
                request.overrides["test_nepisode"] = 0
        return request, seen

    module.parse = shorter  # type: ignore[attr-defined]


def _search(module: ModuleType) -> None:
    read = module.read_search
    module.read_search = lambda *words: replace(read(*words), trials=2)  # type: ignore[attr-defined]


def _bench(module: ModuleType) -> None:
    read = module.options_of

    def shorter(argv: list[str]) -> Any:
        options, rest = read(argv)
        return replace(options, seconds=1.0, rounds=1), rest

    module.options_of = shorter  # type: ignore[attr-defined]


def _standard(module: ModuleType) -> None:
    first = next(iter(module.STANDARD))
    for name in [name for name in module.STANDARD if name != first]:
        del module.STANDARD[name]


CHANGES: dict[str, Callable[[ModuleType], None]] = {
    "oamarl.utils.schema.command_line": _request,
    "oamarl.tools.sweep.space": _search,
    "oamarl.tools.bench.command": _bench,
    "oamarl.tools.bench.standard": _standard,
}


class Shorter(importlib.abc.MetaPathFinder):
    """Finds the modules of CHANGES as they are found anyway, and changes them once they are loaded."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in CHANGES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec is not None
        loader: Any = spec.loader
        load = loader.exec_module

        def loaded(module: ModuleType) -> None:
            load(module)
            CHANGES[name](module)

        loader.exec_module = loaded
        return spec


sys.meta_path.insert(0, Shorter())
if sys.argv[0].endswith("in_turn.py"):
    sys.argv[1:1] = ["--rounds", "1"]
