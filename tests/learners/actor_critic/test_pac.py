"""Pareto actor-critic: the enumeration by hand, targets and advantages, what it reduces to, its state, its limits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from oamarl.learners.actor_critic import enumeration, pac
from oamarl.learners.actor_critic.enumeration import allowed, best_for, joint_actions
from oamarl.learners.actor_critic.play import play_of
from oamarl.utils.errors import UserError

from action_critic_tools import TABLE, two_agents, values_of_actions
from learner_tools import assert_same, double, make_batch, make_info, make_learner, parameters, through_a_file

both_methods = pytest.mark.parametrize("algorithm", ["pac", "pac_ns"])


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    with double():
        yield


# -- the enumeration -----------------------------------------------------------------------------------------------


def test_joint_actions_of_the_others() -> None:
    assert joint_actions(2, 3).tolist() == [[[0, 0], [0, 1], [0, 2]], [[0, 0], [1, 0], [2, 0]]]
    found = joint_actions(3, 2)
    assert found[1].tolist() == [[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1]]
    assert joint_actions(1, 5).tolist() == [[[0]]]


def test_a_joint_action_needs_all_others_to_be_allowed() -> None:
    avail = torch.tensor([[[True, False], [True, True], [False, True]], [[False, False]] * 3])
    found = allowed(avail, joint_actions(3, 2))
    assert found[0].T.tolist() == [
        [False, True, False, True],  # the second and third agents do 00, 01, 10, 11
        [False, True, False, False],  # the first and third
        [True, True, False, False],  # the first and second
    ]
    assert found[1].all(), "padding allows everything"


@both_methods
@pytest.mark.parametrize("network", ["network", "target"])
def test_the_best_of_all_legal_joint_actions(algorithm: str, network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every joint action of the others that is legal, evaluated by itself; pieces change nothing."""
    learner = make_learner(algorithm, make_info())
    value = learner.value
    value.target.params.data += 0.1 * torch.randn_like(value.target.params)
    batch = make_batch(learner.mac)
    actions = play_of(learner.mac, batch, learner.generators["last actions"]).actions
    if network == "network":
        value.target.params.data.copy_(value.network.params)
    expected = torch.full(actions.shape, -torch.inf)
    live = torch.cat([batch.valid, torch.ones_like(batch.valid[:, :1])], dim=1)
    for joint in itertools.product(range(4), repeat=3):
        theirs = torch.tensor(joint)
        legal = batch.avail[..., torch.arange(3), theirs]
        idle = torch.cat([batch.filled, torch.zeros_like(batch.filled[:, :1])], dim=1).unsqueeze(-1) & ~live
        legal = torch.where(idle, theirs == 0, legal)
        q = values_of_actions(learner, batch, theirs.expand_as(actions))
        for i in range(3):
            possible = legal.clone()
            possible[..., i] = actions[..., i] == theirs[i]
            at = possible.all(-1)
            expected[..., i] = torch.where(at, torch.maximum(expected[..., i], q[..., i]), expected[..., i])
    there = torch.cat([torch.ones_like(batch.filled[:, :1]), batch.filled], dim=1)
    for limit in (enumeration.MAX_ROWS, 100):
        monkeypatch.setattr(enumeration, "MAX_ROWS", limit)
        found = best_for(value, getattr(value, network), batch, actions)
        torch.testing.assert_close(found[there], expected[there])
        assert (found[~there] == 0).all()


@both_methods
@pytest.mark.parametrize("given", [{"layer_norm": True}, {"critic_agent_obs": True, "obs_last_action": True}], ids=str)
def test_sums_of_the_first_layer_are_whole_rows(algorithm: str, given: dict[str, Any], monkeypatch: Any) -> None:
    learner = make_learner(algorithm, make_info(), **given)
    batch = make_batch(learner.mac)
    actions = play_of(learner.mac, batch, learner.generators["last actions"]).actions
    found = best_for(learner.value, learner.value.network, batch, actions)
    monkeypatch.setattr(enumeration, "_by_sums", enumeration._by_rows)
    torch.testing.assert_close(best_for(learner.value, learner.value.network, batch, actions), found)


# -- the method ----------------------------------------------------------------------------------------------------


def test_advantages_by_hand() -> None:
    """Action 1 of agent 0 is worth the most of its column, 5; action 3 of agent 1 is worth 4; V is 0.5 and -1."""
    learner, batch = two_agents("pac_ns")
    network = learner.state_value.network
    with torch.no_grad():
        network.params.zero_()
        for k, constant in enumerate((0.5, -1.0)):
            network.layers(network.params.data[k])["head.b"].fill_(constant)
    assert TABLE.amax(0).tolist() == [6, 5, 8, 4]
    samples, targets = learner.samples(batch)
    torch.testing.assert_close(samples.advantage, torch.tensor([[5 - 0.5, 4 + 1.0]]))
    torch.testing.assert_close(targets.returns, torch.full((1, 1, 2), 2.0))
    # where the other may not do 1 the best of 5 is gone: the column is [-2, 5, 0, 1]
    avail = torch.ones_like(batch.avail)
    avail[..., 1, 1] = False
    advantage = learner.samples(replace(batch, avail=avail))[0].advantage
    torch.testing.assert_close(advantage, torch.tensor([[1 - 0.5, 4 + 1.0]]))
    scalars, _ = learner.train(batch, 0)
    assert scalars["critic_loss"] == pytest.approx(((1 - 2) ** 2 + 0) / 2)
    assert scalars["state_critic_loss"] == pytest.approx((1.5**2 + 3**2) / 2)
    torch.testing.assert_close(
        network.layers(network.params.grad)["head.b"], torch.tensor([[2 * -1.5 / 2], [2 * -3.0 / 2]])
    )


