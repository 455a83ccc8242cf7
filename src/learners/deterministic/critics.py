"""Critics of joint actions: Q_i(s, a_1, ..., a_N), one for the team or one for each agent, single or twin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...components.experience import EnvInfo
from ...controllers.sharing import sharing_index
from ...modules import critics
from ...modules.build import critic_networks
from ...modules.critics.v import CriticInputs, values
from ...modules.stack import Inputs
from ...utils.errors import UserError
from ...utils.schema.registry import resolve
from .config import ActionCriticConfig


class ActionCritics:
    """V action-value functions by K networks, each once or twice (C = 1 or 2): rows 0 to K - 1 of the parameters, then
    their twins.

    With a common reward and one network there is one function of the team, V = 1; otherwise V = N. A network that
    several value functions share reads a one-hot number that says whose value is asked for.

    | attribute | meaning |
    |---|---|
    | network | the networks, C K of them |
    | n_values | V |
    | index | the network of each value function, [V] |

    Args:
        config: what it reads.
        net: what the class that ``config.critic`` names reads.
        info: the environment's sizes.
        common_reward: whether all agents have the same reward.
        policies: each agent's policy network, [N].
        generator: source of the initial parameters.

    Raises:
        UserError: a critic with a memory, or a module that does not keep the contract of networks.
    """

    def __init__(
        self, config: ActionCriticConfig, net: Any, info: EnvInfo, *, common_reward: bool, policies: Sequence[int],
        generator: torch.Generator,
    ) -> None:  # fmt: skip
        n = info.n_agents
        self.own = config.critic_type == "ac_critic"
        self.all_obs = config.obs_individual_obs
        sharing = list(policies) if config.critic_sharing == "policies" else config.critic_sharing
        index = sharing_index(sharing, n, "critic_sharing")
        team = common_reward and max(index) == 0 and not self.own
        self.n_values = 1 if team else n
        self.index = index[: self.n_values]
        self.n_networks = max(self.index) + 1
        self.twins = 2 if config.twin_critic else 1
        self.ids = self.n_values if self.n_networks < self.n_values else 0
        self._index = torch.tensor(self.index) if 1 < self.n_networks < self.n_values else None
        seen = info.obs_size if self.own else info.state_size + self.all_obs * n * info.obs_size
        width = seen + info.n_actions * (1 if self.own else n) + self.ids
        inputs = Inputs(width, info.state_size, None, info.n_actions, n)
        if self.own:
            inputs = Inputs.of(width, info)
        made = resolve(critics.__name__, critics.REGISTRY, config.critic, "critic")
        self.network: Any = critic_networks(made, self.twins * self.n_networks, inputs, net, False, generator)
        if self.network.recurrent:
            raise UserError(
                f"critic={config.critic} has a memory, and critics of joint actions have none: use critic=v, or a "
                "module without `initial_hidden`."
            )

    def to(self, device: torch.device) -> ActionCritics:
        """Move the networks."""
        self.network.to(device)
        self._index = None if self._index is None else self._index.to(device)
        return self

    def seen(self, obs: Tensor, state: Tensor) -> Tensor:
        """What critics see beside actions, of obs [S, N, O] and state [S, X]: [S, X'], or obs where it is each agent's
        own."""
        if self.own:
            return obs
        return torch.cat([state, obs.flatten(-2)], dim=-1) if self.all_obs else state

    def __call__(self, params: Tensor, seen: Tensor, actions: Tensor, twin: int = 0) -> Tensor:
        """Return values [S, V] of joint actions.

        Args:
            params: [C K, P] of the networks.
            seen: see :meth:`seen`.
            actions: [S, N, A].
            twin: 0, or 1: those of the twins.
        """
        if self.own:
            return self._values(params, twin, seen[:, 0, :0], torch.cat([seen, actions], dim=-1))
        if actions.requires_grad:  # the first layer's sums have a gradient, whole rows have none
            joint = actions.flatten(1).unsqueeze(1).expand(-1, self.n_values, -1)
            return self._values(params, twin, seen, joint)
        whole = torch.cat([seen, actions.flatten(1)], dim=-1)
        return self._values(params, twin, whole, whole[:, None, :0].expand(-1, self.n_values, -1))

    def of_agents(self, params: Tensor, seen: Tensor, actions: Tensor, others: Tensor) -> Tensor:
        """Return the values [S, N] that each agent's own action has beside the others' actions, by its value function.

        Args:
            params, seen: as of :meth:`__call__`.
            actions: [S, N, A] the agents' own, of which there is a gradient.
            others: [S, N, A] the same agents' actions where they are another agent's others.
        """
        if self.own:
            return self(params, seen, actions)
        n = actions.shape[1]
        mine = torch.eye(n, dtype=torch.bool, device=actions.device).view(1, n, n, 1)
        joint = torch.where(mine, actions.unsqueeze(1), others.unsqueeze(1)).flatten(2)  # [S, N, N A]
        return self._values(params, 0, seen, joint)

    def _values(self, params: Tensor, twin: int, shared: Tensor, own: Tensor) -> Tensor:
        """Values by the columns ``shared`` [S, X], ``own`` [S, V, Y] and the numbers of value functions."""
        k = self.n_networks
        rows = params[twin * k : (twin + 1) * k]
        return values(
            self.network,
            CriticInputs(shared, own, self.ids, own.shape[1]),
            rows if self._index is None else rows[self._index],
        )
