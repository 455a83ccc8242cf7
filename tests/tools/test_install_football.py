"""`oamarl install football`: what the system lacks, a build that is gone on with, the kept wheel, and the extras."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from oamarl.main import main
from oamarl.tools.install import football
from oamarl.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
STANDINS = ROOT / "tests" / "helpers" / "standins"
PYTHON = f"cp{sys.version_info[0]}{sys.version_info[1]}"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A cache folder, a system that lacks nothing, and a pip that only notes what it is asked for."""
    calls: list[tuple[str, ...]] = []

    def pip(*words: str) -> None:
        calls.append(words)
        if words[0] == "download":
            archive = Path(words[words.index("-d") + 1]) / f"gfootball-{football.VERSION}.tar.gz"
            source = tmp_path / f"gfootball-{football.VERSION}"
            source.mkdir()
            (source / "setup.py").touch()
            with tarfile.open(archive, "w:gz") as opened:
                opened.add(source, source.name)
            (source / "setup.py").unlink()
            source.rmdir()

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(STANDINS))
    monkeypatch.setattr(football, "check_system", lambda: None)
    monkeypatch.setattr(football, "pip", pip)
    return SimpleNamespace(folder=tmp_path / "cache" / "oamarl" / "football", pip=calls, patch=monkeypatch)


def built(here: SimpleNamespace, fails: bool = False) -> list[list[str]]:
    """Make a build one of a few lines; returns the commands that are run."""
    commands: list[list[str]] = []

    def watched(words: list[str], environment: dict[str, str], log: Path) -> tuple[int, list[str]]:
        commands.append(words)
        assert (Path(words[-1]) / "setup.py").is_file()
        first = environment["PATH"].partition(os.pathsep)[0]
        said = subprocess.check_output([f"{first}/python3", "-c", "import sys; print(sys.prefix)"], text=True)
        assert said.strip() == sys.prefix  # its script's `python3` is this one
        log.write_text("out\n")
        if fails:
            return 1, ["c++: internal compiler error: Killed"]
        made = Path(words[words.index("-w") + 1])
        made.mkdir()
        (made / f"gfootball-{football.VERSION}-{PYTHON}-{PYTHON}-linux_{os.uname().machine}.whl").touch()
        return 0, []

    here.patch.setattr(football, "_watched", watched)
    return commands


