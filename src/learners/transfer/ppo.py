"""MAPTF on PPO: MAPPO whose agents also move towards the policies that their options follow.

Yang et al. 2021 (MAPTF-PPO); options: :mod:`oamarl.learners.transfer.options`. Beside PPO's loss agent i minimises

    c w(t) mean over its steps of  KL( mu_o(.|s_i) || pi_i(.|s_i) )        o: the option that it follows; 0 where o = i

with the acting policies mu under agent i's legal actions. The authors' program has the cross-entropy, which differs by
a number that no parameter of pi_i changes. Options are chosen for each batch as it comes, kept with it in a replay of
their own, and learned from that after PPO's update. With `transfer_coef` 0 policies and critics are MAPPO's, bit for
bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...components.batch import Batch
from ...components.generators import generator
from ...components.replay import Replay
from ...components.updates.samples import Samples
from ...controllers.basic_mac import BasicMAC
from ...envs.base import EnvInfo
from ...modules.agents.rnn import NetworkConfig
from ...modules.heads import Policy
from ...utils.schema.keys import key
from ..off_policy import check_room
from ..on_policy import ClipConfig, Iteration
from ..ppo import PPOLearner
from ..value.targets import scaled_rewards
from .options import OptionConfig, Options, check
from .state import WithOptions
from .transitions import AGREE, HELD, Transitions


@dataclass(frozen=True)
class MAPTFPPOConfig(OptionConfig, ClipConfig):
    """Configuration of MAPTF on PPO."""

    option_buffer_size: int = key("Episodes (or segments) that options are learned from; the oldest go first.", low=1)
    option_updates: int = key("Updates of the options after each batch.", low=1)


@dataclass(frozen=True)
class Followed:
    """What the policies of one iteration move towards.

    | field | shape | meaning |
    |---|---|---|
    | outputs | [S, N, P] | raw outputs of the policy that each agent follows, on its own inputs |
    | avail | [S, N, A] bool | the agent's legal actions |
    | other | [S, N] bool | it is another agent's |
    | weight | | c w(t) |
    """

    outputs: Tensor
    avail: Tensor
    other: Tensor
    weight: float


class MAPTFPPOLearner(WithOptions, PPOLearner):
    """MAPPO, or IPPO, with transfer between the agents' policies."""

    Config = MAPTFPPOConfig
    config: MAPTFPPOConfig
    repeats = False

    def __init__(
        self, config: MAPTFPPOConfig, net: NetworkConfig, mac: BasicMAC, info: EnvInfo, *, common_reward: bool,
        device: torch.device, seed: int,
    ) -> None:  # fmt: skip
        super().__init__(config, net, mac, info, common_reward=common_reward, device=device, seed=seed)
        self.options = Options(
            config, info, gamma=config.gamma, clip=config.grad_norm_clip, eps=config.optim_eps, device=device, seed=seed
        )
        self.replay = Replay(
            config.option_buffer_size, info.episode_limit, generator(seed, "option replay"), device, transitions=True
        )
        self._followed: Followed | None = None

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse agents that cannot follow one another, and a replay of options that memory has no room for.

        Raises:
            UserError: naming the keys.
        """
        super().check(values, info)
        check(values, info)
        limit = info.episode_limit
        limit = min(limit, values["rollout_length"]) if values["runner"] == "rollout" else limit
        check_room(values["option_buffer_size"], limit, info, "option_buffer_size")

    def train(self, batch: Batch, t_env: int) -> tuple[dict[str, float], dict[str, Any]]:
        """One iteration of PPO on ``batch`` with its transfer, and `option_updates` updates of the options."""
        scalars, arrays = super().train(batch, t_env)
        self._followed = None
        found: dict[str, list[float]] = {}
        if self.replay.can_draw(self.config.option_batch_size):
            for _ in range(self.config.option_updates):
                for name, value in self.options.update(self._drawn()).items():
                    found.setdefault(name, []).append(value)
        return scalars | self._scalars | {name: float(np.mean(x)) for name, x in found.items()}, arrays

    def begin_iteration(self, batch: Batch, t_env: int) -> Iteration:
        """PPO's, and whom the agents follow; the batch goes into the options' replay with it."""
        it = super().begin_iteration(batch, t_env)
        samples, n = it.samples, self.info.n_agents
        held = self.options.held(self.mac.standardised(batch), t_env)
        of_step = held[batch.filled]  # [S, N]
        outputs = self.outputs_of_all(samples)
        agree = self.agreeing(samples, outputs, of_step)
        index = of_step[..., None, None].expand(-1, -1, 1, outputs.shape[-1])
        other = (of_step != torch.arange(n, device=of_step.device)) & samples.valid
        self._followed = Followed(outputs.gather(2, index).squeeze(2), samples.avail, other, self.options.weight(t_env))
        agrees = torch.zeros(*held.shape, n, dtype=torch.bool, device=held.device)
        agrees[batch.filled] = agree
        self.replay.add(replace(batch, extra={**batch.extra, HELD: held, AGREE: agrees}))
        apart = torch.where(other, self._distance(outputs.diagonal(dim1=1, dim2=2).transpose(1, 2)), 0.0)
        self._scalars = {
            "transfer_kl": float(apart.sum() / other.sum().clamp(min=1)), "transfer_weight": self._followed.weight,
            "option_other_frac": float(other.sum() / samples.valid.sum().clamp(min=1)),
            "option_agree_frac": float(agree[samples.valid].float().mean()) if bool(samples.valid.any()) else 0.0,
        }  # fmt: skip
        return it

    @torch.no_grad()
    def outputs_of_all(self, samples: Samples) -> Tensor:
        """What all agents' policies, as they are, put out on each agent's inputs: [S, N, K, P], the policy last."""
        x = samples.inputs
        found = [self.mac.network.single(params, x.flatten(0, 1)) for params in self.mac.network.params]
        return torch.stack(found, dim=1).unflatten(0, x.shape[:2])

    def agreeing(self, samples: Samples, outputs: Tensor, held: Tensor) -> Tensor:
        """The options [S, N, K] bool that agree with the actions taken: ``held`` [S, N], and policies whose most
        likely action it is; of continuous actions, whose mean it is within one deviation of in every dimension."""
        n = self.info.n_agents
        of_all = self.mac.distribution(outputs, samples.avail.unsqueeze(2).expand(-1, -1, n, -1))
        taken = samples.actions.unsqueeze(2)
        if self.info.continuous:
            mean, log_std = of_all.params.chunk(2, dim=-1)
            near = (taken - mean).abs() <= log_std.exp()
            agree = (near | ~samples.avail.unsqueeze(2)).all(-1)
        else:
            agree = of_all.mode() == taken
        return agree | (held.unsqueeze(-1) == torch.arange(n, device=held.device))

    def further_loss(self, policy: Policy, at: Any, weight: Tensor) -> Tensor | None:
        """c w(t) KL to the followed policies at the steps ``at``; see :meth:`PPOLearner.further_loss`."""
        followed = self._followed
        if followed is None or not followed.weight:
            return None
        towards = self.mac.distribution(followed.outputs[at], followed.avail[at])
        return followed.weight * torch.where(followed.other[at], towards.kl(policy) * weight, 0.0).sum()

    def _distance(self, outputs: Tensor) -> Tensor:
        """KL [S, N] of the followed policies to those that put out ``outputs`` [S, N, P]."""
        followed = self._followed
        assert followed is not None
        towards = self.mac.distribution(followed.outputs, followed.avail)
        return towards.kl(self.mac.distribution(outputs, followed.avail))

    def _drawn(self) -> Transitions:
        """Transitions of the options' replay, on the scales that networks and critics learn from."""
        drawn = self.mac.standardised(self.replay.draw_transitions(self.config.option_batch_size).batch)
        stats, reward = self.value.reward_stats, drawn.reward
        if stats is not None:
            reward = scaled_rewards(self.config, stats, reward)
        return Transitions.of(drawn, reward, 1)
