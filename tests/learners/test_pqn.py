"""PQN: targets and gradients by hand, what it is equal to, segments, and that it learns."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from oamarl.components.batch import Batch
from oamarl.components.pieces import one_episode_a_row
from oamarl.envs.base import EnvInfo
from oamarl.main import main
from oamarl.training.building import build
from oamarl.utils.errors import UserError

from learner_tools import double, make_batch, make_info, make_learner, permuted, through_a_file, with_garbage
from run_tools import CPU, Trained, assert_same, assert_same_run, settings, train, untimed

MIXED = "toy_envs:MixedLength"
EARLY = "toy_envs:EarlyEnd"
PLAIN = "toy_envs:Truncating"
#: of rollouts: three rows of four steps, in which episodes begin and end
SEGMENTS: dict[str, Any] = {"batch_size_run": 3, "rollout_length": 4, "head_gain": 1.0}
GRU = {"use_rnn": True, "obs_last_action": True}
FEED_FORWARD = {"use_rnn": False, "obs_last_action": False}


def learner_of(algorithm: str = "pqn_vdn", info: EnvInfo | None = None, **more: Any) -> Any:
    small = {"epochs": 1, "num_minibatches": 1, "standardise_rewards": False, **FEED_FORWARD}
    return make_learner(algorithm, info or make_info(2, n_actions=3), **{**small, **more})


def constant(learner: Any, values: list[float]) -> None:
    """Make all networks' action values ``values``, whatever is seen."""
    network = learner.mac.network
    with torch.no_grad():
        for row in network.params:
            layers = network.layers(row)
            layers["head.w"].zero_()
            layers["head.b"].copy_(torch.tensor(values, dtype=row.dtype))


def gradient(learner: Any, batch: Batch) -> list[Tensor]:
    """The gradients of an iteration's first update, not clipped; parameters stay."""
    learner.optimiser.step = lambda: None
    learner.train(batch, 0)
    return [x.grad.clone() for x in learner.learned]


def rollout(env: str, args: dict[str, Any], n: int = 2, **more: Any) -> tuple[Any, list[Batch]]:
    """A learner, and copies of ``n`` batches of segments, played without learning."""
    runner, _, learner = build(settings("pqn_vdn", env, args, **{**SEGMENTS, **FEED_FORWARD, **more}), CPU)
    try:
        # a runner's next batch is written over the last
        return learner, [Batch.of({k: x.clone() for k, x in runner.run()[0].named().items()}) for _ in range(n)]
    finally:
        runner.close()


# -- targets ------------------------------------------------------------------------------------------------------


def two_steps(learner: Any, *, terminated: bool = True) -> Batch:
    """One episode of two steps with rewards 1 and 2; both actions 0, all actions legal."""
    batch = make_batch(learner.mac, lengths=[2], dead=False)
    return replace(
        batch, avail=torch.ones_like(batch.avail), actions=torch.zeros_like(batch.actions),
        reward=torch.tensor([1.0, 2.0]).view(1, 2, 1).expand(1, 2, 2).clone(),
        terminated=torch.tensor([[False, terminated]]), truncated=torch.tensor([[False, not terminated]]),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("more", "terminated", "expected"),
    [
        # v is 5 for an agent and 10 for the sum of two; gamma 1/2
        ({"td_lambda": 0.0}, True, [1 + 0.5 * 10, 2]),
        ({"td_lambda": 0.0}, False, [1 + 0.5 * 10, 2 + 0.5 * 10]),
        ({"td_lambda": 1.0}, True, [1 + 0.5 * 2, 2]),
        ({"td_lambda": 1.0}, False, [1 + 0.5 * 7, 7]),
        ({"td_lambda": 0.6}, True, [1 + 0.5 * (0.4 * 10 + 0.6 * 2), 2]),
        ({"td_lambda": 0.6}, False, [1 + 0.5 * (0.4 * 10 + 0.6 * 7), 7]),
        ({"td_lambda": 0.6, "add_value_last_step": False}, False, [1 + 0.5 * (0.4 * 10 + 0.6 * 2), 2]),
        ({"td_lambda": 0.6, "mixer": None}, False, [1 + 0.5 * (0.4 * 5 + 0.6 * 4.5), 4.5]),
    ],
)
def test_targets_of_two_steps_by_hand(more: dict[str, Any], terminated: bool, expected: list[float]) -> None:
    learner = learner_of(gamma=0.5, **more)
    constant(learner, [0.0, 5.0, 1.0])
    y = learner.targets(two_steps(learner, terminated=terminated))
    assert y.shape[-1] == (2 if "mixer" in more else 1)
    assert y[0, :, 0].tolist() == pytest.approx(expected)
    assert y[0, :, -1].tolist() == pytest.approx(expected)


