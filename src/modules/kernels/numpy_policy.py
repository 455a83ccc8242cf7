"""Policies evaluated one step after another, in numpy: what acts, in the training process or an environment worker.

Acting calls a small network for a few rows, so often that torch's cost of a call is most of the time; and environment
workers do without torch. Each slot's agents are a product of their own (numpy's matmul goes through the slots one by
one), so that a slot's numbers never depend on how many slots are evaluated together, or where.

Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

#: What an illegal action's logit becomes (as in components.distributions).
ILLEGAL = np.float32(-1e10)
#: Products of up to so many rows are quicker one row after another.
_FEW = 4
_MOST = np.float32(10.0)  # standardised observations are clipped there, as components.normalisation does
_EPS = np.float32(1e-5)  # of feature and layer normalisation, the same


@dataclass(frozen=True)
class Form:
    """How the arrays of :class:`Inference` are to be read.

    | field | meaning |
    |---|---|
    | shared | one network for all agents; otherwise the arrays begin with the agents' dimension |
    | recurrent | a GRU in the middle, otherwise a second layer |
    | activation | relu or tanh |
    | features | each agent's own numbers [N], where observations are normalised over them; None: they are not |
    """

    shared: bool
    recurrent: bool
    activation: str
    features: tuple[int, ...] | None = None


class Inference:
    """All agents' policies at one time step.

    | array | shape | meaning |
    |---|---|---|
    | first | [(N,) O, H] | the observation's part of the first layer |
    | bias | [N, H] | its bias, the agents' ids included |
    | last | [(N,) A+1, H] | what the last action adds to it, zeros at the end for none; may be missing |
    | last | [(N,) D, H] | of continuous actions |
    | fc2.w, fc2.b | [(N,) H, H], [(N,) H] | the second layer (feed-forward) |
    | w_ih, b_ih, w_hh, b_hh | [(N,) H, 3H], [(N,) 3H], ... | the GRU: reset, update, candidate (recurrent) |
    | head.w, head.b | [(N,) H, A], [(N,) A] | the logits |
    | norm1.scale, norm1.shift, norm2.scale, ... | [(N,) H] | layer normalisation after a layer; may be missing |
    | mean, std | [N, O] | of standardised observations; may be missing |
    """

    def __init__(self, form: Form, arrays: Mapping[str, np.ndarray]) -> None:
        self.form, self.arrays = form, dict(arrays)
        self._agents = np.arange(len(self.arrays["bias"]))
        self._by_row = not form.shared or len(self._agents) <= _FEW
        width = self.arrays["first"].shape[-2]
        self._sizes = np.array(form.features or width, np.float32).reshape(-1, 1)  # [N, 1], or [1, 1]
        own = np.arange(width) < self._sizes
        self._own = None if own.all() else own  # [N, O]

    def __call__(self, obs: np.ndarray, last: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the logits [S, N, A] and the next hidden state [S, N, H] (as it is, if feed-forward).

        Args:
            obs: [S, N, O] float32.
            last: [S, N] int64, -1 at an episode's first step; or [S, N, D] float32, NaN there.
            hidden: [S, N, H] float32.
        """
        w = self.arrays
        if "mean" in w:
            obs = np.clip((obs - w["mean"]) / w["std"], -_MOST, _MOST)
        if self.form.features is not None:
            obs = self._normalised(obs)
        x = self._product(obs, "first")
        x += w["bias"]
        if "last" in w:
            x += self._after(last)
        x = self._activate(self._layer_norm(x, "norm1"))
        if self.form.recurrent:
            x = hidden = self._gru(x, hidden)
        else:
            x = self._activate(self._layer_norm(self._affine(x, "fc2.w", "fc2.b"), "norm2"))
        return self._affine(x, "head.w", "head.b"), hidden

    def _normalised(self, obs: np.ndarray) -> np.ndarray:
        """Each agent's own numbers with mean 0 and variance 1: what FeatureNormaliser does in torch."""
        x = obs - obs[..., :1]
        if self._own is not None:
            x *= self._own
        x -= np.add.reduce(x, axis=-1, keepdims=True) / self._sizes
        if self._own is not None:
            x *= self._own
        x /= np.sqrt(np.add.reduce(x * x, axis=-1, keepdims=True) / self._sizes + _EPS)
        return x

    def _layer_norm(self, x: np.ndarray, name: str) -> np.ndarray:
        """Layer normalisation of x [S, N, H] in place, where the networks have it."""
        scale = self.arrays.get(f"{name}.scale")
        if scale is None:
            return x
        size = np.float32(x.shape[-1])
        x -= np.add.reduce(x, axis=-1, keepdims=True) / size
        x /= np.sqrt(np.add.reduce(x * x, axis=-1, keepdims=True) / size + _EPS)
        x *= scale
        x += self.arrays[f"{name}.shift"]
        return x

    def _after(self, last: np.ndarray) -> np.ndarray:
        """Return what the last actions add to the first layer's sums."""
        if last.dtype.kind == "f":
            return self._product(np.where(np.isnan(last), np.float32(0), last), "last")
        weight = self.arrays["last"]
        return weight[last] if self.form.shared else weight[self._agents, last]

    def _product(self, x: np.ndarray, name: str) -> np.ndarray:
        weight = self.arrays[name]
        return np.matmul(x[:, :, None], weight)[:, :, 0] if self._by_row else np.matmul(x, weight)

    def _affine(self, x: np.ndarray, weight: str, bias: str) -> np.ndarray:
        x = self._product(x, weight)
        x += self.arrays[bias]
        return x

    def _activate(self, x: np.ndarray) -> np.ndarray:
        return np.maximum(x, 0, out=x) if self.form.activation == "relu" else np.tanh(x, out=x)

    def _gru(self, x: np.ndarray, hidden: np.ndarray) -> np.ndarray:
        size = hidden.shape[-1]
        given, kept = self._affine(x, "w_ih", "b_ih"), self._affine(hidden, "w_hh", "b_hh")
        gates = given[..., : 2 * size]
        gates += kept[..., : 2 * size]
        np.negative(gates, out=gates)
        np.exp(gates, out=gates)  # overflows to infinity, and the gate to 0: as it should
        gates += 1
        np.reciprocal(gates, out=gates)
        new = kept[..., 2 * size :]
        new *= gates[..., :size]
        new += given[..., 2 * size :]
        np.tanh(new, out=new)
        following = hidden - new
        following *= gates[..., size:]
        following += new
        return following


def choose(logits: np.ndarray, avail: np.ndarray, noise: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Choose among the legal actions; returns the actions [...] int64 and their log-probabilities [...] float32.

    Actions are legal even where logits are NaN: who looks for such numbers shall find them, not a failed game.

    Args:
        logits: [..., A] float32.
        avail: [..., A] bool.
        noise: [..., A] Gumbel noise: actions are drawn by the Gumbel-max rule; None: the most probable ones (the first
            of equals).
    """
    rows = logits.reshape(-1, logits.shape[-1])
    legal = np.where(avail, logits, ILLEGAL).reshape(rows.shape)
    score = legal if noise is None else legal + noise.reshape(rows.shape)
    actions = np.where(avail.reshape(rows.shape), score, -np.inf).argmax(1)
    highest = np.maximum.reduce(legal, axis=1)
    total = np.add.reduce(np.exp(legal - highest[:, None]), axis=1)
    log_p = legal[np.arange(len(rows)), actions] - highest - np.log(total)
    shape = logits.shape[:-1]
    return actions.reshape(shape), log_p.reshape(shape)
