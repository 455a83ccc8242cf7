"""Statistics by hand, runs of every kind read, and pictures whose numbers and looks are checked."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from oamarl.analysis import curves, reliable, select
from oamarl.analysis.runs import Run, find
from oamarl.main import main
from oamarl.settings import learned_in_full
from oamarl.tools.plot import scores
from oamarl.tools.plot.command import _score_name
from oamarl.utils.errors import UserError

from many_runs import damage, make_curve_file, make_epymarl_run, make_run


def column(*values: float) -> np.ndarray:
    return np.array(values, float)[:, None]


# -- statistics by hand ------------------------------------------------------------------------------------------


def test_aggregates_by_hand() -> None:
    tasks = [column(0, 1, 2, 9), column(10, 10, 10, 30)]
    assert reliable.mean(tasks)[0] == (3 + 15) / 2
    assert reliable.median([*tasks, column(100)])[0] == 15  # of the tasks' means 3, 15, 100
    # 0 1 | 2 9 10 10 | 10 30
    assert reliable.iqm(tasks)[0] == (2 + 9 + 10 + 10) / 4
    assert reliable.iqm([column(1, 2, 30)])[0] == 11  # a quarter of three is none
    assert reliable.iqm([column(0, 1, 2, 3, 100)])[0] == 2  # one at either end
    assert reliable.optimality_gap(9)(tasks)[0] == 9 - ((0 + 1 + 2 + 9) / 4 + 9) / 2
    assert reliable.mean(reliable.profile([column(0, 1, 2, 3)], np.array([-1.0, 1.0, 2.5, 3.0]))).tolist() == [
        1, 0.5, 0.25, 0,
    ]  # fmt: skip


def test_improvement_by_hand() -> None:
    # 3 > 1, 2 and ties with 3; 0 beats none: (2.5 + 0) / 6
    value, low, high = reliable.improvement([column(3, 0)], [column(1, 2, 3)])
    assert value == pytest.approx(2.5 / 6)
    assert low is not None and high is not None and low <= value <= high  # noqa: PT018
    # the mean over tasks of 1 and 0, whatever is drawn
    assert reliable.improvement([column(2, 2), column(0, 0)], [column(1), column(1)]) == (0.5, 0.5, 0.5)
    assert reliable.improvement([column(2)], [column(1)]) == (1.0, None, None)


def test_areas_at_equal_cost_end_with_the_first_run(tmp_path: Path) -> None:
    """20 samples a step: the short run ends after 500 steps."""
    short, long = (
        read(make_run(tmp_path, name, 1, lambda t: t / 100, points=points))
        for name, points in (("oappo", 5), ("happo", 10))
    )
    found = scores.equal_cost({"oappo": {"maze": short}, "happo": {"maze": long}}, "return_mean")
    assert {label: own["maze"].tolist() for label, own in found.items()} == {"oappo": [3.0], "happo": [3.0]}


@pytest.mark.parametrize(
    ("score", "said"), [("final", "last 10 %"), ("best", "best 10 %"), ("area", "mean over training")]
)
def test_a_score_is_called_what_it_is(score: str, said: str) -> None:
    options, selection = SimpleNamespace(metric="return_mean", score=score), SimpleNamespace(actions="")
    assert _score_name(options, selection).endswith(f"return, {said}")  # type: ignore[arg-type]


def test_differences_by_hand() -> None:
    # means 5.5 and 2 on one task, 1 and 2 on the other; runs of a label are alike: the bootstrap has one outcome
    found = reliable.difference([column(5.5, 5.5), column(1, 1)], [column(2, 2), column(2, 2)])
    assert (found.value, found.low, found.high) == (1.25, 1.25, 1.25)
    assert found.shows
    assert found.reversed() == reliable.Difference(-1.25, -1.25, -1.25, found.p)
    # three runs above three: 2 of the 20 ways to exchange labels are as far apart
    assert reliable.difference([column(4, 5, 6)], [column(1, 2, 3)]).p == pytest.approx(0.1, abs=0.01)
    # of both tasks together 2 of 400
    both = reliable.difference([column(4, 5, 6)] * 2, [column(1, 2, 3)] * 2).p
    assert both == pytest.approx(2 / 400, abs=0.003)
    same = reliable.difference([column(1, 2, 3)], [column(1, 2, 3)])
    assert same.p == 1
    assert not same.shows
    assert reliable.difference([column(2)], [column(1)]) == reliable.Difference(1.0)


def test_the_permutation_test_is_as_large_as_it_says() -> None:
    """Of samples of one distribution one in twenty is below 0.05."""
    rng = np.random.default_rng(3)
    found = [reliable.difference([rng.normal(size=(6, 1))], [rng.normal(size=(5, 1))], 10).p for _ in range(400)]
    assert np.mean([p is not None and p <= 0.05 for p in found]) == pytest.approx(0.05, abs=0.025)


def test_bootstrap_in_closed_form() -> None:
    # two runs 0 and 1: means 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4
    low, high = reliable.interval([column(0, 1)], reliable.mean) or (None, None)
    assert (low, high) == (0, 1)
    low, high = reliable.interval([column(0, 1)], reliable.mean, level=0.4) or (None, None)
    assert (low, high) == (0.5, 0.5)
    # drawn within tasks: what differs between tasks alone gives no interval
    low, high = reliable.interval([column(0, 0), column(10, 10)], reliable.mean) or (None, None)
    assert (low, high) == (5, 5)
    assert reliable.interval([column(1), column(2)], reliable.mean) is None
    # many runs: the normal distribution's interval
    x = np.random.default_rng(0).normal(size=(400, 1))
    bounds = np.ravel(reliable.interval([x], reliable.mean, 4000))
    half = 1.96 * x.std() / 20
    assert np.allclose(bounds, [x.mean() - half, x.mean() + half], atol=0.15 * half)


def test_the_bootstrap_does_not_depend_on_how_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(1).normal(size=(5, 7))
    whole = reliable.interval([x, x + 1], reliable.iqm, 500)
    monkeypatch.setattr(reliable, "_CHUNK", 1000)
    cut = reliable.interval([x, x + 1], reliable.iqm, 500)
    assert whole is not None and cut is not None  # noqa: PT018
    assert np.allclose(whole, cut, atol=0.35)  # other draws of the same distribution
    assert whole[0].shape == (7,)


def test_as_the_reference_implementation() -> None:
    metrics = pytest.importorskip("rliable.metrics", reason="rliable, or what it needs, cannot be imported here")
    rng = np.random.default_rng(2)
    a, b = rng.normal(0.5, 0.2, (7, 4)), rng.normal(0.6, 0.3, (7, 4))
    x, y = ([s[:, [i]] for i in range(4)] for s in (a, b))
    assert reliable.iqm(x)[0] == pytest.approx(metrics.aggregate_iqm(a))
    assert reliable.mean(x)[0] == pytest.approx(metrics.aggregate_mean(a))
    assert reliable.median(x)[0] == pytest.approx(metrics.aggregate_median(a))
    assert reliable.optimality_gap(1.0)(x)[0] == pytest.approx(metrics.aggregate_optimality_gap(a, 1.0))
    assert reliable.improvement(x, y)[0] == pytest.approx(metrics.probability_of_improvement(a, b))


def test_smoothing_keeps_lines_straight_and_ends_in_place() -> None:
    line = np.linspace(3, 5, 50)
    assert np.allclose(curves.smoothed(line, 0.2), line)
    spike = np.zeros(50)
    spike[25] = 10
    smooth = curves.smoothed(spike, 0.2)
    assert smooth.sum() == pytest.approx(10)
    assert smooth.max() == pytest.approx(10 / 11)


# -- runs of every kind ------------------------------------------------------------------------------------------


def read(*paths: Path) -> list[Run]:
    return find(map(str, paths), Path("nowhere"))[0]


def test_our_folder(tmp_path: Path) -> None:
    (run,) = read(make_run(tmp_path, "oappo", 3, lambda t: t / 100))
    assert (run.name, run.task, run.seed, run.status, run.steps) == ("oappo", "black_red", 3, "COMPLETED", 1000)
    assert run.command == "oamarl --config=oappo with seed=3"
    assert run.seconds == 20
    assert curves.final(run, "return_mean") == 10  # steps above 900
    assert curves.best(run, "return_mean") == 10
    # a line from 1 at step 100 to 10 at step 1000; until step 550, at 5.5
    assert curves.area(run, "return_mean") == pytest.approx(5.5)
    assert curves.area(run, "return_mean", until=550) == pytest.approx((1 + 5.5) / 2)
    assert curves.area(run, "return_mean", "samples", 11_000) == pytest.approx((1 + 5.5) / 2)
    for axis, end in (("steps", 1000), ("samples", 20000), ("updates", 10), ("time", 20)):
        x, y = curves.on_axis(run, "return_mean", axis) or ([], [])
        assert x[-1] == end
        assert np.allclose(x, np.arange(1, 11) * end / 10)
        assert np.allclose(y, np.arange(1, 11))


def test_epymarls_folder(tmp_path: Path) -> None:
    (run,) = read(make_epymarl_run(tmp_path, "mappo", 7))
    assert (run.name, run.task, run.seed) == ("mappo", "lbforaging:Foraging-8x8-2p-3f-v3", 7)
    assert run.curves["return_mean"][1].tolist() == [0.1, 0.2, 0.3]
    x, _ = curves.on_axis(run, "return_mean", "time") or ([], [])
    assert list(x) == [0, 60, 120]
    assert curves.on_axis(run, "return_mean", "samples") is None


def test_curve_files(tmp_path: Path) -> None:
    more = {"metrics": {"updates": [[500, 10.0], [1000, 40.0]], "test_return_mean": [[1000, 0.5]]}}
    path = make_curve_file(tmp_path, "oappo", 1, [[500, 1.0], [1000, 2.0]], **more)
    (run,) = read(path)
    assert (run.steps, run.seconds, run.status) == (1000, 20, "COMPLETED")
    assert [list(x) for x in curves.on_axis(run, "return_mean", "updates") or ()] == [[10, 40], [1, 2]]
    # the total alone: evenly from 0
    assert list((curves.on_axis(run, "return_mean", "samples") or [[]])[0]) == [2000, 4000]
    (tmp_path / "other.json").write_text('{"a": 1}')
    runs, troubles = find([str(tmp_path)], tmp_path)
    assert len(runs) == 1
    assert "other.json is no curve file" in troubles[0]
    with pytest.raises(UserError, match="no curve file"):
        read(tmp_path / "other.json")


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    make_run(tmp_path, "oappo", 1, float)
    with pytest.raises(UserError, match="did you mean 'oappo/black_red'"):
        find(["oappo/black_rad"], tmp_path)
    assert len(find(["oappo/black_red"], tmp_path)[0]) == 1
    assert len(find(["oappo/black_red", str(tmp_path)], tmp_path)[0]) == 1  # once, however it is named


def test_a_long_run_is_listed_from_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(tmp_path, "oappo", 1, float, points=200)
    monkeypatch.setattr("oamarl.analysis.reading._TAIL", 1000)
    (run,) = read(folder)
    assert run.newest[0] == 20000
    assert "curves" not in run.__dict__
    assert run.last("return_mean") == 20000


def test_a_line_ends_where_its_shortest_run_ends(tmp_path: Path) -> None:
    a, b = read(make_run(tmp_path, "x", 1, float, points=10), make_run(tmp_path, "x", 2, float, points=4))
    pieces = [curves.on_axis(run, "return_mean", "steps") for run in (a, b)]
    found = curves.line("x", "t", {"t": [p for p in pieces if p]}, reliable.mean)
    assert found is not None
    assert (found.x[0], found.x[-1], found.runs) == (100, 400, 2)
    assert np.allclose(found.centre, found.x)


@pytest.mark.parametrize(
    ("points", "kept", "left"),
    [
        (
            [[10, 1.0], [20, 1e308], [30, 2.0]],
            [10, 30],
            "1 point is left out: infinite, beyond 1e+38",
        ),
        ([[10, 1.0], [20, float("inf")], [30, float("-inf")]], [10], "2 points are left out"),
        ([[-5, 1.0], [20, 1.0], [2**62, 1.0]], [20], "2 points are left out"),
        ([[10, 1.0], [20, float("nan")], [30, 1e38]], [10, 30], ""),
    ],
)
def test_absurd_numbers_are_left_out_and_said(tmp_path: Path, points: Any, kept: list[int], left: str) -> None:
    path = make_curve_file(tmp_path, "oappo", 1, points, wall_clock=10**400)
    (run,), _ = find([str(path)], tmp_path)
    assert run.curves["return_mean"][0].tolist() == kept
    assert "wall_clock" not in run.totals
    assert [left in sentence and "(return_mean)" in sentence for sentence in run.troubles] == [True] * bool(left)
    assert main(["plot", str(path), "--out", str(tmp_path / "a.png")]) == 0
    assert main(["report", str(path), "--out", str(tmp_path / "a.html")]) == 0


def test_values_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    (run,) = read(make_run(tmp_path, "x", 1, lambda t: float("nan") if t == 1000 else float(t)))
    assert run.curves["return_mean"][0][-1] == 900
    assert curves.final(run, "return_mean") == 900


# -- picking -----------------------------------------------------------------------------------------------------


@pytest.fixture
def some(tmp_path: Path) -> list[Run]:
    folders = [make_run(tmp_path, "oappo", s, lambda t: t / 100, lr=lr, number=10 * k + s)
               for k, lr in enumerate((0.001, 0.0001)) for s in (1, 2)]  # fmt: skip
    folders.append(make_run(tmp_path, "happo", 1, float, status="FAILED", env_args={"key": "a:b", "n": 3}))
    return read(*folders)


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["lr<0.001"], 2), (["config.lr<=0.001"], 5), (["name=oappo", "seed=1"], 2), (["name!=oappo"], 1),
        (["status=FAILED"], 1), (["name=*appo"], 5), (["env_args.n>2"], 1), (["config.env_args.n=3"], 1),
        (["metrics.return_mean=1000"], 1), (["task=a:b"], 1), (["name<3"], 0), (["steps>=1000"], 5), (["lr==1e-4"], 2),
    ],
)  # fmt: skip
def test_conditions(some: list[Run], words: list[str], count: int) -> None:
    assert len(select.chosen(some, words)) == count


def test_text_that_is_written_like_a_number(tmp_path: Path) -> None:
    """As after `with`: where the run's value is text, what was typed is."""
    folders = [make_run(tmp_path, "oappo", s, float, number=s, label=label) for s, label in ((1, "007"), (2, "7"))]
    some = read(*folders)
    for word, seeds in (("label=007", [1]), ("label=7", [2]), ("label!=007", [2]), ("seed=1", [1])):
        assert [run.seed for run in select.chosen(some, [word])] == seeds