def test_an_illegal_action_is_no_bootstrap() -> None:
    learner = learner_of(gamma=0.5, td_lambda=0.0)
    constant(learner, [0.0, 5.0, 1.0])
    batch = two_steps(learner)
    avail = batch.avail.clone()
    avail[0, 1, 0, 1] = False
    y = learner.targets(replace(batch, avail=avail))
    assert y[0, :, 0].tolist() == pytest.approx([1 + 0.5 * (1 + 5), 2]), "agent 0 may only take 0 or 2"


def test_an_agent_of_rewards_of_its_own_that_has_left_bootstraps_and_learns_nothing() -> None:
    learner = learner_of("pqn", gamma=0.5, td_lambda=0.0, common_reward=False)
    constant(learner, [0.0, 5.0, 1.0])
    batch = two_steps(learner)
    gone, alive = torch.zeros_like(batch.agent_terminated), batch.alive.clone()
    gone[0, :, 1], alive[0, 1, 1] = True, False
    it = learner.begin_iteration(replace(batch, agent_terminated=gone, alive=alive))
    assert it.target[0].tolist() == pytest.approx([1 + 0.5 * 5, 1])
    assert it.mask.tolist() == [[True, True], [True, False]]


def test_segments_bootstrap_from_what_followed_in_truth() -> None:
    """A segment of five steps with a termination after the second and a truncation after the fourth, lambda 1/2."""
    learner = learner_of(gamma=0.5, td_lambda=0.5, obs_agent_id=False)
    whole = make_batch(learner.mac, lengths=[5], dead=False)
    obs = torch.zeros_like(whole.obs)
    # an agent's values are its first input x: v = 2 x for the sum of two agents
    learner.mac.all_outputs = lambda batch: batch.obs[..., :1].expand(*batch.obs.shape[:3], 3)
    obs[0, :, :, 0] = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).unsqueeze(1)
    final = torch.zeros(2, *obs.shape[2:])
    final[0, :, 0], final[1, :, 0] = 90.0, 10.0
    flags = torch.tensor([[False, True, False, False, False], [False, False, False, True, False]])
    segment = replace(
        whole, obs=obs, avail=torch.ones_like(whole.avail), terminated=flags[:1], truncated=flags[1:],
        reward=torch.ones_like(whole.reward), filled=torch.ones_like(whole.filled), final_obs=final,
        final_state=torch.zeros(2, whole.state.shape[-1]), final_avail=torch.ones(2, 2, 3, dtype=torch.bool),
        final_index=torch.tensor([[0, 1], [0, 3]]), before=torch.full((1, 2), -1),
        hidden=learner.mac.initial_hidden(1),
    )  # fmt: skip
    rows = one_episode_a_row(segment)
    assert rows.filled.sum(1).tolist() == [2, 2, 1]
    y = learner.targets(rows)[rows.filled][:, 0].tolist()
    last = 1 + 0.5 * 2 * 5.0  # the segment ends, the episode continues
    fourth = 1 + 0.5 * 2 * 10.0  # truncated: the final observation, not the next episode's first
    third = 1 + 0.5 * (0.5 * 2 * 3.0 + 0.5 * fourth)
    assert y == pytest.approx([1 + 0.5 * (0.5 * 2 * 1.0 + 0.5 * 1.0), 1.0, third, fourth, last])


