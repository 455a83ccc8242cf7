"""The learners against numbers worked out by hand, and against what must never change an update."""

from __future__ import annotations

import math
import re
import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from oamarl.components.batch import Batch
from oamarl.learners import losses
from oamarl.learners.losses import targets_with_factor
from oamarl.modules.critics.v import values
from oamarl.utils.errors import UserError

from learner_tools import (
    ALGORITHMS,
    assert_same,
    constant_policy,
    critic_reads_first_input,
    double,
    fix_order,
    make_batch,
    make_info,
    make_learner,
    one_step,
    parameters,
    samples_of,
    set_policies,
    through_a_file,
    with_garbage,
)
from run_tools import ONE_PASS

both_networks = pytest.mark.parametrize("rnn", [False, True], ids=["ff", "gru"])
all_algorithms = pytest.mark.parametrize("algorithm", ALGORITHMS)


@pytest.fixture
def float64() -> Iterator[None]:
    with double():
        yield


# -- value targets -------------------------------------------------------------------------------------------

#: what follows is worked out from these values of the states, gamma = lambda = 1/2, two-step returns:
#: row 0 terminates after 3 steps, row 1 is truncated after 2, row 2 holds a truncated step (final value 20) and
#: two steps of the next episode, which the row's end cuts
VALUES = [[4.0, 8.0, 2.0, 6.0], [2.0, 4.0, 10.0, 0.0], [6.0, 2.0, 4.0, 8.0]]
REWARDS = [[1.0, 2.0, 3.0], [1.0, 1.0, 0.0], [1.0, 2.0, 1.0]]
FINAL = 20.0
GAE = [[-0.1875, -4.75, 1.0], [1.5, 2.0, 0.0], [5.0, 2.25, 1.0]]
GAE_RETURNS = [[3.8125, 3.25, 3.0], [3.5, 6.0], [11.0, 4.25, 5.0]]
NSTEP_RETURNS = [[2.5, 3.5, 3.0], [4.0, 6.0], [11.0, 4.5, 5.0]]


def segments(n_agents: int = 2, agent_leaves: bool = False) -> Batch:
    """The three rows above; the first entry of the state, and of every observation, is the value."""
    b, t, n = 3, 3, n_agents
    filled = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 1]], dtype=torch.bool)
    terminated, truncated = torch.zeros(b, t, dtype=torch.bool), torch.zeros(b, t, dtype=torch.bool)
    terminated[0, 2] = truncated[1, 1] = truncated[2, 0] = True
    agent_terminated = torch.zeros(b, t, n, dtype=torch.bool)
    if agent_leaves:
        agent_terminated[0, 1:, -1] = True
    state, obs = torch.zeros(b, t + 1, 4), torch.zeros(b, t + 1, n, 5)
    state[..., 0] = torch.tensor(VALUES)
    obs[..., 0] = state[..., :1]
    final_state, final_obs = torch.zeros(1, 4), torch.zeros(1, n, 5)
    final_state[0, 0], final_obs[0, :, 0] = FINAL, FINAL
    alive = filled.unsqueeze(-1) & ~torch.cat([torch.zeros(b, 1, n, dtype=torch.bool), agent_terminated[:, :-1]], dim=1)
    return Batch(
        obs=obs, state=state, avail=torch.ones(b, t + 1, n, 4, dtype=torch.bool),
        actions=torch.zeros(b, t, n, dtype=torch.int64), log_prob=torch.zeros(b, t, n),
        reward=torch.tensor(REWARDS).unsqueeze(-1).repeat(1, 1, n), terminated=terminated, truncated=truncated,
        agent_terminated=agent_terminated, filled=filled, alive=alive, final_obs=final_obs, final_state=final_state,
        final_avail=torch.ones(1, n, 4, dtype=torch.bool), final_index=torch.tensor([[2, 0]]),
    )  # fmt: skip


def value_learner(algorithm: str = "happo", n_agents: int = 2, **overrides: Any) -> Any:
    """A learner whose critic's raw output is its first input."""
    plain = {"activation": "relu", "standardise_returns": False, "normalise_advantage": False, "gamma": 0.5}
    given = {"gae_lambda": None} if "q_nstep" in overrides else {"gae_lambda": 0.5}
    learner = make_learner(algorithm, make_info(n_agents), **(plain | given | overrides))
    critic_reads_first_input(learner)
    return learner


def flat(rows: list[list[float]]) -> Tensor:
    return torch.tensor([x for row in rows for x in row])


def test_joint_gae_by_hand() -> None:
    targets = value_learner().value.targets(segments())
    assert targets.advantage.shape == (3, 3, 2)
    for agent in range(2):
        torch.testing.assert_close(targets.advantage[..., agent], torch.tensor(GAE))
    assert targets.returns.shape == (3, 3, 1)
    torch.testing.assert_close(targets.returns[segments().filled].squeeze(-1), flat(GAE_RETURNS))


@pytest.mark.parametrize("steps", [1, 2, 50])
def test_joint_nstep_by_hand(steps: int) -> None:
    batch = segments()
    targets = value_learner(q_nstep=steps).value.targets(batch)
    one = [[5.0, 3.0, 3.0], [3.0, 6.0], [11.0, 4.0, 5.0]]
    # to the end: 1 + (2 + 3/2)/2, 2 + 3/2, 3; the others reach their ends in two steps
    whole = [[2.75, 3.5, 3.0], [4.0, 6.0], [11.0, 4.5, 5.0]]
    expected = flat({1: one, 2: NSTEP_RETURNS, 50: whole}[steps])
    found = targets.returns[batch.filled].squeeze(-1)
    torch.testing.assert_close(found, expected)
    values = flat([[4.0, 8.0, 2.0], [2.0, 4.0], [6.0, 2.0, 4.0]])
    torch.testing.assert_close(targets.advantage[batch.filled][:, 1], expected - values)
    assert float(targets.advantage[1, 2].abs().max()) == 0.0, "padding has no advantage"


