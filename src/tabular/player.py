"""Training and test episodes with tables: what a runner and a learner are for networks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..components.seeding import action_noise, episode_seed
from ..envs.base import Arrays, EnvInfo
from ..envs.tabular.base import FiniteEnv
from ..runners.episodes import Episodes
from .config import TabularConfig
from .measures import Measures
from .tables import Tables, boltzmann, greedy, sample

#: environment steps between two measurements of the tables
MEASURED = 100


class Learner:
    """What the loop asks of a learner: here values are learned while an episode is played.

    Args:
        tables: what is learned.
        measures: of them.
    """

    def __init__(self, tables: Tables, measures: Measures) -> None:
        self.tables, self._measures = tables, measures
        self.updates = self.processed = 0
        #: of the last episode: the sum of |temporal difference|, the number of updates, and its steps
        self.differences, self.learned, self.steps = 0.0, 0, 0

    def train(self, batch: Any, t_env: int) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
        """Return the scalars of the episode that was played last; nothing is left to learn from it.

        The tables are measured once in :data:`MEASURED` steps: solving a process costs more than a short episode.
        """
        self.updates += 1
        self.processed += self.learned
        found = {"td_error": self.differences / max(self.learned, 1)}
        if t_env // MEASURED != (t_env + self.steps) // MEASURED:
            found |= self._measures.scalars(self.tables.q[0])
        return found, {}

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


@dataclass(frozen=True)
class Played:
    """An episode of each of B teams: returns [B, N], lengths [B], and in it the sums of absolute temporal differences
    [B] and the number of updates [B]."""

    returns: np.ndarray
    lengths: np.ndarray
    differences: np.ndarray
    learned: np.ndarray


def learned_from(reward: np.ndarray, config: TabularConfig, info: EnvInfo) -> np.ndarray:
    """Return rewards [..., N] to learn from: the agents' own, or the common one made of them."""
    if not config.common_reward or info.team_reward:
        return reward
    total = reward.sum(-1) if config.reward_scalarisation == "sum" else reward.mean(-1)
    return np.repeat(total[..., None], info.n_agents, -1)