# -- segments as rows of one episode -----------------------------------------------------------------------------


@pytest.mark.parametrize(("env", "args"), [(MIXED, {"limit": 7}), (EARLY, {"limit": 3}), (PLAIN, {"limit": 2})])
def test_rows_of_one_episode_hold_every_step_and_its_true_next_observation(env: str, args: dict[str, Any]) -> None:
    _, batches = rollout(env, args, 3)
    for batch in batches:
        rows = one_episode_a_row(batch)
        assert len(rows.filled) >= len(batch.filled)
        assert len(rows.final_index) == len(rows.final_obs) == 0
        for name in ("actions", "reward", "terminated", "truncated", "agent_terminated", "alive", "log_prob"):
            assert torch.equal(getattr(rows, name)[rows.filled], getattr(batch, name)[batch.filled]), name
        for name in ("obs", "state", "avail"):
            found, given = getattr(rows, name), getattr(batch, name)
            assert torch.equal(found[:, :-1][rows.filled], given[:, :-1][batch.filled]), name
            following = given[:, 1:].clone()
            following[batch.final_index.unbind(1)] = getattr(batch, f"final_{name}")
            assert torch.equal(found[:, 1:][rows.filled], following[batch.filled]), name
        assert torch.equal(rows.last_actions[:, :-1][rows.filled], batch.last_actions[:, :-1][batch.filled])
        assert torch.equal(rows.last_actions[:, 1:][rows.filled], batch.actions[batch.filled])
        over = rows.terminated | rows.truncated
        assert (over.sum(1) <= 1).all()
        length = rows.filled.sum(1)
        assert not rows.obs[torch.arange(rows.obs.shape[1]) > length.unsqueeze(1)].any()


def test_whole_episodes_are_rows_of_one_episode_already() -> None:
    batch = make_batch(learner_of().mac)
    assert one_episode_a_row(batch) is batch


@pytest.mark.parametrize("sharing", ["shared", "separate", [0, 1, 0]])
def test_values_in_segments_are_those_that_acting_has(sharing: Any) -> None:
    """Recurrent networks continue from the hidden state that a segment begins with, and from zeros in a new episode."""
    more = {**GRU, "sharing": sharing, "obs_agent_id": sharing == "shared"}
    learner, batches = rollout(EARLY, {"limit": 6}, 3, **more)
    network, n = learner.mac.actor().network, learner.info.n_agents
    for batch in batches:
        rows = one_episode_a_row(batch)
        with torch.no_grad():
            found = learner.mac.all_outputs(rows)
        last, hidden = batch.last_actions.numpy(), batch.hidden.numpy().copy()
        q = []
        for t in range(batch.actions.shape[1]):
            hidden[batch.begins[:, t].numpy()] = 0.0
            outputs, hidden = network(batch.obs[:, t].numpy(), last[:, t], hidden)
            q.append(torch.from_numpy(outputs))
        torch.testing.assert_close(found[:, :-1][rows.filled], torch.stack(q, 1).flatten(0, 1), rtol=1e-4, atol=1e-5)
        it = learner.begin_iteration(batch)
        order = torch.randperm(it.samples.n_entries, generator=torch.Generator().manual_seed(1))
        taken, steps = learner.taken(it.samples, order[:3], learner.mac.network.params)
        want = found[:, :-1][rows.filled].gather(-1, it.samples.actions.unsqueeze(-1)).squeeze(-1)
        assert taken.shape[1] == n
        torch.testing.assert_close(taken, want[steps], rtol=1e-4, atol=1e-5)


