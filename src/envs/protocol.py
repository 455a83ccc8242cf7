"""Building one environment of anybody's, and telling what else it may be when it is not one."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, cast

from ..components.errors import UserError
from .base import Env, EnvInfo
from .own_random import OwnRandom


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
