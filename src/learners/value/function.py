"""A state-value function: its networks, their target network, and their evaluation on batches."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...components.batch import Batch
from ...controllers.sharing import sharing_index
from ...envs.base import EnvInfo
from ...modules.critics.recurrent import Sequences, Unrolled, unroll
from ...modules.critics.v import CriticInputs
from ...modules.critics.v import values as values_of
from ...modules.stack import Stack
from .config import CriticConfig
from .inputs import build_critic, critic_inputs


class ValueFunction:
    """V value functions by K networks: one of the team (joint) or one of each agent.

    Args:
        config: what it reads.
        net: what the class that ``config.critic`` names reads: width and activation, or its own ``Config``.
        info: the environment's sizes.
        common_reward: whether all agents have the same reward.
        joint: one value for the team; agent-specific inputs must have been refused.
        across: each agent's critic also values the other agents' observations (SEAC); critics are separate, on own
            observations, without ids.
        each: a value of each agent also where nothing tells the agents apart.
        policies: each agent's policy network, [N], for critics that are shared alike; None: all agents have one.
        device: where it lives.
        generator: source of the initial parameters.
    """

    def __init__(
        self, config: CriticConfig, net: Any, info: EnvInfo, *, common_reward: bool, joint: bool, across: bool,
        each: bool, policies: Sequence[int] | None, device: torch.device, generator: torch.Generator,
    ) -> None:  # fmt: skip
        self.config, self.info, self.common_reward = config, info, common_reward
        self.across = across
        specific = config.obs_agent_id or config.critic_agent_obs or config.critic_type == "ac_critic"
        alike = list(policies) if policies is not None else [0] * info.n_agents
        sharing = alike if config.critic_sharing == "policies" else config.critic_sharing
        index = sharing_index(sharing, info.n_agents, "critic_sharing")
        # where nothing tells the agents apart, one value serves them all
        self.joint = joint or not (each or specific or max(index) > 0 or not common_reward)
        self.n_values = 1 if self.joint else info.n_agents
        self.n_networks = 1 if self.joint else max(index) + 1
        #: [N], where there are several networks and fewer than agents
        self._index = torch.tensor(index, device=device) if 1 < self.n_networks < self.n_values else None
        self.network: Any = self._build(net, generator).to(device)
        self.recurrent = self.network.recurrent
        self.target = copy.deepcopy(self.network) if config.target_update_interval_or_tau != 1 else self.network
        #: recurrent critics on segments: the memory [B, *L, H] before the next batch, by what it is the memory of
        self._hidden: dict[str, Tensor] = {}

    def _build(self, net: Any, generator: torch.Generator) -> Any:
        """Return the networks, new."""
        width, outputs = self._sizes()
        return build_critic(self.config, net, self.info, self.n_networks, width, generator, outputs)

    def _sizes(self) -> tuple[int, int]:
        """Width of the networks' inputs, and what each puts out: one value."""
        n, i = self.info.n_agents, self.info
        nothing = self.inputs(torch.zeros(n, i.obs_size), torch.zeros(i.state_size), torch.zeros(n, dtype=torch.int64))
        return nothing.width, 1

    def inputs(self, obs: Tensor, state: Tensor, last_actions: Tensor) -> CriticInputs:
        """Return what the critic sees of obs [..., N, O], state [..., S] and last actions [..., N] (-1: none)."""
        across = self.across
        return critic_inputs(self.config, self.info, self.n_values, obs, state, last_actions, self.joint, across)

    def _params(self, params: Tensor) -> Tensor:
        """[K, P] one row for all value functions or one for each, of the networks' parameters."""
        return params if self._index is None else params[self._index]

    def _values(self, network: Stack, inputs: CriticInputs, params: Tensor | None = None) -> Tensor:
        """Values [..., V] by feed-forward networks: one each, one for all, or one for each group."""
        return values_of(network, inputs, self._params(network.params if params is None else params))

    # -- evaluation --------------------------------------------------------------------------------------------

    def _evaluate(self, batch: Batch, inputs: CriticInputs) -> tuple[Tensor, Tensor, Tensor, Sequences | None]:
        """Values of a batch as the networks now are, on their own scale.

        Returns:
            [B, T+1, V] by the network and by its target network; [K, V] of final observations by the target network;
            and of recurrent critics the sequences to fit them on.
        """
        final = self._final_inputs(batch)
        if not self.recurrent:
            raw = self._values(self.network, inputs)
            following = raw if self.target is self.network else self._values(self.target, inputs)
            return raw, following, self._values(self.target, final) if len(final) else following[:0, 0], None
        own, before = self._unrolled("network", self.network, inputs, final, batch)
        target = own
        if self.target is not self.network:
            target, _ = self._unrolled("target", self.target, inputs, final, batch)
        return own.values, target.values, target.final, Sequences.of(batch, before)

    def _final_inputs(self, batch: Batch) -> CriticInputs:
        """What the critic sees of the final observations of episodes that end inside a row, [K, ...]."""
        row, step = batch.final_index.unbind(1)
        return self.inputs(batch.final_obs, batch.final_state, batch.actions[row, step])

    def _unrolled(
        self, name: str, network: Any, inputs: CriticInputs, final: CriticInputs, batch: Batch
    ) -> tuple[Unrolled, Tensor]:
        """Values by a critic with a memory, kept by ``name`` where episodes continue; and the memory before."""
        hidden = network.initial_hidden(len(batch.filled), *inputs.own.shape[2:-1])
        if batch.before is not None:
            kept = self._hidden.get(name)
            hidden = kept if kept is not None and kept.shape == hidden.shape else hidden
        found = unroll(network, self._params(network.params), inputs, final, batch, hidden)
        if batch.before is not None:
            self._hidden[name] = found.hidden
        return found, hidden
