"""The side-by-side measurements' own parts: ratios, tables, cells, repairs, and the clock inside a program."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import PATIENCE

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc"),
    pytest.mark.usefixtures("sides"),
]


def result(steps: float, wall: float, cpu: float) -> dict[str, Any]:
    return {"steps": steps, "wall": wall, "cpu": cpu, "memory": {"main": wall, "all": 9.0, "proportional": 5.0}}


# -- numbers -------------------------------------------------------------------------------------------------------


def test_ratio_is_of_medians_with_the_range_within_rounds() -> None:
    from peers import report

    found = report.ratio([10, 40, 30], [1, 2, 10])
    assert found == {"median": 15.0, "low": 3.0, "high": 20.0}


def test_summary_by_both_clocks() -> None:
    from peers import report

    rounds = [{"a": result(100, 1, 2), "b": result(10, 1, 1)}, {"a": result(300, 2, 3), "b": result(20, 1, 4)}]
    found = report.summarise("steps", "b", rounds)
    assert found["a"]["wall"] == {"median": 125.0, "low": 100.0, "high": 150.0}
    assert found["a"]["ratio"] == {"median": 125 / 15, "low": 7.5, "high": 10.0}
    assert found["a"]["cpu_ratio"] == {"median": 75 / 7.5, "low": 5.0, "high": 20.0}
    assert found["b"]["ratio"]["median"] == 1.0
    assert found["a"]["memory"]["main"] == 1.5


def test_measures_of_updates() -> None:
    from peers import report

    calls = [{"wall": w, "cpu": w / 2, "samples": 1000} for w in (0.1, 0.4, 0.2)]
    values = {name: value({"calls": calls}, "wall") for name, (_, value) in report.MEASURES.items() if name != "steps"}
    assert values == pytest.approx({"updates": 5.0, "update": 200.0, "sample": 200.0})
    assert report.MEASURES["update"][1]({"calls": calls}, "cpu") == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("target", "value", "said"),
    [((">=", 4), 4.0, ">= 4: yes"), ((">=", 4), 3.9, ">= 4: NO"), (("<=", 1.15), 1.2, "<= 1.15: NO"), (None, 1.0, "")],
)
def test_targets(target: Any, value: float, said: str) -> None:
    from peers import report

    assert report.reached(target, value) == said


def test_table() -> None:
    from peers import report

    rounds = [{"a": result(2000, 1, 2), "b": result(1000, 1, 1)}]
    lines = report.table("T", "steps", "b", (">=", 3), report.summarise("steps", "b", rounds)).splitlines()
    assert lines[4] == "| a | 2,000 | 1,000 | 2 | 1 | >= 3: NO | 1 | 9 | 5 |"
    assert lines[5].startswith("| b | 1,000 | 1,000 | 1 | 1 |  |")
    assert {line.count("|") for line in lines[2:]} == {10}


# -- cells ---------------------------------------------------------------------------------------------------------


def test_cells_are_whole() -> None:
    from peers import cells, report, rounds

    for quick in (False, True):
        every = cells.cells(quick)
        assert len({cell.name for cell in every}) == len(every)
        for cell in every:
            names = [side.name for side in cell.sides]
            assert cell.reference in names
            assert len(set(names)) == len(names)
            assert cell.measure in report.MEASURES
            assert all((rounds.SIDES / f"run_{program}.py").is_file() for program in cell.programs)
    assert {cell.name for cell in every if cell.quick} > {"lbf-mlp", "lbf-gru"}


def test_our_side_of_every_cell_is_a_configuration_that_is_accepted() -> None:
    """A key that is renamed, or no longer read, must not be found out in the middle of an hour's measurement."""
    from peers.cells import cells

    from oamarl.parts import resolve
    from oamarl.utils.schema.command_line import parse

    seen = [resolve(parse(s.spec["words"])[0]).values for c in cells() for s in c.sides if s.program == "oamarl"]
    assert len(seen) > 20
    values = [x for x in seen if x["learner"] == "q_learner"]
    robots = [x for x in seen if x["env"] == "mamujoco" and x["hidden_dim"] == 128 and x["layer_norm"]]
    assert [x["epochs"] for x in robots] == [15, 15, 5, 10]
    worlds = [x for x in seen if x["env"] == "vmas"]
    assert [(x["hidden_dim"], x["batch_size_run"]) for x in worlds] == [(64, 32), (64, 1024), (128, 1024)]
    others = [x for x in seen if x not in (*values, *robots, *worlds)]
    assert all(x["hidden_dim"] == 128 and x["epochs"] == 4 for x in others)
    assert [(x["mixer"], x["hidden_dim"], x["use_rnn"]) for x in values] == [
        ("qmix", 64, False), ("vdn", 64, False), ("qmix", 128, True), ("vdn", 128, True)
    ] * 2  # fmt: skip
    assert all((x["updates_per_step"], x["batch_size_run"], x["runner"]) == (None, 1, "episode") for x in values)


