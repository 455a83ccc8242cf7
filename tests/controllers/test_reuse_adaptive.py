"""Bias and variance of the rules that set themselves, on batches: against loops, autograd and special cases."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from oamarl.components import roles
from oamarl.components.generators import generator
from oamarl.components.reuse import bound_row
from oamarl.components.roles import PRIOR, PRIOR_DECAY, WIDEST, parts_of
from oamarl.components.updates.samples import Samples
from oamarl.controllers.reuse_adaptive import LEAST, Bound, Decisions
from oamarl.controllers.reuse_mac import ReuseMAC, ReuseMapping
from oamarl.utils.errors import UserError

from learner_tools import constant_policy, double, make_batch, make_info, make_learner, policy_on, samples_of, values

both_networks = pytest.mark.parametrize("rnn", [False, True], ids=["ff", "gru"])
both_schemes = pytest.mark.parametrize("scheme", ["adaptive_bound", "adaptive_roles"])


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    with double():
        yield


def adaptive(scheme: str, *info: Any, **more: Any) -> Any:
    return make_learner("oappo", *(info or (make_info(),)), reuse_scheme=scheme, **more)


def mapped(learner: Any, samples: Samples) -> ReuseMapping:
    found = learner.mac.mapping(samples, 6, generator(1, "kl"), generator(1, "mapping"))
    assert isinstance(found, ReuseMapping)
    return found


# -- variance over episodes ---------------------------------------------------------------------------------------


@both_networks
@pytest.mark.parametrize("reuse_max_rows", [1, 65536])
@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_variance_of_episodes_against_a_loop(rnn: bool, reuse_max_rows: int, scale: float) -> None:
    """v: the larger of what episodes vary and (1 + c) / n, with advantages in units of their deviation."""
    learner = adaptive("adaptive_bound", use_rnn=rnn, reuse_max_rows=reuse_max_rows)
    samples = samples_of(learner, make_batch(learner.mac, lengths=(6, 4, 1, 5, 3, 2, 6, 6, 4, 2)))
    samples = replace(samples, advantage=scale * samples.advantage)
    mapping, params = mapped(learner, samples), learner.mac.network.params
    assert mapping.bound is not None
    deviation = float(samples.advantage[samples.valid].std(unbiased=False))
    for i in range(3):
        for j in range(3):
            v = samples.valid[:, j]
            taken = policy_on(learner.mac, params[i], samples, j).log_prob(samples.actions[:, j])
            z = ((taken - samples.log_prob[:, j]).exp() * samples.advantage[:, j] / deviation)[v].detach()
            centred, episode = z - z.mean(), samples.episode[v]
            sums = [float(centred[episode == e].sum()) for e in range(10)]
            episodes = sum(x * x for x in sums) / len(z) ** 2
            steps = (1 + mapping.chi_square[i, j]) / len(z)
            assert mapping.bound.variance[i, j] == pytest.approx(max(episodes, steps), rel=1e-6)
            assert mapping.bound.bias[i, j] == pytest.approx(mapping.bias[i, j])
        np.testing.assert_allclose(mapping.matrix[i], mapping.bound.row(i))


def test_equal_policies_share_by_their_variance() -> None:
    learner = adaptive("adaptive_bound")
    learner.mac.network.params.data[:] = learner.mac.network.params.data[0].clone()
    mapping = mapped(learner, samples_of(learner, make_batch(learner.mac)))
    assert mapping.bound is not None
    for row, v in zip(mapping.matrix, mapping.bound.variance, strict=True):
        np.testing.assert_allclose(row, (1 / v) / (1 / v).sum(), rtol=1e-6)


# -- the gradient that roles are compared by ------------------------------------------------------------------------


@both_networks
def test_features_times_scores_are_the_heads_gradient(rnn: bool) -> None:
    """Summed over a source's steps: the gradient of mean r A log pi, r held, of the head's weights and bias."""
    learner = adaptive("adaptive_roles", use_rnn=rnn)
    mac = learner.mac
    samples = samples_of(learner, make_batch(mac, lengths=(6, 4, 1, 5, 3)))
    for i in range(3):
        taken = Decisions.of(samples, [0, 1, 2], 2.0)
        features, scores = mac.roles.gradient(i, taken)
        agent = taken.agent
        assert len(taken.step) == int(samples.valid.sum()), "decisions alone"
        for j in range(3):
            of = agent == j
            found = features[of].T @ scores[of]
            params = mac.network.params.detach()[i].clone().requires_grad_()
            v = samples.valid[:, j]
            log_prob = policy_on(mac, params, samples, j).log_prob(samples.actions[:, j])[v]
            weight = ((log_prob - samples.log_prob[v, j]).exp() * samples.advantage[v, j]).detach()
            (gradient,) = torch.autograd.grad((weight * log_prob).mean() / 2.0, params)
            layers = mac.network.layers(gradient)
            expected = torch.cat([layers["head.w"], layers["head.b"].unsqueeze(0)])
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@both_networks
def test_evidence_against_a_loop(rnn: bool) -> None:
    """delta and V of every pair from each part's gradient, in whitened features."""
    learner = adaptive("adaptive_roles", use_rnn=rnn)
    mac = learner.mac
    samples = samples_of(learner, make_batch(mac, lengths=(6, 4, 1, 5, 3, 2, 6, 6, 4)))
    mac.roles.add(samples)
    ratios = mac.roles.evidence.ratios()
    scale = float(samples.advantage[samples.valid].std(unbiased=False))
    part, n_parts = parts_of(samples.episode)
    for i in range(3):
        with torch.no_grad():
            taken = Decisions.of(samples, [0, 1, 2], scale)
            features, scores = mac.roles.gradient(i, taken)
        values, vectors = torch.linalg.eigh(features.T @ features / len(features))
        white = features @ vectors @ (values + roles.RIDGE * values.mean()).rsqrt().diag() @ vectors.T

        def of_part(
            j: int, e: int, white: Tensor = white, scores: Tensor = scores, at: Any = (taken.step, taken.agent)
        ) -> Tensor:
            rows = (part[at[0]] == e) & (at[1] == j)
            return white[rows].T @ scores[rows]

        for j in range(3):
            if j != i:
                apart = torch.stack([of_part(j, e) - of_part(i, e) for e in range(n_parts)])
                noise = (apart - apart.mean(0)).square().sum() * n_parts / (n_parts - 1)
                expected = float((apart.sum(0).square().sum() / noise).detach())
                assert ratios[i, j] == pytest.approx(expected, rel=1e-6)


