"""Recurrent policies learn from others' experience on segments: of what began where an episode did."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from oamarl.components.updates.samples import Samples
from oamarl.learners.off_agent import MappingRow, reuse_rows
from oamarl.training.building import build

from run_tools import settings

CPU = torch.device("cpu")


def made(config: str, **overrides: Any) -> tuple[Any, Any, Any]:
    values = {
        "runner": "rollout",
        "rollout_length": 5,
        "batch_size_run": 3,
        "t_max": 1000,
        "use_rnn": True,
        **overrides,
    }
    return build(settings(config, "maze", {"time_limit": 7}, **values), CPU)


def second_batch(config: str, **overrides: Any) -> tuple[Any, Samples, Any]:
    """Learner, samples and mapping of a batch whose rows begin inside episodes."""
    runner, mac, learner = made(config, **overrides)
    runner.run()
    batch, _ = runner.run()
    samples, _ = learner.samples(batch)
    mapping = mac.mapping(samples, 7, learner.generators["kl"], learner.generators["mapping"])
    runner.close()
    assert samples.carried is not None
    return learner, samples, mapping


def test_entries_that_are_under_way_are_carried() -> None:
    """Three rows of 5 steps, the first of which are the last two of episodes of 7."""
    _, samples, _ = second_batch("oappo", reuse_scheme="all")
    assert samples.sequences is not None
    assert samples.carried is not None
    assert samples.sequences.whole.tolist() == [2, 3] * 3
    assert samples.carried.tolist() == [True, False] * 3
    shared = samples.shared()
    assert shared.n_steps == 9
    assert shared.carried is None
    assert shared.sequences is not None
    assert shared.sequences.hidden is None
    kept = samples.steps(torch.tensor([1, 3, 5]))
    assert kept.tolist() == [2, 3, 4, 7, 8, 9, 12, 13, 14]
    assert torch.equal(shared.actions, samples.actions[kept])
    assert torch.equal(samples.shared_counts(), shared.counts())


@pytest.mark.parametrize("drawn", [False, True])
def test_rows_weigh_what_the_mapping_says(drawn: bool) -> None:
    """Of each source they add up to M[i, j], whatever part of its steps the learner can read; own ones are all in."""
    learner, samples, mapping = second_batch("oappo", reuse_scheme="all", reuse_lambda=0.4)
    i, n = 1, samples.valid.shape[1]
    row, counts = MappingRow.of(mapping, i, samples), samples.counts()
    for j in range(n):
        source = torch.full((samples.n_entries,), j) if drawn else None
        pieces = list(reuse_rows(learner.mac, row, samples, samples.advantage, counts, samples.entries, source))
        weight = sum(float(p.weight[p.valid & (p.source == j)].sum()) for p in pieces)
        assert weight == pytest.approx(1.0 if drawn else mapping.matrix[i, j])
        steps = sum(int((p.source == j).sum()) for p in pieces)
        assert steps == int((samples if j == i else samples.shared()).valid[:, j].sum())
        if drawn and j != i:
            assert all(p.hidden is None or not p.hidden.any() for p in pieces)


def test_others_are_read_from_an_episode_s_beginning() -> None:
    """Rows of other sources give the log-probabilities of whole episodes that are read alone."""
    learner, samples, mapping = second_batch("oappo", reuse_scheme="all")
    mac, row = learner.mac, MappingRow.of(mapping, 0, samples)
    (rows,) = reuse_rows(
        mac, row, samples, samples.advantage, samples.counts(), samples.entries, torch.full((samples.n_entries,), 1)
    )
    found = rows.policy(mac, mac.network.params[0]).log_prob(rows.actions)
    shared = samples.shared()
    alone = mac.own_log_ratio(shared, 0, 1) + shared.log_prob[:, 1]
    assert rows.packing is not None
    torch.testing.assert_close(found, alone.view(3, 3)[rows.packing.sequence, rows.packing.step])
    carried = samples.steps(torch.tensor([0, 2, 4]))
    assert not mac.own_log_ratio(samples, 0, 1)[carried].any()


def test_distances_are_those_of_what_can_be_read() -> None:
    learner, samples, mapping = second_batch("oappo", reuse_scheme="adaptive_kl", reuse_kl_samples=10_000)
    mac = learner.mac
    again = mac.distances(mac.measured(samples.shared(), samples.shared().entries))
    np.testing.assert_allclose(mapping.distances, again.kl)
    assert np.isfinite(mapping.distances).all()


def test_where_nothing_can_be_read_agents_learn_from_themselves() -> None:
    """Segments of two steps: the second batch is the inside of episodes alone."""
    _, samples, mapping = second_batch("oappo", reuse_scheme="all", rollout_length=2)
    assert samples.shared().n_entries == 0
    assert np.array_equal(mapping.matrix, np.eye(samples.valid.shape[1]))


def state(learner: Any) -> list[Tensor]:
    return [learner.mac.network.params, learner.value.network.params]


def test_own_experience_alone_is_happo() -> None:
    """Eq. 9 with lambda = 1, on segments whose sequences continue."""
    found = []
    for config, more in (("happo", {}), ("oappo", {"reuse_scheme": "adaptive_kl", "reuse_lambda": 1.0})):
        runner, _, learner = made(config, **more)
        for _ in range(3):
            t = runner.t_env
            learner.train(runner.run()[0], t)
        runner.close()
        found.append(state(learner))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize(
    ("config", "overrides"),
    [
        ("oappo", {}),
        ("oatrpo", {}),
        ("oappo", {"reuse_mode": "frequency", "reuse_scheme": "all"}),
        ("oappo", {"reuse_mode": "sample", "reuse_scheme": "all"}),
        ("oappo", {"reuse_clip": "learner", "reuse_rho_clip": 2.0, "reuse_scheme": "all"}),
        ("oappo", {"reuse_scheme": "adaptive_bound"}),
        ("oappo_paper", {"reuse_check": "candidate"}),
        ("oatrpo_paper", {}),
        ("oappo", {"reuse_scheme": "all", "reuse_lambda": 0.0, "num_minibatches": 4}),
    ],
)
def test_every_scheme_and_mode_trains(config: str, overrides: dict[str, Any], length: int) -> None:
    runner, _, learner = made(config, rollout_length=length, **overrides)
    for _ in range(4):
        t = runner.t_env
        scalars, _ = learner.train(runner.run()[0], t)
        assert all(np.isfinite(v) for k, v in scalars.items() if "distance" not in k), scalars
    runner.close()
    assert all(x.isfinite().all() for x in state(learner))
