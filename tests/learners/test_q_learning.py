"""Q-learning: every target by hand, the mixers, QTRAN's losses, and what each method can and cannot represent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from oamarl.components.batch import Batch
from oamarl.components.normalisation import RunningMeanStd
from oamarl.components.returns import gae, lambda_returns, nstep
from oamarl.components.updates import parallel
from oamarl.envs.base import EnvInfo
from oamarl.modules.action_selectors import EpsilonConfig, EpsilonGreedy
from oamarl.modules.selector_contract import Context
from oamarl.utils.errors import UserError

from learner_tools import double, make_batch, make_info, make_learner, permuted, through_a_file, with_garbage

Q_METHODS = ("iql", "vdn", "qmix", "qtran", "seql")
EPSILON = EpsilonConfig(1.0, 0.05, 100, 0.0)


def learner_of(algorithm: str, info: EnvInfo | None = None, **more: Any) -> Any:
    small = {"buffer_size": 20, "batch_size": 4, "standardise_rewards": False, "target_update_interval_or_tau": 5}
    return make_learner(algorithm, info or make_info(2, n_actions=3), **{**small, **more})


def two_steps(learner: Any, *, terminated: bool = True, reward: tuple[float, float] = (1.0, 2.0)) -> Batch:
    """One episode of two steps, both actions 0, all actions legal; observations are 0."""
    batch = make_batch(learner.mac, lengths=[2], dead=False)
    ones = torch.ones_like
    return replace(
        batch, obs=torch.zeros_like(batch.obs), state=torch.zeros_like(batch.state), avail=ones(batch.avail),
        actions=torch.zeros_like(batch.actions), reward=torch.tensor(reward).view(1, 2, 1).expand(1, 2, 2).clone(),
        terminated=torch.tensor([[False, terminated]]), truncated=torch.tensor([[False, not terminated]]),
    )  # fmt: skip


def constant(learner: Any, values: list[float], slow: list[float]) -> None:
    """Make all networks' action values ``values``, and those of their target networks ``slow``, whatever is seen."""
    network = learner.mac.network
    for params, numbers in ((network.params.data, values), (learner.target_params[0], slow)):
        for row in params:
            layers = network.layers(row)
            layers["head.w"].zero_()
            layers["head.b"].copy_(torch.tensor(numbers, dtype=row.dtype))


# -- targets --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("double_q", "value"), [(True, 3.0), (False, 7.0)])
@pytest.mark.parametrize("terminated", [True, False])
def test_targets_of_two_steps_by_hand(double_q: bool, value: float, terminated: bool) -> None:
    """The network's best action is 1, which its copy values at 3; the copy's own best is worth 7."""
    learner = learner_of("iql", double_q=double_q, td_lambda=None, gamma=0.5)
    constant(learner, [0.0, 5.0, 1.0], [7.0, 3.0, 2.0])
    batch = two_steps(learner, terminated=terminated)
    q = learner.mac.all_outputs(batch)
    y = learner.targets(batch, q)
    last = 2.0 + (0.0 if terminated else 0.5 * value)
    assert y[0, :, 0].tolist() == pytest.approx([1.0 + 0.5 * value, last])
    assert torch.equal(y[..., 0], y[..., 1])


def test_an_illegal_action_is_no_bootstrap() -> None:
    learner = learner_of("iql", td_lambda=None, gamma=0.5)
    constant(learner, [0.0, 5.0, 1.0], [7.0, 3.0, 2.0])
    batch = two_steps(learner)
    avail = batch.avail.clone()
    avail[0, 1, 0, 1] = False
    y = learner.targets(replace(batch, avail=avail), learner.mac.all_outputs(batch))
    assert y[0, 0].tolist() == pytest.approx([1.0 + 0.5 * 2.0, 1.0 + 0.5 * 3.0]), "agent 0 may only take 0 or 2"


