"""A coordination graph: the value of a joint action as a sum over agents and over pairs of agents.

Boehmer, Kurin and Whiteson 2020 ("Deep coordination graphs"), without parameter sharing, of the global state as in
Pareto actor-critic (Christianos et al. 2023):

    Q(s, a) = mean_i f_i(s, a_i) + mean_{ij in E} f_ij(s, a_i, a_j)

| symbol | shape | meaning |
|---|---|---|
| f_i | [R, N, A] | utilities |
| f_ij | [R, E, A, A] | payoffs of the edges, the mean of both ways round |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...utils.errors import UserError, shown_value
from ...utils.schema.keys import key
from .v import VNetworkConfig

TOPOLOGIES = ("full", "line", "cycle", "star", "vdn")


@dataclass(frozen=True)
class GraphConfig(VNetworkConfig):
    """Configuration of a coordination graph, and of the search for its best joint action."""

    cg_edges: str | list[list[int]] = key(
        "critic=dcg: pairs of agents that the value is a sum over: full, line, cycle, star, vdn (none), or a list of "
        "pairs.",
        choices=TOPOLOGIES,
    )
    cg_utilities_hidden_dim: int | None = key("critic=dcg: width of the utilities' hidden layer; null: none.", low=1)
    cg_payoffs_hidden_dim: int | None = key("critic=dcg: width of the payoffs' hidden layer; null: none.", low=1)
    cg_payoff_rank: int | None = key("critic=dcg: rank of the payoffs' matrices; null: full.", low=1)
    msg_iterations: int = key("critic=dcg: rounds of messages in the search for the best joint action.", low=0)
    msg_normalized: bool = key("critic=dcg: take the mean off messages, which keeps them bounded in cycles.")
    msg_anytime: bool = key("critic=dcg: keep the best joint action of all rounds, not the last round's.")


class CoordinationGraph(nn.Module):
    """f_i and f_ij, each by a network of its own on the features of one encoder of the state for each agent.

    Args:
        n_agents: N.
        state_size: numbers that encoders read.
        n_actions: A.
        config: a :class:`GraphConfig`.

    Raises:
        UserError: edges between agents that there are not.
    """

    Config = GraphConfig
    #: it values joint actions of the team, which only some learners read
    joint = True

    def __init__(self, n_agents: int, state_size: int, n_actions: int, config: Any) -> None:
        super().__init__()
        self.edges, self.n_actions, self.rank = edges_of(config.cg_edges, n_agents), n_actions, config.cg_payoff_rank
        h, payoffs = config.hidden_dim, 2 * self.rank * n_actions if self.rank else n_actions**2
        self.encoders = nn.ModuleList(_layers(state_size, h, h, relu_last=True) for _ in range(n_agents))
        utility, payoff = config.cg_utilities_hidden_dim, config.cg_payoffs_hidden_dim
        self.utilities = nn.ModuleList(_layers(h, utility, n_actions) for _ in range(n_agents))
        self.payoffs = nn.ModuleList(_layers(2 * h, payoff, payoffs) for _ in self.edges)

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """State [R, S] -> utilities [R, N, A] and payoffs [R, E, A, A]."""
        features = [encode(state) for encode in self.encoders]
        utilities = torch.stack([f(x) for f, x in zip(self.utilities, features, strict=True)], dim=1)
        found = []
        for f, (i, j) in zip(self.payoffs, self.edges, strict=True):
            there, back = torch.cat([features[i], features[j]], -1), torch.cat([features[j], features[i]], -1)
            found.append((self._matrix(f(there)) + self._matrix(f(back)).transpose(-1, -2)) / 2)
        a = self.n_actions
        return utilities, torch.stack(found, dim=1) if found else utilities.new_zeros(len(state), 0, a, a)

    def _matrix(self, out: Tensor) -> Tensor:
        """Payoffs [R, A, A] of a network's outputs: as they are, or the product of two factors of a low rank."""
        if not self.rank:
            return out.unflatten(-1, (self.n_actions, self.n_actions))
        left, right = out.unflatten(-1, (2, self.rank, self.n_actions)).unbind(1)
        return left.transpose(-1, -2) @ right


