"""What is measured of the agents' tables: how far they are from one another, and from the solution."""

from __future__ import annotations

import numpy as np

from ..envs.tabular.base import Views
from .tables import boltzmann

#: states at which agents are compared
_SAMPLE = 256


def solved(transitions: np.ndarray, reward: np.ndarray, gamma: float) -> np.ndarray:
    """Return the optimal values Q* [S, A]: the fixed point of Q(s, a) = R(s, a) + gamma sum_s' P(s'|s, a) max Q(s', .).

    By policy iteration (Howard 1960), whose time does not grow as gamma comes close to 1.

    Args:
        transitions: P [S, A, S]; a row that adds up to less than 1 ends with the rest.
        reward: R [S, A].
        gamma: discount factor below 1.
    """
    actions, states = reward.argmax(-1), np.arange(len(reward))
    while True:
        q = reward + gamma * transitions @ policy_values(transitions, reward, gamma, actions)
        best = q.argmax(-1)
        # of equally good actions the present one stays: rounding does not make them take turns
        margin = 1e-9 * max(1.0, float(np.abs(q).max()))
        better = q[states, best] > q[states, actions] + margin
        if not better.any():
            return q
        actions = np.where(better, best, actions)


def drawn_solution(
    transitions: np.ndarray, reward: np.ndarray, gamma: float, adjacent: np.ndarray, weight: float
) -> np.ndarray:
    """Return the values Q [S, A] at which learning and adjacent states' values balance, of agents that all agree.

    The fixed point of Q = R + gamma P max Q + weight (M - 1) Q: where the mean update stands still whose step sizes
    have the ratio beta / alpha, for weight = kappa beta / alpha. It is Q* for weight 0, and the same value for every
    state that can be reached through adjacent ones as the weight grows.

    Args:
        transitions, reward, gamma: of :func:`solved`.
        adjacent: M [S, S], rows of shares of the adjacent states.
        weight: of the term.
    """
    inverse = np.linalg.inv((1.0 + weight) * np.eye(len(reward)) - weight * adjacent)
    q = solved(transitions, reward, gamma)
    while True:
        new = inverse @ (reward + gamma * transitions @ q.max(-1))
        if np.abs(new - q).max() <= 1e-10:
            return new
        q = new


def policy_values(transitions: np.ndarray, reward: np.ndarray, gamma: float, actions: np.ndarray) -> np.ndarray:
    """Return the values V [..., S] of deterministic policies: the solution of V = R_pi + gamma P_pi V.

    Args:
        transitions: P [S, A, S].
        reward: R [..., S, A].
        gamma: discount factor below 1.
        actions: [..., S] of the policies.
    """
    states = np.arange(len(transitions))
    chosen = np.take_along_axis(np.broadcast_to(reward, (*actions.shape, reward.shape[-1])), actions[..., None], -1)
    values: np.ndarray = np.linalg.solve(np.eye(len(states)) - gamma * transitions[states, actions], chosen)[..., 0]
    return values


def sampled_states(views: Views, most: int = _SAMPLE) -> np.ndarray:
    """Return [N, G] int64: the numbers of G states, as every agent sees them: all states, or ``most`` drawn ones."""
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
    | team_regret | how much the agents' greedy policies are worth less than the best one, for the agents' mean reward; mean over agents and states |
    | own_regret | the same for each agent's own reward |

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
        self._model, self._gamma = model, gamma
        self.solution: np.ndarray | None = None
        self.own_solutions: np.ndarray | None = None
        if model is not None and gamma < 1:
            transitions, reward = model
            self.solution = solved(transitions, reward.mean(0), gamma)
            self.own_solutions = np.stack([solved(transitions, r, gamma) for r in reward])

    def scalars(self, q: np.ndarray) -> dict[str, float]:
        """Return them of values [N, S, A]."""
        at = q[self._agents, self._states]  # [N, G, A]
        found = {
            "policy_mse": distance(boltzmann(at, self._temperature)),
            "q_mse": distance(at),
            "greedy_agreement": float((at.argmax(-1) == at.mean(0).argmax(-1)).mean()),
        }
        if self._model is not None and self.solution is not None and self.own_solutions is not None:
            transitions, reward = self._model
            best = q.argmax(-1)
            for who, r, solution in (("", reward.mean(0), self.solution), ("own_", reward, self.own_solutions)):
                found[f"{who}q_error"] = _relative(q - solution, solution)
                lost = solution.max(-1) - policy_values(transitions, r, self._gamma, best)
                found[f"{who or 'team_'}regret"] = float(lost.mean())
        return found


def _relative(error: np.ndarray, of: np.ndarray) -> float:
    return float(np.sqrt(np.square(error).mean() / max(np.square(of).mean(), 1e-300)))
