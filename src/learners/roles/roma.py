"""ROMA: QMIX whose agents act by roles, random numbers of what they observe, which draw their last layer.

ROMA (Wang et al. 2020) with the settings of its authors' program; networks: :mod:`oamarl.modules.agents.roles`, losses:
:mod:`oamarl.learners.roles.losses`. An update minimises

    mean( delta^2 + L_I + c L_D )        delta: QMIX's TD errors with rho_i ~ p(rho | o_i) for the networks

Targets and actions are those of the roles' means. With `role_entropy_coef`, `role_kl_coef` and `role_dis_coef` 0 it is
QMIX with this network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...components.batch import Batch
from ...components.generators import generator
from ...controllers.basic_mac import BasicMAC
from ...controllers.outputs import Rows, all_features
from ...envs.base import EnvInfo
from ...modules.agents.module import ModuleStack
from ...modules.agents.rnn import NetworkConfig
from ...utils.errors import UserError
from ...utils.schema.keys import key
from ..q_config import QConfig
from ..q_learner import QLearner
from .losses import identifiability, log_densities, specialisation

#: roles are kept for pictures so often in a run, at so many steps
_PICTURES, _STEPS = 100, 64


@dataclass(frozen=True)
class ROMAConfig(QConfig):
    """Configuration of ROMA."""

    role_var_floor: float = key("ROMA: least variance of a role's numbers.", above=0)
    role_entropy_coef: float = key("ROMA: weight of the entropy of roles, in the loss of identifiable roles.", low=0)
    role_kl_coef: float = key("ROMA: weight of their divergence from what behaviour tells of them, there.", low=0)
    role_dis_coef: float = key("ROMA: weight of the loss of specialised roles.", low=0)
    role_soft_coef: float = key("ROMA: weight of the condition in it that agents share a role or are unlike.", low=0)


class ROMALearner(QLearner):
    """QMIX with roles; agents share one network."""

    Config = ROMAConfig
    config: ROMAConfig

    def __init__(
        self, config: ROMAConfig, net: NetworkConfig, mac: BasicMAC, info: EnvInfo, *, common_reward: bool,
        device: torch.device, seed: int,
    ) -> None:  # fmt: skip
        super().__init__(config, net, mac, info, common_reward=common_reward, device=device, seed=seed)
        network = mac.network
        if not (isinstance(network, ModuleStack) and callable(getattr(network.module, "unlike", None))):
            raise UserError(
                "ROMA needs a network of roles: use agent=roma, or a module with its methods features, values and "
                "unlike."
            )
        self.network = network
        self.role_dim = int(network.module.role_dim)  # type: ignore[arg-type]
        self.generator = generator(seed, "roles")
        self._noise: Tensor | None = None  # [B, T+1, N, D] of the draw that is learned from
        self._shown: dict[str, Tensor] = {}
        self._kept_at = -config.t_max

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse networks of the agents' own.

        Raises:
            UserError: naming the key.
        """
        super().check(values, info)
        if values["sharing"] != "shared":
            raise UserError(
                "ROMA's agents share one network, in which their roles tell them apart: use sharing=shared."
            )

    def train(self, batch: Batch, t_env: int) -> tuple[dict[str, float], dict[str, Any]]:
        """QMIX's; a hundred times a run also the roles of some steps, ``roles``: means and deviations [S, N, D]."""
        found, _ = super().train(batch, t_env)
        if self._shown and t_env - self._kept_at >= self.config.t_max / _PICTURES:
            self._kept_at = t_env
            return found, {"roles": {name: x.cpu().numpy() for name, x in self._shown.items()}}
        return found, {}

    def update(self, batch: Batch, weight: Tensor) -> tuple[dict[str, float], Tensor]:
        """QMIX's update with drawn roles and the losses on them."""
        shape = *batch.obs.shape[:3], self.role_dim
        self._noise = torch.randn(shape, generator=self.generator).to(batch.obs.device)
        return super().update(batch, weight)

    def _cuts(self, batch: Batch) -> list[slice]:
        """One part: its roles are drawn together."""
        return [slice(0, len(batch.filled))]

    def outputs(self, batch: Batch | Rows, params: Tensor) -> tuple[Tensor, Tensor]:
        """Action values [B, T+1, N, A] of drawn roles, and of roles the means, variances, the same of what behaviour
        tells, and the roles themselves, [B, T+1, N, 5 D]."""
        d, found = self.role_dim, all_features(self.mac, batch, params)
        mean, log_var, guess, guess_log_var, state = found.split([d, d, d, d, found.shape[-1] - 4 * d], dim=-1)
        var, guess_var = (x.exp().clamp(min=self.config.role_var_floor) for x in (log_var, guess_log_var))
        assert self._noise is not None
        role = mean + var.sqrt() * self._noise
        x = torch.cat([role, state], dim=-1)
        q = self.network.by_method("values", params[0], x.flatten(0, -2)).unflatten(0, x.shape[:-1])
        return q, torch.cat([mean, var, guess, guess_var, role], dim=-1)

    @torch.no_grad()
    def _target_outputs(self, batch: Batch | Rows) -> tuple[Tensor, Tensor]:
        """Action values by the means of the target network's roles."""
        q = self.mac.all_outputs(batch, self.target_params[0])
        return q, q

    def further_losses(
        self, batch: Batch, params: list[Tensor], q: Tensor, features: Tensor, predicted: Tensor, mask: Tensor
    ) -> dict[str, Tensor]:
        """L_I and c L_D at each step, [B, T, 1]; see :meth:`QLearner.further_losses`."""
        c, valid = self.config, batch.valid
        mean, var, guess, guess_var, role = features[:, :-1].chunk(5, dim=-1)
        # rows that are not there have no roles: any will do, and their numbers stay finite
        somewhere = valid.unsqueeze(-1)
        var, guess_var = (torch.where(somewhere, x, 1.0) for x in (var, guess_var))
        told = identifiability((mean, var), (guess, guess_var), valid, c.role_entropy_coef, c.role_kl_coef)
        information = log_densities(mean, var, role)
        apart = specialisation(information, self.unlike(params[0], role), valid, c.role_soft_coef)
        self._keep(mean, var, batch)
        losses = {"role_info_loss": told, "role_dis_loss": c.role_dis_coef * apart}
        return {name: torch.where(mask, x.unsqueeze(-1), 0.0) for name, x in losses.items()}

    def unlike(self, params: Tensor, roles: Tensor) -> Tensor:
        """How unlike the roles [..., N, D] of two agents are, [..., N, N], by the network ``params`` [K, P]."""
        n = roles.shape[-2]
        own = roles.unsqueeze(-2).expand(*roles.shape[:-1], n, -1)
        pairs = torch.cat([own, own.transpose(-2, -3)], dim=-1)
        return self.network.by_method("unlike", params[0], pairs.flatten(0, -2)).view(pairs.shape[:-1])

    def _keep(self, mean: Tensor, var: Tensor, batch: Batch) -> None:
        """Note the roles of some of a draw's steps, NaN for agents that take no decision there."""
        at = batch.filled.nonzero(as_tuple=True)
        chosen = torch.linspace(0, len(at[0]) - 1, min(_STEPS, len(at[0]))).long()
        at = at[0][chosen.to(at[0].device)], at[1][chosen.to(at[1].device)]
        valid = batch.valid[at].unsqueeze(-1)
        kept = {"mean": mean.detach()[at], "deviation": var.detach()[at].sqrt()}
        self._shown = {name: torch.where(valid, x, torch.nan) for name, x in kept.items()}

    # -- state -------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """QMIX's, the random stream of roles, and when they were last kept."""
        return super().state_dict() | {"roles": self.generator.get_state(), "roles_kept_at": self._kept_at}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state back."""
        super().load_state_dict(state)
        self.generator.set_state(state["roles"])
        self._kept_at = state["roles_kept_at"]