@pytest.mark.parametrize(
    ("more", "first"),
    [
        ({"q_nstep": 2, "td_lambda": None}, 1.0 + 0.5 * 2.0 + 0.25 * 3.0),
        ({"td_lambda": 0.0}, 1.0 + 0.5 * 3.0),
        ({"td_lambda": 1.0}, 1.0 + 0.5 * 2.0 + 0.25 * 3.0),
        ({"td_lambda": 0.6}, 1.0 + 0.5 * (0.4 * 3.0 + 0.6 * (2.0 + 0.5 * 3.0))),
        ({"td_lambda": 1.0, "add_value_last_step": False}, 1.0 + 0.5 * 2.0),
    ],
)
def test_targets_of_several_steps_by_hand(more: dict[str, Any], first: float) -> None:
    """A truncated episode bootstraps from its last observation."""
    learner = learner_of("iql", gamma=0.5, **more)
    constant(learner, [0.0, 5.0, 1.0], [7.0, 3.0, 2.0])
    batch = two_steps(learner, terminated=False)
    y = learner.targets(batch, learner.mac.all_outputs(batch))
    assert float(y[0, 0, 0]) == pytest.approx(first)


def test_lambda_returns_meet_one_step_and_full_returns() -> None:
    g = torch.Generator().manual_seed(0)
    reward, value = torch.randn(3, 7, generator=g, dtype=torch.float64), torch.randn(3, 8, generator=g).double()
    terminated, truncated = torch.rand(3, 7, generator=g) < 0.2, torch.rand(3, 7, generator=g) < 0.2
    ended, following = terminated | truncated, value[:, 1:]
    filled = torch.ones_like(ended)
    one = reward + 0.9 * following * ~terminated
    assert torch.allclose(lambda_returns(reward, following, terminated, ended, 0.9, 0.0), one)
    whole = nstep(reward, following, terminated, ended, filled, 0.9, 7)
    assert torch.allclose(lambda_returns(reward, following, terminated, ended, 0.9, 1.0), whole)
    # where v is the value that advantages are of, they are GAE's
    expected = gae(reward, value[:, :-1], following, terminated, ended, 0.9, 0.7)[1]
    assert torch.allclose(lambda_returns(reward, following, terminated, ended, 0.9, 0.7), expected)


def test_an_agent_that_has_left_bootstraps_nothing_of_its_own() -> None:
    learner = learner_of("iql", td_lambda=None, gamma=0.5, common_reward=False)
    constant(learner, [0.0, 5.0, 1.0], [7.0, 3.0, 2.0])
    batch = two_steps(learner)
    gone = torch.zeros_like(batch.agent_terminated)
    gone[0, :, 1] = True
    batch = replace(batch, agent_terminated=gone)
    y, mask = learner.targets(batch, learner.mac.all_outputs(batch)), learner.mask(batch)
    assert y[0, 0].tolist() == pytest.approx([1.0 + 0.5 * 3.0, 1.0])
    assert mask[0].tolist() == [[True, True], [True, False]]


@pytest.mark.parametrize("algorithm", ["iql", "pqn"])
def test_which_steps_an_agent_with_a_reward_of_its_own_learns_from(algorithm: str) -> None:
    """Agent 0 waits at the second step and returns; agent 1 has left before the row begins."""
    learner = make_learner(algorithm, make_info(2, n_actions=3), common_reward=False)
    batch = make_batch(learner.mac, lengths=[3], dead=False, common_reward=False)
    alive, gone = batch.alive.clone(), torch.zeros_like(batch.agent_terminated)
    alive[0, 1, 0] = alive[0, :, 1] = False
    gone[0, :, 1] = True
    batch = replace(batch, alive=alive, agent_terminated=gone)
    mask = learner.mask(batch)[0] if algorithm == "iql" else learner.begin_iteration(batch).mask
    assert mask.tolist() == [[True, False]] * 3


def test_shared_experience_of_an_environment_with_extra_fields() -> None:
    learner = learner_of("seql", updates_per_step=0.2)
    batch = make_batch(learner.mac, lengths=[6, 5], dead=False, common_reward=False)
    learner.train(replace(batch, extra={"clock": torch.zeros(2, 6, 1)}), 0)
    assert learner.updates > 0


