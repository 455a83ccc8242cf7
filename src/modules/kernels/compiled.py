"""Networks evaluated and differentiated by `network.c`, on the CPU, in single precision.

A minibatch of this field is small: torch spends most of its time between operations, and moves every layer's rows
through memory. Here rows go through all layers, and back, in blocks that stay in the processor's cache; of sequences,
only the rows that are there. It can be differentiated once, for the parameters (and a first layer's sums, or the first
hidden states): trust-region learners need the derivative's derivative and take torch's operations, as all networks do
where there is no compiler (:mod:`.build`).
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any, TypedDict

import torch
from torch import Tensor

from . import build as native

_KINDS = {"relu": 0, "tanh": 1}


class Sizes(TypedDict):
    """A network: inputs I, width H, outputs A, the function of its feed-forward layers (relu or tanh), and whether they
    have layer normalisation."""

    inputs: int
    size: int
    outputs: int
    activation: str
    layer_norm: bool


@functools.cache
def _library() -> ctypes.CDLL | None:
    found = native.library("network")
    if found is not None:
        whole, pointer = ctypes.c_ssize_t, ctypes.c_void_p
        found.network_lanes.restype = whole
        for name, wholes, pointers in (
            ("mlp_forward", 6, 8), ("mlp_backward", 7, 9), ("gru_forward", 8, 11), ("gru_backward", 7, 13),
        ):  # fmt: skip
            getattr(found, name).argtypes = [whole] * wholes + [pointer] * pointers
    return found


def available(x: Tensor, hidden_dim: int) -> bool:
    """Whether rows ``x`` can go through networks of this width here."""
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return False
    found = _library()
    return found is not None and hidden_dim % found.network_lanes() == 0


def _call(name: str, *arguments: Any) -> None:
    """Call a function; tensors are passed as addresses (an empty one as NULL).

    Raises:
        MemoryError: there is none for its scratch.
        ValueError: rows are not laid out as their packing says.
    """
    library = _library()
    assert library is not None
    given = [(x.data_ptr() if x.numel() else None) if isinstance(x, Tensor) else x for x in arguments]
    failure = getattr(library, name)(*given)
    if failure == 1:
        raise MemoryError("no memory for a network's scratch")
    if failure:
        raise ValueError(
            "batch_sizes must be int64: the number of hidden states at first, never increasing, that of x's rows in all"
        )


class _FeedForward(torch.autograd.Function):
    """One network's parameters [P] on rows [R, I], or on its first layer's sums [R, H]: [R, A]."""

    @staticmethod
    def forward(
        ctx: Any, params: Tensor, x: Tensor | None, sums: Tensor | None, sizes: tuple[int, int, int, int, int]
    ) -> Tensor:
        _, size, outputs, _, norm = sizes
        params, nothing = params.contiguous(), params.new_empty(0)
        x = nothing if x is None else x.contiguous()
        sums = nothing if sums is None else sums.contiguous()
        rows = max(len(x), len(sums))
        needed = any(ctx.needs_input_grad)
        first, second = (params.new_empty(rows if needed else 0, size) for _ in range(2))
        hats, inverses = _kept_by_norm(params, 2, rows if needed and norm else 0, size)
        out = params.new_empty(rows, outputs)
        if rows:
            _call("mlp_forward", rows, *sizes, params, x, sums, first, second, hats, inverses, out)
        if needed:
            ctx.save_for_backward(params, x, first, second, hats, inverses)
            ctx.sizes, ctx.from_sums = sizes, len(sums) > 0
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        params, x, first, second, hats, inverses = ctx.saved_tensors
        learned = ctx.needs_input_grad[0]
        dparams = torch.zeros_like(params)
        dsums = torch.empty_like(first) if ctx.from_sums else first.new_empty(0)
        if len(first):
            _call(
                "mlp_backward", len(first), *ctx.sizes, int(not learned), params, x, first, second, hats, inverses,
                grad.contiguous(), dparams, dsums,
            )  # fmt: skip
        return dparams if learned else None, None, dsums if ctx.from_sums else None, None


class _Recurrent(torch.autograd.Function):
    """One network's parameters [P] on packed rows [S, I] from hidden states [R, H]: [S, A]."""

    @staticmethod
    def forward(
        ctx: Any, params: Tensor, x: Tensor, batch_sizes: Tensor, hidden: Tensor, sizes: tuple[int, int, int, int, int]
    ) -> Tensor:
        params, x, hidden = params.contiguous(), x.contiguous(), hidden.contiguous()
        _, size, outputs, _, norm = sizes
        rows, needed = len(x), ctx.needs_input_grad[0] or ctx.needs_input_grad[3]
        first, candidates, states = (params.new_empty(rows if needed else 0, size) for _ in range(3))
        gates = params.new_empty(rows if needed else 0, 3 * size)
        hats, inverses = _kept_by_norm(params, 1, rows if needed and norm else 0, size)
        out = params.new_empty(rows, outputs)
        if rows:
            _call(
                "gru_forward", len(batch_sizes), rows, len(hidden), *sizes, batch_sizes, params, x, hidden, first,
                hats, inverses, gates, candidates, states, out,
            )  # fmt: skip
        if needed:
            ctx.save_for_backward(batch_sizes, params, x, hidden, first, hats, inverses, gates, candidates, states)
            ctx.sizes = sizes
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        batch_sizes, params, x, hidden, *_ = ctx.saved_tensors
        dparams, carry = torch.zeros_like(params), torch.zeros_like(hidden)
        if len(x):
            _call(
                "gru_backward", len(batch_sizes), len(x), *ctx.sizes, *ctx.saved_tensors, grad.contiguous(), dparams,
                carry,
            )  # fmt: skip
        return dparams, None, None, carry if ctx.needs_input_grad[3] else None, None