def test_both_sides_get_the_same_algorithm() -> None:
    from peers.cells import COMMON, OURS, cells

    cell = next(c for c in cells() if c.name == "rware-gru")
    ours, theirs = (dict(w.split("=", 1) for w in side.spec["words"][3:]) for side in cell.sides)
    assert set(ours) & set(theirs) >= {*COMMON, "use_rnn", "env_args.key", "env_args.time_limit"}
    assert {k for k in set(ours) & set(theirs) if ours[k] != theirs[k]} == {"test_nepisode"}
    assert set(ours) - set(theirs) == set(OURS) - {"test_nepisode"}


def test_both_sides_get_the_same_q_learning() -> None:
    from peers.cells import LEARNING, OUR_VALUES, VALUE_BASED, cells

    cell = next(c for c in cells() if c.name == "lbf-coop-vdn-gru")
    ours, theirs = (dict(w.split("=", 1) for w in side.spec["words"][3:]) for side in cell.sides)
    assert set(ours) & set(theirs) >= {*VALUE_BASED, "use_rnn", "hidden_dim", "env_args.key"}
    assert {k for k in set(ours) & set(theirs) if ours[k] != theirs[k]} == {"test_nepisode"}
    assert set(ours) - set(theirs) == set(OUR_VALUES) - {"test_nepisode"}
    assert all(side.spec["warm_iterations"] == LEARNING > VALUE_BASED["batch_size"] for side in cell.sides)


def test_a_full_replay_s_size() -> None:
    """Two episodes of 1 and 3 steps are 6 rows; of a mean length of 2, a replay of 10 has 30, of at most 3 steps 40."""
    from run_oamarl import replay_sizes

    class Rows:
        most = 40

        def row_bytes(self) -> int:
            return 7

    class Replay:
        ring, n_steps, capacity = Rows(), 4, 10

        def __len__(self) -> int:
            return 2

    assert replay_sizes(Replay()) == {"replay_bytes": 210, "replay_most_bytes": 280}


def test_their_runners_and_learners_carry_the_clock(tmp_path: Path) -> None:
    from clock import Clock
    from run_epymarl import clocked_learner, clocked_runner

    done: list[Any] = []

    class Runner:
        t_env = 3

        def run(self, test_mode: bool = False) -> str:
            return f"played, test {test_mode}"

    class Learner:
        def train(self, batch: Any, t_env: int, episode_num: int) -> None:
            done.append((batch, t_env, episode_num))

    clock = Clock(spec(tmp_path / "out.json", seconds=60.0))
    clocked_runner(Runner, clock)
    clocked_learner(Learner, clock)
    assert [Runner().run(), Runner().run(test_mode=True)] == ["played, test False", "played, test True"]
    assert clock._iteration == 0, "tests are no iterations"
    Learner().train("batch", 5, 6)
    assert done == [("batch", 5, 6)]
    assert clock._updates == 1