def test_rows_of_the_first_iteration_by_hand() -> None:
    """Equal policies and steps: v = 1; b^2 is the prior, and what F exceeds noise by."""
    learner = adaptive("adaptive_roles")
    mac = learner.mac
    mac.network.params.data[:] = mac.network.params.data[0].clone()
    mapping = mapped(learner, samples_of(learner, make_batch(mac, dead=False)))
    bound = mapping.bound
    assert bound is not None
    assert bound.roles is not None
    np.testing.assert_allclose(bound.variance, 1.0, atol=1e-9)
    excess = np.maximum(bound.roles - roles.NOISE, 0) * roles.HORIZON * 2.0
    expected = np.sqrt(excess + PRIOR * PRIOR_DECAY) * (1 - np.eye(3))
    np.testing.assert_allclose(bound.bias, expected, rtol=1e-9)
    np.testing.assert_allclose(mapping.matrix[0], bound_row(expected[0], np.ones(3)), rtol=1e-9)
    assert mac.roles.evidence.iterations == 1


def test_variance_by_the_steps_and_the_cost_of_weights() -> None:
    """v = (1 + c) n_i / n_j, in units of own experience's: few steps of a source count for more variance."""
    learner = adaptive("adaptive_roles")
    samples = samples_of(learner, make_batch(learner.mac))
    mapping, n = mapped(learner, samples), samples.valid.sum(0).tolist()
    assert len(set(n)) > 1
    assert mapping.bound is not None
    for i in range(3):
        for j in range(3):
            expected = (1.0 + mapping.chi_square[i, j]) * n[i] / n[j]
            assert mapping.bound.variance[i, j] == pytest.approx(expected)


