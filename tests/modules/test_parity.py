"""The forms of the built-in network (C, torch, numpy, one step at a time) are one function with one derivative.

The reference is torch's form in double precision, and for the GRU torch's own class.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from oamarl.components.generators import generator
from oamarl.components.packing import Packing
from oamarl.modules.agents.rnn import Network
from oamarl.modules.kernels import compiled
from oamarl.modules.kernels.build import library
from oamarl.modules.kernels.gru import recurrence
from oamarl.modules.kernels.numpy_policy import Form, Inference

needs_compiler = pytest.mark.skipif(library("network") is None, reason="there is no C compiler")

RAGGED = [int(n) for n in torch.randint(1, 24, (40,), generator=generator(0, "lengths"))]
#: lengths of sequences (none: feed-forward rows), inputs, width, outputs. Blocks have 192 rows, tiles 4, 6 and 8.
SHAPES: dict[str, tuple[list[int] | int, int, int, int]] = {
    "one-row": (1, 1, 16, 1),
    "a-block-and-one": (193, 7, 32, 3),
    "many-blocks": (1000, 15, 128, 6),
    "wide-head": (50, 5, 48, 37),
    "gru-one-step": ([1], 3, 16, 2),
    "gru-one-sequence": ([29], 3, 48, 5),
    "gru-few": ([5, 1, 9, 3, 1, 9, 0], 7, 32, 5),
    "gru-ragged": (RAGGED, 9, 64, 6),
    "gru-steps-of-more-than-a-block": ([1] * 90 + [2] * 60 + [4] * 250, 4, 16, 17),
    "gru-whole-blocks": ([3] * 64, 6, 48, 16),
    "gru-equal-lengths": ([30] * 13, 6, 128, 16),
}
RECURRENT = {name: shape for name, shape in SHAPES.items() if name.startswith("gru")}
#: each with hidden states of zeros, recurrent ones with others too
CASES = {name: (shape, False) for name, shape in SHAPES.items()} | {
    f"{name}-begun": (shape, True) for name, shape in RECURRENT.items()
}


def make(
    inputs: int, width: int, outputs: int, *, recurrent: bool, activation: str = "relu", k: int = 1,
    layer_norm: bool = False,
) -> Network:  # fmt: skip
    """K networks whose biases are not zero, so that mistakes in them are seen."""
    net = Network(
        k, inputs, outputs, hidden_dim=width, recurrent=recurrent, activation=activation, head_gain=1.0,
        generator=generator(1, "weights"), layer_norm=layer_norm,
    )  # fmt: skip
    net.params.data.add_(0.1 * torch.randn(net.params.shape, generator=generator(2, "biases")))
    return net


def steps_of(packing: Packing, x: Tensor) -> list[Tensor]:
    return list(x.split(packing.batch_sizes.tolist()))


def by_step(net: Network, x: Tensor, packing: Packing | None, hidden: Tensor) -> Tensor:
    """One time step after another, as the torch actor goes."""
    w, outputs = net.layers(net.params[0]), []
    for rows in [x] if packing is None else steps_of(packing, x):
        out, hidden = net.step(w, rows, hidden[: len(rows)])
        outputs.append(out)
    return torch.cat(outputs)


def by_numpy(net: Network, x: Tensor, packing: Packing | None, hidden: Tensor) -> Tensor:
    """One time step after another, as environment workers act: each row a slot of one agent."""
    w = {name: view.detach().numpy() for name, view in net.layers(net.params[0]).items()}
    arrays = {name: v.T if name in ("w_ih", "w_hh") else v for name, v in w.items() if not name.startswith("fc1")}
    form = Form(shared=True, recurrent=net.recurrent, activation=net._sizes["activation"])
    policy = Inference(form, arrays | {"first": w["fc1.w"], "bias": w["fc1.b"][None]})
    before, outputs = hidden.numpy()[:, None], []
    for rows in [x] if packing is None else steps_of(packing, x):
        none = np.full((len(rows), 1), -1)
        out, before = policy(rows.numpy()[:, None], none, before[: len(rows)])
        outputs.append(torch.from_numpy(out[:, 0]))
    return torch.cat(outputs)


def differentiated(
    form: Callable[[Tensor, Tensor], Tensor], params: Tensor, hidden: Tensor, goal: Tensor
) -> list[Tensor]:
    """Outputs, and the derivatives of their product with ``goal`` for the parameters and the hidden states."""
    params, hidden = params.detach().clone().requires_grad_(), hidden.clone().requires_grad_()
    out = form(params, hidden)
    found = torch.autograd.grad((out * goal).sum(), [params, hidden], allow_unused=True)
    return [out.detach(), *(x for x in found if x is not None)]


@pytest.mark.parametrize("layer_norm", [False, True], ids=["plain", "layer_norm"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize(("shape", "begun"), CASES.values(), ids=CASES)
def test_all_forms_agree(
    shape: tuple[list[int] | int, int, int, int], begun: bool, activation: str, layer_norm: bool
) -> None:
    lengths, inputs, width, outputs = shape
    recurrent = isinstance(lengths, list)
    net = make(inputs, width, outputs, recurrent=recurrent, activation=activation, layer_norm=layer_norm)
    g = generator(3, "rows")
    packing = Packing.of(torch.tensor(lengths)) if isinstance(lengths, list) else None
    rows, sequences = (len(packing), len(packing.order)) if packing else (lengths, lengths)
    x, goal = torch.randn(rows, inputs, generator=g), torch.randn(rows, outputs, generator=g)
    hidden = torch.randn(sequences, width, generator=g) if begun else torch.zeros(sequences, width)

    def through(twice: bool, x: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda p, h: net.single(p, x, packing, h if recurrent else None, twice=twice)

    exact = differentiated(through(True, x.double()), net.params[0].double(), hidden.double(), goal.double())
    forms = {"torch": differentiated(through(True, x), net.params[0], hidden, goal)}
    if compiled.available(x, width):
        forms["C"] = differentiated(through(False, x), net.params[0], hidden, goal)
    with torch.no_grad():
        forms |= {"step": [by_step(net, x, packing, hidden)], "numpy": [by_numpy(net, x, packing, hidden)]}
        kept_nothing = net.single(net.params[0], x, packing, hidden if recurrent else None)
    for name, found in forms.items():
        for ours, theirs in zip(found, exact, strict=False):  # the last two have no derivatives
            assert ours.dtype == torch.float32
            assert float((ours - theirs).norm() / theirs.norm()) < 2e-6, name
            torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))
    # what derivatives need is kept, or not: the same numbers
    assert torch.equal(kept_nothing, forms["C" if "C" in forms else "torch"][0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("shape", [SHAPES["many-blocks"], SHAPES["gru-ragged"]], ids=["ff", "gru"])
def test_on_a_gpu_it_is_the_same_function(shape: tuple[list[int] | int, int, int, int]) -> None:
    """Once differentiable (the GRU by Triton, or cuDNN's), and twice (torch's operations)."""
    lengths, inputs, width, outputs = shape
    recurrent = isinstance(lengths, list)
    net, g = make(inputs, width, outputs, recurrent=recurrent), generator(3, "rows")
    lengths_of = torch.tensor(lengths) if recurrent else None
    packing = None if lengths_of is None else Packing.of(lengths_of)
    rows, sequences = (len(packing), len(packing.order)) if packing else (lengths, 1)
    x, goal = torch.randn(rows, inputs, generator=g), torch.randn(rows, outputs, generator=g)
    hidden = torch.randn(sequences, width, generator=g)

    def curvature(device: str, dtype: torch.dtype, twice: bool) -> list[Tensor]:
        """Outputs, a derivative and, if ``twice``, the derivative of its square."""
        there = None if lengths_of is None else Packing.of(lengths_of.to(device))
        p = net.params.detach()[0].to(device, dtype).requires_grad_()
        start = hidden.to(device, dtype) if recurrent else None
        out = net.single(p, x.to(device, dtype), there, start, twice=twice)
        (first,) = torch.autograd.grad((out * goal.to(device, dtype)).sum(), p, create_graph=twice)
        second = torch.autograd.grad(first.square().sum(), p) if twice else ()
        return [found.detach().cpu().double() for found in (out, first, *second)]

    exact = curvature("cpu", torch.float64, True)
    with torch.backends.cudnn.flags(allow_tf32=False):
        for twice in (False, True):
            for ours, theirs in zip(curvature("cuda", torch.float32, twice), exact, strict=False):
                assert float((ours - theirs).norm() / theirs.norm()) < 1e-5


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_packed_sequences_are_torch_s_gru_with_the_same_weights(activation: str) -> None:
    net, h = make(5, 8, 3, recurrent=True, activation=activation).double(), 8
    w = {name: view.detach() for name, view in net.layers(net.params[0]).items()}
    gru, packing = nn.GRU(h, h).double(), Packing.of(torch.tensor([4, 1, 6, 6]))
    with torch.no_grad():
        for name in ("w_ih", "w_hh", "b_ih", "b_hh"):
            getattr(gru, f"{'weight' if name[0] == 'w' else 'bias'}{name[1:]}_l0").copy_(w[name])
        x, start = torch.randn(17, 5).double(), torch.randn(1, 4, h).double()
        before = {"relu": torch.relu, "tanh": torch.tanh}[activation](x @ w["fc1.w"] + w["fc1.b"])
        states = gru(PackedSequence(before, packing.batch_sizes), start)[0].data
        found = net.single(net.params[0], x, packing, start[0])
    torch.testing.assert_close(found, states @ w["head.w"] + w["head.b"])


def test_one_step_by_hand() -> None:
    """H = 1, x projected to (1, 2, 3), h = 0.5, recurrent weights (1, -1, 2), biases (0, 0.5, -1)."""
    out = recurrence(
        torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([1]), torch.tensor([[0.5]]), torch.tensor([[1.0], [-1.0], [2.0]]),
        torch.tensor([0.0, 0.5, -1.0]),
    )  # fmt: skip
    reset, update = 1 / (1 + np.exp(-1.5)), 1 / (1 + np.exp(-2.0))
    new = np.tanh(3.0 + reset * (2 * 0.5 - 1.0))
    assert out.item() == pytest.approx(new + update * (0.5 - new), rel=1e-6)


@pytest.mark.parametrize("shape", RECURRENT.values(), ids=RECURRENT)
@pytest.mark.parametrize("twice", [pytest.param(False, marks=needs_compiler), True], ids=["C", "torch"])
def test_a_sequence_is_computed_as_alone_and_as_in_a_rectangle(
    shape: tuple[list[int], int, int, int], twice: bool
) -> None:
    """In C to the bit: what the other sequences are, how long they are and how blocks cut them makes no difference."""
    lengths, inputs, width, outputs = shape
    net, g = make(inputs, width, outputs, recurrent=True), generator(5, "x")
    packing, most = Packing.of(torch.tensor(lengths)), max(lengths)
    x = torch.randn(most, len(lengths), inputs, generator=g)
    hidden = torch.randn(len(lengths), width, generator=g)
    params = net.params.detach()[0]
    rectangle = Packing.of(torch.full((len(lengths),), most))
    with torch.no_grad():
        found = net.single(params, x[packing.step, packing.sequence], packing, hidden[packing.order], twice=twice)
        full = net.single(params, x.flatten(0, 1), rectangle, hidden, twice=twice).view(most, len(lengths), -1)
    close = {"rtol": 0, "atol": 1e-5 if twice else 0}
    torch.testing.assert_close(found, full[packing.step, packing.sequence], **close)
    for i in {0, len(lengths) // 2, lengths.index(most)}:
        alone = Packing.of(torch.tensor(lengths[i : i + 1]))
        with torch.no_grad():
            own = net.single(params, x[: lengths[i], i], alone, hidden[i : i + 1], twice=twice)
        torch.testing.assert_close(own, found[packing.sequence == i], **close)


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("twice", [False, True])
def test_stacked_networks_are_each_alone(twice: bool, layer_norm: bool) -> None:
    net, x = (
        make(4, 16, 3, recurrent=False, k=3, layer_norm=layer_norm),
        torch.randn(3, 8, 4, generator=generator(5, "x")),
    )
    with torch.no_grad():
        found = net.stacked(net.params, x, twice=twice)
        for k in range(3):
            torch.testing.assert_close(found[k], net.single(net.params[k], x[k], twice=twice))
    assert not torch.allclose(found[0], found[1])


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("recurrent", [False, True], ids=["ff", "gru"])
def test_the_second_derivative(recurrent: bool, layer_norm: bool) -> None:
    """torch's form against finite differences of its first derivative; C refuses."""
    net = make(2, 3, 2, recurrent=recurrent, activation="tanh", layer_norm=layer_norm).double()
    packing = Packing.of(torch.tensor([3, 1, 2])) if recurrent else None
    x = torch.randn(6, 2, generator=generator(6, "x")).double()
    params = net.params.detach()[0].requires_grad_()
    assert torch.autograd.gradgradcheck(lambda p: net.single(p, x, packing, twice=True), params)