# -- the loss ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use_rnn", [False, True], ids=["ff", "gru"])
@pytest.mark.parametrize("mixer", ["vdn", None, "qmix"])
def test_the_gradient_is_q_learning_s_on_the_same_episodes(mixer: str | None, use_rnn: bool) -> None:
    """With targets by the networks as they are, in float64; Q-learning draws all episodes, in another order."""
    with double():
        more = {"mixer": mixer, "use_rnn": use_rnn, "td_lambda": 0.7, "grad_norm_clip": 1e9, "layer_norm": True}
        own = learner_of("pqn_vdn", **more)
        other = make_learner(
            "iql", own.info, buffer_size=4, batch_size=4, standardise_rewards=False, target_update_interval_or_tau=1,
            updates_per_step=None, **more,
        )  # fmt: skip
        other.mac.network.params.data.copy_(own.mac.network.params)
        batch = make_batch(own.mac)
        found = gradient(own, batch)
        other.optimisers[0].step = lambda: None
        other.train(batch, 0)
        for x, y in zip(found, [p for p in other.learned if p.numel()], strict=True):
            torch.testing.assert_close(x, y.grad, rtol=1e-9, atol=1e-12)
        assert found[0].abs().max() > 1e-3


def test_the_gradient_of_the_sum_by_hand() -> None:
    """d/db of the mean of (Q_1 + Q_2 - y)^2: each agent's head bias gets 2 (Q_tot - y) for the action it took."""
    learner = learner_of(gamma=0.5, td_lambda=0.0, sharing="separate", obs_agent_id=False, grad_norm_clip=1e9)
    constant(learner, [0.0, 5.0, 1.0])
    batch = two_steps(learner)
    actions = torch.tensor([[[0, 1], [2, 1]]])
    grad = gradient(learner, replace(batch, actions=actions))[0]
    first, second = (0 + 5) - (1 + 0.5 * 10), (1 + 5) - 2.0
    heads = [learner.mac.network.layers(grad)["head.b"][k].tolist() for k in range(2)]
    assert heads[0] == pytest.approx([first, 0.0, second])  # 2 / 2 steps
    assert heads[1] == pytest.approx([0.0, first + second, 0.0])


def test_mini_batches_add_up_to_the_mean_of_all_steps() -> None:
    """Gradients of an epoch's mini-batches, at parameters that stay, have the whole batch's for a mean."""
    with double():
        seen: list[Tensor] = []
        for parts in (1, 3):
            learner = learner_of(num_minibatches=parts, grad_norm_clip=1e9)
            batch, found = make_batch(learner.mac), []
            learner.optimiser.step = lambda own=learner, into=found: into.append(own.learned[0].grad.clone())
            learner.train(batch, 0)
            assert len(found) == parts
            seen.append(torch.stack(found).mean(0))
        torch.testing.assert_close(*seen, rtol=1e-9, atol=1e-12)


def test_of_one_agent_the_sum_is_its_own_value() -> None:
    info = make_info(1, n_actions=3)
    one, other = learner_of("pqn_vdn", info, epochs=3), learner_of("pqn", info, epochs=3)
    for learner in (one, other):
        learner.train(make_batch(one.mac, dead=False), 0)
    assert torch.equal(one.mac.network.params, other.mac.network.params)


@pytest.mark.parametrize("use_rnn", [False, True], ids=["ff", "gru"])
@pytest.mark.parametrize("algorithm", ["pqn_vdn", "pqn"])
def test_what_may_not_be_read_changes_nothing(algorithm: str, use_rnn: bool) -> None:
    one, other = (learner_of(algorithm, use_rnn=use_rnn, epochs=2, num_minibatches=2) for _ in range(2))
    batch = make_batch(one.mac, dead=False)
    one.train(batch, 0)
    other.train(with_garbage(batch, one.mac), 0)
    assert torch.equal(one.mac.network.params, other.mac.network.params)