def test_returns_on_a_running_scale() -> None:
    """The network's outputs are (Q - mean) / deviation of the targets so far."""
    learner = learner_of("iql", td_lambda=None, gamma=0.5, standardise_returns=True)
    constant(learner, [0.0, 5.0, 1.0], [7.0, 3.0, 2.0])
    learner.return_stats.update(torch.tensor([8.0, 12.0]))  # mean 10, deviation 2
    batch = two_steps(learner)
    y = learner.targets(batch, learner.mac.all_outputs(batch))
    raw = [1.0 + 0.5 * (10.0 + 2.0 * 3.0), 2.0]
    stats = RunningMeanStd()
    stats.update(torch.tensor([8.0, 12.0]))
    stats.update(torch.tensor([raw[0], raw[0], raw[1], raw[1]]))
    assert y[0, :, 0].tolist() == pytest.approx([float(stats.normalise(torch.tensor(r))) for r in raw])


def test_rewards_as_a_change_of_unit_keep_the_optimum() -> None:
    """-1 a step: with the mean subtracted all rewards are 0; by the root mean square they stay -1."""
    batch_of = {
        mean: learner_of("iql", standardise_rewards=True, standardise_rewards_mean=mean) for mean in (True, False)
    }
    for mean, learner in batch_of.items():
        batch = two_steps(learner, reward=(-3.0, -3.0))
        learner.train(batch, 0)
        assert torch.allclose(learner.prepared(batch).reward, torch.full((1, 2, 2), 0.0 if mean else -1.0)), mean


# -- losses -----------------------------------------------------------------------------------------------------


def test_the_loss_and_priorities_by_hand() -> None:
    """Two rows of 2 and 1 steps; the loss is the mean over real steps and agents, weighted by row."""
    with double():
        learner = learner_of("iql", td_lambda=None, gamma=0.0)
        constant(learner, [1.0, 0.0, 0.0], [0.0, 0.0, 0.0])
        batch = make_batch(learner.mac, lengths=[2, 1], dead=False)
        batch = replace(
            batch, actions=torch.zeros_like(batch.actions), avail=torch.ones_like(batch.avail),
            reward=torch.tensor([[3.0, 1.0], [0.0, 9.0]]).double().unsqueeze(-1).expand(2, 2, 2).clone(),
        )  # fmt: skip
        scalars, priority = learner.update(batch, torch.tensor([1.0, 0.5]))
    # delta: 1 - 3, 1 - 1 and 1 - 0; the last step of the second row is padding
    assert scalars["loss"] == pytest.approx(2 * (4.0 + 0.0 + 0.5 * 1.0) / 6)
    assert priority.tolist() == pytest.approx([1.0, 1.0])
    assert scalars["td_error_abs"] == pytest.approx((2 + 0 + 1) / 3)
    assert scalars["q_taken_mean"] == pytest.approx(1.0)
    assert scalars["target_mean"] == pytest.approx(4.0 / 3)


def test_vdn_is_the_sum_and_its_gradient_reaches_every_agent() -> None:
    with double():
        info = make_info(3, n_actions=3)
        vdn = learner_of("vdn", info, td_lambda=None, sharing="separate", obs_agent_id=False)
        batch = make_batch(vdn.mac, lengths=[3, 2], dead=False)
        q = vdn.mac.all_outputs(batch)
        taken = q[:, :-1].gather(-1, batch.actions.unsqueeze(-1)).squeeze(-1)
        total = vdn.team(vdn.learned, q[:, :-1], q, batch.actions, batch.state[:, :-1])
        assert torch.allclose(total, taken.sum(-1, keepdim=True))
        y = vdn.targets(batch, q.detach())
        following = vdn.mac.all_outputs(batch).masked_fill(~batch.avail, -torch.inf).max(-1).values[:, 1:].sum(-1)
        over = batch.terminated
        assert torch.allclose(
            y[..., 0][batch.filled], (batch.reward[..., 0] + 0.99 * torch.where(over, 0.0, following))[batch.filled]
        )
        scalars, _ = vdn.update(batch, torch.ones(2))
    assert (vdn.mac.network.params.grad.abs().amax(1) > 0).all()
    assert scalars["loss"] > 0