def test_it_is_built_once(here: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    commands = built(here)
    assert main(["install", "football"]) == 0
    said = capsys.readouterr().out
    assert "about 12 minutes of processor time" in said
    assert re.search(r"An episode of academy_pass_and_shoot_with_keeper with random actions: \d+ steps in", said)
    assert "Try: oamarl --config=happo --env-config=gfootball with env_args.map_name=academy_3_vs_1_with_keeper" in said
    assert len(commands) == 1
    (wheel,) = here.folder.glob("*.whl")
    assert [p.name for p in here.folder.iterdir() if p.name != "lock"] == [wheel.name]  # the rest is cleared away
    assert here.pip[-1] == ("install", "-q", "--no-deps", "--force-reinstall", str(wheel))
    here.pip.clear()
    here.patch.setattr(football, "check_system", lambda: pytest.fail("a wheel that is there needs no compiler"))
    assert main(["install", "football"]) == 0
    assert f"The engine was built before: {wheel}" in capsys.readouterr().out
    assert len(commands) == 1
    assert [words[:2] for words in here.pip] == [("install", "-q")] * 2


def test_a_build_that_fails_is_gone_on_with(here: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    built(here, fails=True)
    assert main(["install", "football"]) == 2
    said = capsys.readouterr().err
    assert "c++: internal compiler error: Killed" in said
    assert "The build of Google Research Football failed" in said
    assert (here.folder / "build.log").read_text() == "out\n"
    (source,) = here.folder.glob("source-*")
    (source / "compiled.o").touch()
    commands = built(here)
    assert main(["install", "football"]) == 0
    assert commands[0][-1] == str(source)
    assert sum(words[0] == "download" for words in here.pip) == 1
    assert not source.exists()


def test_progress_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"  [{k:3}%] Building CXX object a.cpp.o" for k in (0, 1, 4, 5, 7, 12)] + ["  c++: error"]
    code = f"import sys; print({chr(10).join(lines)!r}); sys.exit(3)"
    status, last = football._watched([sys.executable, "-c", code], dict(os.environ), tmp_path / "log")
    assert (status, last[-1]) == (3, "  c++: error")
    assert (tmp_path / "log").read_text().splitlines() == lines
    assert re.findall(r"(\d+) % after \d+ s", capsys.readouterr().out) == ["0", "5", "12"]


def test_wheels_of_another_python_are_not_taken(tmp_path: Path) -> None:
    machine = os.uname().machine
    for name in ("cp27-cp27-linux_" + machine, f"{PYTHON}-{PYTHON}-linux_another"):
        (tmp_path / f"gfootball-{football.VERSION}-{name}.whl").touch()
    assert football.find_wheel(tmp_path) is None
    own = tmp_path / f"gfootball-{football.VERSION}-{PYTHON}-{PYTHON}-linux_{machine}.whl"
    own.touch()
    assert football.find_wheel(tmp_path) == own


def test_flags_of_others_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install", "football", "--path", "/tmp"]) == 2
    assert "`oamarl install football` takes no flags: '--path' is for the other things" in capsys.readouterr().err
    assert main(["install", "footbal"]) == 2
    assert "did you mean 'football'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lacks", "user", "said"),
    [
        (
            "cmake",
            1000,
            "needs 1 package of the system: have an administrator run `apt-get install -y --no-ins",
        ),
        ("apt-get", 0, "needs g++ (and SDL2 with its image, ttf and gfx libraries, OpenGL and Boost"),
        ("linux", 0, "is built on Linux: use Debian 12, or a container of it."),
    ],
)
def test_what_the_system_lacks(lacks: str, user: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = {"dpkg-query", "make", "cmake"} | ({"apt-get"} if lacks != "apt-get" else set())
    monkeypatch.setattr(football.shutil, "which", lambda name: name if name in programs else None)
    monkeypatch.setattr(football, "_has", lambda package: package != lacks)
    monkeypatch.setattr(football.os, "geteuid", lambda: user)
    monkeypatch.setattr(football.sys, "platform", "darwin" if lacks == "linux" else "linux")
    with pytest.raises(UserError) as error:
        football.check_system()
    assert said in str(error.value)


@pytest.mark.parametrize("found", [["libboost_python27.so.1.74.0"], []])
def test_boost_of_another_python(found: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(football, "_boosts", lambda: [Path("/usr/lib", name) for name in found])
    said = r"Boost\.Python is for Python 2\.7, and this is Python 3\.\d+: make" if found else "which is not found"
    with pytest.raises(UserError, match=said):
        football._check_boost()


def test_a_game_that_does_not_play_is_one_sentence(here: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    built(here)
    events = here.folder.parent / "events"
    events.mkdir(parents=True)
    (events / "always-0").touch()
    here.patch.setenv("OAMARL_STANDIN_FOOTBALL", str(events))
    assert main(["install", "football"]) == 2
    assert "is installed but does not play: ended unexpectedly (signal SIGSEGV)" in capsys.readouterr().err


# -- the extras --------------------------------------------------------------------------------------------------


def extras() -> dict[str, list[str]]:
    """The extras that setup.py gives to setuptools."""
    given: dict[str, Any] = {}
    setuptools = SimpleNamespace(setup=lambda **words: given.update(words), find_namespace_packages=lambda *a, **k: [])
    code = (ROOT / "setup.py").read_text().replace("from setuptools import find_namespace_packages, setup", "")
    exec(compile(code, "setup.py", "exec"), {**vars(setuptools), "__file__": str(ROOT / "setup.py")})
    found: dict[str, list[str]] = given["extras_require"]
    return found


def test_the_extra_is_what_the_command_installs() -> None:
    assert tuple(extras()["football"]) == football.REQUIREMENTS


@pytest.mark.slow
def test_all_extras_can_be_installed_together(tmp_path: Path) -> None:
    """Above all gym, of which football needs an old release and VMAS any; pip resolves what is not here already, and
    installs nothing."""
    if importlib.util.find_spec("pip") is None:
        pytest.skip("there is no pip")
    report = tmp_path / "report.json"
    dry = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet"]
    if subprocess.run([*dry, "--ignore-installed", "--no-deps", "six"], capture_output=True, check=False).returncode:
        pytest.skip("no package index answers")
    everything = f"{ROOT}[{','.join(extras())}]"
    done = subprocess.run([*dry, "--report", str(report), everything], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    packages = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    found = {package["name"].lower(): package["version"] for package in packages}
    found = {package.name.lower(): package.version for package in importlib.metadata.distributions()} | found
    assert found["gym"] == "0.25.2"
    assert {"gymnasium", "jaxmarl", "mujoco", "ray", "torch", "vmas"} <= set(found)
