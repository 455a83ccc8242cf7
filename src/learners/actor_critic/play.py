"""The joint actions that values of a batch are asked for, continued by one after each row's last step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...components.batch import Batch
from ...components.distributions import gumbel
from ...controllers.basic_mac import BasicMAC
from ...modules.heads import Policy


@dataclass(frozen=True)
class Play:
    """What the agents do at the steps of a batch and after the last one, which values of actions are asked for there.

    | field | shape | meaning |
    |---|---|---|
    | actions | [B, T+1, N] int64 | those taken, 0 by agents that take no decision; after a row's last step drawn |
    | policy | [B, T+1, N] | the policies as they are |
    """

    actions: Tensor
    policy: Policy


@torch.no_grad()
def play_of(mac: BasicMAC, batch: Batch, generator: torch.Generator) -> Play:
    """Return the actions of ``batch``, whose rows hold one episode each, continued by one drawn joint action.

    The observation after a row's last step has no action, and where the episode is not over its value is asked for
    (a segment's end, a truncation): the policies choose there as they would have.
    """
    policy = mac.distribution(mac.all_outputs(batch), batch.avail)
    taken = torch.where(batch.valid, batch.actions, 0)
    actions = torch.cat([taken, torch.zeros_like(taken[:, :1])], dim=1)
    last = torch.arange(len(taken), device=taken.device), batch.filled.sum(1)
    uniform = torch.rand(len(taken), *batch.avail.shape[2:], generator=generator)
    actions[last] = policy[last].sample(gumbel(uniform.to(taken.device)))
    return Play(actions, policy)


def legal_actions(batch: Batch) -> Tensor:
    """Return what the agents may do at the steps of ``batch`` and after them, [B, T+1, N, A] bool.

    An agent that takes no decision does nothing, which is action 0.
    """
    nothing = torch.arange(batch.avail.shape[-1], device=batch.avail.device) == 0
    idle = torch.cat([batch.filled.unsqueeze(-1) & ~batch.alive, torch.zeros_like(batch.alive[:, :1])], dim=1)
    return torch.where(idle.unsqueeze(-1), nothing, batch.avail)