def test_qmix_by_hand_and_monotonic() -> None:
    """Of a linear hypernetwork whose weights are -2 and biases 0 at every state but the last layer's."""
    with double():
        learner = learner_of("qmix", mixing_embed_dim=1, hypernet_layers=1)
        shapes = dict(learner.mixer.shapes)
        values = {"w1.bias": [-2.0, 0.5], "w2.bias": [-3.0], "b1.bias": [1.0], "value.2.bias": [0.25]}
        flat = torch.cat(
            [torch.tensor(values.get(name, [0.0] * int(np.prod(s)))).double() for name, s in shapes.items()]
        )
        total = learner.mixer(flat.unsqueeze(0), torch.tensor([[1.0, 2.0]]).double(), torch.zeros(1, 4).double())
        assert float(total) == pytest.approx(3.0 * (2.0 * 1.0 + 0.5 * 2.0 + 1.0) + 0.25)
        negative = learner.mixer(flat.unsqueeze(0), torch.tensor([[-2.0, 0.0]]).double(), torch.zeros(1, 4).double())
        assert float(negative) == pytest.approx(3.0 * (np.exp(-3.0) - 1.0) + 0.25), "ELU below 0"


def test_qmix_reads_the_states_of_real_steps_alone() -> None:
    """Padding that is no number reaches neither values nor gradients, and they are those of a draw without padding."""
    learner = learner_of("qmix", make_info(2, n_actions=3), td_lambda=0.6)
    batch = make_batch(learner.mac, lengths=[3, 1, 2], dead=False)
    state = batch.state.clone()
    state[1, 2:], state[2, 3:] = torch.nan, torch.nan
    found = []
    for given in (batch, replace(batch, state=state)):
        fresh = learner_of("qmix", make_info(2, n_actions=3), td_lambda=0.6)
        fresh.update(given, torch.ones(3))
        found.append(torch.cat([x.grad.flatten() for x in fresh.learned]))
    assert found[1].isfinite().all()
    assert torch.equal(*found)
    q = learner.mac.all_outputs(batch)[:, :-1]
    given = (learner.learned, q, q, batch.actions, batch.state[:, :-1])
    everywhere, real = learner.team(*given), learner.team(*given, batch.filled)
    torch.testing.assert_close(real[batch.filled], everywhere[batch.filled])
    assert not real[~batch.filled].any()


@pytest.mark.parametrize("layers", [1, 2])
def test_qmix_never_falls_as_an_agents_value_rises(layers: int) -> None:
    learner = learner_of("qmix", make_info(4, n_actions=3), hypernet_layers=layers)
    g = torch.Generator().manual_seed(1)
    qs = (5 * torch.randn(2000, 4, generator=g)).requires_grad_()
    total = learner.mixer(learner.mixer.params, qs, 5 * torch.randn(2000, 4, generator=g))
    (gradient,) = torch.autograd.grad(total.sum(), qs)
    assert (gradient >= 0).all()
    assert (gradient > 0).float().mean() > 0.5


def test_qtran_has_three_losses() -> None:
    """Q_jt, V_jt and the agents' values are constants, so that each loss is one number."""
    with double():
        learner = learner_of("qtran", td_lambda=None, gamma=0.5, opt_loss=2.0, nopt_min_loss=3.0)
        constant(learner, [1.0, 4.0, 0.0], [0.0, 0.0, 0.0])
        for params, joint, v in ((learner.mixer.params.data, 6.0, 0.5), (learner.target_params[1], 20.0, -9.0)):
            params.zero_()
            flat, start = params[0], 0
            for name, shape in learner.mixer.shapes.items():
                size = int(np.prod(shape))
                if name in ("q.4.bias", "v.4.bias"):
                    flat[start] = joint if name[0] == "q" else v
                start += size
        batch = two_steps(learner)
        batch = replace(batch, reward=batch.reward.double(), obs=batch.obs.double(), state=batch.state.double())
        scalars, priority = learner.update(batch, torch.ones(1).double())
    # y = 1 + 0.5 * 20 and 2; the best actions are worth 4 + 4, those taken 1 + 1
    td, opt, nopt = ((6 - 11) ** 2 + (6 - 2) ** 2) / 2, (8 - 6 + 0.5) ** 2, (2 - 6 + 0.5) ** 2
    assert scalars["loss_opt"] == pytest.approx(2.0 * opt)
    assert scalars["loss_nopt"] == pytest.approx(3.0 * nopt)
    assert scalars["loss"] == pytest.approx(td + 2.0 * opt + 3.0 * nopt)
    assert float(priority) == pytest.approx((5 + 4) / 2)


