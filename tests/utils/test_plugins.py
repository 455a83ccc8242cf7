"""Environments and algorithms of other packages: found by entry points, and harmless when they are broken."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from oamarl import envs
from oamarl.main import main
from oamarl.parts import resolve
from oamarl.settings import Settings
from oamarl.storage.records import read_metrics
from oamarl.utils.errors import UserError
from oamarl.utils.schema import plugins
from oamarl.utils.schema.command_line import Request
from oamarl.utils.schema.layers import shipped

from conftest import PATIENCE, ROOT, SRC


def package(folder: Path, name: str, entries: str, files: dict[str, str] | None = None) -> None:
    """Put an installed package into ``folder``, as pip would have."""
    about = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(entries)
    for path, text in (files or {}).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


GAME = "from toy_envs import Ragged\nclass Game(Ragged):\n    pass\n"
SPACE = "[oamarl.environments]\n"
METHOD = "[oamarl.algorithms]\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def settings(config: str, env_config: str | None, **overrides: Any) -> Settings:
    return resolve(Request(config, env_config, {"seed": 1, **overrides}))


def listed(capsys: pytest.CaptureFixture[str], name: str) -> list[str]:
    assert main(["list"]) == 0
    return [x for x in capsys.readouterr().out.splitlines() if x.split()[:1] == [name]]


def test_an_environment_with_its_yaml(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    yaml = "# A game of theirs\nenv_args:\n  limit: 4\nt_max: 300\n"
    files = {"plug_a/__init__.py": "raise RuntimeError('imported')", "plug_a/grid.yaml": yaml}
    package(site, "plug-a", f"{SPACE}grid = plug_a.game:Game\n", files)
    assert [x.split(maxsplit=1)[1] for x in listed(capsys, "grid")] == ["A game of theirs  [plug-a 1.0]"]
    (site / "plug_a/__init__.py").write_text("")
    (site / "plug_a/game.py").write_text(GAME)
    found = settings("ippo", "grid", t_max=200)
    assert (found.values["env"], found.values["env_args"], found.values["t_max"]) == ("grid", {"limit": 4}, 200)
    assert found.source["env_args.limit"] == "grid.yaml of plug-a 1.0"
    # without a YAML of its own, and straight by its name
    (site / "plug_a/grid.yaml").unlink()
    assert settings("ippo", "grid").values["env"] == "grid"
    assert settings("ippo", None, env="grid", env_args={"limit": 2}).values["env_args"] == {"limit": 2}
    with pytest.raises(
        UserError, match=r"env_args\.limt is not an argument of environment 'grid'.*did you mean 'limit'"
    ):
        settings("ippo", "grid", env_args={"limt": 2})
    with pytest.raises(UserError, match=r"Unknown environment 'gridd'.*did you mean 'grid'"):
        settings("ippo", "gridd")


def test_algorithms_of_either_kind(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {
        "plug_b/__init__.py": "",
        "plug_b/learner.py": "from oamarl.learners.ppo import PPOLearner\nclass Mine(PPOLearner):\n    pass\n",
        "plug_b/mine.yaml": "# A method of theirs\ngae_lambda: 0.9\n",
        "plug_b/grouped.yaml": "# MAPPO with two networks\nlearner: ppo_learner\nsharing: [0, 1]\ngae_lambda: 0.95\n",
    }
    package(site, "plug-b", f"{METHOD}mine = plug_b.learner:Mine\ngrouped = plug_b\n", files)
    found = settings("mine", "maze")
    assert (found.values["learner"], found.values["name"]) == ("plug_b.learner:Mine", "mine")
    assert found.learner.__name__ == "Mine"
    assert found.values["gae_lambda"] == 0.9
    assert settings("grouped", "maze").values["sharing"] == [0, 1]
    assert "MAPPO with two networks  [plug-b 1.0]" in listed(capsys, "grouped")[0]


def test_what_is_broken_stops_nothing_else(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package(site, "bad-import", f"{SPACE}bad = bad_import:Game\n", {"bad_import.py": "import nothing_like_this"})
    package(site, "bad-code", f"{SPACE}ugly = bad_code:Game\n", {"bad_code.py": "def f(:\n"})
    package(site, "bad-name", f"{SPACE}lost = bad_name:Game\n", {"bad_name.py": "class Gane: ..."})
    package(site, "bad-gone", f"{SPACE}gone = not_there.at_all:Game\n")
    package(site, "bad-yaml", f"{METHOD}torn = bad_yaml\n", {"bad_yaml/__init__.py": "", "bad_yaml/torn.yaml": "a: [1"})
    package(site, "bad-bytes", f"{METHOD}bytes = bad_bytes\n", {"bad_bytes/__init__.py": ""})
    (site / "bad_bytes/bytes.yaml").write_bytes(b"# \xff\xfe\n")
    package(site, "bad-empty", f"{METHOD}empty = bad_empty\n", {"bad_empty/__init__.py": ""})
    package(site, "bad-file", "[oamarl.environments\nwhat is this")
    (site / "worse-1.0.dist-info").mkdir()
    package(site, "bad-text", "")
    (site / "bad_text-1.0.dist-info/entry_points.txt").write_bytes(b"[oamarl.environments]\nx\xff = y:Z\n")
    assert settings("ippo", "maze").values["env"] == "maze"
    for name in ("bad", "ugly", "lost", "gone", "torn", "bytes", "empty", "maze"):
        assert len(listed(capsys, name)) == 1, name
    for env, says in {
        "bad": "environment 'bad' of bad-import 1.0, 'bad_import:Game' cannot be imported: No module named 'noth",
        "ugly": "cannot be imported: SyntaxError",
        "lost": "The module 'bad_name' has no 'Game'; did you mean 'Gane'",
        "gone": "cannot be imported: No module named 'not_there'",
    }.items():
        with pytest.raises(UserError, match=says):
            settings("ippo", env)
    for config, says in {
        "torn": "torn.yaml of bad-yaml 1.0 is not YAML",
        "bytes": "bytes.yaml of bad-bytes 1.0 is not text in UTF-8",
        "empty": "'empty' of bad-empty 1.0 is incomplete: its entry point 'bad_empty' names no class",
    }.items():
        with pytest.raises(UserError, match=says):
            settings(config, "maze")


def test_names_that_clash(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package(site, "thief", f"{SPACE}maze = thief:Game\n{METHOD}mappo = thief:Learner\n", {"thief.py": "raise OSError"})
    for number in "12":
        package(site, f"twin-{number}", f"{SPACE}twin = twin{number}:Game\n", {f"twin{number}.py": GAME})
    found = settings("mappo", "maze")
    assert (found.values["env"], found.values["learner"]) == ("maze", "ppo_learner")  # ours come first
    lines = listed(capsys, "maze")
    assert len(lines) == 2
    assert "[thief 1.0; not reachable by this name, which is oamarl's own]" in lines[1]
    assert "taken twice" in listed(capsys, "twin")[0]
    with pytest.raises(
        UserError, match=r"'twin' is offered by twin-1 1\.0 and by twin-2 1\.0: uninstall one of them, or use"
    ):
        settings("ippo", "twin")
    assert settings("ippo", None, env="twin2:Game").values["env"] == "twin2:Game"  # the other way in


def test_a_package_that_is_found_twice_counts_once(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (site, tmp_path / "again"):
        package(folder, "plug-c", f"{SPACE}grid = plug_c:Game\n", {"plug_c.py": GAME})
    monkeypatch.syspath_prepend(str(tmp_path / "again"))
    entry = plugins.find("environment", "grid")
    assert entry is not None
    assert (entry.target, entry.package) == ("plug_c:Game", "plug-c 1.0")


def test_our_environments_can_be_named_by_their_yamls() -> None:
    """What protects a name of ours is its YAML."""
    assert set(envs.REGISTRY) <= set(shipped("envs"))


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("class Learner: ...", "has no dataclass `Config`"),
        ("class Learner:\n    Config = dict", "has no dataclass `Config`"),
        ("@dataclass\nclass C:\n    x: int = 3\nclass Learner:\n    Config = C", "declares 'x' without key"),
        (
            "@dataclass\nclass C: ...\nclass Learner:\n    Config = C\n    def train(self): ...",
            "no method parameters or load_weights or state_dict or load",
        ),
        ("raise OSError('flat battery')", "cannot be imported: OSError: flat battery"),
        ("Learner = 3", "has no dataclass `Config`"),
    ],
)
def test_a_learner_that_is_none(site: Path, code: str, says: str) -> None:
    name = f"lonely{abs(hash(code))}"
    (site / f"{name}.py").write_text(f"from dataclasses import dataclass\n{code}\n")
    with pytest.raises(UserError, match=says):
        settings("ippo", "maze", learner=f"{name}:Learner")


# -- the worked examples, installed as packages --------------------------------------------------------------------


def run(folder: Path, site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environ = {"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "HOME": str(folder)}
    return subprocess.run(
        [sys.executable, str(SRC / "main.py"), *words], cwd=folder, env=environ, timeout=PATIENCE,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both examples, installed by pip from copies (building leaves files beside the sources)."""
    folder = tmp_path_factory.mktemp("examples")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    for name in ("rendezvous", "kl-ppo"):
        shutil.copytree(ROOT / "examples" / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    names = [str(folder / name) for name in ("rendezvous", "kl-ppo")]
    done = subprocess.run(
        [*pip, "--target", str(folder / "site"), *names], capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.mark.slow
def test_the_examples_are_found_and_described(installed: Path, tmp_path: Path) -> None:
    done = run(tmp_path, installed, "list")
    assert done.returncode == 0, done.stderr
    assert re.search(r"rendezvous +Agents on a line .* \[oamarl-rendezvous 0\.1\]", done.stdout)
    assert re.search(r"mappo_kl +MAPPO with a KL penalty +\[oamarl-kl-ppo 0\.1\]", done.stdout)
    done = run(tmp_path, installed, "check-env", "rendezvous", "with", "env_args.n_agents=3")
    assert (done.returncode, "0 wrong, 0 to note." in done.stdout) == (0, True), done.stdout + done.stderr


@pytest.mark.slow
def test_the_examples_train_in_workers(installed: Path, tmp_path: Path) -> None:
    words = ("seed=1", "t_max=300", "test_nepisode=2", "test_interval=200", "kl_coef=0.5", "backend=process")
    more = ("workers=2", "batch_size_run=4", "log_interval=100", "env_args.cells=5", f"local_results_path={tmp_path}/r")
    done = run(tmp_path, installed, "--config=mappo_kl", "--env-config=rendezvous", "with", *words, *more)
    assert done.returncode == 0, done.stderr
    points = read_metrics(tmp_path / "r/sacred/mappo_kl/rendezvous/1")
    assert {"kl", "met_mean", "return_mean"} <= {name for p in points for name in p["metrics"]}
