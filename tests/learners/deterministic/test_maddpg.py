"""MADDPG and MATD3: every target by hand, whose gradient an agent follows, and DDPG with one agent."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from oamarl.components.batch import Batch
from oamarl.components.experience import EnvInfo
from oamarl.components.updates import parallel
from oamarl.learners.deterministic.steps import Steps, network_shares
from oamarl.utils.errors import UserError

from learner_tools import double, make_batch, make_info, make_learner, through_a_file, with_garbage

METHODS = ("maddpg", "maddpg_ns", "matd3")
SMALL: dict[str, Any] = {
    "batch_size": 4, "buffer_size": 20, "standardise_rewards": False, "warmup_steps": 0, "replay_steps": None,
    "q_nstep": None, "gamma": 0.5, "reg": 0.0,
}  # fmt: skip


def box_info(sizes: tuple[int, ...] = (2, 2), *, high: float = 1.0) -> EnvInfo:
    """Agents with as many numbers of an action between -1 and ``high``, observations of 3 numbers, states of 4."""
    n, bounds = len(sizes), tuple((-1.0,) * k for k in sizes)
    return EnvInfo(
        "box", n, 3, 4, max(sizes), 6, (3,) * n, sizes, action_low=bounds,
        action_high=tuple((high,) * k for k in sizes),
    )  # fmt: skip


def learner_of(algorithm: str, info: EnvInfo | None = None, **more: Any) -> Any:
    return make_learner(algorithm, info or box_info(), **{**SMALL, **more})


def box_batch(info: EnvInfo, lengths: tuple[int, ...] = (3, 2), *, terminated: bool = True, seed: int = 0) -> Batch:
    """Whole episodes of random numbers; the first one ends as told, others are truncated."""
    g = torch.Generator().manual_seed(seed)
    b, t, n, d = len(lengths), max(lengths), info.n_agents, info.n_actions
    filled = torch.arange(t) < torch.tensor(lengths).unsqueeze(1)
    own = torch.arange(d) < torch.tensor(info.action_sizes).unsqueeze(1)
    last = filled & ~torch.cat([filled[:, 1:], torch.zeros(b, 1, dtype=torch.bool)], 1)
    ends = last & (torch.arange(b).unsqueeze(1) == 0) & terminated

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    return Batch(
        obs=normal(b, t + 1, n, info.obs_size), state=normal(b, t + 1, info.state_size),
        avail=own.expand(b, t + 1, n, d).clone(), actions=torch.where(own, normal(b, t, n, d).clamp(-1, 1), 0.0),
        log_prob=torch.zeros(b, t, n), reward=normal(b, t, 1).expand(b, t, n).clone(), terminated=ends,
        truncated=last & ~ends, agent_terminated=ends.unsqueeze(-1).expand(b, t, n), filled=filled,
        alive=filled.unsqueeze(-1).expand(b, t, n), final_obs=torch.zeros(0, n, info.obs_size),
        final_state=torch.zeros(0, info.state_size), final_avail=torch.zeros(0, n, d, dtype=torch.bool),
        final_index=torch.zeros(0, 2, dtype=torch.int64),
    )  # fmt: skip


def reads(learner: Any, params: Tensor, column: int, gain: float = 1.0, plus: float = 0.0) -> None:
    """Make critics (rows of ``params``) return gain x + plus, where x > -9 is a column of what they read."""
    for row in params.data:
        row.zero_()
        w = learner.critics.network.layers(row)
        w["fc1.w"][column, 0] = w["fc2.w"][0, 0] = 1.0
        w["fc1.b"][0], w["head.w"][0, 0], w["head.b"][0] = 9.0, gain, plus - 9.0 * gain


def constant_actions(learner: Any, params: Tensor, outputs: list[float]) -> None:
    """Make policies put out the same numbers everywhere."""
    for row in params.data:
        w = learner.mac.network.layers(row)
        w["head.w"].zero_()
        w["head.b"].copy_(torch.tensor(outputs))


def steps_of(learner: Any, batch: Batch) -> Steps:
    c = learner.config
    return Steps.of(batch, learner.info, learner.critics.n_values, c.gamma, c.q_nstep or 1, first=c.replay_steps,
                    bootstrap_truncated=c.add_value_last_step, by_agent=not learner.common_reward)  # fmt: skip


def policy_loss(learner: Any, batch: Batch, steps: Steps) -> Tensor:
    share = steps.valid * network_shares(steps.valid, learner.mac.index)
    return learner.policy_loss(batch, steps, learner.policy, learner.policy_noise(steps), share)


def ones(batch: Batch) -> Tensor:
    return torch.ones(len(batch.filled))


# -- targets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(2,), (2, 2)], ids=["one agent", "two agents"])
@pytest.mark.parametrize(("n", "terminated", "expected"), [
    (None, True, [1 + 0.5 * 20, 2 + 0.5 * 30, 4]), (None, False, [1 + 0.5 * 20, 2 + 0.5 * 30, 4 + 0.5 * 40]),
    (2, True, [1 + 1 + 0.25 * 30, 2 + 2, 4]), (2, False, [1 + 1 + 0.25 * 30, 2 + 2 + 0.25 * 40, 4 + 0.5 * 40]),
    (5, True, [1 + 1 + 1, 4, 4]), (5, False, [3 + 0.125 * 40, 4 + 0.25 * 40, 4 + 0.5 * 40]),
])  # fmt: skip
def test_targets_by_hand(sizes: tuple[int, ...], n: int | None, terminated: bool, expected: list[float]) -> None:
    """Rewards 1, 2, 4; the target critics says 10, 20, 30, 40 at the four observations."""
    learner = learner_of("maddpg", box_info(sizes), q_nstep=n)
    reads(learner, learner.target_critic, 0)
    batch = box_batch(learner.info, (3,), terminated=terminated)
    state = torch.zeros_like(batch.state)
    state[0, :, 0] = torch.tensor([10.0, 20.0, 30.0, 40.0])
    reward = torch.tensor([1.0, 2.0, 4.0]).view(1, 3, 1).expand_as(batch.reward)
    batch = replace(batch, state=state, reward=reward)
    assert learner.targets(batch, steps_of(learner, batch))[:, 0].tolist() == pytest.approx(expected)


def test_a_limit_is_a_termination_where_that_is_asked_for() -> None:
    learner = learner_of("maddpg", add_value_last_step=False)
    reads(learner, learner.target_critic, 0, plus=100.0)
    batch = box_batch(learner.info, (1,), terminated=False)
    assert torch.equal(learner.targets(batch, steps_of(learner, batch)), batch.reward[0, :1, :1])


def test_an_agent_that_has_left_bootstraps_nothing_of_its_own() -> None:
    learner = learner_of("maddpg", common_reward=False)
    reads(learner, learner.target_critic, 0, gain=0.0, plus=8.0)
    batch = box_batch(learner.info, (2,), terminated=False)
    gone = torch.zeros_like(batch.agent_terminated)
    gone[0, :, 1] = True
    batch = replace(batch, agent_terminated=gone, reward=torch.ones_like(batch.reward))
    steps = steps_of(learner, batch)
    assert learner.targets(batch, steps).tolist() == [[5.0, 1.0], [5.0, 1.0]]
    assert steps.mask.tolist() == [[True, True], [True, False]]


def test_a_drawn_transition_knows_who_had_left_before() -> None:
    """Agent 0 only waits from step 2 of 5 on, and ends with the episode; agent 1 leaves at step 1."""
    learner = learner_of("maddpg", common_reward=False, batch_size=200, buffer_size=200, replay_steps=1)
    batch = box_batch(learner.info, (5,), terminated=True)
    alive, gone = batch.alive.clone(), torch.zeros_like(batch.agent_terminated)
    alive[0, 2:] = False
    gone[0, 4, 0] = gone[0, 1:, 1] = True
    batch = replace(batch, alive=alive, agent_terminated=gone)
    whole = steps_of(learner_of("maddpg", common_reward=False), batch).mask
    assert whole.T.tolist() == [[True] * 5, [True, True, False, False, False]]
    learner.replay.add(batch)
    drawn = learner.draw(0).batch
    rows = steps_of(learner, drawn)
    step = [batch.state[0, :, 0].tolist().index(x) for x in rows.now.state[:, 0].tolist()]
    assert set(step) == set(range(5))
    assert torch.equal(rows.mask, whole[step])


def test_the_lower_of_twin_critics_makes_the_targets() -> None:
    learner = learner_of("matd3", target_noise=0.0)
    reads(learner, learner.target_critic[:1], 0)
    reads(learner, learner.target_critic[1:], 1)
    batch = box_batch(learner.info, (1,), terminated=False)
    for a, b in ((3.0, 5.0), (7.0, 2.0)):
        state = batch.state.clone()
        state[0, 1, :2] = torch.tensor([a, b])
        found = learner.targets(replace(batch, state=state), steps_of(learner, replace(batch, state=state)))
        assert float(found) == pytest.approx(float(batch.reward[0, 0, 0]) + 0.5 * min(a, b))


def test_noise_on_the_actions_of_targets_is_clipped_and_so_are_they() -> None:
    """tanh(1) = 0.76 and noise of 0.5 at most: 0.26 or 1; without noise 0.76."""
    learner = learner_of("matd3", target_noise=100.0, target_noise_clip=0.5)
    outputs, avail = torch.ones(50, 2, 2), torch.ones(50, 2, 2, dtype=torch.bool)
    batch = box_batch(learner.info, (50,))
    noise = learner.target_noise(steps_of(learner, batch))
    found = learner.target_actions(outputs, avail, noise)
    clipped = torch.tensor([torch.ones(()).tanh() - 0.5, 1.0])
    assert bool(torch.isclose(found.unsqueeze(-1), clipped).any(-1).all())
    assert not bool(torch.isclose(found, found[0, 0, 0]).all())
    plain = learner_of("maddpg")
    assert plain.target_noise(steps_of(plain, batch)) is None
    assert torch.equal(plain.target_actions(outputs, avail), outputs.tanh())
    assert not bool(learner.target_actions(outputs, ~avail, noise).any()), "a dimension that an agent lacks"


def test_the_size_of_the_noise_on_the_actions_of_targets() -> None:
    learner = learner_of("matd3", target_noise=0.2, target_noise_clip=10.0)
    noise = learner.target_noise(steps_of(learner, box_batch(learner.info, (4000, 4000))))
    assert float(noise.std()) == pytest.approx(0.2, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("n", [1, 2])
def test_policies_read_the_action_before_each_moment(discrete: bool, n: int) -> None:
    """Of an episode of three steps; the n-step return of each ends at most at its end."""
    learner = learner_of("maddpg", make_info(2) if discrete else None, q_nstep=n, obs_last_action=True)
    batch = make_batch(learner.mac, lengths=(3,)) if discrete else box_batch(learner.info, (3,))
    if discrete:
        batch = replace(batch, actions=torch.tensor([[[0, 1], [2, 3], [1, 2]]]))
    steps, taken = steps_of(learner, batch), batch.actions[0]
    before = torch.cat([torch.full_like(taken[:1], -1 if discrete else math.nan), taken])
    torch.testing.assert_close(steps.now.last, before[:3], rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(steps.then.last, before[[min(k + n, 3) for k in range(3)]], rtol=0, atol=0)
    outputs = learner.outputs(batch, steps.then, learner.policy)
    other = replace(steps.then, last=steps.then.last.flip(1))
    assert not torch.equal(outputs, learner.outputs(batch, other, learner.policy)), "policies read what is in last"


def test_best_legal_actions_are_the_targets_of_discrete_ones() -> None:
    learner = learner_of("maddpg", make_info(2, n_actions=3))
    avail = torch.tensor([[[True, True, True], [True, False, True]]])
    assert learner.target_actions(torch.tensor([[[1.0, 5.0, 2.0]] * 2]), avail).tolist() == [[[0, 1, 0], [0, 0, 1]]]


@pytest.mark.parametrize("n", [1, 3])
def test_rows_have_the_targets_of_whole_episodes(n: int) -> None:
    """What is drawn with a step is enough for its n-step return; of it the first steps alone are learned from."""
    learner = learner_of("maddpg", q_nstep=n, replay_steps=2, batch_size=30)
    batch = box_batch(learner.info, (6, 4))
    steps = steps_of(learner_of("maddpg", q_nstep=n), batch)
    whole = {float(r): float(y) for r, y in zip(steps.now.state[:, 0], learner.targets(batch, steps), strict=True)}
    learner.replay.add(batch)
    drawn = learner.draw(0).batch
    assert drawn.actions.shape[1] == n + 1
    rows = steps_of(learner, drawn)
    assert len(rows.row) <= 60
    assert bool((rows.row.bincount() <= 2).all())
    for state, y in zip(rows.now.state[:, 0], learner.targets(drawn, rows), strict=True):
        assert float(y) == pytest.approx(whole[float(state)], rel=1e-5)


# -- gradients -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["maddpg", "matd3"])
def test_with_one_agent_it_is_ddpg_or_td3(algorithm: str) -> None:
    """Two updates, written down again for one agent in plain operations."""
    with double():
        learner = learner_of(algorithm, box_info((2,)), lr=0.01, critic_lr=0.02, target_update_interval_or_tau=0.1,
                             grad_norm_clip=1e6, reg=0.01, target_noise=0.0)  # fmt: skip
        twins, net, q_net = learner.critics.twins, learner.mac.network, learner.critics.network
        policy, critic = (x.detach().clone().requires_grad_() for x in (learner.policy, learner.critic))
        target_policy, target_critic = policy.detach().clone(), critic.detach().clone()
        batch = box_batch(learner.info, (4,), terminated=True)
        batch = Batch.of({k: x.double() if x.is_floating_point() else x for k, x in batch.named().items()})
        optimisers = [torch.optim.Adam([x], lr=lr, eps=1e-5) for x, lr in ((policy, 0.01), (critic, 0.02))]
        obs, state, actions = batch.obs[0, :, 0], batch.state[0], batch.actions[0, :, 0]
        one = torch.ones(4, 1)  # the agent's number

        def mu(params: Tensor, at: slice) -> Tensor:
            return net.single(params[0], torch.cat([obs[at], one], 1), twice=True)

        def q(params: Tensor, twin: int, at: slice, a: Tensor) -> Tensor:
            return q_net.single(params[twin], torch.cat([state[at], a], 1), twice=True)[:, 0]

        now, then = slice(0, 4), slice(1, 5)
        for update in (1, 2):
            with torch.no_grad():
                following = mu(target_policy, then).tanh()
                lowest = torch.stack([q(target_critic, c, then, following) for c in range(twins)]).amin(0)
                y = batch.reward[0, :, 0] + 0.5 * lowest * ~batch.terminated[0]
            loss = sum((q(critic, c, now, actions) - y).square().mean() for c in range(twins))
            optimisers[1].zero_grad()
            loss.backward()
            optimisers[1].step()
            if algorithm == "maddpg" or update == 2:
                outputs = mu(policy, now)
                loss = -q(critic, 0, now, outputs.tanh()).mean() + 0.01 * outputs.square().mean()
                optimisers[0].zero_grad()
                loss.backward()
                optimisers[0].step()
                target_policy, target_critic = (
                    a.lerp(b.detach(), 0.1) for a, b in ((target_policy, policy), (target_critic, critic))
                )
            learner.update(batch, ones(batch).double())
            learner.updates += 1
            learner._move_copies()
            pairs = [(learner.policy, policy), (learner.critic, critic), (learner.target_policy, target_policy),
                     (learner.target_critic, target_critic)]  # fmt: skip
            for found, expected in pairs:
                torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_an_agent_follows_its_own_actions_value_alone() -> None:
    """The critic reads the second agent's first number: its policy's output rises by (1 - tanh^2) / S a step."""
    learner = learner_of("maddpg_ns", critic_sharing="shared")
    reads(learner, learner.critic, 4 + 2)
    constant_actions(learner, learner.policy, [0.5, 0.25])
    batch = box_batch(learner.info, (3, 2))
    steps = steps_of(learner, batch)
    loss = policy_loss(learner, batch, steps)
    (found,) = torch.autograd.grad(loss, learner.policy)
    w = learner.mac.network.layers(found)
    expected = [[0.0, 0.0], [-(1 - float(torch.tensor(0.5).tanh()) ** 2), 0.0]]
    assert w["head.b"].tolist() == [pytest.approx(row, abs=1e-6) for row in expected]


@pytest.mark.parametrize("discrete", [False, True])
def test_the_others_do_what_the_replay_has(discrete: bool) -> None:
    """Lowe et al. 2017, eq. 6: agent i's gradient is that of Q(s, mu_i(o_i), the others' actions of the replay)."""
    with double():
        info = make_info(2) if discrete else box_info()
        learner = learner_of("maddpg_ns", info, critic_sharing="shared")
        batch = make_batch(learner.mac, lengths=(4, 2)) if discrete else box_batch(info)
        batch = Batch.of({k: x.double() if x.is_floating_point() else x for k, x in batch.named().items()})
        steps = steps_of(learner, batch)
        learner.generator.manual_seed(5)
        found = [torch.autograd.grad(policy_loss(learner, batch, steps), learner.policy)[0]]
        learner.generator.manual_seed(5)
        noise = learner.policy_noise(steps)
        own = learner.actions(learner.outputs(batch, steps.now, learner.policy), steps.now.avail, noise)
        replayed = learner.taken(steps.actions, steps.now.avail).to(own.dtype)
        seen, value = learner.critics.seen(steps.now.obs, steps.now.state), torch.zeros(())
        for i in range(2):
            joint = torch.stack([own[:, k] if k == i else replayed[:, k] for k in range(2)], 1)
            value = value + learner.critics(learner.critic.detach(), seen, joint)[:, 0][steps.valid[:, i]].mean()
        found.append(torch.autograd.grad(-value, learner.policy)[0])
        assert float(found[0].abs().sum()) > 0
        torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("sharing", ["shared", "separate", [0, 0, 1]])
def test_one_value_of_all_actions_has_each_agents_own_gradient(sharing: Any, discrete: bool) -> None:
    """With the others' present actions one evaluation serves all agents: the same as one for each."""
    with double():
        info = make_info(3, ragged=True) if discrete else box_info((2, 1, 2))
        learner = learner_of(
            "maddpg", info, sharing=sharing, critic_sharing="shared", other_actions="policies", reg=0.1
        )
        batch = make_batch(learner.mac, lengths=(4, 2)) if discrete else box_batch(info)
        batch = Batch.of({k: x.double() if x.is_floating_point() else x for k, x in batch.named().items()})
        steps, found = steps_of(learner, batch), []
        for values in (1, 3):
            learner.generator.manual_seed(5)
            learner.critics.n_values = values
            loss = policy_loss(learner, batch, steps)
            found.append([loss.detach(), *torch.autograd.grad(loss, learner.policy)])
        assert float(found[0][1].abs().sum()) > 0
        torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("more", "v", "k"), [
    ({}, 1, 1), ({"common_reward": False}, 3, 1), ({"critic_sharing": "separate"}, 3, 3),
    ({"sharing": [0, 0, 1]}, 3, 2), ({"critic_type": "ac_critic", "sharing": "separate"}, 3, 3),
    ({"critic_type": "ac_critic"}, 3, 1), ({"obs_individual_obs": True}, 1, 1),
])  # fmt: skip
@pytest.mark.parametrize("algorithm", ["maddpg", "matd3"])
def test_values_are_those_of_whole_rows(algorithm: str, more: dict[str, Any], v: int, k: int) -> None:
    """With and without a gradient of the actions, by one network on rows put together."""
    learner = learner_of(algorithm, box_info((2, 1, 2)), **more)
    batch = box_batch(learner.info)
    steps, critics = steps_of(learner, batch), learner.critics
    actions, seen = learner.taken(steps.actions, steps.now.avail), critics.seen(steps.now.obs, steps.now.state)
    assert (critics.n_values, critics.n_networks) == (v, k)
    for twin in range(critics.twins):
        found = critics(learner.critic, seen, actions, twin)
        again = critics(learner.critic, seen, actions.clone().requires_grad_(), twin)
        torch.testing.assert_close(found, again.detach(), rtol=1e-5, atol=1e-6)
        for i in range(v):
            joint = actions[:, i] if critics.own else actions.flatten(1)
            parts = [seen[:, i] if critics.own else seen, joint]
            if critics.ids:
                parts.append(torch.eye(v)[i].expand(len(actions), v))
            params = learner.critic[twin * k + critics.index[i]]
            row = critics.network.single(params, torch.cat(parts, 1), twice=True)[:, 0]
            torch.testing.assert_close(found[:, i], row, rtol=1e-5, atol=1e-6)
    others = torch.zeros_like(actions)
    own = critics.of_agents(learner.critic, seen, actions.requires_grad_(), others)
    for i in range(3):
        joint = others.clone()
        joint[:, i] = actions.detach()[:, i]
        expected = critics(learner.critic, seen, joint)[:, min(i, v - 1)]
        torch.testing.assert_close(own[:, i].detach(), expected, rtol=1e-5, atol=1e-6)


