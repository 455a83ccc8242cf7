"""The sequential factor's clip in all four methods that have it, and what a run says of a factor that runs away."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from oamarl.learners.losses import SequentialFactor
from oamarl.utils.warn_once import begin_run

from learner_tools import assert_same, double, make_batch, make_info, make_learner, parameters, samples_of


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    begin_run()
    with double():
        yield


@pytest.mark.parametrize(("sequential", "off_agent"), [("happo", "oappo"), ("hatrpo", "oatrpo")])
def test_without_reuse_the_clip_is_the_same(sequential: str, off_agent: str) -> None:
    info = make_info()
    clipped = make_learner(sequential, info, factor_clip=1.01, lr=0.05)
    same = make_learner(off_agent, info, factor_clip=1.01, lr=0.05, reuse_scheme="none")
    free = make_learner(sequential, info, lr=0.05)
    for k in range(2):
        batch = make_batch(clipped.mac, seed=k)
        scalars = [learner.train(batch, 100 * k)[0] for learner in (clipped, same, free)]
        assert_same(clipped, same)
        assert 1 / 1.01 <= scalars[0]["factor_min"] <= scalars[0]["factor_max"] <= 1.01
        assert scalars[0]["factor_clip_frac"] == scalars[1]["factor_clip_frac"] > 0
        assert "factor_clip_frac" not in scalars[2]
    assert not torch.equal(parameters(clipped)["policies"], parameters(free)["policies"])


def test_a_factor_that_runs_away_is_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Two of three agents made their actions e^3 (e^4) times as probable: the third factor is e^6 = 403 (2981)."""
    learner = make_learner("happo", make_info())
    samples = samples_of(learner, make_batch(learner.mac, dead=False))
    for log_ratio, clip, words in ((3.0, None, 0), (4.0, 2.0, 0), (4.0, None, 1), (4.0, None, 0)):
        factor = SequentialFactor(learner.mac, samples, clip)
        factor.times_advantage([0])
        factor.log_ratios[:, :2] = log_ratio
        factor.times_advantage([2])
        factor.scalars()
        told = capsys.readouterr().err
        assert told.count("between 1 and 3e+03 in this update") == told.count("factor_clip=2") == words


@pytest.mark.parametrize(("n", "keys", "told"), [
    (40, {"reuse_scheme": "adaptive_roles"}, 1), (40, {"reuse_mode": "frequency"}, 0),
    (40, {"reuse_scheme": "none"}, 0),
    (3, {}, 0),
])  # fmt: skip
def test_the_cost_of_learning_from_many_is_said(n: int, keys: dict[str, str], told: int) -> None:
    found = make_learner("oappo", make_info(n_agents=n), **keys).notices()
    assert len(found) == told
    assert all("up to 40 here: 40 times HAPPO's work" in x and "reuse_mode=frequency" in x for x in found)
