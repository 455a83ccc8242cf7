"""Copies of an environment of one agent, side by side: agents that learn one task each for itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...utils.errors import UserError
from ..base import Arrays, Env


class Copies:
    """K environments of one agent as one environment of K agents, which never meet.

    Every agent has its own observations, actions, reward and end; the state is all observations. An agent whose copy
    has terminated waits, without reward, until those of the others have. A copy that is truncated truncates them all,
    for the other episodes are not over by their own rules. Infos are not logged.

    Args:
        envs: the copies.

    Raises:
        UserError: an environment of several agents.
    """

    def __init__(self, envs: Sequence[Env]) -> None:
        one, k = envs[0].info, len(envs)
        if one.n_agents != 1:
            for env in envs:
                env.close()
            raise UserError(
                f"env_args.copies={k} repeats an environment of one agent, and '{one.name}' has {one.n_agents}: use "
                "env_args.copies=1."
            )
        self._envs = list(envs)
        self._own = [Arrays.allocate(one, 1).slot(0) for _ in envs]
        self.info = replace(
            one, n_agents=k, state_size=k * one.state_size, obs_sizes=one.obs_sizes * k, team_reward=False,
            action_sizes=one.action_sizes * k, action_low=one.action_low * k, action_high=one.action_high * k,
            memory=one.memory * k,
        )  # fmt: skip

    def _show(self, out: Arrays) -> None:
        """Write what the agents see."""
        for i, own in enumerate(self._own):
            out.obs[i], out.avail[i] = own.obs[0], own.avail[0]
        out.state[...] = np.concatenate([own.state for own in self._own])

    def reset(self, seed: int, out: Arrays) -> None:
        """Start an episode of each copy, of seeds that are drawn from ``seed``."""
        seeds = np.random.SeedSequence(seed).generate_state(len(self._envs)).tolist()
        for env, own, given in zip(self._envs, self._own, seeds, strict=True):
            env.reset(given, own)
        self._show(out)
        out.alive[...] = True
        for field in (out.reward, out.terminated, out.truncated, out.agent_terminated):
            field[...] = 0

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        """Apply ``actions`` [K], continuous ones [K, D], to the copies that have not terminated."""
        out.reward[...] = 0
        cut = False
        for i, (env, own) in enumerate(zip(self._envs, self._own, strict=True)):
            if out.agent_terminated[i]:
                continue
            env.step(actions[i : i + 1], own)
            out.reward[i] = own.reward[0]
            out.agent_terminated[i] = own.terminated
            cut = cut or bool(own.truncated and not own.terminated)
        self._show(out)
        out.alive[...] = ~out.agent_terminated
        out.terminated[...] = out.agent_terminated.all()
        out.truncated[...] = cut and not out.terminated

    def render(self) -> np.ndarray:
        """Return a picture of the first copy, uint8 [H, W, 3]."""
        picture: np.ndarray = self._envs[0].render()  # type: ignore[attr-defined]
        return picture

    def close(self) -> None:
        """Close all copies."""
        for env in self._envs:
            env.close()
