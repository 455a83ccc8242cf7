"""Import of VMAS, its scenarios by name, and their construction. VMAS is GPL: it is only imported.

Scenarios take their arguments as ``**kwargs``; which ones there are is read from their source.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from ...utils.errors import NotInstalled, UserError, first_line, nearest, one_of, shown_value
from ...utils.project import extra

#: packages that VMAS needs and that may be missing
_PACKAGES = ("vmas", "gym", "gym_notices", "pyglet", "six", "torch")
#: how a scenario reads an argument
_ARGUMENT = re.compile(r"""kwargs\.(?:pop|get)\(\s*["'](\w+)["']""")


def load() -> tuple[Any, Any]:
    """Return the package ``vmas`` and its module ``simulator.utils``.

    Raises:
        UserError: it, or a package that it needs, is missing or broken.
    """
    said = io.StringIO()
    try:
        # gym may say at its import that it is no longer maintained
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("vmas"), importlib.import_module("vmas.simulator.utils")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _PACKAGES:
            raise UserError(f"vmas cannot be used: {first_line(error)}.") from None
        raise NotInstalled(
            f"vmas needs the Python package '{missing}', which is not installed: run `{extra('vmas')}`."
        ) from None
    except Exception as error:  # such as a library that does not fit this system
        raise UserError(f"vmas cannot be used: importing VMAS fails: {first_line(error)}.") from None


def names(vmas: Any) -> tuple[str, ...]:
    """Return the names of VMAS's scenarios: its own, those of MPE, and those for debugging."""
    return (*vmas.scenarios, *vmas.mpe_scenarios, *vmas.debug_scenarios)


def find_scenario(vmas: Any, name: str) -> Any:
    """Return the class of a scenario.

    Args:
        vmas: the package.
        name: one of VMAS's names, or ``package.module:Class`` for a scenario of the user's own.

    Raises:
        UserError: no scenario has this name.
    """
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise UserError(f"env_args.scenario='{name}' cannot be imported: {first_line(error)}.") from None
    known = names(vmas)
    if name not in known:
        raise UserError(
            f"env_args.scenario='{name}' is not a scenario of VMAS: use {one_of(known)}{nearest(name, known)}"
        )
    return importlib.import_module("vmas.scenarios").load(f"{name}.py").Scenario


def arguments(scenario: Any) -> tuple[str, ...]:
    """Return the names of the arguments that the class of a scenario reads."""
    found: dict[str, None] = {}
    for _, method in inspect.getmembers(scenario, inspect.isfunction):
        with contextlib.suppress(OSError, TypeError):  # one made without a file
            found.update(dict.fromkeys(_ARGUMENT.findall(inspect.getsource(method))))
    return tuple(found)


def check_arguments(scenario: Any, name: str, given: Mapping[str, Any]) -> None:
    """Refuse arguments that the scenario does not read, and a team of nobody.

    Raises:
        UserError: there is one.
    """
    known = arguments(scenario)
    for argument in given:
        if argument not in known:
            said = f"it takes {one_of(known)}" if known else "it takes none"
            raise UserError(
                f"env_args.{argument} is not an argument of VMAS's scenario '{name}': {said}{nearest(argument, known)}"
            )
    agents = given.get("n_agents")
    if isinstance(agents, int) and agents < 1:
        raise UserError(f"env_args.n_agents={agents} is too few: VMAS's scenario '{name}' needs at least 1.")


def check_device(device: str) -> None:
    """Refuse a device that torch does not have here.

    Raises:
        UserError: there is no such device.
    """
    import torch

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        near = "" if device.startswith("cuda") else nearest(device, ("cpu", "cuda"))
        raise UserError(
            f"env_args.device='{device}' is not there for torch ({first_line(error)}): use cpu{near or '.'}"
        ) from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop VMAS's and torch's warnings about VMAS's own code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def build(vmas: Any, scenario: Any, name: str, n_slots: int, device: str, given: Mapping[str, Any]) -> Any:
    """Return VMAS's environment of ``n_slots`` worlds, with continuous actions.

    Raises:
        UserError: the scenario cannot be made with these arguments.
    """
    said = ", ".join(f"{key}={shown_value(value)}" for key, value in given.items()) or "its defaults"
    try:
        with quiet():
            made = vmas.make_env(
                scenario(), num_envs=n_slots, device=device, continuous_actions=True, seed=0,
                terminated_truncated=True, **given,
            )  # fmt: skip
    except Exception as error:  # whatever its constructor does with a value that it did not expect
        kind, why = type(error).__name__, first_line(error)
        raised = kind if why == kind else f"{kind}: {why}"
        raise UserError(f"VMAS's scenario '{name}' cannot be made with {said} ({raised}).") from None
    if not made.agents:
        raise UserError(f"VMAS's scenario '{name}' has no agents with {said}.")
    return made