def test_quick_only_shortens() -> None:
    from peers.cells import cells

    full, quick = ({c.name: c for c in cells(q)} for q in (False, True))
    assert set(full) == set(quick)
    different = {name for name in full if full[name].sides != quick[name].sides}
    assert different == {name for name in full if name.startswith("rware")}


# -- other frameworks ----------------------------------------------------------------------------------------------


def fake_epymarl(folder: Path) -> Path:
    (folder / "src" / "envs").mkdir(parents=True)
    (folder / "src" / "main.py").write_text("")
    (folder / "src" / "envs" / "__init__.py").write_text(
        "import sys\nfrom .smaclite_wrapper import SMACliteWrapper\nREGISTRY = {}\n"
    )
    (folder / "requirements.txt").write_text("numpy\nPyYAML==5.3.1\nsacred\n")
    return folder


def test_repairs_are_made_on_a_copy(tmp_path: Path) -> None:
    from peers import install

    checkout = fake_epymarl(tmp_path / "checkout")
    before = (checkout / "src" / "envs" / "__init__.py").read_text()
    install.copy_tree(checkout, tmp_path / "copy")
    install.repair(tmp_path / "copy")
    assert (checkout / "src" / "envs" / "__init__.py").read_text() == before
    assert (tmp_path / "copy" / "requirements.txt").read_text() == "numpy\nPyYAML\nsacred\n"
    done = subprocess.run(
        [sys.executable, "-c", "import envs; print(envs.SMACliteWrapper, envs.REGISTRY)"],
        cwd=tmp_path / "copy" / "src", capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "None {}\n", done.stderr


def test_a_bare_git_directory_will_do(tmp_path: Path) -> None:
    from peers import install

    checkout = fake_epymarl(tmp_path / "checkout")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], cwd=checkout, check=True)
    install.copy_tree(checkout / ".git", tmp_path / "copy")
    assert (tmp_path / "copy" / "src" / "main.py").is_file()
    assert not (tmp_path / "copy" / "source.tar").exists()


def test_what_is_not_epymarl_is_refused(tmp_path: Path) -> None:
    from peers import install

    with pytest.raises(install.SetupError, match="no checkout"):
        install.copy_tree(tmp_path / "nothing", tmp_path / "copy")
    with pytest.raises(install.SetupError, match="--epymarl"):
        install.epymarl(None, tmp_path)


# -- the clock -----------------------------------------------------------------------------------------------------


def spec(out: Path, **more: Any) -> dict[str, Any]:
    timing = {"seconds": 0.0, "warm_seconds": 0.0, "warm_iterations": 1, "min_iterations": 2}
    return {"kind": "run", "out": str(out), **timing, **more}


def test_clock_counts_between_whole_iterations(tmp_path: Path) -> None:
    from clock import Clock, Measured

    out = tmp_path / "out.json"
    clock, updates = Clock(spec(out)), []

    def program() -> None:
        for n in range(10):
            clock.iteration(100 + 7 * n)
            clock.learn(lambda n=n: updates.append(n))

    with pytest.raises(Measured):
        program()
    found = json.loads(out.read_text())
    # iteration 0 warms up; 1 and 2 are measured, and the clock stops where 3 begins
    assert (found["steps"], found["iteration"], found["updates"], updates) == (14.0, 2.0, 2, [0, 1, 2])
    assert found["wall"] > 0
    assert 0 < found["memory"]["main"] <= found["memory"]["all"]
    assert found["versions"]["numpy"]


def test_clock_measures_at_least_the_time_asked_for(tmp_path: Path) -> None:
    from clock import Clock, Measured

    out = tmp_path / "out.json"
    clock = Clock(spec(out, seconds=0.05))

    def program() -> None:
        for n in range(10**7):
            clock.iteration(n)

    with pytest.raises(Measured):
        program()
    assert json.loads(out.read_text())["wall"] >= 0.05


