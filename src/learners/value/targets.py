"""What a value function is fitted to in one iteration: targets, the ends of traces, and normalised advantages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...components.batch import Batch
from ...components.normalisation import RunningMeanStd
from ...components.returns import standardise
from ...envs.base import EnvInfo
from ...modules.critics.recurrent import Sequences
from ...modules.critics.v import CriticInputs


@dataclass(frozen=True)
class Targets:
    """Fixed for one iteration. V is 1 for a joint critic, otherwise N.

    Critics ``across`` the agents have values, returns and advantages of all agents' experience: all but ``inputs``
    have a further dimension then, [B, T, N, V] with those who acted third and the critics last, and inputs likewise.

    | field | shape | meaning |
    |---|---|---|
    | advantage | [B, T, N] | normalised as configured |
    | returns | [B, T, V] | value targets on the scale of returns |
    | inputs | [B, T, V, I] | the critic's inputs, in parts |
    | raw | [B, T, V] | the critic's own output before the update (normalised scale) |
    | values | [B, T, V] | the same on the scale of returns |
    | sequences | R | recurrent critics: the sequences of the real steps; None: feed-forward ones |
    """

    advantage: Tensor
    returns: Tensor
    inputs: CriticInputs
    raw: Tensor
    values: Tensor
    sequences: Sequences | None = None


@dataclass(frozen=True)
class ValueRows:
    """Real steps to fit values on: inputs, own outputs before the update, goals (normalised) and weights (or None)."""

    inputs: CriticInputs
    old: Tensor
    goal: Tensor
    weight: Tensor | None

    def __getitem__(self, index: Any) -> ValueRows:
        weight = None if self.weight is None else self.weight[index]
        return ValueRows(self.inputs[index], self.old[index], self.goal[index], weight)


def scaled_rewards(config: Any, stats: RunningMeanStd, reward: Tensor) -> Tensor:
    """Return rewards on their running scale as `standardise_rewards_mean` says: by mean and deviation, or as a change
    of unit alone."""
    return stats.normalise(reward) if config.standardise_rewards_mean else stats.scale(reward)


def learned_steps(batch: Batch, n_values: int, by_agent: bool) -> Tensor:
    """[B, T, V] bool: the steps that action values are learned from, in rows of one episode each.

    With a reward of the team that is every real step, also of agents that have left: what the team earns then is due to
    them too. With rewards of its own (``by_agent``) an agent learns until it has left; a step at which it only waits is
    learned from, for the step before is valued by it.
    """
    filled = batch.filled.unsqueeze(-1)
    if not by_agent:
        return filled.expand(-1, -1, n_values)
    # a row may begin after an agent has left
    left = batch.agent_terminated[:, 0] & ~batch.alive[:, 0] if batch.left is None else batch.left
    return filled & ~torch.cat([left.unsqueeze(1), batch.agent_terminated[:, :-1]], dim=1)


def ends(batch: Batch, n_values: int, bootstrap_truncated: bool, by_agent: bool) -> tuple[Tensor, Tensor]:
    """Where the traces of values [B, T, V] end.

    Args:
        batch: the experience.
        n_values: V.
        bootstrap_truncated: values of last observations stand for what a truncated episode still had to come.
        by_agent: an agent that has left has nothing more to come (individual rewards).

    Returns:
        [B, T, V] bool each: no bootstrap after the step; the trace is cut after the step.
    """
    terminated, truncated = batch.terminated.unsqueeze(-1), batch.truncated.unsqueeze(-1)
    if not bootstrap_truncated:
        terminated = terminated | truncated
    # nothing flows back from padding, also where a row stops without a flag
    continues = torch.cat([batch.filled[:, 1:], torch.ones_like(batch.filled[:, :1])], dim=1) & batch.filled
    ended = terminated | truncated | ~continues.unsqueeze(-1)
    if by_agent:
        terminated = terminated | batch.agent_terminated
        ended = ended | batch.agent_terminated
    shape = (*batch.filled.shape, n_values)
    return terminated.expand(shape), ended.expand(shape)


def normalised_advantage(
    advantage: Tensor, batch: Batch, info: EnvInfo, *, normalise: bool, joint: bool, common_reward: bool
) -> Tensor:
    """Advantages [B, T, N] of all agents from those of the value functions [B, T, V]; 0 where a step is not real.

    With ``normalise`` a joint advantage over the real steps, and those of agents over the steps at which they took a
    decision: of all agents together under a common reward, otherwise of each by itself.
    """
    filled = batch.filled
    if not normalise:
        scaled = torch.where(filled.unsqueeze(-1), advantage, 0.0)
    elif joint:
        scaled = standardise(advantage.squeeze(-1), filled).unsqueeze(-1)
    elif common_reward:
        scaled = standardise(advantage, batch.valid)
    else:
        valid = batch.valid
        scaled = torch.stack([standardise(advantage[..., i], valid[..., i]) for i in range(info.n_agents)], dim=-1)
    return scaled.expand(*filled.shape, info.n_agents)


def normalised_across(advantage: Tensor, batch: Batch, info: EnvInfo, *, normalise: bool) -> Tensor:
    """Advantages [B, T, N, N] of each learner (last) for each source; normalised over the living steps of all its
    sources."""
    if not normalise:
        return torch.where(batch.filled[..., None, None], advantage, 0.0)
    match = torch.from_numpy(info.agents_match()).to(advantage.device)
    learners = range(info.n_agents)
    return torch.stack([standardise(advantage[..., i], batch.valid & match[i]) for i in learners], dim=-1)
