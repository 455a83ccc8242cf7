"""COMA: the counterfactual baseline by hand, targets, what it reduces to, and what it may not read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from oamarl.learners.actor_critic.play import play_of
from oamarl.learners.actor_critic.policy_gradient import climb
from oamarl.learners.value.action_values import others_codes
from oamarl.utils.errors import UserError

from action_critic_tools import PROBABILITIES, two_agents, values_of_actions
from learner_tools import (
    assert_same,
    constant_policy,
    double,
    make_batch,
    make_info,
    make_learner,
    parameters,
    permuted,
    set_policies,
    with_garbage,
)

both_networks = pytest.mark.parametrize("rnn", [False, True], ids=["ff", "gru"])
both_methods = pytest.mark.parametrize("algorithm", ["coma", "coma_ns", "pac", "pac_ns"])


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    with double():
        yield


# -- the method ----------------------------------------------------------------------------------------------------


def test_counterfactual_advantages_by_hand() -> None:
    """Agent 0 beside action 3 has the row [6, 1, 2, 0]: 1 - (6/2 + 1/4 + 2/8); agent 1 beside 1: [3, 5, -1, 2]."""
    learner, batch = two_agents()
    samples, targets = learner.samples(batch)
    baseline = 6 / 2 + 1 / 4 + 2 / 8, 3 / 8 + 5 / 8 - 1 / 4 + 2 / 2
    torch.testing.assert_close(samples.advantage, torch.tensor([[1 - baseline[0], 2 - baseline[1]]]))
    torch.testing.assert_close(targets.values, torch.tensor([[[1.0, 2.0]]]))
    torch.testing.assert_close(targets.returns, torch.full((1, 1, 2), 2.0))


def test_a_step_by_hand() -> None:
    """Of a softmax's logits, log pi(a) has the gradient 1[a] - pi; of the head's bias, (Q - y)^2 has 2 (Q - y) at a."""
    learner, batch = two_agents(entropy_coef=0.5)
    scalars, _ = learner.train(batch, 0)
    advantage = 1 - 3.5, 2 - 1.75
    entropy = -(PROBABILITIES[0] * PROBABILITIES[0].log()).sum()
    loss = -(math.log(1 / 4) * advantage[0] + math.log(1 / 2) * advantage[1] + 0.5 * 2 * float(entropy))
    assert scalars["pg_loss"] == pytest.approx(loss / 2)
    assert scalars["entropy"] == pytest.approx(float(entropy))
    assert scalars["critic_loss"] == pytest.approx(((1 - 2) ** 2 + 0) / 2)
    assert scalars["advantage_mean"] == pytest.approx(sum(advantage) / 2)
    net = learner.mac.network
    for i, (action, a) in enumerate(zip((1, 3), advantage, strict=True)):
        p = PROBABILITIES[i]
        taken = torch.eye(4)[action]
        expected = -a * (taken - p) + 0.5 * p * (p.log() + entropy)
        torch.testing.assert_close(net.layers(net.params.grad[i])["head.b"], expected)
    critic = learner.value.network
    expected = torch.zeros(2, 4)
    expected[0, 1] = 2 * (1 - 2) / 2
    torch.testing.assert_close(critic.layers(critic.params.grad)["head.b"], expected)


@both_networks
def test_the_baseline_takes_nothing_from_the_mean(rnn: bool) -> None:
    """Whatever the critic says, sum_u pi_i(u) A_i(u) = 0, also where actions are illegal."""
    learner = make_learner("coma", make_info(), use_rnn=rnn)
    batch = make_batch(learner.mac)
    play = play_of(learner.mac, batch, learner.generators["last actions"])
    total = torch.zeros_like(batch.log_prob)
    for u in range(4):
        for i in range(3):
            actions = batch.actions.clone()
            actions[..., i] = u
            learner.generators["last actions"].manual_seed(1)
            advantage = learner.samples(replace(batch, actions=actions))[1].advantage
            total[..., i] += play.policy.params.exp()[:, :-1, i, u] * advantage[..., i]
    torch.testing.assert_close(total[batch.valid], torch.zeros(int(batch.valid.sum())))


def test_codes_of_the_others() -> None:
    codes = others_codes(torch.tensor([[0, 2], [1, 1]]), 3)
    none = [0.0] * 3
    assert codes.tolist() == [
        [[*none, 0, 0, 1], [1, 0, 0, *none]],
        [[*none, 0, 1, 0], [0, 1, 0, *none]],
    ]  # fmt: skip


# -- targets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["coma", "coma_ns"])
@pytest.mark.parametrize("returns", [{"q_nstep": 3}, {"q_nstep": None, "gae_lambda": 0.7}], ids=["nstep", "lambda"])
def test_targets_are_written_out(algorithm: str, returns: dict[str, Any]) -> None:
    """Step by step: a termination has nothing behind it, a truncation the drawn action's value."""
    learner = make_learner(algorithm, make_info(), standardise_rewards=False, **returns)
    learner.value.target.params.data += 0.1 * torch.randn_like(learner.value.target.params)
    batch = make_batch(learner.mac)
    generator = torch.Generator().set_state(learner.generators["last actions"].get_state())
    actions = play_of(learner.mac, batch, generator).actions
    q = values_of_actions(learner, batch, actions)
    found = learner.samples(batch)[1].returns
    gamma, lam, n = 0.99, returns.get("gae_lambda"), returns["q_nstep"]

    def target(b: int, t: int, left: int) -> Tensor:
        last = t + 1 == int(batch.filled[b].sum())
        if last and batch.terminated[b, t]:
            return batch.reward[b, t]
        if last or left == 1:
            return batch.reward[b, t] + gamma * q[b, t + 1]
        ahead = target(b, t + 1, left - 1)
        if lam is not None:
            ahead = (1 - lam) * q[b, t + 1] + lam * ahead
        return batch.reward[b, t] + gamma * ahead

    for b, t in batch.filled.nonzero().tolist():
        torch.testing.assert_close(found[b, t], target(b, t, n or 1000))
    assert (batch.truncated & ~batch.terminated & batch.filled).any()