# -- masks and padding ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use_rnn", [False, True])
@pytest.mark.parametrize("algorithm", METHODS)
def test_padding_is_never_read(algorithm: str, use_rnn: bool) -> None:
    found = []
    for spoilt in (False, True):
        learner = learner_of(algorithm, make_info(3, ragged=True), use_rnn=use_rnn, policy_delay=1)
        batch = make_batch(learner.mac, dead=False)
        batch = with_garbage(batch, learner.mac) if spoilt else batch
        learner.update(batch, ones(batch))
        found.append([learner.policy.detach().clone(), learner.critic.detach().clone()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-7)


def test_dimensions_that_an_agent_lacks_are_never_read() -> None:
    """Whatever stands there in the replay, and whatever its network puts out there."""
    info, found = box_info((2, 1), high=3.0), []
    for spoilt in (0.0, 50.0):
        learner = learner_of("maddpg_ns", info, reg=0.1)
        batch = box_batch(info)
        batch.actions[:, :, 1, 1] = spoilt
        learner.mac.network.layers(learner.policy.data[1])["head.b"][1] = spoilt
        steps = steps_of(learner, batch)
        taken = learner.taken(steps.actions, steps.now.avail)
        assert not bool(taken[:, 1, 1].any())
        (gradient,) = torch.autograd.grad(policy_loss(learner, batch, steps), learner.policy)
        assert float(learner.mac.network.layers(gradient[1])["head.b"][1]) == 0
        found.append([learner.targets(batch, steps), taken, gradient])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


def test_critics_read_actions_between_minus_one_and_one() -> None:
    learner = learner_of("maddpg", box_info((2, 1), high=3.0))
    avail = torch.tensor([[[True, True], [True, False]]])
    given = torch.tensor([[[-1.0, 3.0], [2.0, 0.0]]])
    assert learner.taken(given, avail).tolist() == [[[-1.0, 1.0], [0.5, 0.0]]]


# -- updates -------------------------------------------------------------------------------------------------------


def test_policies_and_slow_copies_wait_for_the_delay() -> None:
    learner = learner_of("matd3", policy_delay=3, updates_per_step=None)
    kept = {name: x.clone() for name, x in vars(learner).items() if isinstance(x, Tensor)}
    moved = []
    for n in range(6):
        learner.train(box_batch(learner.info, (3, 3, 3, 3), seed=n), 0)
        moved.append([not torch.equal(getattr(learner, x), kept[x]) for x in ("policy", "critic", "target_critic")])
        kept |= {x: getattr(learner, x).detach().clone() for x in ("policy", "critic", "target_critic")}
    assert moved == [[False, True, False]] * 2 + [[True] * 3] + [[False, True, False]] * 2 + [[True] * 3]


def test_copies_by_episodes_are_those_of_every_so_many_episodes() -> None:
    """EPyMARL's count: four episodes come with each update."""
    learner = learner_of("maddpg", target_update_interval_or_tau=6, target_interval_unit="episodes",
                         updates_per_step=None)  # fmt: skip
    copied = []
    for n in range(6):
        learner.train(box_batch(learner.info, (3, 3, 3, 3), seed=n), 0)
        copied.append(torch.equal(learner.target_critic, learner.critic))
    assert copied == [False, True, False, True, False, True]


def test_copies_by_episodes_continue_in_a_run_that_has_lost_its_replay() -> None:
    learner, fresh = (
        learner_of("maddpg", target_update_interval_or_tau=6, target_interval_unit="episodes", updates_per_step=None)
        for _ in range(2)
    )
    for n in range(6):
        learner.train(box_batch(learner.info, (3, 3, 3, 3), seed=n), 0)
    fresh.load_state_dict(learner.state_dict())
    copied = []
    for n in range(4):
        fresh.train(box_batch(fresh.info, (3, 3, 3, 3), seed=n), 0)
        copied.append(torch.equal(fresh.target_critic, fresh.critic))
    assert copied == [True, False, True, False]


def test_no_update_before_the_warm_up_is_over() -> None:
    learner = learner_of("maddpg", warmup_steps=30, updates_per_step=0.5)
    updates = []
    for n in range(4):
        learner.train(box_batch(learner.info, (5, 5), seed=n), 10 * (n + 1))
        updates.append(learner.updates)
    assert updates == [0, 0, 5, 10]


def test_returns_on_a_running_scale() -> None:
    """Values 0 and 1 of normalised returns are the mean and a deviation more of what was seen so far."""
    learner = learner_of("maddpg", standardise_returns=True)
    reads(learner, learner.target_critic, 0)
    stats = learner.return_stats
    stats.update(torch.tensor([8.0, 12.0]))
    batch = box_batch(learner.info, (2,), terminated=False)
    state = torch.zeros_like(batch.state)
    state[0, 2, 0] = 1.0
    batch = replace(batch, state=state, reward=torch.zeros_like(batch.reward))
    y = learner.targets(batch, steps_of(learner, batch))
    torch.testing.assert_close(stats.denormalise(y)[:, 0], torch.tensor([0.5 * 10.0, 0.5 * 12.0]), rtol=1e-5, atol=1e-5)
    assert float(stats.count) == 4


def test_each_network_minimises_the_mean_of_its_own_entries() -> None:
    """Three value functions of two networks, with 2, 1 and 3 entries: shares of 3 entries and of 3."""
    mask = torch.tensor([[True, True, True], [True, False, True], [False, False, True]])
    assert network_shares(mask, [0, 0, 1]).tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    assert network_shares(mask, [0, 1, 2]).tolist() == pytest.approx([1 / 2, 1, 1 / 3])
    assert network_shares(torch.zeros(2, 1, dtype=torch.bool), [0]).tolist() == [1.0]


@pytest.mark.parametrize("algorithm", ["maddpg", "matd3"])
def test_large_draws_in_two_parts_are_the_whole(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread or two give the same numbers to the bit; one part the same up to rounding."""
    found = []
    for threads, rows in ((1, 1), (2, 1), (1, 10_000)):
        monkeypatch.setattr(parallel, "_ROWS", rows)
        before = torch.get_num_threads()
        parallel.use_threads(threads)
        try:
            learner = learner_of(algorithm, box_info((2, 1, 2)), policy_delay=1)
            batch = box_batch(learner.info, (6, 5, 3))
            scalars, priorities = learner.update(batch, ones(batch))
        finally:
            parallel.use_threads(1)
            torch.set_num_threads(before)
        found.append(
            [learner.policy.detach(), learner.critic.detach(), priorities, torch.tensor(list(scalars.values()))]
        )
    for one, two, whole in zip(*found, strict=True):
        assert torch.equal(one, two)
        torch.testing.assert_close(one, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("algorithm", METHODS)
def test_a_state_goes_through_a_file(algorithm: str) -> None:
    def after(learner: Any, seeds: range) -> None:
        for n in seeds:
            learner.train(box_batch(learner.info, (3, 3, 3, 3), seed=n), 0)

    more = {"updates_per_step": None, "standardise_rewards": True, "standardise_returns": True}
    left, right = (learner_of(algorithm, **more) for _ in range(2))
    after(left, range(5))
    right.replay = copy.deepcopy(left.replay)
    right.mac.load_state_dict(through_a_file(left.mac.state_dict()))
    right.load_state_dict(through_a_file(left.state_dict()))
    for learner in (left, right):
        after(learner, range(5, 8))
    for name in ("policy", "critic", "target_policy", "target_critic"):
        assert torch.equal(getattr(left, name), getattr(right, name)), name
    torch.testing.assert_close(through_a_file(left.state_dict()), through_a_file(right.state_dict()), rtol=0, atol=0)


def test_weights_of_another_run_begin_a_new_one() -> None:
    left, right, other = learner_of("maddpg", seed=1), learner_of("maddpg", seed=2), learner_of("maddpg", hidden_dim=16)
    right.mac.load_state_dict(left.mac.state_dict())
    assert right.load_weights(left.state_dict()) == []
    assert torch.equal(right.critic, left.critic)
    assert torch.equal(right.target_critic, left.critic)
    assert torch.equal(right.target_policy, left.policy)
    assert right.load_weights(other.state_dict()) == ["critic"]


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("more", "part"), [
    ({"action_selector": None}, "use action_selector=noisy"), ({"action_selector": "gaussian"}, "no deviations"),
    ({"use_rnn": True, "replay_steps": 1}, "needs whole episodes"), ({"mac": "reuse_mac"}, "use mac=basic_mac"),
    ({"critic_type": "ac_critic", "obs_individual_obs": True}, "use cv_critic"),
    ({"critic_sharing": "policies", "sharing": [0, 0, 1]}, "names 3 networks"),
    ({"runner": "rollout", "rollout_length": 4, "q_nstep": 5, "replay_steps": 1}, "use q_nstep=4, rollout_length=5 or"),
])  # fmt: skip
def test_what_cannot_be_is_one_sentence(more: dict[str, Any], part: str) -> None:
    with pytest.raises(UserError, match=part):
        learner_of("maddpg", **more)


@pytest.mark.parametrize("algorithm", ["mappo", "hatrpo", "iql"])
def test_noisy_actions_are_for_these_methods_alone(algorithm: str) -> None:
    with pytest.raises(UserError, match="action_selector=noisy"):
        make_learner(algorithm, make_info(2), action_selector="noisy")
