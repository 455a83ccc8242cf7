"""Running statistics, schedules and named random streams."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oamarl.components.batch import Batch
from oamarl.components.generators import generator
from oamarl.components.normalisation import FeatureNormaliser, ObservationNormaliser, RunningMeanStd
from oamarl.components.schedules import scheduled
from oamarl.components.updates.samples import Samples
from oamarl.utils.errors import UserError

from learner_tools import make_batch, make_info, make_learner
from run_tools import assert_same


def test_running_mean_and_variance_by_hand() -> None:
    stats = RunningMeanStd()
    stats.update(torch.tensor([2.0]))
    assert (stats.mean.item(), stats.var.item(), stats.count.item()) == (2.0, 0.0, 1.0)
    stats.update(torch.tensor([4.0, 9.0]))
    assert stats.mean.item() == pytest.approx(5.0)
    assert stats.var.item() == pytest.approx(26 / 3)  # (9 + 1 + 16) / 3
    stats.update(torch.zeros(0))
    assert stats.count.item() == 3.0
    assert stats.normalise(torch.tensor([5.0, 8.0])).tolist() == pytest.approx([0.0, 3 / (26 / 3) ** 0.5])
    assert stats.denormalise(torch.tensor([0.0, 1.0])).tolist() == pytest.approx([5.0, 5.0 + (26 / 3) ** 0.5])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(-50, 50), max_size=6), min_size=1, max_size=6).filter(lambda x: any(x)),
    st.sampled_from([0.0, 1e6]),
)
def test_merging_pieces_is_one_pass(pieces: list[list[int]], offset: float) -> None:
    stats = RunningMeanStd()
    for piece in pieces:
        stats.update(torch.tensor(piece, dtype=torch.float64) + offset)
    whole = np.array([x for piece in pieces for x in piece]) + offset
    assert stats.count.item() == len(whole)
    assert stats.mean.item() == pytest.approx(whole.mean(), rel=1e-12, abs=1e-9)
    assert stats.var.item() == pytest.approx(whole.var(), rel=1e-6, abs=1e-6)


def test_each_agent_has_its_own_scale_and_padding_is_not_seen() -> None:
    # [B=2, T=2, N=2], the last step of the second row is padding
    reward = torch.tensor([[[1.0, 10.0], [3.0, 30.0]], [[5.0, 20.0], [777.0, 777.0]]])
    filled = torch.tensor([[True, True], [True, False]])
    stats = RunningMeanStd((2,))
    stats.update(reward[filled])
    assert stats.mean.tolist() == pytest.approx([3.0, 20.0])
    assert stats.var.tolist() == pytest.approx([8 / 3, 200 / 3])
    scaled = stats.normalise(reward)
    assert scaled[0, 0].tolist() == pytest.approx([-2 / (8 / 3) ** 0.5, -10 / (200 / 3) ** 0.5])
    torch.testing.assert_close(stats.denormalise(scaled), reward)


def test_before_the_first_update_nothing_changes_and_a_constant_does_not_divide_by_zero() -> None:
    stats, x = RunningMeanStd(), torch.tensor([-3.0, 0.25])
    assert torch.equal(stats.normalise(x), x)
    assert torch.equal(stats.denormalise(x), x)
    stats.update(torch.full((5,), 2.0))
    assert stats.std.item() == pytest.approx(1e-4)
    assert stats.normalise(torch.tensor([2.0])).item() == 0.0


def test_a_snapshot_keeps_its_numbers_and_restores_them() -> None:
    stats = RunningMeanStd((2,))
    stats.update(torch.tensor([[1.0, 2.0], [3.0, 8.0]]))
    saved = stats.state_dict()
    stats.update(torch.tensor([[100.0, 100.0]]))
    restored = RunningMeanStd((2,))
    restored.load_state_dict(saved)
    assert restored.mean.tolist() == [2.0, 5.0]
    assert restored.var.tolist() == [1.0, 9.0]
    restored.update(torch.tensor([[100.0, 100.0]]))
    assert all(torch.equal(a, stats.state_dict()[k]) for k, a in restored.state_dict().items())


@pytest.mark.parametrize(("t_env", "expected"), [(-5, 1.0), (0, 1.0), (25, 0.8), (100, 0.2), (130, 0.2)])
def test_a_linear_schedule_ends_at_its_final_value(t_env: int, expected: float) -> None:
    assert scheduled("linear", 1.0, 0.2, t_env, 100) == pytest.approx(expected)
    assert scheduled("constant", 1.0, 0.2, t_env, 100) == 1.0


def test_named_streams_are_repeatable_and_apart() -> None:
    def draw(seed: int, *names: str | int) -> list[float]:
        return torch.rand(4, generator=generator(seed, *names)).tolist()

    assert draw(1, "order") == draw(1, "order")
    streams = [draw(1, "order"), draw(2, "order"), draw(1, "kl"), draw(1, "kl", 0), draw(1, "kl", 1), draw(1)]
    assert len({tuple(s) for s in streams}) == len(streams)


# -- observations ------------------------------------------------------------------------------------------


def test_agents_of_one_space_share_the_statistics_of_what_living_agents_saw() -> None:
    """Agents 0 and 2 are alike; by hand: they saw 1, 3 and 5, agent 1 saw 10 and 30; the state was 2 and 4."""
    norm = ObservationNormaliser([0, 1, 0], obs_size=2, state_size=1)
    obs = torch.tensor([[[[1.0, 0.0], [10.0, 7.0], [3.0, 0.0]], [[99.0, 9.0], [30.0, 7.0], [5.0, 0.0]]]])
    valid = torch.tensor([[[True, True, True], [False, True, True]]])
    state, filled = torch.tensor([[[2.0], [4.0]]]), torch.ones(1, 2, dtype=torch.bool)
    assert torch.equal(norm.obs(obs), obs.clamp(-10, 10)), "nothing is known yet: all as it was, but for the clip"
    norm.update(obs, valid, state, filled)
    deviation = (8 / 3) ** 0.5
    torch.testing.assert_close(norm.obs(obs)[0, 0, :, 0], torch.tensor([-2 / deviation, -1.0, 0.0]))
    torch.testing.assert_close(norm.obs(obs)[0, 1, :, 0], torch.tensor([10.0, 1.0, 2 / deviation]))  # clipped
    assert not norm.obs(obs)[0, 0, :, 1].any(), "what never varies is 0, padding too"
    assert norm.state(torch.tensor([[2.0], [5.0]])).tolist() == [[-1.0], [2.0]]


def test_the_statistics_travel_with_the_policies() -> None:
    info = make_info(3, ragged=True)
    values = {"standardise_obs": True, "sharing": "separate", "obs_agent_id": False}
    a, b = (make_learner("mappo", info, seed=s, **values) for s in (1, 2))
    batch = make_batch(a.mac, seed=0)
    assert a.mac.normaliser.groups == [0, 0, 1]
    first = a.mac.standardised(batch)
    assert torch.equal(first.obs, batch.obs.clamp(-10, 10))
    a.train(batch, 0)
    assert torch.equal(a.mac.standardised(batch).obs, first.obs), "the loop does it, not the learner"
    a.mac.observe(batch)
    assert not torch.equal(a.mac.standardised(batch).obs, first.obs), (
        "the batch entered the statistics after its update"
    )
    b.mac.load_state_dict(a.mac.state_dict())
    assert torch.equal(a.mac.standardised(batch).obs, b.mac.standardised(batch).obs)
    uniform, hidden = None, a.mac.initial_hidden(4)
    args = (batch.obs[:, 0], batch.avail[:, 0], torch.full((4, 3), -1), hidden, uniform)
    assert_same(a.mac.act(*args), b.mac.act(*args))
    plain = make_learner("mappo", info, **{**values, "standardise_obs": False})
    with pytest.raises(UserError, match="standardise_obs=False does not fit these policies"):
        plain.mac.load_state_dict(a.mac.state_dict())
    with pytest.raises(UserError, match="standardise_obs=True does not fit these policies"):
        b.mac.load_state_dict(plain.mac.state_dict())


@pytest.mark.parametrize("algorithm", ["ippo", "mappo", "happo", "hatrpo", "oappo", "oatrpo", "seac"])
def test_a_scale_of_the_observations_does_not_matter_once_it_is_known(algorithm: str) -> None:
    """Two learners see the same world in other units: after one batch of statistics they learn the same."""
    agent_params = []
    for scale in (1.0, 64.0):
        learner = make_learner(algorithm, make_info(), standardise_obs=True)
        batch = make_batch(learner.mac, seed=0)
        scaled = replace(batch, obs=batch.obs * scale, state=batch.state * scale)
        learner.mac.observe(scaled)
        learner.train(replace(scaled, log_prob=fresh_log_probs(learner.mac, scaled)), 0)
        agent_params.append(learner.mac.network.params.detach().clone())
    torch.testing.assert_close(agent_params[0], agent_params[1], rtol=1e-4, atol=1e-5)


# -- each observation on its own scale ---------------------------------------------------------------------


def test_feature_normalisation_by_hand_leaves_padding_out() -> None:
    """Agent 0 sees 1, 3, 5, 7: mean 4, variance 5. Agent 1's own numbers are 2 and 6, mean 4, variance 4."""
    norm = FeatureNormaliser((4, 2), 4)
    obs = torch.tensor([[1.0, 3.0, 5.0, 7.0], [2.0, 6.0, 0.0, 0.0]])
    a, b = (5 + 1e-5) ** 0.5, (4 + 1e-5) ** 0.5
    expected = torch.tensor([[-3 / a, -1 / a, 1 / a, 3 / a], [-2 / b, 2 / b, 0.0, 0.0]])
    torch.testing.assert_close(norm.obs(obs), expected)
    torch.testing.assert_close(norm.obs(obs.expand(3, 2, 2, 4)), expected.expand(3, 2, 2, 4))
    torch.testing.assert_close(FeatureNormaliser((4, 4), 4).obs(obs)[0], expected[0])
    state = torch.tensor([1.0, 3.0, 5.0, 7.0])
    torch.testing.assert_close(norm.state(state), expected[0])
    torch.testing.assert_close(norm.state(state), torch.nn.functional.layer_norm(state, (4,)))


