"""The policies as they are at one moment, prepared to act at many steps."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..components.distributions import gumbel
from ..components.experience import action_shape, no_action
from ..envs.base import EnvInfo
from ..modules.acting import Actor
from ..modules.device_selectors import WithTable, device_selector
from ..modules.kernels.numpy_policy import Form, Inference
from ..modules.selector_contract import Context, Selector


class Policies(Protocol):
    """The part of a controller that acting needs; see :class:`~oamarl.controllers.basic_mac.BasicMAC`."""

    info: EnvInfo
    config: Any
    network: Any
    normaliser: Any
    feature_normaliser: Any
    n_networks: int

    @property
    def device(self) -> torch.device:
        """Where the networks are."""

    def agent_params(self) -> Tensor:
        """Return the networks' parameters [K, P]."""

    def seen(self, obs: Tensor) -> Tensor:
        """Return observations [..., N, O] on the scales that networks read them on."""

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


def act(
    actor: Actor, obs: Tensor, avail: Tensor, last_actions: Tensor, hidden: Tensor, uniform: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose actions for all agents of B slots as in a test.

    Args:
        actor: chooses.
        obs: [B, N, O].
        avail: [B, N, A] bool.
        last_actions: [B, N] int64, -1 at an episode's first step, or [B, N, D], NaN there (:func:`no_actions`).
        hidden: [B, N, H].
        uniform: [B, N, W] noise in [0, 1) of the actor's width W (A or D as a rule); None for greedy actions.

    Returns:
        actions [B, N] (or [B, N, D]), their log-probabilities [B, N], the next hidden state [B, N, H].
    """
    seen, legal, last, state = (x.detach().cpu().numpy() for x in (obs, avail, last_actions, hidden))
    noise = None if uniform is None else _noise(actor.noise, uniform).cpu().numpy()
    with np.errstate(over="ignore"):
        chosen = actor(seen, legal, last, state, noise, Context(test=True, greedy=uniform is None))
    actions, log_prob, following = (torch.from_numpy(np.asarray(x)) for x in chosen)
    return actions, log_prob, following


def _noise(kind: str | None, uniform: Tensor) -> Tensor:
    """Noise of the kind that an actor needs from ``uniform`` noise in [0, 1)."""
    if kind == "gumbel":
        return gumbel(uniform)
    if kind == "normal":
        return torch.special.ndtri(uniform.clamp(1e-7, 1.0 - 1e-7))
    return uniform


def no_actions(info: EnvInfo, n_slots: int) -> Tensor:
    """Return the last actions before the first step, [B, N] int64 of -1 or [B, N, D] of NaN."""
    shape, dtype = action_shape(info)
    return torch.full((n_slots, *shape), no_action(info), dtype=getattr(torch, dtype))


@torch.no_grad()
def policy_arrays(mac: Policies) -> tuple[Form, dict[str, Tensor]]:
    """Return the policies of a controller whose network is :class:`~oamarl.modules.agents.rnn.Network` itself, as
    :class:`~oamarl.modules.kernels.numpy_policy.Inference` takes them, where they are.

    What does not change from step to step is worked out here: agents' ids only ever add the same rows to the first
    layer, and the last action one of few.
    """
    info, config, net = mac.info, mac.config, mac.network
    w = {name: x.detach() for name, x in net.layers(mac.agent_params()).items()}  # [K, ...]
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
    features = None if mac.feature_normaliser is None else mac.feature_normaliser.obs_sizes
    form = Form(shared, net.recurrent, "relu" if net.activation is torch.relu else "tanh", features)
    return form, {name: x.contiguous() for name, x in arrays.items()}


def inference(mac: Policies) -> Inference:
    """Return :func:`policy_arrays` in numpy, for acting on the CPU."""
    form, arrays = policy_arrays(mac)
    return Inference(form, {name: x.cpu().numpy() for name, x in arrays.items()})


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
        given = (torch.from_numpy(x).to(self.mac.device) for x in (obs, last, hidden))
        out, state = self.evaluate(*given)
        return out.cpu().numpy(), state.cpu().numpy()

    def evaluate(self, obs: Tensor, last: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The same of tensors, where the networks are."""
        mac, shape = self.mac, obs.shape[:2]
        x, state = mac.with_extras(mac.seen(obs), last), hidden
        if self.shared:
            x, state = x.flatten(0, 1), state.flatten(0, 1)
        else:
            x, state = x.transpose(0, 1), state.transpose(0, 1)
        out, state = mac.network.step(self.w, x, state)
        if self.shared:
            return out.unflatten(0, shape), state.unflatten(0, shape)
        return out.transpose(0, 1), state.transpose(0, 1)


class DeviceActor:
    """The policies at one moment as functions of tensors, for slots that live where the networks are.

    Args:
        mac: the controller.
        network: (obs, last actions, hidden) -> outputs, the next hidden state; tensors.
        selector: how actions are chosen.

    Raises:
        UserError: the selector is written in numpy.
    """

    def __init__(self, mac: Policies, network: Any, selector: Selector) -> None:
        self.network, self.noise, self.width = network, selector.noise, selector.width(mac.info.n_actions)
        self._select = device_selector(selector, mac.config.action_selector, mac.device)
        self._n_actions, self._device = mac.info.n_actions, mac.device

    def prepare(self, context: Context) -> None:
        """Copy to the device what the calls of a batch need there."""
        if isinstance(self._select, WithTable):
            self._select.prepare(context, self._n_actions, self._device)

    def __call__(
        self, obs: Tensor, avail: Tensor, last_actions: Tensor, hidden: Tensor, noise: Tensor | None, context: Context
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Choose actions for all agents of B slots; arguments and results as of
        :class:`~oamarl.modules.acting.Actor`, as tensors."""
        outputs, following = self.network(obs, last_actions, hidden)
        return *self._select(outputs, avail, noise, context), following
