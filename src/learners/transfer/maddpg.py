"""MAPTF on MADDPG: deterministic policies that also move towards the policies that their options follow.

Yang et al. 2021 (MAPTF-MADDPG); options: :mod:`oamarl.learners.transfer.options`. Beside MADDPG's loss agent i
minimises

    c w(t) mean over its steps of  KL( mu_o(.|s_i) || mu_i(.|s_i) )        o: the option that it follows; 0 where o = i
                                   |mu_o(s_i) - mu_i(s_i)|^2               of continuous actions

by the policies as they are, mu_o held fixed. Options are chosen for each batch as it comes and kept with it in the
replay; they are learned from steps that MADDPG draws. An option agrees with a discrete action if its policy would
have chosen it; with a continuous one if it is followed, alone. The authors' program feeds this loss as a number, which
no gradient passes, and mixes the followed policy into the acting one instead; this is the paper's loss. With
`transfer_coef` 0 policies and critics are MADDPG's, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...components.batch import Batch
from ...controllers.basic_mac import BasicMAC
from ...envs.base import EnvInfo
from ...modules.agents.rnn import NetworkConfig
from ..deterministic.config import MADDPGConfig
from ..deterministic.maddpg import MADDPGLearner
from ..deterministic.steps import Steps
from .options import OptionConfig, Options, check
from .state import WithOptions
from .transitions import AGREE, HELD, Transitions


@dataclass(frozen=True)
class MAPTFMADDPGConfig(OptionConfig, MADDPGConfig):
    """Configuration of MAPTF on MADDPG."""


class MAPTFMADDPGLearner(WithOptions, MADDPGLearner):
    """MADDPG, or MATD3, with transfer between the agents' policies."""

    Config = MAPTFMADDPGConfig
    config: MAPTFMADDPGConfig

    def __init__(
        self, config: MAPTFMADDPGConfig, net: NetworkConfig, mac: BasicMAC, info: EnvInfo, *, common_reward: bool,
        device: torch.device, seed: int,
    ) -> None:  # fmt: skip
        super().__init__(config, net, mac, info, common_reward=common_reward, device=device, seed=seed)
        self.options = Options(
            config, info, gamma=config.gamma, clip=config.grad_norm_clip, eps=config.optim_eps, device=device, seed=seed
        )

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse agents that cannot follow one another.

        Raises:
            UserError: naming the keys.
        """
        super().check(values, info)
        check(values, info)

    def train(self, batch: Batch, t_env: int) -> tuple[dict[str, float], dict[str, Any]]:
        """MADDPG's, with the options that agents follow in ``batch``."""
        seen = self.mac.standardised(batch)
        held = self.options.held(seen, t_env)
        extra = {**batch.extra, HELD: held, AGREE: self.agreeing(seen, held)}
        return super().train(replace(batch, extra=extra), t_env)

    @torch.no_grad()
    def agreeing(self, batch: Batch, held: Tensor) -> Tensor:
        """The options [B, T, N, K] bool that agree with the actions of a standardised batch: ``held`` [B, T, N], and
        of discrete actions the policies that would have chosen them."""
        n = self.info.n_agents
        agree = held.unsqueeze(-1) == torch.arange(n, device=held.device)
        if self.info.continuous:
            return agree
        x, steps = self.mac.inputs(batch), held.shape[1]
        outputs = torch.stack([self.mac.network.single(p, x.flatten(0, 2)) for p in self.policy.detach()], dim=1)
        avail = batch.avail[:, :steps].flatten(0, 2).unsqueeze(1)
        likeliest = outputs.masked_fill(~avail, -torch.inf).argmax(-1).view(agree.shape)
        return agree | ((likeliest == batch.actions.unsqueeze(-1)) & batch.filled[..., None, None])

    def update(self, batch: Batch, weight: Tensor) -> tuple[dict[str, float], Tensor]:
        """MADDPG's, and one of the options on the first of the same steps."""
        found, priority = super().update(batch, weight)
        steps = self.config.replay_steps or batch.actions.shape[1]
        seen = Transitions.of(batch, batch.reward, steps).first(self.config.option_batch_size)
        other = (seen.held != torch.arange(self.info.n_agents, device=seen.held.device)) & seen.valid
        found["option_other_frac"] = float(other.sum() / seen.valid.sum().clamp(min=1))
        found["transfer_weight"] = self.options.weight(self._t_env)
        return found | self.options.update(seen), priority

    def regularisation(self, batch: Batch, steps: Steps, outputs: Tensor, share: Tensor) -> Tensor:
        """MADDPG's, and c w(t) times the distance to the policies that are followed."""
        value, weight = super().regularisation(batch, steps, outputs, share), self.options.weight(self._t_env)
        if not weight:
            return value
        return value + weight * (self.distance(steps, outputs, batch.extra[HELD][steps.now.at]) * share).sum()

    def distance(self, steps: Steps, outputs: Tensor, held: Tensor) -> Tensor:
        """The distances [S, N] of what the policies put out, ``outputs`` [S, N, A], to the policies ``held`` [S, N]; 0
        where an agent follows itself."""
        view = steps.now
        with torch.no_grad():
            x, towards = self.mac.with_extras(view.obs, view.last), outputs.detach().clone()
            for k, params in enumerate(self.policy.detach()):
                at = (held == k).nonzero(as_tuple=True)
                towards[at] = self.mac.network.single(params, x[at])
        if self.info.continuous:
            apart = torch.where(view.avail, torch.tanh(towards) - torch.tanh(outputs), 0.0).square().sum(-1)
        else:
            apart = self.mac.distribution(towards, view.avail).kl(self.mac.distribution(outputs, view.avail))
        other = held != torch.arange(self.info.n_agents, device=held.device)
        return torch.where(other, apart, 0.0)
