"""Heat maps of the reuse: which arrays are drawn, agents by type, files of before, and values that are not finite."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oamarl.analysis.runs import Run
from oamarl.components.experience import EnvInfo
from oamarl.envs.maze.maze import Maze
from oamarl.envs.smax.maps import find_map
from oamarl.main import main
from oamarl.storage.records import array_record
from oamarl.storage.run_files import read_json
from oamarl.tools.plot import reuse
from oamarl.tools.plot.agents import agent_types, borders, grouped, names
from oamarl.tools.showcase.picture import draw
from oamarl.tools.showcase.story import read_story

from learner_tools import make_info
from many_runs import make_run
from run_tools import settings

INF = math.inf
B = np.array([[0.0, 0.1, INF], [0.2, 0.0, INF], [INF, INF, 0.0]])


def read(folder: Path, *more: Path) -> reuse.Reuse:
    runs = [Run(x, read_json(x / "config.json"), read_json(x / "info.json")) for x in (folder, *more)]
    found = reuse.read_reuse("oappo", "x", runs)
    assert found is not None
    return found


def one(tmp_path: Path, seed: int = 1, **more: Any) -> Path:
    return make_run(tmp_path, "oappo", seed, float, reuse=True, **more)


# -- which arrays ----------------------------------------------------------------------------------------------


def test_a_file_of_before_has_two_rows(tmp_path: Path) -> None:
    found = read(one(tmp_path))
    assert list(found.arrays) == ["M", "D"]
    assert len(reuse.reuse_figure(found).axes) == 2 * 5 + 2


def test_whatever_is_known_is_drawn_in_the_tables_order(tmp_path: Path) -> None:
    extra = {"role": -B, "c": 1e4 * B, "b": B, "ess": B, "M_used": B, "e": np.arange(3)}
    found = read(one(tmp_path, arrays=extra))
    assert list(found.arrays) == ["M", "D", "b", "c", "role"]
    figure = reuse.reuse_figure(found)
    labels = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel() in reuse.TITLES.values()]
    assert labels == list(reuse.TITLES.values())
    figure.savefig(tmp_path / "x.png")


def test_runs_without_an_array_leave_it_unknown(tmp_path: Path) -> None:
    found = read(one(tmp_path), one(tmp_path, 2, arrays={"b": B}))
    assert found.runs == 2
    assert np.isnan(found.arrays["b"]).all()
    reuse.reuse_figure(found).savefig(tmp_path / "x.png")


def test_arrays_that_begin_later_and_of_another_shape(tmp_path: Path) -> None:
    m = np.eye(2)
    found = reuse.stacked([{"M": m, "b": np.zeros(3)}, {"M": m, "b": 0.5 * m}])
    assert list(found) == ["M", "b"]
    np.testing.assert_array_equal(found["b"], [np.full((2, 2), np.nan), 0.5 * m])


def test_scales() -> None:
    assert (reuse.scale_of("M", np.array([0.2, 0.7])).vmin, reuse.scale_of("M", np.array([0.2])).vmax) == (0.0, 1.0)
    scale = reuse.scale_of("D", np.array([0.2, INF, np.nan]))
    assert (scale.vmin, scale.vmax) == (0.0, 0.2)
    assert reuse.scale_of("D", np.array([-0.5, 2.0])).vmin == -0.5
    assert reuse.scale_of("b", np.array([INF])).vmax == 1.0
    c = reuse.scale_of("c", np.array([0.0, 1e4]))
    assert float(c(1.0)) > 0.2, "logarithmic: 1 is not white beside 10,000"


def test_a_ratio_of_roles_is_white_up_to_1_and_logarithmic_beyond() -> None:
    scale = reuse.scale_of("role", np.array([0.3, 1.0, 100.0, 1e4, np.nan]))
    np.testing.assert_allclose(scale([0.3, 1.0, 10.0, 1e3, 1e4]), [0.0, 0.0, 1 / 3, 1.0, 1.0], atol=1e-12)
    np.testing.assert_allclose(reuse.scale_of("role", np.array([100.0]))(10.0), 0.5)
    # nothing but noise is not dark
    assert float(reuse.scale_of("role", np.array([0.9, 1.3]))(1.3)) < 0.2
    assert float(reuse.scale_of("role", np.array([np.nan]))(1.0)) == 0.0


def test_numbers_of_small_cells() -> None:
    small = {0.0: "0", 3e-4: "3e-4", 0.07: ".07", 0.5: ".5", 1.0: "1", 9.9: "9.9"}
    large = {12.3: "12", 994.0: "994", 996.0: "1e3", 9_951.0: "1e4", 2e5: "2e5", 2e14: "2e14"}
    for value, text in (small | large).items():
        assert reuse.short(value) == text


def test_sigma_is_marked_where_it_decides(tmp_path: Path) -> None:
    assert read(one(tmp_path, reuse_sigma=0.1)).sigma == 0.1
    assert read(one(tmp_path, 2, reuse_sigma=0.1, reuse_scheme="all")).sigma is None


# -- agents by type ----------------------------------------------------------------------------------------------


def test_names_and_groups_by_hand() -> None:
    types = ("red", "black", "red", "blue")
    assert names(types, 4) == ["red 1", "black 1", "red 2", "blue 1"]
    assert grouped(types, 4).tolist() == [0, 2, 1, 3]
    assert borders(types) == [2, 3]
    assert names((), 3) == ["0", "1", "2"]
    assert grouped((), 3).tolist() == [0, 1, 2]
    assert borders(()) == []


def test_rows_and_columns_of_a_type_are_side_by_side(tmp_path: Path) -> None:
    b = np.arange(9.0).reshape(3, 3)
    found = read(one(tmp_path, arrays={"b": b}, info={"agent_types": ["red", "black", "red"]}))
    figure = reuse.reuse_figure(found)
    shown = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    np.testing.assert_array_equal(shown[-1], b[np.ix_([0, 2, 1], [0, 2, 1])])
    assert [x.get_text() for x in figure.axes[0].get_yticklabels()] == ["red 1", "red 2", "black 1"]


@pytest.mark.parametrize(
    ("config", "facts", "n", "types"),
    [
        ({"env": "gymma", "env_args": {}}, {"agent_types": ["a", "b"]}, 2, ("a", "b")),
        ({"env": "gymma", "env_args": {}}, {"agent_types": ["a"]}, 2, ()),
        ({"env": "gymma", "env_args": {}}, {"agent_types": [1, 2]}, 2, ()),
        # runs that did not note them
        ({"env": "maze", "env_args": {"map_name": "black_red", "agents": {"red": 1, "black": 2}}}, {}, 3, None),
        ({"env": "smax", "env_args": {"map_name": "2s3z"}}, {}, 5, ("stalker",) * 2 + ("zealot",) * 3),
        ({"env": "smax", "env_args": {"map_name": "smacv2_5_units"}}, {}, 5, ()),
        ({"env": "maze", "env_args": {"map_name": "gone"}}, {}, 4, ()),
        ({"env": "smax"}, {}, 3, ()),
        ({}, {}, 3, ()),
    ],
)  # fmt: skip
def test_types_of_runs(config: dict[str, Any], facts: dict[str, Any], n: int, types: tuple[str, ...] | None) -> None:
    expected = tuple(Maze(1, **config["env_args"]).colours) if types is None else types
    assert agent_types(config, facts, n) == expected
    assert types is None or len(expected) in (0, n)


def test_environments_name_their_agents() -> None:
    maze = Maze(1)
    assert maze.info.agent_types == tuple(maze.colours)
    assert find_map("3s5z").ally_types == ("stalker",) * 3 + ("zealot",) * 5
    assert make_info().agent_types == ()
    old = {k: v for k, v in vars(maze.info).items() if k != "agent_types"}  # a checkpoint of before
    assert EnvInfo(**old).agent_types == ()


def test_a_run_notes_types_and_arrays_and_is_shown(tmp_path: Path) -> None:
    words = ["t_max=200", "test_nepisode=0", "seed=1", "batch_size_run=4", f"local_results_path={tmp_path}"]
    assert main(["--config=oappo", "--env-config=maze", "with", *words]) == 0
    (folder,) = tmp_path.glob("sacred/oappo/*/1")
    story = read_story(folder)
    assert story.facts["agent_types"] == list(story.types) == list(Maze(1).colours)
    assert {"M", "D", "b", "c"} <= set(story.reuse[0][1])
    whole = draw(story, None, tmp_path / "a.png").read_bytes()
    # a file from before b and c: the mapping alone
    rest = [(t, {"M": a["M"], "D": a["D"]}) for t, a in story.reuse]
    (folder / "reuse.arrays").write_bytes(b"".join(array_record(t, a) for t, a in rest))
    assert draw(read_story(folder), None, tmp_path / "b.png").read_bytes() != whole


def test_settings_of_old_runs_lack_the_new_keys() -> None:
    from oamarl.settings import learned

    now = settings("oappo", "maze").values
    old = {k: v for k, v in now.items() if k not in ("reuse_clip", "reuse_rho_clip", "reuse_check")}
    assert learned(now) == learned(old)
    assert learned({**now, "reuse_clip": "learner"}) != learned(old)


# -- the picture of docs/off-agent.md ----------------------------------------------------------------------------


def program() -> Any:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "who_learns_from_whom.py"
    spec = importlib.util.spec_from_file_location("who_learns_from_whom", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pairs_of_one_and_of_two_types_by_hand() -> None:
    pairs = program().pairs(("a", "b", "a"), 3)
    assert np.argwhere(pairs["agents of one type"]).tolist() == [[0, 2], [2, 0]]
    assert np.argwhere(pairs["agents of two types"]).tolist() == [[0, 1], [1, 0], [1, 2], [2, 1]]
    (alike,) = program().pairs((), 2).values()
    assert alike.tolist() == [[False, True], [True, False]]


def test_a_line_is_the_median_of_pairs_and_neighbouring_updates() -> None:
    values = np.arange(20.0).repeat(2).reshape(20, 2)
    np.testing.assert_array_equal(program().median(values)[[0, 10, 19]], [2.0, 10.0, 17.0])


def test_who_learns_from_whom_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    roles = {"role": np.array([[1.0, 1.1, 1e14], [0.9, 1.0, 40.0], [3.0, 5.0, 1.0]])}
    typed = one(tmp_path / "typed", arrays=roles, info={"agent_types": ["a", "a", "b"]})
    plain = one(tmp_path / "plain", arrays=roles)
    out = tmp_path / "picture.png"
    program().main([str(typed), str(plain), "--out", str(out), "--at", "0,100"])
    assert out.stat().st_size > 10_000
    with pytest.raises(SystemExit, match="2"):
        program().main([str(one(tmp_path / "other")), "--out", str(out)])
    assert "has not recorded role disagreement" in capsys.readouterr().err
