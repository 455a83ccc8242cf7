"""Any ``nn.Module`` as stacked networks: the same numbers as the module itself, and one sentence where it cannot be."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import nn

from oamarl.components.generators import generator
from oamarl.components.packing import Packing
from oamarl.modules.agents.module import ModuleStack
from oamarl.modules.options import ModuleConfig
from oamarl.modules.stack import Inputs
from oamarl.utils.errors import UserError

import own_networks
from own_networks import FirstOrder, Forgetful, NotAModule, Plain, TiedAndConstant, Whole

INPUTS = Inputs(5, 3, None, 2, 2)


def stack(module: Any, k: int = 2, seed: int = 0, **more: Any) -> ModuleStack:
    return ModuleStack(module, k, INPUTS, 4, ModuleConfig(8, "tanh"), generator(seed, "x"), **more)


def loaded(net: ModuleStack, k: int) -> nn.Module:
    """A module of its own with the parameters of network ``k``."""
    module = type(net._pristine[0].module)(INPUTS, 4, ModuleConfig(8, "tanh"))
    with torch.no_grad():
        for name, p in module.named_parameters():
            p.copy_(net.layers(net.params[k])[name])
    return module


@pytest.mark.parametrize("module", [Plain, TiedAndConstant])
def test_networks_are_the_modules(module: Any) -> None:
    net, x = stack(module), torch.randn(2, 7, 5)
    assert not net.recurrent
    assert net.initial_hidden(3).shape == (3, 0)
    out = net.stacked(net.params, x)
    for k in range(2):
        own = loaded(net, k)
        torch.testing.assert_close(out[k], own(x[k], x[k, :, :0])[0])
        torch.testing.assert_close(net.single(net.params[k], x[k]), out[k])
        row = net.row(k)
        (gradient,) = torch.autograd.grad(net.single(row, x[k]).square().sum(), row)
        own(x[k], x[k, :, :0])[0].square().sum().backward()
        for name, p in own.named_parameters():
            expected = torch.zeros_like(p) if p.grad is None else p.grad  # one that is not trained has none
            torch.testing.assert_close(net.layers(gradient)[name], expected)
    w = net.layers(net.params)
    torch.testing.assert_close(net.step(w, x, net.initial_hidden(2, 7))[0], out)
    assert not torch.equal(net.params[0], net.params[1])


def test_initial_parameters_are_torchs_own_and_follow_the_runs_generator() -> None:
    before = torch.get_rng_state()
    net = stack(Plain, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(net.params, stack(Plain, seed=1).params)
    assert not torch.equal(net.params, stack(Plain, seed=2).params)
    seed = int(torch.randint(2**63 - 1, (), generator=generator(1, "x")))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first = Plain(INPUTS, 4, None)
    assert torch.equal(net.params[0], torch.cat([p.detach().flatten() for p in first.parameters()]))


def test_rows_are_trained_alone() -> None:
    net = stack(Plain)
    before, row = net.params.detach().clone(), net.row(1)
    row.data += 1.0
    assert torch.equal(net.params[0], before[0])
    assert torch.equal(net.params[1], before[1] + 1.0)


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("name", ["GatedCell", "Whole"])
def test_packed_sequences_are_the_module_step_by_step(name: str, given: bool, networks: Any) -> None:
    net = stack(networks.GatedCell if name == "GatedCell" else Whole, 1)
    assert net.recurrent
    lengths = torch.tensor([2, 5, 1, 4])
    packing = Packing.of(lengths)
    padded, hidden = torch.randn(4, 5, 5), torch.randn(4, net.memory) * given
    w = net.layers(net.params[0])
    expected, state = [], hidden
    for t in range(5):
        out, state = net.step(w, padded[:, t], state)
        expected.append(out)
    leaf = net.row(0)
    found = net.single(leaf, padded[packing.sequence, packing.step], packing, hidden[packing.order] if given else None)
    torch.testing.assert_close(found, torch.stack(expected, 1)[packing.sequence, packing.step])
    (gradient,) = torch.autograd.grad(found.square().sum(), leaf)
    one = [net.single(leaf, padded[r, :n], Packing.of(lengths[r : r + 1]), hidden[r : r + 1]) for r, n in
           enumerate(lengths.tolist())]  # fmt: skip
    torch.testing.assert_close(torch.autograd.grad(torch.cat(one).square().sum(), leaf)[0], gradient)


def test_free_numbers_are_outputs_of_every_row() -> None:
    net = stack(Plain, 2, n_free=3, free_start=-0.5)
    assert net.params.shape == (2, stack(Plain).params.shape[1] + 3)
    out = net.stacked(net.params, torch.randn(2, 6, 5))
    assert out.shape == (2, 6, 7)
    assert bool((out[..., 4:] == -0.5).all())
    leaf = net.row(0)
    (gradient,) = torch.autograd.grad(net.single(leaf, torch.randn(6, 5))[:, 4:].sum(), leaf)
    assert gradient[-3:].tolist() == [6.0, 6.0, 6.0]


def test_threads_do_not_disturb_one_another() -> None:
    net = stack(Plain, 8)
    x = torch.randn(64, 5)
    expected = [net.single(p, x) for p in net.params.detach()]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda k: net.single(net.params.detach()[k % 8], x), range(400)))
    for k, out in enumerate(found):
        assert torch.equal(out, expected[k % 8])


def test_second_derivatives_are_asked_for(networks: Any) -> None:
    for module in (Plain, TiedAndConstant, Forgetful, networks.GatedCell, networks.LayerNormMLP):
        stack(module).check_twice("OATRPO")
    with pytest.raises(UserError, match="OATRPO differentiates policies twice, and agent=own_networks:FirstOrder has"):
        stack(FirstOrder).check_twice("OATRPO")


REFUSED = {
    "OtherConstructor": "another constructor than __init__(self, inputs, outputs, config)",
    "FailingConstructor": "fails in __init__: KeyError: 'width'",
    "NoForward": "has no method forward(self, x, hidden)",
    "OneArgument": "has no method forward(self, x, hidden)",
    "OneResult": "does not return (out, hidden) from forward",
    "WrongSize": "returns outputs of shape (3, 8) from forward: (3, 4) is expected",
    "WrongMemory": "returns the memory (3, 1) from forward: shape (3, 3) is expected",
    "NoMemoryBack": "returns the memory NoneType from forward",
    "Ones": "begins with a memory that is not zeros",
    "OneRow": "returns (1, 3) from initial_hidden(3)",
    "NoParameters": "has no parameters",
    "Dropout": "gives other outputs from call to call",
    "BatchNorm": "changes its buffer 'norm.num_batches_tracked' in forward",
    "AcrossRows": "gives a row other outputs beside other rows",
    "SharedBetweenCopies": "shares its parameter 'shared.weight' between copies",
    "Raises": "fails in forward: ZeroDivisionError: of the module",
    "Double": "has the parameter 'first.weight' of type torch.float64",
    "ListOfLayers": "depends on random numbers that are not among its parameters",
    "RandomBuffer": "depends on random numbers that are not among its parameters",
    "LooksAhead": "gives other outputs on a sequence than step by step",
    "NumpyInside": "gives outputs that do not depend on its parameters",
    "NotAModule": "is not a torch.nn.Module",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_breaks_the_contract_is_one_sentence(name: str) -> None:
    module = NotAModule if name == "NotAModule" else getattr(own_networks, name)
    with pytest.raises(UserError) as caught:
        stack(module)
    text = str(caught.value)
    assert text.startswith(f"agent=own_networks:{name} ")
    assert REFUSED[name] in text
    assert "\n" not in text


def test_inputs_are_a_number_that_says_more() -> None:
    inputs = Inputs(12, 8, [2, 2, 2], 3, 1)
    assert inputs == 12
    assert nn.Linear(inputs, 3).weight.shape == (3, 12)
    assert (inputs.obs_size, inputs.obs_shape, inputs.n_actions, inputs.n_agents) == (8, (2, 2, 2), 3, 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_device(networks: Any) -> None:
    for module in (TiedAndConstant, networks.GatedCell, Whole, networks.LayerNormMLP):
        net = stack(module, 1)
        lengths = torch.tensor([2, 3])
        packing = Packing.of(lengths) if net.recurrent else None
        x = torch.randn(5, 5)
        expected = net.single(net.params[0], x, packing).detach()
        net.to("cuda")
        on = Packing.of(lengths.cuda()) if net.recurrent else None
        found = net.single(net.params[0], x.cuda(), on)
        torch.testing.assert_close(found.detach().cpu(), expected, rtol=1e-3, atol=1e-4)
        torch.autograd.grad(found.square().sum(), net.params)