def _kept_by_norm(params: Tensor, layers: int, rows: int, size: int) -> tuple[Tensor, Tensor]:
    """Room for what layer normalisation keeps: normalised rows [layers, rows, H] and inverse deviations."""
    return params.new_empty(layers, rows, size), params.new_empty(layers, rows)


def feed_forward(params: Tensor, x: Tensor | None, sums: Tensor | None, sizes: Sizes) -> Tensor:
    """Evaluate one feed-forward network.

    Args:
        params: [P] its parameters.
        x: [R, I] rows, or None with ``sums`` [R, H], the first layer's sums (biases included).
        sizes: the network.

    Returns:
        [R, A].

    Raises:
        MemoryError: none is left.
    """
    result: Tensor = _FeedForward.apply(params, x, sums, _numbers(sizes))
    return result


def recurrent(params: Tensor, x: Tensor, batch_sizes: Tensor, hidden: Tensor, sizes: Sizes) -> Tensor:
    """Evaluate one recurrent network on packed sequences (:class:`~oamarl.components.packing.Packing`).

    Args:
        params: [P] its parameters.
        x: [S, I] the rows of the first step, those of the second, ...; the longest sequence first.
        batch_sizes: [T] int64 on the CPU, the rows of each step: never increasing, R at first, S in all.
        hidden: [R, H] before the first step, in the order of its rows.
        sizes: the network.

    Returns:
        [S, A].

    Raises:
        ValueError: the rows are not those that ``batch_sizes`` speaks of.
        MemoryError: none is left.
    """
    counts = batch_sizes.to("cpu", torch.int64).contiguous()
    result: Tensor = _Recurrent.apply(params, x, counts, hidden, _numbers(sizes))
    return result


def _numbers(sizes: Sizes) -> tuple[int, int, int, int, int]:
    return sizes["inputs"], sizes["size"], sizes["outputs"], _KINDS[sizes["activation"]], int(sizes["layer_norm"])
