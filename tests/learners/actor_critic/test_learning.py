"""Actor-critics learn what they can learn, in seconds: matrix games and a corridor of the maze."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from oamarl.components.pieces import one_episode_a_row
from oamarl.training.building import build

from run_tools import CPU, Trained, settings, train


def slow_but(names: tuple[str, ...], quick: str) -> list[Any]:
    """The names as parameters, all but some marked slow."""
    return [pytest.param(n, marks=[] if n in quick.split() else [pytest.mark.slow]) for n in names]


#: an entropy weight that falls to nothing
FALLING: dict[str, Any] = {"entropy_schedule": "linear", "entropy_coef_final": 0.0}
CORRIDOR: dict[str, Any] = {"map": ["######", "#S..G#", "#.RB.#", "######"], "time_limit": 12}


def play(folder: Path, config: str, args: dict[str, Any], t_max: int, **more: Any) -> Trained:
    """Train in a matrix game of one round."""
    given = {"lr": 0.003, "use_rnn": False, "standardise_rewards": False, "log_interval": 3200, **more}
    return train(
        folder, config, "matrix", args, backend="auto", t_max=t_max, batch_size_run=64, hidden_dim=32, seed=1,
        test_interval=10**6, test_nepisode=1, **given,
    )  # fmt: skip


@pytest.mark.parametrize("config", slow_but(("pac_ns", "pac", "pac_dcg_ns"), "pac_ns"))
def test_pac_finds_the_best_joint_action_of_climbing(config: str, tmp_path: Path) -> None:
    """11 beside two cells of -30, where agents that expect the others' average action settle on 5, 6 or 7."""
    run = play(tmp_path, config, {"key": "climbing"}, 12_800, lr=0.02, entropy_coef=20.0, entropy_end_ratio=0.6)
    assert run.result["test_greedy_return_mean"] == 11.0


@pytest.mark.parametrize("config", slow_but(("coma", "coma_ns", "maa2c", "maa2c_ns", "ia2c_shared"), "maa2c_ns"))
def test_climbing_ends_away_from_the_cliffs(config: str, tmp_path: Path) -> None:
    run = play(tmp_path, config, {"key": "climbing"}, 9600, target_update_interval_or_tau=1.0)
    assert run.result["test_greedy_return_mean"] in (5.0, 6.0, 7.0, 11.0)


@pytest.mark.parametrize("config", slow_but(("coma", "coma_ns", "maa2c", "maa2c_ns", "ia2c_shared"), "coma_ns"))
def test_penalty_without_penalty_reaches_the_joint_optimum(config: str, tmp_path: Path) -> None:
    """k = 0: 10 for (0, 0) and (2, 2), 2 for (1, 1), else 0."""
    more = {"target_update_interval_or_tau": 1.0, "entropy_coef": 0.5, **FALLING}
    run = play(tmp_path, config, {"key": "penalty", "k": 0}, 12_800, **more)
    assert run.result["test_greedy_return_mean"] == 10.0


@pytest.mark.parametrize(
    ("config", "args", "t_max", "more"),
    [
        ("maa2c", CORRIDOR, 24_000, {}),
        ("coma", CORRIDOR, 24_000, {"q_nstep": 5, "entropy_coef": 0.1, **FALLING}),
        ("pac_ns", {**CORRIDOR, "agents": {"red": 1, "black": 1, "blue": 0}}, 16_000,
         {"entropy_coef": 0.05, "entropy_coef_final": 0.002}),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)  # fmt: skip
def test_a_corridor_of_the_maze(
    config: str, args: dict[str, Any], t_max: int, more: dict[str, Any], tmp_path: Path
) -> None:
    """Segments of eight steps of episodes of up to twelve."""
    run = train(
        tmp_path, config, "maze", args, backend="auto", t_max=t_max, batch_size_run=16, hidden_dim=32, lr=0.005, seed=1,
        runner="rollout", rollout_length=8, target_update_interval_or_tau=0.05, use_rnn=False, log_interval=8000,
        test_interval=10**6, test_nepisode=4, **more,
    )  # fmt: skip
    assert run.result["test_greedy_arrived_mean"] == 1.0


@pytest.mark.parametrize("config", ["coma", "coma_ns", "pac", "pac_dcg_ns"])
@pytest.mark.parametrize("use_rnn", [False, True], ids=["ff", "gru"])
def test_segments_with_episodes_inside_them(config: str, use_rnn: bool) -> None:
    """Policies are evaluated from the memory that they had: their probabilities are those of acting."""
    asked = settings(
        config, "toy_envs:MixedLength", {"limit": 6}, runner="rollout", rollout_length=5, use_rnn=use_rnn,
        obs_last_action=True, lr=0.01,
    )  # fmt: skip
    runner, mac, learner = build(asked, CPU)
    try:
        inside = 0
        for _ in range(4):
            batch, _ = runner.run()
            inside += len(batch.final_index)
            samples, targets = learner.samples(one_episode_a_row(batch))
            with torch.no_grad():
                policy, at, _ = mac.policies(samples, samples.entries)
            valid = samples.valid[at]
            found = policy.log_prob(samples.actions[at])[valid]
            torch.testing.assert_close(found, samples.log_prob[at][valid], rtol=1e-4, atol=1e-5)
            assert torch.isfinite(targets.returns).all()
            assert torch.isfinite(targets.advantage).all()
            learner.train(batch, runner.t_env)
        assert inside > 0
    finally:
        runner.close()
