"""Sweep files, the loop that runs them, and what a finished run leaves."""

from __future__ import annotations

import io
import json
import shlex
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from oamarl.main import main
from oamarl.parts import resolve
from oamarl.settings import learned, results_folder
from oamarl.storage import curve_files
from oamarl.tools.sweep import command as command
from oamarl.tools.sweep.attempt import Attempt, Order, Outcome
from oamarl.tools.sweep.drive import Cells, Drive, How, refuse_other
from oamarl.tools.sweep.file import SHIPPED, Cell, _curves, load
from oamarl.tools.sweep.pools import Local
from oamarl.tools.sweep.ready import refuse_missing
from oamarl.tools.sweep.view import State, View, summary
from oamarl.utils.errors import UserError
from oamarl.utils.ray_cluster import reach
from oamarl.utils.schema.command_line import parse

TWO = "algorithms: [ippo, oappo]\nenvironments: [maze]\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "file.yaml"
    path.write_text(text)
    return path


# -- the file ------------------------------------------------------------------------------------------------------


def test_cells_are_the_product(tmp_path: Path) -> None:
    text = """
algorithms: {ippo: , quick: {config: oappo, with: {lr: 0.002, epochs: 3}}}
environments:
  maze:
  short: {config: maze, with: {env_args: {time_limit: 20}, lr: 0.5}}
seeds: 1-2, 7
with: {t_max: 1000, lr: 0.1}
overrides: {gamma: [0.9, 0.99], entropy_coef: [0]}
"""
    cells = load(write(tmp_path, text)).cells
    assert len(cells) == 2 * 2 * 2 * 3
    assert len({cell.name for cell in cells}) == 24
    named = {cell.name: cell for cell in cells}
    # the narrower, the stronger: the algorithm's own lr before the environment's before the file's
    assert named["maze-ippo-gamma=0.9,entropy_coef=0-seed7"].config["lr"] == 0.1
    assert named["short-ippo-gamma=0.9,entropy_coef=0-seed7"].config["lr"] == 0.5
    quick = named["short-quick-gamma=0.99,entropy_coef=0-seed2"]
    assert quick.words == (
        *("--config=oappo", "--env-config=maze", "with", "seed=2", "t_max=1000", "lr=0.002"),
        *("env_args.time_limit=20", "epochs=3", "gamma=0.99", "entropy_coef=0"),
    )
    assert quick.config["env_args"]["time_limit"] == 20
    assert quick.config["seed"] == 2
    assert quick.t_max == 1000
    assert quick.parent == "sacred/oappo/black_red"
    assert not {"label", "log_interval", "backend", "local_results_path"} & set(quick.config)


def test_blocks_inherit(tmp_path: Path) -> None:
    text = (
        "environments: [maze]\nwith: {t_max: 500, gamma: 0.9}\n"
        "runs:\n- {algorithms: ippo, seeds: [3]}\n- {algorithms: [mappo], seeds: 1-2, with: {gamma: 0.8}}\n"
    )
    cells = load(write(tmp_path, text)).cells
    assert [(c.name, c.config["gamma"], c.config["t_max"]) for c in cells] == [
        ("maze-ippo-seed3", 0.9, 500), ("maze-mappo-seed1", 0.8, 500), ("maze-mappo-seed2", 0.8, 500)
    ]  # fmt: skip


def test_values_arrive_as_they_are_written(tmp_path: Path) -> None:
    text = TWO.replace("ippo, ", "") + (
        "seeds: [1]\nwith:\n  env_args.map: ['S..', '..G']\n  env_args.agents: {red: 1, black: 1}\n"
        "  reuse_scheme: matrix\n  reuse_matrix: [[0, 1], [0.5, 0]]\n  q_nstep: null\n  lr: 1e-3\n"
    )
    (cell,) = load(write(tmp_path, text)).cells
    assert cell.config["env_args"]["map"] == ["S..", "..G"]
    assert cell.config["env_args"]["agents"] == {"red": 1, "black": 1}
    assert cell.config["reuse_matrix"] == [[0.0, 1.0], [0.5, 0.0]]
    assert cell.config["q_nstep"] is None
    assert cell.config["lr"] == 0.001