def test_the_action_after_the_last_step_is_legal_and_the_policys() -> None:
    learner = make_learner("coma", make_info(2))
    batch = make_batch(learner.mac, lengths=(2,) * 200, dead=False)
    batch = replace(batch, avail=torch.ones_like(batch.avail).index_fill(3, torch.tensor([3]), value=False))
    for i in range(2):
        constant_policy(learner.mac, 0, [math.log(0.6), math.log(0.3), math.log(0.1), 5.0])
        assert i < 2
    drawn = play_of(learner.mac, batch, learner.generators["last actions"]).actions[:, 2]
    share = [(drawn == u).double().mean() for u in range(4)]
    assert share[3] == 0
    assert all(abs(s - p) < 0.1 for s, p in zip(share, (0.6, 0.3, 0.1), strict=False))


# -- one method is another -----------------------------------------------------------------------------------------


@both_networks
def test_the_policies_step_is_a2cs_bit_for_bit(rnn: bool) -> None:
    """On the same advantages COMA's policies and IA2C's do the same."""
    a, b = (make_learner("ia2c", make_info(), use_rnn=rnn, lr=0.01) for _ in range(2))
    for step in range(2):
        batch = make_batch(a.mac, seed=step)
        scalars, _ = a.train(batch, 0)
        it = b.begin_iteration(batch, 0)
        found = climb(b, it)
        b.value.update(batch, it.targets, it.lr_scale, torch.full((it.samples.n_steps, 3), 0.5 / it.samples.n_steps))
        assert {k: scalars[k] for k in ("pg_loss", "entropy", "agent_grad_norm")} == {
            k: found[k] for k in ("pg_loss", "entropy", "agent_grad_norm")
        }
        assert_same(a, b, 0)


@both_networks
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("algorithm", ["coma_ns", "pac_ns"])
def test_renaming_the_agents_renames_the_result(algorithm: str, rnn: bool, scaled: bool) -> None:
    """Episodes that terminate: nothing is drawn."""
    perm, n, a = [2, 0, 1], 3, 4
    more = {"normalise_advantage": scaled, "standardise_returns": scaled, "standardise_rewards": scaled}
    first, second = (
        make_learner(algorithm, make_info(), use_rnn=rnn, lr=0.01, obs_agent_id=False, **more) for _ in range(2)
    )
    set_policies(second.mac, first.mac.network.params.detach()[perm])
    for x in ("network", "target"):
        theirs, ours = getattr(first.value, x), getattr(second.value, x)
        ours.params.data.copy_(theirs.params.detach()[perm])
        w = ours.layers(ours.params.data)["fc1.w"]
        begin = w.shape[1] - n * a
        blocks = w[:, begin:].clone().view(n, n, a, -1)
        w[:, begin:] = blocks[:, perm].flatten(1, 2)
    if algorithm == "pac_ns":
        second.state_value.network.params.data.copy_(first.state_value.network.params.detach()[perm])
    for step in range(2):
        batch = make_batch(first.mac, seed=step)
        batch = replace(batch, terminated=batch.terminated | batch.truncated)
        found, expected = second.train(permuted(batch, perm), 0)[0], first.train(batch, 0)[0]
        assert found == pytest.approx(expected, abs=1e-9)
    torch.testing.assert_close(parameters(second)["policies"], parameters(first)["policies"][perm], rtol=0, atol=1e-9)


