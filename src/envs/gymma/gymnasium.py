"""Environments of other packages, by EPyMARL's `gymma`: Gymnasium ids (one agent, or a list of them) and PettingZoo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...utils.errors import UserError
from ..base import Arrays, Env, EnvInfo
from ..fast.quicken import quicken
from ..info_metrics import InfoSource
from ..matrix.package_ids import PackageGame, is_package_game
from ..own_random import OwnRandom
from ..pictures import gymnasium_frame
from ..spaces import AgentSpaces
from . import ids as gym_ids
from .copies import Copies
from .protocol import as_rewards, masks_of, of_reset, of_step, refuse_old_reset

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


class Gymma(InfoSource):
    """One Gymnasium environment of one agent, or of several with one entry an agent in everything it gives and takes.

    Agents of different sizes are padded, and what is padded is illegal. ``info["action_mask"]`` (one mask an agent)
    or an ``action_mask`` in a Dict observation says which actions are legal.
    """

    def __init__(self, env: Any, name: str, episode_limit: int, team_reward: bool, quick: bool = False) -> None:
        """Wrap ``env``; ``episode_limit`` steps end an episode; ``quick``: step it by code of ours, where there is any.

        Raises:
            UserError: spaces that are not of this kind.
        """
        from gymnasium import spaces

        self._env = env
        refuse_old_reset(env, name)
        # plain lists with one space an agent, as MPE's first package has them, are Tuples too
        obs, actions = (
            spaces.Tuple(list(x))
            if isinstance(x, (list, tuple)) and x and all(isinstance(s, spaces.Space) for s in x)
            else x
            for x in (env.observation_space, env.action_space)
        )
        self._name = name
        self._single = not (isinstance(actions, spaces.Tuple) and isinstance(obs, spaces.Tuple))
        if not self._single and len(obs) != len(actions):
            raise UserError(
                f"The environment '{name}' is not multi-agent in gymma's sense: its observation space has {len(obs)} "
                f"entries and its action space {len(actions)}, and one an agent is needed in both."
            )
        n = 1 if self._single else len(actions)
        one_each = ([obs], [actions]) if self._single else (list(obs), list(actions))
        self.spaces = AgentSpaces(name, [str(i) for i in range(n)], *one_each)
        s = self.spaces
        self.info = EnvInfo(
            name=name, n_agents=n, obs_size=s.obs_size, state_size=n * s.obs_size, n_actions=s.n_actions,
            episode_limit=episode_limit, obs_sizes=s.obs_sizes, action_sizes=s.action_sizes, team_reward=team_reward,
            obs_shape=s.obs_shape, action_low=s.action_low, action_high=s.action_high,
        )  # fmt: skip
        self._time, self._some_ended = 0, False
        self._foraging = type(env.unwrapped).__module__.startswith("lbforaging.")
        self._masked = any(s.masked)  # or as soon as an info has a mask
        # what our own code gives needs no second look: a row of the declared size and a reward for each agent
        rows = all(type(o) is spaces.Box and o.shape == (s.obs_size,) for o in one_each[0])
        self._sure = quick and quicken(env) and rows and not (self._single or team_reward)

    def _see(self, observations: Any, info: Any, out: Arrays) -> None:
        """Write observations and legal actions; ``info`` is the environment's."""
        if self._sure and self.spaces.watch is None:
            for row, one in zip(out.obs, observations, strict=True):
                row[:] = one
            out.state[...] = out.obs.ravel()
            return
        if self._single:
            observations = (observations,)
        if len(observations) != self.info.n_agents:
            raise ValueError(f"{len(observations)} observations came for {self.info.n_agents} agents")
        masks = masks_of(info, self.info.n_agents)
        if masks is not None and self._single and isinstance(info, Mapping):
            masks = (masks,)
        if masks is not None and len(masks) != self.info.n_agents:
            raise ValueError(f"{len(masks)} action masks came for {self.info.n_agents} agents")
        self._masked |= masks is not None
        for i, one in enumerate(observations):
            inside = self.spaces.observe(i, one, out.obs[i])
            if self._masked:
                self.spaces.mask(i, inside if masks is None or masks[i] is None else masks[i], out.avail[i])
        out.state[...] = out.obs.ravel()

    def reset(self, seed: int, out: Arrays) -> None:
        """Start the episode of ``seed``."""
        if self._foraging:
            # LBF places its players where the LAST episode's did not stand: an episode must depend on its seed alone
            for player in self._env.unwrapped.players:
                player.position = None
        observations, info = of_reset(self._env.reset(seed=seed), self._name)
        self._time, self._some_ended = 0, False
        out.obs[...] = 0
        out.avail[...] = self.spaces.legal
        self._see(observations, info, out)
        out.alive[...] = True
        for field in (out.reward, out.terminated, out.truncated, out.agent_terminated):
            field[...] = 0

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        """Apply ``actions`` [N], continuous ones [N, D].

        Raises:
            ValueError: an action that is padding for its agent, or numbers of other sizes than declared.
        """
        moves = [self.spaces.move(i, a) for i, a in enumerate(actions if self.spaces.continuous else actions.tolist())]
        found = self._env.step(moves[0] if self._single else moves)
        observations, reward, terminated, truncated, info = of_step(found, self._name)
        self._time += 1
        self._see(observations, info, out)
        self._reward(reward, out)
        if type(terminated) is bool and not (terminated or self._some_ended):  # most steps of most games
            if truncated is True or self._time >= self.info.episode_limit:
                out.truncated[...] = True
                self._report(info)
                return
            if truncated is False:
                return
        # one flag means all agents, a list says it agent by agent; who has ended stays ended
        ended, flags = out.agent_terminated, self._flags(terminated)
        if self._some_ended and flags.ndim and (ended & ~flags).any() and self.listener is not None:
            self.listener.end_taken_back(int((ended & ~flags).argmax()))
        ended |= flags
        self._some_ended = bool(ended.any())
        if self._some_ended:
            out.alive[...] = ~ended
            out.avail[ended] = self.spaces.at_end[ended]
        cut = bool((ended | self._flags(truncated)).all()) or self._time >= self.info.episode_limit
        out.terminated[...] = ended.all()
        out.truncated[...] = cut and not ended.all()
        if cut:
            self._report(info)

    def _report(self, info: Any) -> None:
        """Pass an episode's final info to the listener: one, or a list with one an agent."""
        if self.listener is not None:
            self.listener.infos(info if isinstance(info, (list, tuple)) else (info,))

    def _reward(self, reward: Any, out: Arrays) -> None:
        if self._sure:
            out.reward[...] = reward
            return
        rewards, n = as_rewards(reward, ""), self.info.n_agents
        if self.info.team_reward:
            if rewards.size != 1:
                raise ValueError(f"{rewards.size} rewards came, and env_args.team_reward=True promises one for all")
        elif rewards.size != n:
            if self._single and rewards.size > 1:
                raise UserError(
                    f"The environment '{self._name}' gives {rewards.size} rewards, and its spaces are of one agent "
                    f"({type(self._env.observation_space).__name__} and {type(self._env.action_space).__name__}): an "
                    "environment of several agents has Tuple spaces, with one entry an agent."
                )
            hint = "; env_args.team_reward=True takes one reward for all" if rewards.size == 1 else ""
            raise ValueError(f"{rewards.size} rewards came for {n} agents{hint}")
        out.reward[...] = rewards.ravel()

    def _flags(self, given: Any) -> np.ndarray:
        flags = np.asarray(given, bool)
        if flags.ndim and flags.shape != (self.info.n_agents,):
            raise ValueError(f"end flags of shape {flags.shape} came for {self.info.n_agents} agents")
        return flags

    def render(self) -> np.ndarray:
        """Return a picture of this moment, uint8 [H, W, 3]."""
        picture: np.ndarray = gymnasium_frame(self._env)
        return picture

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


def _own_limit(env: Any) -> int | None:
    """Return the step limit that an environment keeps among its attributes, or None."""
    inner = getattr(env, "unwrapped", env)
    found = [getattr(inner, "__dict__", {}).get(name) for name in _LIMIT_NAMES]
    whole = [int(v) for v in found if isinstance(v, (int, np.integer)) and not isinstance(v, bool) and v > 0]
    return min(whole, default=None)


def _limit(env: Any, key: str, time_limit: int | None, registered: int | None) -> int:
    """Return the steps after which an episode is cut, taking away an own limit that would pass for a termination.

    Raises:
        UserError: there is no limit at all.
    """
    own, inner = _own_limit(env), env.unwrapped
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
