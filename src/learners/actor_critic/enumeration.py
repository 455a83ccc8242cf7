"""All joint actions of the other agents: what Pareto actor-critic looks for the best of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...components.batch import Batch
from ...modules.agents.rnn import Network
from ...modules.critics.v import CriticInputs
from ...modules.stack import Stack
from ..value.action_values import ActionValueLearner, others_codes, taken_of
from ..value.state_values import MAX_ROWS
from .play import legal_actions


def joint_actions(n_agents: int, n_actions: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the others' joint actions as each agent sees them, [N, E, N] int64, E = A^(N-1); one's own is 0.

    They are counted up: the last of the others changes its action first.
    """
    each = [torch.arange(n_actions, device=device)] * (n_agents - 1)
    found = torch.zeros(n_agents, n_actions ** (n_agents - 1), n_agents, dtype=torch.int64, device=device)
    for i in range(n_agents if each else 0):
        others = [j for j in range(n_agents) if j != i]
        found[i][:, others] = torch.stack(torch.meshgrid(*each, indexing="ij"), -1).flatten(0, -2)
    return found


def allowed(avail: Tensor, joint: Tensor) -> Tensor:
    """Return where all others may act as in ``joint`` [N, E, N]: [S, E, N] bool.

    Args:
        avail: [S, N, A] bool, what is legal; an agent without any legal action (padding) may do everything.
    """
    legal = avail | ~avail.any(-1, keepdim=True)
    n, each, _ = joint.shape
    found = torch.ones(len(avail), each, n, dtype=torch.bool, device=avail.device)
    for i in range(n):
        for j in range(n):
            if j != i:
                found[:, :, i] &= legal[:, j, joint[i, :, j]]
    return found


@torch.no_grad()
def best_for(critic: ActionValueLearner, network: Stack, batch: Batch, actions: Tensor) -> Tensor:
    """Return the largest values that the agents' own actions can have, max over a_-i of Q_i(s, a_-i, a_i).

    Every legal joint action of the others is tried, and rows are worked through in pieces of bounded size.

    Args:
        critic: Q.
        network: its networks, or their target network.
        batch: rows of one episode each.
        actions: [B, T+1, N] int64, the agents' own.

    Returns:
        [B, T+1, N], 0 where there is no observation.
    """
    n = critic.info.n_agents
    joint = joint_actions(n, critic.info.n_actions, actions.device)
    codes = torch.stack([others_codes(joint[i], critic.info.n_actions)[:, i] for i in range(n)], dim=1)  # [E, N, N A]
    there = torch.cat([torch.ones_like(batch.filled[:, :1]), batch.filled], dim=1)
    seen = critic.inputs(batch.obs, batch.state, batch.last_actions)[there]
    own, avail = actions[there], legal_actions(batch)[there]
    evaluate = _by_sums if isinstance(network, Network) else _by_rows
    pieces, size = [], max(1, MAX_ROWS // codes[..., 0].numel())
    for k in range(0, len(own), size):
        q = evaluate(critic, network, seen[k : k + size], codes, own[k : k + size])
        pieces.append(q.masked_fill(~allowed(avail[k : k + size], joint), -torch.inf).amax(1))
    found = torch.cat(pieces)
    return found.new_zeros(actions.shape).masked_scatter(there.unsqueeze(-1), found)


def _by_rows(critic: ActionValueLearner, network: Stack, seen: CriticInputs, codes: Tensor, own: Tensor) -> Tensor:
    """Values [S, E, N] of the actions ``own`` [S, N] beside each of the others' joint actions [E, N, N A]."""
    m, each, n = len(own), len(codes), own.shape[1]
    shared = seen.shared.unsqueeze(1).expand(m, each, -1)
    alone = seen.own.unsqueeze(1).expand(m, each, n, -1)
    taken = own.unsqueeze(1).expand(m, each, n)
    inputs = critic.beside(CriticInputs(shared, alone, seen.ids, n), codes.expand(m, *codes.shape), taken)
    return critic.values(network, inputs)


def _by_sums(critic: ActionValueLearner, network: Any, seen: CriticInputs, codes: Tensor, own: Tensor) -> Tensor:
    """The same by the built-in network, whose first layer adds up what it reads of the state and of the actions."""
    m, each, n = len(own), len(codes), own.shape[1]
    params = critic.params_of(network)  # [N, P], or [1, P] where one network serves all
    nothing = critic.beside(seen, codes.new_zeros(m, n, codes.shape[-1]), own)
    w = network.layers(params)
    weight = w["fc1.w"]
    of_state = nothing.assembled().transpose(0, 1) @ weight + w["fc1.b"].unsqueeze(1)  # [N, S, H]
    begin = seen.shared.shape[-1] + seen.own.shape[-1]
    of_actions = codes.to(weight.dtype).transpose(0, 1) @ weight[:, begin : begin + codes.shape[-1]]  # [N, E, H]
    sums = (of_state.unsqueeze(2) + of_actions.unsqueeze(1)).flatten(1, 2)  # [N, S E, H]
    q = network.after_first(params, sums) if len(params) > 1 else network.after_first(params[0], sums.flatten(0, 1))
    q = q.view(n, m, each, -1)
    return taken_of(q, own.t().unsqueeze(-1).expand(n, m, each)).permute(1, 2, 0)
