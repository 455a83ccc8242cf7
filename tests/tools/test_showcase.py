"""The showcase: its numbers by hand, its routes with hand-made policies, its picture for every kind of run."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oamarl.envs.maze.maze import Maze
from oamarl.storage.log import RunLog
from oamarl.tools.plot.reuse import moments
from oamarl.tools.showcase import command as showcase
from oamarl.tools.showcase.picture import draw
from oamarl.utils.errors import UserError


def make_run(folder: Path, *, reuse: bool = True, common: bool = True, points: int = 20, **config: Any) -> Path:
    """A finished run with returns 0, 1, 2, ... at steps 100, 200, ..."""
    folder.mkdir(parents=True)
    values = {"name": "oappo", "env": "maze", "env_args": {"map_name": "black_red"}, "seed": 3, "common_reward": common}
    (folder / "config.json").write_text(json.dumps(values | config))
    (folder / "run.json").write_text(json.dumps({"status": "COMPLETED"}))
    (folder / "info.json").write_text(json.dumps({"command_line": "python src/main.py --config=oappo"}))
    log = RunLog(folder)
    name = "return_mean" if common else "total_return_mean"
    for k in range(points):
        t = 100 * (k + 1)
        log.scalars({name: float(k), "updates": k + 1, "wall_clock": t / 50}, t)
        if k % 5 == 4:
            log.scalars({f"test_{name}": 1.3}, t)
        if reuse:
            log.arrays("reuse", t, M=np.eye(4) * 0.7 + 0.3 / 4, D=np.zeros((4, 4)))
    log.close()
    return folder


class FixedPlan:
    """A team whose agents follow given actions, one list an agent."""

    def __init__(self, maze: Maze, plans: list[list[int]]) -> None:
        self.info, self.plans, self.t = maze.info, plans, 0

    def reset(self, n_slots: int = 1) -> None:
        self.t = 0

    def act(self, obs: np.ndarray, avail: np.ndarray) -> np.ndarray:
        n = self.info.n_agents
        assert obs.shape == (1, n, self.info.obs_size)
        actions = [int(np.flatnonzero(avail[0, i])[-1]) for i in range(n)]
        for i, plan in enumerate(self.plans):
            if self.t < len(plan) and avail[0, i, plan[self.t]]:
                actions[i] = plan[self.t]
        self.t += 1
        return np.array([actions])


def plan_along(route: tuple[int, ...], width: int) -> list[int]:
    """Actions (up, down, left, right) that walk a route."""
    moves = {-width: 0, width: 1, -1: 2, 1: 3}
    return [moves[b - a] for a, b in pairwise(route)]


def test_rollout_walks_the_optimal_routes() -> None:
    maze = Maze(1)
    best, width = maze.optimum(), maze.grid.shape[1]
    team = FixedPlan(maze, [plan_along(route, width) for route in best.routes])
    for _ in range(2):  # from the start again
        positions = showcase.rollout(team, maze)
        assert positions.shape == (9, 4, 2)
        for i, route in enumerate(best.routes):
            assert (positions[:, i, 0] * width + positions[:, i, 1]).tolist() == list(route)


def test_rollout_of_a_team_that_stays_ends_at_the_limit() -> None:
    maze = Maze(1, time_limit=7)
    positions = showcase.rollout(FixedPlan(maze, []), maze)
    assert positions.shape == (8, 4, 2)
    assert (positions == positions[0]).all()


def test_tenths_by_hand() -> None:
    steps = np.arange(1, 21) * 100  # two points in each tenth
    assert showcase.tenths(steps, np.arange(20.0)) == [0.5 + 2 * i for i in range(10)]
    assert showcase.tenths(np.array([950, 1000]), np.array([3.0, 5.0])) == [4.0]
    # 900 closes the ninth tenth, 901 opens the last
    assert showcase.tenths(np.array([900, 901, 1000]), np.array([1.0, 2.0, 4.0])) == [1.0, 3.0]
    assert showcase.tenths(np.array([0]), np.array([2.0])) == [2.0]


def test_table_by_hand(tmp_path: Path) -> None:
    story = showcase.read_story(make_run(tmp_path / "1"))
    table = dict(showcase.rows(story))
    assert story.optimum == pytest.approx(2.6)
    assert table["algorithm"] == "oappo"
    assert table["environment"] == "maze (black_red)"
    assert table["seed"] == "3"
    assert table["status"] == "COMPLETED"
    assert table["environment steps"] == "2,000"
    assert table["updates"] == "20"
    assert table["wall-clock"] == "0:40"
    assert table["steps a second"] == "50"
    assert table["training return, sampled actions, last 10 %"] == "18.500  (711.5% of the optimum)"
    assert table["final test return, greedy (argmax) actions"] == "1.300  (50.0% of the optimum)"
    assert not any("sampled" in name and "test" in name for name in table), "a run of before has greedy tests alone"
    assert table["optimum"] == "2.600"


def test_optimum_is_counted_as_the_curve_is(tmp_path: Path) -> None:
    mean = showcase.read_story(make_run(tmp_path / "1", reward_scalarisation="mean"))
    assert mean.optimum == pytest.approx(2.6 / 4)
    individual = showcase.read_story(make_run(tmp_path / "2", common=False, reward_scalarisation="mean"))
    assert individual.optimum == pytest.approx(2.6)
    assert individual.returns[-1] == 19.0
    game = {"env": "matrix", "env_args": {"key": "climbing"}, "reward_scalarisation": "mean"}
    assert showcase.read_story(make_run(tmp_path / "3", **game)).optimum == pytest.approx(11.0)
    other = make_run(tmp_path / "4", env="gymma", env_args={"key": "lbforaging:Foraging-8x8-2p-3f-v3"})
    assert showcase.read_story(other).optimum is None


def test_a_run_that_has_only_begun(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has logged no returns yet"):
        showcase.read_story(make_run(tmp_path / "1", points=0))
    story = showcase.read_story(make_run(tmp_path / "2", points=1))
    table = dict(showcase.rows(story))
    assert not any(name.startswith("final test return") for name in table)
    draw(story, None, tmp_path / "2" / "x.png")


def test_finding_runs(tmp_path: Path) -> None:
    for i, name in enumerate(["oappo/black_red/1", "oappo/black_red/2", "happo/black_red/1"]):
        folder = make_run(tmp_path / "sacred" / name, points=1)
        os.utime(folder / "config.json", (1000 + (i * 2) % 3, 1000 + (i * 2) % 3))
    assert showcase.find_run("latest", tmp_path) == tmp_path / "sacred/oappo/black_red/2"
    assert showcase.find_run("happo/black_red/1", tmp_path) == tmp_path / "sacred/happo/black_red/1"
    assert showcase.find_run(str(folder), tmp_path / "elsewhere") == folder
    with pytest.raises(UserError, match="did you mean 'happo/black_red/1'"):
        showcase.find_run("hapo/black_red/1", tmp_path)
    with pytest.raises(UserError, match="There is no run in"):
        showcase.find_run("latest", tmp_path / "empty")


def test_moments() -> None:
    assert moments(1) == [0]
    assert moments(3) == [0, 1, 2]
    assert moments(9) == [0, 2, 4, 6, 8]
    assert moments(1000)[0] == 0
    assert moments(1000)[-1] == 999


def size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG, from its header."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def test_pictures_of_every_kind_of_run(tmp_path: Path) -> None:
    maze = Maze(1)
    stay = showcase.rollout(FixedPlan(maze, []), maze)
    walk = showcase.rollout(FixedPlan(maze, [plan_along(r, maze.grid.shape[1]) for r in maze.optimum().routes]), maze)
    full = showcase.read_story(make_run(tmp_path / "1"))
    plain = showcase.read_story(make_run(tmp_path / "2", reuse=False))
    for i, (story, routes) in enumerate([(full, stay), (full, walk), (full, None), (plain, walk), (plain, None)]):
        path = draw(story, routes, tmp_path / f"{i}.png")
        assert size(path) == ((1800, 840) if routes is not None else (1125, 840))
    assert (tmp_path / "0.png").read_bytes() != (tmp_path / "1.png").read_bytes()
    with pytest.raises(UserError, match="Cannot write the picture"):
        draw(plain, None, tmp_path / "0.png" / "x.png")


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(tmp_path / "1")  # no checkpoint: the routes are left out, in one sentence
    assert showcase.main([str(folder)]) == 0
    out, err = capsys.readouterr()
    assert f"Picture: {folder / 'showcase.png'}" in out
    assert "Command: python src/main.py --config=oappo" in out
    assert "No routes are drawn: There is no checkpoint" in err
    assert (folder / "showcase.png").is_file()
    for wrong in (["--x"], ["a", "b"]):
        with pytest.raises(UserError, match="takes one run's folder or `latest`"):
            showcase.main(wrong)