@pytest.mark.parametrize("algorithm", ["pqn_vdn", "pqn"])
def test_agents_renamed_change_nothing_of_separate_networks(algorithm: str) -> None:
    with double():
        own, other = (
            learner_of(algorithm, make_info(3), sharing="separate", obs_agent_id=False, epochs=2) for _ in range(2)
        )
        perm = [2, 0, 1]
        other.mac.network.params.data.copy_(own.mac.network.params.data[perm])
        batch = make_batch(own.mac)
        own.train(batch, 0)
        other.train(permuted(batch, perm), 0)
    assert torch.allclose(own.mac.network.params[perm], other.mac.network.params, atol=1e-9)


def test_learning_rate_and_counts() -> None:
    learner = learner_of(lr=0.5, lr_schedule="linear", t_max=1000, epochs=2, num_minibatches=3)
    batch = make_batch(learner.mac)
    scalars, arrays = learner.train(batch, 250)
    assert arrays == {}
    assert scalars["lr"] == pytest.approx(0.375)
    assert {"loss", "td_error_abs", "q_taken_mean", "target_mean", "grad_norm", "lr"} == set(scalars)
    assert (learner.updates, learner.processed) == (1, 2 * int(batch.valid.sum()))


def test_rewards_as_a_change_of_unit() -> None:
    """Rewards 3 and 4 have a root mean square of sqrt(12.5)."""
    learner = learner_of(standardise_rewards=True, standardise_rewards_mean=False, td_lambda=1.0, gamma=1.0)
    constant(learner, [0.0, 0.0, 0.0])
    batch = replace(two_steps(learner), reward=torch.tensor([3.0, 4.0]).view(1, 2, 1).expand(1, 2, 2).clone())
    assert learner.targets(batch)[0, :, 0].tolist() == pytest.approx([7 / 12.5**0.5, 4 / 12.5**0.5])


# -- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"common_reward": False}, "needs one reward: use common_reward=True, or mixer=null"),
        ({"action_selector": None}, "use action_selector=epsilon_greedy"),
        ({"action_selector": "multinomial"}, "use action_selector=epsilon_greedy"),
        ({"mixer": "qtran"}, "mixer=qtran has losses of its own, which learner=pqn_learner does not: use vdn, qmix"),
        ({"mixer": "vnd"}, "did you mean 'vdn'"),
        ({"mac": "reuse_mac"}, "mac=reuse_mac is refused, use mac=basic_mac"),
    ],
)
def test_refusals_are_one_sentence(more: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)) as raised:
        learner_of(**more)
    assert "\n" not in str(raised.value)


def test_continuous_actions_are_refused() -> None:
    with pytest.raises(UserError, match=r"vectors of numbers \(Box\)"):
        build(settings("pqn_vdn", "toy_envs:Counting", {"limit": 4}), CPU)


# -- whole runs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [
        {}, {**GRU, "num_minibatches": 2}, {"runner": "parallel"}, {"runner": "parallel", **GRU},
        {"sharing": "separate", "obs_agent_id": False, "standardise_obs": True, "standardise_rewards": True},
        {"sharing": [0, 1, 0], "mixer": "qmix"}, {"mixer": None, "common_reward": False},
        {"layer_norm": False, "feature_norm": True, "activation": "tanh"},
    ],
    ids=["segments", "gru", "episodes", "gru-episodes", "separate", "grouped-qmix", "individual", "plain"],
)  # fmt: skip
def test_every_kind_of_run_trains_twice_the_same(more: dict[str, Any], tmp_path: Path) -> None:
    def once(name: str, seed: int) -> Trained:
        given = {
            "runner": "rollout",
            "batch_size_run": 3,
            "t_max": 70,
            "seed": seed,
            "epsilon_anneal_time": 50,
            **FEED_FORWARD,
            **more,
        }
        length = {"rollout_length": 4} if given["runner"] == "rollout" else {}
        return train(tmp_path / name, "pqn_vdn", EARLY, {"limit": 7}, **given, **length)

    a, b, other = once("a", 5), once("b", 5), once("c", 6)
    assert_same(untimed(a.points), untimed(b.points))
    assert_same(a.loop.learner.state_dict(), b.loop.learner.state_dict())
    assert_same(a.loop.mac.state_dict(), b.loop.mac.state_dict())
    assert untimed(a.points) != untimed(other.points)
    assert a.last("updates") >= 3
    assert all(np.isfinite(v) for p in a.points for v in p["metrics"].values())


