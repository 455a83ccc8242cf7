"""Critics that are tables, and action values one step at a time, for the tests of COMA and Pareto actor-critic."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from oamarl.components.batch import Batch

from learner_tools import constant_policy, make_batch, make_info, make_learner

#: Q of two agents: rows are the other's actions, columns one's own
TABLE = torch.tensor([[1.0, -2.0, 0.0, 4.0], [3.0, 5.0, -1.0, 2.0], [0.5, 0.0, 8.0, -3.0], [6.0, 1.0, 2.0, 0.0]])
PROBABILITIES = torch.tensor([[1 / 2, 1 / 4, 1 / 8, 1 / 8], [1 / 8, 1 / 8, 1 / 4, 1 / 2]])


def table_critic(value: Any, table: Tensor = TABLE) -> None:
    """Make the critic of two agents (activation relu, no ids) this table, whatever the state is."""
    network, a = value.network, table.shape[0]
    with torch.no_grad():
        network.params.zero_()
        for k, row in enumerate(network.params.data):
            w = network.layers(row)
            first = w["fc1.w"].shape[0] - 2 * a  # where the joint action's code begins
            for other in range(a):  # one hidden unit for each action of the other, whichever agent that is
                for agent in range(2):
                    w["fc1.w"][first + agent * a + other, other] = 1.0
                w["fc2.w"][other, other] = 1.0
            w["head.w"][:a] = table
            assert k < network.n_networks
        value.target.params.copy_(network.params)


def two_agents(algorithm: str = "coma_ns", **overrides: Any) -> tuple[Any, Batch]:
    """Two agents and one step: agent 0 takes action 1, agent 1 action 3, for a reward of 2."""
    given = {"obs_agent_id": False, "entropy_coef": 0.0, "entropy_schedule": "constant", "standardise_rewards": False}
    learner = make_learner(algorithm, make_info(2), grad_norm_clip=1e9, **{**given, **overrides})
    for i, p in enumerate(PROBABILITIES):
        constant_policy(learner.mac, i, [math.log(x) for x in p])
    table_critic(learner.value)
    batch = make_batch(learner.mac, lengths=(1,), dead=False)
    return learner, replace(
        batch, avail=torch.ones_like(batch.avail), actions=torch.tensor([[[1, 3]]]),
        log_prob=torch.tensor([[[1 / 4, 1 / 2]]]).log(), reward=torch.full_like(batch.reward, 2.0),
    )  # fmt: skip


def values_of_actions(learner: Any, batch: Batch, actions: Tensor) -> Tensor:
    """[B, T, N] by the target network, one step at a time."""
    found = torch.zeros(actions.shape)
    for b, t in torch.ones(actions.shape[:2]).nonzero().tolist():
        for i in range(actions.shape[-1]):
            code = torch.zeros(actions.shape[-1], 4)
            for j, u in enumerate(actions[b, t].tolist()):
                code[j, u] = float(j != i)
            ids = torch.eye(3)[i] if learner.value.n_networks == 1 else torch.zeros(0)
            x = torch.cat([batch.state[b, t], code.flatten(), ids]).unsqueeze(0)
            row = learner.value.target.params[i if learner.value.n_networks > 1 else 0]
            found[b, t, i] = learner.value.target.single(row, x)[0, actions[b, t, i]].detach()
    return found
