"""Build and validate an environment, shipped or user-supplied, from its name and arguments."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from ..components.experience import faulty_fields
from ..utils.errors import RunError, UserError, nearest, one_of, shown_value, sizes_text
from ..utils.schema.registry import resolve
from . import PASSING, REGISTRY
from .base import Env, EnvInfo
from .closing import close_all, only_here
from .convert_args import ConvertedArgs, convert_args
from .info_metrics import is_reserved
from .one_slot import OneSlot
from .own_random import OwnRandom
from .signatures import constructor_signature

#: the most that a size can be: beyond it no array could have that many rows
_LARGEST = 10**9
_SIZES = ("n_agents", "obs_size", "state_size", "n_actions", "episode_limit")
#: The call that a worker makes into an environment.
BUILDING, RESETTING, STEPPING = range(3)
#: This process is a worker in the place of one that failed: what an environment needs was there before.
started_again = False


class EnvError(RunError):
    """An environment failed in the middle of a run; the message names the slot and its episode's seed, and ends with
    the environment's own traceback or stack."""


class Unsound(EnvError):
    """An environment breaks its own declaration; starting it again would not mend that."""


def factory(env: str) -> Any:
    """Return the environment class called ``env`` (or the user's own ``package.module:Class``).

    Raises:
        UserError: no environment has this name, or its module cannot be imported.
    """
    return resolve(__name__.rpartition(".")[0], REGISTRY, env, "environment")


def is_native(env: str) -> bool:
    """Return whether the environment steps all its slots itself (class attribute ``native = True``)."""
    return bool(inspect.getattr_static(factory(env), "native", False))


