"""Training and test episodes with tables: what a runner and a learner are for networks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..components.schedules import scheduled
from ..components.seeding import action_noise, episode_seed
from ..envs.base import Arrays
from ..envs.tabular.base import FiniteEnv
from ..runners.episodes import Episodes
from .config import TabularConfig
from .measures import Measures
from .tables import Tables, boltzmann, greedy, sample


class Learner:
    """What the loop asks of a learner: here values are learned while an episode is played.

    Args:
        tables: what is learned.
        measures: of them.
    """

    def __init__(self, tables: Tables, measures: Measures) -> None:
        self.tables, self._measures = tables, measures
        self.updates = self.processed = 0
        #: of the last episode: sums of |temporal difference| and the number of updates
        self.differences, self.learned = 0.0, 0

    def train(self, batch: Any, t_env: int) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
        """Return the scalars of the episode that was played last; nothing is left to learn from it."""
        self.updates += 1
        self.processed += self.learned
        return {"td_error": self.differences / max(self.learned, 1), **self._measures.scalars(self.tables.q)}, {}

    def load_weights(self, state: Mapping[str, Any]) -> list[str]:
        """The values are loaded by the tables; visits are not taken."""
        return []

    def state_dict(self) -> dict[str, Any]:
        """Return the visits, which step sizes go by, and the counters."""
        return {"visits": self.tables.visits, "updates": self.updates, "processed": self.processed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self.tables.visits[...] = np.asarray(state["visits"]).astype(np.float64)
        self.updates, self.processed = int(state["updates"]), int(state["processed"])


class Player:
    """Plays episodes: one at a time to learn from, all slots together in tests.

    Args:
        config: the keys.
        make: builds the environment with a number of slots.
        tables: what acts and learns.
        learner: takes the sums of an episode.
    """

    worker_restarts = 0

    def __init__(self, config: TabularConfig, make: Any, tables: Tables, learner: Learner) -> None:
        self.config, self.tables, self._learner, self._make = config, tables, learner, make
        self.env: FiniteEnv = make(1)
        self.info = self.env.info
        self._out = Arrays.allocate(self.info, 1)
        self._tested: tuple[FiniteEnv, Arrays] | None = None
        self.t_env = self.episodes = self.agent_steps = 0
        self.time_env = self.time_act = 0.0
        self._agents = np.arange(self.info.n_agents)

    def epsilon(self) -> float:
        """Return the share of random actions of epsilon-greedy exploration now."""
        c = self.config
        return scheduled("linear", c.epsilon_start, c.epsilon_finish, self.t_env, c.epsilon_anneal_time)

    def _policy(self, q: np.ndarray, epsilon: float) -> np.ndarray:
        if self.config.exploration == "boltzmann":
            return boltzmann(q, self.config.temperature)
        return greedy(q, epsilon)

    def _rewards(self, reward: np.ndarray) -> np.ndarray:
        """Return rewards [..., N] to learn from: the agents' own, or the common one made of them."""
        if not self.config.common_reward or self.info.team_reward:
            return reward
        total = reward.sum(-1) if self.config.reward_scalarisation == "sum" else reward.mean(-1)
        return np.repeat(total[..., None], self.info.n_agents, -1)

    def run(self) -> tuple[None, Episodes]:
        """Play one training episode, and learn from each of its steps; returns nothing and its results."""
        c, env, out, tables, learner = self.config, self.env, self._out, self.tables, self._learner
        began = time.perf_counter()
        number = self.episodes
        noise = action_noise(c.seed, "train", 0, number).random((self.info.episode_limit, self.info.n_agents))
        env.reset(np.array([0]), np.array([episode_seed(c.seed, "train", 0, number)]), out)
        states, returns, every = env.codes()[0], np.zeros(self.info.n_agents), np.array([True])
        learner.differences, learner.learned = 0.0, 0
        for step in range(self.info.episode_limit):
            acting = out.alive[0].copy()
            actions = sample(self._policy(tables.q[self._agents, states], self.epsilon()), noise[step])
            actions = np.where(acting, actions, 0)
            env.step(actions[None], every, out)
            rewards, after = self._rewards(out.reward[0].astype(np.float64)), env.codes()[0]
            difference = tables.update(states, actions, rewards, after, out.agent_terminated[0], acting)
            learner.differences += float(np.abs(difference).sum())
            learner.learned += int(acting.sum())
            returns += rewards
            states = after
            self.t_env += 1
            if out.terminated[0] or out.truncated[0]:
                break
        self.episodes += 1
        self.agent_steps += learner.learned
        self.time_env += time.perf_counter() - began
        return None, Episodes([returns], [step + 1], [np.zeros(0)], [{}])

    def test(self, n_episodes: int, greedy_actions: bool) -> Episodes:
        """Play ``n_episodes`` test episodes together, the same ones in every test; nothing is learned from them."""
        c = self.config
        if self._tested is None or len(self._tested[1].reward) != n_episodes:
            self._tested = self._make(n_episodes), Arrays.allocate(self.info, n_episodes)
        env, out = self._tested
        seeds = np.array([episode_seed(c.seed, "test", 0, k) for k in range(n_episodes)])
        shape = (self.info.episode_limit, self.info.n_agents)
        noise = np.stack([action_noise(c.seed, "test", 0, k).random(shape) for k in range(n_episodes)])
        env.reset(np.arange(n_episodes), seeds, out)
        returns, lengths = np.zeros((n_episodes, self.info.n_agents)), np.zeros(n_episodes, np.int64)
        active = np.ones(n_episodes, bool)
        for step in range(self.info.episode_limit):
            q = self.tables.q[self._agents, env.codes()]
            policy = greedy(q, 0.0) if greedy_actions else self._policy(q, c.evaluation_epsilon)
            actions = np.where(out.alive, sample(policy, noise[:, step]), 0)
            env.step(actions, active, out)
            returns[active] += self._rewards(out.reward[active].astype(np.float64))
            lengths[active] += 1
            active &= ~(out.terminated | out.truncated)
            if not active.any():
                break
        return Episodes(list(returns), lengths.tolist(), [np.zeros(0)] * n_episodes, [{}] * n_episodes)

    def state_dict(self) -> dict[str, Any]:
        """Return the counters: the next episode's random numbers follow from its number alone."""
        return {"t_env": self.t_env, "episodes": self.episodes, "agent_steps": self.agent_steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> list[str]:
        """Take them back."""
        self.t_env, self.episodes = int(state["t_env"]), int(state["episodes"])
        self.agent_steps = int(state["agent_steps"])
        return []

    def close(self) -> None:
        """Nothing to release."""
