"""Critics of states and of actions: their inputs, and the evaluation of feed-forward ones.

The built-in network multiplies what all agents share by its weights only once; others take whole rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...utils.schema.keys import key
from ..agents.initial import INIT_DOC, INITS, LAYER_NORM_DOC
from ..agents.rnn import Network
from ..options import ModuleConfig
from ..stack import Stack


@dataclass(frozen=True)
class VNetworkConfig(ModuleConfig):
    """Configuration of the built-in critic's architecture."""

    init: str = key(INIT_DOC, choices=INITS)
    layer_norm: bool = key(LAYER_NORM_DOC)


class VNetwork(Network):
    """The built-in critic: the network of :mod:`oamarl.modules.agents.rnn` with one output."""

    Config = VNetworkConfig  # type: ignore[assignment]


@dataclass(frozen=True)
class CriticInputs:
    """Inputs [..., V, I] of V value functions, kept in parts; the columns I are those of the parts, in this order.

    | field | shape | meaning |
    |---|---|---|
    | shared | [..., S] | what all of them see |
    | own | [..., V, O] | what each sees alone |
    | ids | V, or 0 | a one-hot number of each, V columns |
    | n_values | V | number of value functions |
    """

    shared: Tensor
    own: Tensor
    ids: int
    n_values: int

    @property
    def width(self) -> int:
        """I."""
        return self.shared.shape[-1] + self.own.shape[-1] + self.ids

    @property
    def alike(self) -> bool:
        """Whether nothing tells the value functions apart: one network has one value for all then."""
        return not (self.own.shape[-1] or self.ids)

    def __len__(self) -> int:
        return len(self.shared)

    def __getitem__(self, index: Any) -> CriticInputs:
        return CriticInputs(self.shared[index], self.own[index], self.ids, self.n_values)

    def numbers(self) -> list[Tensor]:
        """The one-hot numbers [..., V, V], if there are any."""
        if not self.ids:
            return []
        return [torch.eye(self.ids, dtype=self.own.dtype, device=self.own.device).expand(*self.own.shape[:-1], -1)]

    def rows(self) -> CriticInputs:
        """All leading dimensions as one."""
        return CriticInputs(self.shared.flatten(0, -2), self.own.flatten(0, -3), self.ids, self.n_values)

    def assembled(self) -> Tensor:
        """Whole rows [..., V, I]."""
        shared = self.shared.unsqueeze(-2).expand(*self.own.shape[:-1], -1)
        return torch.cat([shared, self.own, *self.numbers()], dim=-1)


def values(network: Stack, inputs: CriticInputs, params: Tensor | None = None) -> Tensor:
    """Return values [..., V] by one feed-forward network of one output for all or by V networks.

    ``params`` [K, P]: the parameters to take; None: as they are.
    """
    return outputs(network, inputs, params).squeeze(-1)


def outputs(network: Stack, inputs: CriticInputs, params: Tensor | None = None) -> Tensor:
    """Return what the networks of V value functions put out, [..., V, A]; arguments as of :func:`values`."""
    params = network.params if params is None else params
    lead, x = inputs.shared.shape[:-1], inputs.rows()
    if not isinstance(network, Network):
        out = _by_rows(network, x, params)
        return out.reshape(*lead, *out.shape[1:])
    s, o = x.shared.shape[-1], x.own.shape[-1]
    of_inputs = x.own.requires_grad or x.shared.requires_grad  # which compiled networks do not differentiate
    if len(params) == 1 and not (s and (o or x.ids)) and not of_inputs:  # nothing to multiply only once
        rows = x.shared if s else torch.cat([x.own, *x.numbers()], dim=-1).flatten(0, 1)
        out = network.single(params[0], rows)
        out = out.view(*lead, 1 if s else x.own.shape[1], out.shape[-1])
        return out.expand(*lead, x.n_values, -1)  # where nothing tells the agents apart, they have one value
    w = network.layers(params if len(params) > 1 else params[0])
    weight, bias = w["fc1.w"], w["fc1.b"]
    if len(params) == 1:
        first = torch.addmm(bias, x.shared, weight[:s]).unsqueeze(1)  # [R, 1, H]
        if o:
            first = first + x.own @ weight[s : s + o]
        if x.ids:
            first = first + weight[s + o :]
        out = network.after_first(params[0], first.expand(-1, x.n_values, -1).flatten(0, 1))
        return out.view(*lead, x.n_values, out.shape[-1])
    first = torch.baddbmm(bias.unsqueeze(1), x.shared.expand(len(weight), *x.shared.shape), weight[:, :s])  # [K, R, H]
    if o:
        first = torch.baddbmm(first, x.own.transpose(0, 1), weight[:, s : s + o])
    if x.ids:
        first = first + weight[:, s + o :].diagonal(dim1=0, dim2=1).t().unsqueeze(1)
    out = network.after_first(params, first).transpose(0, 1)
    return out.reshape(*lead, *out.shape[1:])


def _by_rows(network: Stack, x: CriticInputs, params: Tensor) -> Tensor:
    """Outputs [R, V, A] on rows by any network."""
    if len(params) > 1:
        return network.stacked(params, x.assembled().transpose(0, 1)).transpose(0, 1)
    if x.alike:
        return network.single(params[0], x.shared).unsqueeze(1).expand(-1, x.n_values, -1)
    return network.single(params[0], x.assembled().flatten(0, 1)).unflatten(0, (len(x), x.n_values))
