"""QMIX's mixing network in C: the numbers of torch's operations, row by row, and where torch's are taken."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from oamarl.components.generators import generator
from oamarl.modules.flat import FlatModule
from oamarl.modules.kernels import build as native
from oamarl.modules.kernels import compiled, mixing
from oamarl.modules.mixers.qmix import QMixer

from learner_tools import make_batch, make_info, make_learner

pytestmark = pytest.mark.skipif(native.library("network") is None, reason="there is no C compiler")


def mixer(
    n: int = 2, inputs: int = 5, *, embed: int = 32, hyper: int = 64, layers: int = 2, scale: float = 1.0
) -> FlatModule:
    config = SimpleNamespace(mixing_embed_dim=embed, hypernet_layers=layers, hypernet_embed=hyper, state_scale=scale)
    return FlatModule(lambda: QMixer(n, inputs, config), generator(1, "mixer"))


def drawn(rows: int, n: int = 2, inputs: int = 5) -> tuple[Tensor, Tensor]:
    g = generator(2, "rows")
    return 3 * torch.randn(rows, n, generator=g), torch.randn(rows, inputs, generator=g)


@pytest.mark.parametrize(("rows", "n", "inputs", "embed", "hyper"), [
    (1, 1, 1, 16, 16), (7, 2, 30, 32, 64), (211, 3, 5, 16, 48), (600, 8, 17, 64, 16),
])  # fmt: skip
def test_values_and_gradients_are_those_of_torch(rows: int, n: int, inputs: int, embed: int, hyper: int) -> None:
    net, (qs, state) = mixer(n, inputs, embed=embed, hyper=hyper), drawn(rows, n, inputs)
    weight = torch.randn(rows, 1, generator=generator(3, "weights"))
    assert mixing.available(state, embed, hyper)
    found = []
    for dtype in (torch.float32, torch.float64):  # the second by torch
        params, x = net.params.detach().to(dtype).requires_grad_(), qs.to(dtype).requires_grad_()
        total = net(params, x, state.to(dtype))
        found.append([total, *torch.autograd.grad((weight.to(dtype) * total).sum(), [params, x])])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=2e-5 * float(theirs.detach().abs().max() + 1))
    with torch.no_grad():
        assert torch.equal(net(net.params, qs, state), found[0][0])


def test_states_are_divided_by_their_scale() -> None:
    qs, state = drawn(7)
    for layers in (1, 2):  # by torch, and in C
        usual, scaled = mixer(layers=layers), mixer(layers=layers, scale=8.0)
        assert torch.equal(usual.params, scaled.params)
        assert torch.equal(usual(usual.params, qs, state), scaled(scaled.params, qs, 8.0 * state))


def test_a_row_does_not_depend_on_the_others() -> None:
    net, (qs, state) = mixer(), drawn(230)
    with torch.no_grad():
        together = net(net.params, qs, state)
        for rows in (slice(0, 1), slice(3, 10), slice(100, 229)):
            assert torch.equal(net(net.params, qs[rows], state[rows]), together[rows])
        assert torch.equal(net(net.params, qs.view(10, 23, 2), state.view(10, 23, 5)).view(230, 1), together)


def test_no_rows_give_nothing_and_zeros() -> None:
    net = mixer()
    out = net(net.params, torch.zeros(0, 2), torch.zeros(0, 5))
    assert out.shape == (0, 1)
    (grad,) = torch.autograd.grad(out.sum(), net.params)
    assert not grad.any()


@pytest.mark.parametrize("where", ["qs", "state"])
def test_what_is_not_a_number_stays_so_and_in_its_row(where: str) -> None:
    net, (qs, state) = mixer(), drawn(5)
    (qs if where == "qs" else state)[3, 1] = torch.nan
    with torch.no_grad():
        assert net(net.params, qs, state).isnan().flatten().tolist() == [False, False, False, True, False]


def test_a_weight_of_zero_has_no_slope() -> None:
    """|w| at 0, as torch has it: with all parameters 0 but the biases of w_1 and V, nothing reaches the agents."""
    net, (qs, state) = mixer(), drawn(3)
    with torch.no_grad():
        net.params.zero_()
        start = 0
        for name, size in zip(net.shapes, net.sizes, strict=True):
            if name in ("w1.2.bias", "value.2.bias"):
                net.params[0, start : start + size] = -0.5
            start += size
    qs.requires_grad_()
    total = net(net.params, qs, state)
    assert total.flatten().tolist() == [-0.5] * 3, "w_2 is 0"
    gradient, of_params = torch.autograd.grad(total.sum(), [qs, net.params])
    assert not gradient.any()
    assert float(of_params.sum()) == 3.0, "the bias of V alone"


@pytest.mark.parametrize("more", [{"layers": 1}, {"embed": 9}, {"hyper": 9}])
def test_other_sizes_go_through_torch(more: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    net, (qs, state) = mixer(**more), drawn(4)
    monkeypatch.setattr(mixing, "monotonic", None)
    assert net(net.params, qs, state).shape == (4, 1)


def test_a_state_s_own_gradient_is_torch_s() -> None:
    net, (qs, state) = mixer(), drawn(4)
    state.requires_grad_()
    (gradient,) = torch.autograd.grad(net(net.params, qs, state).sum(), state)
    assert gradient.abs().sum() > 0


def test_qmix_learns_as_with_torch_s_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = []
    for usable in (True, False):
        monkeypatch.setattr(compiled, "available", (lambda *_: True) if usable else (lambda *_: False))
        learner = make_learner("qmix", make_info(), hidden_dim=32, batch_size=4, updates_per_step=0.5)
        learner.train(make_batch(learner.mac), 0)
        assert learner.updates > 2
        moved.append(torch.cat([x.detach().flatten() for x in learner.learned]))
    assert not torch.equal(*moved)  # both ways were taken
    torch.testing.assert_close(*moved, rtol=0, atol=2e-4)


# -- modules of flat parameters -------------------------------------------------------------------------------------


class Tied(nn.Module):
    """Two layers of one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(2, 2, bias=False)
        self.two = nn.Linear(2, 2, bias=False)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.two(self.one(x))
        return y


def test_tied_weights_are_one() -> None:
    module = FlatModule(Tied, generator(1, "tied"))
    x, w = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 3.0], [1.0, 1.0]])
    assert list(module.shapes) == ["one.weight"]
    assert torch.equal(module(w.view(1, 4), x), x @ w.t() @ w.t())


def test_threads_do_not_see_one_another_s_parameters() -> None:
    module = FlatModule(Tied, generator(1, "tied"))

    def many(k: int) -> bool:
        params = torch.full((1, 4), float(k))
        return all(float(module(params, torch.ones(1, 2))[0, 0]) == 4.0 * k * k for _ in range(300))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(many, range(1, 5)))
