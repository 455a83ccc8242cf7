"""QTRAN-base (Son et al. 2019, section 3.2 and eq. 4): a joint action-value function, and agents' values whose sum has
its maximum at the same joint action.

| symbol | shape | meaning |
|---|---|---|
| Q_jt(s, u) | [B, T, 1] | the joint networks' value of all actions |
| V_jt(s) | [B, T, 1] | what the sum of the agents' values lacks |
| u' | [B, T, N] | the agents' own best actions |

    L_td   = (Q_jt(s, u) - y)^2,                                       y from Q'_jt(s', u')
    L_opt  = (sum_i Q_i(u'_i) - [Q_jt(s, u')] + V_jt(s))^2              [x]: x has no gradient
    L_nopt = min(sum_i Q_i(u_i) - [Q_jt(s, u)] + V_jt(s), 0)^2

    loss = L_td + opt_loss L_opt + nopt_min_loss L_nopt
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..components.batch import Batch
from ..components.packing import Packing
from ..controllers.outputs import Rows
from ..modules.build import mixer_network
from ..modules.flat import FlatModule
from ..utils.schema.keys import key
from .q_config import QConfig, mixer_class
from .q_learner import QLearner


@dataclass(frozen=True)
class QtranConfig(QConfig):
    """Configuration of QTRAN."""

    qtran_arch: str = key(
        "What the joint action-value network reads beside the state: all agents' features with their actions, encoded "
        "and added up (qtran_paper), or their actions (coma_critic).",
        choices=("qtran_paper", "coma_critic"),
    )
    network_size: str = key("Hidden layers of the joint networks: small two, big three.", choices=("small", "big"))
    opt_loss: float = key("Weight of L_opt: the sum is right at the agents' best actions.", low=0)
    nopt_min_loss: float = key("Weight of L_nopt: the sum is not below elsewhere.", low=0)


class QtranLearner(QLearner):
    """QTRAN-base."""

    Config = QtranConfig
    config: QtranConfig
    joint = True

    def _mixer(self, source: torch.Generator) -> FlatModule | None:
        network, info, name = self.mac.network, self.info, str(self.config.mixer)
        obs = network.params.new_zeros(1, info.n_agents, info.obs_size)
        row = self.mac.with_extras(obs, obs[..., 0].long())[:, 0]
        packing = Packing.of(torch.ones(1, dtype=torch.int64, device=row.device)) if self.mac.recurrent else None
        with torch.no_grad():
            width = network.with_features(network.params[0], row, packing)[1].shape[-1]
        return mixer_network(mixer_class(name), name, info, self.config, source, info.n_actions, width)

    def outputs(self, batch: Batch | Rows, params: Tensor) -> tuple[Tensor, Tensor]:
        """Action values, and what the networks' heads read."""
        return self.mac.all_outputs_and_features(batch, params)

    def team(
        self, params: list[Tensor], q: Tensor, features: Tensor, actions: Tensor, state: Tensor,
        there: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Q_jt(s, u)."""
        assert self.mixer is not None
        joint: Tensor = self.mixer(params[1], features, actions, state)[0]
        return joint

    def further_losses(
        self, batch: Batch, params: list[Tensor], q: Tensor, features: Tensor, predicted: Tensor, mask: Tensor
    ) -> dict[str, Tensor]:
        """L_opt and L_nopt, weighted."""
        assert self.mixer is not None
        best = q.detach().masked_fill(~batch.avail, -torch.inf).argmax(-1)[:, :-1]
        q, features, state = q[:, :-1], features[:, :-1], batch.state[:, : q.shape[1] - 1]
        at_best, v = self.mixer(params[1], features, best, state)

        def total(actions: Tensor) -> Tensor:
            return q.gather(-1, actions.unsqueeze(-1)).squeeze(-1).sum(-1, keepdim=True)

        opt = total(best) - at_best.detach() + v
        nopt = (total(batch.actions) - predicted.detach() + v).clamp(max=0.0)
        c = self.config
        weighted = {"loss_opt": c.opt_loss * opt.square(), "loss_nopt": c.nopt_min_loss * nopt.square()}
        return {name: torch.where(mask, x, 0.0) for name, x in weighted.items()}