@pytest.mark.parametrize("returns", [{"q_nstep": 2}, {"q_nstep": None, "gae_lambda": 0.7}], ids=["nstep", "lambda"])
def test_with_one_agent_targets_are_comas(returns: dict[str, Any]) -> None:
    """There are no others to choose for; the advantage is Q(s, a) - V(s)."""
    a, b = (make_learner(x, make_info(1), standardise_rewards=False, **returns) for x in ("pac_ns", "coma_ns"))
    b = make_learner("coma_ns", make_info(1), standardise_rewards=False, obs_agent_id=False, **returns)
    batch = make_batch(a.mac)
    found, expected = a.samples(batch)[1], b.samples(batch)[1]
    torch.testing.assert_close(found.returns[batch.filled], expected.returns[batch.filled])
    torch.testing.assert_close(found.values, expected.values)
    v = a.state_value.towards(batch).raw
    torch.testing.assert_close(found.advantage[batch.filled], (found.raw - v)[batch.filled])


def test_an_optimistic_agent_does_not_mind_what_the_others_did() -> None:
    """Its advantage is the same whatever the others' actions were."""
    learner = make_learner("pac", make_info())
    batch = make_batch(learner.mac)
    before = learner.samples(batch)[1].advantage
    actions = batch.actions.clone()
    actions[..., 1:] = 0
    after = learner.samples(replace(batch, actions=actions))[1].advantage
    torch.testing.assert_close(after[..., 0], before[..., 0])
    assert (after[..., 1:] - before[..., 1:]).abs().max() > 1e-3


@both_methods
def test_rewards_of_their_own(algorithm: str) -> None:
    """Each agent's values are of its own reward."""
    learner = make_learner(algorithm, make_info(), common_reward=False, q_nstep=1, gamma=0.0)
    batch = make_batch(learner.mac, common_reward=False)
    torch.testing.assert_close(learner.samples(batch)[1].returns[batch.filled], batch.reward[batch.filled])
    scalars, _ = learner.train(batch, 0)
    assert all(math.isfinite(x) for x in scalars.values())


def test_critic_and_state_values_have_one_scale() -> None:
    learner = make_learner("pac_ns", make_info(), standardise_returns=True, standardise_rewards=True)
    for step in range(3):
        learner.train(make_batch(learner.mac, seed=step), 0)
    assert learner.state_value.return_stats is learner.value.return_stats
    assert learner.state_value.reward_stats is None


def test_the_entropy_weight_falls_until_its_end() -> None:
    learner = make_learner("pac_ns", make_info(), t_max=1000, entropy_coef=20.0, entropy_coef_final=0.01)
    batch = make_batch(learner.mac)
    found = [learner.train(batch, t)[0]["entropy_coef"] for t in (0, 400, 800, 1000)]
    assert found == pytest.approx([20.0, 10.005, 0.01, 0.01])
    assert make_learner("mappo", make_info()).config.entropy_end_ratio == 1.0


@both_methods
def test_a_learner_goes_on_where_its_state_was_taken(algorithm: str) -> None:
    more = {"standardise_returns": True, "standardise_rewards": True, "lr": 0.01}
    a, b = (make_learner(algorithm, make_info(), seed=seed, **more) for seed in (1, 2))
    a.train(make_batch(a.mac, seed=0), 0)
    state = through_a_file(a.state_dict())
    b.mac.load_state_dict(through_a_file(a.mac.state_dict()))
    b.load_state_dict(state)
    for step in range(1, 3):
        batch = make_batch(a.mac, seed=step)
        assert a.train(batch, 10)[0] == b.train(batch, 10)[0]
    assert_same(a, b, 0)
    assert torch.equal(a.state_value.network.params, b.state_value.network.params)
    assert b.state_value.return_stats is b.value.return_stats


def test_weights_of_other_methods() -> None:
    a, b = make_learner("pac_ns", make_info(), seed=1), make_learner("pac_ns", make_info(), seed=2)
    assert b.load_weights(a.state_dict()) == []
    assert_same_values = torch.equal(b.state_value.network.params, a.state_value.network.params)
    assert assert_same_values
    assert torch.equal(parameters(b)["critic"], parameters(a)["critic"])
    other = make_learner("mappo_ns", make_info())
    assert b.load_weights(other.state_dict()) == ["critic", "state value"]
    assert [name for name, _ in b.parameters()] == ["policies", "critic", "state value"]


@both_methods
def test_too_many_joint_actions_are_refused(algorithm: str) -> None:
    assert pac.MOST == 4**6
    make_learner(algorithm, make_info(7))
    with pytest.raises(UserError, match=r"4\^7 = 16,384 in 'synthetic', and at most 4,096 are allowed"):
        make_learner(algorithm, make_info(8))
