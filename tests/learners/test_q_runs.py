"""Q-learning, whole runs: every shipped YAML trains on everything, repeats itself, and learns what it can represent."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from oamarl.runners import testing
from oamarl.training.building import build
from oamarl.training.run_config import RunConfig

from run_tools import CPU, Q_LEARNING, Trained, assert_same, settings, train, untimed

ENVS: dict[str, dict[str, Any]] = {
    "toy_envs:EarlyEnd": {"limit": 7},
    "toy_envs:Ragged": {"limit": 4},
    "toy_envs:MixedLength": {"limit": 6},
    "matrix": {"key": "prop1", "n_agents": 4, "steps": 3},
    "maze": {"time_limit": 8},
}
ALWAYS = {
    "return_mean", "episode", "updates", "processed_samples", "loss", "grad_norm", "td_error_abs", "q_taken_mean",
    "target_mean",
}  # fmt: skip


@pytest.mark.parametrize("use_rnn", [False, True], ids=["ff", "gru"])
@pytest.mark.parametrize("algorithm", Q_LEARNING)
def test_trains_on_everything(algorithm: str, use_rnn: bool, tmp_path: Path) -> None:
    for k, (env, args) in enumerate(ENVS.items()):
        more: dict[str, Any] = {"common_reward": True} if env == "matrix" else {}
        if algorithm == "seql" and env == "toy_envs:Ragged":
            continue  # refused: unlike agents
        run = train(
            tmp_path / str(k), algorithm, env, args, t_max=60, use_rnn=use_rnn, test_nepisode=2, **more,
            **({"replay_steps": None} if use_rnn and algorithm == "seql" else {}),
        )  # fmt: skip
        trained = [p["metrics"] for p in run.points if "loss" in p["metrics"]]
        names = ALWAYS | ({"loss_opt", "loss_nopt"} if algorithm == "qtran" else set())
        names -= {"return_mean"} if run.asked.values["common_reward"] is False else set()
        assert trained, env
        assert all(names <= set(m) for m in trained), env
        assert all(math.isfinite(v) for p in run.points for v in p["metrics"].values()), env
        runner, mac, learner = build(run.asked, CPU)
        runner.close()
        assert ((run.loop.mac.network.params - mac.network.params).abs().amax(1) > 0).all(), env
        moved = dict(run.loop.learner.parameters())
        assert all(not torch.equal(x, moved[name]) for name, x in learner.parameters()), env


@pytest.mark.parametrize("algorithm", ["iql_ns", "qmix", "qtran", "seql"])
def test_twice_is_the_same(algorithm: str, tmp_path: Path) -> None:
    def once(name: str, seed: int) -> Trained:
        return train(tmp_path / name, algorithm, "toy_envs:EarlyEnd", {"limit": 7}, t_max=72, seed=seed)

    a, b, other = once("a", 5), once("b", 5), once("c", 6)
    assert_same(untimed(a.points), untimed(b.points))
    assert_same(a.loop.learner.state_dict(), b.loop.learner.state_dict())
    assert untimed(a.points) != untimed(other.points)


@pytest.mark.parametrize(("epsilon", "kinds"), [(0.0, [False]), (0.5, [False, True])])
def test_greedy_tests_are_played_once(epsilon: float, kinds: list[bool]) -> None:
    """Where sampled tests have no random action they are the greedy ones, to the bit."""
    asked = settings("iql", "toy_envs:EarlyEnd", {"limit": 7}, evaluation_epsilon=epsilon, test_nepisode=4)
    runner, _, _ = build(asked, CPU)
    try:
        plain, seen = runner.test, []
        runner.test = lambda n, greedy: seen.append(greedy) or plain(n, greedy)
        found = testing.play(runner, asked.part(RunConfig))
        again = plain(4, True).scalars(runner.info, True, "test_greedy_")
    finally:
        runner.close()
    assert seen == kinds
    assert {k: found[k] for k in again} == again


# -- what they can represent ------------------------------------------------------------------------------------


def play(
    folder: Path, algorithm: str, env: str, args: dict[str, Any], t_max: int, seed: int = 1, **more: Any
) -> Trained:
    """A game of few states, whose rewards need no scale, at rates that suit thousands of steps."""
    values = {
        "batch_size_run": 8, "batch_size": 32, "buffer_size": 2000, "updates_per_step": 0.1, "hidden_dim": 32,
        "lr": 0.005, "standardise_rewards": False, "target_update_interval_or_tau": 20,
        "epsilon_anneal_time": t_max // 2,
        "test_interval": t_max, "test_nepisode": 1, "log_interval": t_max, "save_best": False, **more,
    }  # fmt: skip
    return train(folder, algorithm, env, args, t_max=t_max, seed=seed, backend="auto", **values)


@pytest.mark.parametrize("key", ["climbing", "penalty"])
def test_independent_learners_overgeneralise(key: str, tmp_path: Path) -> None:
    """Claus and Boutilier 1998: with partners who explore, the safe action looks better than the best one."""
    result = play(tmp_path, "iql", "matrix", {"key": key}, 4000).result["test_greedy_return_mean"]
    assert result == {"climbing": 5.0, "penalty": 2.0}[key]


@pytest.mark.parametrize(("algorithm", "best"), [("vdn", 7.0), ("qmix", 8.0)])
def test_the_two_step_game(algorithm: str, best: float, tmp_path: Path) -> None:
    """Rashid et al. 2018, section 5: no sum of the agents' values shows that the second game holds 8."""
    run = play(
        tmp_path, algorithm, "matrix", {"key": "two_step"}, 6000, epsilon_finish=1.0, td_lambda=None, gamma=1.0,
    )  # fmt: skip
    assert run.result["test_greedy_return_mean"] == best


@pytest.mark.parametrize(("algorithm", "best"), [("qtran", 10.0), ("vdn", 2.0)])
def test_qtran_represents_what_no_sum_does(algorithm: str, best: float, tmp_path: Path) -> None:
    """Under uniform play the sums of the penalty game say 2."""
    run = play(tmp_path, algorithm, "matrix", {"key": "penalty", "k": -10}, 3000, epsilon_finish=1.0)
    assert run.result["test_greedy_return_mean"] == best


@pytest.mark.parametrize("algorithm", ["vdn", pytest.param("qmix", marks=pytest.mark.slow)])
def test_the_maze_is_learned_in_seconds(algorithm: str, tmp_path: Path) -> None:
    run = play(
        tmp_path, algorithm, "maze", {}, 10_000, lr=0.001, gamma=0.95, hidden_dim=64, td_lambda=0.8,
        target_update_interval_or_tau=0.01, replay_steps=8, updates_per_step=0.2, epsilon_anneal_time=6000,
    )  # fmt: skip
    assert run.result["test_greedy_return_mean"] > 2.5


@pytest.mark.parametrize("algorithm", Q_LEARNING)
def test_no_illegal_action_is_ever_taken(algorithm: str) -> None:
    runner, _, _ = build(
        settings(
            algorithm, "toy_envs:Ragged", {"limit": 4}, **({"replay_sharing": "own"} if algorithm == "seql" else {})
        ),
        CPU,
    )
    try:
        for _ in range(20):
            batch, _ = runner.run()
            legal = batch.avail[:, :-1].gather(-1, batch.actions.unsqueeze(-1)).squeeze(-1)
            assert legal[batch.valid].all()
    finally:
        runner.close()
