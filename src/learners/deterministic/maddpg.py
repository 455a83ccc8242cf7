"""MADDPG and MATD3: deterministic policies that climb centralised critics of joint actions, from a replay.

MADDPG: Lowe et al. 2017, Algorithm 1; MATD3: Ackermann et al. 2019, the changes of TD3 (Fujimoto et al. 2018, Algorithm
1); with one agent they are DDPG (Lillicrap et al. 2016) and TD3. Discrete actions: Papoudakis et al. 2021, with the
gradient of Gumbel-softmax samples (:mod:`oamarl.components.relaxations`).

| symbol | shape | meaning |
|---|---|---|
| mu_i(o_i) | [S, N, A] | policies' actions: tanh of what the networks put out; of discrete actions one-hot |
| Q_i^c(s, a) | [S, V] | action values of the joint action, c = 1 (and 2, twin critics) |
| mu', Q' | | the same of the target networks |
| R, k | [S, V] | the sum of up to n rewards, and the steps that it is of |
| y_i | [S, V] | R_i + gamma^k min_c Q'_i^c(s', a'), R_i alone where the episode terminates |

    a'_j = clip( mu'_j(o'_j) + clip(target_noise z, -target_noise_clip, target_noise_clip), -1, 1 )

    critics:   minimise the mean of sum_c (Q_i^c(s, a) - y_i)^2
    policies:  maximise the mean of Q_i^1(s, a_1, ..., mu_i(o_i), ..., a_N),  once in policy_delay updates

Actions are between -1 and 1 here, which stand for the environment's bounds. What the other agents do in the second line
is in the replay (`other_actions: replay`) or by their policies as they are. Discrete actions of targets are the best
ones by mu'; those of the policies' update are samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...components.batch import Batch
from ...components.distributions import gumbel
from ...components.generators import generator
from ...components.normalisation import RunningMeanStd
from ...components.relaxations import gapped_straight_through, greedy_one_hot, straight_through
from ...components.replay import Drawn
from ...components.schedules import scheduled
from ...components.updates.descent import follow
from ...components.updates.parallel import differentiate, shards
from ...controllers.actor import one_hot
from ...controllers.basic_mac import BasicMAC
from ...envs.base import EnvInfo
from ...modules.agents.rnn import NetworkConfig
from ...utils.errors import UserError
from ..off_policy import OffPolicyLearner
from ..value.reciprocity import Reciprocity, one_for_all
from .config import MADDPGConfig, check
from .critics import ActionCritics
from .steps import Steps, View, mean_by_row, network_shares


class MADDPGLearner(OffPolicyLearner):
    """MADDPG and MATD3, with shared, separate or grouped policies and critics."""

    Config = MADDPGConfig
    config: MADDPGConfig

    def __init__(
        self, config: MADDPGConfig, net: NetworkConfig, mac: BasicMAC, info: EnvInfo, *, common_reward: bool,
        device: torch.device, seed: int,
    ) -> None:  # fmt: skip
        super().__init__(config, net, mac, info, common_reward=common_reward, device=device, seed=seed)
        self.common_reward = common_reward
        made = ActionCritics(
            config, net, info, common_reward=common_reward, policies=mac.index, generator=generator(seed, "init critic")
        )
        self.critics = made.to(device)
        self.reciprocity = Reciprocity.of(config, info, device)
        if self.reciprocity is not None and self.critics.n_values == 1:
            raise one_for_all("critics", "critic_sharing=separate")
        self.policy, self.critic = mac.network.params, self.critics.network.params
        self.optimise(self.policy)
        self.optimise(self.critic, lr=config.critic_lr)
        self.target_policy, self.target_critic = self.target_copy(self.policy), self.target_copy(self.critic)
        self.generator = generator(seed, "policy noise")
        shape = () if self.critics.n_values == 1 or common_reward else (info.n_agents,)
        self.return_stats = RunningMeanStd(shape, device) if config.standardise_returns else None
        if info.continuous:
            centre, half = (torch.from_numpy(x).to(device) for x in info.action_scale())
            self._centre, self._half = centre, torch.where(half > 0, half, 1.0)
        self._copied_at = 0  # number of the episode of the last copy, where these are counted
        self._t_env = 0

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse actions that its policies do not put out (:func:`~.config.check`), and targets that nothing holds.

        Raises:
            UserError: naming the keys.
        """
        super().check(values, info)
        check(values, info, f"learner={values['learner']}")
        length, n = values.get("rollout_length"), values["q_nstep"]
        if values["runner"] == "rollout" and n is not None and n > length:
            raise UserError(
                f"q_nstep={n} needs segments of as many steps, and rollout_length={length} collects shorter ones: use "
                f"q_nstep={length}, rollout_length={n} or more, or runner=parallel for whole episodes."
            )

    # -- drawing -----------------------------------------------------------------------------------------------

    def train(self, batch: Batch, t_env: int) -> tuple[dict[str, float], dict[str, Any]]:
        """Take ``batch`` into the replay and, after the warm-up, make the updates that are due."""
        self._t_env = t_env
        return super().train(batch, t_env)

    def _due(self, steps: int) -> int:
        return 0 if self._t_env < self.config.warmup_steps else super()._due(steps)

    def draw(self, t_env: int) -> Drawn:
        """Draw `batch_size` entries; a row of `replay_steps` steps comes with the n - 1 steps after them."""
        c = self.config
        if c.replay_steps is None:
            return super().draw(t_env)
        beta = scheduled("linear", c.replay_beta, 1.0, t_env, c.t_max)
        return self.replay.draw_transitions(c.batch_size, c.replay_steps + (c.q_nstep or 1) - 1, beta)

    # -- an update -----------------------------------------------------------------------------------------------

    def update(self, batch: Batch, weight: Tensor) -> tuple[dict[str, float], Tensor]:
        """One update on a drawn batch; see :meth:`OffPolicyLearner.update`.

        Large draws are cut into two parts, whose gradients two threads work out.
        """
        c = self.config
        steps = self.steps(batch)
        cuts = self._cuts(steps)
        parts = [steps] if len(cuts) == 1 else [steps.part(cut) for cut in cuts]
        share, weights = network_shares(steps.mask, self.critics.index), weight[steps.row].unsqueeze(-1)
        noise = self.target_noise(steps)
        errors: list[tuple[Tensor, Tensor, Tensor]] = [(share, share, share)] * len(cuts)

        def critic_loss(k: int, params: Sequence[Tensor]) -> list[Tensor]:
            part, cut = parts[k], cuts[k]
            target = self.targets(batch, part, None if noise is None else noise[cut])
            loss, errors[k] = self.critic_loss(part, params[0], target, share * weights[cut])
            return [loss]

        loss = differentiate([self.critic], [partial(critic_loss, k) for k in range(len(cuts))])
        found = {"critic_loss": loss.item(), "critic_grad_norm": self.step(1)}
        if (self.updates + 1) % c.policy_delay == 0:
            noise, share = self.policy_noise(steps), steps.valid * network_shares(steps.valid, self.mac.index)

            def policy_loss(k: int, params: Sequence[Tensor]) -> list[Tensor]:
                part, cut = parts[k], cuts[k]
                return [self.policy_loss(batch, part, params[0], None if noise is None else noise[cut], share[cut])]

            loss = differentiate([self.policy], [partial(policy_loss, k) for k in range(len(cuts))])
            found |= {"pg_loss": loss.item(), "grad_norm": self.step(0)}
        absolute, q, target = (torch.cat(x) for x in zip(*errors, strict=True))
        figures = {"td_error_abs": absolute, "q_taken_mean": q, "target_mean": target}
        found |= {name: float(x[steps.mask].mean()) for name, x in figures.items()}
        return found, mean_by_row(absolute, steps, len(weight))

    def steps(self, batch: Batch) -> Steps:
        """The steps of a drawn batch that are learned from."""
        c = self.config
        return Steps.of(
            batch, self.info, self.critics.n_values, c.gamma, c.q_nstep or 1, first=c.replay_steps,
            bootstrap_truncated=c.add_value_last_step, by_agent=not self.common_reward,
        )  # fmt: skip

    def _cuts(self, steps: Steps) -> list[slice]:
        """The parts of a draw whose gradients are worked out in parallel.

        A running scale of returns is one of the whole draw, and recurrent policies are evaluated on all of it.
        """
        n = len(steps.row)
        if self.mac.recurrent or self.return_stats is not None:
            return [slice(0, n)]
        return shards(n, self.info.n_agents, False, steps.row.device)

    def critic_loss(
        self, steps: Steps, params: Tensor, target: Tensor, weight: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """The critics' squared errors, summed over twins, and for logs absolute errors, values and targets [S, V].

        Args:
            steps: what is learned from.
            params: [C K, P] of the critics.
            target: y [S, V].
            weight: [S, V] of each squared error.
        """
        seen, taken = self.critics.seen(steps.now.obs, steps.now.state), self.taken(steps.actions, steps.now.avail)
        twins = self.critics.twins
        values = [self.critics(params, seen, taken, twin) for twin in range(twins)]
        deltas = [torch.where(steps.mask, q - target, 0.0) for q in values]
        losses = [(delta.square() * weight).sum() for delta in deltas]
        absolute = [delta.detach().abs() / twins for delta in deltas]
        return sum(losses[1:], losses[0]), (sum(absolute[1:], absolute[0]), values[0].detach(), target)

    @torch.no_grad()
    def targets(self, batch: Batch, steps: Steps, noise: Tensor | None = None) -> Tensor:
        """The targets y [S, V].

        ``noise`` [S, N, A] on the actions that they are of; see :meth:`target_noise`.
        """
        then = steps.then
        actions = self.target_actions(self.outputs(batch, then, self.target_policy), then.avail, noise)
        following = self._of_target(then.obs, then.state, actions)
        if self.reciprocity is not None:
            following = self.reciprocity.mixed(
                following, self._others(self.reciprocity, then, actions, following), then.obs
            )
        y = steps.rewards + steps.discount * following
        stats = self.return_stats
        if stats is None:
            return y
        stats.update(y if stats.mean.dim() else y[steps.mask])
        return stats.normalise(y)

    def _of_target(self, obs: Tensor, state: Tensor, actions: Tensor) -> Tensor:
        """Values [S, V] of ``actions`` [S, N, A] by the target critics (the lower of twins), on returns' scale."""
        seen = self.critics.seen(obs, state)
        found = self.critics(self.target_critic, seen, actions)
        if self.critics.twins == 2:
            found = torch.minimum(found, self.critics(self.target_critic, seen, actions, 1))
        return found if self.return_stats is None else self.return_stats.denormalise(found)

    def _others(self, partners: Reciprocity, then: View, actions: Tensor, following: Tensor) -> Tensor:
        """Values [S, N, N] by agent j's critic of what agent i's reads, i before j; ``following`` [S, N]: its own."""
        n = self.info.n_agents
        if not self.critics.own:  # all read the same
            return following.unsqueeze(1).expand(-1, n, -1)
        views = ((partners.seen_from(then.obs, i), actions[:, i : i + 1].expand_as(actions)) for i in range(n))
        return torch.stack([self._of_target(obs, then.state, taken) for obs, taken in views], dim=1)

    def target_noise(self, steps: Steps) -> Tensor | None:
        """Clipped noise [S, N, A] on the actions of targets, where there is any."""
        c, shape = self.config, steps.then.avail.shape
        if not self.info.continuous or not c.target_noise:
            return None
        noise = c.target_noise * torch.randn(shape, generator=self.generator)
        return noise.clamp(-c.target_noise_clip, c.target_noise_clip).to(steps.row.device)

    def target_actions(self, outputs: Tensor, avail: Tensor, noise: Tensor | None = None) -> Tensor:
        """The actions [S, N, A] of targets by what the target policies put out, [S, N, A]."""
        if not self.info.continuous:
            return greedy_one_hot(outputs, avail)
        actions = torch.tanh(outputs)
        if noise is not None:
            actions = (actions + noise).clamp(-1.0, 1.0)
        return torch.where(avail, actions, 0.0)

    def policy_loss(self, batch: Batch, steps: Steps, params: Tensor, noise: Tensor | None, share: Tensor) -> Tensor:
        """What the policies ``params`` [K, P] minimise: the negative values of their actions, and `reg` times their
        outputs' squares.

        Args:
            batch, steps: what is learned from.
            params: of the policies.
            noise: [S, N, A] of samples; see :meth:`policy_noise`.
            share: [S, N] what each agent's step counts.
        """
        c, avail, critic = self.config, steps.now.avail, self.critic.detach()
        seen = self.critics.seen(steps.now.obs, steps.now.state)
        outputs = self.outputs(batch, steps.now, params)
        actions = self.actions(outputs, avail, noise)
        if c.other_actions == "policies" and self.critics.n_values == 1:
            # one value of all actions, whose derivative by each agent's is that agent's own: one evaluation for all
            of_step = share.sum(1, keepdim=True)
            part = share / torch.where(of_step > 0, of_step, 1.0)
            weighted = actions.detach() + (actions - actions.detach()) * part.unsqueeze(-1)
            value = (self.critics(critic, seen, weighted) * of_step).sum()
        else:
            others = actions.detach() if c.other_actions == "policies" else self.taken(steps.actions, avail)
            value = (self.critics.of_agents(critic, seen, actions, others) * share).sum()
        return self.regularisation(batch, steps, outputs, share) - value

    def regularisation(self, batch: Batch, steps: Steps, outputs: Tensor, share: Tensor) -> Tensor:
        """What policies that put out ``outputs`` [S, N, A] minimise beside the negative values: `reg` times the squares
        of the outputs; other arguments as of :meth:`policy_loss`."""
        squares = outputs.masked_fill(~steps.now.avail, 0.0).square().mean(-1)
        return self.config.reg * (squares * share).sum()

    def policy_noise(self, steps: Steps) -> Tensor | None:
        """Gumbel noise [S, N, A] of the samples that discrete policies are improved by."""
        if self.info.continuous:
            return None
        return gumbel(torch.rand(steps.now.avail.shape, generator=self.generator)).to(steps.row.device)

    # -- policies ----------------------------------------------------------------------------------------------

    def outputs(self, batch: Batch, view: View, params: Tensor) -> Tensor:
        """What the policies ``params`` [K, P] put out at the moments of ``view``, [S, N, A]."""
        if self.mac.recurrent:
            return self.mac.all_outputs(batch, params)[view.at]
        return self.mac.evaluate(self.mac.with_extras(view.obs, view.last), params)

    def actions(self, outputs: Tensor, avail: Tensor, noise: Tensor | None) -> Tensor:
        """The policies' actions [S, N, A], of which there is a gradient; discrete ones are samples with ``noise``."""
        c = self.config
        if noise is None:
            return torch.where(avail, torch.tanh(outputs), 0.0)
        if c.gumbel == "st":
            return straight_through(outputs, avail, noise, c.gumbel_temperature)
        return gapped_straight_through(outputs, avail, noise, c.gumbel_temperature, c.gumbel_gap)

    def taken(self, actions: Tensor, avail: Tensor) -> Tensor:
        """Actions of the replay [S, N] or [S, N, D] as critics read them, [S, N, A]."""
        if self.info.continuous:
            return torch.where(avail, ((actions - self._centre) / self._half).clamp(-1.0, 1.0), 0.0)
        return one_hot(actions, self.info.n_actions, self.policy)

    def _move_copies(self) -> None:
        c, interval = self.config, self.config.target_update_interval_or_tau
        if interval < 1:
            if self.updates % c.policy_delay == 0:
                super()._move_copies()
        elif c.target_interval_unit == "updates":
            super()._move_copies()
        elif self.replay.newest - self._copied_at >= interval or self.replay.newest < self._copied_at:
            self._copied_at = self.replay.newest  # a run that resumes without its replay counts from 0 again
            for params, copy in self._copies:
                follow(copy, params, 1.0, 0)

    # -- state -------------------------------------------------------------------------------------------------

    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Yield ("policies", [K, P]) and ("critic", [C K, P])."""
        yield from super().parameters()
        yield "critic", self.critic

    def load_weights(self, state: Mapping[str, Any]) -> list[str]:
        """Take the critics' weights, where they fit, and start the target networks from all weights."""
        stored = state.get("critic")
        fits = isinstance(stored, Tensor) and stored.shape == self.critic.shape
        if fits:
            self.critic.data.copy_(stored)
        return ([] if fits else ["critic"]) + super().load_weights(state)

    def state_dict(self) -> dict[str, Any]:
        """The base class's, the critics, the scale of returns and the random stream."""
        return super().state_dict() | {
            "critic": self.critic.detach().clone(),
            "return_stats": self.return_stats.state_dict() if self.return_stats is not None else {},
            "generator": self.generator.get_state(),
            "copied_at": self._copied_at,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state back."""
        super().load_state_dict(state)
        self.critic.data.copy_(state["critic"])
        if self.return_stats is not None:
            self.return_stats.load_state_dict(state["return_stats"])
        self.generator.set_state(state["generator"])
        self._copied_at = state["copied_at"]
