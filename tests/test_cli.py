"""The program as it is typed: one sentence and status 2 for mistakes, the same program by every name."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from oamarl.main import main

from conftest import PATIENCE, ROOT, SRC


def mistake(done: subprocess.CompletedProcess[str]) -> str:
    """Check that a process told one sentence and nothing else, and return it."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


# -- in this process -----------------------------------------------------------------------------


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(words)
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize("words", [(), ("-h",), ("--help",), ("train", "--help"), ("--config=oappo", "-h")])
def test_help(capsys, words):
    status, out, err = call(capsys, *words)
    assert (status, err) == (0, "")
    assert "usage:" in out
    for command in ("train", "list", "config", "showcase"):
        assert f"\n  {command} " in out


def test_version(capsys):
    from oamarl import __version__

    assert call(capsys, "--version") == (0, f"oamarl {__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("lst",), "'list'"),
        (("--confg=oappo",), "'--config'"),
        (("list", "algoritms"), "'algorithms'"),
        (("config", "--yml"), "'--yaml'"),
        (("train", "--config=./no/such.yaml", "--env-config=maze"), "./no/such.yaml"),
        (("--config=oapo", "--env-config=maze"), "'oappo'"),
        (("--config=oappo", "--env-config=mase"), "'maze'"),
        (("--config=oappo", "--env-config=maze", "seed=1"), "with"),
        (
            ("--config=oappo", "--env-config=maze", "with", "env_args={1: 2}"),
            "'env_args={1: 2}' has the key 1, which is",
        ),
        (("--config=oappo", "--env-config=smax", "with", "env_args.allies={1: 2}"), "has the key 1, which is not text"),
    ],
)
def test_mistakes(capsys, words, part):
    status, out, err = call(capsys, *words)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert part in err


def test_list_describes_all(capsys):
    status, out, _ = call(capsys, "list")
    assert status == 0
    for folder in ("algs", "envs"):
        for path in (SRC / "config" / folder).glob("*.yaml"):
            line = next(x for x in out.splitlines() if x.strip().startswith(f"{path.stem} "))
            assert len(line.split()) > 2, f"{path} has no description in its first line"
    assert "maze" in call(capsys, "list", "environments")[1]
    assert "oappo" not in call(capsys, "list", "environments")[1]


def test_config_prints_values_and_sources(capsys):
    words = ("config", "--config=oappo", "--env-config=maze", "with", "seed=3", "lr=1e-3")
    status, out, _ = call(capsys, *words)
    assert status == 0
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in out.splitlines()}
    assert rows["lr"] == ["0.001", "command line"]
    assert rows["seed"] == ["3", "command line"]
    assert rows["env"] == ["maze", "envs/maze.yaml"]
    assert rows["learner"][1] == "algs/oappo.yaml"


# -- in a process of its own ---------------------------------------------------------------------

MISTAKES = [
    ("Unknown algorithm", ["--config=oapppo", "--env-config=maze"]),
    ("Unknown environment", ["--config=oappo", "--env-config=mazy"]),
    ("env_args.map_nam", ["--config=oappo", "--env-config=maze", "with", "env_args.map_nam=x"]),
    ("'lrr'", ["--config=oappo", "--env-config=maze", "with", "lrr=1"]),
    ("wrong type", ["--config=oappo", "--env-config=maze", "with", "lr=fast"]),
    ("out of range", ["--config=oappo", "--env-config=maze", "with", "reuse_lambda=1.5"]),
    ("cannot be written", ["--config=oappo", "--env-config=maze", "with", f"local_results_path={ROOT}/setup.py/x"]),
]


@pytest.mark.parametrize(("part", "words"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_mistakes_in_a_process(program, tmp_path, part, words):
    assert part in mistake(program(*words, cwd=tmp_path))


def test_missing_package(program, tmp_path):
    """A package that cannot be imported stops only its own environment, with one sentence."""
    (tmp_path / "lbforaging.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'lbforaging'\", name='lbforaging')"
    )
    words = ["--config=ippo", "--env-config=gymma", "with", "env_args.key=lbforaging:Foraging-8x8-2p-3f-v3"]
    done = program(*words, f"local_results_path={tmp_path}", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert "lbforaging" in mistake(done)
    assert program("list", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}).returncode == 0


def test_script_and_module_are_the_same_program(program, tmp_path):
    words = ["config", "--config=oappo", "--env-config=maze", "with", "seed=3", "env_args.time_limit=30"]
    script = program(*words, cwd=tmp_path)
    assert script.returncode == 0, script.stderr
    for how, cwd in (("module", tmp_path), ("module", ROOT), ("script", SRC), ("module", SRC)):
        other = program(*words, how=how, cwd=cwd)
        assert (other.returncode, other.stdout) == (0, script.stdout), other.stderr
    assert str(ROOT / "results") in script.stdout


def test_a_path_counts_from_the_current_folder(program, tmp_path):
    shutil.copy(SRC / "config/algs/oappo.yaml", tmp_path / "mine.yaml")
    done = program("config", "--config=./mine.yaml", "--env-config=maze", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "./mine.yaml" in done.stdout


WORK = """
import importlib.util
def identity():
    import oamarl, oamarl.work
    return oamarl.__file__, importlib.util.find_spec("work") is None  # no second way to the same file
def tell(pipe):
    pipe.send(identity())
"""
SPAWN = """
import multiprocessing
from ..work import identity, tell
def main(argv):
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=tell, args=(theirs,))
    child.start()
    theirs.close()
    print(*identity(), *ours.recv())
    child.join()
    return child.exitcode
"""


@pytest.mark.parametrize("isolated", [False, True], ids=["another oamarl installed", "none installed"])
def test_script_is_its_own_package_also_in_spawned_workers(tmp_path, isolated):
    """A copy of the program elsewhere runs ITS modules, whether or not another `oamarl` is installed."""
    src = tmp_path / "copy" / "src"
    (src / "tools").mkdir(parents=True)
    (src / "utils").mkdir()
    shutil.copy(SRC / "main.py", src)
    for name in ("errors", "waiting"):
        shutil.copy(SRC / f"utils/{name}.py", src / "utils")
    (src / "utils/__init__.py").write_text("")
    (src / "__init__.py").write_text("__version__ = '0'\n")
    (src / "work.py").write_text(WORK)
    (src / "tools/__init__.py").write_text(
        "COMMANDS = {'spawn': ('spawn', '')}\ndef load(name):\n    from .spawn import main\n    return main\n"
    )
    (src / "tools/spawn.py").write_text(SPAWN)
    python = [sys.executable, "-I", "-S"] if isolated else [sys.executable]
    done = subprocess.run(
        [*python, str(src / "main.py"), "spawn"],
        cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    init = str(src / "__init__.py")
    assert done.stdout.split() == [init, "True", init, "True"]


def test_reference_is_current():
    from oamarl.tools import reference

    for page, text in ((Path(reference.TARGET), reference.text()), (reference.EPYMARL, reference.epymarl_text())):
        assert page.is_file(), "run: python -m oamarl.tools.reference"
        assert page.read_text(encoding="utf-8") == text, "run: python -m oamarl.tools.reference"
