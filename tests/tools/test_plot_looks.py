"""Looks of pictures: names as papers write them, one style a method, ticks, legends, and what the command line asks."""

from __future__ import annotations

import csv
import itertools
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from oamarl.analysis import curves, reliable
from oamarl.analysis.methods import METHODS, method_name, method_style, styles
from oamarl.analysis.names import metric_name, task_name
from oamarl.main import main
from oamarl.tools.plot import data as plot_data
from oamarl.tools.plot.axes import Ticks, count
from oamarl.tools.plot.figures import curves_figure, profile_figure
from oamarl.tools.plot.naming import names
from oamarl.tools.plot.style import Legend, look, new_figure, width_of, wrapped
from oamarl.tools.plot.view import View, limits, relabelled
from oamarl.tools.showcase.picture import draw_curve
from oamarl.utils.errors import UserError

from many_runs import make_run

CONFIGS = Path(__file__).parents[2] / "src" / "config" / "algs"


# -- names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("oappo", "OAPPO"), ("mappo", "MAPPO"), ("hatrpo", "HATRPO"), ("seac", "SEAC"), ("ia2c", "IA2C"),
        ("qmix", "QMIX"), ("pqn_vdn", "PQN-VDN"), ("oappo_paper", "OAPPO (paper)"),
        ("ippo_ns", "IPPO (no sharing)"), ("my_method", "my_method"), ("my_method_ns", "my_method_ns"), ("", ""),
    ],
)  # fmt: skip
def test_methods_as_papers_write_them(method: str, name: str) -> None:
    assert method_name(method) == name


def test_every_shipped_method_has_a_name() -> None:
    shipped = [file.stem for file in CONFIGS.glob("*.yaml")]
    assert len(shipped) > 20
    assert [method for method in shipped if method_name(method) == method] == []


@pytest.mark.parametrize(
    ("task", "config", "name"),
    [
        ("black_red", {"env": "maze"}, "Black and Red maze"),
        ("black_blue_red", {"env": "maze"}, "Black, Blue and Red maze"),
        ("mine", {"env": "maze"}, "mine"),
        ("lbforaging:Foraging-8x8-2p-3f-v3", {"env": "gymma"}, "LBF 8x8-2p-3f"),
        ("lbforaging:Foraging-2s-8x8-2p-2f-coop-v2", {}, "LBF 2s-8x8-2p-2f-coop"),
        ("rware:rware-tiny-4ag-v2", {"env": "gymma"}, "RWARE tiny-4ag"),
        ("pz-mpe-simple-spread-v3", {"env": "gymma"}, "MPE simple spread"),
        ("mpe:SimpleSpread-v0", {"env": "gymma"}, "MPE simple spread"),
        ("matrixgames:penalty-100-nostate-v0", {}, "Penalty game, k = -100"),
        ("climbing", {"env": "matrix"}, "Climbing game"),
        ("predator_prey", {"env": "predator_prey"}, "Predator-prey"),
        ("x", {"env": "overcooked", "env_args": {"layout": "coord_ring"}}, "Overcooked coord ring"),
        ("3m", {"env": "smax"}, "SMAX 3m"),
        ("3s5z_vs_3s6z", {"env": "sc2"}, "SMAC 3s5z_vs_3s6z"),
        ("protoss_5_vs_5", {"env": "sc2v2"}, "SMACv2 protoss 5 vs 5"),
        ("2s3z", {"env": "smaclite"}, "SMAClite 2s3z"),
        ("Ant-4x2", {"env": "mamujoco", "env_args": {"scenario": "Ant", "agent_conf": "4x2"}}, "MaMuJoCo Ant 4x2"),
        ("Ant", {"env": "mamujoco", "env_args": {"scenario": "Ant", "agent_conf": None}}, "MaMuJoCo Ant"),
        ("mamujoco", {"env": "mamujoco", "env_args": None}, "mamujoco"),
        ("CartPole-v1", {"env": "gymma", "env_args": 3}, "CartPole-v1"),
        ("", {}, ""),
    ],
)  # fmt: skip
def test_tasks_as_papers_write_them(task: str, config: dict[str, Any], name: str) -> None:
    assert task_name(task, config) == name


