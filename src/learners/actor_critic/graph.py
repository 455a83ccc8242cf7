"""Action values of a team by a coordination graph, in which Pareto actor-critic looks for the best joint action."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...components.batch import Batch
from ...modules.critics.dcg import CoordinationGraph, best_joint_action, edges_of, joint_value
from ...modules.critics.v import CriticInputs
from ...modules.flat import FlatModule
from ..value.action_values import ActionInputs, ActionValueLearner
from ..value.state_values import MAX_ROWS
from .play import legal_actions


class GraphValueLearner(ActionValueLearner):
    """Q(s, a) of the team, V = N equal values; ``net`` is a :class:`~oamarl.modules.critics.dcg.GraphConfig`."""

    def _build(self, net: Any, generator: torch.Generator) -> Any:
        n, i = self.info.n_agents, self.info
        seen = self.inputs(torch.zeros(n, i.obs_size), torch.zeros(i.state_size), torch.zeros(n, dtype=torch.int64))
        self.net, self.edges, width = net, edges_of(net.cg_edges, n), seen.shared.shape[-1]
        made: Any = FlatModule(lambda: CoordinationGraph(n, width, i.n_actions, net), generator)
        made.recurrent = False
        return made

    def action_inputs(self, batch: Batch, actions: Tensor) -> ActionInputs:
        """Return the inputs of the values of joint ``actions`` [B, T+1, N] at the observations of ``batch``."""
        shared = self.inputs(batch.obs, batch.state, batch.last_actions).shared
        return ActionInputs(shared, shared.new_zeros(*actions.shape, 0), 0, self.n_values, actions)

    def _values(self, network: Any, inputs: CriticInputs, params: Tensor | None = None) -> Tensor:
        assert isinstance(inputs, ActionInputs)
        f, g = network(network.params if params is None else params, inputs.shared.flatten(0, -2))
        q = joint_value(f, g, self.edges, inputs.taken.flatten(0, -2))
        return q.view(*inputs.taken.shape[:-1], 1).expand(inputs.taken.shape)


@torch.no_grad()
def best_by_graph(critic: ActionValueLearner, network: Any, batch: Batch, actions: Tensor) -> Tensor:
    """Return what the agents' own actions are worth beside the others' part of the best joint action that is found.

    The search is message passing over all agents, once for each observation (as in EPyMARL's program), in place of the
    enumeration of :func:`~.enumeration.best_for`, whose arguments and result these are.
    """
    assert isinstance(critic, GraphValueLearner)
    c, edges = critic.net, critic.edges
    there = torch.cat([torch.ones_like(batch.filled[:, :1]), batch.filled], dim=1)
    state = critic.inputs(batch.obs, batch.state, batch.last_actions).shared[there]
    avail, own, pieces = legal_actions(batch)[there], actions[there], []
    size = max(1, MAX_ROWS // (len(edges) + 1))
    for k in range(0, len(own), size):
        mine = own[k : k + size]
        f, g = network(network.params, state[k : k + size])
        best = best_joint_action(
            f, g, edges, avail[k : k + size], iterations=c.msg_iterations, normalised=c.msg_normalized,
            anytime=c.msg_anytime,
        )  # fmt: skip
        found = []
        for i in range(mine.shape[1]):
            joint = best.clone()
            joint[:, i] = mine[:, i]
            found.append(joint_value(f, g, edges, joint))
        pieces.append(torch.stack(found, dim=-1))
    values = torch.cat(pieces)
    return values.new_zeros(actions.shape).masked_scatter(there.unsqueeze(-1), values)