@pytest.mark.parametrize(("key", "value", "base"), [
    ("gamma", 0.5, {}), ("td_lambda", 0.0, {}), ("add_value_last_step", False, {}), ("standardise_rewards", True, {}),
    ("standardise_rewards_mean", False, {"standardise_rewards": True}), ("epochs", 3, {}), ("num_minibatches", 3, {}),
    ("grad_norm_clip", 1e-4, {}), ("lr", 0.002, {}), ("optim_eps", 0.1, {}), ("lr_schedule", "linear", {}),
    ("t_max", 90, {"lr_schedule": "linear"}), ("mixer", None, {}), ("mixer", "qmix", {}), ("layer_norm", False, {}),
    ("mixing_embed_dim", 8, {"mixer": "qmix"}), ("hypernet_layers", 1, {"mixer": "qmix"}),
    ("hypernet_embed", 8, {"mixer": "qmix"}), ("state_scale", 4.0, {"mixer": "qmix"}),
    ("sharing", "separate", {}), ("use_rnn", True, {}),
    ("obs_last_action", True, {}), ("epsilon_start", 0.2, {}),
    ("epsilon_finish", 0.5, {}), ("epsilon_anneal_time", 200, {}), ("rollout_length", 8, {}),
])  # fmt: skip
def test_every_option_has_its_effect(key: str, value: Any, base: dict[str, Any], tmp_path: Path) -> None:
    def learned(name: str, **more: Any) -> Tensor:
        given = {
            "rollout_length": 4, "batch_size_run": 3, "t_max": 60, "epsilon_anneal_time": 40, "test_nepisode": 0,
            "save_best": False, "head_gain": 1.0, "lr": 0.01, **FEED_FORWARD,
        }  # fmt: skip
        run = train(tmp_path / name, "pqn_vdn", PLAIN, {"limit": 3}, **{**given, **base, **more})
        return run.loop.mac.network.params.detach()

    one, other = learned("one"), learned("other", **{key: value})
    assert one.shape != other.shape or not torch.equal(one, other)


@pytest.mark.parametrize("more", [("use_rnn=False",), ("mixer=qmix", "standardise_rewards=True")], ids=["ff", "gru"])
def test_a_resumed_run_goes_on_with_the_same_numbers(more: tuple[str, ...], tmp_path: Path) -> None:
    words = [
        "--config=pqn_vdn", "--env-config=maze", "with", "seed=7", "use_cuda=False", "backend=serial",
        "env_args.time_limit=12", "batch_size_run=4", "rollout_length=5", "hidden_dim=16", "log_interval=60",
        "test_interval=70", "test_nepisode=3", "checkpoint_interval=60", "epsilon_anneal_time=500",
        "standardise_obs=True", *more,
    ]  # fmt: skip
    assert main([*words, "t_max=300", f"local_results_path={tmp_path / 'whole'}"]) == 0
    assert main([*words, "t_max=140", f"local_results_path={tmp_path / 'parts'}"]) == 0
    (whole,), (first,) = (list((tmp_path / x).glob("sacred/*/*/1")) for x in ("whole", "parts"))
    second = f"local_results_path={tmp_path / 'parts'}"
    assert main([*words, "t_max=300", second, f"checkpoint_path={first}"]) == 0
    assert_same_run(whole, first.parent / "2")


