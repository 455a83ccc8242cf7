"""Figure 1 of the HATRPO paper, r = a1 a2: trust-region updates at once lower the joint return, sequential ones raise
it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from oamarl.learners.losses import SequentialFactor
from oamarl.run import build

from learner_tools import constant_policy, fix_order
from run_tools import CPU, settings

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "figure_1.py"


@pytest.fixture(scope="module")
def exact() -> Any:
    """The exact updates, of which the picture is drawn."""
    spec = importlib.util.spec_from_file_location("figure_1", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_exact_updates(exact: Any) -> None:
    """KL of unit Gaussians is (change of mean)^2 / 2 = 0.5: each mean moves by 1."""
    assert exact.joint_return(exact.START) == -0.0625
    assert exact.simultaneous(exact.START, 0.5) == (0.75, -0.75)
    assert exact.joint_return((0.75, -0.75)) == -0.5625
    assert exact.sequential(exact.START, 0.5) == (0.75, 1.25)
    assert exact.joint_return((0.75, 1.25)) == 0.9375
    # at once, every second update undoes the one before
    assert exact.simultaneous((0.75, -0.75), 0.5) == exact.START


@pytest.mark.parametrize("delta", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("start", [(-0.25, 0.25), (0.3, -0.4), (0.5, 0.2), (-1.0, -0.1)])
def test_the_joint_return_never_falls_in_sequence(exact: Any, delta: float, start: tuple[float, float]) -> None:
    found = exact.sequential(start, delta)
    assert exact.joint_return(found) > exact.joint_return(start)
    # of means of one sign both kinds of updates raise it
    at_once = exact.joint_return(exact.simultaneous(start, delta))
    if start[0] * start[1] > 0:
        assert at_once > exact.joint_return(start)


def means_after_an_update(seed: int) -> tuple[float, float]:
    """The policies' means after one update of HATRPO from those of the figure, with deviations of 1."""
    asked = settings(
        "hatrpo", "matrix", {"key": "figure1", "steps": 64}, runner="parallel", batch_size_run=64, hidden_dim=8,
        kl_threshold=0.5, entropy_coef=0.0, gamma=0.0, seed=seed,
    )  # fmt: skip
    runner, mac, learner = build(asked, CPU)
    try:
        for agent, mean in enumerate((-0.25, 0.25)):
            constant_policy(mac, agent, [mean])
            mac.network.layers(mac.network.params.data[mac.index[agent]])["free"].zero_()
        fix_order(learner, [0, 1])
        batch, _ = runner.run()
        assert mac.all_outputs(batch)[0, 0].tolist() == [[-0.25, 0.0], [0.25, 0.0]]
        learner.train(batch, 4096)
        first, second = mac.all_outputs(batch)[0, 0, :, 0].tolist()
        return first, second
    finally:
        runner.close()


def test_hatrpo_raises_the_joint_return() -> None:
    """On 4,096 samples, to the place of the exact update."""
    found = means_after_an_update(1)
    assert found == pytest.approx((0.75, 1.25), abs=0.08)
    assert found[0] * found[1] > -0.0625


def test_trust_regions_without_the_sequence_lower_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same update, but for the factor: no agent's advantage has the updates of those before it."""
    monkeypatch.setattr(SequentialFactor, "include", lambda self, agent, source: None)
    first, second = means_after_an_update(1)
    assert first == pytest.approx(0.75, abs=0.08)
    assert second < 0  # by the whole of its step or, where the samples' KL is a little too large, by half of it
    assert first * second < -2 * 0.0625
