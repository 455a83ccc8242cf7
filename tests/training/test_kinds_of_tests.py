"""Tests by sampled and by greedy actions: what is played, what it is called, and how older runs are read."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oamarl.analysis.runs import find
from oamarl.main import main
from oamarl.runners.testing import play
from oamarl.storage import checkpoints, curve_files
from oamarl.storage.records import parse_metrics, read_metrics
from oamarl.storage.tested_actions import GREEDILY, SAMPLED, actions, measure, misnamed, named, run_records
from oamarl.training.building import build
from oamarl.training.run_config import RunConfig

from many_runs import CONFIG, make_curve_file, make_epymarl_run, make_run
from run_tools import CPU, latest, settings, train

PLAIN, FIVE = "toy_envs:Truncating", {"limit": 5}
NAME, GREEDY_NAME = "test_return_mean", "test_greedy_return_mean"


def have(mac: Any, p: list[float]) -> None:
    """Give all policies the same probabilities of the actions, whatever is seen."""
    network = mac.network
    with torch.no_grad():
        network.params[:, sum(network.sizes[:-2]) :] = 0
        network.params[:, -len(p) :] = torch.log(torch.tensor(p))


# -- what is played -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runner", [{}, {"runner": "rollout", "rollout_length": 2}])
def test_both_kinds_in_closed_form(runner: dict[str, Any]) -> None:
    """The climbing game with p = (1/2, 3/10, 1/5) for both: greedy play has 11 always, the expectation is known."""
    p, payoff = np.array([0.5, 0.3, 0.2]), np.array([[11.0, -30, 0], [-30, 7, 6], [0, 0, 5]])
    mean = float(p @ payoff @ p)
    deviation = float(np.sqrt(p @ payoff**2 @ p - mean**2))
    asked = settings(
        "mappo", "matrix", {"key": "climbing"}, backend="auto", batch_size_run=64, test_nepisode=640, **runner
    )
    made, mac, _ = build(asked, CPU)
    try:
        have(mac, p.tolist())
        found = play(made, asked.part(RunConfig))
        assert (found[GREEDY_NAME], found["test_greedy_return_std"]) == (11.0, 0.0)
        assert abs(found[NAME] - mean) < 4 * deviation / np.sqrt(640)
        assert found["test_return_std"] == pytest.approx(deviation, rel=0.2)
        assert {name.replace("test_greedy_", "test_") for name in found} == {n for n in found if "greedy" not in n}
        assert play(made, asked.part(RunConfig)) == found, "the same episodes and the same noise at every test"
    finally:
        made.close()


def test_both_kinds_play_the_same_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = settings("mappo", "toy_envs:MixedLength", {"limit": 6}, test_nepisode=5)
    made, _, _ = build(asked, CPU)
    try:
        seeds = []
        for greedy in (False, True):
            made.test(5, greedy)
            seeds.append(made.store.endings["seed"][:, :2].copy())
        np.testing.assert_array_equal(*seeds)
    finally:
        made.close()


def test_a_run_has_both_and_without_greedy_tests_one(tmp_path: Path) -> None:
    both = train(tmp_path / "both", "mappo", PLAIN, FIVE, t_max=60)
    for metrics in [p["metrics"] for p in both.points if NAME in p["metrics"]] + [both.result]:
        plain = {name for name in metrics if name.startswith("test_") and not name.startswith("test_greedy_")}
        assert {name.replace("test_", "test_greedy_") for name in plain} < set(metrics)
    one = train(tmp_path / "one", "mappo", PLAIN, FIVE, t_max=60, test_greedy=False)
    assert one.result[NAME] == both.result[NAME]
    assert not any("greedy" in name for p in [*one.points, {"metrics": one.result}] for name in p["metrics"])


@pytest.mark.parametrize(
    ("test_greedy", "common_reward", "name"),
    [(True, True, GREEDY_NAME), (False, True, NAME), (True, False, "test_greedy_total_return_mean"),
     (False, False, "test_total_return_mean")],
)  # fmt: skip
def test_the_best_checkpoint_goes_by(test_greedy: bool, common_reward: bool, name: str, tmp_path: Path) -> None:
    assert measure(test_greedy, common_reward) == name
    run = train(tmp_path, "ippo", PLAIN, FIVE, t_max=200, lr=0.05, lr_schedule="constant", head_gain=2.0,
                test_greedy=test_greedy, common_reward=common_reward)  # fmt: skip
    points = [(p["t"], p["metrics"][name]) for p in run.points if name in p["metrics"]]
    (file,) = checkpoints.listed(run.folder / "best")
    best = checkpoints.load(file)["loop"]["best"]
    assert (best["t_env"], best["return_mean"]) == max(points, key=lambda p: (p[1], -p[0]))
    assert best["metric"] == name


# -- reading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "facts", "names", "greedy"),
    [
        ({"test_greedy": True}, {}, [NAME], True),
        ({}, {}, [NAME], True),
        ({"test_greedy": False}, {}, [NAME], False),
        ({"test_greedy": True}, {}, [NAME, GREEDY_NAME], False),
        ({"test_greedy": True}, {"test_actions": "sampled"}, [NAME], False),
        ({}, {"command": "oamarl --config=mappo with test_greedy=False seed=1"}, [NAME], False),
        ({"action_selector": "soft_policies", "test_greedy": True}, {}, [NAME], False),
        ({"action_selector": "multinomial", "test_greedy": True}, {}, [NAME], True),
        ({"action_selector": "multinomial", "test_greedy": False}, {}, [NAME], False),
        ({"action_selector": "epsilon_greedy", "test_greedy": True}, {}, [NAME], False),
    ],
)
def test_whose_plain_names_are_of_greedy_tests(
    config: dict[str, Any], facts: dict[str, Any], names: list[str], greedy: bool
) -> None:
    assert misnamed(config, facts, names) is greedy
    values = dict.fromkeys([*names, "return_mean"], 1.0)
    assert set(named(values, config, facts)) == ({GREEDY_NAME, "return_mean"} if greedy else {*names, "return_mean"})


@pytest.mark.parametrize(
    ("name", "selector", "how"),
    [
        (NAME, None, SAMPLED), (GREEDY_NAME, None, GREEDILY), ("return_mean", None, SAMPLED),
        ("entropy", None, ""), ("test_battle_won_mean", "soft_policies", SAMPLED), (NAME, "multinomial", SAMPLED),
        (NAME, "epsilon_greedy", GREEDILY), ("return_mean", "epsilon_greedy", "epsilon-greedy actions"),
        (NAME, "other", "actions of action_selector=other"),
    ],
)  # fmt: skip
def test_how_actions_are_told(name: str, selector: str | None, how: str) -> None:
    assert actions(name, {} if selector is None else {"action_selector": selector}) == how


def with_tests(folder: Path, **values: float) -> Path:
    """Add tests to a run's folder."""
    with open(folder / "metrics.jsonl", "a") as file:
        for t in (500, 1000):
            file.write(json.dumps({"t": t, "time": 1000.0 + t, "metrics": values}) + "\n")
    return folder