@pytest.mark.parametrize(
    ("metric", "actions", "name"),
    [
        ("return_mean", "", "return"),
        ("return_mean", "sampled actions", "training return, sampled actions"),
        ("test_return_mean", "sampled actions", "test return, sampled actions"),
        ("test_greedy_return_mean", "", "greedy test return"),
        ("total_return_mean", "", "team return"),
        ("test_battle_won_mean", "", "test win rate"),
        ("return_std", "", "standard deviation of the return"),
        ("agent_1_return_mean", "", "return of agent 1"),
        ("ratio_max", "", "largest ratio"),
        ("ep_length_mean", "", "episode length"),
        ("critic_loss", "", "critic loss"),
    ],
)
def test_metrics_as_readers_call_them(metric: str, actions: str, name: str) -> None:
    assert metric_name(metric, actions) == name


def test_no_word_of_an_axis_is_said_twice() -> None:
    line = curves.Line("oappo", "t", np.arange(3.0), np.arange(3.0), np.zeros(3), np.ones(3), 2)
    with look():
        text = curves_figure([line], "steps", "return_mean", "mean", "sampled actions").axes[0].get_ylabel()
        pooled = curves_figure([line], "steps", "return_mean", "IQM; 0 is 0, 20 is 1").axes[0].get_ylabel()
    assert text == "training return (mean of runs)\nsampled actions"
    assert pooled == "return (IQM of runs)\n0 is 0, 20 is 1"


def test_pictures_have_names_and_tables_keys(tmp_path: Path) -> None:
    for env, task in (("maze", "black_red"), ("smax", "3m")):
        make_run(tmp_path, "oappo", 1, float, task=task, env=env)
    make_run(tmp_path, "oappo_paper", 1, float, lr=0.1)
    selection = plot_data.select([str(tmp_path)], [], ["name", "lr"], "return_mean")
    found = names(selection)
    assert found.labels == {"oappo, lr=0.001": "OAPPO, lr=0.001", "oappo_paper, lr=0.1": "OAPPO (paper), lr=0.1"}
    assert found.tasks == {"3m": "SMAX 3m", "black_red": "Black and Red maze"}
    assert found.methods == {"OAPPO, lr=0.001": "oappo", "OAPPO (paper), lr=0.1": "oappo_paper"}
    assert main(["plot", str(tmp_path), "--out", str(tmp_path / "a.csv"), "--labels", "oappo=Ours"]) == 0
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert {(row["label"], row["task"]) for row in rows} == {
        ("oappo", "3m"), ("oappo", "black_red"), ("oappo_paper", "black_red")
    }  # fmt: skip


def test_a_map_of_two_games_keeps_its_key(tmp_path: Path) -> None:
    make_run(tmp_path, "oappo", 1, float, task="3m", env="smax")
    make_run(tmp_path, "mappo", 1, float, task="3m", env="sc2")
    assert names(plot_data.select([str(tmp_path)], [], [], "return_mean")).tasks == {"3m": "3m"}


# -- styles ------------------------------------------------------------------------------------------------------


def test_no_two_methods_look_alike() -> None:
    every = [*METHODS, *(f"{m}{end}" for m in METHODS for end in ("_ns", "_paper"))]
    found = styles({m: m for m in every})
    assert found == {m: method_style(m) for m in every}, "each has its own look, also among all others"
    assert len(set(found.values())) == len(every)
    first = [method_style(m).colour for m in ("oappo", "oatrpo", "happo", "hatrpo", "mappo", "ippo", "seac")]
    assert len(set(first)) == 7


def test_a_look_does_not_depend_on_the_others() -> None:
    alone = styles({"OAPPO": "oappo"})["OAPPO"]
    assert styles({"Mine": "mine", "MAPPO": "mappo", "OAPPO": "oappo"})["OAPPO"] == alone == method_style("oappo")
    assert method_style("mine") not in {style for _, style in METHODS.values()}


def test_a_hashed_look_is_the_same_in_every_process() -> None:
    code = "from oamarl.analysis.methods import method_style; print([method_style(f'own_{k}') for k in range(30)])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == str([method_style(f"own_{k}") for k in range(30)])


def test_many_own_methods_and_settings_stay_distinguishable() -> None:
    assert len(set(styles({f"own_{k}": f"own_{k}" for k in range(200)}).values())) == 200
    schemes = ("NR", "UR", "RR", "AR")
    assert method_style("AR").colour == method_style("RR").colour, "by their hashes alone"
    assert len({style.colour for style in styles({name: name for name in schemes}).values()}) == len(schemes)
    settings = styles({f"OAPPO, lr={k}": "oappo" for k in range(40)})
    assert len(set(settings.values())) == 40
    assert settings["OAPPO, lr=0"] == method_style("oappo")
    assert len({style.colour for style in settings.values()}) > 10, "of one method alone, colours differ"
    two = styles({f"{m}, lr={k}": m for m in ("oappo", "mappo") for k in range(20)})
    assert len(set(two.values())) == 40
    assert {two[f"oappo, lr={k}"].colour for k in range(20)} == {method_style("oappo").colour}


