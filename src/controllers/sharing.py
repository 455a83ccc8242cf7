"""Which agents share a network, and the rows that networks read."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..utils.errors import UserError
from .actor import one_hot
from .seps import SELECTIVE


def sharing_index(sharing: str | list[int], n_agents: int, name: str = "sharing") -> list[int]:
    """Return the network of each agent, numbered from 0 without gaps.

    Raises:
        UserError: a list of the wrong length, or groups that are still to be found.
    """
    if sharing == SELECTIVE:
        raise UserError(f"{name}={SELECTIVE}: the groups of agents are found by a run before it builds its networks.")
    if sharing == "shared":
        return [0] * n_agents
    if sharing == "separate":
        return list(range(n_agents))
    if len(sharing) != n_agents:
        raise UserError(f"{name}={sharing} names {len(sharing)} networks, but the environment has {n_agents} agents.")
    numbers = {old: new for new, old in enumerate(dict.fromkeys(sharing))}
    return [numbers[k] for k in sharing]


def groups_of(alike: np.ndarray) -> list[int]:
    """The group of each agent: the number of distinct spaces before the first agent like it."""
    first = alike.argmax(1).tolist()
    return [sorted(set(first)).index(f) for f in first]


def with_extras(obs: Tensor, last_actions: Tensor | None, agent_id: bool, n_actions: int) -> Tensor:
    """Append the last action's one-hot (zeros for -1) and the agent's one-hot id, where asked for.

    Args:
        obs: [..., N, O].
        last_actions: [..., N] int64, -1 where there is none, or [..., N, D], NaN there; None leaves it out.
        agent_id: append the id.

    Returns:
        [..., N, O (+ n_actions) (+ N)].
    """
    parts = [obs]
    if last_actions is not None:
        parts.append(one_hot(last_actions, n_actions, obs))
    if agent_id:
        n = obs.shape[-2]
        parts.append(torch.eye(n, dtype=obs.dtype, device=obs.device).expand(*obs.shape[:-1], n))
    return torch.cat(parts, dim=-1) if len(parts) > 1 else obs