@pytest.mark.parametrize("kind", [{}, {"q_nstep": 2}], ids=["gae", "nstep"])
def test_without_add_value_last_step_a_truncation_is_an_end(kind: dict[str, Any]) -> None:
    targets = value_learner(add_value_last_step=False, **kind).value.targets(segments())
    # the truncated steps keep their reward alone
    assert float(targets.returns[1, 1]) == 1.0
    assert float(targets.returns[2, 0]) == 1.0
    assert float(targets.returns[0, 2]) == 3.0
    # the row's end is no end of an episode
    assert float(targets.returns[2, 2]) == 5.0


@pytest.mark.parametrize("both", [False, True])
def test_a_step_both_terminated_and_truncated_is_terminated(both: bool) -> None:
    batch = segments()
    if both:
        batch = replace(batch, truncated=batch.truncated | batch.terminated, terminated=batch.terminated.clone())
        batch.terminated[1, 1] = True
    returns = value_learner().value.targets(batch).returns
    assert float(returns[0, 2]) == 3.0
    assert float(returns[1, 1]) == (1.0 if both else 6.0)


@pytest.mark.parametrize("kind", [{}, {"q_nstep": 2}], ids=["gae", "nstep"])
@pytest.mark.parametrize("common_reward", [False, True])
def test_an_agent_that_left_stops_its_own_bootstrap_under_individual_rewards_only(
    kind: dict[str, Any], common_reward: bool
) -> None:
    batch = segments(agent_leaves=True)
    learner = value_learner("ippo", common_reward=common_reward, obs_agent_id=False, **kind)
    assert learner.value.n_values == 2
    returns = learner.value.targets(batch).returns
    usual = flat(NSTEP_RETURNS if kind else GAE_RETURNS)
    torch.testing.assert_close(returns[..., 0][batch.filled], usual)
    if common_reward:
        torch.testing.assert_close(returns[..., 1][batch.filled], usual)
        return
    # agent 1 leaves at step 1 of row 0: y_1 = 2, y_2 = 3 without bootstrap, and step 0 sees no further than that;
    # GAE: A_1 = 2 - 8, A_0 = 1 + 8/2 - 4 + A_1/4 = -0.5, y_0 = 3.5;  two steps: 1 + 2/2
    first = 2.0 if kind else 3.5
    torch.testing.assert_close(returns[0, :, 1], torch.tensor([first, 2.0, 3.0]))
    torch.testing.assert_close(returns[1:, :, 1][batch.filled[1:]], usual[3:])


@pytest.mark.parametrize("normalise", [False, True])
def test_bootstraps_are_denormalised_and_advantages_are_on_the_critics_scale(normalise: bool) -> None:
    """The critic's scale is 2 x + 10 when the targets are made; only then does it move.

    Advantages are EPyMARL's: targets on the new scale, less the critic's outputs. Where they are normalised themselves
    their scale is left alone: A = y - (2 x + 10) with deviation 1.
    """
    batch = segments()
    learner = value_learner(standardise_returns=True, normalise_advantage=normalise)
    stats = learner.value.return_stats
    stats.mean, stats.var, stats.count = (torch.tensor(x, dtype=torch.float64) for x in (10.0, 4.0, 4.0))
    targets = learner.value.targets(batch)
    # values are 10 + 2 VALUES; row 1: A_1 = 1 + 30/2 - 18 = -2, A_0 = 1 + 18/2 - 14 - 2/4 = -4.5, y = A + 14, A + 18
    torch.testing.assert_close(targets.returns[1, :2, 0], torch.tensor([9.5, 16.0]))
    # row 2, step 0: 1 + (10 + 2 * 20)/2
    torch.testing.assert_close(targets.returns[2, 0], torch.tensor([26.0]))
    torch.testing.assert_close(targets.values[0, :, 0], torch.tensor([18.0, 26.0, 14.0]))
    torch.testing.assert_close(targets.raw[0, :, 0], torch.tensor([4.0, 8.0, 2.0]))
    seen = targets.returns[batch.filled].flatten().double()
    mean = (4 * 10.0 + seen.sum()) / 12
    square = (4 * (4.0 + 100.0) + (seen**2).sum()) / 12
    torch.testing.assert_close(stats.mean, mean)
    torch.testing.assert_close(stats.var, square - mean**2)
    assert float(stats.count) == 12.0
    deviation = float(square - mean**2) ** 0.5
    expected = [(9.5 - float(mean)) / deviation - 2.0, (16.0 - float(mean)) / deviation - 4.0, 0.0]
    if normalise:
        plain = (targets.returns - targets.values)[batch.filled].flatten()
        assert plain[3:5].tolist() == pytest.approx([-4.5, -2.0])
        expected = [(x - float(plain.mean())) / float(plain.std(unbiased=False)) for x in (-4.5, -2.0)] + [0.0]
    assert targets.advantage[1, :, 0].tolist() == pytest.approx(expected, abs=1e-5)


