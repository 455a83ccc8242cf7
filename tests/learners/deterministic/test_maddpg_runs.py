"""MADDPG and MATD3, whole runs: every shipped YAML trains on everything, repeats itself and learns in seconds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import oamarl
from oamarl.components.batch import Batch
from oamarl.training.building import build

from run_tools import CPU, DETERMINISTIC, Trained, assert_same, assert_same_batch, settings, train, untimed

ENVS: dict[str, dict[str, Any]] = {
    "toy_envs:EarlyEnd": {"limit": 7},
    "toy_envs:Ragged": {"limit": 4},
    "matrix": {"key": "prop1", "n_agents": 4, "steps": 3},
    "toy_envs:Target": {"limit": 5, "ragged": True},
    "toy_envs:Counting": {"limit": 4},
}
ALWAYS = {
    "episode", "updates", "processed_samples", "pg_loss", "grad_norm", "critic_loss", "critic_grad_norm",
    "td_error_abs", "q_taken_mean", "target_mean",
}  # fmt: skip
#: small networks and many updates
QUICK: dict[str, Any] = {
    "runner": "rollout", "rollout_length": 5, "batch_size_run": 10, "batch_size": 64, "hidden_dim": 32,
    "buffer_size": 2000, "updates_per_step": 0.1, "warmup_steps": 200, "lr": 0.003, "critic_lr": 0.003, "gamma": 0.5,
    "target_update_interval_or_tau": 0.02, "q_nstep": 1, "log_interval": 500, "test_interval": 10_000,
    "test_nepisode": 16,
}  # fmt: skip


@pytest.mark.parametrize(
    ("algorithm", "more"),
    [
        ("maddpg", {}),
        ("maddpg", {"use_rnn": True, "replay_steps": None, "common_reward": False, "q_nstep": 3}),
        ("maddpg", {"critic_type": "ac_critic", "runner": "rollout", "rollout_length": 3, "q_nstep": 3,
                    "gumbel": "st"}),
        ("maddpg_ns", {"common_reward": False, "obs_last_action": True, "other_actions": "policies"}),
        ("matd3", {"policy_delay": 1, "q_nstep": 2, "replay": "prioritised", "standardise_returns": True}),
        ("matd3", {"policy_delay": 1, "standardise_obs": True, "feature_norm": True, "obs_individual_obs": True}),
    ],
)  # fmt: skip
def test_trains_on_everything(algorithm: str, more: dict[str, Any], tmp_path: Path) -> None:
    for k, (env, args) in enumerate(ENVS.items()):
        own = {**more, "common_reward": True} if env == "matrix" else more
        run = train(tmp_path / str(k), algorithm, env, args, t_max=60, test_nepisode=2, **own)
        trained = [p["metrics"] for p in run.points if "critic_loss" in p["metrics"]]
        assert trained, env
        assert all(set(m) >= ALWAYS for m in trained), env
        assert all(math.isfinite(v) for p in run.points for v in p["metrics"].values()), env
        runner, mac, learner = build(run.asked, CPU)
        runner.close()
        assert ((run.loop.mac.network.params - mac.network.params).abs().amax(1) > 0).all(), env
        moved = dict(run.loop.learner.parameters())
        assert all((x != moved[name]).any(1).all() for name, x in learner.parameters()), env


@pytest.mark.parametrize(("algorithm", "env"), [("matd3", "toy_envs:Target"), ("maddpg_ns", "toy_envs:EarlyEnd")])
def test_twice_is_the_same(algorithm: str, env: str, tmp_path: Path) -> None:
    def once(name: str, seed: int) -> Trained:
        return train(tmp_path / name, algorithm, env, {"limit": 7}, t_max=72, seed=seed)

    a, b, other = once("a", 5), once("b", 5), once("c", 6)
    assert_same(untimed(a.points), untimed(b.points))
    assert_same(a.loop.learner.state_dict(), b.loop.learner.state_dict())
    assert untimed(a.points) != untimed(other.points)


def test_without_its_changes_matd3_is_maddpg(tmp_path: Path) -> None:
    off = {"twin_critic": False, "policy_delay": 1, "target_noise": 0.0}
    runs = [
        train(tmp_path / name, name, "toy_envs:Target", {"ragged": True}, t_max=60, **more)
        for name, more in (("maddpg", {}), ("matd3", off))
    ]
    assert_same(runs[0].loop.learner.state_dict(), runs[1].loop.learner.state_dict())


def test_workers_draw_the_same_noise() -> None:
    """Noise and warm-up, in environment workers that have no torch, and in this process."""
    found = []
    for backend in ("serial", "process"):
        asked = settings("matd3", "toy_envs:Target", {"ragged": True}, backend=backend, workers=2, batch_size_run=3,
                         runner="rollout", rollout_length=7, warmup_steps=30, act_noise=0.5)  # fmt: skip
        runner, _, _ = build(asked, CPU)
        try:
            # a runner's next batch takes the memory of the last
            found.append([Batch.of({k: x.clone() for k, x in runner.run()[0].named().items()}) for _ in range(3)])
        finally:
            runner.close()
    for a, b in zip(*found, strict=True):
        assert_same_batch(a, b)
        assert bool((a.actions.abs() <= 1).all())
        assert not bool(a.actions[:, :, 1, 1].any())


@pytest.mark.parametrize("algorithm", DETERMINISTIC)
def test_no_illegal_action_is_ever_taken(algorithm: str) -> None:
    env = "toy_envs:EarlyEnd" if algorithm == "dvm" else "toy_envs:Ragged"  # DVM's agents are copies of one another
    runner, _, _ = build(settings(algorithm, env, {} if algorithm == "dvm" else {"limit": 4}, warmup_steps=100), CPU)
    try:
        for _ in range(20):
            batch, _ = runner.run()
            legal = batch.avail[:, :-1].gather(-1, batch.actions.unsqueeze(-1)).squeeze(-1)
            assert legal[batch.valid].all()
    finally:
        runner.close()


def test_a_trained_team_acts_within_the_bounds(tmp_path: Path) -> None:
    run = train(tmp_path, "matd3", "toy_envs:Target", {"ragged": True}, t_max=60, save_model=True,
                save_model_interval=20)  # fmt: skip
    team = oamarl.load(run.folder)
    obs = torch.randn(4, 2, 2).numpy()
    actions = team.act(obs)
    params, mac = run.loop.mac.network.params, run.loop.mac
    outputs = mac.evaluate(mac.with_extras(torch.from_numpy(obs), None), params.detach())
    own = torch.tensor([[True, True], [True, False]])
    torch.testing.assert_close(torch.from_numpy(actions), torch.where(own, outputs.tanh(), 0.0), rtol=1e-5, atol=1e-6)


# -- learning --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["maddpg", "matd3"])
def test_a_target_is_learned(algorithm: str, tmp_path: Path) -> None:
    """Untrained policies lose about 1.8 an episode."""
    run = train(tmp_path, algorithm, "toy_envs:Target", {"ragged": True}, t_max=2000, **QUICK)
    assert run.last("test_greedy_return_mean") > -0.4


@pytest.mark.parametrize("gumbel", ["st", "gst"])
def test_agents_learn_to_take_different_actions(gumbel: str, tmp_path: Path) -> None:
    """A joint action pays 1 where the two differ, and nothing else does."""
    run = train(tmp_path, "maddpg_ns", "matrix", {"key": "prop1", "n_agents": 2}, t_max=1500, gumbel=gumbel, **QUICK)
    assert run.last("test_return_mean") > 0.9
