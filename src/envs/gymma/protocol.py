"""What environments of other packages must take and give (Gymnasium's and PettingZoo's API), and a diagnosis where they
keep to another one."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sized
from typing import Any

import numpy as np

from ...utils.errors import UserError, nearest, one_of
from ..foreign import unwrapped
from ..spaces import no_space

_LARGEST = float(np.finfo(np.float32).max)
_WRAP = (
    "gymnasium.make('GymV21Environment-v0', env=...) of the package shimmy wraps such an environment, or give it "
    "reset(self, *, seed=None, options=None) -> (observations, info) and step(self, action) -> (observations, reward, "
    "terminated, truncated, info)."
)

#: what Gymnasium environments of several agents have
TUPLES = "an environment of several agents has Tuple spaces, with one entry an agent"


def as_space(given: Any, name: str, what: str) -> Any:
    """Return a Gymnasium environment's ``observation_space`` or ``action_space`` (``what``).

    A list, tuple or array with one space an agent, as MPE's first package has it, is a Tuple too.

    Raises:
        UserError: an entry that is no space of Gymnasium's, a dict of spaces, or a function, as in PettingZoo.
    """
    from gymnasium import spaces

    several = given.ndim > 0 if isinstance(given, np.ndarray) else isinstance(given, (list, tuple))
    if several and len(given):
        for i, one in enumerate(given):
            if not isinstance(one, spaces.Space):
                raise UserError(no_space(name, f"entry {i} of its {what}", one))
        return spaces.Tuple(list(given))
    if isinstance(given, Mapping) and not isinstance(given, spaces.Space):
        raise UserError(f"The environment '{name}' cannot be used: its {what} is a {type(given).__name__}; {TUPLES}.")
    if inspect.isroutine(given):
        raise UserError(
            f"The environment '{name}' cannot be used: its {what} is a function, as in PettingZoo, whose environments "
            "also have possible_agents, a list of all agents' names."
        )
    return given


def refuse_old_reset(env: Any, name: str) -> None:
    """Refuse an environment whose ``reset`` takes no seed, as before gym 0.26.

    Raises:
        UserError: naming the API.
    """
    try:
        parameters = inspect.signature(unwrapped(env).reset).parameters
    except (TypeError, ValueError, AttributeError):
        return
    if "seed" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    raise UserError(
        f"The environment '{name}' has the old gym API: its reset({', '.join(parameters)}) takes no seed. {_WRAP}"
    )


def of_reset(found: Any, name: str) -> tuple[Any, Any]:
    """Return what ``reset`` gave: observations and info.

    Raises:
        UserError: it gave something else.
    """
    pair = isinstance(found, tuple) and len(found) == 2
    if pair and _is_info(found[1]):
        return found
    second = f" and no info in it ({type(found[1]).__name__})" if pair else ""
    raise UserError(
        f"The environment '{name}' gives {_described(found)}{second} in reset, and (observations, info) is expected. "
        f"{_WRAP}"
    )


def _is_info(given: Any) -> bool:
    """Whether ``reset`` may have given this as info: anything but numbers, which are an observation."""
    if isinstance(given, (list, tuple)):
        return all(map(_is_info, given))
    if isinstance(given, np.ndarray):
        return bool(given.dtype.hasobject)
    return not isinstance(given, (int, float, np.number))


def of_step(found: Any, name: str) -> tuple[Any, Any, Any, Any, Any]:
    """Return what ``step`` gave: observations, reward, terminated, truncated, info.

    Raises:
        UserError: it gave something else.
    """
    if isinstance(found, tuple) and len(found) == 5:
        return found
    old = "has the old gym API: it " if isinstance(found, tuple) and len(found) == 4 else ""
    raise UserError(
        f"The environment '{name}' {old}gives {_described(found)} in step, and "
        f"(observations, reward, terminated, truncated, info) is expected. {_WRAP}"
    )


def masks_of(info: Any, n_agents: int) -> Any:
    """Return the action masks in an info, one an agent; None: there are none.

    ``info`` is a mapping with ``action_mask``, or a list of mappings, one an agent.
    """
    if isinstance(info, Mapping):
        return info.get("action_mask")
    if isinstance(info, (list, tuple)) and len(info) == n_agents:
        found = [one.get("action_mask") if isinstance(one, Mapping) else None for one in info]
        return None if all(mask is None for mask in found) else found
    return None


def as_rewards(given: Any, whose: str) -> np.ndarray:
    """Return rewards as an array of float64.

    Raises:
        ValueError: something else than numbers, or a number beyond what float32 holds.
    """
    try:
        if given is None or isinstance(given, (str, Mapping)):
            raise TypeError
        found = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"the reward {whose}is {given!r:.60}, and numbers are needed") from None
    if (np.isfinite(found) & (np.abs(found) > _LARGEST)).any():
        raise ValueError(f"the reward {whose}is {given!r:.60}, beyond what float32 holds ({_LARGEST:.3g})")
    return found


def _described(found: Any) -> str:
    many = f" of {len(found)}" if isinstance(found, Sized) and isinstance(found, (tuple, list)) else ""
    return f"a {type(found).__name__}{many}"


def refuse_strangers(given: Iterable[Any], known: Mapping[Any, int], name: str, what: str) -> None:
    """Refuse agents that the environment has not named.

    Args:
        given: names of agents.
        known: the environment's possible agents.
        what: what it says of them, in words.

    Raises:
        UserError: naming one of them.
    """
    for agent in given:
        if agent not in known:
            names = [str(a) for a in known]
            some = one_of(names) if len(names) < 9 else f"{', '.join(names[:8])} ... ({len(names)} agents)"
            raise UserError(
                f"The environment '{name}' {what} agent '{agent}', which is not among its possible_agents {some}"
                f"{nearest(str(agent), names) or '.'}"
            )