def test_on_the_critics_scale_the_unit_of_rewards_does_not_matter() -> None:
    """The balance of advantage and entropy is the same for rewards in other units."""
    found = []
    for unit in (1.0, 1000.0):
        batch = segments()
        learner = value_learner("ippo", standardise_returns=True)
        learner.value.network.params.data.zero_()
        found.append(learner.value.targets(replace(batch, reward=unit * batch.reward, final_obs=0 * batch.final_obs)))
    torch.testing.assert_close(found[0].advantage, found[1].advantage, rtol=1e-5, atol=1e-6)
    own = found[0].advantage[batch.filled]
    torch.testing.assert_close(own.std(unbiased=False), torch.tensor(1.0))


def test_under_individual_rewards_each_agent_has_its_own_scale() -> None:
    batch = segments()
    batch = replace(batch, reward=batch.reward * torch.tensor([1.0, 10.0]))
    learner = value_learner("ippo", common_reward=False, standardise_returns=True)
    learner.value.network.params.data.zero_()
    advantage = learner.value.targets(batch).advantage[batch.filled]
    torch.testing.assert_close(advantage.std(0, unbiased=False), torch.ones(2))
    torch.testing.assert_close(advantage[:, 0], advantage[:, 1], rtol=1e-4, atol=1e-5)


def test_the_critic_is_fitted_on_the_new_scale() -> None:
    batch = segments()
    learner = value_learner(standardise_returns=True, epochs=1, lr=1e-20)
    targets = learner.value.targets(batch)
    returns = targets.returns[batch.filled].squeeze(-1)
    torch.testing.assert_close(returns, flat(GAE_RETURNS))  # the first scale is 1
    goal = (returns - returns.mean()) / returns.std(unbiased=False)
    raw = flat([[4.0, 8.0, 2.0], [2.0, 4.0], [6.0, 2.0, 4.0]])
    scalars = learner.value.update(batch, targets, 1.0)
    assert scalars["critic_loss"] == pytest.approx(float(((raw - goal) ** 2).mean()), rel=1e-5)
    assert scalars["td_error_abs"] == pytest.approx(float((returns - raw).abs().mean()), rel=1e-5)
    assert scalars["target_mean"] == pytest.approx(float(returns.mean()), rel=1e-5)
    assert scalars["value_mean"] == pytest.approx(float(raw.mean()), rel=1e-5)


def test_statistics_are_kept_for_each_agent_under_individual_rewards() -> None:
    batch = segments()
    batch = replace(batch, reward=batch.reward * torch.tensor([1.0, 10.0]))
    learner = value_learner("ippo", common_reward=False, standardise_returns=True, standardise_rewards=True)
    learner.value.network.params.data.zero_()
    learner.value.targets(batch)
    rewards = batch.reward[batch.filled].double()
    torch.testing.assert_close(learner.value.reward_stats.mean, rewards.mean(0))
    torch.testing.assert_close(learner.value.reward_stats.var, rewards.var(0, unbiased=False))
    # once rewards are standardised, both agents have the same returns
    mean = learner.value.return_stats.mean
    assert mean.shape == (2,)
    torch.testing.assert_close(mean[0], mean[1], rtol=1e-4, atol=1e-5)