# -- what says nothing -----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
@both_schemes
@both_networks
def test_other_spaces_and_agents_without_a_decision(scheme: str, rnn: bool) -> None:
    learner = adaptive(scheme, make_info(4, ragged=True), use_rnn=rnn)
    for k in range(3):
        samples = samples_of(learner, make_batch(learner.mac, seed=k, never=0))
        mapping = mapped(learner, samples)
        m = mapping.matrix
        np.testing.assert_allclose(m.sum(1), 1.0)
        assert (m[:3, 3] == 0).all()
        assert m[3].tolist() == [0, 0, 0, 1]
        assert (m[1:, 0] == 0).all(), "it has nothing to learn from"
        assert m[1, 2] > 0
        assert mapping.bound is not None
        barred = np.array([[0, 0, 0, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 0]])
        assert (np.isinf(mapping.bound.bias) == barred).all()
        if mapping.bound.roles is not None:
            assert (mapping.bound.roles[[0, 1, 3], [1, 0, 1]] == 1).all()


@pytest.mark.filterwarnings("error")
def test_one_step_and_equal_advantages_add_no_evidence() -> None:
    learner = adaptive("adaptive_roles")
    one = samples_of(learner, make_batch(learner.mac, lengths=(1,), dead=False))
    mapped(learner, one)
    assert learner.mac.roles.evidence.iterations == 0
    some = samples_of(learner, make_batch(learner.mac))
    mapping = mapped(learner, replace(some, advantage=torch.full_like(some.advantage, 0.5)))
    assert learner.mac.roles.evidence.iterations == 0
    assert mapping.bound is not None
    assert mapping.bound.roles is not None
    assert (mapping.bound.roles == 1).all()
    mapped(learner, some)
    assert learner.mac.roles.evidence.iterations == 1


@both_networks
def test_one_episode_is_cut_into_pieces(rnn: bool) -> None:
    learner = adaptive("adaptive_roles", use_rnn=rnn)
    mapping = mapped(learner, samples_of(learner, make_batch(learner.mac, lengths=(6,), dead=False)))
    assert learner.mac.roles.evidence.iterations == 1
    assert mapping.bound is not None
    assert mapping.bound.roles is not None
    assert np.ptp(mapping.bound.roles) > 0


@pytest.mark.filterwarnings("error")
@both_schemes
def test_policies_without_a_common_action(scheme: str) -> None:
    """Chi-square beyond any number that a share could be: own experience alone."""
    learner = adaptive(scheme, make_info(2, n_actions=2))
    constant_policy(learner.mac, 0, [0.0, -800.0])
    constant_policy(learner.mac, 1, [-800.0, 0.0])
    batch = make_batch(learner.mac, dead=False)
    samples = samples_of(learner, replace(batch, avail=torch.ones_like(batch.avail)))
    assert mapped(learner, samples).matrix.tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_small_shares_are_not_worth_their_rows() -> None:
    """Below 1/100 of own experience's share a source is left out, and the others have what is left."""
    limit = 1.0 / LEAST - 1.0  # b^2 at which a pair's ratio of shares is LEAST
    for factor, used in ((0.99, True), (1.01, False)):
        bound = Bound(np.array([[0.0, 0.0, math.sqrt(factor * limit)]]), np.array([[1.0, np.inf, 1.0]]))
        row = bound.row(0)
        assert (row[2] > 0) == used
        assert row.sum() == pytest.approx(1.0)
    three = Bound(np.array([[0.0, 0.0, 0.5]]), np.array([[1.0, 1.0, 1.0]]))
    np.testing.assert_allclose(three.row(0, [2]), [0.5, 0.5, 0.0])
    np.testing.assert_allclose(three.limits(np.array([[0.5, 0.5, 0.0]])), [np.inf])