def test_feature_normalisation_of_constants_and_of_nothing_is_zero() -> None:
    for sizes in ((3, 3), (3, 2)):
        norm = FeatureNormaliser(sizes, 3)
        own = (torch.arange(3) < torch.tensor(sizes).unsqueeze(1)).float()
        for value in (0.0, 0.1, -7.3, 1e9):
            assert not norm.obs(value * own).any()
    assert not FeatureNormaliser((1,), 1).obs(torch.tensor([[5.0]])).any()
    assert norm.obs(torch.zeros(0, 2, 3)).shape == (0, 2, 3)
    assert not norm.state(torch.full((2, 5), 0.3)).any()


def test_a_batch_is_normalised_after_the_running_scale_and_no_unit_or_offset_is_left() -> None:
    info = make_info(3, ragged=True)
    values = {"sharing": "separate", "obs_agent_id": False, "feature_norm": True}
    mac = make_learner("mappo", info, **values).mac
    batch = make_batch(mac, seed=0)
    seen = mac.standardised(batch)
    own = torch.arange(5) < torch.tensor(info.obs_sizes).unsqueeze(1)
    moved = mac.standardised(replace(batch, obs=torch.where(own, 30.0 * batch.obs - 4.0, 0.0)))
    torch.testing.assert_close(seen.obs, moved.obs, rtol=1e-2, atol=1e-2)  # up to epsilon
    assert not seen.obs[..., 2, 3:].any(), "padding stays 0"
    torch.testing.assert_close(seen.state, torch.nn.functional.layer_norm(batch.state, (4,)))
    both = make_learner("mappo", info, **values, standardise_obs=True).mac
    both.observe(batch)
    torch.testing.assert_close(
        both.standardised(batch).obs, both.feature_normaliser.obs(both.normaliser.obs(batch.obs))
    )