def test_rewards_are_standardised_over_real_steps() -> None:
    batch = segments()
    learner = value_learner(standardise_rewards=True, q_nstep=1)
    learner.value.network.params.data.zero_()
    returns = learner.value.targets(batch).returns[batch.filled].squeeze(-1)
    torch.testing.assert_close(returns.mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    torch.testing.assert_close(returns.std(unbiased=False), torch.tensor(1.0))


def test_advantages_are_standardised_once_for_the_team_and_by_agent_otherwise() -> None:
    batch = segments(agent_leaves=True)
    real = batch.filled
    joint = value_learner(normalise_advantage=True).value.targets(batch).advantage
    raw = torch.tensor(GAE)
    expected = torch.where(real, (raw - raw[real].mean()) / raw[real].std(unbiased=False), 0.0)
    for agent in range(2):
        torch.testing.assert_close(joint[..., agent], expected)
    single = value_learner("ippo", common_reward=False, normalise_advantage=True).value.targets(batch).advantage
    for agent in range(2):
        taken = single[..., agent][batch.valid[..., agent]]
        assert float(taken.mean()) == pytest.approx(0.0, abs=1e-6)
        assert float(taken.std(unbiased=False)) == pytest.approx(1.0, abs=1e-5)
    # under a common reward all agents have one scale, that of the steps at which they took a decision: agent 1 has left
    # row 0 after step 1, and its two steps there are counted nowhere
    plain = value_learner("ippo", common_reward=True).value.targets(batch).advantage
    team = value_learner("ippo", common_reward=True, normalise_advantage=True).value.targets(batch).advantage
    taken = plain[batch.valid]
    assert len(taken) < 2 * int(real.sum())
    expected = torch.where(batch.valid, (plain - taken.mean()) / taken.std(unbiased=False), 0.0)
    torch.testing.assert_close(team, expected)


def test_value_clip_and_huber_by_hand() -> None:
    predicted, old, goal = (
        torch.tensor([3.0, 3.0, 0.5, -4.0]),
        torch.tensor([1.0, 1.0, 0.0, 0.0]),
        torch.tensor([3.0, 0, 0, 1]),
    )
    clip = value_learner(value_clip=1.0).value
    # clipped predictions are 2, 2, 0.5, -1: the larger error of the two counts
    torch.testing.assert_close(clip.loss(predicted, old, goal), torch.tensor([1.0, 9.0, 0.25, 25.0]))
    huber = value_learner(value_loss="huber", huber_delta=2.0).value
    # half the square up to 2, then 2 (|e| - 1)
    torch.testing.assert_close(huber.loss(predicted, old, goal), torch.tensor([0.0, 4.0, 0.125, 8.0]))
    both = value_learner(value_loss="huber", huber_delta=2.0, value_clip=1.0).value
    torch.testing.assert_close(both.loss(predicted, old, goal), torch.tensor([0.5, 4.0, 0.125, 8.0]))
    plain = value_learner().value
    torch.testing.assert_close(plain.loss(predicted, old, goal), torch.tensor([0.0, 9.0, 0.25, 25.0]))


def test_value_clip_is_around_the_values_before_the_update() -> None:
    """With the clip, gradients vanish once the critic has moved by it in the goal's direction."""
    batch = segments()
    free, held = (value_learner(lr=0.05, epochs=60, value_clip=c, grad_norm_clip=1e9) for c in (None, 0.2))
    for learner in (free, held):
        targets = learner.value.targets(batch)
        learner.value.update(batch, targets, 1.0)
    with torch.no_grad():
        moved = [(values(x.value.network, targets.inputs) - targets.raw)[batch.filled].abs() for x in (free, held)]
    assert float(moved[1].mean()) < 0.5 * float(moved[0].mean())


def test_targets_bootstrap_from_the_slow_critic() -> None:
    learner = value_learner(target_update_interval_or_tau=0.5)
    with torch.no_grad():
        learner.value.network.layers(learner.value.target.params.data[0])["head.b"].fill_(100.0)
    returns = learner.value.targets(segments()).returns
    # row 1, step 1: 1 + (10 + 100)/2; the advantage subtracts the live critic's 4
    assert float(returns[1, 1]) == 56.0
    assert float(learner.value.targets(segments()).advantage[1, 1, 0]) == 52.0
    assert float(returns[2, 0]) == 1 + (FINAL + 100) / 2
    assert float(returns[0, 2]) == 3.0


def test_the_slow_critic_follows_softly_or_by_copies() -> None:
    batch = segments()
    soft = value_learner(target_update_interval_or_tau=0.25).value
    start = soft.target.params.detach().clone()
    soft.update(batch, soft.targets(batch), 1.0)
    torch.testing.assert_close(soft.target.params, start + 0.25 * (soft.network.params - start))
    assert not torch.equal(soft.target.params, start)
    hard = value_learner(target_update_interval_or_tau=3).value
    for update in range(1, 7):
        before = hard.target.params.detach().clone()
        hard.update(batch, hard.targets(batch), 1.0)
        copied = torch.equal(hard.target.params, hard.network.params)
        assert copied == (update % 3 == 0)
        assert copied or torch.equal(hard.target.params, before)
    live = value_learner().value
    assert live.target is live.network


def test_what_tells_agents_apart_decides_between_one_value_and_several() -> None:
    def count(algorithm: str, **overrides: Any) -> tuple[int, int]:
        v = make_learner(algorithm, make_info(), **overrides).value
        return v.n_values, v.n_networks

    assert count("happo") == count("oatrpo") == (1, 1)
    assert count("mappo", obs_agent_id=False) == (1, 1)
    assert count("mappo") == (3, 1)
    assert count("mappo", obs_agent_id=False, common_reward=False) == (3, 1)
    assert count("mappo_ns") == (3, 3)
    assert count("ippo") == (3, 1)
    assert count("ippo_ns") == (3, 3)


# -- what must not matter ----------------------------------------------------------------------------------------


@both_networks
@pytest.mark.parametrize(
    ("algorithm", "overrides"),
    [
        ("mappo", {"obs_agent_id": False}),
        ("mappo_ns", {}),
        ("mappo", {"obs_agent_id": False, "q_nstep": 3, "gae_lambda": None, "standardise_rewards": True}),
        ("mappo", {"common_reward": False, "normalise_advantage": False}),
        ("happo", {}),
        ("hatrpo", {}),
        ("oappo", {}),
        ("oappo", {"reuse_mode": "frequency"}),
        ("oappo", {"reuse_mode": "sample", "reuse_scheme": "all"}),
        ("oappo", {"reuse_scheme": "adaptive_bound"}),
        ("oappo", {"reuse_scheme": "adaptive_roles"}),
        ("oatrpo", {}),
        ("oatrpo", {"reuse_scheme": "adaptive_roles"}),
    ],
    ids=str,
)
@pytest.mark.usefixtures("float64")
def test_garbage_where_nothing_may_be_read_changes_nothing(
    rnn: bool, algorithm: str, overrides: dict[str, Any]
) -> None:
    a, b = (make_learner(algorithm, make_info(), use_rnn=rnn, num_minibatches=2, **overrides) for _ in range(2))
    for k in range(2):
        batch = make_batch(a.mac, seed=k, common_reward=overrides.get("common_reward", True))
        spoilt = with_garbage(batch, a.mac, seed=k)
        assert not torch.equal(spoilt.obs, batch.obs)
        assert not torch.equal(spoilt.actions, batch.actions)
        found, _ = b.train(spoilt, 0)
        expected, _ = a.train(batch, 0)
        assert_same(b, a, 1e-12)
        assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.usefixtures("float64")
def test_garbage_in_a_living_step_does_change_something() -> None:
    """Otherwise the test above could not fail."""
    a, b = (make_learner("happo", make_info()) for _ in range(2))
    batch = make_batch(a.mac)
    actions = batch.actions.clone()
    at = batch.valid.nonzero()[5]
    actions[tuple(at)] = 1 - actions[tuple(at)].clamp(max=1)
    a.train(batch, 0)
    b.train(replace(batch, actions=actions), 0)
    assert (parameters(a)["policies"] - parameters(b)["policies"]).abs().max() > 1e-6


@both_networks
@pytest.mark.usefixtures("float64")
def test_the_factor_of_dead_agents_is_one(monkeypatch: pytest.MonkeyPatch, rnn: bool) -> None:
    learner = make_learner("happo", make_info(), use_rnn=rnn, lr=0.02)
    fix_order(learner, [0, 1, 2])
    batch = make_batch(learner.mac)
    samples = samples_of(learner, batch)
    seen: list[Tensor] = []

    def spy(samples: Any, updated: Tensor, sources: Any, *args: Any, **options: Any) -> Any:
        found = targets_with_factor(samples, updated, sources, *args, **options)
        seen.append(found[0])
        return found

    monkeypatch.setattr(losses, "targets_with_factor", spy)
    learner.train(batch, 0)
    # after agent 0 alone: 1 where it was dead, something else where it was not
    dead = ~samples.valid[:, 0] & samples.valid[:, 1]
    living = samples.valid[:, 0] & samples.valid[:, 1]
    assert dead.any()
    assert torch.equal(seen[1][:, 1][dead], samples.advantage[:, 1][dead])
    assert ((seen[1][:, 1] - samples.advantage[:, 1])[living].abs() > 1e-6).float().mean() > 0.9


@pytest.mark.parametrize("algorithm", ["happo", "hatrpo", "oappo", "oatrpo"])
@both_networks
def test_an_agent_that_is_never_alive_learns_nothing_and_hurts_nobody(rnn: bool, algorithm: str) -> None:
    learner = make_learner(algorithm, make_info(), use_rnn=rnn)
    batch = make_batch(learner.mac, never=1)
    before = parameters(learner)["policies"]
    scalars, arrays = learner.train(batch, 0)
    assert all(math.isfinite(x) for x in scalars.values()), scalars
    after = parameters(learner)["policies"]
    assert not torch.equal(after[0], before[0])
    if arrays:
        d, m = arrays["reuse"]["D"], arrays["reuse"]["M"]
        assert np.isinf(d[[0, 2], 1]).all()
        assert (m[[0, 2], 1] == 0).all()
        if (m[1] > 0).sum() > 1:
            return  # it learns from the others
    assert torch.equal(after[1], before[1])


@pytest.mark.parametrize("scheme", ["all", "adaptive_kl"])
@pytest.mark.parametrize("algorithm", ["oappo", "oatrpo"])
def test_a_source_without_steps_adds_nothing(algorithm: str, scheme: str) -> None:
    """Under a fixed mapping its share stays its own: the objective of the others is not scaled up."""
    learner = make_learner(algorithm, make_info(), reuse_scheme=scheme)
    scalars, arrays = learner.train(make_batch(learner.mac, never=1), 0)
    assert all(math.isfinite(x) for x in scalars.values()), scalars
    assert np.isnan(arrays["reuse"]["ess"][:, 1]).all()
    assert torch.isfinite(parameters(learner)["policies"]).all()


# -- distances ---------------------------------------------------------------------------------------------------


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


@pytest.mark.usefixtures("float64")
def test_distances_put_the_source_first_and_keep_to_its_mask() -> None:
    learner = make_learner("oappo", make_info(2, n_actions=3))
    mac = learner.mac
    p, q = [0.5, 0.3, 0.2], [0.1, 0.1, 0.8]
    constant_policy(mac, 0, [math.log(x) for x in p])
    constant_policy(mac, 1, [math.log(x) for x in q])
    batch = make_batch(mac, dead=False)
    avail = torch.ones_like(batch.avail)
    samples = samples_of(learner, replace(batch, avail=avail))
    entries = torch.arange(samples.n_entries)
    d = mac.distances(mac.measured(samples, entries)).kl
    assert kl(p, q) != pytest.approx(kl(q, p), abs=0.01)
    np.testing.assert_allclose(d, [[0.0, kl(q, p)], [kl(p, q), 0.0]], atol=1e-12)
    # agent 1 may not take action 2: on its steps both policies live on the first two actions
    avail[:, :, 1, 2] = False
    masked = mac.distances(mac.measured(samples_of(learner, replace(batch, avail=avail)), entries)).kl
    np.testing.assert_allclose(masked, [[0.0, kl([0.5, 0.5], [0.625, 0.375])], [kl(p, q), 0.0]], atol=1e-12)


@both_networks
@pytest.mark.parametrize("reduction", ["max", "mean", "p95"])
@pytest.mark.usefixtures("float64")
def test_distances_are_measured_on_the_sources_living_steps(rnn: bool, reduction: str) -> None:
    learner = make_learner("oappo", make_info(), use_rnn=rnn, reuse_kl_reduction=reduction)
    mac = learner.mac
    batch = make_batch(mac)
    samples = samples_of(learner, batch)
    d = mac.distances(mac.measured(samples, torch.arange(samples.n_entries))).kl
    agent_params = parameters(learner)["policies"]
    for i in range(3):
        for j in range(3):
            found = []
            for row in range(len(batch.filled)):
                # step by step along the source's episodes, with hidden states of the learner's own
                hidden = [mac.network.initial_hidden(1, 1) for _ in range(2)]
                for t in range(int(batch.filled[row].sum())):
                    x, mask = batch.obs[row, t, j].view(1, 1, -1), batch.avail[row, t, j]
                    logits = []
                    for h, params in enumerate((agent_params[j], agent_params[i])):
                        out, hidden[h] = one_step(mac.network, x, hidden[h], params.unsqueeze(0))
                        logits.append(out.view(-1)[mask].log_softmax(0))
                    if batch.alive[row, t, j]:
                        found.append(float((logits[0].exp() * (logits[0] - logits[1])).sum()))
            reduce = {"max": np.max, "mean": np.mean, "p95": lambda x: np.quantile(x, 0.95)}[reduction]
            assert d[i, j] == pytest.approx(float(reduce(found)), abs=1e-9), (i, j)


@pytest.mark.usefixtures("float64")
def test_agents_with_other_spaces_never_share() -> None:
    info = make_info(ragged=True)
    learner = make_learner("oappo", info, reuse_sigma=1e9)
    _, arrays = learner.train(make_batch(learner.mac), 0)
    d, m = arrays["reuse"]["D"], arrays["reuse"]["M"]
    assert np.isinf(d[2, :2]).all()
    assert np.isinf(d[:2, 2]).all()
    assert np.isfinite(d[:2, :2]).all()
    np.testing.assert_allclose(m, [[0.7, 0.3, 0], [0.3, 0.7, 0], [0, 0, 1]])
    for scheme in ({"reuse_scheme": "all"}, {"reuse_scheme": "groups", "reuse_groups": [[1, 2]]}):
        with pytest.raises(UserError, match="differ"):
            make_learner("oappo", info, **scheme)
    make_learner("oappo", info, reuse_scheme="groups", reuse_groups=[[0, 1]])


def test_the_number_of_steps_that_distances_take_is_bounded_and_logged() -> None:
    learner = make_learner("oappo", make_info(), reuse_kl_samples=5)
    scalars, _ = learner.train(make_batch(learner.mac), 0)
    assert scalars["reuse_kl_entries"] == 5
    rnn = make_learner("oappo", make_info(), reuse_kl_samples=7, use_rnn=True)
    scalars, _ = rnn.train(make_batch(rnn.mac), 0)
    assert scalars["reuse_kl_entries"] == 2  # whole episodes of up to 6 steps
    rest = make_learner("oappo", make_info())
    batch = make_batch(rest.mac)
    scalars, _ = rest.train(batch, 0)
    assert scalars["reuse_kl_entries"] == float(batch.filled.sum())


# -- Condition 1 ---------------------------------------------------------------------------------------------------


def alike(algorithm: str, n_agents: int = 3, **overrides: Any) -> Any:
    """A learner whose agents all have the same policy: every distance is 0."""
    learner = make_learner(algorithm, make_info(n_agents), **overrides)
    set_policies(learner.mac, parameters(learner)["policies"][:1].expand(n_agents, -1))
    fix_order(learner, range(n_agents))
    return learner


@both_networks
@pytest.mark.parametrize("reuse_lambda", [0.7, 0.0])
@pytest.mark.usefixtures("float64")
def test_with_no_source_left_the_step_is_hatrpos(rnn: bool, reuse_lambda: float) -> None:
    # at distance 0 everybody is a source, and no step of size delta stays within a sigma as small as this
    learner = alike("oatrpo", use_rnn=rnn, reuse_sigma=1e-13, reuse_lambda=reuse_lambda)
    plain = alike("hatrpo", use_rnn=rnn)
    batch = make_batch(plain.mac)
    samples = samples_of(learner, batch)
    d = learner.mac.distances(learner.mac.measured(samples, torch.arange(samples.n_entries))).kl
    assert (np.stack([learner.mac.row(d, i) for i in range(3)]) > 0).sum() >= 6
    scalars, arrays = learner.train(batch, 0)
    expected, _ = plain.train(batch, 0)
    assert scalars["condition_retries"] == 1.0
    np.testing.assert_array_equal(arrays["reuse"]["M_used"], np.eye(3))
    assert expected["steps_accepted"] == 1.0
    assert_same(learner, plain, 1e-9)
    assert scalars["approx_kl"] == pytest.approx(expected["approx_kl"], abs=1e-9)


@pytest.mark.parametrize("seed", [1, 2, 10])
@pytest.mark.usefixtures("float64")
def test_only_the_sources_that_a_step_leaves_behind_are_dropped(seed: int) -> None:
    """Agent 2 has one living step: it stays in reach of a sigma that agent 1's many steps do not."""
    # one backtrack: the step cannot shrink until everybody fits
    common = {"line_search_steps": 1, "seed": seed, "reuse_kl_reduction": "max"}
    learner = alike("oatrpo", reuse_sigma=0.01, **common)
    batch = make_batch(learner.mac, seed=seed, dead=False)
    alive = batch.alive.clone()
    alive[:, :, 2] = False
    alive[2, 0, 2] = True
    batch = replace(batch, alive=alive)
    before = parameters(learner)["policies"][0]
    samples = samples_of(learner, batch)
    entries = torch.arange(samples.n_entries)
    d = learner.mac.distances(learner.mac.measured(samples, entries)).kl
    assert learner.mac.row(d, 0).tolist() == pytest.approx([0.7, 0.15, 0.15])
    scalars, arrays = learner.train(batch, 0)
    assert scalars["condition_retries"] > 0
    assert arrays["reuse"]["M_used"][0].tolist() == pytest.approx([0.7, 0.0, 0.3])
    # the step is the one that this row gives from the start (a fixed mapping knows no condition)
    given = [[0.7, 0.0, 0.3], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    fixed = alike("oatrpo", reuse_scheme="matrix", reuse_matrix=given, **common)
    fixed.train(batch, 0)
    new = parameters(learner)["policies"][0]
    torch.testing.assert_close(new, parameters(fixed)["policies"][0], rtol=0, atol=1e-9)
    assert not torch.equal(new, before)


@both_networks
@pytest.mark.usefixtures("float64")
def test_accepted_steps_stay_within_sigma_of_the_acting_sources(monkeypatch: pytest.MonkeyPatch, rnn: bool) -> None:
    bound, sigma, steps = 0, 0.02, 0
    for seed in range(4):
        learner = alike("oatrpo", use_rnn=rnn, reuse_sigma=sigma, kl_threshold=0.02, seed=seed)
        mac, batch = learner.mac, make_batch(learner.mac, seed=seed)
        samples = samples_of(learner, batch)
        entries = torch.arange(samples.n_entries)
        measured = mac.measured(samples, entries)
        _, arrays = learner.train(batch, 0)
        after = parameters(learner)["policies"]
        for i in range(3):
            sources = [j for j in range(3) if j != i and arrays["reuse"]["M_used"][i, j] > 0]
            steps += len(sources)
            if not sources:
                continue
            found = mac.condition(after[i], measured, sources)
            assert (found <= sigma).all()
            bound += int((found > sigma / 100).sum())
    assert steps > 0
    assert bound > 0, "the steps moved nobody: nothing was tested"


@pytest.mark.parametrize(
    "scheme", [{"reuse_scheme": "all"}, {"reuse_scheme": "groups", "reuse_groups": [[0, 1, 2]]}], ids=str
)
def test_fixed_mappings_know_no_condition(scheme: dict[str, Any]) -> None:
    learner = alike("oatrpo", reuse_sigma=0.0, **scheme)
    scalars, arrays = learner.train(make_batch(learner.mac), 0)
    assert scalars["condition_retries"] == 0
    assert scalars["steps_accepted"] > 0
    assert (arrays["reuse"]["M_used"] > 0).all()


@pytest.mark.usefixtures("float64")
def test_condition_one_in_sample_mode_rejects_instead_of_retrying() -> None:
    # 99 times in 100 the two agents swap; no step of size delta stays within a sigma as small as this
    learner = alike("oatrpo", 2, reuse_mode="sample", reuse_sigma=1e-13, reuse_lambda=0.01)
    before = parameters(learner)["policies"]
    scalars, arrays = learner.train(make_batch(learner.mac), 0)
    assert (arrays["reuse"]["M_used"] > 0).all()
    assert scalars["condition_retries"] == scalars["steps_accepted"] == 0
    assert torch.equal(parameters(learner)["policies"], before)


# -- state ---------------------------------------------------------------------------------------------------------


@both_networks
@pytest.mark.parametrize(
    ("algorithm", "mode"),
    [(a, "weights") for a in ALGORITHMS] + [(a, m) for a in ("oappo", "oatrpo") for m in ("frequency", "sample")],
)
def test_a_resumed_learner_goes_on_bit_for_bit(rnn: bool, algorithm: str, mode: str) -> None:
    overrides: dict[str, Any] = {"num_minibatches": 2, "target_update_interval_or_tau": 2, "standardise_rewards": True}
    if algorithm in ("oappo", "oatrpo"):
        overrides |= {"reuse_mode": mode, "reuse_kl_samples": 7}
    first = make_learner(algorithm, make_info(), use_rnn=rnn, **overrides)
    for k in range(3):
        first.train(make_batch(first.mac, seed=k), 100 * k)
    saved = through_a_file({"mac": first.mac.state_dict(), "learner": first.state_dict()})
    second = make_learner(algorithm, make_info(), seed=9, use_rnn=rnn, **overrides)
    second.mac.load_state_dict(saved["mac"])
    second.load_state_dict(saved["learner"])
    assert_same(second, first, 0)
    assert (second.updates, second.processed) == (first.updates, first.processed) != (0, 0)
    for k in range(3, 5):
        batch = make_batch(first.mac, seed=k)
        expected, a = first.train(batch, 100 * k)
        found, b = second.train(batch, 100 * k)
        assert found == expected
        assert_same(second, first, 0)
        for name in a.get("reuse", {}):
            np.testing.assert_array_equal(a["reuse"][name], b["reuse"][name])


# -- whole iterations ------------------------------------------------------------------------------------------------


@both_networks
@all_algorithms
@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"lengths": (1,)},
        {"lengths": (1, 1), "n_agents": 1, "dead": False},
        {"lengths": (3, 6), "n_agents": 2, "ragged": True},
        {"last": True},
    ],
    ids=str,
)
def test_everything_logged_is_finite(rnn: bool, algorithm: str, shape: dict[str, Any]) -> None:
    shape = dict(shape)
    info = make_info(shape.pop("n_agents", 3), ragged=shape.pop("ragged", False))
    overrides = {"obs_last_action": True} if shape.pop("last", False) else {}
    learner = make_learner(algorithm, info, use_rnn=rnn, num_minibatches=2, **overrides)
    for k in range(3):
        scalars, arrays = learner.train(make_batch(learner.mac, seed=k, **shape), 400 * k)
        assert all(isinstance(x, float) and math.isfinite(x) for x in scalars.values()), scalars
        for reuse in arrays.values():
            np.testing.assert_allclose(reuse["M"].sum(1), 1.0, rtol=1e-6)
            assert not np.isnan(reuse["D"]).any()
    assert all(torch.isfinite(p).all() for p in parameters(learner).values())
    assert learner.updates == 3
    for name in ("critic_loss", "entropy", "lr", "agent_grad_norm"):
        assert name in scalars
    assert ("pg_loss" if algorithm in ONE_PASS else "approx_kl") in scalars