@needs_compiler
@pytest.mark.parametrize("recurrent", [False, True], ids=["ff", "gru"])
def test_c_refuses_a_second_derivative(recurrent: bool) -> None:
    net = make(3, 16, 2, recurrent=recurrent)
    packing = Packing.of(torch.tensor([2])) if recurrent else None
    out = net.single(net.params[0], torch.ones(2, 3), packing)
    (first,) = torch.autograd.grad((out**2).sum(), net.params, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize("lengths", [[], [0, 0]])
@pytest.mark.parametrize("twice", [False, True])
def test_no_rows_give_nothing_and_zeros(lengths: list[int], twice: bool) -> None:
    net, packing = make(3, 16, 2, recurrent=True), Packing.of(torch.tensor(lengths, dtype=torch.int64))
    out = net.single(net.params[0], torch.zeros(0, 3), packing, twice=twice)
    assert out.shape == (0, 2)
    (grad,) = torch.autograd.grad(out.sum(), net.params)
    assert not grad.any()


@needs_compiler
def test_rows_that_are_not_those_of_the_packing_are_refused() -> None:
    net, packing = make(3, 16, 2, recurrent=True), Packing.of(torch.tensor([2, 3]))
    for rows, sequences in ((4, 2), (5, 3)):
        with pytest.raises(ValueError, match="batch_sizes"):
            net.single(net.params[0], torch.zeros(rows, 3), packing, torch.zeros(sequences, 16))
    for counts in ([1, 2], [2, 2, -1], [3, 0], []):
        with pytest.raises(ValueError, match="batch_sizes"):
            compiled.recurrent(
                net.params[0], torch.zeros(3, 3), torch.tensor(counts), torch.zeros(max([1, *counts]), 16), net._sizes
            )