def edges_of(given: str | list[list[int]], n_agents: int) -> list[tuple[int, int]]:
    """Return the pairs of agents that `cg_edges` names.

    Raises:
        UserError: a pair that is none of two of the agents, or one that is given twice.
    """
    n = n_agents
    named = {
        "vdn": [], "line": [(i, i + 1) for i in range(n - 1)], "star": [(0, i) for i in range(1, n)],
        "full": [(i, j) for i in range(n) for j in range(i + 1, n)],
    }  # fmt: skip
    named["cycle"] = named["line"] + ([(n - 1, 0)] if n > 2 else [])
    if isinstance(given, str):
        return named[given]
    for pair in given:
        if len(pair) != 2 or pair[0] == pair[1] or not all(0 <= i < n for i in pair):
            raise UserError(
                f"cg_edges has {shown_value(pair)}, which is no pair of two of the {n} agents, numbered from 0."
            )
    if len({frozenset(pair) for pair in given}) < len(given):
        raise UserError(f"cg_edges={shown_value(given)} has a pair twice.")
    return [(i, j) for i, j in given]


def joint_value(utilities: Tensor, payoffs: Tensor, edges: list[tuple[int, int]], actions: Tensor) -> Tensor:
    """Q(s, a) [R] of joint actions [R, N] int64, from f_i [R, N, A] and f_ij [R, E, A, A]."""
    value = utilities.gather(-1, actions.unsqueeze(-1)).squeeze(-1).mean(-1)
    if not edges:
        return value
    first, second = (actions[:, [edge[side] for edge in edges]] for side in (0, 1))
    chosen = payoffs.flatten(-2).gather(-1, (first * payoffs.shape[-1] + second).unsqueeze(-1)).squeeze(-1)
    return value + chosen.mean(-1)


@torch.no_grad()
def best_joint_action(
    utilities: Tensor, payoffs: Tensor, edges: list[tuple[int, int]], avail: Tensor, *, iterations: int,
    normalised: bool, anytime: bool,
) -> Tensor:  # fmt: skip
    """Return the joint actions [R, N] that message passing finds best (Boehmer et al. 2020, Algorithm 3: max-plus).

    It is exact on graphs without cycles after as many rounds as the graph is long, and a heuristic on others.

    Args:
        utilities, payoffs: f_i [R, N, A] and f_ij [R, E, A, A].
        edges: E pairs of agents.
        avail: [R, N, A] bool; every agent has a legal action.
        iterations, normalised, anytime: `msg_iterations`, `msg_normalized`, `msg_anytime`.
    """
    f = (utilities.double() / utilities.shape[1]).masked_fill(~avail, -torch.inf)
    actions = f.argmax(-1)
    if not edges or not iterations:
        return actions
    g = payoffs.double() / len(edges)
    begin, end = (torch.tensor([edge[side] for edge in edges], device=f.device) for side in (0, 1))
    messages = f.new_zeros(2, *g.shape[:-1])  # to the edges' second agents, and to their first ones
    sums, best, value = f, actions, utilities.new_full(f.shape[:1], -torch.inf)
    for _ in range(iterations):
        forward = ((sums[:, begin] - messages[1]).unsqueeze(-1) + g).amax(-2)
        back = ((sums[:, end] - messages[0]).unsqueeze(-2) + g).amax(-1)
        messages = torch.stack([forward, back])
        if normalised:
            messages = messages - messages.mean(-1, keepdim=True)
        sums = f.index_add(1, end, messages[0]).index_add(1, begin, messages[1])
        actions = sums.argmax(-1)
        if anytime:
            now = joint_value(utilities, payoffs, edges, actions)
            better = now > value
            value, best = torch.where(better, now, value), torch.where(better.unsqueeze(-1), actions, best)
    return best if anytime else actions


def _layers(inputs: int, hidden: int | None, outputs: int, relu_last: bool = False) -> nn.Sequential:
    """A linear layer, or two with a hidden layer between them."""
    last = [nn.ReLU()] if relu_last else []
    if hidden is None:
        return nn.Sequential(nn.Linear(inputs, outputs), *last)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs), *last)