# -- runs of one point, and runs without common steps --------------------------------------------------------------


def test_runs_that_share_no_steps_by_hand() -> None:
    def piece(*x: float) -> curves.Piece:
        return np.array(x), np.zeros(len(x))

    def ends(*pieces: curves.Piece) -> list[list[tuple[float, float]]]:
        return [[(x[0], x[-1]) for x, _ in own] for own in curves.stretches(pieces)]

    assert ends(piece(0, 10), piece(5, 20), piece(8, 9)) == [[(0, 10), (5, 20), (8, 9)]]
    assert ends(piece(20, 30), piece(0, 10), piece(2, 9)) == [[(0, 10), (2, 9)], [(20, 30)]]
    assert ends(piece(0, 10), piece(10, 20)) == [[(0, 10)], [(10, 20)]], "one step in common is no stretch"
    assert ends(piece(5), piece(5), piece(0, 10)) == [[(0, 10)], [(5, 5), (5, 5)]]
    assert ends(piece(0, 10), piece(5, 20), piece(15, 30)) == [[(0, 10), (5, 20)], [(15, 30)]]
    assert ends() == []


def test_they_are_drawn_over_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path, "oappo", 1, float, points=4)
    late = make_run(tmp_path, "oappo", 2, float, points=3)
    text = (late / "metrics.jsonl").read_text()
    for t in (300, 200, 100):
        text = text.replace(f'"t": {t},', f'"t": {t + 700},').replace(f'"t":{t},', f'"t":{t + 700},')
    (late / "metrics.jsonl").write_text(text)
    out = tmp_path / "c.csv"
    assert main(["plot", str(tmp_path), "--out", str(out), "--out", str(tmp_path / "c.png")]) == 0
    assert "drawn as 2 lines, each over its own" in capsys.readouterr().err
    steps = [float(row["steps"]) for row in csv.DictReader(out.open())]
    assert (min(steps), max(steps)) == (100, 1000)
    assert not [t for t in steps if 400 < t < 800]


def marks(figure: Any) -> list[Any]:
    """Lines of a panel that are seen although they have one point."""
    return [x for x in figure.axes[0].get_lines() if len(x.get_xdata()) == 1 and x.get_marker() not in ("", "None")]


@pytest.mark.parametrize("axis", list(curves.AXES))
def test_a_run_of_one_point_draws_a_mark(axis: str, tmp_path: Path) -> None:
    for seed in (1, 2):
        make_run(tmp_path, "oappo", seed, lambda t, s=seed: float(s), points=1)
    selection = plot_data.select([str(tmp_path)], [], [], "return_mean")
    lines = plot_data.lines(selection.groups, "return_mean", axis, False, 0.0, [])
    with look():
        figure = curves_figure(lines, axis, "return_mean", "mean")
        (mark,) = marks(figure)
    assert mark.get_ydata()[0] == 1.5
    assert mark.get_markersize() >= 4
    low, high = figure.axes[0].get_xlim()
    assert low <= mark.get_xdata()[0] <= high
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "r.html")]) == 0


def test_a_showcase_of_one_point_has_a_mark() -> None:
    story = SimpleNamespace(
        config={"name": "mappo"}, steps=np.array([32]), returns=np.array([-8.0]), tests={}, optimum=11.0, t=32
    )
    with look():
        figure = new_figure(4, 3)
        draw_curve(figure.subplots(), story)  # type: ignore[arg-type]
    (mark,) = marks(figure)
    assert (mark.get_color(), mark.get_marker()) == (method_style("mappo").colour, method_style("mappo").marker)


# -- axes and legends ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "unit", "texts"),
    [
        ([0, 500_000, 1_000_000], (), ["0", "0.5M", "1M"]),
        ([0, 100, 200], (), ["0", "100", "200"]),
        ([0, 2500, 5000], (), ["0", "2.5k", "5k"]),
        ([0, 0.5, 1], (), ["0.0", "0.5", "1.0"]),
        ([-1, 0, 1], (), ["\N{MINUS SIGN}1", "0", "1"]),
        ([0, 1e-5, 2e-5], (), ["0", "1e-5", "2e-5"]),
        ([0, 1_000_000, 2_000_000], (), ["0", "1M", "2M"]),
        ([0, 50_000], (1e6, "M"), ["0", "0.05M"]),
        ([], (), []),
    ],
)  # fmt: skip
def test_ticks_have_one_format(values: list[float], unit: tuple[float, str], texts: list[str]) -> None:
    assert Ticks(*unit).format_ticks(values) == texts


