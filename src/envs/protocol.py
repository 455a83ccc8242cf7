"""Building one environment of anybody's, and telling what else it may be when it is not one."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from ..utils.errors import UserError
from .base import Env, EnvInfo
from .notes import is_own
from .own_random import OwnRandom

#: the most that a size can be: beyond it no array could have that many rows
_LARGEST = 10**9
_SIZES = ("n_agents", "obs_size", "state_size", "n_actions", "episode_limit")


def faulty_size(info: EnvInfo) -> str:
    """Return what is wrong with an environment's sizes, the first in one sentence; ``""`` where nothing is."""
    for name in _SIZES:
        value = getattr(info, name)
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not whole or not 1 <= value <= _LARGEST:
            need = f"a whole number of at {'least 1' if not whole or value < 1 else f'most {_LARGEST:,}'}"
            return f"info.{name}={value!r} must be {need}."
    n = info.n_agents
    for name, size in (("obs_sizes", "obs_size"), ("action_sizes", "n_actions")):
        sizes = getattr(info, name)
        if not isinstance(sizes, tuple) or len(sizes) != n:
            return f"info.{name}={sizes!r} must be a tuple with one entry for each of {n} agents."
        if max(sizes) != getattr(info, size) or min(sizes) < 1:
            return f"info.{name}={sizes} and info.{size}={getattr(info, size)} do not fit."
    if not isinstance(info.metrics, tuple) or not all(isinstance(m, str) for m in info.metrics):
        return f"info.metrics={info.metrics!r} must be a tuple of names."
    for name in filter(is_own, info.metrics):
        return f"info.metrics has '{name}', and {name}_mean is a metric of the program's own: give it another name."
    return ""


def build_one(env: str, make: Any, args: Mapping[str, Any]) -> Env:
    """Return ``make(**args)``, in global generators of its own where its class says ``global_random = True``.

    Args:
        env: its name, for messages.
        make: class or function.
        args: its arguments, checked.

    Raises:
        UserError: what comes out is not an environment as ``envs/base.py`` describes one.
    """
    own = bool(inspect.getattr_static(make, "global_random", False))
    instance = OwnRandom(lambda: make(**args)) if own else make(**args)
    if isinstance(getattr(instance, "info", None), EnvInfo):
        return cast(Env, instance)
    if hasattr(instance, "action_space") or hasattr(instance, "possible_agents"):
        raise UserError(
            f"env={env} is a Gymnasium or PettingZoo environment: use --env-config=gymma with env_args.key={env}."
        )
    raise UserError(f"env={env} makes a {type(instance).__name__} without an EnvInfo called `info`.")