# -- scale, width and devices ----------------------------------------------------------------------------------------


@both_networks
@both_schemes
def test_scaled_advantages_change_nothing(scheme: str, rnn: bool) -> None:
    a, b = (adaptive(scheme, use_rnn=rnn) for _ in range(2))
    for k in range(3):
        samples = samples_of(a, make_batch(a.mac, seed=k))
        found = mapped(b, replace(samples, advantage=1000.0 * samples.advantage)).matrix
        np.testing.assert_allclose(found, mapped(a, samples).matrix, atol=1e-6)
    assert np.ptp(found) > 0.01


class Plain(nn.Module):
    """A network that does not tell what its last layer reads."""

    def __init__(self, inputs: int, outputs: int, config: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer(x), hidden


class Told(Plain):
    """The same, which tells it: its inputs."""

    def features(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return x, hidden


@pytest.mark.parametrize("width", [5, WIDEST + 20])
def test_networks_of_ones_own(width: int) -> None:
    """Without `features` the inputs are compared; more than WIDEST of them are projected."""
    found = []
    for agent in (Plain, Told):
        info = replace(make_info(), obs_size=width, obs_sizes=(width,) * 3)
        learner = adaptive("adaptive_roles", info, agent=f"{__name__}:{agent.__name__}")
        samples = samples_of(learner, make_batch(learner.mac))
        found.append(mapped(learner, samples).matrix)
        mean = learner.mac.roles.evidence.mean
        assert mean.shape == (3, 3, 4 * (min(width, WIDEST) + 1))
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("size", [8, 16])
def test_outputs_with_features_are_the_networks(size: int) -> None:
    """One evaluation gives what two do, also through compiled networks (float32)."""
    torch.set_default_dtype(torch.float32)
    for rnn in (False, True):
        learner = adaptive("adaptive_roles", use_rnn=rnn, hidden_dim=size)
        mac, samples = learner.mac, samples_of(learner, make_batch(learner.mac))
        rows = samples.rows(samples.entries, torch.zeros_like(samples.entries))
        x, params = samples.inputs[rows.at], mac.network.params[1]
        outputs, features = mac.network.with_features(params, x, rows.packing)
        torch.testing.assert_close(outputs, mac.network.single(params, x, rows.packing), rtol=0, atol=1e-5)
        w = mac.network.layers(params)
        torch.testing.assert_close(features @ w["head.w"] + w["head.b"], outputs, rtol=0, atol=1e-5)
        features.sum().backward()
        assert mac.network.params.grad is not None
        assert (mac.network.layers(mac.network.params.grad[1])["head.w"] == 0).all()


@both_schemes
def test_eight_agents_and_few_rows_at_a_time(scheme: str) -> None:
    found = []
    for rows in (1, 50, 65536):
        learner = adaptive(scheme, make_info(8), reuse_max_rows=rows)
        found.append(mapped(learner, samples_of(learner, make_batch(learner.mac))).matrix)
    np.testing.assert_allclose(found[0], found[2], atol=1e-9)
    np.testing.assert_allclose(found[1], found[2], atol=1e-9)
    assert found[0].shape == (8, 8)


# -- refusals --------------------------------------------------------------------------------------------------------


@both_schemes
def test_uniform_shares_are_of_fixed_sets(scheme: str) -> None:
    with pytest.raises(UserError, match="reuse_lambda=uniform is for reuse_scheme all or groups"):
        ReuseMAC.check(values("oappo", reuse_scheme=scheme, reuse_lambda="uniform"), make_info())


@both_schemes
def test_a_lambda_that_is_not_read_is_not_refused(scheme: str) -> None:
    ReuseMAC.check(values("oappo", reuse_scheme=scheme, reuse_lambda=0.0, reuse_mode="sample"), make_info())
