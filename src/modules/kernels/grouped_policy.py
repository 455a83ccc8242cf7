"""The policies of several runs at one time step: G groups of slots, each with networks of its own.

One call evaluates what G calls of :class:`~.numpy_policy.Inference` would, slot by slot and so with the same numbers;
what it saves are numpy's fixed costs. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .numpy_policy import Form, Inference

#: matrices that slots are multiplied by
_MATRICES = ("first", "last", "fc2.w", "w_ih", "w_hh", "head.w")


class GroupedInference(Inference):
    """G groups of B slots each, whose policies have the same form.

    Args:
        form: how the arrays of each group are to be read.
        arrays: those of :class:`Inference`, with a leading dimension [G, ...].
    """

    def __init__(self, form: Form, arrays: Mapping[str, np.ndarray]) -> None:
        super().__init__(form, {name: x[0] for name, x in arrays.items()})
        self._groups = np.arange(len(arrays["bias"])).reshape(-1, 1, 1)
        self._weight = arrays.get("last")
        self.arrays = {name: self._expanded(name, x) for name, x in arrays.items()}

    def _expanded(self, name: str, x: np.ndarray) -> np.ndarray:
        """An array [G, ...] with the dimensions of one size that make it meet rows [G, B, N, ...]."""
        if name in ("bias", "mean", "std"):  # of each agent, always
            return x[:, None]
        by_agent = not self.form.shared
        if name in _MATRICES:
            # products of single rows have a dimension more: [G, B, N, 1, I] with [G, 1, (N or 1), I, H]
            return x[:, None] if by_agent or not self._by_row else x[:, None, None]
        return x[:, None] if by_agent else x[:, None, None]

    def __call__(self, obs: np.ndarray, last: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the logits [S, N, A] and the next hidden state [S, N, H] of S = G B slots, group by group."""
        groups = (len(self._groups), -1)
        found, following = super().__call__(*(x.reshape(*groups, *x.shape[1:]) for x in (obs, last, hidden)))
        return tuple(x.reshape(-1, *x.shape[2:]) for x in (found, following))  # type: ignore[return-value]

    def _after(self, last: np.ndarray) -> np.ndarray:
        if last.dtype.kind == "f":
            return self._product(np.where(np.isnan(last), np.float32(0), last), "last")
        weight = self._weight
        assert weight is not None
        return weight[self._groups, last] if self.form.shared else weight[self._groups, self._agents, last]

    def _product(self, x: np.ndarray, name: str) -> np.ndarray:
        weight = self.arrays[name]
        if self._by_row:
            found: np.ndarray = np.matmul(x[..., None, :], weight)[..., 0, :]
            return found
        return np.matmul(x, weight)
