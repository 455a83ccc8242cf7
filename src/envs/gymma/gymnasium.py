"""Gymnasium environments of one agent, or of several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...utils import moved
from ...utils.errors import UserError
from ..base import Arrays, EnvInfo
from ..fast.quicken import quicken
from ..foreign import close, unwrapped
from ..info_metrics import InfoSource
from ..pictures import gymnasium_frame
from ..spaces import AgentSpaces
from .protocol import TUPLES, as_rewards, as_space, masks_of, of_reset, of_step, refuse_old_reset


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
        obs, actions = (as_space(x, name, what) for x, what in (
            (env.observation_space, "observation_space"), (env.action_space, "action_space")
        ))  # fmt: skip
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
        self._time, self._some_left = 0, False
        self._cut = np.zeros(n, bool)  # who has been truncated while others play on
        self._foraging = type(unwrapped(env)).__module__.startswith("lbforaging.")
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
            for player in unwrapped(self._env).players:
                player.position = None
        observations, info = of_reset(self._env.reset(seed=seed), self._name)
        self._time, self._some_left = 0, False
        self._cut[...] = False
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
        if type(terminated) is bool and not (terminated or self._some_left):  # most steps of most games
            if truncated is True or self._time >= self.info.episode_limit:
                out.truncated[...] = True
                self._report(info)
                return
            if truncated is False:
                return
        # one flag means all agents, a list says it agent by agent; who has ended or was cut off stays so
        ended, cut = out.agent_terminated, self._cut
        now_ended, now_cut = self._flags(terminated), self._flags(truncated)
        self._tell_returns(now_ended, now_cut, ended)
        ended |= now_ended & ~cut
        ended_as_one = not now_ended.ndim and bool(now_ended)  # also where some had been cut off before
        newly_cut = now_cut & ~(ended | cut)
        over = bool((ended | cut | newly_cut).all()) or self._time >= self.info.episode_limit
        if not over:  # at an episode's end the last agents are cut off by that alone, as by one flag for all
            cut |= newly_cut
        left = ended | cut
        self._some_left = bool(left.any())
        if self._some_left:
            out.alive[...] = ~left
            out.avail[left] = self.spaces.at_end[left]
        out.terminated[...] = ended_as_one or ended.all()
        out.truncated[...] = over and not out.terminated
        if over:
            self._report(info)

    def _tell_returns(self, now_ended: np.ndarray, now_cut: np.ndarray, ended: np.ndarray) -> None:
        """Tell the listener of an agent that had ended or was cut off, and whose flag in a list is no longer set."""
        if not self._some_left or self.listener is None:
            return
        for flag, now, before in (("terminated", now_ended, ended), ("truncated", now_cut, self._cut)):
            back = before & ~(now_ended | now_cut)
            if now.ndim and back.any():
                self.listener.end_taken_back(int(back.argmax()), flag)
                return

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
                raise self._of_several(f"{rewards.size} rewards")
            hint = "; env_args.team_reward=True takes one reward for all" if rewards.size == 1 else ""
            raise ValueError(f"{rewards.size} rewards came for {n} agents{hint}")
        out.reward[...] = rewards.ravel()

    def _flags(self, given: Any) -> np.ndarray:
        flags = np.asarray(given, bool)
        if flags.ndim and flags.shape != (self.info.n_agents,):
            if self._single and flags.size > 1:
                raise self._of_several(f"{flags.size} end flags")
            raise ValueError(f"end flags of shape {flags.shape} came for {self.info.n_agents} agents")
        return flags

    def _of_several(self, given: str) -> UserError:
        """Return the error of an environment that gives something an agent under spaces of one agent."""
        return UserError(
            f"The environment '{self._name}' gives {given}, and its spaces are of one agent "
            f"({type(self._env.observation_space).__name__} and {type(self._env.action_space).__name__}): {TUPLES}."
        )

    def render(self) -> np.ndarray:
        """Return a picture of this moment, uint8 [H, W, 3]."""
        picture: np.ndarray = gymnasium_frame(self._env)
        return picture

    def close(self) -> None:
        """Close the environment."""
        close(self._env)


def __getattr__(name: str) -> object:
    return moved.attribute(__name__, name)
