"""`oamarl doctor`: what works, what is missing and what is broken, and that nothing which is tried takes it down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from oamarl.envs.conformance.examples import examples
from oamarl.main import main
from oamarl.modules.kernels import build
from oamarl.storage.mongo.connection import VARIABLE
from oamarl.tools.doctor import command, environments, probes, processes
from oamarl.tools.doctor.checks import FAILS, MISSING, NOT_HERE, STATES, WORKS, Check, catalogue, names
from oamarl.tools.doctor.processes import Result, attempt
from oamarl.utils.errors import NotInstalled, UserError

from conftest import PATIENCE, SRC
from mongo_server import MongoServer

#: hides packages from `import` and from whatever looks for them
HIDING = """
import importlib.machinery
usual = importlib.machinery.PathFinder.find_spec
def find_spec(name, path=None, target=None):
    return None if name in {hidden!r} else usual(name, path, target)
importlib.machinery.PathFinder.find_spec = find_spec
"""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write packages that child processes find before the installed ones, and hide others."""

    def write(hidden: tuple[str, ...] = (), **sources: str) -> None:
        for name, source in sources.items():
            (tmp_path / f"{name}.py").write_text(source)
        if hidden:
            (tmp_path / "sitecustomize.py").write_text(HIDING.format(hidden=set(hidden)))
        monkeypatch.delenv("MUJOCO_GL", raising=False)  # a test that drew in this process has set it
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")

    return write