@both_methods
@both_networks
def test_dead_agents_and_padding_add_nothing(algorithm: str, rnn: bool) -> None:
    a, b = (make_learner(algorithm, make_info(), use_rnn=rnn, lr=0.01) for _ in range(2))
    for step in range(2):
        batch = make_batch(a.mac, seed=step)
        assert b.train(with_garbage(batch, a.mac, seed=step), 0)[0] == pytest.approx(a.train(batch, 0)[0], abs=1e-9)
        assert_same(b, a, 1e-12)


@both_methods
@pytest.mark.parametrize(
    "given",
    [
        {"normalise_advantage": True}, {"standardise_returns": True}, {"standardise_rewards": True},
        {"obs_individual_obs": True, "critic_agent_obs": True, "obs_last_action": True}, {"critic_type": "ac_critic"},
        {"q_nstep": None, "gae_lambda": 0.8}, {"target_update_interval_or_tau": 1.0}, {"value_loss": "huber"},
        {"critic_sharing": "separate", "sharing": "shared"}, {"sharing": [0, 0, 1], "critic_sharing": "policies"},
        {"layer_norm": True}, {"standardise_obs": True}, {"lr_schedule": "linear"},
    ],
    ids=str,
)  # fmt: skip
def test_all_options_train(algorithm: str, given: dict[str, Any]) -> None:
    learner = make_learner(algorithm, make_info(), **given)
    before = parameters(learner)
    for step in range(3):
        scalars, arrays = learner.train(make_batch(learner.mac, seed=step), 0)
        assert not arrays
        assert all(isinstance(x, float) and math.isfinite(x) for x in scalars.values()), scalars
    for name in ("policies", "critic"):
        assert (parameters(learner)[name] != before[name]).any(1).all()


def test_own_modules_are_critics_too() -> None:
    learner = make_learner("coma_ns", make_info(), critic="test_coma:Linear")
    scalars, _ = learner.train(make_batch(learner.mac), 0)
    assert all(math.isfinite(x) for x in scalars.values())


class Linear(torch.nn.Module):
    """A critic of one's own: a value for each action."""

    def __init__(self, inputs: int, outputs: int, config: Any) -> None:
        super().__init__()
        assert outputs == 4
        self.layer = torch.nn.Linear(inputs, outputs)

    def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer(x), hidden


# -- what is refused -------------------------------------------------------------------------------------------------


@both_methods
def test_a_critic_with_a_memory_is_refused(algorithm: str) -> None:
    with pytest.raises(UserError, match="critic_use_rnn=True is refused, use critic=v"):
        make_learner(algorithm, make_info(), critic_use_rnn=True)


def test_the_state_value_beside_a_coordination_graph_has_no_memory_either() -> None:
    with pytest.raises(UserError, match="critic_use_rnn=True is refused, also with critic=dcg"):
        make_learner("pac_dcg_ns", make_info(), critic_use_rnn=True)


@both_methods
def test_continuous_actions_are_refused(algorithm: str) -> None:
    info = replace(make_info(), action_low=((-1.0,) * 4,) * 3, action_high=((1.0,) * 4,) * 3)
    with pytest.raises(UserError, match=r"a value for each action, .* vectors of numbers \(Box\)"):
        make_learner(algorithm, info)


@pytest.mark.parametrize("algorithm", ["coma", "coma_ns"])
def test_individual_rewards_are_refused(algorithm: str) -> None:
    with pytest.raises(UserError, match="which needs one reward: use common_reward=True"):
        make_learner(algorithm, make_info(), common_reward=False)


@both_methods
def test_selectors_that_do_not_sample_are_refused(algorithm: str) -> None:
    with pytest.raises(UserError, match="learns policies, which are sampled"):
        make_learner(algorithm, make_info(), action_selector="epsilon_greedy")
