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
from ..components.config import key
from ..components.errors import UserError
from ..components.normalisation import RunningMeanStd
from ..components.returns import explained_variance, gae, next_values, nstep, standardise
from ..components.sides import differentiate, halves
from ..controllers.acting import one_hot
from ..controllers.basic_mac import sharing_index
from ..envs.base import EnvInfo
from ..modules.network import Network, NetworkConfig
from .critic import CriticInputs
from .critic import values as values_of


@dataclass(frozen=True)
class ValueConfig:
    """What the value function reads."""

    gamma: float = key("Discount factor.", low=0, high=1)
    gae_lambda: float | None = key("lambda of GAE; null with q_nstep for n-step targets.", low=0, high=1)
    q_nstep: int | None = key("n of n-step value targets; null with gae_lambda for GAE.", low=1)
    add_value_last_step: bool = key("Bootstrap from the last observation where an episode was truncated.")
    standardise_returns: bool = key("Value normalisation: the critic predicts returns on a running scale.")
    standardise_rewards: bool = key("Rewards are shifted and scaled by running statistics before targets are made.")
    normalise_advantage: bool = key("Advantages get mean 0 and deviation 1 over the batch's real steps.")
    critic_type: str = key(
        "Critic input: cv_critic (global state) or ac_critic (the agent's own observation).",
        choices=("cv_critic", "ac_critic"),
    )
    critic_sharing: str = key(
        "One critic for all agents, one each, or one for each group of agents that share a policy network (policies).",
        choices=("shared", "separate", "policies"),
    )
    critic_agent_obs: bool = key("cv_critic also sees the agent's own observation (agent-specific state).")
    obs_individual_obs: bool = key("cv_critic also sees all agents' observations.")
    critic_lr: float | None = key("Learning rate of the critic; null takes lr.", above=0, high=1e6)
    critic_epochs: int | None = key("Epochs of the critic; null takes epochs.", low=1)
    num_minibatches: int = key("Minibatches per epoch, of policies and critic.", low=1)
    value_loss: str = key("Regression loss of the critic.", choices=("mse", "huber"))
    huber_delta: float = key("Where the Huber loss turns linear (on the critic's own scale).", above=0)
    value_clip: float | None = key("Clip the critic's change per iteration to this much (null: off).", above=0)
    target_update_interval_or_tau: float = key(
        "Targets come from a slow copy of the critic: up to 1 the soft update's share (1: no slow copy), above 1 the "
        "number of updates between copies.",
        above=0,
    )
    grad_norm_clip: float = key("Largest L2 norm of each network's gradient.", above=0)
    lr: float = key("Learning rate (Adam).", above=0, high=1e6)
    optim_eps: float = key("Epsilon of Adam.", above=0, high=1e6)
    obs_agent_id: bool = key("Append the agent's one-hot id to policy (and critic) inputs.")
    obs_last_action: bool = key("Append the last action, one-hot, to policy (and critic) inputs.")

    def __post_init__(self) -> None:
        if (self.gae_lambda is None) == (self.q_nstep is None):
            both = "both are set" if self.q_nstep else "neither is set"
            raise UserError(
                f"q_nstep selects n-step returns and gae_lambda GAE: {both}; set one and leave the other null."
            )
        for name in ("critic_agent_obs", "obs_individual_obs"):
            if self.critic_type == "ac_critic" and getattr(self, name):
                raise UserError(f"{name}=True adds to the state: critic_type=ac_critic has none, use cv_critic.")


