"""Stacked networks: one evaluation by hand, initial parameters, and training one row alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from oamarl.components.packing import Packing
from oamarl.modules.agents.rnn import Network

from learner_tools import one_step

IN, H, OUT = 5, 8, 3


def network(k: int = 3, *, recurrent: bool = False, seed: int = 0, n_inputs: int = IN, h: int = H, **more) -> Network:
    values = {"activation": "tanh", "head_gain": 1.0} | more
    return Network(
        k, n_inputs, OUT, hidden_dim=h, recurrent=recurrent, generator=torch.Generator().manual_seed(seed), **values
    )


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def with_biases(net: Network) -> Network:
    """Biases start at zero: give them values, so that a test sees where they go."""
    with torch.no_grad():
        net.params += 0.1 * noise(*net.params.shape, seed=9)
    return net


def test_feed_forward_by_hand() -> None:
    net = Network(2, 1, 1, hidden_dim=1, recurrent=False, activation="relu", head_gain=1.0, generator=torch.Generator())
    with torch.no_grad():
        # fc1 w b, fc2 w b, head w b
        net.params.copy_(torch.tensor([[0.5, 1.0, -1.0, 3.0, 4.0, 0.5], [1.0, 0.0, 2.0, 0.0, 3.0, -1.0]]))
    # 2/2 + 1 = 2, 3 - 2 = 1, 4 + 1/2; at 8: 5, relu(-2) = 0, 1/2
    assert net.single(net.params[0], torch.tensor([[2.0], [8.0]])).tolist() == [[4.5], [0.5]]
    # a negative input dies at the first layer
    both = net.stacked(net.params, torch.tensor([[[2.0]], [[-2.0]]]))
    assert both.tolist() == [[[4.5]], [[-1.0]]]


def test_layer_normalisation_by_hand() -> None:
    """Sums 4 and 2 have mean 3 and variance 1: 1 and -1, times 2 and 3, plus 0.5 and 7, is 2.5 and 4."""
    net = Network(
        1, 1, 2, hidden_dim=2, recurrent=False, activation="relu", head_gain=1.0, generator=torch.Generator(),
        layer_norm=True,
    )  # fmt: skip
    fresh = net.layers(net.params[0].detach())
    assert fresh["norm1.scale"].tolist() == fresh["norm2.scale"].tolist() == [1.0, 1.0]
    assert fresh["norm1.shift"].tolist() == fresh["norm2.shift"].tolist() == [0.0, 0.0]
    with torch.no_grad():
        w = net.layers(net.params[0])
        w["fc1.w"].copy_(torch.tensor([[2.0, 1.0]]))
        w["norm1.scale"].copy_(torch.tensor([2.0, 3.0]))
        w["norm1.shift"].copy_(torch.tensor([0.5, 7.0]))
        w["fc2.w"].copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))  # 2.5 and 4 become -1 and 1, the first of which dies
        w["norm2.scale"].copy_(torch.tensor([5.0, 6.0]))
        w["head.w"].copy_(torch.eye(2))
        expected = torch.tensor([[0.0, 6.0]])
        torch.testing.assert_close(net.single(net.params[0], torch.tensor([[2.0]])), expected, rtol=1e-4, atol=1e-5)
        assert float(net.single(net.params[0], torch.tensor([[200.0]]))[0, 1]) == pytest.approx(6.0, abs=1e-3)


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("init", ["orthogonal", "torch"])
def test_layer_normalisation_leaves_the_other_initial_numbers_as_they_are(recurrent: bool, init: str) -> None:
    plain, normed = (network(recurrent=recurrent, init=init, layer_norm=x, n_free=2) for x in (False, True))
    with_it = normed.layers(normed.params)
    for name, view in plain.layers(plain.params).items():
        assert torch.equal(view, with_it[name]), name
    assert set(with_it) - set(plain.layers(plain.params)) == {
        f"norm{k}.{x}" for k in ((1,) if recurrent else (1, 2)) for x in ("scale", "shift")
    }


def test_a_recurrent_step_depends_on_what_came_before() -> None:
    net = network(recurrent=True)
    x = noise(3, 4, IN)
    first, hidden = one_step(net, x, net.initial_hidden(3, 4))
    second, _ = one_step(net, x, hidden)
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("recurrent", [False, True])
def test_a_row_is_a_leaf_on_the_same_storage_and_trains_one_network_alone(recurrent: bool) -> None:
    net = network(recurrent=recurrent)
    before = net.params.detach().clone()
    row = net.row(1)
    assert row.is_leaf
    assert row.requires_grad
    assert row.data_ptr() == net.params[1].data_ptr()
    optimiser = torch.optim.Adam([row], lr=0.1)
    packing = Packing.of(torch.full((4,), 6)) if recurrent else None
    net.single(row, noise(24, IN), packing).square().sum().backward()
    assert row.grad is not None
    assert net.params.grad is None
    optimiser.step()
    assert torch.equal(net.params[0], before[0])
    assert torch.equal(net.params[2], before[2])
    assert torch.equal(net.params[1], row)
    # every parameter of the row has a gradient, and Adam's first step is the learning rate
    moved = row.grad != 0.0
    assert moved.float().mean() > 0.9
    change = (net.params[1] - before[1]).abs()[moved]
    torch.testing.assert_close(change, torch.full_like(change, 0.1), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("activation", "hidden_gain"), [("relu", 2**0.5), ("tanh", 5 / 3)])
@pytest.mark.parametrize("recurrent", [False, True])
def test_initial_weights_are_orthogonal_with_their_gains_and_biases_zero(
    activation: str, hidden_gain: float, recurrent: bool
) -> None:
    net = network(recurrent=recurrent, activation=activation, head_gain=0.01)
    for k in range(3):
        w = {name: view.detach() for name, view in net.layers(net.params[k]).items()}
        assert all(view.eq(0.0).all() for name, view in w.items() if view.dim() == 1)
        # fc1 [5, 8] has orthogonal rows, the head [8, 3] orthogonal columns
        torch.testing.assert_close(w["fc1.w"] @ w["fc1.w"].T, hidden_gain**2 * torch.eye(IN), atol=1e-5, rtol=0)
        torch.testing.assert_close(w["head.w"].T @ w["head.w"], 0.01**2 * torch.eye(OUT), atol=1e-8, rtol=0)
        if not recurrent:
            torch.testing.assert_close(w["fc2.w"] @ w["fc2.w"].T, hidden_gain**2 * torch.eye(H), atol=1e-5, rtol=0)
            continue
        for name in ("w_ih", "w_hh"):
            for gate in w[name].chunk(3):  # each gate by itself
                torch.testing.assert_close(gate @ gate.T, torch.eye(H), atol=1e-5, rtol=0)
    assert not torch.allclose(net.params[0], net.params[1])


@pytest.mark.parametrize("recurrent", [False, True])
def test_torch_s_initial_parameters_are_uniform_within_one_over_the_root_of_the_inputs(recurrent: bool) -> None:
    """Layer by layer, biases too: bounds (those of nn.Linear and nn.GRUCell), mean 0, variance bound^2 / 3."""
    h, n_inputs = 64, 9
    net = network(40, recurrent=recurrent, n_inputs=n_inputs, h=h, init="torch")
    w = {name: view.detach() for name, view in net.layers(net.params).items()}
    inputs = {"fc1.w": n_inputs, "fc1.b": n_inputs}  # all others read h numbers
    theirs = {"fc1": nn.Linear(n_inputs, h), "fc2": nn.Linear(h, h), "head": nn.Linear(h, OUT), "gru": nn.GRUCell(h, h)}
    for name, view in w.items():
        bound = inputs.get(name, h) ** -0.5
        x = view.flatten()
        assert float(x.abs().max()) <= bound
        assert float(x.abs().max()) > 0.9 * bound
        spread = bound / (3 * len(x)) ** 0.5
        assert abs(float(x.mean())) < 5 * spread, name
        assert float(x.var()) == pytest.approx(bound**2 / 3, rel=6 / len(x) ** 0.5), name
        layer, _, kind = name.partition(".")
        own = getattr(theirs[layer], {"w": "weight", "b": "bias"}[kind]) if kind else theirs["gru"].weight_ih
        own = own.detach()
        assert float(own.abs().max()) <= bound + 1e-7
        if own.numel() > 400:
            assert float(own.abs().max()) > 0.98 * bound


@pytest.mark.parametrize("recurrent", [False, True])
def test_torch_s_initial_parameters_come_from_the_generator_and_know_no_gain(recurrent: bool) -> None:
    first = network(recurrent=recurrent, init="torch", head_gain=1.0)
    torch.manual_seed(99)
    assert torch.equal(network(recurrent=recurrent, init="torch", head_gain=0.01).params, first.params)
    assert not torch.equal(network(recurrent=recurrent, init="torch", seed=3).params, first.params)
    assert not torch.allclose(first.params[0], first.params[1])
    free = network(recurrent=recurrent, init="torch", n_free=2, free_start=-0.5)
    assert torch.equal(free.params[:, -2:], torch.full((3, 2), -0.5))
    assert torch.equal(free.params[0, :-2], first.params[0])


@pytest.mark.parametrize("recurrent", [False, True])
def test_orthogonal_parameters_are_drawn_network_by_network_and_layer_by_layer(recurrent: bool) -> None:
    """By torch's own function, in this order: the numbers of a seed stay the same, bit for bit."""
    net, source = network(recurrent=recurrent, head_gain=0.1), torch.Generator().manual_seed(0)
    for row in net.params.detach():
        w = net.layers(row)
        for name in ("fc1.w", *(("w_ih", "w_hh") if recurrent else ("fc2.w",)), "head.w"):
            gru = name in ("w_ih", "w_hh")
            gain = 1.0 if gru else 0.1 if name == "head.w" else 5 / 3
            for part in w[name].chunk(3) if gru else [w[name]]:
                expected = nn.init.orthogonal_(torch.empty(part.shape), gain, generator=source)
                assert torch.equal(part, expected), name


