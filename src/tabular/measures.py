"""What is measured of the agents' tables: how far they are from one another, and from the solution."""

from __future__ import annotations

import numpy as np

from ..envs.tabular.base import Views
from .tables import boltzmann

#: states at which agents are compared
_SAMPLE = 256


def value_iteration(transitions: np.ndarray, reward: np.ndarray, gamma: float, tolerance: float = 1e-10) -> np.ndarray:
    """Return the optimal values Q* [S, A]: the fixed point of Q(s, a) = R(s, a) + gamma sum_s' P(s'|s, a) max Q(s', .).

    Args:
        transitions: P [S, A, S]; a row that adds up to less than 1 ends with the rest.
        reward: R [S, A].
        gamma: discount factor; below 1, unless every way ends.
        tolerance: largest change of a value in the last iteration.
    """
    q = np.zeros_like(reward)
    while True:
        new = reward + gamma * transitions @ q.max(-1)
        if np.abs(new - q).max() <= tolerance:
            return new
        q = new


def sampled_states(views: Views, most: int = _SAMPLE) -> np.ndarray:
    """Return [N, G] int64: the number of each of G states, as every agent sees it; all states, or ``most`` drawn ones."""
    total = int(np.prod(views.sizes))
    chosen = np.arange(total)
    if total > most:
        chosen = np.random.default_rng(0).integers(0, total, most)
    at = np.stack(np.unravel_index(chosen, views.sizes), -1)  # [G, D]
    return views.strides() @ at.T


def distance(x: np.ndarray) -> float:
    """Return the mean squared distance of agents' numbers [N, ...] from their mean over the agents."""
    return float(np.square(x - x.mean(0)).mean())


class Measures:
    """Scalars of tables, for the log.

    | scalar | meaning |
    |---|---|
    | policy_mse | mean squared distance of the agents' Boltzmann policies from their mean (figure 2 of the paper) |
    | q_mse | the same of their values |
    | greedy_agreement | share of (agent, state) whose best action is that of the mean values |
    | q_error | root mean square distance of the values from the solution for the agents' mean reward, relative to the root mean square of the solution; where the environment can be solved |
    | own_q_error | the same from the solution for each agent's own reward |

    Args:
        views: who sees what.
        temperature: of the Boltzmann policies.
        model: transitions [S, A, S] and mean rewards [N, S, A], if they are known.
        gamma: discount factor.
    """  # noqa: E501

    def __init__(
        self, views: Views, temperature: float, model: tuple[np.ndarray, np.ndarray] | None, gamma: float
    ) -> None:
        self._temperature = temperature
        self._states = sampled_states(views)
        self._agents = np.arange(len(views.seen))[:, None]
        self.solution: np.ndarray | None = None
        self.own_solutions: np.ndarray | None = None
        if model is not None and gamma < 1:
            transitions, reward = model
            self.solution = value_iteration(transitions, reward.mean(0), gamma)
            self.own_solutions = np.stack([value_iteration(transitions, r, gamma) for r in reward])

    def scalars(self, q: np.ndarray) -> dict[str, float]:
        """Return them of values [N, S, A]."""
        at = q[self._agents, self._states]  # [N, G, A]
        found = {
            "policy_mse": distance(boltzmann(at, self._temperature)),
            "q_mse": distance(at),
            "greedy_agreement": float((at.argmax(-1) == at.mean(0).argmax(-1)).mean()),
        }
        if self.solution is not None and self.own_solutions is not None:
            found["q_error"] = _relative(q - self.solution, self.solution)
            found["own_q_error"] = _relative(q - self.own_solutions, self.own_solutions)
        return found


def _relative(error: np.ndarray, of: np.ndarray) -> float:
    return float(np.sqrt(np.square(error).mean() / max(np.square(of).mean(), 1e-300)))