@all_algorithms
def test_learning_rates_follow_their_schedule(algorithm: str) -> None:
    learner = make_learner(algorithm, make_info(), lr=0.01, lr_schedule="linear", t_max=1000)
    batch = make_batch(learner.mac)
    assert learner.train(batch, 0)[0]["lr"] == pytest.approx(0.01)
    assert learner.train(batch, 250)[0]["lr"] == pytest.approx(0.0075)
    assert learner.value.optimiser.param_groups[0]["lr"] == pytest.approx(0.0075)
    before = parameters(learner)
    assert learner.train(batch, 1000)[0]["lr"] == 0.0
    assert torch.equal(parameters(learner)["critic"], before["critic"])
    if learner.optimisers:
        assert torch.equal(parameters(learner)["policies"], before["policies"])


@pytest.mark.parametrize("algorithm", ["mappo", "happo", "hatrpo", "oappo", "oatrpo"])
@both_networks
def test_a_bandit_is_learned(rnn: bool, algorithm: str) -> None:
    """Action 1 pays, whatever is seen: an update in the wrong direction would be noticed here."""
    learner = make_learner(algorithm, make_info(2), use_rnn=rnn, lr=0.01, epochs=5, t_max=10**6)

    def play(seed: int) -> tuple[Batch, float]:
        batch = make_batch(learner.mac, seed=seed, lengths=[4] * 8, dead=False)
        avail = torch.ones_like(batch.avail)
        batch = make_batch_again(learner.mac, batch, avail, seed)
        hits = (batch.actions == 1).float().sum(-1, keepdim=True)
        return replace(batch, reward=hits.expand(-1, -1, 2)), float(hits.mean())

    first = np.mean([play(1000 + k)[1] for k in range(5)])
    for k in range(25):
        learner.train(play(k)[0], 0)
    last = np.mean([play(2000 + k)[1] for k in range(5)])
    assert last > first + 0.5, (first, last)