def test_a_small_head_gain_makes_untrained_outputs_small() -> None:
    x = noise(3, 50, IN)
    large, small = (network(head_gain=gain) for gain in (1.0, 0.01))
    expected = 0.01 * large.stacked(large.params, x)
    torch.testing.assert_close(small.stacked(small.params, x), expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("recurrent", [False, True])
def test_initial_parameters_come_from_the_generator_alone(recurrent: bool) -> None:
    torch.manual_seed(1)
    first = network(seed=4, recurrent=recurrent)
    torch.manual_seed(2)
    assert torch.equal(network(seed=4, recurrent=recurrent).params, first.params)
    assert not torch.equal(network(seed=5, recurrent=recurrent).params, first.params)


def test_layers_are_views_that_cover_the_parameters_once() -> None:
    net = network(recurrent=True)
    layers = net.layers(net.params)
    assert sum(view[0].numel() for view in layers.values()) == net.params.shape[1]
    assert layers["w_hh"].shape == (3, 3 * H, H)
    with torch.no_grad():
        layers["head.b"][1] = 7.0
    assert net.params[1, -OUT:].tolist() == [7.0] * OUT
    assert net.params[0, -OUT:].tolist() == [0.0] * OUT


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_the_head_reads_the_features(recurrent: bool, layer_norm: bool) -> None:
    net = Network(
        2, IN, OUT, hidden_dim=16, recurrent=recurrent, activation="tanh", head_gain=1.0,
        generator=torch.Generator().manual_seed(3), layer_norm=layer_norm,
    )  # fmt: skip
    packing = Packing.of(torch.tensor([3, 1, 2])) if recurrent else None
    x = torch.randn(6, IN, generator=torch.Generator().manual_seed(4))
    w = net.layers(net.params[1])
    found = net.features(net.params[1], x, packing) @ w["head.w"] + w["head.b"]
    torch.testing.assert_close(found, net.single(net.params[1], x, packing), rtol=1e-5, atol=1e-6)
