"""PQN: Q-learning from fresh experience alone, of agents (IQL) or, with a mixer, of a team (PQN-VDN).

Gallici et al. 2024 ("Simplifying deep temporal difference learning"), Algorithm 1; with the sum of VDN (Sunehag et al.
2018, eq. 1) as in JaxMARL (Rutherford et al. 2024).

    collect a segment from many environments with epsilon-greedy actions
    y = lambda-returns of the networks' own values, fixed for the iteration
    for each epoch, for each mini-batch:
        minimise the mean of ( Q_tot(s, Q(o, u)) - y )^2

There is no replay and no target network: layer normalisation in the networks (`layer_norm`) is what keeps their values
from diverging, and many environments side by side are what a replay would be for.

| symbol | shape | meaning |
|---|---|---|
| Q_i(o_i, .) | [B, T+1, N, A] | the agents' action values, the outputs of their networks |
| Q_tot(s, Q) | [B, T, V] | the mixer's value of the team, V = 1; without a mixer the agents' own values, V = N |
| v_t | [B, T, V] | Q_tot(s_t, max_u Q(o_t, u)) over the legal actions |
| y_t | [B, T, V] | r_t + gamma [ (1 - lambda) v_{t+1} + lambda y_{t+1} ]; r_t alone where the episode terminates |
| delta | [B, T, V] | TD errors Q_tot(s, Q(o, u)) - y |

y_{t+1} is v_{t+1}, of the last observation, where a segment ends or an episode is truncated. lambda is `td_lambda`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..components.batch import Batch
from ..components.generators import generator
from ..components.normalisation import RunningMeanStd
from ..components.pieces import one_episode_a_row
from ..components.returns import lambda_returns
from ..components.schedules import scheduled
from ..components.updates.descent import MiniBatch, Tally, descend, epoch, means, new_tallies
from ..components.updates.optimisers import RAdam
from ..components.updates.samples import Samples
from ..controllers.basic_mac import BasicMAC
from ..envs.base import EnvInfo
from ..modules.agents.rnn import NetworkConfig
from ..modules.build import load_mixer, mixer_network
from ..utils.errors import UserError
from ..utils.schema.keys import key
from .on_policy import ScheduleConfig, refuse_reuse
from .q_config import MixerConfig, check_action_values, mixer_class
from .value.config import REWARDS_DOC, REWARDS_MEAN_DOC
from .value.targets import ends, learned_steps, scaled_rewards


@dataclass(frozen=True)
class PQNConfig(MixerConfig, ScheduleConfig):
    """Configuration of PQN."""

    gamma: float = key("Discount factor.", low=0, high=1)
    td_lambda: float = key("lambda of the lambda-returns that are targets; 0: one step.", low=0, high=1)
    add_value_last_step: bool = key("Bootstrap from the last observation where an episode was truncated.")
    standardise_rewards: bool = key(REWARDS_DOC)
    standardise_rewards_mean: bool = key(REWARDS_MEAN_DOC, only={"standardise_rewards": (True,)})
    epochs: int = key("Passes over each batch.", low=1)
    num_minibatches: int = key("Mini-batches per epoch.", low=1)
    grad_norm_clip: float = key("Largest L2 norm of each network's gradient.", above=0)
    lr: float = key("Learning rate (RAdam).", above=0, high=1e6)
    optim_eps: float = key("Epsilon of RAdam.", above=0, high=1e6)


@dataclass(frozen=True)
class Iteration:
    """What is fixed in one iteration: S real steps of N agents.

    | field | shape | meaning |
    |---|---|---|
    | samples | | the steps as rows of the networks |
    | state | [S, ...] | global states |
    | target | [S, V] | y |
    | mask | [S, V] bool | what is learned from |
    """

    samples: Samples
    state: Tensor
    target: Tensor
    mask: Tensor


class PQNLearner:
    """PQN, with shared, separate or grouped networks.

    Args:
        config: what it reads.
        net: the networks' architecture, which the controller has.
        mac: the agents' action values, on ``device`` already.
        info: the environment's sizes.
        common_reward: whether all agents have the same reward.
        device: where everything lives.
        seed: the run's seed.
    """

    Config = PQNConfig
    #: `batch_size` counts the episodes that a runner collects for one update
    on_policy = True

    def __init__(
        self, config: PQNConfig, net: NetworkConfig, mac: BasicMAC, info: EnvInfo, *, common_reward: bool,
        device: torch.device, seed: int,
    ) -> None:  # fmt: skip
        self.config, self.mac, self.info, self.device = config, mac, info, device
        self.common_reward, name = common_reward, config.mixer
        self.mixer = None
        if name is not None:
            source = generator(seed, "init mixer")
            self.mixer = mixer_network(mixer_class(name), name, info, config, source).to(device)
        #: parameters of the networks and, where it has any, of the mixer
        self.learned: list[Tensor] = [mac.network.params]
        if self.mixer is not None and self.mixer.params.numel():
            self.learned.append(self.mixer.params)
        self.optimiser = RAdam(self.learned, lr=config.lr, eps=config.optim_eps)
        self.generator = generator(seed, "minibatches")
        shape = () if common_reward else (info.n_agents,)
        self.reward_stats = RunningMeanStd(shape, device) if config.standardise_rewards else None
        self.updates = self.processed = 0

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse what values of actions cannot be learned from, or not in this way.

        Raises:
            UserError: naming the keys.
        """
        who = f"learner={values['learner']}"
        refuse_reuse(values, who)
        check_action_values(values, info, who)
        if values["mixer"] is not None and getattr(mixer_class(values["mixer"]), "joint", False):
            raise UserError(
                f"mixer={values['mixer']} has losses of its own, which {who} does not: use vdn, qmix or null."
            )

    def train(self, batch: Batch, t_env: int) -> tuple[dict[str, float], dict[str, Any]]:
        """One iteration on ``batch``; returns scalars to log, and arrays (none)."""
        c, tallies = self.config, new_tallies()
        lr = c.lr * scheduled(c.lr_schedule, 1.0, 0.0, t_env, c.t_max)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        it = self.begin_iteration(batch)
        count = it.mask.sum().clamp(min=1)

        def loss(params: Sequence[Tensor], part: MiniBatch, tally: Tally) -> Tensor:
            taken, at = self.taken(it.samples, part.entries, params[0])
            total, target, mask = self.team(taken, it.state[at], params[1:]), it.target[at], it.mask[at]
            delta = torch.where(mask, total - target, 0.0)
            figures = {"loss": delta**2, "td_error_abs": delta.abs(), "q_taken_mean": total, "target_mean": target}
            for name, x in figures.items():
                tally.add(name, x, mask)
            return delta.square().sum() * part.of / count

        norms = []
        for _ in range(c.epochs):
            for part in epoch(it.samples.n_entries, c.num_minibatches, self.generator, it.samples.choice):
                _, norm = descend(
                    self.optimiser, self.learned, part, loss, tallies, rows=self.info.n_agents,
                    recurrent=self.mac.recurrent, clip=c.grad_norm_clip,
                )  # fmt: skip
                norms.append(norm)
        self.updates += 1
        self.processed += c.epochs * int(batch.valid.sum())
        return means(tallies) | {"grad_norm": float(torch.stack(norms).mean()), "lr": lr}, {}

    def begin_iteration(self, batch: Batch) -> Iteration:
        """Fix the targets, and lay the batch out for the networks: a row for each episode or piece of one."""
        rows = one_episode_a_row(self.mac.standardised(batch))
        filled, steps = rows.filled, rows.actions.shape[1]
        mask = learned_steps(rows, self.info.n_agents if self.mixer is None else 1, not self.common_reward)
        target = self.targets(rows)
        # networks are evaluated at every step of every agent
        present = replace(rows, alive=filled.unsqueeze(-1).expand_as(rows.alive))
        samples = Samples.make(present, self.mac.inputs(rows), torch.zeros_like(rows.log_prob), self.mac.recurrent)
        return Iteration(samples, rows.state[:, :steps][filled], target[filled], mask[filled])

    @torch.no_grad()
    def targets(self, batch: Batch) -> Tensor:
        """y [B, T, V] of rows of one episode each, by the networks as they are."""
        c, reward = self.config, batch.reward
        if self.reward_stats is not None:
            real = reward[batch.filled]
            self.reward_stats.update(real if self.reward_stats.mean.dim() else real[:, 0])
            reward = scaled_rewards(c, self.reward_stats, reward)
        q = self.mac.all_outputs(batch)
        best = q.masked_fill(~batch.avail, -torch.inf).argmax(-1, keepdim=True)
        following = self.team(q.gather(-1, best).squeeze(-1), batch.state)[:, 1:]
        n_values = following.shape[-1]
        terminated, ended = ends(batch, n_values, c.add_value_last_step, by_agent=not self.common_reward)
        return lambda_returns(reward[..., :n_values], following, terminated, ended, c.gamma, c.td_lambda)

    def taken(self, samples: Samples, entries: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Q_i(o_i, u_i) [S', N] of the actions taken at the steps of ``entries`` [m], and which steps these are [S'].

        ``params`` [K, P] of the networks.
        """
        outputs, at, _ = self.mac.outputs(samples, entries, params)
        q = outputs.gather(-1, samples.actions[at].unsqueeze(-1)).squeeze(-1)
        if samples.sequences is None:
            return q, entries
        steps = samples.steps(entries)
        return q.new_zeros(samples.actions.shape).index_put(at, q)[steps], steps

    def team(self, q: Tensor, state: Tensor, params: Sequence[Tensor] = ()) -> Tensor:
        """Q_tot [..., V] of the agents' values q [..., N] in states [..., S]; ``params``: the mixer's, if it has any,
        none: as they are."""
        return q if self.mixer is None else self.mixer(params[0] if params else self.mixer.params, q, state)

    # -- state -----------------------------------------------------------------------------------------------------

    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Yield ("policies", [K, P]) and, where it has parameters, ("mixer", [1, P])."""
        yield from zip(("policies", "mixer"), self.learned, strict=False)

    def load_weights(self, state: Mapping[str, Any]) -> list[str]:
        """Take the mixer of another learner's state; returns ``["mixer"]`` where there is none that fits."""
        return load_mixer(self.mixer, state)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs to continue with the same numbers."""
        mixer = {"mixer": self.learned[1].detach().clone()} if len(self.learned) > 1 else {}
        return mixer | {
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "reward_stats": self.reward_stats.state_dict() if self.reward_stats is not None else {},
            "updates": self.updates,
            "processed": self.processed,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state back; the controller's parameters are loaded by its own method."""
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        if self.reward_stats is not None:
            self.reward_stats.load_state_dict(state["reward_stats"])
        for own in self.learned[1:]:
            own.data.copy_(state["mixer"])
        self.updates, self.processed = state["updates"], state["processed"]
