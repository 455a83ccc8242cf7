"""The GRU's kernels by Triton against torch's operations: on a GPU, or by Triton's interpreter.

pip install triton && TRITON_INTERPRET=1 pytest tests/modules/test_gru_triton.py
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from oamarl.components.packing import Packing
from oamarl.modules.kernels import gru_triton
from oamarl.modules.kernels.gru import recurrence
from oamarl.modules.kernels.gru_triton import recurrence_once

CASES = {
    "one-step": (16, [1]),
    "few": (16, [5, 3, 7, 1, 1]),
    "width-no-power-of-2": (20, [4] * 40),
    "long-and-short": (48, [9, 2, 2]),
    "two-blocks": (128, [3] * 33 + [5] * 3),
    "wide": (160, [2, 3]),
}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


kernels = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None or (DEVICE == "cpu" and os.environ.get("TRITON_INTERPRET") != "1"),
    reason="needs Triton, and a GPU or TRITON_INTERPRET=1",
)


def leaves_of(size: int, lengths: list[int]) -> tuple[Packing, list[Tensor]]:
    g = torch.Generator().manual_seed(1)
    packing = Packing.of(torch.tensor(lengths))
    shapes = ((len(packing), 3 * size), (len(lengths), size), (3 * size, size), (3 * size,))
    return packing, [torch.randn(*shape, generator=g) * 0.3 for shape in shapes]


def differentiated(form: Callable[..., Tensor], packing: Packing, leaves: list[Tensor], dtype: Any) -> list[Tensor]:
    """States, and the derivatives of a sum of theirs, on the CPU."""
    moved = [x.detach().to(DEVICE, dtype).requires_grad_() for x in leaves]
    states = form(moved[0], packing.batch_sizes, *moved[1:])
    weights = torch.arange(states.numel()).view(states.shape).cos().to(DEVICE, dtype)
    return [x.cpu().double() for x in (states.detach(), *torch.autograd.grad((states * weights).sum(), moved))]


@kernels
@pytest.mark.parametrize(("size", "lengths"), CASES.values(), ids=CASES)
def test_it_is_the_same_function(size: int, lengths: list[int]) -> None:
    packing, leaves = leaves_of(size, lengths)
    found = differentiated(recurrence_once, packing, leaves, torch.float32)
    exact = differentiated(recurrence, packing, leaves, torch.float64)
    for ours, theirs in zip(found, exact, strict=True):
        assert float((ours - theirs).norm() / theirs.norm()) < 2e-6
    with torch.no_grad():  # nothing is kept for derivatives: the same numbers
        moved = [x.to(DEVICE) for x in leaves]
        alone = recurrence_once(moved[0], packing.batch_sizes, *moved[1:])
    assert torch.equal(alone.cpu().double(), found[0])


@kernels
def test_inputs_in_bfloat16() -> None:
    packing, leaves = leaves_of(32, [6, 4, 4])
    exact = differentiated(recurrence, packing, leaves, torch.float64)
    x, *rest = (t.to(DEVICE).requires_grad_() for t in leaves)
    states = recurrence_once(x.bfloat16(), packing.batch_sizes, *rest)
    assert states.dtype == torch.bfloat16
    weights = torch.arange(states.numel()).view(states.shape).cos().to(DEVICE)
    found = [states.detach(), *torch.autograd.grad((states.float() * weights).sum(), [x, *rest])]
    for ours, theirs in zip(found, exact, strict=True):
        assert float((ours.cpu().double() - theirs).norm() / theirs.norm()) < 0.02


@kernels
def test_a_sequence_that_did_not_begin_and_no_rows_at_all() -> None:
    """Hidden states of sequences without a step get no derivative, and a batch without steps has no states."""
    packing, leaves = leaves_of(16, [2, 1])
    more = torch.cat([leaves[1], torch.ones(1, 16)])
    found = differentiated(recurrence_once, packing, [leaves[0], more, *leaves[2:]], torch.float32)
    assert not found[2][2].any()
    assert found[2][:2].abs().min() > 0
    nothing = recurrence_once(
        torch.zeros(0, 48), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 16), torch.zeros(48, 16), torch.zeros(48)
    )
    assert nothing.shape == (0, 16)


def test_it_is_not_there_without_a_gpu_or_for_very_wide_layers() -> None:
    assert not gru_triton.available(torch.device("cpu"), 64)
    assert not gru_triton.available(torch.device("cuda"), gru_triton.WIDEST + 1)


@kernels
@pytest.mark.skipif(DEVICE == "cpu", reason="there is no GPU")
@pytest.mark.parametrize("size", [16, 128, gru_triton.WIDEST])
def test_it_is_there_on_a_gpu(size: int) -> None:
    assert gru_triton.available(torch.device("cuda"), size)