def check_env_args(env: str, env_args: Mapping[str, Any], typed: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Check ``env_args`` against the environment's constructor and return them, as plain values of its types.

    ``typed`` has, by ``env_args.NAME``, what was typed for values that are not text, which an argument may take for it.

    A constructor with ``**kwargs`` takes further names, and checks them itself when it is called; of an environment of
    the user's own these are followed to where they go.

    Raises:
        UserError: an unknown name, a missing one, or a value of the wrong type.
    """
    plain = _converted(env, env_args, typed).plain
    if env in PASSING and typed:
        plain = importlib.import_module(PASSING[env], __package__).as_typed(plain, typed)
    return plain


def constructor_args(env: str, env_args: Mapping[str, Any]) -> dict[str, Any]:
    """Return checked ``env_args`` as the environment's constructor gets them: members of enumerations, tuples.

    Raises:
        UserError: as for :func:`check_env_args`.
    """
    return _converted(env, env_args).objects


def notices(env: str, env_args: Mapping[str, Any]) -> list[str]:
    """Return a sentence about each argument that is passed on without a type that it could be checked against.

    Raises:
        UserError: as for :func:`make_env`.
    """
    converted = _converted(env, env_args)
    if env not in PASSING:
        return converted.notices
    sentences: list[str] = importlib.import_module(PASSING[env], __package__).notices(**converted.objects)
    return sentences


def _converted(env: str, env_args: Mapping[str, Any], typed: Mapping[str, str] | None = None) -> ConvertedArgs:
    make = factory(env)
    own = env in REGISTRY
    try:
        takes = constructor_signature(make, follow=not own).without({"n_slots"})
    except (TypeError, ValueError) as error:
        raise UserError(f"Environment '{env}' is not a class or function that makes one: {error}.") from None
    named = takes.parameters
    for name in env_args:
        if name not in named and not takes.open:
            said = f"it takes {one_of(named)}" if named else "it takes none"
            raise UserError(f"env_args.{name} is not an argument of environment '{env}': {said}{nearest(name, named)}")
    converted = convert_args(takes, env_args, f"'{env}'", typed=typed)
    if own:  # shipped environments check further arguments themselves
        converted.notices.clear()
    for name, p in named.items():
        if name not in env_args and p.required:
            raise UserError(f"Environment '{env}' needs env_args.{name}.")
    return converted


def make_env(env: str, env_args: Mapping[str, Any]) -> Env:
    """Build one environment instance for one slot, also where the environment is batched by itself.

    Raises:
        UserError: wrong arguments, or something missing that the environment needs.
    """
    args, process = constructor_args(env, env_args), os.getpid()
    try:
        return OneSlot(factory(env)(n_slots=1, **args)) if is_native(env) else _build_one(env, factory(env), args)
    finally:
        only_here(process)


def _build_one(env: str, make: Any, args: Mapping[str, Any]) -> Env:
    """Build and validate a user-supplied environment.

    One whose class says ``global_random = True`` is wrapped in global generators of its own.

    Args:
        env: its name, for messages.
        make: class or function.
        args: its arguments, checked.

    Raises:
        UserError: the result is not an environment as ``envs/base.py`` describes one.
    """
    own = bool(inspect.getattr_static(make, "global_random", False))
    made: list[Any] = []

    def build() -> Any:
        made.append(make(**args))
        return made[-1]

    instance = OwnRandom(build) if own else build()
    if isinstance(getattr(instance, "info", None), EnvInfo):
        lacking = [name for name in ("reset", "step", "close") if not callable(getattr(made[-1], name, None))]
        if lacking:
            raise UserError(
                f"env={env} makes an environment ({type(made[-1]).__name__}) without {' and '.join(lacking)}: "
                "reset(seed, out), step(actions, out) and close() are needed."
            )
        return cast(Env, instance)
    if hasattr(instance, "action_space") or hasattr(instance, "possible_agents"):
        raise UserError(
            f"env={env} is a Gymnasium or PettingZoo environment: use --env-config=gymma with env_args.key={env}."
        )
    raise UserError(f"env={env} makes a {type(instance).__name__} without an EnvInfo called `info`.")


def make_info(env: str, env_args: Mapping[str, Any]) -> EnvInfo:
    """Return the sizes of an environment (one instance is built and closed again).

    Raises:
        UserError: as for :func:`make_env`, or sizes that cannot be.
    """
    instance = make_env(env, env_args)
    close_all([instance.close], env)
    return sound(instance.info, env)


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
            return f"info.{name}={shown_value(sizes)} must be a tuple with one entry for each of {n} agents."
        if max(sizes) != getattr(info, size) or min(sizes) < 1:
            return f"info.{name}={shown_value(sizes)} and info.{size}={getattr(info, size)} do not fit."
    if not isinstance(info.metrics, tuple) or not all(isinstance(m, str) for m in info.metrics):
        return f"info.metrics={info.metrics!r} must be a tuple of names."
    if not isinstance(info.memory, int) or info.memory < 0:
        return f"info.memory={info.memory!r} must be a whole number of bytes, 0 or more."
    fault = faulty_actions(info) or faulty_fields(info.extra)
    if fault:
        return f"info.{fault}" if fault.startswith("action") else fault
    for name in filter(is_reserved, info.metrics):
        return f"info.metrics has '{name}', and {name}_mean is a metric of the program's own: give it another name."
    return ""


def faulty_actions(info: EnvInfo) -> str:
    """Return what is wrong with the bounds of continuous actions, in one sentence; ``""`` where nothing is."""
    for name in ("action_low", "action_high"):
        rows = getattr(info, name)
        if len(rows) != (info.n_agents if info.continuous else 0):
            return f"{name} has {len(rows)} rows for {info.n_agents} agents: give one an agent in both bounds, or none."
        if any(len(row) not in (size, info.n_actions) for row, size in zip(rows, info.action_sizes, strict=False)):
            return f"{name}={shown_value(rows)} and info.action_sizes={sizes_text(info.action_sizes)} do not fit."
    low, high = info.bounds()
    if not (low <= high).all():
        return (
            f"action_low={shown_value(info.action_low)} is not below "
            f"info.action_high={shown_value(info.action_high)} everywhere."
        )
    return ""


def sound(info: EnvInfo, env: str) -> EnvInfo:
    """Validate the sizes of an environment and return them.

    Args:
        env: the environment's name, for the message.

    Raises:
        UserError: impossible sizes.
    """
    fault = faulty_size(info)
    if fault:
        raise UserError(f"The environment '{env}' cannot be used: {fault}")
    return info