class Teams:
    """B teams that learn in B slots at once, each as it would alone: for one run B is 1, for many seeds their number.

    Args:
        config: the keys; its seed is not read.
        env: the slots.
        tables: of B teams.
    """

    def __init__(self, config: TabularConfig, env: FiniteEnv, tables: Tables) -> None:
        self.config, self.env, self.tables, self.info = config, env, tables, env.info
        self.n_teams = len(env.time)
        env.observes = False
        self._out = Arrays.allocate(self.info, self.n_teams)
        self._team, self._agents = np.arange(self.n_teams)[:, None], np.arange(self.info.n_agents)

    def epsilon(self, t_env: np.ndarray) -> np.ndarray:
        """Return the shares of random actions of epsilon-greedy exploration at steps ``t_env`` [B]."""
        c = self.config
        return c.epsilon_start + (c.epsilon_finish - c.epsilon_start) * np.minimum(t_env / c.epsilon_anneal_time, 1.0)

    def policy(self, q: np.ndarray, epsilon: np.ndarray | float) -> np.ndarray:
        """Return the exploring policies [..., A] of values [..., A]."""
        if self.config.exploration == "boltzmann":
            return boltzmann(q, self.config.temperature)
        return greedy(q, epsilon)

    def rewards(self, reward: np.ndarray) -> np.ndarray:
        """Return rewards [..., N] to learn from: the agents' own, or the common one made of them."""
        return learned_from(reward, self.config, self.info)

    def episode(self, seeds: np.ndarray, numbers: np.ndarray, t_env: np.ndarray) -> Played:
        """Play one training episode with every team, and learn from each of its steps.

        Args:
            seeds: [B] of the runs.
            numbers: [B] how many episodes each team has played.
            t_env: [B] its steps before this episode.
        """
        env, out, tables, b = self.env, self._out, self.tables, self.n_teams
        shape, limit = (self.info.episode_limit, self.info.n_agents), self.info.episode_limit
        pairs = list(zip(seeds.tolist(), numbers.tolist(), strict=True))
        noise = np.stack([action_noise(s, "train", 0, k).random(shape) for s, k in pairs])
        env.reset(np.arange(b), np.array([episode_seed(s, "train", 0, k) for s, k in pairs]), out)
        states, active = env.codes(), np.ones(b, bool)
        played = Played(np.zeros((b, shape[1])), np.zeros(b, np.int64), np.zeros(b), np.zeros(b, np.int64))
        for step in range(limit):
            acting = out.alive & active[:, None]
            epsilon = self.epsilon(t_env + step)[:, None, None]
            actions = sample(self.policy(tables.q[self._team, self._agents, states], epsilon), noise[:, step])
            actions = np.where(acting, actions, 0)
            env.step(actions, active, out)
            rewards, after = self.rewards(out.reward.astype(np.float64)), env.codes()
            difference = tables.update(states, actions, rewards, after, out.agent_terminated, acting)
            played.differences[:] += np.abs(difference).sum(1)
            played.learned[:] += acting.sum(1)
            played.returns[:] += np.where(active[:, None], rewards, 0.0)
            played.lengths[:] += active
            states, active = after, active & ~(out.terminated | out.truncated)
            if not active.any():
                break
        return played


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
        self.config, self.mac, self._learner, self._make = config, tables, learner, make
        self.teams = Teams(config, make(1), tables)
        self.info = self.teams.info
        self._tested: tuple[FiniteEnv, Arrays] | None = None
        self.t_env = self.episodes = self.agent_steps = 0
        self.time_env = self.time_act = 0.0
        self._agents = np.arange(self.info.n_agents)

    def run(self) -> tuple[None, Episodes]:
        """Play one training episode, and learn from each of its steps; returns nothing and its results."""
        began = time.perf_counter()
        now = np.array([self.t_env])
        played = self.teams.episode(np.array([self.config.seed]), np.array([self.episodes]), now)
        learner, steps = self._learner, int(played.lengths[0])
        learner.differences, learner.learned, learner.steps = (
            float(played.differences[0]),
            int(played.learned[0]),
            steps,
        )
        self.t_env += steps
        self.episodes += 1
        self.agent_steps += int(played.learned[0])
        self.time_env += time.perf_counter() - began
        return None, Episodes([played.returns[0]], [steps], [np.zeros(0)], [{}])

    def test(self, n_episodes: int, greedy_actions: bool) -> Episodes:
        """Play ``n_episodes`` test episodes together, the same ones in every test; nothing is learned from them."""
        c = self.config
        if self._tested is None or len(self._tested[1].reward) != n_episodes:
            self._tested = self._make(n_episodes), Arrays.allocate(self.info, n_episodes)
            self._tested[0].observes = False
        env, out = self._tested
        seeds = np.array([episode_seed(c.seed, "test", 0, k) for k in range(n_episodes)])
        shape = (self.info.episode_limit, self.info.n_agents)
        noise = np.stack([action_noise(c.seed, "test", 0, k).random(shape) for k in range(n_episodes)])
        env.reset(np.arange(n_episodes), seeds, out)
        returns, lengths = np.zeros((n_episodes, self.info.n_agents)), np.zeros(n_episodes, np.int64)
        active = np.ones(n_episodes, bool)
        for step in range(self.info.episode_limit):
            q = self.mac.q[0, self._agents, env.codes()]
            policy = greedy(q, 0.0) if greedy_actions else self.teams.policy(q, c.evaluation_epsilon)
            actions = np.where(out.alive, sample(policy, noise[:, step]), 0)
            env.step(actions, active, out)
            returns[active] += self.teams.rewards(out.reward[active].astype(np.float64))
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
