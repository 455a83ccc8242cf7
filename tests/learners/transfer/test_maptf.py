"""MAPTF on MAPPO and MADDPG: the transfer loss by hand, what it reduces to, refusals, resume, and whole runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from oamarl.learners.transfer.transitions import AGREE, HELD
from oamarl.main import main
from oamarl.utils.errors import UserError

from learner_tools import make_batch, make_info, make_learner, through_a_file, with_garbage
from run_tools import TRANSFER, assert_same, assert_same_run, train, untimed

REPLAY: dict[str, Any] = {
    "batch_size": 8, "buffer_size": 40, "standardise_rewards": False, "warmup_steps": 0, "replay_steps": 1,
    "q_nstep": None, "updates_per_step": None,
}  # fmt: skip
NEEDS: dict[str, dict[str, Any]] = {
    "maptf_mappo": {"option_batch_size": 8, "option_updates": 2}, "maptf_maddpg": REPLAY,
}  # fmt: skip
BASES = {"maptf_mappo": ("mappo_ns", {}), "maptf_maddpg": ("maddpg_ns", REPLAY)}


def learner_of(algorithm: str, **more: Any) -> Any:
    return make_learner(algorithm, make_info(3), **{**NEEDS[algorithm], **more})


def trained(learner: Any, seeds: range) -> Any:
    for k in seeds:
        learner.train(make_batch(learner.mac, seed=k), 10 * k)
    return learner


def distance(towards: Tensor, mine: Tensor, avail: Tensor) -> Tensor:
    """KL of softmax distributions over the legal actions, summed by hand."""
    p, q = (torch.softmax(x[avail], -1) for x in (towards, mine))
    return (p * (p.log() - q.log())).sum()


def test_the_loss_of_ppo_by_hand() -> None:
    learner = learner_of("maptf_mappo", transfer_coef=0.5, transfer_steps=40)
    batch = make_batch(learner.mac)
    it = learner.begin_iteration(batch, 40)
    samples, followed = it.samples, learner._followed
    assert followed.weight == pytest.approx(0.25)
    params = learner.mac.network.params.detach() + 0.1
    policy, at, _ = learner.mac.policies(samples, samples.entries, params)
    weight = torch.full(samples.valid.shape, 0.3)
    found = learner.further_loss(policy, at, weight)
    expected, network = torch.zeros(()), learner.mac.network
    options = torch.from_numpy(learner.replay.ring.fields[HELD][rows_of(learner)])
    for s in range(samples.n_steps):
        for i in range(3):
            o = int(options[s, i])
            if o == i or not samples.valid[s, i]:
                continue
            x = samples.inputs[s, i].unsqueeze(0)
            towards, mine = network.single(network.params[o], x)[0], network.single(params[i], x)[0]
            expected = expected + 0.25 * 0.3 * distance(towards, mine, samples.avail[s, i])
    torch.testing.assert_close(found, expected)
    assert float(expected.detach()) > 0


def rows_of(learner: Any) -> Any:
    """The rows of the replay that hold real steps, in order."""
    episodes = learner.replay.episodes
    rows = [range(f, f + n) for f, n in zip(episodes.first, episodes.length, strict=True)]
    return torch.tensor([r for row in rows for r in row]).numpy()


def test_options_that_agree_by_hand() -> None:
    """The one that is followed, and those whose likeliest action was taken; kept with the steps that they are of."""
    learner = learner_of("maptf_mappo")
    batch = make_batch(learner.mac)
    it = learner.begin_iteration(batch, 0)
    samples, network, rows = it.samples, learner.mac.network, rows_of(learner)
    held, agree = (torch.from_numpy(learner.replay.ring.fields[x][rows]) for x in (HELD, AGREE))
    for s in range(samples.n_steps):
        for i in range(3):
            for o in range(3):
                out = network.single(network.params[o], samples.inputs[s, i].unsqueeze(0))[0]
                likeliest = int(out.masked_fill(~samples.avail[s, i], -1e9).argmax())
                assert bool(agree[s, i, o]) == (o == int(held[s, i]) or likeliest == int(samples.actions[s, i]))


@pytest.mark.parametrize("algorithm", TRANSFER)
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_without_transfer_it_is_the_base_method(algorithm: str, beta: float) -> None:
    """Bit for bit, with the other agents' share in targets too."""
    name, needs = BASES[algorithm]
    base = trained(make_learner(name, make_info(3), **needs, pr_beta=beta), range(3))
    learner = trained(learner_of(algorithm, transfer_coef=0.0, pr_beta=beta), range(3))
    for (a, x), (_, y) in zip(base.parameters(), learner.parameters(), strict=False):
        assert torch.equal(x, y), a
    moved = trained(learner_of(algorithm, pr_beta=beta), range(3))
    assert not torch.equal(moved.mac.network.params, base.mac.network.params)


