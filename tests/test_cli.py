"""The program as it is typed: one sentence and status 2 for mistakes, the same program by every name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from oamarl.main import main
from oamarl.tools import COMMANDS

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


@pytest.mark.parametrize("words", [("train", "--help"), ("--config=oappo", "-h"), ("with", "--help")])
def test_help_of_training(capsys, words):
    status, out, err = call(capsys, *words)
    assert (status, err) == (0, "")
    for part in ("usage: oamarl [train] --config=ALGORITHM", "\n  --env-config ", "\n  t_max=N ", "Exit status"):
        assert part in out
    assert "showcase" not in out  # the list of all commands is `oamarl --help`


@pytest.mark.parametrize("words", [(), ("-h",), ("--help",)])
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
        (("--config=oappo", "--env-config=mazze"), "'maze'"),
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


def test_config_explains_a_key(capsys):
    status, out, err = call(capsys, "config", "gae_lambda")
    assert (status, err) == (0, "")
    rows = dict(
        line.strip().split(maxsplit=1) for line in out.splitlines()[2:] if line.startswith("  ") and line[2] > " "
    )
    assert rows["type"] == "float or null"
    assert rows["default"] == "null (default.yaml)"
    assert rows["allowed"] == "≥ 0 and ≤ 1"
    assert out.startswith("gae_lambda\n  lambda of GAE")
    assert "oappo, oappo_paper" in out.partition("algorithms")[2]
    assert "qmix" not in out


def test_config_explains_arguments_of_environments(capsys):
    out = call(capsys, "config", "env_args.time_limit")[1]
    assert "\n  maze        int or null, default null. Steps until an episode is cut; None: 40.\n" in out
    taken = next(line for line in out.splitlines() if line.startswith("  taken by"))
    assert "gymma, landmarks, mamujoco, maze, " in taken


def test_config_says_the_value_here(capsys):
    words = ("config", "lr", "--config=oappo", "--env-config", "maze", "with", "lr=0.5")
    status, out, _ = call(capsys, *words)
    assert status == 0
    assert "  here        0.5 (command line)\n" in out
    assert "not read by this configuration" in call(capsys, "config", "mixer", *words[2:])[1]


@pytest.mark.parametrize("key", ["hypergroup", "cg_edges", "mask_before_softmax", "env", "name"])
def test_config_explains_every_kind_of_key(capsys, key):
    status, out, err = call(capsys, "config", key)
    assert (status, err) == (0, "")
    assert len(out.splitlines()) > 2


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("gae_lamda", "There is no key 'gae_lamda'; did you mean gae_lambda"),
        ("map_name", "There is no key 'map_name'; did you mean env_args.map_name"),
        ("zzzzz", "There is no key 'zzzzz'; docs/configuration.md has all of them."),
    ],
)
def test_config_of_an_unknown_key(capsys, key, sentence):
    status, out, err = call(capsys, "config", key)
    assert (status, out) == (2, "")
    assert err.startswith(sentence)
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("width", ["40", "60"])
def test_help_and_lists_fit_a_narrow_terminal(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    every = [[name, "--help"] for name in ("train", *COMMANDS)] + [["runs", x, "--help"] for x in ("list", "compare")]
    for words in ([], ["list"], ["config", "lr", "gamma"], *every):
        status, out, _ = call(capsys, *words)
        assert status == 0
        # a single word, such as a path or a list of choices, is left whole
        long = [line for line in out.splitlines() if len(line) > int(width) and len(line.split()) > 1]
        assert not [line for line in long if not line.strip().startswith(("[", "--"))], words
    if width == "60":
        out = call(capsys, "config", "--config=oappo", "--env-config=maze")[1]
        assert max(len(line) for line in out.splitlines() if "local_results_path" not in line and "/" not in line) <= 60


# -- in a process of its own ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "locale", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0"}]
)
def test_ascii_locales(tmp_path, locale):
    """Nothing fails where the terminal has no Unicode, and a folder's name may hold what it cannot show."""
    folder = tmp_path / "d\u00fc"
    folder.mkdir()
    env = {k: v for k, v in os.environ.items() if k not in ("LC_ALL", "LANG", "PYTHONUTF8", "PYTHONIOENCODING")}
    base = [sys.executable, str(SRC / "main.py")]
    run = ["--config=ippo", "--env-config=maze", "with", "t_max=600", "test_nepisode=1", "local_results_path=results"]
    for words in (run, ["runs", "list", "results/sacred"], ["config", "gae_lambda"]):
        done = subprocess.run(
            [*base, *words], cwd=folder, env={**env, **locale}, capture_output=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, done.stderr
        assert b"Error" not in done.stderr + done.stdout
        if words[0] == "config":
            assert b"allowed     >= 0 and <= 1" in done.stdout


@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONUTF8": "1"}])
def test_a_configuration_is_printed_as_it_is_in_every_locale(locale):
    words = ["config", "--config=ippo", "--env-config=maze", "--yaml", "with", "label=a ± é"]
    env = {k: v for k, v in os.environ.items() if k not in ("LC_ALL", "LANG", "PYTHONIOENCODING")}
    done = subprocess.run(
        [sys.executable, str(SRC / "main.py"), *words], env={**env, **locale}, capture_output=True, timeout=PATIENCE,
        check=True,
    )  # fmt: skip
    assert "label: a ± é\n" in done.stdout.decode("utf-8")


MISTAKES = [
    ("Unknown algorithm", ["--config=oapppo", "--env-config=maze"]),
    ("Unknown environment", ["--config=oappo", "--env-config=mazy"]),
    ("did you mean --env-config=gymma", ["--config=gymma", "--env-config=qmix"]),
    ("did you mean --config=qmix", ["--config=iql", "--env-config=qmix"]),
    ("did you mean 'qmix'", ["--config=QMIX", "--env-config=maze"]),
    ("EPyMARL's search.py is `oamarl sweep`", ["search", "run"]),
    ("env_args.map_nam", ["--config=oappo", "--env-config=maze", "with", "env_args.map_nam=x"]),
    ("'lrr'", ["--config=oappo", "--env-config=maze", "with", "lrr=1"]),
    ("wrong type", ["--config=oappo", "--env-config=maze", "with", "lr=fast"]),
    ("seed='٣' has the wrong type", ["--config=oappo", "--env-config=maze", "with", "seed=٣"]),
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
    for name in ("errors", "layout", "plain_text", "waiting"):
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

    for page, text in reference.generated().items():
        assert page.is_file(), "run: python -m oamarl.tools.reference"
        assert page.read_text(encoding="utf-8") == text, "run: python -m oamarl.tools.reference"
