"""A search: what is proposed, what is recorded, what is given up, and how it continues."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from oamarl.main import main
from oamarl.storage.records import metrics_line
from oamarl.tools.sweep.attempt import Order, Outcome
from oamarl.tools.sweep.drive import Drive, How
from oamarl.tools.sweep.file import load
from oamarl.tools.sweep.search import Searches
from oamarl.tools.sweep.view import State, View
from oamarl.utils.errors import UserError

pytest.importorskip("optuna", reason="optuna is not installed: pip install -e '.[optuna]'")

FILE = """
algorithms: [ippo]
environments:
  tiny: {config: maze, with: {env_args.map: ["S..", "..G"], env_args.agents: {red: 1, black: 1}}}
seeds: 1-2
with: {t_max: 300, log_interval: 50, test_nepisode: 0, batch_size_run: 4, env_args.time_limit: 8, hidden_dim: 8}
search:
  space:
    lr: {loguniform: [0.0001, 0.1]}
    epochs: {int: [1, 4]}
    activation: {choice: [tanh, relu]}
    env_args: {step_reward: {uniform: [-0.1, 0.0]}}
  trials: 12
"""


class Formula:
    """A pool whose runs end at once, with a return that is best at lr=0.01 (and a bit worse with seed 2)."""

    def __init__(self, fails: str = "") -> None:
        self.orders: list[Order] = []
        self.waiting: list[Order] = []
        self.fails = fails

    def room(self) -> int:
        return 2 - len(self.waiting)

    def start(self, order: Order) -> None:
        self.orders.append(order)
        self.waiting.append(order)

    def poll(self) -> list[tuple[str, Outcome]]:
        ended, self.waiting = self.waiting, []
        return [(order.name, self.outcome(order)) for order in ended]

    def outcome(self, order: Order) -> Outcome:
        if self.fails and self.fails in order.name:
            return Outcome("failed", "no", code=2)
        value = -abs(math.log10(order.config["lr"]) + 2) - 0.1 * order.config["seed"]
        points = [[300, value]]
        curve = {"config": order.config, "tenths": [value], "best_tenth": value, "wall_clock": 1.0,
                 "return_mean": points, "metrics": {}}  # fmt: skip
        return Outcome("done", curve=curve, code=0)

    def interrupt(self, name: str | None = None) -> None:
        pass

    def kill(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oamarl.tools.sweep.drive.TICK", 0.0)


def search(folder: Path, pool: Any, text: str = FILE) -> tuple[int, Searches, dict[str, Any]]:
    path = folder / "file.yaml"
    path.write_text(text)
    sweep = load(path)
    how = How("file", folder / "results", folder / "curves", 0, 1, {}, "return_mean")
    plan = Searches(sweep, how.folder)
    code = Drive(how, plan, pool, View("file", live=False), {}).run()
    return code, plan, json.loads((how.folder / "search-tiny-ippo.json").read_text())


def test_trials_and_the_winner_are_recorded(tmp_path: Path) -> None:
    pool = Formula()
    code, plan, record = search(tmp_path, pool)
    assert code == 0
    assert len(pool.orders) == 24
    assert len({order.name for order in pool.orders}) == 24
    assert [t["state"] for t in record["trials"]] == ["complete"] * 12
    for trial in record["trials"]:
        params = trial["params"]
        assert 0.0001 <= params["lr"] <= 0.1
        assert params["epochs"] in (1, 2, 3, 4)
        assert params["activation"] in ("tanh", "relu")
        assert -0.1 <= params["env_args.step_reward"] <= 0.0
        # the mean of both seeds
        assert trial["value"] == pytest.approx(-abs(math.log10(params["lr"]) + 2) - 0.15)
    assert record["best"]["value"] == max(t["value"] for t in record["trials"])
    # what was run is what was proposed
    assert pool.orders[0].config["lr"] == record["trials"][0]["params"]["lr"]
    assert pool.orders[0].config["env_args"]["step_reward"] == record["trials"][0]["params"]["env_args.step_reward"]
    said = "\n".join(plan.summary())
    assert record["best"]["commands"][0] in said
    assert f"lr={record['best']['params']['lr']}" in record["best"]["commands"][0]


def test_minimising_takes_the_smallest(tmp_path: Path) -> None:
    _, _, record = search(tmp_path, Formula(), FILE + "  direction: minimize\n")
    assert record["best"]["value"] == min(t["value"] for t in record["trials"])


def test_a_search_goes_on_with_its_record(tmp_path: Path) -> None:
    first = Formula()
    _, _, before = search(tmp_path, first, FILE.replace("trials: 12", "trials: 3"))
    # as if the sweep had been stopped in the middle of trial 2
    before["trials"][2] |= {"state": "running", "value": None, "values": {}}
    path = tmp_path / "results/sweeps/file/search-tiny-ippo.json"
    path.write_text(json.dumps(before))
    stopped = [o.name for o in first.orders if "trial002" in o.name]
    (tmp_path / "curves" / f"{stopped[1]}.json").unlink()
    again = Formula()
    code, _, after = search(tmp_path, again, FILE.replace("trials: 12", "trials: 5"))
    assert code == 0
    assert [o.name for o in again.orders] == [
        stopped[1], *(f"tiny-ippo-trial{n:03d}-seed{s}" for n in (3, 4) for s in (1, 2))
    ]  # fmt: skip
    assert [t["params"] for t in after["trials"][:3]] == [t["params"] for t in before["trials"]]
    assert [t["state"] for t in after["trials"]] == ["complete"] * 5
    # another space is another search
    with pytest.raises(UserError, match="holds trials of another space"):
        search(tmp_path, Formula(), FILE.replace("[1, 4]", "[1, 5]"))


def test_a_trial_that_fails_does_not_win(tmp_path: Path) -> None:
    code, _, record = search(tmp_path, Formula(fails="trial001-seed2"), FILE.replace("trials: 12", "trials: 3"))
    assert code == 1
    assert [t["state"] for t in record["trials"]] == ["complete", "failed", "complete"]


def test_what_falls_behind_is_given_up(tmp_path: Path) -> None:
    """The median pruner compares the first seed's stages with those of earlier trials."""
    text = FILE.replace("seeds: 1-2", "seeds: [1]") + "  pruner: median\n"
    path = tmp_path / "file.yaml"
    path.write_text(text)
    plan = Searches(load(path), tmp_path)
    (study,) = plan.studies

    def train(level: float) -> list[bool]:
        cell = plan.next()
        assert cell is not None
        state = State(cell, status="running", folder=tmp_path / cell.name)
        assert state.folder is not None
        state.folder.mkdir()
        asked = []
        for k in range(1, 11):
            with (state.folder / "metrics.jsonl").open("ab") as file:
                file.write(metrics_line({"return_mean": level + k}, 30 * k))
            state.step = 30 * k
            asked.append(plan.unpromising(state))
        state.status = "pruned" if any(asked) else "done"
        state.curve = None if any(asked) else {"return_mean": [[300, level + 10]], "metrics": {}}
        plan.ended(state)
        return asked

    for _ in range(4):
        assert not any(train(0.0))
    assert any(train(-5.0))
    assert not any(train(5.0))
    assert [t.state for t in study.trials] == ["complete"] * 4 + ["pruned", "complete"]
    assert study.best() is study.trials[5]