@pytest.mark.parametrize("algorithm", TRANSFER)
def test_what_may_not_be_read_is_not(algorithm: str) -> None:
    found = []
    for spoil in (False, True):
        learner = learner_of(algorithm)
        for k in range(2):
            batch = make_batch(learner.mac, seed=k, dead=False)
            learner.train(with_garbage(batch, learner.mac) if spoil else batch, k)
        found.append(dict(learner.parameters()))
    for name, x in found[0].items():
        torch.testing.assert_close(x, found[1][name], msg=name)


@pytest.mark.parametrize("algorithm", TRANSFER)
def test_agents_that_follow_one_another_become_alike(algorithm: str) -> None:
    """A large weight draws the policies together."""
    apart = {}
    for coef in (0.0, 10.0):
        learner = learner_of(algorithm, transfer_coef=coef, lr=0.01, t_max=100_000)
        for k in range(12):
            learner.train(make_batch(learner.mac, seed=k, dead=False), k)
        batch = make_batch(learner.mac, dead=False)
        x = learner.mac.inputs(batch)[batch.filled]
        out = torch.stack([learner.mac.network.single(p, x[:, 0]) for p in learner.mac.network.params.detach()])
        apart[coef] = float((torch.softmax(out, -1) - torch.softmax(out, -1).mean(0)).square().sum(-1).mean())
    assert apart[10.0] < 0.5 * apart[0.0]


@pytest.mark.parametrize("algorithm", TRANSFER)
def test_a_resumed_learner_goes_on_with_the_same_numbers(algorithm: str) -> None:
    whole, again = trained(learner_of(algorithm), range(3)), learner_of(algorithm, seed=5)
    again.mac.load_state_dict(through_a_file(whole.mac.state_dict()))
    again.load_state_dict(through_a_file(whole.state_dict()))
    drawn = whole.replay.generator.get_state()
    kept = [(0, whole.replay.entries(0, whole.replay.newest))]
    again.replay.restore(through_a_file(whole.replay.state_dict()), kept)
    again.replay.generator.set_state(drawn)
    batch = make_batch(whole.mac, seed=9)
    assert whole.train(batch, 30)[0] == again.train(batch, 30)[0]
    assert_same(whole.state_dict(), again.state_dict())
    new = learner_of(algorithm, seed=6)
    assert new.load_weights(through_a_file(whole.state_dict())) == []
    name, needs = BASES[algorithm]
    other = make_learner(name, make_info(3), **needs)
    assert new.load_weights(through_a_file(other.state_dict())) == ["options"]


@pytest.mark.parametrize("algorithm", TRANSFER)
def test_what_is_refused(algorithm: str) -> None:
    with pytest.raises(UserError, match="sharing=separate obs_agent_id=False"):
        learner_of(algorithm, sharing="shared")
    memory = {"use_rnn": True} if algorithm == "maptf_mappo" else {"use_rnn": True, "replay_steps": None}
    with pytest.raises(UserError, match="use_rnn=False"):
        learner_of(algorithm, **memory)
    with pytest.raises(UserError, match="differ in observations or actions"):
        make_learner(algorithm, make_info(2, ragged=True), **NEEDS[algorithm])


def test_a_replay_without_room_is_refused() -> None:
    with pytest.raises(UserError, match="lower option_buffer_size to"):
        learner_of("maptf_mappo", option_buffer_size=10**12)


