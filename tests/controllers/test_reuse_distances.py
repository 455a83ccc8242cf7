"""D, b and c of learners and sources: measured together, on the sources' living steps, under their masks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from learner_tools import (
    constant_policy,
    double,
    make_batch,
    make_info,
    make_learner,
    parameters,
    policy_on,
    samples_of,
)

P, Q = [0.5, 0.3, 0.2], [0.1, 0.1, 0.8]


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    with double():
        yield


def measured(learner: Any, batch: Any) -> Any:
    samples = samples_of(learner, batch)
    return learner.mac.distances(learner.mac.measured(samples, samples.entries))


def two_constant_policies() -> Any:
    learner = make_learner("oappo", make_info(2, n_actions=3))
    for agent, probabilities in enumerate((P, Q)):
        constant_policy(learner.mac, agent, [math.log(x) for x in probabilities])
    return learner


def test_bias_and_chi_square_by_hand() -> None:
    learner = two_constant_policies()
    batch = make_batch(learner.mac, dead=False)
    avail = torch.ones_like(batch.avail)
    found = measured(learner, replace(batch, avail=avail))
    np.testing.assert_allclose(found.bias, [[0.0, 0.6], [0.6, 0.0]], atol=1e-12)
    # row = learner: c_01 = sum P^2 / Q - 1, c_10 = sum Q^2 / P - 1
    c01, c10 = 2.5 + 0.9 + 0.05 - 1.0, 0.02 + 1 / 30 + 3.2 - 1.0
    np.testing.assert_allclose(found.chi_square, [[0.0, c01], [c10, 0.0]], atol=1e-12)
    # agent 1 may not take action 2: on its steps P is 5/8, 3/8 and Q is 1/2, 1/2
    avail[:, :, 1, 2] = False
    masked = measured(learner, replace(batch, avail=avail))
    np.testing.assert_allclose(masked.bias, [[0.0, 0.125], [0.6, 0.0]], atol=1e-12)
    np.testing.assert_allclose(masked.chi_square, [[0.0, 2 * (25 + 9) / 64 - 1], [c10, 0.0]], atol=1e-12)


@pytest.mark.parametrize("rnn", [False, True], ids=["ff", "gru"])
@pytest.mark.parametrize("reuse_max_rows", [1, 65536])
def test_means_over_the_sources_living_steps_written_out(rnn: bool, reuse_max_rows: int) -> None:
    """Whatever D's own reduction is, b and c are means."""
    learner = make_learner("oappo", make_info(), use_rnn=rnn, reuse_max_rows=reuse_max_rows, reuse_kl_reduction="max")
    batch = make_batch(learner.mac)
    found, samples, params = measured(learner, batch), samples_of(learner, batch), parameters(learner)["policies"]
    for i in range(3):
        for j in range(3):
            v = samples.valid[:, j]
            p, q = (policy_on(learner.mac, params[k], samples, j).log_probs[v].exp() for k in (i, j))
            legal = samples.avail[v, j]
            tv = 0.5 * (p - q).abs().sum(1).mean()
            chi = torch.where(legal, p.square() / q, 0.0).sum(1).mean() - 1.0
            kl = torch.where(legal, q * (q / p).log(), 0.0).sum(1).max()
            assert found.bias[i, j] == pytest.approx(float(tv), abs=1e-9)
            assert found.chi_square[i, j] == pytest.approx(float(chi), abs=1e-9)
            assert found.kl[i, j] == pytest.approx(float(kl), abs=1e-9)


def test_infinite_where_nothing_can_be_reused() -> None:
    learner = make_learner("oappo", make_info(ragged=True))
    found = measured(learner, make_batch(learner.mac, never=0))
    barred = np.array([[False, True, True], [True, False, True], [True, True, False]])
    # agent 2 has spaces of its own, and agent 0 never lives: agent 1 is a source of agent 0 alone
    barred[0, 1] = False
    for figure in (found.kl, found.bias, found.chi_square):
        np.testing.assert_array_equal(np.isinf(figure), barred)
        assert (np.diag(figure) == 0).all()


def test_one_network_call_gives_all_three(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring costs N calls for the policies that acted, and N for the learners on the others' steps."""
    learner = make_learner("oappo", make_info())
    samples, calls, policy = samples_of(learner, make_batch(learner.mac)), [], learner.mac.policy
    monkeypatch.setattr(learner.mac, "policy", lambda *x, **y: (calls.append(len(x[1])), policy(*x, **y))[1])
    learner.mac.distances(learner.mac.measured(samples, samples.entries))
    assert calls == [samples.n_steps] * 3 + [2 * samples.n_steps] * 3


def test_logged_as_scalars_and_arrays() -> None:
    learner = two_constant_policies()
    batch = make_batch(learner.mac, dead=False)
    scalars, arrays = learner.train(replace(batch, avail=torch.ones_like(batch.avail)), 0)
    found = arrays["reuse"]
    assert found["b"].dtype == found["c"].dtype == np.float32
    assert found["b"][0, 1] == pytest.approx(0.6)
    assert scalars["reuse_bias_mean"] == scalars["reuse_bias_max"] == pytest.approx(0.6)
    assert scalars["reuse_chi_square_mean"] == pytest.approx(found["c"][[0, 1], [1, 0]].mean())
    assert scalars["reuse_chi_square_median"] == pytest.approx(found["c"][[0, 1], [1, 0]].mean())


def test_chi_squares_beyond_float32_are_infinite_in_the_file() -> None:
    learner = make_learner("oatrpo", make_info(2, n_actions=2), reuse_scheme="all")
    constant_policy(learner.mac, 0, [0.0, 0.0])
    constant_policy(learner.mac, 1, [0.0, -200.0])
    scalars, arrays = learner.train(make_batch(learner.mac, dead=False), 0)
    assert arrays["reuse"]["c"][0, 1] == math.inf
    assert math.isfinite(scalars["reuse_chi_square_mean"])
