"""The value function: targets and advantages fixed once per iteration, then its own epochs of regression."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..components.batch import Batch, minibatches
from ..components.descent import clip_rows
from ..components.normalisation import RunningMeanStd
from ..components.parallel import differentiate, shards
from ..components.returns import explained_variance, gae, next_values, nstep, standardise
from ..controllers.actor import one_hot
from ..controllers.basic_mac import sharing_index
from ..envs.base import EnvInfo
from ..modules.agents.rnn import Network, NetworkConfig
from ..modules.critics.v import CriticInputs
from ..modules.critics.v import values as values_of
from .value_config import CriticConfig, EpochConfig

#: Most rows in one evaluation of all networks on all agents' experience: bounds memory with many agents.
MAX_ROWS = 65536


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
    """

    advantage: Tensor
    returns: Tensor
    inputs: CriticInputs
    raw: Tensor
    values: Tensor


class ValueLearner:
    """A state-value function (joint or per agent), its target copy, normalisers and optimiser.

    Args:
        config: what it reads.
        net: width and activation (critics are feed-forward).
        info: the environment's sizes.
        common_reward: whether all agents have the same reward.
        joint: one value for the team; agent-specific inputs must have been refused.
        epochs: epochs and mini-batches of one batch.
        across: each agent's critic also values the other agents' observations (SEAC); critics are separate, on own
            observations, without ids.
        policies: each agent's policy network, [N], for critics that are shared alike; None: all agents have one.
        generator: source of the initial parameters.
        minibatch_generator: its own stream of minibatches, so that policy draws do not shift it.
    """

    def __init__(
        self,
        config: CriticConfig,
        net: NetworkConfig,
        info: EnvInfo,
        *,
        common_reward: bool,
        joint: bool,
        epochs: EpochConfig,
        across: bool = False,
        policies: Sequence[int] | None = None,
        device: torch.device,
        generator: torch.Generator,
        minibatch_generator: torch.Generator,
    ) -> None:
        self.config, self.info, self.common_reward = config, info, common_reward
        self.epochs, self.across = epochs, across
        specific = config.obs_agent_id or config.critic_agent_obs or config.critic_type == "ac_critic"
        alike = list(policies) if policies is not None else [0] * info.n_agents
        sharing = alike if config.critic_sharing == "policies" else config.critic_sharing
        index = sharing_index(sharing, info.n_agents, "critic_sharing")
        # where nothing tells the agents apart, one value serves them all
        self.joint = joint or not (specific or max(index) > 0 or not common_reward)
        self.n_values = 1 if self.joint else info.n_agents
        self.n_networks = 1 if self.joint else max(index) + 1
        #: [N], where there are several networks and fewer than agents
        self._index = torch.tensor(index, device=device) if 1 < self.n_networks < self.n_values else None
        n, i = info.n_agents, info
        nothing = self.inputs(torch.zeros(n, i.obs_size), torch.zeros(i.state_size), torch.zeros(n, dtype=torch.int64))
        self.network = Network(
            self.n_networks, nothing.width, 1, hidden_dim=net.hidden_dim, recurrent=False,
            activation=net.activation, head_gain=1.0, generator=generator,
        ).to(device)  # fmt: skip
        self.target = copy.deepcopy(self.network) if config.target_update_interval_or_tau != 1 else self.network
        self.optimiser = torch.optim.Adam(
            self.network.parameters(), lr=config.critic_lr or config.lr, eps=config.optim_eps
        )
        self.generator = minibatch_generator
        shape = () if common_reward else (info.n_agents,)
        self.return_stats = RunningMeanStd(shape, device) if config.standardise_returns else None
        self.reward_stats = RunningMeanStd(shape, device) if config.standardise_rewards else None
        self.updates = 0

    # -- inputs --------------------------------------------------------------------------------------------

    def inputs(self, obs: Tensor, state: Tensor, last_actions: Tensor) -> CriticInputs:
        """Return what the critic sees of obs [..., N, O], state [..., S] and last actions [..., N] (-1: none)."""
        c, n_actions, n = self.config, self.info.n_actions, self.n_values
        ids = n if c.obs_agent_id and not self.joint else 0
        last = last_actions if c.obs_last_action else None
        if c.critic_type == "ac_critic":
            own = obs if last is None else torch.cat([obs, one_hot(last, n_actions, obs)], dim=-1)
            if self.across:  # who acted is one more leading dimension, and each row is what all critics see
                return CriticInputs(own, own[..., None, :0].expand(*own.shape[:-1], n, 0), 0, n)
            return CriticInputs(state[..., :0], own, ids, n)
        parts = [state]
        if c.obs_individual_obs:
            parts.append(obs.flatten(-2))
        if last is not None:
            parts.append(one_hot(last, n_actions, obs).flatten(-2))
        own = obs if c.critic_agent_obs else obs[..., :n, :0]
        return CriticInputs(torch.cat(parts, dim=-1), own, ids, n)

    def _values(self, network: Network, inputs: CriticInputs, params: Tensor | None = None) -> Tensor:
        """Values [..., V] by a network each, one for all, or one for each group; of the networks ``params`` [K, P]."""
        params = network.params if params is None else params
        return values_of(network, inputs, params if self._index is None else params[self._index])

    # -- targets ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def targets(self, batch: Batch) -> Targets:
        """Fix advantages and value targets from the value function as it now is; then update the normalisers.

        Where a step is not filled, advantages are 0.
        """
        c, filled = self.config, batch.filled
        reward = batch.reward
        if self.reward_stats is not None:
            self.reward_stats.update(self._statistics(reward[filled]))
            # padding stays out of every target, so its normalised value does not matter
            reward = self.reward_stats.normalise(reward)
        steps = reward.shape[1]
        inputs = self.inputs(batch.obs, batch.state, batch.last_actions)
        raw = self._values(self.network, inputs)
        slow = raw if self.target is self.network else self._values(self.target, inputs)
        values, following = self._denormalise(raw), self._denormalise(slow)
        final = following[:0, 0]
        if len(batch.final_index):
            row, step = batch.final_index.unbind(1)
            final_inputs = self.inputs(batch.final_obs, batch.final_state, batch.actions[row, step])
            final = self._denormalise(self._values(self.target, final_inputs))
        following = next_values(following, final, batch.final_index)
        reward = reward[..., : self.n_values]
        terminated, ended = self._ends(batch)
        mask = filled.unsqueeze(-1).expand_as(reward)
        if self.across:
            reward, terminated, ended, mask = (x.unsqueeze(-1) for x in (reward, terminated, ended, mask))
        if c.gae_lambda is not None:
            advantage, returns = gae(reward, values[:, :steps], following, terminated, ended, c.gamma, c.gae_lambda)
        else:
            assert c.q_nstep is not None
            returns = nstep(reward, following, terminated, ended, mask, c.gamma, c.q_nstep)
            advantage = returns - values[:, :steps]
        if self.return_stats is not None:
            own = returns.diagonal(dim1=-2, dim2=-1) if self.across else returns
            self.return_stats.update(self._statistics(own[filled]))
        scaled = self._normalise_advantage(advantage, batch)
        return Targets(scaled, returns, inputs[:, :steps], raw[:, :steps], values[:, :steps])

    def _statistics(self, x: Tensor) -> Tensor:
        """x [n, V] as normalisers take it: one scale under a common reward, otherwise one per agent."""
        return x.flatten() if self.common_reward else x

    def _ends(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """[B, T, V] bool: no bootstrap after the step; the trace is cut after the step."""
        terminated, truncated = batch.terminated.unsqueeze(-1), batch.truncated.unsqueeze(-1)
        if not self.config.add_value_last_step:
            terminated = terminated | truncated
        # nothing flows back from padding, also where a row stops without a flag
        goes_on = torch.cat([batch.filled[:, 1:], torch.ones_like(batch.filled[:, :1])], dim=1) & batch.filled
        ended = terminated | truncated | ~goes_on.unsqueeze(-1)
        if not self.common_reward and not self.joint:
            # under individual rewards an agent that left has nothing more to come
            terminated = terminated | batch.agent_terminated
            ended = ended | batch.agent_terminated
        shape = (*batch.filled.shape, self.n_values)
        return terminated.expand(shape), ended.expand(shape)

    def _normalise_advantage(self, advantage: Tensor, batch: Batch) -> Tensor:
        filled = batch.filled
        if self.across:
            return self._normalise_across(advantage, batch)
        if not self.config.normalise_advantage:
            scaled = torch.where(filled.unsqueeze(-1), advantage, 0.0)
        elif self.joint:
            scaled = standardise(advantage.squeeze(-1), filled).unsqueeze(-1)
        elif self.common_reward:
            scaled = standardise(advantage, filled.unsqueeze(-1).expand_as(advantage))
        else:
            valid = batch.valid
            scaled = torch.stack(
                [standardise(advantage[..., i], valid[..., i]) for i in range(self.info.n_agents)], dim=-1
            )
        return scaled.expand(*filled.shape, self.info.n_agents)

    def _normalise_across(self, advantage: Tensor, batch: Batch) -> Tensor:
        """Normalised advantages [B, T, N, N]: each learner's over the living steps of all its sources."""
        if not self.config.normalise_advantage:
            return torch.where(batch.filled[..., None, None], advantage, 0.0)
        match = torch.from_numpy(self.info.agents_match()).to(advantage.device)
        learners = range(self.info.n_agents)
        return torch.stack([standardise(advantage[..., i], batch.valid & match[i]) for i in learners], dim=-1)

    def _denormalise(self, raw: Tensor) -> Tensor:
        return raw if self.return_stats is None else self.return_stats.denormalise(raw)

    # -- regression ------------------------------------------------------------------------------------------

    def loss(self, predicted: Tensor, old: Tensor, target: Tensor) -> Tensor:
        """Regression loss per element; with `value_clip`, the larger of the plain and the clipped change's."""

        def distance(v: Tensor) -> Tensor:
            if self.config.value_loss == "mse":
                return (v - target) ** 2
            return F.huber_loss(v, target, reduction="none", delta=self.config.huber_delta)

        plain, limit = distance(predicted), self.epochs.value_clip
        if limit is None:
            return plain
        return torch.maximum(plain, distance(old + (predicted - old).clamp(-limit, limit)))

    def update(self, batch: Batch, targets: Targets, lr_scale: float, weight: Tensor | None = None) -> dict[str, float]:
        """Fit the critic to the targets over its epochs and minibatches; returns its scalars.

        Args:
            weight: [S, (N,) V] what each value's loss at each of the S real steps counts in the sum that is
                minimised; None: the mean of all.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = (self.config.critic_lr or self.config.lr) * lr_scale
        where = batch.filled.nonzero(as_tuple=True)
        x, old, returns = targets.inputs[where], targets.raw[where], targets.returns[where]
        goal = returns if self.return_stats is None else self.return_stats.normalise(returns)
        losses, norms = [], []
        for _ in range(self.epochs.epochs):
            parts = minibatches(len(x), self.epochs.num_minibatches, self.generator, goal.device)
            for part in parts:
                # unequal minibatches add up to the whole batch's mean
                scale = len(parts) / (goal.numel() if weight is None else 1)
                objectives = []
                for shard in shards(len(part), goal[0].numel(), False, goal.device):
                    rows = shard if len(parts) == 1 else part[shard]  # no copy where everything is used
                    given = None if weight is None else weight[rows]
                    objectives.append(partial(self._losses, x[rows], old[rows], goal[rows], given, scale))
                losses.append(differentiate(self.network.params, objectives))
                norms.append(clip_rows(self.network.params.grad, self.config.grad_norm_clip))
                self.optimiser.step()
        self._update_target()
        values = targets.values[where]
        if weight is not None:  # what is not learned from says nothing about the critic
            values, returns = values[weight > 0], returns[weight > 0]
        mask = torch.ones_like(returns, dtype=torch.bool)
        return {
            "critic_loss": float(torch.stack(losses).mean()),
            "critic_grad_norm": float(torch.stack(norms).mean()),
            "explained_variance": explained_variance(values, returns, mask),
            "td_error_abs": float((returns - values).abs().mean()),
            "target_mean": float(returns.mean()),
            "value_mean": float(values.mean()),
        }

    def _losses(
        self, x: CriticInputs, old: Tensor, goal: Tensor, weight: Tensor | None, scale: float, params: Tensor
    ) -> Iterator[Tensor]:
        """The loss of the critics ``params`` on rows ``x``, as a share of the batch's, in pieces of bounded size."""
        size = max(1, MAX_ROWS // goal[0].numel()) if self.across else len(goal)
        for k in range(0, len(goal), size):
            cut = slice(k, k + size)
            found = self.loss(self._values(self.network, x[cut], params), old[cut], goal[cut])
            yield (found if weight is None else found * weight[cut]).sum() * scale

    def _update_target(self) -> None:
        self.updates += 1
        tau = self.config.target_update_interval_or_tau
        if self.target is self.network:
            return
        with torch.no_grad():
            if tau < 1:
                self.target.params.lerp_(self.network.params, tau)
            elif self.updates % int(tau) == 0:
                self.target.params.copy_(self.network.params)

    # -- state -----------------------------------------------------------------------------------------------

    def load_weights(self, state: Mapping[str, Any]) -> bool:
        """Take the network, and the scale of returns that it predicts on, if both fit; returns whether they did."""
        scale = state["return_stats"]
        fits = state["theta"].shape == self.network.params.shape and bool(scale) == (self.return_stats is not None)
        if not fits or (self.return_stats is not None and scale["mean"].shape != self.return_stats.mean.shape):
            return False
        with torch.no_grad():
            self.network.params.copy_(state["theta"])
            self.target.params.copy_(state["theta"])
        if self.return_stats is not None:
            self.return_stats.load_state_dict(scale)
        return True

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs to continue with the same numbers."""
        return {
            "theta": self.network.params.detach().clone(),
            "target": self.target.params.detach().clone(),
            "optimiser": self.optimiser.state_dict(),
            "return_stats": self.return_stats.state_dict() if self.return_stats else {},
            "reward_stats": self.reward_stats.state_dict() if self.reward_stats else {},
            "generator": self.generator.get_state(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state back."""
        with torch.no_grad():
            self.network.params.copy_(state["theta"])
            self.target.params.copy_(state["target"])
        self.optimiser.load_state_dict(state["optimiser"])
        for stats, name in ((self.return_stats, "return_stats"), (self.reward_stats, "reward_stats")):
            if stats is not None:
                stats.load_state_dict(state[name])
        self.generator.set_state(state["generator"])
        self.updates = state["updates"]
