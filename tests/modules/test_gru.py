"""The GRU with its derivative written out, against torch's kernel and against numbers by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from oamarl.components.generators import generator
from oamarl.modules.agents.rnn import Network
from oamarl.modules.kernels.gru import recurrence

from learner_tools import make_batch, make_info, make_learner


def weights(k: int, size: int, seed: int) -> list[Tensor]:
    """w_ih, w_hh, b_ih, b_hh of K networks, as leaves."""
    g = torch.Generator().manual_seed(seed)
    shapes = [(k, 3 * size, size), (k, 3 * size, size), (k, 3 * size), (k, 3 * size)]
    return [(torch.rand(s, generator=g, dtype=torch.float64) - 0.5).requires_grad_() for s in shapes]


def project(x: Tensor, w: list[Tensor]) -> Tensor:
    """[T, K, R, 3H] from x [T, K, R, H]."""
    return torch.einsum("tkrh,kgh->tkrg", x, w[0]) + w[2].unsqueeze(1)


def test_one_step_by_hand() -> None:
    """H = 1, x projected to (1, 2, 3), h = 0.5, recurrent weights (1, -1, 2), biases (0, 0.5, -1)."""
    out = recurrence(
        torch.tensor([[[[1.0, 2.0, 3.0]]]]), torch.tensor([[[0.5]]]), torch.tensor([[[1.0], [-1.0], [2.0]]]),
        torch.tensor([[0.0, 0.5, -1.0]]),
    )  # fmt: skip
    reset, update = 1 / (1 + math.exp(-1.5)), 1 / (1 + math.exp(-2.0))
    new = math.tanh(3.0 + reset * (2 * 0.5 - 1.0))
    assert out.item() == pytest.approx(new + update * (0.5 - new), rel=1e-6)


@pytest.mark.parametrize(("steps", "rows", "networks"), [(1, 1, 1), (5, 3, 1), (16, 2, 2), (17, 4, 3), (40, 2, 2)])
def test_values_and_derivatives_are_torch_s(steps: int, rows: int, networks: int) -> None:
    size, g = 4, torch.Generator().manual_seed(steps)
    draw = {"generator": g, "dtype": torch.float64}
    x = torch.randn(steps, networks, rows, size, **draw).requires_grad_()
    start = torch.randn(networks, rows, size, **draw).requires_grad_()
    goal = torch.randn(steps, networks, rows, size, **draw)
    w = weights(networks, size, steps)
    ours = recurrence(project(x, w), start, w[1], w[3])
    found = torch.autograd.grad((ours * goal).sum(), [x, start, *w])
    theirs = torch.stack([
        torch.gru(x[:, k], start[k : k + 1], [p[k] for p in w], True, 1, 0.0, True, False, False)[0]
        for k in range(networks)
    ], dim=1)  # fmt: skip
    expected = torch.autograd.grad((theirs * goal).sum(), [x, start, *w])
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_nothing_is_kept_where_no_derivative_is_asked_for() -> None:
    w = weights(1, 3, 0)
    x = torch.randn(6, 1, 2, 3, dtype=torch.float64)
    start = torch.zeros(1, 2, 3, dtype=torch.float64)
    with_graph = recurrence(project(x, w), start, w[1], w[3])
    with torch.no_grad():
        without = recurrence(project(x, w), start, w[1], w[3])
    assert not without.requires_grad
    assert torch.equal(with_graph, without)


def test_a_second_derivative_is_refused_not_wrong() -> None:
    w = weights(1, 3, 0)
    out = recurrence(project(torch.ones(2, 1, 1, 3, dtype=torch.float64), w), torch.zeros(1, 1, 3).double(), w[1], w[3])
    (first,) = torch.autograd.grad((out**2).sum(), w[1], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
    # through other paths the missing part would go unnoticed: no trust-region step is made of it
    learner = make_learner("hatrpo", make_info(), use_rnn=True)
    learner.mac.network.first_order = True
    with pytest.raises(ValueError, match="first_order"):
        learner.train(make_batch(learner.mac), 0)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("start", [False, True])
def test_a_network_gives_the_same_through_either_kernel(k: int, start: bool) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        net = Network(
            k, 5, 4, hidden_dim=6, recurrent=True, activation="relu", head_gain=1.0, generator=generator(0, "x")
        )
        x, hidden = torch.randn(k, 3, 7, 5), torch.randn(k, 3, 6) if start else None
        found = []
        for net.first_order in (False, True):
            out = net.stacked(net.params, x, hidden)
            found.append((out, torch.autograd.grad((out**2).sum(), net.params)[0]))
            one = net.single(net.params[0], x[0], None if hidden is None else hidden[0])
            torch.testing.assert_close(one, out[0])
        torch.testing.assert_close(found[0], found[1])
    finally:
        torch.set_default_dtype(torch.float32)