def test_feature_normalisation_is_part_of_what_policies_are() -> None:
    info = make_info(3)
    on, plain = (make_learner("mappo", info, feature_norm=x).mac for x in (True, False))
    on.load_state_dict(on.state_dict())
    with pytest.raises(UserError, match="feature_norm=False does not fit these policies"):
        plain.load_state_dict(on.state_dict())
    with pytest.raises(UserError, match="feature_norm=True does not fit these policies"):
        on.load_state_dict(plain.state_dict())
    assert "feature_norm" not in plain.state_dict(), "checkpoints of before have no such entry"


@pytest.mark.parametrize("algorithm", ["ippo", "mappo", "happo", "hatrpo", "oappo", "oatrpo", "seac"])
@pytest.mark.parametrize("rnn", [False, True], ids=["ff", "gru"])
def test_learning_reads_what_acting_read(algorithm: str, rnn: bool) -> None:
    """Ratios of own experience begin at 1, and an update is the plain learner's on observations normalised before."""
    info, common = make_info(), {"use_rnn": rnn}
    learner, plain = (make_learner(algorithm, info, feature_norm=x, **common) for x in (True, False))
    batch = make_batch(learner.mac, seed=0)
    samples, _ = learner.samples(batch)
    policy, at, _ = learner.mac.policies(samples, samples.entries)
    valid = samples.valid[at]
    torch.testing.assert_close(
        policy.log_prob(samples.actions[at])[valid], samples.log_prob[at][valid], rtol=1e-5, atol=1e-5
    )
    ready, fresh = learner.mac.standardised(batch), make_learner(algorithm, info, feature_norm=True, **common)
    fresh.train(batch, 0)
    plain.train(ready, 0)
    assert torch.equal(fresh.mac.network.params, plain.mac.network.params)
    assert torch.equal(fresh.value.network.params, plain.value.network.params)


def fresh_log_probs(mac: Any, batch: Batch) -> torch.Tensor:
    """[B, T, N] log-probabilities of a batch's actions under the policies as they are now."""
    seen = mac.standardised(batch)
    samples = Samples.make(seen, mac.inputs(seen), torch.zeros_like(batch.log_prob), False)
    found = torch.zeros_like(batch.log_prob)
    with torch.no_grad():
        policy, at, _ = mac.policies(samples, samples.entries)
        found[batch.filled] = policy.log_prob(samples.actions[at])
    return found