def make_batch_again(mac: Any, batch: Batch, avail: Tensor, seed: int) -> Batch:
    """The same observations, played again under other masks."""
    g = torch.Generator().manual_seed(seed)
    b, t, n = batch.actions.shape
    actions, log_prob = batch.actions.clone(), batch.log_prob.clone()
    last, hidden = torch.full((b, n), -1), mac.initial_hidden(b)
    for step in range(t):
        uniform = torch.rand(b, n, mac.info.n_actions, generator=g)
        last, log_prob[:, step], hidden = mac.act(batch.obs[:, step], avail[:, step], last, hidden, uniform)
        actions[:, step] = last
    return replace(batch, avail=avail, actions=actions, log_prob=log_prob)


# -- memory -----------------------------------------------------------------------------------------------------------


class Held:
    """Counts the bytes that autograd keeps for backward passes."""

    def __init__(self) -> None:
        self.now = self.peak = 0

    def pack(self, x: Tensor) -> Any:
        box = _Box(x)
        size = x.numel() * x.element_size()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(box, self._free, size)
        return box

    def _free(self, size: int) -> None:
        self.now -= size


class _Box:
    def __init__(self, x: Tensor) -> None:
        self.x = x


def peak_of_training(learner: Any, batch: Batch) -> int:
    held = Held()
    with torch.autograd.graph.saved_tensors_hooks(held.pack, lambda box: box.x):
        learner.train(batch, 0)
    return held.peak