def test_a_learner_from_a_file_learns_on_with_the_same_numbers() -> None:
    learner, other = (learner_of(mixer="qmix", seed=s, standardise_rewards=True, num_minibatches=2) for s in (1, 2))
    batches = [make_batch(learner.mac, seed=k) for k in range(3)]
    learner.train(batches[0], 0)
    other.mac.load_state_dict(learner.mac.state_dict())
    other.load_state_dict(through_a_file(learner.state_dict()))
    for x in (learner, other):
        x.train(batches[1], 10)
    for a, b in zip(learner.learned, other.learned, strict=True):
        assert torch.equal(a, b)
    fresh = learner_of(mixer="qmix", seed=3)
    assert fresh.load_weights(learner.state_dict()) == []
    assert torch.equal(fresh.mixer.params, learner.mixer.params)
    assert fresh.load_weights(learner_of().state_dict()) == ["mixer"]
    assert learner_of().load_weights(learner.state_dict()) == []


def test_only_legal_actions_are_taken() -> None:
    """EarlyEnd and MixedLength draw masks; greedy and random actions."""
    for t_env in (0, 10**6):
        learner, batches = rollout(MIXED, {"limit": 7}, 6, rollout_length=20)
        assert learner.mac.selector is not None
        for batch in batches:
            taken = batch.avail[:, :-1].gather(-1, batch.actions.unsqueeze(-1)).squeeze(-1)
            assert taken[batch.valid].all(), t_env


# -- it learns ---------------------------------------------------------------------------------------------------


def play(folder: Path, config: str, t_max: int, args: dict[str, Any], **more: Any) -> Trained:
    given = {
        "batch_size_run": 32, "rollout_length": 2, "hidden_dim": 32, "lr": 0.005, "epsilon_anneal_time": t_max // 2,
        "log_interval": 640, "test_interval": 10**6, "test_nepisode": 1, "seed": 1, "epochs": 4, "num_minibatches": 1,
        **FEED_FORWARD,
    }  # fmt: skip
    return train(folder, config, "matrix", args, backend="auto", t_max=t_max, **{**given, **more})


@pytest.mark.parametrize("config", ["pqn_vdn", "pqn"])
def test_penalty_without_penalty_reaches_the_joint_optimum(config: str, tmp_path: Path) -> None:
    run = play(tmp_path, config, 6400, {"key": "penalty", "k": 0})
    assert run.result["test_greedy_return_mean"] == 10.0


def test_climbing_ends_away_from_the_cliffs(tmp_path: Path) -> None:
    run = play(tmp_path, "pqn_vdn", 6400, {"key": "climbing"})
    assert run.result["test_greedy_return_mean"] in (5.0, 6.0, 7.0, 11.0)


def test_it_learns_a_corridor_of_the_maze(tmp_path: Path) -> None:
    args = {"map": ["######", "#S..G#", "#.RB.#", "######"], "time_limit": 12}
    run = train(
        tmp_path, "pqn_vdn", "maze", args, backend="auto", t_max=12_000, batch_size_run=16, rollout_length=8,
        hidden_dim=32, lr=0.002, epsilon_anneal_time=6000, log_interval=2000, test_interval=10**6, test_nepisode=4,
        epochs=4, num_minibatches=2, **FEED_FORWARD,
    )  # fmt: skip
    assert run.result["test_greedy_arrived_mean"] == 1.0


def test_a_gru_on_segments_remembers_what_a_feed_forward_network_cannot(tmp_path: Path) -> None:
    """Each of two agents names at the third step the bit that it saw at the first; segments of four steps cut episodes
    anywhere."""

    def learn(use_rnn: bool) -> float:
        run = train(
            tmp_path / str(use_rnn), "pqn_vdn", "test_algorithms:Recall", t_max=10_240, batch_size_run=64,
            rollout_length=4, hidden_dim=16, epochs=4, num_minibatches=2, lr=0.01, use_rnn=use_rnn,
            epsilon_anneal_time=5000, log_interval=2560, test_interval=10**6, test_nepisode=256,
        )  # fmt: skip
        return run.result["test_greedy_return_mean"]

    assert learn(True) > 0.95
    # right half of the time: 1/2 with a deviation of 0.02 over 256 episodes
    assert learn(False) < 0.62
