"""Runs with tables are runs: folders, curves, resume, and networks that learn in the same environments."""

from __future__ import annotations

from pathlib import Path

import pytest

from oamarl.main import main
from oamarl.storage import checkpoints
from oamarl.storage.records import read_metrics

from run_tools import assert_same, train, untimed

SHORT = ("seed=3", "t_max=1200", "log_interval=200", "test_interval=300", "test_nepisode=4", "checkpoint_interval=200",
         "save_model=True", "save_model_interval=500")  # fmt: skip


def run(results: Path, *more: str, config: str = "pr_tabular", env: str = "digital") -> Path:
    """Train; return the newest run's folder."""
    words = [f"--config={config}", f"--env-config={env}", "with", *SHORT, "env_args.n_agents=3"]
    assert main([*words, f"local_results_path={results}", *more]) == 0
    return max((results / "sacred" / config / env).glob("[0-9]*"), key=lambda p: int(p.name))


def test_a_run_leaves_what_every_run_leaves(tmp_path: Path) -> None:
    folder = run(tmp_path)
    for name in ("config.json", "run.json", "info.json", "metrics.jsonl", "run.log", "cout.txt"):
        assert (folder / name).is_file(), name
    assert list((folder / "checkpoints").iterdir())
    assert list((folder / "best").iterdir())
    assert list((folder / "models").iterdir())
    names = {name for point in read_metrics(folder) for name in point["metrics"]}
    assert {"total_return_mean", "test_total_return_mean", "test_greedy_total_return_mean", "policy_mse", "q_error",
            "team_regret", "episode", "updates", "wall_clock"} <= names  # fmt: skip
    assert main(["runs", "list", str(tmp_path)]) == 0


@pytest.mark.parametrize("env", ["digital", "blocker"])
def test_resumed_is_uninterrupted(tmp_path: Path, env: str) -> None:
    whole = run(tmp_path / "whole", env=env)
    part = sorted((whole / "models").iterdir())[0]
    again = run(tmp_path / "again", f"checkpoint_path={part}", env=env)
    assert untimed(read_metrics(again)) == untimed(read_metrics(whole))
    ends = [checkpoints.load(max((folder / "checkpoints").iterdir())) for folder in (whole, again)]
    for name in ("mac", "learner", "runner"):
        assert_same(ends[0][name], ends[1][name])


def test_weights_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run(tmp_path / "first")
    run(tmp_path / "second", f"init_from={first}")
    words = ["--config=pr_tabular", "--env-config=digital", "with", "env_args.n_agents=4", f"init_from={first}"]
    assert main([*words, f"local_results_path={tmp_path}"]) == 2
    assert "policies of another shape or kind" in capsys.readouterr().err


def test_networks_are_evaluated_and_tables_are_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run(tmp_path)
    capsys.readouterr()
    assert main(["evaluate", str(folder)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "learned tables" in said
    words = ["--config=pr_tabular", "--env-config=digital", "with", "evaluate=True", f"checkpoint_path={folder}"]
    assert main(words) == 2
    assert "'evaluate' is not read by 'pr_tabular'" in capsys.readouterr().err


@pytest.mark.parametrize("env", ["digital", "navigation", "blocker", "landmarks"])
def test_networks_train_there_too(tmp_path: Path, env: str) -> None:
    limit = {"time_limit": 10}
    trained = train(tmp_path, "mappo", env, limit, t_max=40, common_reward=env in ("blocker", "landmarks"), gamma=0.9)
    assert trained.result["t_env"] >= 40
