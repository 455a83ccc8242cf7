"""The GRU on packed sequences on a GPU, each way in one kernel: all steps of a block of sequences, by Triton.

cuDNN's packed GRU sums the biases' derivatives step by step, and torch's operations take several launches a step; both
wait longer than they compute. Here a program keeps a block of sequences from their first step to their last. What does
not depend on the step before is one product for all rows: the inputs' part of the gates (the caller's), and the
derivatives of the hidden state's weights and biases. The function is that of :func:`.gru.recurrence`.

Triton comes with torch's builds for NVIDIA GPUs on Linux, and needs a C compiler.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .gru import recurrence

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

#: widest hidden layer whose gates' sums fit into a program's registers
WIDEST = 256


def available(device: torch.device, size: int) -> bool:
    """Return whether GRUs of ``size`` units can be computed here."""
    return device.type == "cuda" and size <= WIDEST and _works(device, size, _precision())


@cache
def _works(device: torch.device, size: int, precision: str) -> bool:
    """Whether Triton is here and such kernels run: they need a compiler, and a GPU that is large enough."""
    if triton is None:
        return False
    x, hidden, weight = (torch.zeros(n, m, device=device) for n, m in ((1, 3 * size), (1, size), (3 * size, size)))
    try:
        with torch.enable_grad():
            states = recurrence_once(x.requires_grad_(), torch.ones(1, dtype=torch.int64), hidden, weight, weight[:, 0])
            states.sum().backward()
    except Exception:  # of many kinds: no compiler, an unknown GPU, too little memory in it, no folder to write to
        return False
    return True


def recurrence_once(projected: Tensor, batch_sizes: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute what :func:`~.gru.recurrence` does, to be differentiated once at most; arguments as there."""
    if not len(batch_sizes):
        return recurrence(projected, batch_sizes, hidden, weight, bias)
    result: Tensor = _Once.apply(projected, batch_sizes, hidden, weight, bias, torch.is_grad_enabled())
    return result


