"""Fitting the value function: targets and advantages fixed once per iteration, then its own epochs of regression."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...components.batch import Batch
from ...components.normalisation import RunningMeanStd
from ...components.returns import explained_variance, gae, next_values, nstep
from ...components.updates.descent import Descents, MiniBatch, descend, epoch, follow
from ...components.updates.optimisers import Adam
from ...envs.base import EnvInfo
from ...modules.agents.rnn import Network
from ...modules.critics.recurrent import Sequences, packed_values
from ...modules.critics.v import CriticInputs
from .config import CriticConfig, EpochConfig
from .function import ValueFunction
from .reciprocity import Reciprocity, one_for_all
from .targets import Targets, ValueRows, ends, normalised_across, normalised_advantage, scaled_rewards

#: Most rows in one evaluation of all networks on all agents' experience: bounds memory with many agents.
MAX_ROWS = 65536


class ValueLearner(ValueFunction):
    """A state-value function (joint or per agent), its normalisers and optimiser.

    Args:
        config, net, info, common_reward, joint, across, each, policies, device, generator: as of ``ValueFunction``.
        epochs: epochs and mini-batches of one batch.
        source_targets: across: an agent's experience has the targets of its own critic, for all that learn from it.
        reciprocity: the other agents' share in what is bootstrapped from; not with ``across``.
        minibatch_generator: its own stream of minibatches, so that policy draws do not shift it.
    """

    def __init__(
        self,
        config: CriticConfig,
        net: Any,
        info: EnvInfo,
        *,
        common_reward: bool,
        joint: bool,
        epochs: EpochConfig,
        across: bool = False,
        source_targets: bool = False,
        each: bool = False,
        policies: Sequence[int] | None = None,
        reciprocity: Reciprocity | None = None,
        device: torch.device,
        generator: torch.Generator,
        minibatch_generator: torch.Generator,
    ) -> None:
        super().__init__(
            config, net, info, common_reward=common_reward, joint=joint, across=across, each=each, policies=policies,
            device=device, generator=generator,
        )  # fmt: skip
        self.epochs, self.source_targets, self.reciprocity = epochs, source_targets, reciprocity
        if reciprocity is not None and self.n_networks == 1 and (self.joint or not config.obs_agent_id):
            raise one_for_all("critics", "critic_sharing=separate")
        self.optimiser = Adam([self.network.params], lr=config.critic_lr or config.lr, eps=config.optim_eps)
        self.generator = minibatch_generator
        shape = () if common_reward else (info.n_agents,)
        self.return_stats = RunningMeanStd(shape, device) if config.standardise_returns else None
        self.reward_stats = RunningMeanStd(shape, device) if config.standardise_rewards else None
        self.descents = Descents(device, isinstance(self.network, Network) and not self.recurrent)
        self.updates = 0

    # -- targets ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def targets(self, batch: Batch) -> Targets:
        """Fix advantages and value targets from the value function as it now is; then update the normalisers.

        Where a step is not filled, advantages are 0. With `standardise_returns` those that `normalise_advantage` leaves
        as they are come on the critic's scale, as EPyMARL has them: targets by the statistics that include this batch,
        less the critic's own outputs. (EPyMARL keeps statistics for each agent and counts padding; here they are the
        team's under a common reward, of real steps.)
        """
        c, filled = self.config, batch.filled
        reward = self._reward(batch)
        steps = reward.shape[1]
        inputs = self.inputs(batch.obs, batch.state, batch.last_actions)
        raw, following, final, sequences = self._evaluate(batch, inputs)
        values = self._denormalise(raw)
        following = next_values(self._denormalise(following), self._denormalise(final), batch.final_index)
        if self.reciprocity is not None:
            obs = next_values(batch.obs, batch.final_obs, batch.final_index)
            final_inputs, evaluate = self._final_inputs(batch), partial(self._of_target, batch)
            following = self.reciprocity.following(following, obs, inputs, final_inputs, evaluate)
        by_agent = not self.common_reward and not self.joint
        terminated, ended = ends(batch, self.n_values, c.add_value_last_step, by_agent)
        mask = filled.unsqueeze(-1).expand_as(reward)
        if self.across:
            reward, terminated, ended, mask = (x.unsqueeze(-1) for x in (reward, terminated, ended, mask))
        if c.gae_lambda is not None:
            advantage, returns = gae(reward, values[:, :steps], following, terminated, ended, c.gamma, c.gae_lambda)
        else:
            assert c.q_nstep is not None
            returns = nstep(reward, following, terminated, ended, mask, c.gamma, c.q_nstep)
            advantage = returns - values[:, :steps]
        if self.source_targets:
            returns = returns.diagonal(dim1=-2, dim2=-1).unsqueeze(-1).expand_as(returns)
            advantage = returns - values[:, :steps]
        if self.return_stats is not None:
            own = returns.diagonal(dim1=-2, dim2=-1) if self.across else returns
            self.return_stats.update(self._statistics(own[filled]))
            if not c.normalise_advantage:
                advantage = self.return_stats.normalise(returns) - raw[:, :steps]
        if self.across:
            scaled = normalised_across(advantage, batch, self.info, normalise=c.normalise_advantage)
        else:
            scaled = normalised_advantage(
                advantage, batch, self.info, normalise=c.normalise_advantage, joint=self.joint,
                common_reward=self.common_reward,
            )  # fmt: skip
        return Targets(scaled, returns, inputs[:, :steps], raw[:, :steps], values[:, :steps], sequences)

    @torch.no_grad()
    def towards(self, batch: Batch, returns: Tensor | None = None) -> Targets:
        """Values [B, T, V] as they are, with targets made elsewhere (None: none yet); of feed-forward critics alone."""
        inputs = self.inputs(batch.obs, batch.state, batch.last_actions)[:, : batch.filled.shape[1]]
        raw = self._values(self.network, inputs)
        nothing = torch.zeros_like(raw)
        return Targets(nothing, nothing if returns is None else returns, inputs, raw, self._denormalise(raw))

    def _reward(self, batch: Batch) -> Tensor:
        """Rewards [B, T, V], on their running scale, which takes them in first, where that is configured."""
        reward = batch.reward
        if self.reward_stats is not None:
            self.reward_stats.update(self._statistics(reward[batch.filled]))
            # padding stays out of every target, so its normalised value does not matter
            reward = scaled_rewards(self.config, self.reward_stats, reward)
        return reward[..., : self.n_values]

    def _of_target(self, batch: Batch, name: str, inputs: CriticInputs, final: CriticInputs) -> Tensor:
        """Values [B, T, V] of what follows each step by the target network, on returns' scale, of other ``inputs``.

        Args:
            name: which memory of a recurrent critic they continue.
            final: those of the final observations of episodes that end inside a row.
        """
        if self.recurrent:
            found, _ = self._unrolled(name, self.target, inputs, final, batch)
            values, last = found.values, found.final
        else:
            values, last = self._values(self.target, inputs), self._values(self.target, final)
        return next_values(self._denormalise(values), self._denormalise(last), batch.final_index)

    def _statistics(self, x: Tensor) -> Tensor:
        """x [n, V] as normalisers take it: one scale under a common reward, otherwise one per agent."""
        return x.flatten() if self.common_reward else x

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
        rows = self.begin_update(batch, targets, lr_scale, weight)
        sequences, goal = targets.sequences, rows.goal
        losses, norms, objective = [], [], partial(self.losses, rows, sequences)

        def step(part: MiniBatch) -> tuple[Tensor, Tensor]:
            return descend(
                self.optimiser, self.network.params, part, objective, rows=goal[0].numel(), recurrent=self.recurrent,
                clip=self.config.grad_norm_clip,
            )  # fmt: skip

        times = self.epochs.epochs * self.epochs.num_minibatches
        for _ in range(self.epochs.epochs):
            for part in self.epoch(rows, sequences):
                loss, norm = self.descents("critic", objective, part, step, times)
                losses.append(loss)
                norms.append(norm)
        self.descents.renew()
        return self.end_update(batch, targets, losses, norms, weight)

    def epoch(self, rows: ValueRows, sequences: Sequences | None) -> Iterator[MiniBatch]:
        """Yield the mini-batches of one epoch over an update's entries: steps, or sequences (chosen on the CPU)."""
        n, choice = (len(rows.goal), rows.goal.device) if sequences is None else (len(sequences), torch.device("cpu"))
        return epoch(n, self.epochs.num_minibatches, self.generator, choice)

    def begin_update(
        self, batch: Batch, targets: Targets, lr_scale: float, weight: Tensor | None = None
    ) -> ValueRows:  # fmt: skip
        """Set the learning rate, and return the real steps that the critic is fitted on."""
        for group in self.optimiser.param_groups:
            group["lr"] = (self.config.critic_lr or self.config.lr) * lr_scale
        where = batch.filled.nonzero(as_tuple=True)
        returns = targets.returns[where]
        goal = returns if self.return_stats is None else self.return_stats.normalise(returns)
        return ValueRows(targets.inputs[where], targets.raw[where], goal, weight)

    def end_update(
        self, batch: Batch, targets: Targets, losses: Sequence[Tensor], norms: Sequence[Tensor],
        weight: Tensor | None = None,
    ) -> dict[str, float]:  # fmt: skip
        """Move the target network after steps with ``losses`` and gradients' ``norms``; returns the scalars."""
        self._update_target()
        where = batch.filled.nonzero(as_tuple=True)
        values, returns = targets.values[where], targets.returns[where]
        if weight is not None:  # what is not learned from says nothing about the critic
            values, returns = values[weight > 0], returns[weight > 0]
        mask = torch.ones_like(returns, dtype=torch.bool)
        return {
            "critic_loss": float(torch.stack(list(losses)).mean()),
            "critic_grad_norm": float(torch.stack(list(norms)).mean()),
            "explained_variance": explained_variance(values, returns, mask),
            "td_error_abs": float((returns - values).abs().mean()),
            "target_mean": float(returns.mean()),
            "value_mean": float(values.mean()),
        }

    def losses(
        self, rows: ValueRows, sequences: Sequences | None, params: Tensor, part: MiniBatch, tally: None
    ) -> Iterator[Tensor]:
        """The loss of the critics ``params`` on the entries of ``part``: steps, or sequences of recurrent critics.

        It comes in pieces of bounded size; those of unequal mini-batches add up to the whole batch's mean.
        """
        scale = part.of / (rows.goal.numel() if rows.weight is None else 1)
        if sequences is None:
            chosen = _chosen(rows, part)
            size = max(1, MAX_ROWS // rows.goal[0].numel()) if self.across else len(chosen.goal)
            pieces = (chosen[k : k + size] for k in range(0, len(chosen.goal), size))
            found: Iterator[tuple[ValueRows, Tensor]] = (
                (piece, self._values(self.network, piece.inputs, params)) for piece in pieces
            )
        else:
            at, packing, hidden = sequences.pack(part.entries)
            packed = packed_values(self.network, self._params(params), rows[at].inputs, packing, hidden)
            found = iter([(rows[at], packed)])
        for piece, predicted in found:
            loss = self.loss(predicted, piece.old, piece.goal)
            yield (loss if piece.weight is None else loss * piece.weight).sum() * scale

    def predicted(
        self, rows: ValueRows, sequences: Sequences | None, params: Tensor, part: MiniBatch
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Values by the critics ``params`` on the entries of ``part``, those before the update, and the goals, [L, V].

        Of critics that are not ``across``; arguments as of :meth:`losses`.
        """
        if sequences is None:
            chosen = _chosen(rows, part)
            return self._values(self.network, chosen.inputs, params), chosen.old, chosen.goal
        at, packing, hidden = sequences.pack(part.entries)
        chosen = rows[at]
        return (
            packed_values(self.network, self._params(params), chosen.inputs, packing, hidden),
            chosen.old,
            chosen.goal,
        )

    def _update_target(self) -> None:
        self.updates += 1
        if self.target is not self.network:
            tau = self.config.target_update_interval_or_tau
            follow(self.target.params, self.network.params, tau, self.updates)

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
        kept = {"hidden": {name: h.clone() for name, h in self._hidden.items()}} if self.recurrent else {}
        return kept | {
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
        if self.recurrent:
            device = self.network.params.device
            self._hidden = {name: h.to(device) for name, h in state["hidden"].items()}


def _chosen(rows: ValueRows, part: MiniBatch) -> ValueRows:
    """The rows that are the entries of ``part``."""
    # no copy where everything is used; on a GPU, reading two numbers would cost more than the copy
    whole = part.of == 1 and not part.entries.is_cuda
    return rows[int(part.entries[0]) : int(part.entries[-1]) + 1] if whole else rows[part.entries]
