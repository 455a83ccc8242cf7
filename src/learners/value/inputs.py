"""What critics see, and the networks that they are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...controllers.actor import one_hot
from ...envs.base import EnvInfo
from ...modules import critics
from ...modules.agents.rnn import Network
from ...modules.build import critic_networks
from ...modules.critics.v import CriticInputs
from ...modules.stack import Inputs
from ...utils.errors import UserError
from ...utils.schema.registry import resolve
from .config import CriticConfig


def critic_inputs(
    config: CriticConfig, info: EnvInfo, n_values: int, obs: Tensor, state: Tensor, last_actions: Tensor, joint: bool,
    across: bool,
) -> CriticInputs:  # fmt: skip
    """Return what critics see.

    Args:
        config, info: what is configured, and the environment's sizes.
        n_values: V, value functions.
        obs: [..., N, O].
        state: [..., S].
        last_actions: [..., N] int64, -1 where there is none.
        joint: one value for the team.
        across: each agent's critic sees all agents' observations, one after another: [..., N, V, O].
    """
    ids = n_values if config.obs_agent_id and not joint else 0
    last = last_actions if config.obs_last_action else None
    if config.critic_type == "ac_critic":
        own = obs if last is None else torch.cat([obs, one_hot(last, info.n_actions, obs)], dim=-1)
        if across:  # who acted is one more leading dimension, and each row is what all critics see
            return CriticInputs(own, own[..., None, :0].expand(*own.shape[:-1], n_values, 0), 0, n_values)
        return CriticInputs(state[..., :0], own, ids, n_values)
    parts = [state]
    if config.obs_individual_obs:
        parts.append(obs.flatten(-2))
    if last is not None:
        parts.append(one_hot(last, info.n_actions, obs).flatten(-2))
    own = obs if config.critic_agent_obs else obs[..., :n_values, :0]
    return CriticInputs(torch.cat(parts, dim=-1), own, ids, n_values)


def build_critic(
    config: CriticConfig, net: Any, info: EnvInfo, n_networks: int, width: int, generator: torch.Generator,
    outputs: int = 1,
) -> Any:  # fmt: skip
    """Return ``n_networks`` critics of inputs of ``width`` columns: a :class:`~oamarl.modules.stack.Stack`.

    Args:
        net: what the class that ``config.critic`` names reads.
        outputs: of each, one value, or one for each action.

    Raises:
        UserError: a module that does not keep the contract of networks, or one with critic_use_rnn=True.
    """
    critic = resolve(critics.__name__, critics.REGISTRY, config.critic, "critic")
    builtin = isinstance(critic, type) and issubclass(critic, Network)
    if config.critic_use_rnn and not builtin:
        raise UserError(
            f"critic_use_rnn=True is for the built-in critic, and critic={config.critic} is a module, which says "
            "itself whether it has a memory: use critic_use_rnn=False or critic=v."
        )
    inputs = Inputs(width, info.state_size, None, info.n_actions, info.n_agents)
    if config.critic_type == "ac_critic":
        inputs = Inputs.of(width, info)
    return critic_networks(critic, n_networks, inputs, net, config.critic_use_rnn, generator, outputs)