def test_collection_alone_updates_nothing(tmp_path: Path) -> None:
    from clock import Clock

    assert Clock(spec(tmp_path / "out.json", kind="collect")).learn(lambda: 1 / 0) is None


def test_repeated_updates_leave_the_warm_up_out(tmp_path: Path) -> None:
    from clock import Clock, Measured

    out, done = tmp_path / "out.json", []
    samples = iter(range(0, 10**6, 5))
    clock = Clock(spec(out, warm_iterations=3))
    with pytest.raises(Measured):
        clock.repeat(lambda: done.append("u"), before=lambda: done.append("b"), samples=lambda: next(samples))
    calls = json.loads(out.read_text())["calls"]
    assert done == ["b", "u"] * len(done[::2])
    assert len(calls) >= 2
    assert len(done) // 2 >= 3 + len(calls)
    assert {call["samples"] for call in calls} == {5}


def test_time_and_memory_of_children_are_counted() -> None:
    import clock

    work = (
        "import time\nx = bytearray(50_000_000)\nwhile time.process_time() < 0.3: pass\nprint(1, flush=True)\ninput()"
    )
    child = subprocess.Popen([sys.executable, "-c", work], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        own = clock.processes(os.getpid())
        assert child.pid in own
        assert clock.cpu_seconds(own) - clock.cpu_seconds([os.getpid()]) >= 0.25
        found = clock.memory(os.getpid())
        assert found["all"] >= found["main"] + 50
    finally:
        child.communicate(b"\n")


# -- rounds --------------------------------------------------------------------------------------------------------


def measure_fake(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str, timeout: float) -> dict[str, Any]:
    from peers import install, rounds
    from peers.cells import Side

    (folder / "run_fake.py").write_text(text)
    monkeypatch.setattr(rounds, "SIDES", folder)
    program = install.Program(sys.executable, folder)
    found: dict[str, Any] = rounds.measure(Side("fake", "fake", {"x": 3}), program, {"seconds": 1.0}, timeout)
    return found


def test_a_side_is_told_its_specification_and_nothing_of_it_survives(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = (
        "import json, subprocess, sys\nspec = json.load(open(sys.argv[1]))\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "json.dump({'x': spec['x'], 'seconds': spec['seconds'], 'child': child.pid}, open(spec['out'], 'w'))\n"
    )
    found = measure_fake(monkeypatch, tmp_path, text, PATIENCE)
    assert (found["x"], found["seconds"]) == (3, 1.0)
    state = Path(f"/proc/{found['child']}/stat")
    end = time.monotonic() + PATIENCE
    while state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < end, "the program's own child is still there"


def test_a_side_that_fails_says_how(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from peers.rounds import SideError

    with pytest.raises(SideError, match=r"(?s)fake ended with 3 .*last words"):
        measure_fake(monkeypatch, tmp_path, "import sys\nprint('last words')\nsys.exit(3)\n", 60)


@pytest.mark.slow
def test_own_side_end_to_end(tmp_path: Path) -> None:
    """One real comparison of two of this project's methods, through the command line."""
    out = tmp_path / "out.json"
    words = ["--quick", "--seconds", "0.2", "--cache", str(tmp_path), "--json", str(out), "happo-8p-10env"]
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "compare.py"), *words], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    cell = json.loads(out.read_text())["cells"]["happo-8p-10env"]
    assert set(cell["summary"]) == {"HAPPO", "MAPPO non-shared"}
    calls = cell["rounds"][0]["HAPPO"]["calls"]
    # each update processes every agent's 500 steps in each of 4 epochs
    facts = cell["rounds"][0]["HAPPO"]["facts"]
    assert {call["samples"] for call in calls} == {facts["filled"] * 8 * 4}
    assert "### LBF 8 agents" in done.stdout


def test_a_wrong_cell_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "compare.py"), "lbf-mpl"], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 1
    assert "no cell 'lbf-mpl'" in done.stderr