def test_counts_by_hand() -> None:
    assert [count(t) for t in (0, 800, 20_000, 1_500_000, 2e9, -3000)] == ["0", "800", "20k", "1.5M", "2G", "-3k"]


def test_panels_share_a_unit() -> None:
    x = np.linspace(0, 1, 20)
    lines = [curves.Line("oappo", str(top), top * x, x, None, None, 1) for top in (300_000, 2_000_000)]
    with look():
        figure = curves_figure(lines, "steps", "return_mean", "mean")
        figure.canvas.draw()
        texts = [{t.get_text()[-1] for t in axes.get_xticklabels()} - {"0"} for axes in figure.axes[:2]]
    assert texts == [{"M"}, {"M"}]


@pytest.mark.parametrize(
    "labels", [["OAPPO"] * 1, ["a_word_that_is_far_too_long_" * 6, "b"], [f"m{k}" for k in range(60)]]
)
@pytest.mark.parametrize("panels", [1, 3])
def test_a_legend_fits(labels: list[str], panels: int) -> None:
    x = np.linspace(0, 1e6, 30)
    lines = [curves.Line(n, f"task {t}", x, x, None, None, 1) for n in labels for t in range(panels)]
    with look():
        figure = curves_figure(lines, "steps", "return_mean", "mean")
        figure.canvas.draw()
        renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
        legend = figure.legends[0].get_window_extent(renderer)
        boxes = [axes.get_tightbbox(renderer) for axes in figure.axes if axes.get_visible()]
    for box in [*boxes, legend]:
        assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 <= box.y1 <= figure.bbox.y1
    for a, b in itertools.combinations([*boxes, legend], 2):
        assert not a.overlaps(b)
    assert min(box.height for box in boxes) > 0.6 * 2.9 * figure.dpi


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["_mine", "$x", "$x$", r"$\\frac{$", "a_b^c", "%s {}", "\u00e4\u03c3"])
def test_any_name_is_shown_as_it_is(name: str) -> None:
    line = curves.Line(name, name, np.arange(3.0), np.arange(3.0), None, None, 1)
    with look():
        figure = curves_figure([line], "steps", "return_mean", "mean", view=View(name))
        figure.canvas.draw()
    (text,) = figure.legends[0].get_texts()
    assert text.get_text().strip("\N{ZERO WIDTH SPACE}") == f"{name} (n=1)".replace("$", r"\$")


def test_long_texts_are_broken() -> None:
    with look():
        assert wrapped("short", 2.0, 9) == "short"
        text = wrapped("a long title of several words", 1.0, 9)
        assert width_of(text, 9) <= 1.0
        assert text.replace("\n", " ") == "a long title of several words"
        assert width_of(wrapped("w" * 200, 1.0, 9), 9) <= 1.0
        assert wrapped("", 1.0, 9) == ""
        assert Legend(4.0, ["a$b$c"]).labels == ["a$b$c"]
        new_figure(2, 2)


# -- the command line ----------------------------------------------------------------------------------------------


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name, seed in itertools.product(("oappo", "mappo"), (1, 2)):
        make_run(tmp_path, name, seed, lambda t, s=seed: t / 100 - 2 + s)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "ends"),
    [("0:1", (0, 1)), ("-5:", (-5, None)), (":2M", (None, 2e6)), ("1e3:1.5k", (1000, 1500)), (" 0 : 1 ", (0, 1))],
)
def test_limits(text: str, ends: tuple[float | None, float | None]) -> None:
    assert limits(text) == ends


def test_labels_by_hand() -> None:
    known = {"oappo, lr=0.1": "OAPPO, lr=0.1", "mappo, lr=0.1": "MAPPO, lr=0.1", "black_red": "Black and Red maze"}
    assert relabelled(["oappo, lr=0.1=Ours, fast,MAPPO, lr=0.1=Theirs"], known) == {
        "oappo, lr=0.1": "Ours, fast", "mappo, lr=0.1": "Theirs"
    }  # fmt: skip
    assert relabelled(["black_red=The maze = ours"], known) == {"black_red": "The maze = ours"}
    assert relabelled([], known) == {}
    with pytest.raises(UserError, match="no line or task 'oapo'; did you mean 'oappo'"):
        relabelled(["mappo=A,oapo=B"], {"oappo": "OAPPO", "mappo": "MAPPO"})


