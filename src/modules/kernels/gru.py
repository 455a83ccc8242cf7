"""The GRU over whole sequences on the CPU, with its derivative written out.

torch's kernel spends most of its time on the many small operations of a step, in the backward pass most of all. What
does not depend on the step before is done here for all steps at once: the input's projection (by the caller) before
the loop; in the backward pass the gates' derivatives, and after its loop the weights' gradients. A backward step is
then one product and three element-wise operations.

    r, z = sigmoid(x_r + h W_r + b_r), sigmoid(x_z + h W_z + b_z)       x: the projected input
    n    = tanh(x_n + r * (h W_n + b_n))
    h'   = n + z * (h - n)                                              (Cho et al. 2014, torch's order of the gates)

It can be differentiated once: trust-region learners need the derivative's derivative and take torch's kernel.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

#: steps whose derivatives are worked out together: few enough to stay in the processor's cache
_CHUNK = 16


def _forward_steps(
    projected: Tensor, hidden: Tensor, by_column: Tensor, bias: Tensor, gates: Tensor, candidates: Tensor, out: Tensor
) -> None:
    """Write the states [T, K, R, H] after each step to ``out``, and what derivatives need (of the last steps, if
    ``gates`` and ``candidates`` hold fewer)."""
    size, kept = hidden.shape[-1], gates.shape[0]
    h, difference = hidden, torch.empty_like(hidden)
    for t in range(projected.shape[0]):
        x, gate, n, following = projected[t], gates[t % kept], candidates[t % kept], out[t]
        torch.baddbmm(bias, h, by_column, out=gate)
        gate[..., : 2 * size].add_(x[..., : 2 * size]).sigmoid_()
        torch.addcmul(x[..., 2 * size :], gate[..., :size], gate[..., 2 * size :], out=n)
        n.tanh_()
        torch.sub(h, n, out=difference)
        torch.addcmul(n, gate[..., size : 2 * size], difference, out=following)
        h = following


def _backward_steps(
    grad: Tensor, share: Tensor, slope: Tensor, z: Tensor, weight: Tensor, carry: Tensor, dgate: Tensor, dn: Tensor
) -> None:
    """Go back through the steps of a chunk, [C, K, R, ...]; ``carry`` [K, R, H] is what comes from the step after."""
    dh = torch.empty_like(carry)
    for back in range(grad.shape[0]):
        t = grad.shape[0] - 1 - back
        torch.add(grad[t], carry, out=dh)
        torch.mul(dh.unsqueeze(-2), share[t], out=dgate[t].view(share[t].shape))
        torch.mul(dh, slope[t], out=dn[t])
        torch.mul(dh, z[t], out=carry)
        carry.baddbmm_(dgate[t], weight)


def _compiled(loop: Callable[..., None]) -> Callable[..., None]:
    """Return ``loop`` without Python's cost of each operation, and without its lock: two threads can be in it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch.compile would need a C++ compiler here
            return torch.jit.script(loop)
    except (AttributeError, RuntimeError):  # a torch that no longer has it
        return loop


@functools.cache
def _loops() -> tuple[Callable[..., None], Callable[..., None]]:
    return _compiled(_forward_steps), _compiled(_backward_steps)


class _Recurrence(torch.autograd.Function):
    """K networks over T steps of R rows; see :func:`recurrence`."""

    @staticmethod
    def forward(ctx: Any, projected: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        steps, *_, width = projected.shape
        needed = any(ctx.needs_input_grad)
        kept = steps if needed else 1
        out = projected.new_empty(*projected.shape[:-1], width // 3)
        gates = projected.new_empty(kept, *projected.shape[1:])
        candidates = projected.new_empty(kept, *out.shape[1:])
        by_column = weight.transpose(1, 2).contiguous()
        _loops()[0](projected, hidden, by_column, bias.unsqueeze(1), gates, candidates, out)
        if needed:
            ctx.save_for_backward(hidden, weight, out, gates, candidates)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, out, gates, candidates = ctx.saved_tensors
        steps, k, _, size = out.shape
        dgate = torch.empty_like(gates)  # of what is added up inside each gate, the hidden state's part
        dn = torch.empty_like(out)  # of what is inside tanh
        carry = torch.zeros_like(hidden)
        for last in range(steps, 0, -_CHUNK):
            first = max(0, last - _CHUNK)
            r, z, from_hidden = gates[first:last].split(size, -1)
            n = candidates[first:last]
            before = out[first - 1 : last - 1] if first else torch.cat([hidden.unsqueeze(0), out[: last - 1]])
            slope = (1 - z) * (1 - n * n)
            share = torch.stack([slope * from_hidden * r * (1 - r), (before - n) * z * (1 - z), slope * r], dim=-2)
            _loops()[1](grad[first:last], share, slope, z, weight, carry, dgate[first:last], dn[first:last])
        # [K, 3H, H]: one product over all steps and rows of each network
        dweight = torch.bmm(dgate[0].transpose(1, 2), hidden)
        if steps > 1:
            for i in range(k):
                dweight[i].addmm_(dgate[1:, i].reshape(-1, 3 * size).t(), out[:-1, i].reshape(-1, size))
        dbias = dgate.sum((0, 2))
        dgate[..., 2 * size :] = dn
        return dgate, carry if ctx.needs_input_grad[1] else None, dweight, dbias


def recurrence(projected: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Hidden states of K GRUs over whole sequences.

    Args:
        projected: [T, K, R, 3H] the input's part of each gate, its bias included.
        hidden: [K, R, H] before the first step.
        weight: [K, 3H, H] the hidden state's weights (reset, update, candidate).
        bias: [K, 3H] their biases.

    Returns:
        [T, K, R, H] after each step.
    """
    result: Tensor = _Recurrence.apply(projected, hidden, weight, bias)
    return result