# -- whole runs ------------------------------------------------------------------------------------------------------

OPTIONS = {
    "option_feature_loss", "option_loss", "option_end_loss", "option_end", "option_other_frac", "transfer_weight",
}  # fmt: skip


@pytest.mark.parametrize(
    ("algorithm", "env", "more"),
    [
        ("maptf_mappo", "toy_envs:EarlyEnd", {"num_minibatches": 3, "standardise_obs": True}),
        ("maptf_mappo", "toy_envs:EarlyEnd", {"runner": "rollout", "rollout_length": 5, "common_reward": False}),
        ("maptf_mappo", "toy_envs:Target", {"standardise_rewards": True, "pr_beta": 0.3}),
        ("maptf_maddpg", "toy_envs:EarlyEnd", {"runner": "rollout", "rollout_length": 5, "common_reward": False}),
        ("maptf_maddpg", "toy_envs:EarlyEnd", {"replay_steps": None, "q_nstep": 3, "pr_beta": 0.3}),
        ("maptf_maddpg", "toy_envs:Target", {"replay": "prioritised", "standardise_obs": True}),
    ],
)
def test_trains_on_everything(algorithm: str, env: str, more: dict[str, Any], tmp_path: Path) -> None:
    run = train(tmp_path, algorithm, env, {"limit": 6}, t_max=96, **more)
    points = [p["metrics"] for p in run.points]
    assert all(math.isfinite(v) for p in points for v in p.values())
    assert set().union(*points) >= OPTIONS


@pytest.mark.parametrize("algorithm", TRANSFER)
def test_twice_is_the_same(algorithm: str, tmp_path: Path) -> None:
    a, b = (train(tmp_path / name, algorithm, "toy_envs:EarlyEnd", {"limit": 7}, t_max=72, seed=5) for name in "ab")
    assert_same(untimed(a.points), untimed(b.points))
    assert_same(a.loop.learner.state_dict(), b.loop.learner.state_dict())


def test_agents_learn_to_take_different_actions(tmp_path: Path) -> None:
    """A joint action pays 1 where the two differ: following one another must not keep them from it."""
    run = train(
        tmp_path, "maptf_mappo", "matrix", {"key": "prop1", "n_agents": 2}, backend="auto", t_max=3200,
        batch_size_run=64, hidden_dim=32, epochs=5, lr=0.003, log_interval=640, test_interval=10**6, test_nepisode=1,
        seed=1, transfer_steps=1000,
    )  # fmt: skip
    assert run.last("return_mean") > 0.9


@pytest.mark.parametrize(
    ("algorithm", "more"),
    [
        ("maptf_mappo", ("runner=rollout", "option_batch_size=16", "option_updates=2", "lr_schedule=constant")),
        ("maptf_maddpg", ("buffer_size=60", "batch_size=16", "updates_per_step=0.05", "warmup_steps=40")),
    ],
)
def test_a_resumed_run_goes_on_with_the_same_numbers(algorithm: str, more: tuple[str, ...], tmp_path: Path) -> None:
    """Segments, in which episodes and options continue; the options' replay and MADDPG's are in files of their own."""
    words = [
        f"--config={algorithm}", "with", "env=toy_envs:EarlyEnd", "env_args.limit=7", "seed=7", "use_cuda=False",
        "backend=serial", "batch_size_run=4", "rollout_length=5", "hidden_dim=8", "log_interval=1",
        "test_interval=20", "test_nepisode=2", "checkpoint_interval=40", *more,
    ]  # fmt: skip
    assert main([*words, "t_max=240", f"local_results_path={tmp_path / 'whole'}"]) == 0
    assert main([*words, "t_max=120", f"local_results_path={tmp_path / 'parts'}"]) == 0
    (whole,), (first,) = (list((tmp_path / x).glob("sacred/*/*/1")) for x in ("whole", "parts"))
    second = f"local_results_path={tmp_path / 'parts'}"
    assert main([*words, "t_max=240", second, f"checkpoint_path={first}"]) == 0
    assert_same_run(whole, first.parent / "2")
