"""From ``env_args.key`` to an environment of another package: Gymnasium ids, PettingZoo's, or a class by its path."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ...utils.errors import NotInstalled, UserError, nearest, one_of
from ...utils.schema.registry import look_here
from ..convert_args import ConvertedArgs, convert_args
from ..matrix.package_ids import nearest_game
from ..pictures import gymnasium_mode
from ..signatures import Signature, constructor_signature

#: module -> its package on PyPI, or what pip installs it from; of an unknown module no package is guessed
_PACKAGES = {
    "ale_py": "ale-py", "gymnasium_robotics": "gymnasium-robotics", "lbforaging": "lbforaging", "magent2": "magent2",
    "matrixgames": "git+https://github.com/uoe-agents/matrix-games", "minigrid": "minigrid", "mpe2": "mpe2",
    "pettingzoo": "pettingzoo", "rware": "rware",
}  # fmt: skip
_EXAMPLES = "lbforaging:Foraging-8x8-2p-3f-v3 or pz-mpe-simple-spread-v3"
#: gymma's own arguments
OWN = ("key", "time_limit", "pretrained_wrapper", "team_reward", "global_random", "quick", "copies")
#: arguments of gymnasium.make
_GYMNASIUMS = ("id", "disable_env_checker", "vectorization_mode")
#: the registered scheme of LBF's ids; numbers beyond the registered ones are as good
_FORAGING = re.compile(
    r"Foraging(?P<partial>-2s)?-(?P<rows>\d+)x(?P<columns>\d+)-(?P<players>\d+)p-(?P<food>\d+)f(?P<coop>-coop)?-v3"
)
#: EPyMARL's spelling of PettingZoo's environments
_PZ = re.compile(r"pz-(?P<family>[a-z0-9]+)-(?P<name>[a-z0-9-]+)")
#: family -> packages whose modules may be it, in order; others are pettingzoo.<family>
_FAMILIES = {"mpe": ("mpe2", "pettingzoo.mpe")}


@dataclass(frozen=True)
class Target:
    """The environment that a key names.

    Attributes:
        key: itself, for messages.
        make: the class or function that makes it; with a ``spec`` Gymnasium calls it.
        spec: of a registered id.
    """

    key: str
    make: Callable[..., Any]
    spec: Any = None

    def convert(self, kwargs: Mapping[str, Any], typed: Mapping[str, str] | None = None) -> ConvertedArgs:
        """Return further env_args, checked against the constructor and converted; ``typed`` as for convert_args.

        Raises:
            UserError: an argument that it does not have, or of the wrong type.
        """
        if not kwargs:  # looking at a constructor may import the environment's code
            return ConvertedArgs()
        registered = {} if self.spec is None else self.spec.kwargs
        takes = self._takes()
        for name in kwargs:
            if name == "max_episode_steps" and (self.spec is not None or name not in takes.parameters):
                raise UserError("env_args.max_episode_steps is spelt env_args.time_limit here.")
            if self.spec is not None and name in _GYMNASIUMS:
                raise UserError(f"env_args.{name} is not an argument of '{self.key}': it is gymnasium.make's.")
            if name not in takes.parameters and not takes.open:
                raise UserError(
                    f"env_args.{name} is not an argument of gymma or of '{self.key}'"
                    + (
                        nearest(name, [*OWN, *takes.parameters])
                        or f": it takes {', '.join([*OWN, *takes.parameters])}."
                    )
                )
        return convert_args(takes, kwargs, f"'{self.key}'", registered, typed)

    def _takes(self) -> Signature:
        make = self.make
        if self.spec is not None:
            from gymnasium.envs.registration import load_env_creator

            point = self.spec.entry_point
            try:
                make = point if callable(point) else load_env_creator(point)
            except Exception as exc:
                raise UserError(
                    f"The environment '{self.key}' cannot be used: importing '{point}' fails: {exc}"
                ) from exc
        try:
            return constructor_signature(make)
        except (TypeError, ValueError):  # compiled: it says itself what it does not take
            return Signature(open=True)


def target(key: str) -> Target:
    """Resolve ``key`` to the environment that it names.

    | key | what is made |
    |---|---|
    | ``module:Id-v0`` or ``Id-v0`` | a registered Gymnasium id, after importing the module that registers it |
    | ``pz-mpe-simple-spread-v3`` | PettingZoo's environment, EPyMARL's spelling |
    | ``package.module:parallel_env`` | whatever that class or function makes (Gymnasium or PettingZoo) |

    Raises:
        UserError: missing package, or unknown id.
    """
    if key.startswith("pz-"):
        return Target(key, _pettingzoo(key))
    if key.startswith("vmas-"):
        raise UserError(
            f"env_args.key='{key}' is EPyMARL's spelling of a scenario of VMAS: use --env-config=vmas with "
            f"env_args.scenario={key.removeprefix('vmas-')} (and env_args.max_steps for the time limit)."
        )
    module, _, name = key.rpartition(":")
    home = _module(module, key) if module else None
    spec = _spec(module, name)
    if spec is not None:
        import gymnasium

        # without gymnasium's checkers, which know rewards that are one number only, and without its TimeLimit
        def registered(**given: Any) -> Any:
            return gymnasium.make(spec.id, disable_env_checker=True, max_episode_steps=-1, **given)

        return Target(key, registered, spec)
    factory = getattr(home, name, None)
    if not callable(factory):
        raise UserError(f"env_args.key='{key}' {_unknown(key, home)}")
    return Target(key, factory)


def make(key: str, kwargs: Mapping[str, Any], render_mode: str | None = None) -> tuple[Any, int | None]:
    """Return the environment that ``key`` names (:func:`target`), and the step limit it is registered with (or None).

    Raises:
        UserError: missing package, unknown id or argument, or an environment that cannot be made from these.
    """
    it = target(key)
    given = it.convert(kwargs).objects
    if it.spec is None:
        return _call(it.make, key, given, render_mode), None
    if render_mode is not None and (mode := gymnasium_mode(it.spec)) is not None:
        given = {**given, "render_mode": mode}
    return _call(it.make, key, given, None), it.spec.max_episode_steps


def _module(name: str, key: str, install: str = "") -> ModuleType:
    """Import a module that a key names, the current folder included.

    Args:
        name: the module.
        key: for messages.
        install: what pip installs to bring what it needs.

    Raises:
        UserError: it is missing, or fails.
    """
    look_here()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        missing = exc.name or name
        if missing == "matrixgames" and (game := nearest_game(key)):
            raise UserError(f"env_args.key='{key}' is not a game of matrixgames that is played here{game}") from exc
        raise NotInstalled(
            f"The environment '{key}' needs the module '{missing}', which is missing{_how_to_get(missing, install)}"
        ) from exc
    except Exception as exc:
        raise UserError(
            f"The environment '{key}' cannot be used: importing '{name}' fails: {type(exc).__name__}: {exc}."
        ) from exc


def _how_to_get(missing: str, install: str) -> str:
    """Return the end of a sentence about a missing module: the package to install, or the module that was meant."""
    parent, _, last = missing.rpartition(".")
    folder = _folder(parent) if parent else None
    if folder is not None:
        beside = [p.stem for p in folder.iterdir() if p.suffix in ("", ".py") and p.stem[0] not in "_."]
        return nearest(last, beside) or f" from '{parent}'."
    if package := _PACKAGES.get(missing) or install:
        return f": run `pip install {package}`."
    return nearest(missing, _PACKAGES) or ": install the package that has it."


def _spec(module: str, name: str) -> Any:
    """Return the registered spec of an id, or None."""
    import gymnasium

    spec = gymnasium.registry.get(name)
    return _register_foraging(name) if spec is None and module == "lbforaging" else spec


def _unknown(key: str, home: ModuleType | None) -> str:
    """Return the error of a key that names no environment, with the nearest one."""
    import gymnasium

    module, _, name = key.rpartition(":")
    # ids given without their module are the common slip
    guess = module or ("lbforaging" if name.startswith("Foraging") else "rware" if name.startswith("rware") else "")
    if guess and not module and importlib.util.find_spec(guess):
        _module(guess, key)
    known = [i for i, s in gymnasium.registry.items() if not guess or str(s.entry_point).startswith(guess)]
    options = [f"{guess}:{i}" if guess else i for i in known]
    options += [f"{module}:{n}" for n, v in vars(home).items() if callable(v) and n[0] != "_"] if home else []
    near = nearest(f"{guess}:{name}" if guess else name, options)
    return f"is not a registered Gymnasium id{f', nor has {module} a {name}' if module else ''}{near or '.'}"


def _call(make_it: Callable[..., Any], key: str, kwargs: Mapping[str, Any], render_mode: str | None) -> Any:
    """Make the environment; what its constructor raises becomes one sentence."""
    if render_mode is not None and "render_mode" not in kwargs:
        kwargs = {**kwargs, "render_mode": render_mode}
    try:
        return make_it(**kwargs)
    except ImportError as exc:
        raise UserError(f"The environment '{key}' needs something that is missing: {exc}.") from exc
    except UserError:
        raise
    except Exception as exc:
        what = "" if isinstance(exc, (TypeError, ValueError, AssertionError)) else f"{type(exc).__name__}: "
        raise UserError(f"The environment '{key}' could not be made from these env_args: {what}{exc}") from exc


# -- PettingZoo ------------------------------------------------------------------------------------------------------


def _folder(package: str) -> Path | None:
    """Return where a package lies, or None; nothing below its first part is imported."""
    top, *rest = package.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))).joinpath(*rest)
    return folder if folder.is_dir() else None


def _pettingzoo(key: str) -> Callable[..., Any]:
    """Return the function that makes the environment of ``pz-<family>-<name-with-dashes>-v<k>``.

    Raises:
        UserError: no such family or name, or a package that is missing.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    match = _PZ.fullmatch(key)
    if match is None:
        raise UserError(f"env_args.key='{key}' is not of the form pz-<family>-<name>, as pz-mpe-simple-spread-v3 is.")
    family, wanted = match["family"], match["name"].replace("-", "_")
    packages = _FAMILIES.get(family, (f"pettingzoo.{family}",))
    if all(importlib.util.find_spec(p.split(".")[0]) is None for p in packages):
        names = " ".join(dict.fromkeys(("pettingzoo", packages[0].split(".")[0])))
        raise NotInstalled(f"The environment '{key}' needs a package that is not installed: run `pip install {names}`.")
    have: dict[str, str] = {}
    for package in packages:
        folder = _folder(package)
        for file in sorted(folder.glob("*_v[0-9]*.py")) if folder else ():
            have.setdefault(file.stem, package)
    if wanted not in have:
        if not have:
            families = one_of(_families())
            raise UserError(f"env_args.key='{key}': PettingZoo has no family '{family}' here: use {families}.")
        near = nearest(key, [f"pz-{family}-{n.replace('_', '-')}" for n in have])
        raise UserError(f"env_args.key='{key}' is not an environment of PettingZoo's{near or '.'}")
    with warnings.catch_warnings():  # PettingZoo 1.27 names its registry, which does not have every environment
        warnings.simplefilter("ignore", DeprecationWarning)
        module = _module(f"{have[wanted]}.{wanted}", key, f"'pettingzoo[{family}]'")
    factory: Callable[..., Any] = getattr(module, "parallel_env", None) or module.env
    return factory


def _families() -> list[str]:
    folder = _folder("pettingzoo")
    found = {p.name for p in folder.iterdir() if any(p.glob("*_v[0-9]*.py"))} if folder else set()
    return sorted(found | set(_FAMILIES))


# -- Gymnasium -------------------------------------------------------------------------------------------------------


def _register_foraging(name: str) -> Any:
    """Register an LBF id that follows the registered scheme with other numbers; return its spec or None."""
    import gymnasium

    match = _FORAGING.fullmatch(name)
    if match is None:
        return None
    rows, columns, players, food = (int(match[g]) for g in ("rows", "columns", "players", "food"))
    if min(rows, columns) < 4 or players < 1 or food < 1:
        return None
    # what the package's own registered ids say, but for the numbers in the name
    pattern = gymnasium.registry["Foraging-8x8-2p-1f-v3"]
    gymnasium.register(
        id=name,
        entry_point=pattern.entry_point,
        kwargs={
            **pattern.kwargs,
            "players": players,
            "field_size": (rows, columns),
            "max_num_food": food,
            "sight": 2 if match["partial"] else max(rows, columns),
            "force_coop": match["coop"] is not None,
        },
    )
    return gymnasium.registry[name]