def test_text_arrives_as_it_is_written_and_is_typed_so(tmp_path: Path) -> None:
    text = TWO.replace("ippo, ", "") + (
        "seeds: [1]\nwith: {wandb_team: '007', wandb_project: './exp #2', name: '&a', env_args.map_name: black_red}\n"
    )
    (cell,) = load(write(tmp_path, text)).cells
    assert cell.words[3:] == (
        *("seed=1", "wandb_team='007'", "wandb_project=./exp #2", "name=&a"),
        "env_args.map_name=black_red",
    )
    request = parse(shlex.split(cell.command)[1:])[0]
    assert [request.overrides[k] for k in ("wandb_team", "wandb_project", "name")] == ["007", "./exp #2", "&a"]
    assert json.loads(json.dumps(learned(resolve(request).values))) == cell.config


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TWO + "seed: 1-2", "unknown key 'seed'.*did you mean 'seeds'"),
        (TWO + "seeds: [1, 2, 1]", "seed 1 is listed twice"),
        (TWO + "seeds: 1-3, 2", "seed 2 is listed twice"),
        (TWO + "seeds: 5", "1-5 that many"),
        (TWO + "seeds: 3-1", "'3-1' in seeds"),
        (TWO + "seeds: [-1]", "'-1' in seeds"),
        (TWO + "seeds: [true]", "'True' in seeds"),
        (TWO, "seeds=None"),
        ("environments: [maze]\nseeds: [1]", "no algorithms are given"),
        ("algorithms: [oapo]\nenvironments: [maze]\nseeds: [1]", "Unknown algorithm 'oapo'.*did you mean 'oappo'"),
        (TWO + "seeds: [1]\nwith: {lrr: 1}", r"Unknown key 'lrr' \(.*file.yaml\).*did you mean 'lr'"),
        (TWO + "seeds: [1]\nwith: {reuse_sigma: 1}", "maze-ippo.*'reuse_sigma' is not read.*only for algorithms"),
        (TWO + "seeds: [1]\nwith: {seed: 3}", "'seed' in `with` is set by the sweep"),
        (TWO + "seeds: [1]\nwith: {lr: 1, lr: 2}", "line 4: 'lr' is given twice, in line 4 and in line 4"),
        (TWO + "seeds: [1]\nwith: {a.b: 1, a: {b: 2}}", "'a.b' in `with` is given twice"),
        (TWO + "seeds: [1]\nwith: {a: 1, a.b: 2}", "'a.b' in `with` and 'a' contradict"),
        (TWO + "seeds: [1]\noverrides: {a.b: [1], a: {b: [2]}}", "'a.b' in `overrides` is given twice"),
        (TWO + "seeds: [1]\nwith: {wandb_team: 007}", "wandb_team=7 has the wrong type.*stands in quotes, such as '7'"),
        (TWO + f"seeds: [1]\noverrides: {{{', '.join(f'k{i}: [1, 2]' for i in range(30))}}}", "1,073,741,824 combin"),
        (TWO + "seeds: 1-9999", "19,998 runs are too many: at most 10,000"),
        (TWO + "seeds: [1]\noverrides: {lr: [0.1], a: {lr: 0.2}}", "mixes labels and lists"),
        (TWO + "seeds: [1]\noverrides: {a: {lr: 0.1}, b: {lr: 0.1}}", "are the same run under two names"),
        (TWO + "seeds: [1]\noverrides: {a: {lr: 0.1}, b: {lr: 0.1, log_interval: 7}}", "are the same run"),
        ("environments: [maze]\nalgorithms: [ippo, ippo]\nseeds: [1]", "maze-ippo-seed1 is there twice"),
        (TWO + "seeds: [1]\noverrides: {a/b: {lr: 0.1}}", "'a/b' of overrides cannot"),
        (TWO + "seeds: [1]\nretries: many", "retries='many'"),
        (TWO + "seeds: [1]\nname: ../x", "cannot name a sweep"),
        (TWO + "seeds: [1]\nname: ..", "cannot name a sweep"),
        (TWO + f"seeds: [1]\nname: {'x' * 201}", "at most 200 letters"),
        (TWO + f"seeds: [1]\noverrides: {{{'x' * 200}: {{lr: 0.1}}}}", "would have a name of 216 bytes"),
        (TWO + "seeds: [1]\noverrides: {lr: []}", "'lr' in `overrides` has no values"),
        (TWO + "seeds: [1]\nruns: 3", "`runs` must be a list"),
        (TWO + "seeds: [1]\nsearch: {space: {lr: {lguniform: [1, 2]}}}", "did you mean 'loguniform'"),
        (TWO + "seeds: [1]\nsearch: {space: {lr: {loguniform: [0, 2]}}}", "above 0"),
        (TWO + "seeds: [1]\nsearch: {space: {lr: {int: [0.5, 2]}}}", "two whole numbers"),
        (TWO + "seeds: [1]\nsearch: {trials: 3}", "a `space` is needed"),
        (TWO + "seeds: [1]\nsearch: {space: {seed: {choice: [1]}}}", "'seed' is set by the sweep itself"),
        (TWO + "seeds: [1]\nsearch: {space: {nosuch: {choice: [1]}}}", "Unknown key 'nosuch'"),
        (TWO + "seeds: [1]\nsearch: {space: {lr: {choice: [0.1, -1]}}}", "lr=-1.0 is out of range"),
        (TWO + "seeds: [1]\nsearch: {space: {lr: {choice: [1]}}, pruner: medan}", "did you mean 'median'"),
        (TWO + "seeds: [1]\nsearch: {space: {lr: {choice: [1]}}, trals: 3}", "did you mean 'trials'"),
    ],
)
def test_mistakes_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UserError, match=said):
        load(path)
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", "file.yaml"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [([], "one sweep file, not 0"), (["a", "b"], "not 2"), (["a", "--job=2"], "did you mean '--jobs'"),
     (["a", "--jobs=0"], "--jobs: '0' is not"), (["a", "--jobs"], "--jobs needs a value"),
     (["no.yaml"], "cannot be read")],
)  # fmt: skip
def test_mistakes_on_the_command_line(words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        command.main(words)


def test_the_command_line() -> None:
    assert command.parse(["f.yaml", "--ray", "--jobs", "3"]) == command.Asked(Path("f.yaml"), 3, True, None)
    assert command.parse(["--ray", "f.yaml"]) == command.Asked(Path("f.yaml"), None, True, None)
    assert command.parse(["--ray", "10.0.0.1:6379", "f.yaml"]).address == "10.0.0.1:6379"
    assert command.parse(["--ray=ray://head:1", "f.yaml"]).address == "ray://head:1"


def test_cores_are_shared_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oamarl.envs.vector.base.usable_cpus", lambda: 8)
    few = load(write(tmp_path, TWO + "seeds: [1]"))
    many = load(write(tmp_path, TWO + "seeds: 1-9"))
    threads = load(write(tmp_path, TWO + "seeds: 1-9\nwith: {torch_threads: 2}"))
    asked = command.Asked(Path("x"))
    assert command.shares(few, asked) == (2, 4)
    assert command.shares(many, asked) == (8, 1)
    assert command.shares(threads, asked) == (4, 1)
    assert command.shares(many, command.Asked(Path("x"), jobs=3)) == (3, 2)


def test_the_shipped_sweeps_are_in_order() -> None:
    root = Path(__file__).resolve().parents[2]
    seen: dict[str, Cell] = {}
    for path in sorted((root / "experiments").glob("*.yaml")):
        cells = load(path).cells
        assert cells
        for cell in cells:  # a curve file has the name of its run: equal names must mean equal runs
            assert seen.setdefault(cell.name, cell).config == cell.config, (path.name, cell.name)


# -- what is learned -----------------------------------------------------------------------------------------------


def test_learned_leaves_out_what_changes_no_number(tmp_path: Path) -> None:
    plain, other = (
        load(write(tmp_path, TWO.replace(", oappo", "") + f"seeds: [1]\nwith: {{{with_}}}")).cells[0]
        for with_ in ("t_max: 1000", "t_max: 1000, log_interval: 5, workers: 3, test_nepisode: 0, save_model: True")
    )
    assert plain.config == other.config
    assert learned({"lr": 1, "standardise_obs": False}) == learned({"lr": 1})
    assert learned({"lr": 1, "standardise_obs": True}) != learned({"lr": 1})
    assert learned({"t_max": 1}) != learned({"t_max": 2})


# -- curve files ---------------------------------------------------------------------------------------------------


def test_thinned_keeps_means_and_ends() -> None:
    steps, values = np.arange(1, 121) * 10, np.arange(120.0)
    points = curve_files.thinned(steps, values)
    assert len(points) == 60
    assert points[0] == [20, 0.5]
    assert points[-1] == [1200, 118.5]
    assert curve_files.thinned(steps, values, last=True)[-1] == [1200, 119.0]
    assert curve_files.thinned(steps[:3], values[:3]) == [[10, 0.0], [20, 1.0], [30, 2.0]]


def test_tenths_and_final() -> None:
    assert curve_files.tenths(np.arange(20.0)) == [0.5 + 2 * i for i in range(10)]
    assert curve_files.tenths(np.array([1.0, 3.0])) == [1.0, 3.0]
    assert curve_files.best_tenth(np.array([0.0, 5.0, 1.0])) == 5.0
    curves = {"return_mean": [[100, 1.0], [950, 2.0], [1000, 4.0]], "metrics": {"x": [[1000, 7.0]]}}
    assert curve_files.final(curves, "return_mean") == 3.0
    assert curve_files.final(curves, "x") == 7.0
    assert curve_files.final(curves, "y") is None


# -- where curves are ----------------------------------------------------------------------------------------------

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


def test_curves_of_a_users_file_are_below_its_results(tmp_path: Path) -> None:
    text = TWO + "seeds: 1-1\n"
    path = write(tmp_path, text)
    assert load(path, tmp_path / "r").curves == tmp_path / "r" / "curves"
    assert load(path).curves == Path(results_folder(None)) / "curves"
    assert load(write(tmp_path, text + "curves: here\n"), tmp_path / "r").curves == Path.cwd() / "here"


def test_only_shipped_experiments_keep_their_curves_with_the_code(tmp_path: Path) -> None:
    """Not a copy of one in another folder, and not another file in theirs."""
    assert sorted(SHIPPED) == sorted(path.stem for path in EXPERIMENTS.glob("*.yaml"))
    data = EXPERIMENTS.parent / "docs" / "results" / "data"
    for name in SHIPPED:
        path = EXPERIMENTS / f"{name}.yaml"
        assert load(path, tmp_path).curves == data
        copy = tmp_path / path.name
        copy.write_text(path.read_text())
        assert load(copy, tmp_path).curves == tmp_path / "curves"
    assert _curves(None, EXPERIMENTS / "mine.yaml", tmp_path) == tmp_path / "curves"


@pytest.mark.parametrize(
    ("name", "done"),
    [("maze-black-red", 220), ("smax-3m", 15), ("smax-3s5z_vs_3s6z", 10)],
)
def test_shipped_experiments_are_done(
    name: str, done: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", str(EXPERIMENTS / f"{name}.yaml"), "--results", str(tmp_path), "--dry-run"]) == 0
    assert f"{done} runs, {done} done, 0 to run" in capsys.readouterr().out


# -- the loop, on a pool that only pretends ------------------------------------------------------------------------

CURVE = {"tenths": [1.0], "best_tenth": 1.0, "wall_clock": 2.0, "return_mean": [[10, 1.0]], "metrics": {}}


class Pretence:
    """A pool whose attempts end as told: cell -> outcomes, one for each attempt; then they are done."""

    def __init__(self, endings: dict[str, list[Outcome]], room: int = 2) -> None:
        self.endings, self.places, self.orders = endings, room, []  # type: ignore[var-annotated]
        self.waiting: list[Order] = []
        self.most = 0

    def room(self) -> int:
        return self.places - len(self.waiting)

    def start(self, order: Order) -> None:
        self.orders.append(order)
        self.waiting.append(order)
        self.most = max(self.most, len(self.waiting))

    def poll(self) -> list[tuple[str, Outcome]]:
        ended, self.waiting = self.waiting, []
        return [(order.name, self.outcome(order)) for order in ended]

    def outcome(self, order: Order) -> Outcome:
        told = self.endings.get(order.name, [])
        return told.pop(0) if told else Outcome("done", curve={**CURVE, "config": order.config}, code=0)

    def interrupt(self, name: str | None = None) -> None:
        self.endings = {order.name: [Outcome("interrupted", code=143)] for order in self.waiting}

    def kill(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def cells(tmp_path: Path) -> list[Cell]:
    return list(load(write(tmp_path, TWO + "seeds: 1-2")).cells)


def how(folder: Path, retries: int = 2) -> How:
    return How("file", folder / "results", folder / "curves", retries, 1, {})


def drive(folder: Path, cells: list[Cell], pool: Any, **kwargs: Any) -> tuple[int, Drive]:
    made = Drive(how(folder, **kwargs), Cells(list(cells)), pool, View("file", live=False), {})
    return made.run(), made


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oamarl.tools.sweep.drive.TICK", 0.0)


def test_everything_runs_once(tmp_path: Path, cells: list[Cell]) -> None:
    pool = Pretence({})
    code, made = drive(tmp_path, cells, pool)
    assert code == 0
    assert [order.name for order in pool.orders] == [cell.name for cell in cells]
    assert pool.most == 2
    assert all((tmp_path / "curves" / f"{cell.name}.json").is_file() for cell in cells)
    # a second sweep finds nothing to do
    again = Pretence({})
    assert drive(tmp_path, cells, again)[0] == 0
    assert again.orders == []
    record = json.loads((tmp_path / "results/sweeps/file/sweep.json").read_text())
    assert [run["status"] for run in record["runs"].values()] == ["done"] * 4
    told = summary(list(made.states.values()))
    assert len(told) == 4
    assert told[0] == "Mean return in training, sampled actions:"


def test_failures_are_tried_again_and_then_reported(
    tmp_path: Path, cells: list[Cell], capsys: pytest.CaptureFixture[str]
) -> None:
    crash, mistake = Outcome("failed", "ended by SIGSEGV", code=-11), Outcome("failed", "a sentence", code=2)
    a, b, c, d = (cell.name for cell in cells)
    pool = Pretence({a: [crash], b: [crash] * 3, c: [mistake], d: [Outcome("lost", "its node")] * 5})
    code, made = drive(tmp_path, cells, pool)
    assert code == 1
    assert [sum(o.name == n for o in pool.orders) for n in (a, b, c, d)] == [2, 3, 1, 6]
    assert {n: s.status for n, s in made.states.items()} == {a: "done", b: "failed", c: "failed", d: "done"}
    assert made.states[b].reason == "ended by SIGSEGV"
    said = capsys.readouterr().out
    assert f"{a}: failed: ended by SIGSEGV; it continues from its last checkpoint (retry 1 of 2)" in said
    assert f"{c}: failed: a sentence\n" in said


def test_a_machine_that_always_goes_away_is_given_up(tmp_path: Path, cells: list[Cell]) -> None:
    pool = Pretence({cells[0].name: [Outcome("lost", "its node")] * 100})
    assert drive(tmp_path, cells[:1], pool)[0] == 1
    assert len(pool.orders) == 20


def test_lost_machines_use_up_no_retries(tmp_path: Path, cells: list[Cell]) -> None:
    lost, crash = Outcome("lost", "its node"), Outcome("failed", "x", code=1)
    pool = Pretence({cells[0].name: [lost, lost, crash, lost]})
    assert drive(tmp_path, cells[:1], pool, retries=1)[0] == 0
    assert len(pool.orders) == 5


def test_a_checkpoint_that_does_not_fit_is_left_alone(tmp_path: Path, cells: list[Cell]) -> None:
    """A resumed attempt that ends with a sentence is tried again from the start, and without retries is not."""
    unfit = Outcome("failed", "does not fit", code=2, resumed=True)
    pool = Pretence({cells[0].name: [unfit]})
    assert drive(tmp_path, cells[:1], pool)[0] == 0
    assert [order.anew for order in pool.orders] == [False, True]


def test_an_interrupt_stops_and_the_next_sweep_goes_on(tmp_path: Path, cells: list[Cell]) -> None:
    pool = Pretence({})
    made = Drive(how(tmp_path), Cells(list(cells)), pool, View("file", live=False), {})
    start = pool.start

    def interrupted(order: Order) -> None:
        start(order)
        if order.name == cells[3].name:
            made.interrupts(2, None)

    pool.start = interrupted  # type: ignore[method-assign]
    pool.places = 1
    assert made.run() == 130
    assert [s.status for s in made.states.values()] == ["done", "done", "done", "stopped"]
    again = Pretence({})
    assert drive(tmp_path, cells, again)[0] == 0
    assert [order.name for order in again.orders] == [cells[3].name]


def test_curves_of_another_configuration_are_not_written_over(tmp_path: Path, cells: list[Cell]) -> None:
    drive(tmp_path, cells[:1], Pretence({}))
    other = load(write(tmp_path, TWO + "seeds: 1-2\nwith: {lr: 0.5}")).cells
    with pytest.raises(UserError, match=r"maze-ippo-seed1.json is of another configuration: lr=0.5 \(there 0.001\)"):
        refuse_other(how(tmp_path), list(other), replace=False)
    refuse_other(how(tmp_path), list(other), replace=True)
    pool = Pretence({})
    drive(tmp_path, list(other)[:1], pool)
    assert len(pool.orders) == 1


def test_a_damaged_curve_file_is_made_again(tmp_path: Path, cells: list[Cell]) -> None:
    drive(tmp_path, cells[:1], Pretence({}))
    path = tmp_path / "curves" / f"{cells[0].name}.json"
    path.write_text(path.read_text()[:-20])
    pool = Pretence({})
    drive(tmp_path, cells[:1], pool)
    assert len(pool.orders) == 1


def test_two_sweeps_of_one_name_do_not_run_at_once(tmp_path: Path) -> None:
    with (
        command.lock(tmp_path / "x"),
        pytest.raises(UserError, match="running already"),
        command.lock(tmp_path / "x"),
    ):
        pass
    with command.lock(tmp_path / "x"):
        pass


def test_gpus_are_dealt_out(tmp_path: Path, cells: list[Cell], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oamarl.tools.sweep.pools.Attempt", lambda order: order)
    seen = {}
    for share, expected in (
        (0.5, ["0", "0", "1", "1"]),
        (1.0, ["0", "1", "2", "3"]),
        (2.0, ["0,1", "2,3", "0,1", "2,3"]),
    ):
        pool = Local(4, ("0", "1", "2", "3"), share)
        for cell in cells:
            pool.start(how(tmp_path).order(cell))
        seen[share] = [order.env["CUDA_VISIBLE_DEVICES"] for _, order in pool.attempts.values()]  # type: ignore[attr-defined]
        assert seen[share] == expected


def test_a_cluster_that_is_not_there_is_one_sentence() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # taken, and not listening
        with pytest.raises(UserError, match=r"Ray cluster 127.0.0.1:.* cannot be reached"):
            reach(f"127.0.0.1:{nobody.getsockname()[1]}")
        with pytest.raises(UserError, match="cannot be reached"):
            reach("head:port")
    reach(None)
    reach("auto")


def test_a_log_tells_why_a_run_ended(tmp_path: Path, cells: list[Cell]) -> None:
    attempt = Attempt(how(tmp_path).order(cells[0]))
    log = Path(attempt.order.log)
    log.parent.mkdir(parents=True)
    log.write_text(
        "Run folder: x\nTraceback (most recent call last):\n  File 'y'\n    z()\nKeyError: 'a'\nlater words\n"
    )
    assert attempt._reason(1) == "KeyError: 'a'"
    log.write_text("Run folder: x\nlr=-1 is out of range.\n\n")
    assert attempt._reason(2) == "lr=-1 is out of range."
    assert attempt._reason(-9) == "ended by SIGKILL (out of memory?)"
    log.write_text("")
    assert attempt._reason(3) == "exit status 3"


def test_what_a_method_refuses_is_found_before_the_first_run(tmp_path: Path) -> None:
    text = """
environments: [maze]
algorithms:
  fine: {config: happo}
  refused: {config: oappo, with: {reuse_check: candidate}}
seeds: 1-2
"""
    cells = load(write(tmp_path, text)).cells
    with pytest.raises(UserError, match=r"^sweep.yaml, runs maze-refused: reuse_check=candidate drops sources"):
        refuse_missing(cells, "sweep.yaml")
    refuse_missing([cell for cell in cells if cell.group == "maze-fine"], "sweep.yaml")


@pytest.mark.parametrize(
    ("width", "columns"),
    [(100, ["run", "state", "steps", "return", "time"]), (60, ["run", "state", "return", "time"]),
     (40, ["run", "state", "return"])],
)  # fmt: skip
def test_the_table_fits_the_terminal(cells: list[Cell], width: int, columns: list[str]) -> None:
    view, console = View("file", live=False), Console(file=io.StringIO(), width=width, height=40)
    view._live = SimpleNamespace(console=console)
    states = [State(one, "done", step=1000, value=-1.25, attempts=[{"seconds": 60.0}]) for one in cells]
    console.print(view._table(states))
    title, head, *rows = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert title.startswith(f"file: {len(cells)} of {len(cells)} done")
    assert head.split() == columns
    assert all("done" in row and "-1.25" in row for row in rows)
    assert max(map(len, rows)) <= width