def test_updates_in_turn() -> None:
    program = [sys.executable, str(BENCHMARKS / "in_turn.py"), "--rounds", "3", "--threads", "1"]
    words = ["happo", "oappo reuse_mode=sample", "--", "--env-config=matrix", "with", "hidden_dim=16", "epochs=1"]
    done = subprocess.run([*program, *words], capture_output=True, text=True, check=True)
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines()[2:]]
    assert [row[0].strip() for row in rows] == ["happo", "oappo reuse_mode=sample"]
    assert [float(x) for x in rows[0][3:]] == [1, 1]
    assert all(float(x) > 0 for row in rows for x in row[1:])


# -- JaxMARL's own MAPPO -------------------------------------------------------------------------------------------

SETTINGS = "baselines/MAPPO/config/mappo_homogenous_rnn_smax.yaml"
#: what the side needs of JaxMARL's program: the imports that are replaced, and what it logs of two updates
PROGRAM = """
import distrax, hydra, jax, jax.experimental, jax.numpy as jnp, wandb
from omegaconf import OmegaConf

@hydra.main(config_name="mappo")
def main(config): raise AssertionError

def make_train(config):
    def log(chance, entropy):
        for k, rate in enumerate((float("nan"), chance)):
            steps = k * config["NUM_ENVS"] * config["NUM_STEPS"]
            wandb.log({"env_step": steps, "returns": 2 * rate, "win_rate": rate, "entropy": entropy})

    def train(key):
        policy = distrax.Categorical(logits=jnp.log(jnp.array([[1.0, 3.0]])))
        chance = jnp.exp(policy.log_prob(jnp.array([1])))[0]
        jax.experimental.io_callback(log, None, chance, policy.entropy()[0])
        return policy.sample(seed=key)
    return train
"""


needs_smax = pytest.mark.skipif(
    not (importlib.util.find_spec("jax") and importlib.util.find_spec("jaxmarl")), reason="needs the extra smax"
)


@needs_smax
def test_jaxmarl_side_keeps_what_the_program_logs(tmp_path: Path) -> None:
    folder = tmp_path / "checkout" / "baselines" / "MAPPO"
    (folder / "config").mkdir(parents=True)
    (folder / "mappo_rnn_smax.py").write_text(PROGRAM)
    settings = "NUM_ENVS: 4\nNUM_STEPS: 8\nLR: 0.5\nWANDB_MODE: disabled\n"
    (folder / "config" / "mappo_homogenous_rnn_smax.yaml").write_text(settings)
    side, out = BENCHMARKS / "jaxmarl_mappo.py", tmp_path / "curve.json"
    words = ["--map", "2s3z", "--steps", "64", "--seed", "3", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, str(side), str(tmp_path / "checkout"), *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    curve = json.loads(out.read_text())
    # the first update ended no battle; 4 x 8 steps are made in each; returns are 20 for a battle won
    assert curve["return_mean"] == [[64, 15.0]]
    assert curve["metrics"]["battle_won_mean"] == [[64, 0.75]]
    assert curve["t_env"] == 64
    assert curve["config"]["seed"] == 3
    assert curve["config"]["settings"] == {
        "NUM_ENVS": 4, "NUM_STEPS": 8, "LR": 0.5, "MAP_NAME": "2s3z", "TOTAL_TIMESTEPS": 64
    }  # fmt: skip
    missing = subprocess.run([sys.executable, str(side), str(tmp_path), *words], capture_output=True, text=True)
    assert missing.returncode == 1
    assert missing.stderr == f"{tmp_path} is no checkout of JaxMARL: it has no {SETTINGS}.\n"


@needs_smax
@pytest.mark.slow
def test_scripts_fight_as_they_say() -> None:
    """Scripts fire whenever they can; one that fires together does so nearly always, and wins more than the others."""
    program = [sys.executable, str(BENCHMARKS / "smax_tactics.py"), "--battles", "256"]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()[2:]]
    assert [row[0] for row in rows] == [
        "script: advances, closest enemy", "script: advances, one enemy together",
        "script: waits, closest enemy", "script: waits, one enemy together",
    ]  # fmt: skip
    won, together, fires = ([float(row[k]) for row in rows] for k in (1, 2, 3))
    assert fires == [1.0] * 4
    assert min(together[1], together[3]) > 0.9 > max(together[0], together[2])
    assert won[1] == max(won)