@both_networks
@pytest.mark.parametrize("algorithm", ["oappo", "oatrpo"])
def test_thirty_agents_train_in_bounded_memory(monkeypatch: pytest.MonkeyPatch, rnn: bool, algorithm: str) -> None:
    """No network call has more rows than `reuse_max_rows`, and no graph outlives its call."""
    largest, limit = 0, 120
    lengths = [6] * 8

    def build(n_agents: int) -> Any:
        common = {"reuse_scheme": "all", "reuse_max_rows": limit, "hidden_dim": 16, "epochs": 1, "use_rnn": rnn}
        if algorithm == "oatrpo":
            common["cg_iters"] = 2
        learner = make_learner(algorithm, make_info(n_agents), **common)
        fix_order(learner, [0, 1])  # two of them say it all
        return learner

    small, large = build(3), build(30)
    single = large.mac.network.single

    def spy(params: Tensor, x: Tensor, *rest: Any, **options: Any) -> Tensor:
        nonlocal largest
        largest = max(largest, x[..., 0].numel())
        return single(params, x, *rest, **options)

    few = peak_of_training(small, make_batch(small.mac, lengths=lengths))
    monkeypatch.setattr(large.mac.network, "single", spy)
    many = peak_of_training(large, make_batch(large.mac, lengths=lengths))
    assert largest <= limit
    assert many <= 2 * few, (few, many)


@pytest.mark.parametrize(("kind", "key"), [("oappo", "reuse_scheme"), ("seac", "seac_coef")])
def test_who_shares_with_nobody_is_told(kind: str, key: str) -> None:
    (ragged,) = make_learner(kind, make_info(2, ragged=True)).notices()
    (one,) = make_learner(kind, make_info(1)).notices()
    assert re.fullmatch(f"{key}=.* no two agents have observations and actions of equal sizes\\.", ragged)
    assert re.fullmatch(f"{key}=.* it has one agent\\.", one)
    assert make_learner(kind, make_info(2)).notices() == []
