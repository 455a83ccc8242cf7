"""Environments of other packages, by EPyMARL's `gymma`: Gymnasium ids (one agent, or a list of them) and PettingZoo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...utils.errors import UserError
from ..base import Env
from ..foreign import unwrapped
from ..matrix.package_ids import PackageGame, is_package_game
from ..own_random import OwnRandom
from . import ids as gym_ids
from .copies import Copies
from .gymnasium import Gymma

#: an environment's own step limit, under the names that environments give it
_LIMIT_NAMES = ("_max_episode_steps", "max_episode_steps", "max_steps", "max_cycles")
#: packages that report their own limit as a TERMINATION: it is taken away, and steps are counted here. Of others the
#: limit must stay: it may be in their rewards and observations.
_LIFTED = {"lbforaging", "rware"}


def gymma(
    key: str | None = None,
    time_limit: int | None = None,
    pretrained_wrapper: str | None = None,
    team_reward: bool = False,
    global_random: bool = False,
    render_mode: str | None = None,
    quick: bool = True,
    copies: int = 1,
    **kwargs: Any,
) -> Env:
    """Make an environment of another package.

    Args:
        key: Gymnasium id with the module that registers it (``lbforaging:Foraging-8x8-2p-3f-v3``), PettingZoo's in
            EPyMARL's spelling (``pz-mpe-simple-spread-v3``), or ``package.module:parallel_env``. The games
            ``matrixgames:climbing-nostate-v0`` and ``matrixgames:penalty-<k>-nostate-v0`` need no package.
        time_limit: steps until an episode is cut; the environment's own limit holds where that is less, and
            alone where this is None.
        pretrained_wrapper: EPyMARL's word; only null is supported.
        team_reward: the environment gives one reward for all agents, a number.
        global_random: it draws from numpy's or Python's global generators; each slot gets its own.
        render_mode: set where pictures will be asked for; an environment that offers none by that name is
            made without it.
        quick: let code of ours step LBF and RWARE, by the same rules to the bit, where it was written for the very
            source that is installed; False: the packages' own code steps.
        copies: so many copies of an environment of one agent side by side, each with an agent of its own, which
            learn one task without ever meeting.
        kwargs: further arguments of the environment itself.

    Raises:
        UserError: missing package, unknown id or argument, or an environment that is not of this kind.
    """
    name = _named(key)
    if pretrained_wrapper is not None:
        raise UserError(f"env_args.pretrained_wrapper={pretrained_wrapper!r} is not supported: only null is.")
    if time_limit is not None and time_limit < 1:
        raise UserError(f"env_args.time_limit={time_limit} is out of range: at least 1 is allowed.")
    if copies < 1:
        raise UserError(f"env_args.copies={copies} is out of range: at least 1 is allowed.")

    def build() -> Env:
        return one() if copies == 1 else Copies([one() for _ in range(copies)])

    def one() -> Env:
        if is_package_game(name):
            return PackageGame(name, time_limit, kwargs)
        env, registered = gym_ids.make(name, kwargs, render_mode)
        if hasattr(env, "possible_agents") or hasattr(env, "agent_iter"):
            from .pettingzoo import PettingZoo

            return PettingZoo(env, name, time_limit, _own_limit(env), team_reward)
        if hasattr(env, "observation_space") and hasattr(env, "action_space"):
            return Gymma(env, name, _limit(env, name, time_limit, registered), team_reward, quick)
        raise UserError(
            f"env_args.key='{name}' makes a {type(env).__name__}, which is neither a Gymnasium nor a PettingZoo "
            "environment."
        )

    return OwnRandom(build) if global_random and not is_package_game(name) else build()


def _named(key: str | None) -> str:
    if not key:
        raise UserError("env_args.key is needed, such as env_args.key=lbforaging:Foraging-8x8-2p-3f-v3.")
    return key


def notices(key: str | None = None, **given: Any) -> list[str]:
    """Return notices about arguments that are passed on untyped; it takes what :func:`gymma` takes.

    Raises:
        UserError: as for :func:`gymma`, short of making the environment.
    """
    further = {name: value for name, value in given.items() if name not in (*gym_ids.OWN, "render_mode")}
    name = _named(key)
    if is_package_game(name):
        PackageGame(name, None, further)
        return []
    return gym_ids.target(name).convert(further).notices if further else []


def as_typed(env_args: Mapping[str, Any], typed: Mapping[str, str]) -> dict[str, Any]:
    """Return ``env_args`` with text as it was typed (``typed``: env_args.NAME -> text) for arguments of another
    package's constructor that take text: ``label=007`` is the text ``007`` there.

    What cannot be looked at yet (a package is missing, another argument is wrong) stays: making it says so.
    """
    further = {k: v for k, v in env_args.items() if k not in (*gym_ids.OWN, "render_mode") and f"env_args.{k}" in typed}
    key = env_args.get("key")
    if not further or not key or is_package_game(key):
        return dict(env_args)
    try:
        found = gym_ids.target(key).convert(further, typed).plain
    except UserError:
        return dict(env_args)
    texts = {k: v for k, v in found.items() if k in further and v == typed[f"env_args.{k}"]}
    return {**env_args, **texts}


def _own_limit(env: Any) -> int | None:
    """Return the step limit that an environment keeps among its attributes, or None."""
    inner = unwrapped(env)
    found = [getattr(inner, "__dict__", {}).get(name) for name in _LIMIT_NAMES]
    whole = [int(v) for v in found if isinstance(v, (int, np.integer)) and not isinstance(v, bool) and v > 0]
    return min(whole, default=None)


def _limit(env: Any, key: str, time_limit: int | None, registered: int | None) -> int:
    """Return the steps after which an episode is cut, taking away an own limit that would pass for a termination.

    Raises:
        UserError: there is no limit at all.
    """
    own, inner = _own_limit(env), unwrapped(env)
    limits = [v for v in (time_limit, registered) if v is not None]
    if own is not None and type(inner).__module__.partition(".")[0] in _LIFTED:
        for name in _LIMIT_NAMES:
            if isinstance(vars(inner).get(name), (int, np.integer)):
                setattr(inner, name, 2**62)
        limits.append(own)
    elif own is not None and not limits:
        limits.append(own)
    if not limits:
        raise UserError(f"The environment '{key}' has no step limit of its own: set env_args.time_limit.")
    return min(limits)
