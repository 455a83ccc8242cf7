"""What would make a GPU wait, found without one: rollouts and mini-batches read nothing from their device."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from far_device import FAR, far_device

from oamarl.training.building import build

from run_tools import CPU, settings

#: whatever these count would be a step of a queue that a GPU has to empty first
READS = ("nonzero", "_local_scalar_dense", "to the host", "mask as index", "repeat_interleave", "_unique2")


def parts(config: str, device: torch.device, **overrides: Any) -> tuple[Any, Any, Any]:
    values = {"runner": "rollout", "rollout_length": 10, "batch_size_run": 3, "t_max": 1000, "backend": "device",
              "epochs": 1, **overrides}  # fmt: skip
    return build(settings(config, "maze", {"time_limit": 7}, **values), device)


def reads(seen: Counter[str]) -> dict[str, int]:
    return {name: seen[name] for name in READS if seen[name]}


def test_a_rollout_is_read_once_however_long_it_is() -> None:
    found = []
    for length in (5, 11):
        with far_device() as watch:
            runner, _, _ = parts("mappo", FAR, rollout_length=length, use_rnn=True, obs_last_action=True)
            runner.run()
            watch.seen.clear()
            batch, played = runner.run()
            found.append(dict(watch.seen))
            assert played.lengths
            assert batch.obs.device == FAR
    assert found[0] == found[1]
    assert sum(reads(Counter(found[0])).values()) <= 8


@pytest.mark.parametrize(
    ("config", "overrides"),
    [
        ("mappo", {}),
        ("happo", {}),
        ("oappo", {}),
        ("pqn_vdn", {"use_rnn": False, "critic_epochs": ...}),
    ],
    ids=["mappo", "happo", "oappo", "pqn"],
)
def test_mini_batches_are_not_read_and_updates_are_the_cpus(config: str, overrides: dict[str, Any]) -> None:
    found, scalars = [], []
    for n_minibatches in (2, 3):
        with far_device() as watch:
            runner, _, learner = parts(config, FAR, num_minibatches=n_minibatches, **overrides)
            batch, _ = runner.run()
            watch.seen.clear()
            scalars.append(learner.train(batch, 0)[0])
            found.append(reads(watch.seen))
    assert found[0] == found[1]
    runner, _, learner = parts(config, CPU, num_minibatches=3, **overrides)
    expected, _ = learner.train(runner.run()[0], 0)
    assert {k: float(v) for k, v in scalars[1].items()} == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_a_host_tensor_among_those_of_the_device_is_found() -> None:
    with far_device() as watch:
        there = torch.ones(3, device=FAR)
        with pytest.raises(AssertionError, match="add gets tensors of the device and of the host"):
            there + torch.ones(3)
        assert not watch.seen
        assert float(there.sum()) == 3.0
        assert there.cpu().tolist() == [1.0] * 3
        assert len(there[there > 0]) == 3
    assert dict(watch.seen) == {"_local_scalar_dense": 1, "to the host": 1, "mask as index": 1}