@pytest.mark.parametrize(
    ("word", "part"),
    [("lr", "such as"), ("<3", "such as"), ("nmae=x", "'name'"), ("metrics.retrun_mean>1", "return_mean")],
)
def test_conditions_that_make_no_sense(some: list[Run], word: str, part: str) -> None:
    with pytest.raises(UserError, match=part):
        select.chosen(some, [word])


def test_runs_that_repeat_another_one_count_once(tmp_path: Path) -> None:
    first = make_run(tmp_path, "oappo", 1, float, points=4, status="INTERRUPTED")
    info = {"resumed_from": str(first / "checkpoints" / "checkpoint_000000000300.pt")}
    second = make_run(tmp_path, "oappo", 1, float, number=2, info=info)
    short = make_run(tmp_path, "oappo", 7, float, number=7)
    info = {"resumed_from": str(short / "checkpoints" / "checkpoint_000000001000.pt")}
    longer = make_run(tmp_path, "oappo", 7, float, number=8, points=20, t_max=2000, info=info)
    other = make_run(tmp_path, "oappo", 1, float, number=3, gamma=0.9)
    later = make_run(tmp_path, "oappo", 1, float, number=4, t_max=2000)
    label = make_run(tmp_path, "oappo", 1, float, number=5, points=9, label="the same once more", log_interval=7)
    curve = make_curve_file(tmp_path / "data", "oappo", 1, [[500, 1.0], [1000, 2.0]])
    kept, dropped = select.once(read(first, second, short, longer, other, later, label, curve), learned_in_full)
    assert [run.path for run in kept] == [second, longer, other, later]
    assert {run.path for run in dropped} == {first, short, label, curve}