def examine(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    """Return the exit status and the document of ``oamarl doctor --json``."""
    status = main(("doctor", "--json", *words))
    out, err = capsys.readouterr()
    assert err == ""
    return status, json.loads(out)


def states(found: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["state"] for one in found["checks"]}


def said(found: dict[str, Any], name: str) -> str:
    return next(str(one["said"]) for one in found["checks"] if one["name"] == name)


# -- processes of their own --------------------------------------------------------------------------------------


def test_what_works_and_what_is_missing(capsys: pytest.CaptureFixture[str], packages: Any) -> None:
    packages(hidden=("optuna", "imageio_ffmpeg", "mujoco"))
    status, found = examine(capsys, "matrix", "optuna", "mp4", "mamujoco", "gif")
    assert status == 0
    assert states(found) == {
        "matrix": WORKS, "mamujoco": MISSING, "gif": WORKS, "mp4": MISSING, "optuna": MISSING,
    }  # fmt: skip
    assert found["ok"] is True
    assert said(found, "optuna") == "A search needs the package optuna: pip install -e '.[optuna]'."
    assert "run `pip install -e '.[mamujoco]'`" in said(found, "mamujoco")
    assert "run `pip install imageio-ffmpeg`" in said(found, "mp4")


def test_what_is_broken(capsys: pytest.CaptureFixture[str], packages: Any) -> None:
    """One raises on import, one does not come back, one kills its process: none takes another with it."""
    packages(
        wandb="print('looking for a key')\nraise RuntimeError('no  such key')",
        ray="import time\nprint('starting the cluster.')\nwhile True:\n    time.sleep(0.01)",
        optuna="import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
        mujoco="raise RuntimeError('no library')",
    )
    status, found = examine(capsys, "ray", "wandb", "optuna", "mamujoco", "matrix", "--seconds=8")
    assert status == 1
    assert found["ok"] is False
    expected = {"matrix": WORKS, "mamujoco": FAILS, "ray": FAILS, "optuna": FAILS, "wandb": FAILS}
    assert states(found) == expected
    assert said(found, "wandb").startswith("RuntimeError: no such key (wandb.py, line 2)")
    assert said(found, "ray") == "It does not come back within 8 s; its last words: starting the cluster."
    assert said(found, "optuna") == "Its process ends by the signal SIGKILL."
    assert said(found, "mamujoco") == "mamujoco cannot be used: importing MuJoCo fails: no library."


def test_a_core_package_that_is_missing(capsys: pytest.CaptureFixture[str], packages: Any) -> None:
    packages(hidden=("sacred", "rware"))
    status, found = examine(capsys, "sacred", "rware", "maze")
    assert status == 1
    assert states(found) == {"sacred": FAILS, "rware": MISSING, "maze": WORKS}


def test_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    _, found = examine(capsys, "gif")
    assert set(found) == {"oamarl", "python", "executable", "platform", "ok", "checks"}
    (one,) = found["checks"]
    assert set(one) == {"name", "group", "core", "state", "said", "seconds"}
    assert (one["name"], one["group"], one["core"], one["state"]) == ("gif", "pictures", False, WORKS)
    assert one["seconds"] > 0


def test_a_database(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "mongodb://user:secret@127.0.0.1:1/runs?serverSelectionTimeoutMS=200")
    status, found = examine(capsys, "mongodb")
    assert (status, states(found)) == (1, {"mongodb": FAILS})
    assert said(found, "mongodb") == "MongoDB at 127.0.0.1:1 does not answer."


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing(packages: Any, tmp_path: Path, number: signal.Signals) -> None:
    packages(ray=f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)")
    started = subprocess.Popen(
        [sys.executable, str(SRC / "main.py"), "doctor", "ray"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=os.environ,
    )  # fmt: skip
    end = time.monotonic() + PATIENCE
    while not ((tmp_path / "pid").is_file() and (tmp_path / "pid").read_text()):
        assert time.monotonic() < end
        time.sleep(0.02)
    started.send_signal(number)
    out, err = started.communicate(timeout=PATIENCE)
    assert started.returncode == 128 + number
    assert out == ""
    assert "Traceback" not in err
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


# -- in this process ---------------------------------------------------------------------------------------------


def test_names() -> None:
    found = catalogue()
    assert len({check.name for check in found}) == len(found)
    for name in ("core", "environments", "gymma", "smax", "draw-lbf"):
        assert name in names()
    assert [c.name for c in found if c.called("gymma")] == ["lbf", "rware", "pettingzoo"]
    core = {check.name for check in found if check.core}
    assert {"torch", "sacred", "workers", "maze", "matrix", "lbf", "rware"} <= core
    assert not core & {"smax", "mamujoco", "pettingzoo", "sc2", "gfootball", "cuda", "ray"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["smaxx"], "`oamarl doctor` does not know 'smaxx': use torch, "),
        (["smaxx"], "did you mean 'smax'?"),
        (["--jsn"], "`oamarl doctor` has no flag '--jsn'; did you mean '--json'?"),
        (["--seconds=0"], "a whole number from 1 on is expected"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], words: list[str], says: str) -> None:
    assert main(["doctor", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1


def raising(error: BaseException) -> Any:
    def probe(*given: Any) -> str:
        raise error

    return probe


@pytest.mark.parametrize(
    ("error", "state", "says"),
    [
        (NotInstalled("run `pip install x`."), MISSING, "run `pip install x`."),
        (probes.NotHere("no GPU."), NOT_HERE, "no GPU."),
        (probes.Broken("wrong."), FAILS, "wrong."),
        (UserError("cannot be used."), FAILS, "cannot be used."),
        (SystemExit(3), FAILS, "SystemExit: 3 (test_doctor.py"),
        (ZeroDivisionError(), FAILS, "ZeroDivisionError (test_doctor.py"),
    ],
)
def test_states(error: BaseException, state: str, says: str) -> None:
    found, told = attempt(Check("x", "extras", raising(error)))
    assert found == state
    assert told.startswith(says)


@pytest.mark.parametrize(
    ("core", "state", "fine"),
    [
        (True, WORKS, True), (True, MISSING, False), (True, NOT_HERE, False), (True, FAILS, False),
        (False, WORKS, True), (False, MISSING, True), (False, NOT_HERE, True), (False, FAILS, False),
    ],
)  # fmt: skip
def test_what_decides_the_exit_status(core: bool, state: str, fine: bool) -> None:
    assert command.sound(Check("x", "extras", str, core), Result(state, "", 0.0)) is fine


def test_a_package_that_is_missing_by_the_environments_file(monkeypatch: pytest.MonkeyPatch) -> None:
    example = next(e for e in examples() if e.name == "mamujoco")
    monkeypatch.setattr(environments, "_played", raising(UserError("there is no simulator: pip install it.")))
    with pytest.raises(UserError) as found:
        environments.play(example)
    assert not isinstance(found.value, NotInstalled)
    monkeypatch.setattr("oamarl.utils.schema.yamls.absent", lambda packages: ["mujoco"])
    with pytest.raises(NotInstalled, match="there is no simulator"):
        environments.play(example)


def test_a_server_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(probes.NotHere, match="MONGO_URL is not set"):
        probes.mongodb()
    with MongoServer() as server:
        monkeypatch.setenv(VARIABLE, server.url("/runs"))
        assert probes.mongodb() == f"127.0.0.1:{server.port}/runs answers"


def test_compilers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if build.find_compiler() is not None:
        assert "network.c" in probes.compiler()
    bad = tmp_path / "cc"
    bad.write_text("#!/bin/sh\necho 'no such header' >&2\nexit 1\n")
    bad.chmod(0o755)
    monkeypatch.setenv("CC", str(bad))
    with pytest.raises(probes.Broken, match=r"does not compile network\.c: no such header"):
        probes.compiler()
    monkeypatch.setenv("CC", str(tmp_path / "none"))
    with pytest.raises(NotInstalled, match="apt-get install -y gcc"):
        probes.compiler()
    monkeypatch.setenv(build.VARIABLE, "0")
    with pytest.raises(probes.NotHere, match="OAMARL_NATIVE=0"):
        probes.compiler()


SHOWN = {
    "torch": Result(WORKS, "2.13.0", 1.0),
    "maze": Result(FAILS, "It does not come back within 90 s.", 90.0),
    "smax": Result(MISSING, "smax needs the Python package 'jax': run `pip install -e '.[smax]'`.", 1.0),
    "cuda": Result(NOT_HERE, "There is no GPU: networks are on the CPU.", 1.0),
}
LIST = """
core
  torch  works          2.13.0

environments
  maze   fails          It does not come back within 90 s.
  smax   not installed  smax needs the Python package 'jax': run `pip install -e '.[smax]'`.

devices
  cuda   not here       There is no GPU: networks are on the CPU.

4 checks: 1 works, 1 not installed, 1 not here, 1 fails.
"""


@pytest.mark.parametrize("width", [None, 120, 80, 60, 40])
def test_the_list(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int | None) -> None:
    checks = [check for check in catalogue() if check.name in SHOWN]
    if width is not None:
        monkeypatch.setenv("COLUMNS", str(width))
    command.show(checks, SHOWN)
    out = capsys.readouterr().out
    assert out.isascii()
    if width is None:
        assert out.partition("\n")[2] == LIST
        return
    assert max(len(line) for line in out.splitlines() if "/" not in line) <= width
    for state in STATES:
        assert state in out
    assert " ".join(LIST.split()[-12:]) in " ".join(out.split())


def test_a_killed_child_takes_what_it_started(tmp_path: Path, packages: Any) -> None:
    """A game that a check has started ends with it."""
    packages(
        ray=f"import subprocess\ngame = subprocess.Popen(['sleep', '600'])\n"
        f"open({str(tmp_path / 'game')!r}, 'w').write(str(game.pid))\ngame.wait()"
    )
    ray = next(check for check in catalogue() if check.name == "ray")
    results = [result for _, _, result in processes.run([ray], 5.0) if result is not None]
    assert [r.said for r in results] == ["It does not come back within 5 s."]
    end = time.monotonic() + PATIENCE
    while alive(int((tmp_path / "game").read_text())):
        assert time.monotonic() < end
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
