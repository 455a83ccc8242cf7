"""`seeds_at_once`: several seeds in one process, with the numbers, folders and checkpoints of runs of their own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oamarl.main import main
from oamarl.storage import checkpoints
from oamarl.storage.records import read_metrics
from oamarl.training.at_once import words_of

from child_signals import usual_signals
from conftest import PATIENCE, ROOT, SRC
from run_tools import assert_same, latest, untimed

#: a maze that random walks solve now and then: seeds differ in their episodes' lengths and in their number of updates
MAZE = (
    "--env-config=maze", "with", 'env_args.map=["######","#S..G#","#.RB.#","######"]', "env_args.time_limit=12",
    "use_cuda=False", "hidden_dim=16", "batch_size_run=2", "t_max=130", "log_interval=40", "test_interval=60",
    "test_nepisode=2", "checkpoint_interval=1000",
)  # fmt: skip

#: algorithm and settings: one of each family, feed-forward and recurrent, on each kind of runner and backend
FAMILIES = [
    ("mappo", "num_minibatches=2"),
    ("ippo", "use_rnn=True", "sharing=separate", "standardise_obs=True", "lr_schedule=linear"),
    ("happo", "runner=rollout", "rollout_length=15", "backend=process", "workers=2"),
    ("hatrpo",),
    ("oappo", "use_rnn=True", "backend=serial"),
    ("maa2c", "runner=parallel"),
    ("qmix", "batch_size=4", "buffer_size=20", "runner=parallel"),
    ("seac",),
    ("seps", "seps_steps=60"),
    ("pqn_vdn",),
    ("roma", "batch_size=4", "buffer_size=20", "runner=parallel"),
    ("maptf_mappo",),
    ("td3", "batch_size=4", "buffer_size=20", "warmup_steps=0", "runner=parallel"),
    ("maddpg", "batch_size=4", "buffer_size=20", "warmup_steps=0", "runner=parallel"),
]


def words(algorithm: str, results: Path, *more: str) -> list[str]:
    return latest([f"--config={algorithm}", *MAZE, f"local_results_path={results}", *more])


def call(algorithm: str, results: Path, *more: str) -> int:
    return main(words(algorithm, results, *more))


def by_seed(results: Path) -> dict[int, Path]:
    """The newest run of each seed."""
    found = sorted(results.glob("sacred/*/*/*/config.json"), key=lambda path: int(path.parent.name))
    return {json.loads(path.read_text())["seed"]: path.parent for path in found}


def newest(folder: Path) -> dict[str, object]:
    return checkpoints.load(checkpoints.find(folder))


def assert_same_runs(a: Path, b: Path) -> None:
    """Equal curves, parameters, optimisers and random streams, bit for bit."""
    assert_same(untimed(read_metrics(a)), untimed(read_metrics(b)))
    x, y = newest(a), newest(b)
    for part in ("mac", "learner", "runner"):
        assert_same(x[part], y[part], part)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family[0])
def test_seeds_at_once_have_the_numbers_of_single_runs(family: tuple[str, ...], tmp_path: Path) -> None:
    algorithm, *more = family
    for seed in (4, 5):
        assert call(algorithm, tmp_path / "alone", *more, f"seed={seed}") == 0
    assert call(algorithm, tmp_path / "together", *more, "seed=4", "seeds_at_once=2") == 0
    alone, together = by_seed(tmp_path / "alone"), by_seed(tmp_path / "together")
    assert list(alone) == list(together) == [4, 5]
    for seed, folder in together.items():
        assert_same_runs(alone[seed], folder)
        assert json.loads((folder / "run.json").read_text())["status"] == "COMPLETED"
        mine, theirs = (json.loads((x / "config.json").read_text()) for x in (folder, alone[seed]))
        assert {**mine, "local_results_path": ""} == {**theirs, "local_results_path": ""}
        command = json.loads((folder / "info.json").read_text())["command_line"]
        assert f"seed={seed}" in command
        assert "seeds_at_once" not in command


def test_a_seed_may_end_before_another(tmp_path: Path) -> None:
    """Episodes end early where they succeed: the seeds reach t_max after different numbers of updates."""
    more = ("env_args.time_limit=60", "t_max=300", "test_interval=150")
    assert call("mappo", tmp_path, *more, "seeds_at_once=[3, 8]") == 0
    runs = by_seed(tmp_path)
    updates = [newest(folder)["learner"]["updates"] for folder in runs.values()]  # type: ignore[index]
    assert updates == [3, 4]
    assert call("mappo", tmp_path / "alone", *more, "seed=8") == 0
    assert_same_runs(by_seed(tmp_path / "alone")[8], runs[8])


def test_killed_seeds_go_on_together_and_alone(tmp_path: Path) -> None:
    """SIGKILL, then two ways on: all seeds together, and one of them as a single run."""
    long = ("t_max=1000", "seed=6", "checkpoint_interval=60")
    assert call("mappo", tmp_path / "whole", *long, "seeds_at_once=2") == 0
    program = [sys.executable, str(SRC / "main.py")]
    process = subprocess.Popen(
        [*program, *words("mappo", tmp_path / "cut", *long, "seeds_at_once=2")], cwd=ROOT, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, preexec_fn=usual_signals,
    )  # fmt: skip
    try:
        end = time.monotonic() + PATIENCE
        while len(list((tmp_path / "cut").glob("sacred/*/*/*/checkpoints/checkpoint_*"))) < 4:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < end
            time.sleep(0.005)
        process.kill()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    whole, cut = by_seed(tmp_path / "whole"), by_seed(tmp_path / "cut")
    assert call("mappo", tmp_path / "one", *long, f"checkpoint_path={cut[6]}") == 0
    places = f"checkpoint_path='{cut[6]},{cut[7]}'"
    assert call("mappo", tmp_path / "cut", *long, "seeds_at_once=2", places) == 0
    assert_same_runs(whole[6], by_seed(tmp_path / "one")[6])
    for seed, folder in by_seed(tmp_path / "cut").items():
        assert folder != cut[seed]
        assert_same_runs(whole[seed], folder)


def test_single_runs_go_on_together(tmp_path: Path) -> None:
    often = ("test_interval=20", "log_interval=20", "lr_schedule=constant")  # what depends on t_max
    for seed in (1, 2):
        assert call("happo", tmp_path, *often, f"seed={seed}", "t_max=60") == 0
    places = ",".join(str(folder) for folder in by_seed(tmp_path).values())
    assert call("happo", tmp_path, *often, "seed=1", "seeds_at_once=2", f"checkpoint_path='{places}'") == 0
    assert call("happo", tmp_path / "alone", *often, "seed=2") == 0
    assert_same_runs(by_seed(tmp_path / "alone")[2], by_seed(tmp_path)[2])


def test_labels_hold_the_seed(tmp_path: Path) -> None:
    assert call("mappo", tmp_path, "seed=1", "seeds_at_once=2", "t_max=50", "label='study {seed}'") == 0
    labels = [json.loads((folder / "config.json").read_text())["label"] for folder in by_seed(tmp_path).values()]
    assert labels == ["study 1", "study 2"]


def test_words_of_a_single_run() -> None:
    given = ["python", "main.py", "--config=a", "with", "lr=1", "seeds_at_once=3", "seed=4", "label=x{seed}"]
    values = {"seed": 6, "label": "x6", "checkpoint_path": ""}
    assert words_of(given, values) == ["python", "main.py", "--config=a", "with", "seed=6", "lr=1", "label=x6"]
    assert words_of(["oamarl", "--config=a"], values) == ["oamarl", "--config=a", "with", "seed=6"]


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (("seeds_at_once=0",), "seeds_at_once=0 is not allowed: a number from 1 to 1,000"),
        (("seeds_at_once=2000",), "a number from 1 to 1,000, or a list"),
        (("seeds_at_once=[]",), "from 1 to 1,000 seeds"),
        (("seeds_at_once=[1, 2, 1]",), "names seed 1 twice"),
        (("seeds_at_once=[1, 2]", "seed=1"), "leave seed out"),
        (("seeds_at_once=[1, -2]",), "seeds_at_once"),
        (("seeds_at_once=many",), "seeds_at_once"),
        (("seeds_at_once=2", "seed=2147483647"), "below 2147483648"),
        (("seeds_at_once=3", "seed=1", "checkpoint_path='a,b'"), "not one run for each of 3 seeds"),
        (("seeds_at_once=2", "seed=1", "checkpoint_path=somewhere"), "separated by commas"),
        (("seeds_at_once=2", "matmul_precision=bf16"), "matmul_precision=bf16 is not offered with seeds_at_once"),
        (("seeds_at_once=2", "use_wandb=True"), "use_wandb=True follows one run a process"),
        (("seeds_at_once=2", "seed=1", "evaluate=True", "checkpoint_path=x"), "an evaluation is of one run"),
    ],
)
def test_mistakes_are_one_sentence(
    more: tuple[str, ...], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("mappo", tmp_path, *more) == 2
    out, err = capsys.readouterr()
    assert re.search(re.escape(text), err), err
    assert "Traceback" not in err + out
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("sacred/*/*/*/run.json"))


@pytest.mark.parametrize("more", ["seeds_at_once=0", "seeds_at_once=[]", "seeds_at_once=[1, 2, 1]"])
def test_what_training_refuses_is_not_shown_as_a_configuration(more: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--config=mappo", "--env-config=maze", "with", more]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("seeds_at_once=")