def test_what_is_asked_for_is_drawn() -> None:
    x = np.linspace(0, 100, 101)
    lines = [curves.Line(n, "t", x, x - 5, x - 6, x - 4, 2) for n in ("oappo", "mappo")]
    view = View("Two $ methods", (10.0, 60.0), (None, None), frozenset())
    with look():
        figure = curves_figure(lines, "steps", "return_mean", "mean", view=view)
        (axes,) = figure.axes
        assert figure.get_suptitle() == r"Two \$ methods"
        assert axes.get_xlim() == (10, 60)
        low, high = axes.get_ylim()
        assert 0 < low < 5 < 55 < high < 60, "as much as is to be seen"
        both = curves_figure(lines, "steps", "return_mean", "mean", view=View("", log=frozenset("xy"))).axes[0]
        assert (both.get_xscale(), both.get_yscale()) == ("log", "log")
        assert both.get_xlim()[0] > 0
        flat = profile_figure(lines, "return", view=View("", (None, 50.0), (0.0, 0.5)))
        assert flat.axes[0].get_xlim()[1] == 50
        assert flat.axes[0].get_ylim() == (0, 0.5)
        for one in (figure, flat):
            one.canvas.draw()


@pytest.mark.parametrize("kind", ["curves", "profile", "improvement", "aggregate"])
def test_titles_and_labels_of_every_kind(kind: str, runs: Path) -> None:
    words = ["--kind", kind, "--title", "A title", "--labels", "oappo=Ours,black_red=The maze"]
    assert main(["plot", str(runs), *words, "--out", str(runs / "a.png")]) == 0
    assert (runs / "a.png").stat().st_size > 5000


def test_negative_limits_need_no_equals_sign(runs: Path) -> None:
    assert main(["plot", str(runs), "--ylim", "-2:5", "--out", str(runs / "a.png")]) == 0


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--xlim", "5"], "A:B"), (["--xlim", "2:1"], "A:B"), (["--ylim", "a:b"], "A:B"), (["--ylim", "nan:1"], "A:B"),
        (["--xlim", "0:inf"], "A:B"), (["--xlim", ":"], "A:B"), (["--log", "z"], "use x, y"),
        (["--log", "x", "--xlim", "0:100"], "above 0"), (["--labels", "oapo=A"], "'oappo'"),
        (["--labels", "oappo"], "OLD=NEW"), (["--labels", "oappo="], "is missing"), (["--labels", "=x"], "OLD=NEW"),
        (["--labels", "oappo=A,mappo=A"], "by one name"), (["--labels", "oappo=MAPPO"], "by one name"),
        (["--xlim", "5k:6k"], "Nothing lies within"), (["--ylim", "100:"], "Nothing lies within"),
        (["--kind", "aggregate", "--xlim", "0:1"], "not for --kind aggregate"),
        (["--kind", "improvement", "--log", "y"], "not for --kind improvement"), (["--titel", "x"], "'--title'"),
    ],
)  # fmt: skip
def test_mistakes_leave_files_alone(
    words: list[str], part: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outs = [runs / "a.csv", runs / "a.png"]
    for out in outs:
        out.write_text("before")
    assert main(["plot", str(runs), *words, *(w for out in outs for w in ("--out", str(out)))]) == 2
    told = capsys.readouterr().err
    assert part in told
    assert told.count("\n") == 1
    assert [out.read_text() for out in outs] == ["before", "before"]


def test_a_logarithmic_axis_says_what_it_leaves_out(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", str(runs), "--log", "y", "--out", str(runs / "a.png")]) == 0
    assert "logarithmic" not in capsys.readouterr().err
    make_run(runs, "happo", 1, lambda t: -math.log(t))
    assert main(["plot", str(runs), "--log", "y", "--log", "x", "--out", str(runs / "a.png")]) == 0
    assert "A logarithmic y axis has no place for values of 0 and less" in capsys.readouterr().err
    assert main(["plot", str(runs), "--log", "y", "--filter", "name=happo", "--out", str(runs / "b.png")]) == 2
    assert not (runs / "b.png").exists()


def test_help_says_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", "--help"]) == 0
    told = capsys.readouterr().out
    page = (Path(__file__).parents[2] / "docs" / "plots.md").read_text()
    for flag in ("--title", "--labels", "--xlim", "--ylim", "--log"):
        assert flag in told
        assert flag in page


def test_statistics_of_a_mark_by_hand() -> None:
    found = curves.line("x", "t", {"t": [(np.array([5.0]), np.array([1.0])), (np.array([5.0]), np.array([3.0]))]},
                        reliable.mean)  # fmt: skip
    assert found is not None
    assert (found.x.tolist(), found.centre.tolist(), found.runs) == ([5.0], [2.0], 2)