@dataclass(frozen=True)
class Targets:
    """Fixed for one iteration. V is 1 for a joint critic, otherwise N.

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
        policies: each agent's policy network, [N], for critics that are shared alike; None: all agents have one.
        generator: source of the initial parameters.
        minibatch_generator: its own stream of minibatches, so that policy draws do not shift it.
    """

    def __init__(
        self,
        config: ValueConfig,
        net: NetworkConfig,
        info: EnvInfo,
        *,
        common_reward: bool,
        joint: bool,
        policies: Sequence[int] | None = None,
        epochs: int,
        device: torch.device,
        generator: torch.Generator,
        minibatch_generator: torch.Generator,
    ) -> None:
        self.config, self.info, self.common_reward = config, info, common_reward
        self.epochs = config.critic_epochs or epochs
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
        self.network.first_order = True
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
        c, n_actions = self.config, self.info.n_actions
        ids = self.n_values if c.obs_agent_id and not self.joint else 0
        last = last_actions if c.obs_last_action else None
        if c.critic_type == "ac_critic":
            own = obs if last is None else torch.cat([obs, one_hot(last, n_actions, obs)], dim=-1)
            return CriticInputs(state[..., :0], own, ids, self.n_values)
        parts = [state]
        if c.obs_individual_obs:
            parts.append(obs.flatten(-2))
        if last is not None:
            parts.append(one_hot(last, n_actions, obs).flatten(-2))
        own = obs if c.critic_agent_obs else obs[..., : self.n_values, :0]
        return CriticInputs(torch.cat(parts, dim=-1), own, ids, self.n_values)

    def _values(self, network: Network, inputs: CriticInputs, theta: Tensor | None = None) -> Tensor:
        """Values [..., V] by a network each, one for all, or one for each group; of the networks ``theta`` [K, P]."""
        theta = network.theta if theta is None else theta
        return values_of(network, inputs, theta if self._index is None else theta[self._index])

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
        if c.gae_lambda is not None:
            advantage, returns = gae(reward, values[:, :steps], following, terminated, ended, c.gamma, c.gae_lambda)
        else:
            assert c.q_nstep is not None
            mask = filled.unsqueeze(-1).expand_as(reward)
            returns = nstep(reward, following, terminated, ended, mask, c.gamma, c.q_nstep)
            advantage = returns - values[:, :steps]
        if self.return_stats is not None:
            self.return_stats.update(self._statistics(returns[filled]))
        scaled = self._normalise_advantage(advantage, batch)
        return Targets(scaled, returns, inputs[:, :steps], raw[:, :steps], values[:, :steps])

    def _statistics(self, x: Tensor) -> Tensor:
        """What statistics are kept of x [n, V]: one scale under a common reward, otherwise one per agent."""
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

    def _denormalise(self, raw: Tensor) -> Tensor:
        return raw if self.return_stats is None else self.return_stats.denormalise(raw)

    # -- regression ------------------------------------------------------------------------------------------

    def loss(self, predicted: Tensor, old: Tensor, target: Tensor) -> Tensor:
        """Regression loss per element; with `value_clip`, the larger of the plain and the clipped change's."""

        def distance(v: Tensor) -> Tensor:
            if self.config.value_loss == "mse":
                return (v - target) ** 2
            return F.huber_loss(v, target, reduction="none", delta=self.config.huber_delta)

        plain = distance(predicted)
        if self.config.value_clip is None:
            return plain
        return torch.maximum(
            plain, distance(old + (predicted - old).clamp(-self.config.value_clip, self.config.value_clip))
        )

    def update(self, batch: Batch, targets: Targets, lr_scale: float) -> dict[str, float]:
        """Fit the critic to the targets over its epochs and minibatches; returns its scalars."""
        for group in self.optimiser.param_groups:
            group["lr"] = (self.config.critic_lr or self.config.lr) * lr_scale
        where = batch.filled.nonzero(as_tuple=True)
        x, old, returns = targets.inputs[where], targets.raw[where], targets.returns[where]
        goal = returns if self.return_stats is None else self.return_stats.normalise(returns)
        losses, norms = [], []
        for _ in range(self.epochs):
            parts = minibatches(len(x), self.config.num_minibatches, self.generator, goal.device)
            for part in parts:
                # unequal minibatches add up to the whole batch's mean
                scale = len(parts) / goal.numel()
                sides = []
                for half in halves(len(part), x.n_values, False, goal.device):
                    rows = half if len(parts) == 1 else part[half]  # no copy where everything is used
                    sides.append(partial(self._losses, x[rows], old[rows], goal[rows], scale))
                losses.append(differentiate(self.network.theta, sides))
                norms.append(clip_rows(self.network.theta.grad, self.config.grad_norm_clip))
                self.optimiser.step()
        self._update_target()
        values = targets.values[where]
        mask = torch.ones_like(returns, dtype=torch.bool)
        return {
            "critic_loss": float(torch.stack(losses).mean()),
            "critic_grad_norm": float(torch.stack(norms).mean()),
            "explained_variance": explained_variance(values, returns, mask),
            "td_error_abs": float((returns - values).abs().mean()),
            "target_mean": float(returns.mean()),
            "value_mean": float(values.mean()),
        }

    def _losses(self, x: CriticInputs, old: Tensor, goal: Tensor, scale: float, theta: Tensor) -> Iterator[Tensor]:
        """The loss of the critics ``theta`` on rows ``x``, as a share of the batch's."""
        yield self.loss(self._values(self.network, x, theta), old, goal).sum() * scale

    def _update_target(self) -> None:
        self.updates += 1
        tau = self.config.target_update_interval_or_tau
        if self.target is self.network:
            return
        with torch.no_grad():
            if tau < 1:
                self.target.theta.lerp_(self.network.theta, tau)
            elif self.updates % int(tau) == 0:
                self.target.theta.copy_(self.network.theta)

    # -- state -----------------------------------------------------------------------------------------------

    def load_weights(self, state: Mapping[str, Any]) -> bool:
        """Take the network, and the scale of returns that it predicts on, if both fit; returns whether they did."""
        scale = state["return_stats"]
        fits = state["theta"].shape == self.network.theta.shape and bool(scale) == (self.return_stats is not None)
        if not fits or (self.return_stats is not None and scale["mean"].shape != self.return_stats.mean.shape):
            return False
        with torch.no_grad():
            self.network.theta.copy_(state["theta"])
            self.target.theta.copy_(state["theta"])
        if self.return_stats is not None:
            self.return_stats.load_state_dict(scale)
        return True

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs to go on with the same numbers."""
        return {
            "theta": self.network.theta.detach().clone(),
            "target": self.target.theta.detach().clone(),
            "optimiser": self.optimiser.state_dict(),
            "return_stats": self.return_stats.state_dict() if self.return_stats else {},
            "reward_stats": self.reward_stats.state_dict() if self.reward_stats else {},
            "generator": self.generator.get_state(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state back."""
        with torch.no_grad():
            self.network.theta.copy_(state["theta"])
            self.target.theta.copy_(state["target"])
        self.optimiser.load_state_dict(state["optimiser"])
        for stats, name in ((self.return_stats, "return_stats"), (self.reward_stats, "reward_stats")):
            if stats is not None:
                stats.load_state_dict(state[name])
        self.generator.set_state(state["generator"])
        self.updates = state["updates"]


def clip_rows(gradient: Tensor | None, limit: float) -> Tensor:
    """Scale each row of ``gradient`` [K, P] (or [P]) down to norm ``limit`` in place; returns the largest norm before.

    Rows are networks: clipping them together would let one agent's gradient shrink another's.
    """
    assert gradient is not None
    norm = gradient.norm(dim=-1, keepdim=True)
    gradient.mul_((limit / (norm + 1e-6)).clamp(max=1.0))
    return norm.max()
