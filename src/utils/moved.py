"""Earlier names of modules, and of what modules held: they work until 0.2, with a warning."""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
import types
import warnings
from collections.abc import Sequence

#: earlier name -> name now, both below the package
MOVED = {
    "components.config": "utils.schema.keys",
    "components.errors": "utils.errors",
    "components.parallel": "components.updates.parallel",
    "components.surrogate": "components.updates.surrogate",
    "components.trust_region": "components.updates.trust_region",
    "envs.vec": "envs.vector.make",
    "learners.policy": "learners.on_policy",
    "team": "evaluation.team",
}

#: what has moved out of a module that is still there: module -> its names -> module now, all below the package
MOVED_NAMES = {
    "components.batch": dict.fromkeys(
        ("RowIndex", "Sequences", "Samples", "minibatches"), "components.updates.samples"
    ),
    "modules.action_selectors": dict.fromkeys(
        ("Gaussian", "StdConfig", "LOG_STD", "WARMUP_DOC"), "modules.continuous_selectors"
    ),
    "envs.gymma.gymnasium": dict.fromkeys(("gymma", "notices"), "envs.gymma.build"),
}


def attribute(module: str, name: str) -> object:
    """What ``module`` (its full name) held under ``name`` earlier, for its ``__getattr__``.

    Raises:
        AttributeError: the module never held it.
    """
    package, _, inner = module.partition(".")
    now = MOVED_NAMES[inner].get(name)
    if now is None:
        raise AttributeError(f"module '{module}' has no attribute '{name}'")
    warnings.warn(
        f"{module}.{name} is in {package}.{now} now; the old place goes with oamarl 0.2.", FutureWarning, stacklevel=3
    )
    return getattr(importlib.import_module(f"{package}.{now}"), name)


class _Finder:
    """An import finder for old module names, which gives the contents of the module's present place."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, inner = name.partition(".")
        if package != __package__.partition(".")[0] or inner not in MOVED:
            return None
        now = f"{package}.{MOVED[inner]}"
        return importlib.machinery.ModuleSpec(name, _Loader(), origin=now)  # type: ignore[arg-type]


class _Loader:
    @staticmethod
    def create_module(spec: importlib.machinery.ModuleSpec) -> None:
        """Take an ordinary module."""

    @staticmethod
    def exec_module(module: types.ModuleType) -> None:
        assert module.__spec__ is not None
        assert module.__spec__.origin is not None
        now = importlib.import_module(module.__spec__.origin)
        warnings.warn(
            f"{module.__name__} is {now.__name__} now; the old name goes with oamarl 0.2.", FutureWarning, stacklevel=2
        )
        module.__dict__.update({k: v for k, v in vars(now).items() if not k.startswith("__")})


def install() -> None:
    """Let the old names be imported; calling it again does nothing."""
    if not any(finder is _Finder for finder in sys.meta_path):
        sys.meta_path.append(_Finder)
