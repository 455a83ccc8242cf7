"""The policies as they are at one moment, prepared to act at many steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..components.distributions import MaskedCategorical, gumbel

if TYPE_CHECKING:
    from .basic_mac import BasicMAC

#: steps whose noise is drawn at once
_BLOCK = 32


def one_hot(actions: Tensor, n_actions: int, like: Tensor) -> Tensor:
    """Actions [...] int64 as one-hot rows [..., A] of ``like``'s type; -1 (none) is a row of zeros."""
    return F.one_hot(actions + 1, n_actions + 1)[..., 1:].to(like.dtype)


class Actor:
    """All agents of all slots in one network call.

    What does not change from step to step is worked out here: the layers' views, and the agents' ids, which only ever
    add the same rows to the first layer.

    Args:
        mac: the controller; later changes of its parameters may or may not be seen.
        n_slots: B.
    """

    @torch.no_grad()
    def __init__(self, mac: BasicMAC, n_slots: int) -> None:
        info, config = mac.info, mac.config
        self.network, self.normaliser = mac.network, mac.normaliser
        self.shared = mac.n_networks == 1
        self.last_actions = info.n_actions if config.obs_last_action else 0
        seen = info.obs_size + self.last_actions
        w = {name: x.detach() for name, x in mac.network.layers(mac.thetas()).items()}
        self.first, bias = w["fc1.w"][:, :seen], w["fc1.b"].unsqueeze(1)  # [K, I, H], [K, 1, H]
        ids = w["fc1.w"][:, seen:]
        if self.shared:
            bias = (bias + ids if config.obs_agent_id else bias.expand(-1, info.n_agents, -1)).repeat(1, n_slots, 1)
            w = {name: x[0] for name, x in w.items()}
            self.first, bias = self.first[0], bias[0]
        elif config.obs_agent_id:
            bias = bias + ids.diagonal(dim1=0, dim2=1).t().unsqueeze(1)
        self.w, self.bias = w, bias

    @torch.no_grad()
    def __call__(
        self, obs: Tensor, avail: Tensor, last_actions: Tensor, hidden: Tensor
    ) -> tuple[MaskedCategorical, Tensor]:
        """Return the policies [B, N] and the next hidden state [B, N, H].

        Args:
            obs: [B, N, O].
            avail: [B, N, A] bool.
            last_actions: [B, N] int64, -1 at an episode's first step.
            hidden: [B, N, H].
        """
        x = obs if self.normaliser is None else self.normaliser.obs(obs)
        if self.last_actions:
            x = torch.cat([x, one_hot(last_actions, self.last_actions, x)], dim=-1)
        if self.shared:
            out, state = self.network.step_from(
                self.w, torch.addmm(self.bias, x.flatten(0, 1), self.first), hidden.flatten(0, 1)
            )
            return MaskedCategorical(out.view(avail.shape), avail), state.view(hidden.shape)
        out, state = self.network.step_from(
            self.w, torch.baddbmm(self.bias, x.transpose(0, 1), self.first), hidden.transpose(0, 1)
        )
        return MaskedCategorical(out.transpose(0, 1), avail), state.transpose(0, 1)


class Noise:
    """Gumbel noise for one step after another, drawn in blocks and as if it had been drawn step by step.

    Args:
        generator: where it comes from; :meth:`settle` leaves it where step-by-step draws would have.
        shape: of a step's noise, [B, N, A].
    """

    def __init__(self, generator: torch.Generator, shape: tuple[int, ...], device: torch.device) -> None:
        self.generator, self.shape, self.device = generator, shape, device
        self._left: list[Tensor] = []

    def __call__(self) -> Tensor:
        """Return a step's noise."""
        if not self._left:
            self._before = self.generator.get_state()
            drawn = gumbel(torch.rand(_BLOCK, *self.shape, generator=self.generator))
            self._left = list(drawn.to(self.device).unbind(0))[::-1]
        return self._left.pop()

    def settle(self) -> None:
        """Give back what was drawn and not used."""
        if self._left:
            self.generator.set_state(self._before)
            torch.rand(_BLOCK - len(self._left), *self.shape, generator=self.generator)
            self._left = []
