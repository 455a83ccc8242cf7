"""Networks in C: numbers at their limits, learners that use them, and what happens where nothing can be compiled."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from oamarl.components.generators import generator
from oamarl.components.packing import Packing
from oamarl.modules.agents.rnn import Network
from oamarl.modules.kernels import build as native
from oamarl.modules.kernels import compiled

from learner_tools import make_batch, make_info, make_learner

needs_compiler = pytest.mark.skipif(native.library("network") is None, reason="there is no C compiler")


def make(
    inputs: int, width: int, outputs: int, activation: str, *, k: int = 1, recurrent: bool = False,
    layer_norm: bool = False,
) -> Network:  # fmt: skip
    net = Network(
        k, inputs, outputs, hidden_dim=width, recurrent=recurrent, activation=activation, head_gain=1.0,
        generator=generator(1, "weights"), layer_norm=layer_norm,
    )  # fmt: skip
    net.params.data.add_(0.1 * torch.randn(net.params.shape, generator=generator(2, "biases")))
    return net


@needs_compiler
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("k", [1, 3])
def test_from_the_first_layer_s_sums(k: int, layer_norm: bool) -> None:
    net, g = make(6, 32, 4, "tanh", k=k, layer_norm=layer_norm), generator(4, "sums")
    sums, goal = torch.randn(k, 211, 32, generator=g), torch.randn(k, 211, 4, generator=g)
    found = []
    for dtype in (torch.float32, torch.float64):  # the second by torch
        params, leaf = net.params.detach().to(dtype).requires_grad_(), sums.to(dtype).requires_grad_()
        out = net.after_first(params, leaf)
        found.append([out, *torch.autograd.grad((out * goal.to(dtype)).sum(), [params, leaf])])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=2e-5)
    assert not found[0][1][..., : 6 * 32 + 32].any()  # nothing of the first layer itself was used


@needs_compiler
@pytest.mark.parametrize("layer_norm", [False, True])
def test_a_row_does_not_depend_on_the_others(layer_norm: bool) -> None:
    net, x = make(5, 16, 3, "relu", layer_norm=layer_norm), torch.randn(230, 5, generator=generator(5, "x"))
    with torch.no_grad():
        together = net.single(net.params[0], x)
        for rows in (slice(0, 1), slice(3, 10), slice(100, 229)):
            assert torch.equal(net.single(net.params[0], x[rows]), together[rows])


@needs_compiler
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("recurrent", [False, True], ids=["ff", "gru"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_what_is_not_finite_stays_so_and_in_its_row(activation: str, recurrent: bool, layer_norm: bool) -> None:
    net = make(4, 16, 2, activation, recurrent=recurrent, layer_norm=layer_norm)
    packing = Packing.of(torch.tensor([3, 3, 3])) if recurrent else None
    x = torch.zeros(9, 4)
    x[[1, 4, 7]] = torch.nan  # a sequence
    with torch.no_grad():
        out = net.single(net.params[0], x, packing)
        assert out[[1, 4, 7]].isnan().all()
        assert out[[0, 2, 3, 5, 6, 8]].isfinite().all()
        huge = net.single(net.params[0], torch.full_like(x, 1e30), packing)
    assert activation == "relu" or huge.isfinite().all()


@needs_compiler
def test_small_numbers_keep_their_digits_in_tanh() -> None:
    """A network whose one path is tanh(tanh(x)): relative error 1e-6 for x from 1e-6 to 10, and at the seam."""
    net = make(1, 16, 1, "tanh")
    with torch.no_grad():
        w = net.layers(net.params.zero_()[0])
        w["fc1.w"][0, 0] = w["fc2.w"][0, 0] = w["head.w"][0, 0] = 1.0
        x = torch.cat([torch.logspace(-6, 1, 500), torch.linspace(0.6, 0.65, 200), torch.tensor([50.0, 1e4])])
        out = net.single(net.params[0], torch.stack([x, -x]).view(-1, 1))
    exact = torch.stack([x, -x]).view(-1, 1).double().tanh().tanh()
    assert float(((out - exact) / exact).abs().max()) < 1e-6


@needs_compiler
def test_no_rows_give_nothing_and_zeros() -> None:
    net = make(3, 16, 2, "relu")
    out = net.single(net.params[0], torch.zeros(0, 3))
    assert len(out) == 0
    (grad,) = torch.autograd.grad(out.sum(), net.params)
    assert not grad.any()


@needs_compiler
@pytest.mark.parametrize("rnn", [False, True], ids=["ff", "gru"])
@pytest.mark.parametrize("algorithm", ["mappo", "happo", "oappo"])
def test_learners_move_as_with_torch_s_operations(algorithm: str, rnn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = []
    for usable in (True, False):
        monkeypatch.setattr(compiled, "available", (lambda *_: True) if usable else (lambda *_: False))
        learner = make_learner(algorithm, make_info(), use_rnn=rnn, hidden_dim=32)
        learner.train(make_batch(learner.mac), 0)
        moved.append(learner.mac.network.params.detach().clone())
    assert not torch.equal(*moved)  # both ways were taken
    torch.testing.assert_close(*moved, rtol=0, atol=2e-4)


# -- compiling -------------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the user's; returns where libraries go."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(native.VARIABLE, raising=False)
    return tmp_path / "oamarl" / "native"


def get() -> object:
    return native.library.__wrapped__("network")


@needs_compiler
def test_it_is_compiled_once_and_again_for_another_processor(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadPoolExecutor(3) as pool:  # as several runs that start together
        assert all(pool.map(lambda _: get(), range(3)))
    (built,) = fresh.iterdir()
    when = built.stat().st_mtime_ns
    assert get()
    assert built.stat().st_mtime_ns == when
    monkeypatch.setattr(native, "_processor", lambda: "another")
    assert get()
    assert len(list(fresh.iterdir())) == 2


@pytest.mark.parametrize("compiler", ["false", "/nowhere/cc", "touch /nowhere/x"])
def test_without_a_compiler_that_works_there_is_none(
    compiler: str, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", compiler)
    assert get() is None
    assert not fresh.exists() or not list(fresh.iterdir())  # nothing half done is left


@needs_compiler
def test_without_a_cache_folder_it_is_compiled_for_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert get() is not None


@needs_compiler
def test_a_damaged_library_is_compiled_again(fresh: Path) -> None:
    script = "from oamarl.modules.kernels import build; build.library('network')"
    subprocess.run([sys.executable, "-c", script], check=True)  # another process: this one would remember the file
    (built,) = fresh.iterdir()
    built.write_bytes(b"\x7fELF nonsense")
    assert get() is not None
    assert len(built.read_bytes()) > 1000


def test_it_can_be_turned_off() -> None:
    script = "from oamarl.modules.kernels import compiled; import torch; print(compiled.available(torch.zeros(1), 128))"
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, native.VARIABLE: "0"}, capture_output=True, text=True
    )
    assert done.stdout.strip() == "False", done.stderr
