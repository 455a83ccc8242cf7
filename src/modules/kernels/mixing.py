"""QMIX's mixing network evaluated and differentiated by `mixing.h`, on the CPU, in single precision."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import torch
from torch import Tensor

from . import build as native
from . import compiled


@functools.cache
def _library() -> ctypes.CDLL:
    found = native.library("network")
    assert found is not None
    for name, pointers in (("mixing_forward", 14), ("mixing_backward", 18)):
        getattr(found, name).argtypes = [ctypes.c_ssize_t] * 5 + [ctypes.c_void_p] * pointers
    return found


def available(state: Tensor, embed: int, hypernet: int) -> bool:
    """Whether states go through mixing networks of this width, drawn by hypernetworks of this one, here.

    The states' own gradient is not worked out.
    """
    if state.requires_grad and torch.is_grad_enabled():
        return False
    return compiled.available(state, embed) and compiled.available(state, hypernet)


def monotonic(qs: Tensor, state: Tensor, first: tuple[Tensor, Tensor], *second: Tensor) -> Tensor:
    """Evaluate one mixing network; see :class:`~oamarl.modules.mixers.qmix.QMixer`.

    Args:
        qs, state: [R, N], [R, S].
        first: weight [2 E + 2 H, S] and bias of the layers that read the state, one below the other: the first layer
            of V [E], those of the networks that draw w_1 and w_2 [H each], and b_1 [E].
        second: weight and bias of the second layers of V [1, E], w_1 [N E, H] and w_2 [E, H].

    Returns:
        [R, 1].

    Raises:
        MemoryError: none is left.
    """
    total: Tensor = _Mixing.apply(qs, state, *first, *second)
    return total


class _Mixing(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qs: Tensor, state: Tensor, weight: Tensor, bias: Tensor, *second: Tensor) -> Tensor:
        value, value_bias, w1, b1, w2, b2 = (x.contiguous() for x in second)
        qs, state, rows = qs.contiguous(), state.contiguous(), len(qs)
        sizes = rows, state.shape[1], qs.shape[1], len(w2), w2.shape[1]
        kept = rows if any(ctx.needs_input_grad) else 0
        sums, drawn, hidden = (qs.new_empty(kept * n) for n in (len(bias), len(w1) + len(w2), len(w2)))
        out = qs.new_empty(rows, 1)
        turned = [x.t().contiguous() for x in (weight, w1, w2)]
        if rows:
            _call(
                "mixing_forward", sizes, qs, state, turned[0], bias.contiguous(), value, value_bias, turned[1], b1,
                turned[2], b2, sums, drawn, hidden, out,
            )  # fmt: skip
        if kept:
            ctx.save_for_backward(qs, state, value, w1, w2, sums, drawn, hidden)
        ctx.sizes, ctx.width = sizes, len(bias)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, inputs, agents, embed, hyper = ctx.sizes
        dqs = grad.new_empty(rows, agents)
        shapes = (inputs, ctx.width), (ctx.width,), (1, embed), (1,), (hyper, agents * embed), (agents * embed,)
        found = [grad.new_zeros(shape) for shape in (*shapes, (hyper, embed), (embed,))]
        if rows:
            _call("mixing_backward", ctx.sizes, *ctx.saved_tensors, grad.contiguous(), dqs, *found)
        weight, bias, value, value_bias, w1, b1, w2, b2 = found
        return dqs, None, weight.t(), bias, value, value_bias, w1.t(), b1, w2.t(), b2


def _call(name: str, sizes: tuple[int, ...], *tensors: Tensor) -> None:
    """Call a function; tensors are passed as addresses (an empty one as NULL).

    Raises:
        MemoryError: there is none for its scratch.
    """
    if getattr(_library(), name)(*sizes, *((x.data_ptr() if x.numel() else None) for x in tensors)):
        raise MemoryError("no memory for a mixing network's scratch")
