"""The policies as they are at one moment, prepared to act at many steps."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..envs.base import EnvInfo
from ..modules.kernels.numpy_policy import Form, Inference


class Policies(Protocol):
    """The part of a controller that acting needs; see :class:`~oamarl.controllers.basic_mac.BasicMAC`."""

    info: EnvInfo
    config: Any
    network: Any
    normaliser: Any
    n_networks: int

    @property
    def device(self) -> torch.device:
        """Where the networks are."""

    def agent_params(self) -> Tensor:
        """Return the networks' parameters [K, P]."""

    def with_extras(self, obs: Tensor, last_actions: Tensor | None) -> Tensor:
        """Return observations with the last action's one-hot code and the agent's id."""


def one_hot(actions: Tensor, n_actions: int, like: Tensor) -> Tensor:
    """Actions as inputs of a network [..., A] of ``like``'s type; none (-1 or NaN) is a row of zeros.

    Args:
        actions: [...] int64, which become one-hot rows, or [..., D] continuous ones, which are taken as they are.
    """
    if actions.is_floating_point():
        return torch.where(actions.isnan(), 0.0, actions).to(like.dtype)
    return F.one_hot(actions + 1, n_actions + 1)[..., 1:].to(like.dtype)


@torch.no_grad()
def inference(mac: Policies) -> Inference:
    """Return the policies of a controller whose network is :class:`~oamarl.modules.agents.rnn.Network` itself.

    What does not change from step to step is worked out here: agents' ids only ever add the same rows to the first
    layer, and the last action one of few.
    """
    info, config, net = mac.info, mac.config, mac.network
    w = {name: x.detach().cpu() for name, x in net.layers(mac.agent_params()).items()}  # [K, ...]
    shared = mac.n_networks == 1
    parts = [info.obs_size, info.n_actions * config.obs_last_action, info.n_agents * config.obs_agent_id]
    first, last, ids = w.pop("fc1.w").split(parts, dim=1)
    bias = w.pop("fc1.b").unsqueeze(1)  # [K, 1, H]
    if config.obs_agent_id:
        bias = bias + ids if shared else bias + ids.diagonal(dim1=0, dim2=1).t().unsqueeze(1)
    elif shared:
        bias = bias.expand(-1, info.n_agents, -1)
    arrays = {name: x.transpose(1, 2) if name in ("w_ih", "w_hh") else x for name, x in w.items()} | {"first": first}
    if config.obs_last_action:
        # the last row, which -1 finds, is of zeros
        arrays["last"] = last if info.continuous else F.pad(last, (0, 0, 0, 1))
    if "free" in arrays:  # outputs that no input changes
        free = arrays.pop("free")
        arrays["head.w"] = F.pad(arrays["head.w"], (0, free.shape[-1]))
        arrays["head.b"] = torch.cat([arrays["head.b"], free], dim=-1)
    if shared:
        arrays = {name: x[0] for name, x in arrays.items()}
    arrays["bias"] = bias[0] if shared else bias[:, 0]
    if mac.normaliser is not None:
        arrays["mean"], arrays["std"] = mac.normaliser.scale()
    form = Form(shared, net.recurrent, "relu" if net.activation is torch.relu else "tanh")
    return Inference(form, {name: x.contiguous().cpu().numpy() for name, x in arrays.items()})


class TorchNetwork:
    """Networks of any class at one time step: all agents of all slots in one call of torch, in the main process.

    Args:
        mac: the controller; later changes of its parameters may or may not be seen.
    """

    @torch.no_grad()
    def __init__(self, mac: Policies) -> None:
        self.mac, self.shared = mac, mac.n_networks == 1
        layers = {name: x.detach() for name, x in mac.network.layers(mac.agent_params()).items()}
        self.w = {name: x[0] for name, x in layers.items()} if self.shared else layers

    @torch.no_grad()
    def __call__(self, obs: np.ndarray, last: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the outputs [B, N, P] and the next hidden state [B, N, H]; see :class:`Inference`."""
        mac, shape = self.mac, obs.shape[:2]
        seen = torch.from_numpy(obs).to(mac.device)
        x = mac.with_extras(seen if mac.normaliser is None else mac.normaliser.obs(seen), torch.from_numpy(last))
        state = torch.from_numpy(hidden).to(mac.device)
        if self.shared:
            x, state = x.flatten(0, 1), state.flatten(0, 1)
        else:
            x, state = x.transpose(0, 1), state.transpose(0, 1)
        out, state = mac.network.step(self.w, x, state)
        if self.shared:
            out, state = out.unflatten(0, shape), state.unflatten(0, shape)
        else:
            out, state = out.transpose(0, 1), state.transpose(0, 1)
        return out.cpu().numpy(), state.cpu().numpy()
