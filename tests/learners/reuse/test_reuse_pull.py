"""OAPPO's pull towards the sources in use, a KL term of its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from oamarl.learners.losses import clip_stats, clipped_loss
from oamarl.learners.off_agent import MappingRow, reuse_rows

from learner_tools import assert_same, double, make_batch, make_info, make_learner, samples_of

EVEN = {"reuse_scheme": "all", "reuse_lambda": "uniform"}


def trained(**more: Any) -> Any:
    info = make_info()
    learner = make_learner("oappo", info, **{**EVEN, **more})
    learner.train(make_batch(learner.mac), 0)
    return learner


@pytest.mark.parametrize("rnn", [False, True], ids=["ff", "gru"])
def test_it_adds_the_divergence_from_other_sources_alone(rnn: bool) -> None:
    with double():
        info = make_info()
        learner = make_learner("oappo", info, use_rnn=rnn, **EVEN)
        batch = make_batch(learner.mac)
        samples, mac = samples_of(learner, batch), learner.mac
        mapping = mac.mapping(samples, 10, torch.Generator(), torch.Generator())
        counts = samples.counts()
        row = MappingRow.of(mapping, 0, samples)
        (rows,) = reuse_rows(mac, row, samples, samples.advantage, counts, samples.entries, None)
        params = mac.network.params.detach()[0] + 0.3 * torch.randn(mac.network.params.shape[1])
        stats = clip_stats(0.2, 3, torch.device("cpu"))[0]
        plain = clipped_loss(mac, params, rows, 0.2, 0.01, stats)
        pulled = clipped_loss(mac, params, rows, 0.2, 0.01, stats, 0.7 * (rows.source != 0))
        ratio = (rows.policy(mac, params).log_prob(rows.actions) - rows.log_prob).exp()
        other = rows.valid & (rows.source != 0)
        expected = 0.7 * (rows.weight * (ratio - 1.0 - ratio.log()))[other].sum()
        assert expected > 0.001
        torch.testing.assert_close(pulled - plain, expected)


def test_without_others_experience_it_has_no_effect() -> None:
    none = {"reuse_scheme": "none", "reuse_lambda": 0.7}
    assert_same(trained(**none), trained(**none, reuse_pull=5.0))


def test_it_keeps_policies_near_the_sources() -> None:
    """With a pull that outweighs everything else, the divergence from the sources falls."""

    def apart(pull: float) -> float:
        with double():
            info = make_info()
            learner = make_learner("oappo", info, reuse_pull=pull, reuse_clip="learner", lr=0.01, **EVEN)
            batch = make_batch(learner.mac)
            for _ in range(10):
                learner.train(batch, 0)
            mac, samples = learner.mac, samples_of(learner, batch)
            return float(mac.distances(mac.measured(samples, samples.entries)).kl.mean())

    assert apart(50.0) < 0.5 * apart(0.0)