def test_every_reader_has_the_names_of_now(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = with_tests(make_run(tmp_path, "oappo", 1, float, test_greedy=True), test_return_mean=0.25)
    new = with_tests(
        make_run(tmp_path, "oappo", 2, float, test_greedy=True), test_return_mean=0.5, test_greedy_return_mean=1
    )
    sampled = with_tests(make_run(tmp_path, "oappo", 3, float, test_greedy=False), test_return_mean=0.75)
    (run,), (both,), (one,) = (find([str(folder)], tmp_path)[0] for folder in (old, new, sampled))
    assert (run.last(GREEDY_NAME), NAME in run.newest[1], NAME in run.curves) == (0.25, False, False)
    assert run.curves[GREEDY_NAME][1].tolist() == [0.25, 0.25]
    assert (both.last(GREEDY_NAME), both.last(NAME)) == (1, 0.5)
    assert (one.last(NAME), GREEDY_NAME in one.curves) == (0.75, False)
    assert run_records(old)[-1]["metrics"] == {GREEDY_NAME: 0.25}
    assert read_metrics(old)[-1]["metrics"] == {NAME: 0.25}, "the file stays as it is"
    made = curve_files.content(old, "oamarl", CONFIG)
    assert set(made["metrics"]) >= {GREEDY_NAME}
    assert NAME not in made["metrics"]
    curve_files.write(tmp_path / "c.json", curve_files.content(sampled, "oamarl", CONFIG))
    again = curve_files.read(tmp_path / "c.json")
    assert again is not None
    assert NAME in again["metrics"], "a new curve file says that its tests are sampled"
    assert main(["runs", "list", str(tmp_path / "sacred")]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert "test, sampled" in head
    assert [row.split()[5:7] for row in rows[:3]] == [["-", "0.25"], ["0.5", "1"], ["0.75", "-"]]
    assert main(["runs", "show", str(new)]) == 0
    said = capsys.readouterr().out
    assert "0.5 (best 10 %), sampled actions" in said
    assert "1 (best 10 %), greedy (argmax) actions" in said
    assert "test_*: sampled actions" in said
    assert main(["runs", "compare", str(old), str(new)]) == 0
    said = capsys.readouterr().out
    assert "test_greedy_return_mean (greedy (argmax) actions) " in said
    assert "test_return_mean (sampled actions) " in said


def test_an_older_curve_file_is_read_under_the_names_of_now(tmp_path: Path) -> None:
    path = make_curve_file(tmp_path, "oappo", 1, [[500, 1.0]], metrics={NAME: [[500, 0.5]]})
    found = curve_files.read(path)
    assert found is not None
    assert found["metrics"] == {GREEDY_NAME: [[500, 0.5]]}
    assert curve_files.final(found, GREEDY_NAME) == 0.5
    (run,) = find([str(path)], tmp_path)[0]
    assert set(run.curves) == {"return_mean", GREEDY_NAME}
    off = make_curve_file(tmp_path, "oatrpo", 1, [[500, 1.0]], metrics={NAME: [[500, 0.5]]},
                          command="oamarl --config=oatrpo with test_greedy=False")  # fmt: skip
    (run,) = find([str(off)], tmp_path)[0]
    assert NAME in run.curves


@pytest.mark.parametrize(
    ("mark", "command", "metric", "now"),
    [({}, "oamarl with seed=1", NAME, GREEDY_NAME), ({}, "oamarl with test_greedy=False", NAME, NAME),
     ({"test_actions": "sampled"}, "oamarl with seed=1", NAME, NAME), ({}, "oamarl", "return_mean", "return_mean")],
)  # fmt: skip
def test_an_older_search_is_compared_by_the_names_of_now(
    mark: dict[str, str], command: str, metric: str, now: str
) -> None:
    from oamarl.tools.sweep.search import _with_names_of_now

    record = {"space": [{"lr": {}}, [metric, "maximize"], [command]], **mark}
    assert _with_names_of_now(record) == [{"lr": {}}, [now, "maximize"], [command]]


# -- pictures -----------------------------------------------------------------------------------------------------


def test_kinds_that_mix_are_told_and_stay_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = "lbforaging:Foraging-8x8-2p-3f-v3"
    with_tests(
        make_run(tmp_path, "mappo", 1, float, task=task, test_greedy=True),
        test_return_mean=1,
        test_greedy_return_mean=2,
    )
    make_epymarl_run(tmp_path, "qmix", 1, action_selector="epsilon_greedy")
    make_epymarl_run(tmp_path, "ippo", 1, action_selector="soft_policies")
    with_tests(make_run(tmp_path, "old", 1, float, task=task, test_greedy=True), test_return_mean=3)
    out = tmp_path / "x.csv"
    assert main(["plot", str(tmp_path), "--metric", NAME, "--out", str(out)]) == 0
    told = capsys.readouterr().err
    assert "1 of 4 runs have no 'test_return_mean' and are left out; all have 'test_greedy_return_mean'" in told
    (note,) = [line for line in told.splitlines() if "do not compare" in line]
    assert note.index(GREEDILY) < note.index("qmix") < note.index(SAMPLED) < note.index("ippo")
    rows = list(csv.DictReader(out.open()))
    assert {row["label"] for row in rows} == {f"ippo, {SAMPLED}", f"mappo, {SAMPLED}", f"qmix, {GREEDILY}"}
    assert main(["plot", str(tmp_path), "--metric", GREEDY_NAME, "--out", str(out)]) == 0
    assert "do not compare" not in capsys.readouterr().err
    rows = list(csv.DictReader(out.open()))
    assert {(row["label"], row["metric"], row["actions"]) for row in rows} == {
        ("mappo", GREEDY_NAME, GREEDILY), ("old", GREEDY_NAME, GREEDILY)
    }  # fmt: skip


def test_a_metric_of_the_other_kind_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_tests(make_run(tmp_path, "old", 1, float, test_greedy=True), test_return_mean=3)
    assert main(["plot", str(tmp_path), "--metric", NAME]) == 2
    assert "metric 'test_return_mean': all have 'test_greedy_return_mean' (greedy (argmax)" in capsys.readouterr().err


@pytest.mark.parametrize(("metric", "how"), [(GREEDY_NAME, GREEDILY), (NAME, SAMPLED), ("return_mean", SAMPLED)])
def test_axes_and_pages_say_which(metric: str, how: str, tmp_path: Path) -> None:
    from oamarl.tools.plot import data as plot_data
    from oamarl.tools.plot.figures import curves_figure

    with_tests(make_run(tmp_path, "mappo", 1, float), test_return_mean=1, test_greedy_return_mean=2)
    selection = plot_data.select([str(tmp_path)], [], [], metric)
    lines = plot_data.lines(selection.groups, metric, "steps", False, 0.0, [])
    figure = curves_figure(lines, "steps", metric, "mean", selection.actions)
    assert how in figure.axes[0].get_ylabel()
    page = tmp_path / "page.html"
    assert main(["report", str(tmp_path / "sacred"), "--metric", metric, "--out", str(page)]) == 0
    text = page.read_text()
    assert text.count(how) >= 3, "below the title, above the results, below the runs"


# -- going on with an older run -----------------------------------------------------------------------------------

WORDS = ["--config=mappo", "with", f"env={PLAIN}", "env_args.limit=5", "seed=3", "use_cuda=False", "hidden_dim=8",
         "batch_size_run=4", "epochs=1", "backend=serial", "test_nepisode=3", "test_interval=40",
         "log_interval=20"]  # fmt: skip


def plain(metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics of a point as an older version logged them: greedy tests under EPyMARL's names."""
    kept = {k: v for k, v in metrics.items() if not k.startswith("test_") or k.startswith("test_greedy_")}
    return {k.replace("test_greedy_", "test_"): v for k, v in kept.items()}


def make_old(folder: Path) -> None:
    """Make a run's records and checkpoints those of an older version, the last test still to be written."""
    records = [{**r, "metrics": plain(r["metrics"])} for r in parse_metrics((folder / "metrics.jsonl").read_bytes())]
    info = json.loads((folder / "info.json").read_text())
    del info["test_actions"]
    (folder / "info.json").write_text(json.dumps(info))
    for file in [*folder.glob("checkpoints/*.pt"), *folder.glob("best/*.pt")]:
        saved, t = checkpoints.load(file), checkpoints.steps_of(file)
        before = [r for r in records if r["t"] <= t and not (r["t"] == t and "updates" not in r["metrics"])]
        late = {"test_return_mean": 0.5, "test_ep_length_mean": 5.0}
        lines = "".join(json.dumps(r) + "\n" for r in before)
        (folder / "metrics.jsonl").write_text(lines)
        saved["position"]["metrics.jsonl"] = len(lines)
        saved["loop"]["pending"] = [["", t, late]]
        saved["loop"]["best"].pop("metric")
        del saved["test_actions"]
        checkpoints.save(file.parent, t, saved, keep=None)


@pytest.mark.parametrize("test_greedy", [True, False])
def test_an_older_run_goes_on_with_each_kind_under_its_name(
    test_greedy: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*WORDS, f"local_results_path={tmp_path}"]
    assert main([*words, "t_max=100", "checkpoint_interval=100"]) == 0
    (first,) = tmp_path.glob("sacred/mappo/*/1")
    for file in first.glob("best/*.pt"):
        if checkpoints.steps_of(file) > 100:
            file.unlink()
    make_old(first)
    old = read_metrics(first)
    capsys.readouterr()
    assert main([*words, "t_max=200", f"checkpoint_path={first}", f"test_greedy={test_greedy}"]) == 0
    said = capsys.readouterr().out
    assert said.count("The tests up to here were of greedy actions") == 1
    second = first.with_name("2")
    points = read_metrics(second)
    assert [p["t"] for p in points[: len(old)]] == [p["t"] for p in old]
    early = [p["metrics"] for p in points[: len(old) + 1]]
    assert any(GREEDY_NAME in m for m in early[:-1])
    assert early[-1] == {GREEDY_NAME: 0.5, "test_greedy_ep_length_mean": 5.0}, "it was pending"
    assert not any(NAME in m for m in early)
    late = [p["metrics"] for p in points[len(old) + 1 :] if NAME in p["metrics"]]
    assert late
    assert all((GREEDY_NAME in m) is test_greedy for m in late)
    stored = json.loads((second / "metrics.json").read_text())
    assert min(stored[GREEDY_NAME]["steps"]) < 100 <= min(stored[NAME]["steps"])
    best = [checkpoints.load(f)["loop"]["best"] for f in checkpoints.listed(second / "best")]
    assert [b["metric"] for b in best] == [measure(test_greedy, True)]
    for file in checkpoints.listed(second / "best"):  # its place in the records is one between two lines
        place = checkpoints.load(file)["position"]["metrics.jsonl"]
        assert (second / "metrics.jsonl").read_bytes()[:place].endswith(b"\n")
    assert ("left behind" in said) is not test_greedy
    # gone on with once more: nothing is renamed again
    assert main([*words, "t_max=240", f"checkpoint_path={second}", f"test_greedy={test_greedy}"]) == 0
    assert "The tests up to here" not in capsys.readouterr().out
    third = read_metrics(first.with_name("3"))
    assert [p["metrics"] for p in third[: len(points) - 2]] == [p["metrics"] for p in points[: len(points) - 2]]


def test_sampled_tests_of_a_run_that_goes_on_with_both_stay_sampled(tmp_path: Path) -> None:
    """Before its first test of both kinds nothing but its mark tells such a run from an older one."""
    words = [*WORDS, f"local_results_path={tmp_path}"]
    assert main([*words, "t_max=60", "test_greedy=False"]) == 0
    (first,) = tmp_path.glob("sacred/mappo/*/1")
    more = ["t_max=80", "test_interval=100000", "save_best=False", f"checkpoint_path={first}"]
    assert main(latest([*words, *more])) == 0
    second = first.with_name("2")
    lines = [r for r in read_metrics(second) if GREEDY_NAME not in r["metrics"]]
    (second / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines))
    (run,) = find([str(second)], tmp_path)[0]
    assert NAME in run.curves
    assert GREEDY_NAME not in run.curves