class _Once(torch.autograd.Function):
    """See :func:`recurrence_once`; all in float32, whatever the type of ``projected``."""

    @staticmethod
    def forward(
        ctx: Any, projected: Tensor, batch_sizes: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor, keep: bool
    ) -> Tensor:
        device, size, n = projected.device, weight.shape[1], int(batch_sizes[0])
        # rows of the hidden state: at[t] before step t, the first ones are given; at[T] after the last one
        at = torch.cat([torch.zeros(1, dtype=torch.int64, device="cpu"), n + batch_sizes.cumsum(0) - batch_sizes])
        at, counts = at.to(device), batch_sizes.to(device)
        states = projected.new_empty(n + len(projected), size, dtype=torch.float32)
        states[:n] = hidden[:n]
        kept = states.new_empty(len(projected) if keep else 0, 4 * size)
        ctx.how = how = _how(size, _precision())
        grid = (triton.cdiv(n, how["rows"]),)
        with torch.cuda.device_of(projected):  # Triton's is the current one
            _forward[grid](
                projected.contiguous(), at, counts, weight.t().contiguous(), bias.contiguous(), states, kept,
                len(counts), n, size=size, keep=keep, **how,
            )  # fmt: skip
        ctx.save_for_backward(states, kept, at, counts, hidden, weight)
        ctx.dtype = projected.dtype
        return states[n:].to(projected.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        states, kept, at, counts, hidden, weight = ctx.saved_tensors
        size, rows = weight.shape[1], len(kept)
        n, how = len(states) - rows, ctx.how
        from_input, from_hidden = (states.new_empty(rows, 3 * size) for _ in range(2))
        of_hidden = hidden.new_zeros(hidden.shape, dtype=torch.float32)
        grid = (triton.cdiv(n, how["rows"]),)
        with torch.cuda.device_of(grad):
            _backward[grid](
                grad.contiguous(), kept, states, at, counts, weight.contiguous(), from_input, from_hidden, of_hidden,
                len(counts), n, size=size, **how,
            )  # fmt: skip
        # a step's rows follow each other, as those of the hidden state before it do
        shift = (at[:-1] - at[1:] + n).repeat_interleave(counts, output_size=rows)
        with torch.autocast(grad.device.type, enabled=False):
            of_weight = from_hidden.t() @ states[torch.arange(rows, device=at.device) + shift]
        return from_input.to(ctx.dtype), None, of_hidden, of_weight, from_hidden.sum(0), None


def _how(size: int, precision: str) -> dict[str, Any]:
    """The sizes of a program: sequences, columns (a power of 2), and the part of a product that it reads at a time;
    they are what was fastest on an H100 for 128 units."""
    columns = max(16, triton.next_power_of_2(size))
    part, stages = (16, 3) if precision == "tf32" or columns == 16 else (32, 2)
    return {"rows": 16, "columns": columns, "part": part, "num_warps": 4 if columns <= 128 else 8, "num_stages": stages,
            "precision": precision}  # fmt: skip


def _precision() -> str:
    """How products are taken, as `matmul_precision` says."""
    return "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"


if triton is not None:

    @triton.jit(do_not_specialize=["steps", "n_first"])
    def _forward(
        x, at, counts, weight, bias, states, kept, steps, n_first,
        size: tl.constexpr, keep: tl.constexpr, precision: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
        part: tl.constexpr,
    ):  # fmt: skip
        """x [S, 3H], weight [H, 3H], states [R + S, H], R of them given; kept [S, 4H]: reset, update, new, h's part."""
        begin = tl.program_id(0) * rows
        row, col, inner = begin + tl.arange(0, rows), tl.arange(0, columns), tl.arange(0, part)
        there = col < size
        bias_r = tl.load(bias + col, mask=there, other=0.0)
        bias_z = tl.load(bias + size + col, mask=there, other=0.0)
        bias_n = tl.load(bias + 2 * size + col, mask=there, other=0.0)
        for t in range(steps):
            n = tl.load(counts + t)
            if n > begin:
                mask = (row < n)[:, None] & there[None, :]
                old = (tl.load(at + t) + row)[:, None]
                new_at = tl.load(at + t + 1) + row
                sum_r = tl.zeros((rows, columns), tl.float32) + bias_r[None, :]
                sum_z = tl.zeros((rows, columns), tl.float32) + bias_z[None, :]
                sum_n = tl.zeros((rows, columns), tl.float32) + bias_n[None, :]
                for k in range(0, size, part):
                    at_k = k + inner
                    h = tl.load(
                        states + old * size + at_k[None, :], mask=(row < n)[:, None] & (at_k < size)[None, :], other=0.0
                    )
                    w = weight + at_k[:, None] * (3 * size) + col[None, :]
                    has = (at_k < size)[:, None] & there[None, :]
                    sum_r = tl.dot(h, tl.load(w, mask=has, other=0.0), sum_r, input_precision=precision)
                    sum_z = tl.dot(h, tl.load(w + size, mask=has, other=0.0), sum_z, input_precision=precision)
                    sum_n = tl.dot(h, tl.load(w + 2 * size, mask=has, other=0.0), sum_n, input_precision=precision)
                step = (new_at - n_first)[:, None]
                gates = x + step * (3 * size) + col[None, :]
                reset = tl.sigmoid(tl.load(gates, mask=mask, other=0.0).to(tl.float32) + sum_r)
                update = tl.sigmoid(tl.load(gates + size, mask=mask, other=0.0).to(tl.float32) + sum_z)
                x_new = tl.load(gates + 2 * size, mask=mask, other=0.0).to(tl.float32)
                new = 2.0 * tl.sigmoid(2.0 * (x_new + reset * sum_n)) - 1.0  # tanh
                before = tl.load(states + old * size + col[None, :], mask=mask, other=0.0)
                tl.store(states + new_at[:, None] * size + col[None, :], new + update * (before - new), mask=mask)
                if keep:
                    to = kept + step * (4 * size) + col[None, :]
                    tl.store(to, reset, mask=mask)
                    tl.store(to + size, update, mask=mask)
                    tl.store(to + 2 * size, new, mask=mask)
                    tl.store(to + 3 * size, sum_n, mask=mask)
                tl.debug_barrier()  # the next step reads what other threads of the program wrote

    @triton.jit(do_not_specialize=["steps", "n_first"])
    def _backward(
        grad, kept, states, at, counts, weight, from_input, from_hidden, of_hidden, steps, n_first,
        size: tl.constexpr, precision: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr, part: tl.constexpr,
    ):  # fmt: skip
        """The derivatives by the two parts [S, 3H] of the gates, and by the first hidden states [R, H]."""
        begin = tl.program_id(0) * rows
        row, col, inner = begin + tl.arange(0, rows), tl.arange(0, columns), tl.arange(0, part)
        there = col < size
        carried = tl.zeros((rows, columns), tl.float32)
        for i in range(steps):
            t = steps - 1 - i
            n = tl.load(counts + t)
            if n > begin:
                mask = (row < n)[:, None] & there[None, :]
                old = (tl.load(at + t) + row)[:, None]
                step = (tl.load(at + t + 1) - n_first + row)[:, None]
                g = tl.load(grad + step * size + col[None, :], mask=mask, other=0.0).to(tl.float32) + carried
                have = kept + step * (4 * size) + col[None, :]
                reset = tl.load(have, mask=mask, other=0.0)
                update = tl.load(have + size, mask=mask, other=0.0)
                new = tl.load(have + 2 * size, mask=mask, other=0.0)
                h_new = tl.load(have + 3 * size, mask=mask, other=0.0)
                before = tl.load(states + old * size + col[None, :], mask=mask, other=0.0)
                of_new = g * (1.0 - update) * (1.0 - new * new)
                of_update = g * (before - new) * update * (1.0 - update)
                of_reset = of_new * h_new * reset * (1.0 - reset)
                to = step * (3 * size) + col[None, :]
                tl.store(from_input + to, of_reset, mask=mask)
                tl.store(from_input + to + size, of_update, mask=mask)
                tl.store(from_input + to + 2 * size, of_new, mask=mask)
                tl.store(from_hidden + to, of_reset, mask=mask)
                tl.store(from_hidden + to + size, of_update, mask=mask)
                tl.store(from_hidden + to + 2 * size, of_new * reset, mask=mask)
                tl.debug_barrier()  # the product reads what other threads of the program wrote
                carried = g * update
                for k in range(0, 3 * size, part):
                    at_k = k + inner
                    of_h = tl.load(
                        from_hidden + step * (3 * size) + at_k[None, :],
                        mask=(row < n)[:, None] & (at_k < 3 * size)[None, :], other=0.0,
                    )  # fmt: skip
                    w = tl.load(
                        weight + at_k[:, None] * size + col[None, :],
                        mask=(at_k < 3 * size)[:, None] & there[None, :], other=0.0,
                    )  # fmt: skip
                    carried = tl.dot(of_h, w, carried, input_precision=precision)
        tl.store(
            of_hidden + row[:, None] * size + col[None, :], carried, mask=(row < n_first)[:, None] & there[None, :]
        )
