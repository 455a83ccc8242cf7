"""Policies evaluated one step after another as tensors, on any device: :class:`.numpy_policy.Inference` in torch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from .numpy_policy import Form

_MOST, _EPS = 10.0, 1e-5


class TorchInference:
    """All agents' policies at one time step, from the arrays of :class:`~.numpy_policy.Inference` as tensors.

    Numbers are numpy's within rounding: products are of all slots at once.
    """

    def __init__(self, form: Form, arrays: Mapping[str, Tensor]) -> None:
        self.form, self.w = form, dict(arrays)
        device = self.w["bias"].device
        self._agents = torch.arange(len(self.w["bias"]), device=device)
        width = self.w["first"].shape[-2]
        self._sizes = torch.tensor(form.features or [width], dtype=torch.float32, device=device).unsqueeze(1)
        own = torch.arange(width, device=device) < self._sizes
        self._own = own if form.features and min(form.features) < width else None
        if form.recurrent and form.shared:  # as torch's own cell takes them
            self._ih, self._hh = self.w["w_ih"].t().contiguous(), self.w["w_hh"].t().contiguous()

    def __call__(self, obs: Tensor, last: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outputs [B, N, P] and the next hidden state [B, N, H] (as it is, if feed-forward).

        Args:
            obs: [B, N, O].
            last: [B, N] int64, -1 at an episode's first step; or [B, N, D] float32, NaN there.
            hidden: [B, N, H].
        """
        w = self.w
        if "mean" in w:
            obs = ((obs - w["mean"]) / w["std"]).clamp(-_MOST, _MOST)
        if self.form.features is not None:
            obs = self._normalised(obs)
        x = self._product(obs, "first") + w["bias"]
        if "last" in w:
            x = x + self._after(last)
        x = self._activate(self._layer_norm(x, "norm1"))
        if self.form.recurrent:
            x = hidden = self._gru(x, hidden)
        else:
            x = self._activate(self._layer_norm(self._affine(x, "fc2.w", "fc2.b"), "norm2"))
        return self._affine(x, "head.w", "head.b"), hidden

    def _normalised(self, obs: Tensor) -> Tensor:
        """Each agent's own numbers with mean 0 and variance 1; what FeatureNormaliser does."""
        x = obs - obs[..., :1]
        x = x if self._own is None else torch.where(self._own, x, 0.0)
        x = x - x.sum(-1, keepdim=True) / self._sizes
        x = x if self._own is None else torch.where(self._own, x, 0.0)
        return x / (x.square().sum(-1, keepdim=True) / self._sizes + _EPS).sqrt()

    def _layer_norm(self, x: Tensor, name: str) -> Tensor:
        scale = self.w.get(f"{name}.scale")
        return x if scale is None else F.layer_norm(x, x.shape[-1:]) * scale + self.w[f"{name}.shift"]

    def _after(self, last: Tensor) -> Tensor:
        """Return what the last actions add to the first layer's sums."""
        if last.is_floating_point():
            return self._product(torch.where(last.isnan(), 0.0, last), "last")
        weight = self.w["last"]  # its last row, which -1 finds, is of zeros
        return weight[last] if self.form.shared else weight[self._agents, last]

    def _product(self, x: Tensor, name: str) -> Tensor:
        weight = self.w[name]
        return x @ weight if self.form.shared else torch.bmm(x.transpose(0, 1), weight).transpose(0, 1)

    def _affine(self, x: Tensor, weight: str, bias: str) -> Tensor:
        return self._product(x, weight) + self.w[bias]

    def _activate(self, x: Tensor) -> Tensor:
        return torch.relu(x) if self.form.activation == "relu" else torch.tanh(x)

    def _gru(self, x: Tensor, hidden: Tensor) -> Tensor:
        if self.form.shared:
            rows = x.flatten(0, 1), hidden.flatten(0, 1)
            return torch.gru_cell(*rows, self._ih, self._hh, self.w["b_ih"], self.w["b_hh"]).view_as(hidden)
        given, kept = self._affine(x, "w_ih", "b_ih"), self._affine(hidden, "w_hh", "b_hh")
        (xr, xz, xn), (hr, hz, hn) = given.chunk(3, -1), kept.chunk(3, -1)
        new = torch.tanh(xn + torch.sigmoid(xr + hr) * hn)
        return new + torch.sigmoid(xz + hz) * (hidden - new)