def test_qtrans_sum_above_the_joint_value_costs_nothing() -> None:
    with double():
        learner = learner_of("qtran", td_lambda=None)
        constant(learner, [9.0, 9.5, 0.0], [0.0, 0.0, 0.0])
        learner.mixer.params.data.zero_()
        batch = two_steps(learner)
        batch = replace(batch, reward=batch.reward.double(), obs=batch.obs.double(), state=batch.state.double())
        assert learner.update(batch, torch.ones(1).double())[0]["loss_nopt"] == 0.0


@pytest.mark.parametrize("algorithm", ["iql", "vdn", "qmix", "qtran"])
def test_recurrent_updates_in_two_parts_are_those_in_one(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts' gradients add up to that of the whole, whichever thread works them out."""
    found = []
    for threads, parts in ((1, 1), (1, 2), (2, 2)):
        parallel.use_threads(threads)
        learner = learner_of(algorithm, use_rnn=True, td_lambda=0.5)
        batch = make_batch(learner.mac, lengths=[3, 1, 2, 3] * 16, dead=False)
        whole = [slice(0, 64)]
        assert learner._cuts(batch) == [slice(0, 32), slice(32, 64)]
        assert learner._cuts(batch.part(slice(0, 63))) == [slice(0, 63)]
        if parts == 1:
            monkeypatch.setattr(learner, "_cuts", lambda batch, whole=whole: whole)
        scalars, priority = learner.update(batch, torch.linspace(0.2, 1.0, 64))
        found.append((torch.cat([x.grad.flatten() for x in learner.learned if x.numel()]), priority, scalars))
    parallel.use_threads(1)
    (one, first, alone), *two = found
    assert all(torch.equal(two[0][k], two[1][k]) for k in (0, 1))
    assert two[0][2] == two[1][2]
    torch.testing.assert_close(two[0][0], one, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(two[0][1], first)
    assert two[0][2] == pytest.approx(alone, rel=1e-5)


def test_a_running_scale_of_returns_is_of_the_whole_draw() -> None:
    learner = learner_of("iql", use_rnn=True, standardise_returns=True)
    assert learner._cuts(make_batch(learner.mac, lengths=[3] * 64, dead=False)) == [slice(0, 64)]


# -- equivalences -----------------------------------------------------------------------------------------------


def trained(learner: Any, batches: list[Batch]) -> Tensor:
    for batch in batches:
        learner.train(batch, 0)
    return torch.cat([x.detach().flatten() for x in learner.learned])


def batches_of(learner: Any, n: int = 6, **more: Any) -> list[Batch]:
    return [make_batch(learner.mac, seed=k, **more) for k in range(n)]


def test_of_one_agent_vdn_is_iql() -> None:
    info = make_info(1, n_actions=3)
    one, other = (learner_of(a, info, updates_per_step=0.2, lr=0.001) for a in ("iql", "vdn"))
    batches = batches_of(one, dead=False)
    assert torch.equal(trained(one, batches), trained(other, batches))
    assert one.updates > 3


@pytest.mark.parametrize("algorithm", Q_METHODS)
@pytest.mark.parametrize("use_rnn", [False, True])
def test_what_may_not_be_read_changes_nothing(algorithm: str, use_rnn: bool) -> None:
    """Padding."""
    steps = {"replay_steps": None} if use_rnn else {}
    results = []
    for garbage in (False, True):
        learner = learner_of(algorithm, use_rnn=use_rnn, updates_per_step=0.2, **steps)
        batches = batches_of(learner, dead=False)
        if garbage:
            batches = [with_garbage(batch, learner.mac, k) for k, batch in enumerate(batches)]
        results.append(trained(learner, batches))
    assert torch.isfinite(results[0]).all()
    assert torch.allclose(*results, atol=1e-6)


def test_seql_is_iql_on_every_agents_rows() -> None:
    """An update on a draw of SEQL is one of separate networks on batches that hold all its rows for each of them."""
    info = make_info(2, n_actions=3)
    learner = learner_of("seql", info, updates_per_step=0.2, batch_size=6)
    batch = make_batch(learner.mac, lengths=[6, 5, 4], dead=False, common_reward=False)
    learner.replay.add(batch)
    drawn = learner.draw(0)
    rows = drawn.batch
    assert rows.actions.shape[:2] == (6, 1)
    for name in ("obs", "actions", "reward", "avail", "alive"):
        x = getattr(rows, name)
        assert torch.equal(x[:, :, 0], x[:, :, 1]), name
    mine = [tuple(o.tolist()) for o in rows.obs[:, 0, 0]]
    of_agent = [{tuple(o.tolist()) for o in batch.obs[:, :, i].flatten(0, 1)} for i in range(2)]
    assert [[o in of for of in of_agent] for o in mine] == [[True, False]] * 3 + [[False, True]] * 3


def test_shares_of_a_prioritised_draw_are_of_the_whole_replay() -> None:
    """Each agent's share has early and late steps: the replay's order says nothing of whose experience is taken."""
    info = make_info(2, n_actions=3)
    learner = learner_of("seql", info, replay="prioritised", batch_size=16)
    for _ in range(8):
        learner.replay.add(make_batch(learner.mac, lengths=[6, 5, 4], dead=False, common_reward=False))
    begin, end = learner.replay.ring.begin, learner.replay.ring.end
    draws = [learner.draw(0).index for _ in range(60)]
    for share in (slice(0, 8), slice(8, 16)):  # of agent 0 and of agent 1
        places = (np.concatenate([index[share] for index in draws]) - begin) / (end - begin)
        assert np.quantile(places, 0.1) < 0.2
        assert np.quantile(places, 0.9) > 0.8


def test_seql_of_one_agent_is_iql() -> None:
    info = make_info(1, n_actions=3)
    more = {"updates_per_step": 0.2, "replay_steps": 1, "common_reward": False, "sharing": "separate"}
    one, other = learner_of("seql", info, **more), learner_of("seql", info, replay_sharing="own", **more)
    batches = batches_of(one, dead=False, common_reward=False)
    assert torch.equal(trained(one, batches), trained(other, batches))
    assert one.updates > 3


@pytest.mark.parametrize("algorithm", ["iql", "vdn"])
def test_agents_renamed_change_nothing_of_separate_networks(algorithm: str) -> None:
    with double():
        info = make_info(3, n_actions=3)
        learner = learner_of(algorithm, info, sharing="separate", obs_agent_id=False)
        other = learner_of(algorithm, info, sharing="separate", obs_agent_id=False)
        perm = [2, 0, 1]
        other.mac.network.params.data.copy_(learner.mac.network.params.data[perm])
        other.target_params[0].copy_(learner.target_params[0][perm])
        batch = make_batch(learner.mac, dead=False)
        learner.update(batch, torch.ones(4).double())
        other.update(permuted(batch, perm), torch.ones(4).double())
    assert torch.allclose(learner.mac.network.params[perm], other.mac.network.params, atol=1e-9)


@pytest.mark.parametrize("algorithm", Q_METHODS)
@pytest.mark.parametrize("replay", ["uniform", "prioritised"])
def test_a_learner_from_a_file_learns_on_with_the_same_numbers(algorithm: str, replay: str) -> None:
    learner = learner_of(algorithm, updates_per_step=0.2, replay=replay, standardise_returns=True)
    other = learner_of(algorithm, seed=2, updates_per_step=0.2, replay=replay, standardise_returns=True)
    batches = batches_of(learner, 8, dead=False)
    trained(learner, batches[:5])
    parts = [(learner.replay.oldest, learner.replay.entries(learner.replay.oldest, learner.replay.newest))]
    other.mac.load_state_dict(learner.mac.state_dict())
    other.load_state_dict(through_a_file(learner.state_dict()))
    other.replay.restore(learner.replay.state_dict(), parts)
    assert torch.equal(trained(learner, batches[5:]), trained(other, batches[5:]))
    assert torch.equal(learner.target_params[0], other.target_params[0])


def test_weights_of_another_run_reach_mixer_and_slow_copies() -> None:
    one, other, sum_only = learner_of("qmix"), learner_of("qmix", seed=2), learner_of("vdn", seed=3)
    assert other.load_weights(one.state_dict()) == []
    assert torch.equal(other.mixer.params, one.mixer.params)
    assert torch.equal(other.target_params[1], one.mixer.params)
    assert other.load_weights(sum_only.state_dict()) == ["mixer"]
    assert sum_only.load_weights(one.state_dict()) == []


def test_only_legal_actions_in_a_hundred_thousand_draws() -> None:
    random = np.random.default_rng(0)
    avail = random.random((100_000, 1, 7)) < 0.3
    avail[np.arange(100_000), 0, random.integers(7, size=100_000)] = True
    selector, noise = EpsilonGreedy(EPSILON), random.random((100_000, 1, 8)).astype(np.float32)
    outputs = random.normal(size=(100_000, 1, 7)).astype(np.float32)
    for t_env in (0, 50, 1000):
        actions, log_prob = selector.select(outputs, avail, noise, Context(t_env=t_env))
        assert np.take_along_axis(avail, actions[..., None], -1).all()
        assert np.isfinite(log_prob).all()


# -- refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "more", "words"),
    [
        ("vdn", {"common_reward": False}, "needs one reward: use common_reward=True, or mixer=null"),
        ("iql", {"action_selector": None}, "use action_selector=epsilon_greedy"),
        ("iql", {"action_selector": "multinomial"}, "action_selector=multinomial does: use action_selector=eps"),
        ("iql", {"mixer": "qtran"}, "use learner=qtran_learner"),
        ("qtran", {"mixer": "qmix"}, "not mixer=qmix: use mixer=qtran, or learner=q_learner"),
        ("iql", {"mixer": "qmixx"}, "did you mean 'qmix'"),
        ("iql", {"mixer": "nowhere:Mixer"}, "cannot be imported"),
        ("iql", {"q_nstep": 3}, "set one of them to null"),
        ("iql", {"q_nstep": 3, "td_lambda": None, "replay_steps": 2}, "use replay_steps=3 or more"),
        ("seql", {"mixer": "vdn", "common_reward": True}, "replay_sharing=own"),
        ("seql", {"sharing": "shared"}, "already"),
        ("seql", {"obs_agent_id": True}, "use obs_agent_id=False"),
        ("seql", {"batch_size": 1}, "batch_size=1 is less than the 2 agents of"),
    ],
)
def test_refusals_are_one_sentence(algorithm: str, more: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as raised:
        learner_of(algorithm, **more)
    text = str(raised.value)
    assert words in text, text
    assert "\n" not in text


def test_shared_experience_of_unlike_agents_is_refused() -> None:
    with pytest.raises(UserError, match="needs agents with equal observations and actions"):
        learner_of("seql", make_info(2, n_actions=3, ragged=True))


class Wrong(torch.nn.Module):
    def __init__(self, n_agents: int, state_size: int, config: Any) -> None:
        super().__init__()

    def forward(self, qs: Tensor, state: Tensor) -> Tensor:
        return qs


class Mean(torch.nn.Module):
    """A mixer of one's own."""

    def __init__(self, n_agents: int, state_size: int, config: Any) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, qs: Tensor, state: Tensor) -> Tensor:
        return self.scale * qs.mean(-1, keepdim=True)


def test_a_mixer_of_ones_own() -> None:
    learner = learner_of("vdn", mixer=f"{__name__}:Mean", updates_per_step=0.2)
    trained(learner, batches_of(learner, dead=False))
    assert learner.mixer.params.item() != 1.0
    with pytest.raises(UserError, match=r"returns \(2, 2\) for qs .* the team's value, \(2, 1\), is expected"):
        learner_of("vdn", mixer=f"{__name__}:Wrong")
    with pytest.raises(UserError, match="cannot be built as Missing"):
        learner_of("vdn", mixer=f"{__name__}:Missing")


class Missing(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