def test_the_space_is_checked_before_anything_runs(tmp_path: Path) -> None:
    for old, new, said in (
        ("epochs: {int: [1, 4]}", "epochs: {int: [0, 4]}", "epochs=0 is out of range"),
        ("epochs:", "epoch:", "Unknown key 'epoch'.*did you mean 'epochs'"),
        ("[tanh, relu]", "[tanh, rely]", "did you mean 'relu'"),
        ("lr: {log", "reuse_sigma: {log", "'reuse_sigma' is not read"),
    ):
        pool = Formula()
        with pytest.raises(UserError, match=said):
            search(tmp_path, pool, FILE.replace(old, new))
        assert pool.orders == []


def test_a_metric_that_is_not_logged_is_told(tmp_path: Path) -> None:
    text = FILE + "  metric: retrn_mean\n"
    with pytest.raises(UserError, match=r"do not log the metric 'retrn_mean'.*did you mean 'return_mean'"):
        search(tmp_path, Formula(), text)


@pytest.mark.slow
def test_a_search_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.yaml").write_text(FILE.replace("trials: 12", "trials: 2").replace("1-2", "[1]"))
    assert main(["sweep", "file.yaml", "--results", "results"]) == 0
    record = json.loads((tmp_path / "results/sweeps/file/search-tiny-ippo.json").read_text())
    assert [t["state"] for t in record["trials"]] == ["complete"] * 2
    assert record["best"]["commands"][0] in capsys.readouterr().out