def test_a_key_that_came_later_tells_runs_apart(tmp_path: Path) -> None:
    """Runs without it have its first value, in which curve files leave it out."""
    plain = make_run(tmp_path, "oappo", 1, float)
    checked = make_run(tmp_path, "oappo", 1, float, number=2, reuse_check="candidate")
    clipped = make_run(tmp_path, "oappo", 1, float, number=3, factor_clip=2.0)
    said = make_run(tmp_path, "oappo", 1, float, number=4, reuse_check="before", factor_clip=None)
    kept, dropped = select.once(read(plain, checked, clipped, said), learned_in_full)
    assert [run.path for run in kept] == [checked, clipped, said]
    assert [run.path for run in dropped] == [plain]


def test_configurations_that_differ(some: list[Run]) -> None:
    parts = select.variants([run for run in some if run.name == "oappo"], learned_in_full)
    assert [[run.config["lr"] for run in part] for part in parts] == [[0.001, 0.001], [0.0001, 0.0001]]
    assert select.label(some[0], ["name", "lr"]) == "oappo, lr=0.001"


# -- the command -------------------------------------------------------------------------------------------------


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two methods on two tasks, three seeds each; oappo is better by 1 on black_red and worse by 1 on other."""
    for task, name, seed in itertools.product(("black_red", "other"), ("oappo", "happo"), (1, 2, 3)):
        better = 1.0 if (name == "oappo") == (task == "black_red") else 0.0
        make_run(tmp_path, name, seed, lambda t, b=better, s=seed: t / 1000 + b + s / 10, task=task,
                 reuse=name == "oappo")  # fmt: skip
    return tmp_path


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def plot(*words: Any) -> int:
    return main(["plot", *map(str, words)])


def test_curves_as_numbers(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = results / "c.csv"
    assert plot(results, "--out", out) == 0
    assert f"Wrote {out}" in capsys.readouterr().out
    rows = table(out)
    assert {(r["task"], r["label"], r["runs"]) for r in rows} == {
        (t, n, "3") for t in ("black_red", "other") for n in ("oappo", "happo")
    }
    last = [r for r in rows if (r["task"], r["label"]) == ("black_red", "oappo")][-1]
    assert float(last["steps"]) == 1000
    assert float(last["mean"]) == pytest.approx(1 + 1 + 0.2)
    assert float(last["low"]) == pytest.approx(2.1, abs=0.04)
    assert float(last["high"]) == pytest.approx(2.3, abs=0.04)


def test_pooled_curves_are_on_one_scale(results: Path) -> None:
    plot(results, "--pool", "--normalise", "0:2", "--iqm", "--out", results / "p.csv")
    rows = table(results / "p.csv")
    last = {r["label"]: float(r["iqm"]) for r in rows}
    # of the six runs, four remain: 1.1 1.2 1.3 2.1 2.2 2.3, without one at either end
    assert last == pytest.approx(dict.fromkeys(("oappo", "happo"), (1.2 + 1.3 + 2.1 + 2.2) / 4 / 2))
    assert {r["task"] for r in rows} == {"all tasks"}


def test_comparisons_as_numbers(results: Path) -> None:
    plot(results, "--kind", "improvement", "--filter", "task=black_red", "--out", results / "i.csv")
    (row,) = table(results / "i.csv")
    assert (row["label"], row["over"], row["probability"]) == ("oappo", "happo", "1.0")
    plot(results, "--kind", "aggregate", "--normalise", "none", "--target", "2", "--out", results / "a.csv")
    found = {(r["label"], r["statistic"]): float(r["value"]) for r in table(results / "a.csv")}
    assert found["oappo", "mean"] == pytest.approx((2.2 + 1.2) / 2)
    assert found["oappo", "IQM"] == pytest.approx((1.2 + 1.3 + 2.1 + 2.2) / 4)
    assert found["happo", "optimality gap to 2"] == pytest.approx(0.4)
    plot(results, "--kind", "profile", "--normalise", "none", "--out", results / "f.csv")
    shares = [float(r["share"]) for r in table(results / "f.csv") if r["label"] == "oappo"]
    assert shares[0] == 1
    assert shares[-1] == 0
    assert 0.5 in shares
    assert shares == sorted(shares, reverse=True)


def test_reuse_as_numbers(results: Path) -> None:
    plot(results, "--kind", "reuse", "--out", results / "r.csv", "--filter", "name=oappo", "task=other")
    rows = table(results / "r.csv")
    assert {int(r["step"]) for r in rows} == {100, 300, 500, 800, 1000}
    value = {(r["matrix"], r["step"], r["learner"], r["source"]): float(r["value"]) for r in rows}
    assert value["M", "100", "0", "0"] == pytest.approx(0.8)
    assert value["M", "100", "0", "1"] == pytest.approx(0.1)
    assert value["D", "1000", "2", "1"] == pytest.approx(0.5)


def test_the_best_configuration(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (1, 2, 3):
        make_run(results, "oappo", seed, lambda t: 9.0, number=10 + seed, lr=0.01)
    plot(results, "--filter", "task=black_red", "--out", results / "m.csv")
    assert "runs with different lr are combined" in capsys.readouterr().err
    plot(results, "--filter", "task=black_red", "--best", "--out", results / "b.csv")
    told = capsys.readouterr()
    assert "oappo on black_red: lr=0.01 (9, 3 runs) is the best of 2; lr=0.001" in told.out
    assert "taken together" not in told.err
    last = [r for r in table(results / "b.csv") if r["label"] == "oappo"][-1]
    assert (float(last["mean"]), last["runs"]) == (9, "3")
    plot(results, "--by", "name,lr", "--out", results / "by.csv")
    assert {r["label"] for r in table(results / "by.csv")} == {"oappo, lr=0.001", "oappo, lr=0.01", "happo, lr=0.001"}


def test_evaluations_are_no_training(results: Path) -> None:
    make_run(results, "oappo", 9, lambda t: 50.0, evaluate=True)
    plot(results, "--filter", "task=black_red", "--out", results / "e.csv")
    assert {r["runs"] for r in table(results / "e.csv")} == {"3"}


def test_an_unfinished_run_is_told(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(results, "oappo", 4, float, points=3, status="FAILED")
    plot(results, "--out", results / "c.csv")
    assert "is drawn to step 300 of 1,000, where" in (err := capsys.readouterr().err)
    assert "(FAILED) ends" in err


@pytest.mark.parametrize("kind", ["curves", "profile", "improvement", "aggregate", "reuse"])
def test_pictures_in_every_format(results: Path, kind: str) -> None:
    from PIL import Image

    outs = [results / f"{kind}.{ending}" for ending in ("png", "svg", "pdf")]
    words = [word for out in outs for word in ("--out", str(out))]
    assert plot(results, "--filter", "task=black_red", "--kind", kind, *words) == 0
    with Image.open(outs[0]) as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=1)
        assert len(image.convert("RGB").getcolors(1 << 24) or []) > 20
    assert "<text" not in outs[1].read_text()  # outlines: no font is looked for
    pdf = outs[2].read_bytes()
    assert b"/FontFile2" in pdf  # TrueType, within the file


@pytest.mark.parametrize("labels", [2, 9, 25])
def test_nothing_covers_anything(labels: int) -> None:
    from oamarl.analysis.methods import styles
    from oamarl.tools.plot.figures import curves_figure
    from oamarl.tools.plot.style import look

    x = np.linspace(0, 2e6, 50)
    names = [f"method_{k}, reuse_mode=weights" for k in range(labels)]
    lines = [curves.Line(n, t, x, x * k, x * k - 1, x * k + 1, 5)
             for k, n in enumerate(names) for t in ("3s5z_vs_3s6z", "lbforaging:Foraging-8x8-2p-3f-v3")]  # fmt: skip
    with look():
        figure = curves_figure(lines, "steps", "test_battle_won_mean", "IQM")
        figure.canvas.draw()
        renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
        whole = figure.bbox
        legend = figure.legends[0].get_window_extent(renderer)
        boxes = [axes.get_tightbbox(renderer) for axes in figure.axes if axes.get_visible()]
    for box in [*boxes, legend]:
        assert whole.x0 <= box.x0 <= box.x1 <= whole.x1
        assert whole.y0 <= box.y0 <= box.y1 <= whole.y1
    for a, b in itertools.combinations([*boxes, legend], 2):
        assert not a.overlaps(b)
    assert min(box.height for box in boxes) > 0.3 * 2.9 * figure.dpi  # the legend leaves room for the panels
    assert (
        len({(s.colour, str(s.dash), s.marker) for s in styles(dict(zip(names, names, strict=True))).values()})
        == labels
    )


def test_mistakes_are_one_sentence(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, part in [
        (["--kind", "curvs"], "'curves'"), (["--out", "x.pgn"], "'png'"), (["--metric", "retrun"], "'return_mean'"),
        (["--x", "step"], "'steps'"), (["--smoth", "1"], "'--smooth'"), (["--by", "nmae"], "'name'"),
        (["--kind", "aggregate", "--normalise", "3"], "LOW:HIGH"), (["--filter", "name=nobody"], "None of the 12 runs"),
        (["--kind", "reuse", "--filter", "name=happo"], "reuse.arrays"),
        (["--kind", "improvement", "--filter", "name=happo"], "two algorithms"),
        (["--smooth", "2"], "a share"),
    ]:  # fmt: skip
        assert plot(results, *words) == 2
        told = capsys.readouterr().err
        assert part in told
        assert told.count("\n") == 1


def test_damaged_folders_are_read_as_far_as_that_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage(tmp_path)
    make_run(tmp_path, "oappo", 1, float, task="damaged", reuse=True)
    (tmp_path / "half.json").write_text('{"config": {"na')
    for kind in ("curves", "profile", "aggregate", "reuse"):
        assert plot(tmp_path, "--kind", kind, "--out", tmp_path / f"{kind}.png") == 0
    told = capsys.readouterr()
    assert "half.json is damaged" in told.err
    assert "Traceback" not in told.err
    assert plot(tmp_path, "--x", "time", "--out", tmp_path / "t.csv") == 0
    for words in (
        ["list", str(tmp_path)],
        ["compare", *map(str, sorted((tmp_path / "sacred/oappo/damaged").glob("2*")))],
    ):
        assert main(["runs", *words]) == 0
    for folder in (tmp_path / "sacred" / "oappo" / "damaged").glob("2*"):
        assert main(["runs", "show", str(folder), "--config"]) == 0
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "r.html")]) == 0


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        (
            "algorithms: [oappo]\noverrides: {lr: [0.001, 0.002]}",
            {"oappo, lr=0.001": "OAPPO, lr=0.001", "oappo, lr=0.002": "OAPPO, lr=0.002"},
        ),
        (
            "algorithms:\n  NR: {config: oappo, with: {reuse_scheme: none}}\n  oappo:",
            {"NR": "NR", "oappo": "OAPPO"},
        ),
    ],
)
def test_a_sweep_file_means_its_cells(
    content: str, labels: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines are called as the file calls its methods; keys tell apart what it calls by one name."""
    from oamarl.tools.plot.data import select as choose
    from oamarl.tools.plot.naming import names
    from oamarl.tools.sweep.file import load

    file = tmp_path / "s.yaml"
    file.write_text(f"{content}\nenvironments: [maze]\nseeds: 1-2\ncurves: {tmp_path / 'curves'}\n")
    monkeypatch.setattr("oamarl.tools.plot.data.results", lambda: tmp_path / "results")
    for k, cell in enumerate(load(file).cells):
        make_curve_file(tmp_path / "curves", "oappo", 90 + k, [[10, 1.0], [20, 2.0]], config=cell.config).rename(
            tmp_path / "curves" / f"{cell.name}.json"
        )
    make_curve_file(tmp_path / "curves", "stranger", 1, [[10, 1.0]])
    selection = choose([str(file)], [], [], "return_mean")
    found = {label: [run.seed for run in tasks["black_red"]] for label, tasks in selection.groups.items()}
    assert found == {key: [1, 2] for key in labels}
    assert {key: names(selection).label(key) for key in found} == labels
    assert len({str(style) for style in names(selection).styles().values()}) == 2


def test_the_committed_curves_are_drawn(tmp_path: Path) -> None:
    data = Path(__file__).parents[2] / "docs" / "results" / "data"
    assert plot(data, "--filter", "task=black_red", "--out", tmp_path / "c.csv") == 0
    known = json.loads((data / "maze-black-red-oappo-seed1.json").read_text())
    (run,) = read(data / "maze-black-red-oappo-seed1.json")
    assert curves.final(run, "return_mean") == pytest.approx(known["tenths"][-1], abs=0.01)
