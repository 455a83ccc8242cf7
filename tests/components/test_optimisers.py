"""Optimisers: torch's own numbers and states, without torch's compiler."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from oamarl.components.updates import optimisers

from conftest import ROOT
from run_tools import assert_same


def test_a_state_of_another_device_is_taken_over() -> None:
    """A GPU's optimiser counts its steps there, and says that it can be captured, which no CPU's may say."""
    found = []
    for other in (False, True):
        x = torch.tensor([1.0, -2.0], requires_grad=True)
        optimiser = optimisers.Adam([x], lr=0.1)
        for k in range(3):
            if other and k == 2:
                state = optimiser.state_dict()
                state["param_groups"][0].update(fused=True, capturable=True)
                optimiser = optimisers.Adam([x], lr=0.1)
                optimiser.load_state_dict(state)
            x.grad = 2 * x.detach()
            optimiser.step()
        assert not optimiser.param_groups[0]["capturable"]
        assert not optimiser.param_groups[0]["fused"]
        found.append(x.tolist())
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("name", "options"),
    [("Adam", {}), ("Adam", {"lr": 0.01, "eps": 1e-5}), ("Adam", {"fused": True}), ("RAdam", {"lr": 0.01})],
)
def test_numbers_and_state_are_those_of_torch(name: str, options: dict[str, Any]) -> None:
    """Steps before and after a state was taken and loaded, also into the other's optimiser."""

    def learned(first: Any, second: Any) -> Any:
        g = torch.Generator().manual_seed(1)
        parameters = [torch.randn(shape, generator=g).requires_grad_() for shape in ((3, 5), (7,))]
        optimiser = first(parameters, **options)
        for k in range(10):
            if k == 5:
                state, optimiser = optimiser.state_dict(), second(parameters, **options)
                optimiser.load_state_dict(state)
            loss = sum((p * torch.randn(p.shape, generator=g)).sum() ** 2 for p in parameters)
            assert isinstance(loss, torch.Tensor)
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            assert all(p.grad is None for p in parameters)
        return [p.detach() for p in parameters], optimiser.state_dict()

    ours, theirs = getattr(optimisers, name), getattr(torch.optim, name)
    want = learned(theirs, theirs)
    for first, second in ((ours, ours), (ours, theirs), (theirs, ours)):
        assert_same(learned(first, second), want)


def test_a_closure_is_called_with_gradients() -> None:
    x = torch.ones(2, requires_grad=True)
    optimiser = optimisers.Adam([x], lr=0.1)

    def closure() -> torch.Tensor:
        loss = (x * x).sum()
        loss.backward()
        return loss

    assert optimiser.step(closure).item() == 2.0
    torch.testing.assert_close(x.detach(), torch.full((2,), 0.9))  # the first step of Adam is of the size of lr


def test_a_run_loads_neither_the_compiler_nor_pandas(tmp_path: Path) -> None:
    """Methods that differentiate twice, with recurrent networks, and learners from a replay."""
    code = (
        "import sys, tempfile, pathlib; sys.path[:] = {path!r}; import conftest, run_tools\n"
        "from oamarl.storage import sacred_run\n"
        "for name in ('oatrpo', 'seps', 'qmix', 'pqn'):\n"
        "    run_tools.train(pathlib.Path(tempfile.mkdtemp(dir=sys.argv[1])), name, 'toy_envs:EarlyEnd',"
        " {{'limit': 7}}, t_max=48, use_rnn=name == 'oatrpo')\n"
        "sys.exit(', '.join({{'torch._dynamo', 'pandas'}} & set(sys.modules)) or None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code.format(path=sys.path), str(tmp_path)], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
