"""What would make a GPU wait, found without one: rollouts and mini-batches read nothing from their device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from far_device import FAR, Watch, far_device

from oamarl.components.updates import graphs
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
        ("mappo", {"use_rnn": True, "critic_use_rnn": True}),
        ("mappo", {"use_rnn": True, "sharing": [0, 1, 0, 1], "obs_agent_id": False}),
        ("happo", {"use_rnn": True}),
        ("oappo", {"use_rnn": True}),
        ("pqn_vdn", {"critic_epochs": ...}),
    ],
    ids=["mappo", "happo", "oappo", "pqn", "mappo-gru", "groups-gru", "happo-gru", "oappo-gru", "pqn-gru"],
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


class Replayed:
    """Stands for a CUDA graph: what it holds is done at each replay, and results are written to the same places."""

    def __init__(self, watch: Watch, work: Callable[[], Any]) -> None:
        self.watch, self.work, self.result = watch, work, list[torch.Tensor]()

    def replay(self) -> None:
        with self.watch.capture():
            for k, x in enumerate(self.work() or ()):
                if k == len(self.result):
                    self.result.append(x)
                else:
                    self.result[k].copy_(x)


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[Replayed]:
    made: list[Replayed] = []

    def capture(self: graphs.Graphs, work: Callable[[], Any]) -> tuple[Replayed, Any]:
        made.append(Replayed(Watch.current[-1], work))
        return made[-1], made[-1].result

    monkeypatch.setattr(graphs, "captures", lambda device: device == FAR)
    monkeypatch.setattr(graphs.Graphs, "capture", capture)
    return made


@pytest.mark.parametrize(
    ("config", "overrides", "graphs_of_a_batch"),
    [
        ("mappo", {"standardise_returns": True}, 2),
        ("happo", {}, 5),
        ("oappo", {}, 5),
        ("oappo", {"reuse_scheme": "all", "reuse_lambda": 0.5, "reuse_mode": "frequency", "reuse_clip": "learner"}, 9),
        ("mappo", {"standardise_obs": True, "common_reward": False}, 2),
        ("pqn_vdn", {"use_rnn": False, "critic_epochs": ..., "epochs": 2}, 0),
        ("mappo", {"use_rnn": True, "obs_last_action": True}, 1),
        ("ippo_ns", {"obs_last_action": True, "layer_norm": True}, 2),
        ("mappo", {"sharing": [0, 1, 0, 1], "obs_agent_id": False, "value_clip": 0.2}, 2),
        ("happo", {"critic_sharing": "separate", "standardise_rewards": True}, 5),
        ("oappo", {"reuse_scheme": "all", "reuse_lambda": 0.5, "reuse_clip": "learner", "reuse_pull": 0.1}, 5),
        ("hatrpo", {}, 1),
        ("oatrpo", {}, 1),
    ],
    ids=[
        "mappo",
        "happo",
        "oappo",
        "sampled",
        "own",
        "pqn",
        "gru",
        "ippo_ns",
        "groups",
        "critics",
        "all",
        "hatrpo",
        "oatrpo",
    ],
)
def test_what_graphs_hold_gives_the_numbers_of_the_cpu(
    config: str, overrides: dict[str, Any], graphs_of_a_batch: int, replays: list[Replayed]
) -> None:
    """Rollouts, whose two graphs of a batch come first, and updates; two batches."""
    values = {"num_minibatches": 5, "epochs": 2, **overrides}
    found = []
    with far_device():
        runner, _, learner = parts(config, FAR, **values)
        for _ in range(2):
            batch, played = runner.run()
            acted = len(replays)
            found.append((batch.actions.cpu(), batch.reward.cpu(), played.lengths, learner.train(batch, 0)[0]))
    assert len(replays) - acted == graphs_of_a_batch
    runner, _, learner = parts(config, CPU, **values)
    for actions, reward, lengths, scalars in found:
        batch, played = runner.run()
        assert torch.equal(actions, batch.actions)
        assert torch.equal(reward, batch.reward)
        assert lengths == played.lengths
        expected, _ = learner.train(batch, 0)
        assert {k: float(v) for k, v in scalars.items()} == pytest.approx(expected, rel=1e-3, abs=1e-5)


class Own(torch.nn.Module):
    """A network of the user's own."""

    def __init__(self, inputs: int, outputs: int, config: Any) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(inputs, outputs)

    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.layer(x), hidden


@pytest.mark.parametrize("own", [True, False])
def test_what_the_user_wrote_is_in_no_graph(own: bool, replays: list[Replayed]) -> None:
    """It may read from the device. The built-in critic's steps are a graph beside it."""
    network = {"agent": f"{__name__}:Own", "head_gain": ..., "hidden_dim": ...} if own else {}
    with far_device():
        runner, _, learner = parts("mappo", FAR, num_minibatches=5, epochs=2, **network)
        for _ in range(3):
            runner.run()
        assert len(replays) == (0 if own else 6)
        assert learner.descents._graphs.active is not own
        assert learner.value.descents._graphs.active


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