# -- everything on one device ----------------------------------------------------------------------------------------

#: a machine that has torch, JAX and JaxMARL, and nothing of this project installed
BARE = """
import importlib.util, runpy, sys
for name in ("sacred", "gymnasium", "gym", "pymongo", "pandas", "matplotlib", "vmas", "mujoco", "pettingzoo"):
    sys.modules[name] = None
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "oamarl" else find(name, *more)
program, out = sys.argv[1:]
sys.argv = [program, "--cpu", "--cells", "0", "--out", out]
runpy.run_path(program, run_name="__main__")
"""


@pytest.mark.skipif(
    not (importlib.util.find_spec("jax") and importlib.util.find_spec("jaxmarl")), reason="needs the extra smax"
)
def test_the_gpu_s_measurement_starts_on_a_bare_machine(tmp_path: Path) -> None:
    out, program = tmp_path / "gpu.json", BENCHMARKS / "gpu.py"
    done = subprocess.run(
        [sys.executable, "-c", BARE, str(program), str(out)], capture_output=True, text=True, timeout=PATIENCE,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert set(found["numbers"]) == {"mappo MLP", "mappo GRU", "oappo MLP"}
    for numbers in found["numbers"].values():
        assert numbers["of the first step"] == 1.0
        assert numbers["log_prob, first step"] < 1e-4
        assert numbers["update, largest relative difference of a figure"] < 1e-3


def test_the_page_has_the_figures_of_growth() -> None:
    docs = BENCHMARKS.parent / "docs"
    program = [sys.executable, str(BENCHMARKS / "growth.py"), "--from", str(docs / "results" / "growth.json")]
    done = subprocess.run(program, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert len(done.stdout.splitlines()) > 40
    assert done.stdout in (docs / "growth.md").read_text()


#: measures two sizes of two axes
FEW = """
import growth
growth.AXES = {axis: (label, (1, 2), lines) for axis, (label, _, lines) in growth.AXES.items()}
growth.main()
"""


def test_growth_is_measured_and_drawn(tmp_path: Path) -> None:
    out, picture = tmp_path / "growth.json", tmp_path / "growth.png"
    program = [sys.executable, "-c", FEW, "--only", "slots", "seeds", "--seconds", "0.01"]
    done = subprocess.run(
        [*program, "--out", str(out), "--picture", str(picture)], capture_output=True, text=True, timeout=PATIENCE,
        cwd=BENCHMARKS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    points = json.loads(out.read_text())["points"]
    assert [p["size"] for p in points["slots"]["mappo, GRU"]] == [1, 2]
    assert all(p["update"] > 0 and p["step"] > 0 for p in points["slots"]["mappo"])
    assert [sorted(p) for p in points["seeds"]["oappo"]] == [["memory", "size", "step"]] * 2
    assert len(done.stdout.splitlines()) == 2 + 2 * 2 * 2
    assert picture.stat().st_size > 10_000


def test_the_page_has_the_gpu_s_figures() -> None:
    docs = BENCHMARKS.parent / "docs"
    page, rows = (docs / "performance.md").read_text(), []
    for stored in (docs / "results").glob("gpu-h100*.json"):
        program = [sys.executable, str(BENCHMARKS / "gpu.py"), "--table", str(stored)]
        done = subprocess.run(program, capture_output=True, text=True, timeout=PATIENCE, check=True)
        rows += done.stdout.splitlines()
    assert len(rows) > 10
    assert [row for row in rows if row not in page] == []


def test_the_gpu_s_measurement_without_a_gpu_is_one_sentence() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "gpu.py")], capture_output=True, text=True, timeout=PATIENCE,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip() == "torch finds no GPU here: use --cpu for small sizes on the processor cores."


#: a training program in the form of SEAC's: twice two steps in each of its four environments, by agents that stay
SEAC = """
import torch
from sacred import Experiment

from a2c import WORD
from envs import make_vec_envs
from wrappers import RecordEpisodeStatistics, SquashDones
import lbforaging, robotic_warehouse, gym.spaces.utils
from torch.utils.tensorboard import SummaryWriter

ex = Experiment()


@ex.config
def config():
    env_name, num_env_steps, loss_dir = None, 100, "here"
    log_interval, save_interval, eval_interval = 2000, 1, 1


@ex.automain
def main(_run, env_name, num_env_steps, seed, loss_dir, log_interval, save_interval, eval_interval):
    assert (num_env_steps, loss_dir, log_interval, save_interval, eval_interval) == (64, None, 500, None, None)
    SummaryWriter(WORD).add_scalar("loss", 1.0)
    envs = make_vec_envs(env_name, seed, False, 4, None, (RecordEpisodeStatistics, SquashDones), "cpu")
    first = envs.reset()
    assert [x.shape for x in first] == [(4, 15)] * 2 and [space.n for space in envs.action_space] == [6, 6]
    assert not torch.equal(first[0][0], first[0][1]), "environments have seeds of their own"
    ends = []
    for _ in range(4):
        obs, reward, done, infos = envs.step([torch.zeros(4, 1, dtype=torch.int64)] * 2)
        assert reward.shape == (4, 2) and obs[1].shape == (4, 15)
        ends.append(done.tolist())
        told = [info for info in infos if info]
        assert [bool(info) for info in infos] == [bool(x) for x in done]
        assert all(info["TimeLimit.truncated"] and info["episode_length"] == 2 for info in told)
    assert ends == [[0.0] * 4, [1.0] * 4] * 2, "an episode of two steps ends and another begins"
    assert all((info["episode_reward"] == 0).all() for info in told)
    for j, value in ((500, 0.25), (1000, 0.75)):
        _run.log_scalar("episode_reward", value, j)
        _run.log_scalar("episode_length", 2.0, j)
    envs.close()
"""


def test_seac_side_keeps_what_the_program_logs(tmp_path: Path) -> None:
    pytest.importorskip("lbforaging")
    folder = tmp_path / "checkout" / "seac"
    folder.mkdir(parents=True)
    for name in ("distributions", "model", "storage", "utils"):
        (folder / f"{name}.py").write_text("")
    (folder / "a2c.py").write_text("WORD = 'a2c'\n")
    side, out = BENCHMARKS / "seac_program.py", tmp_path / "curve.json"
    words = ["--key", "lbforaging:Foraging-8x8-2p-3f-v3", "--time-limit", "2", "--steps", "64", "--seed", "3"]
    command = [sys.executable, str(side), str(tmp_path / "checkout"), *words, "--out", str(out)]
    missing = subprocess.run(command, capture_output=True, text=True)
    assert missing.returncode == 1
    assert missing.stderr.endswith(f"{tmp_path / 'checkout'} is no checkout of SEAC: it has no seac/train.py.\n")
    (folder / "train.py").write_text(SEAC)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    curve = json.loads(out.read_text())
    # an update is 4 x 5 environment steps
    assert curve["return_mean"] == [[10_000, 0.25], [20_000, 0.75]]
    assert (curve["t_env"], curve["config"]["seed"], curve["config"]["env_args"]["time_limit"]) == (20_000, 3, 2)
