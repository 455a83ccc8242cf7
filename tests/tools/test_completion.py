"""Completion of command lines: what is offered for a line, and what a shell makes of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from oamarl.main import main
from oamarl.tools import COMMANDS
from oamarl.tools.completion import words
from oamarl.tools.completion.command import SCRIPTS
from oamarl.tools.completion.words import candidates
from oamarl.utils.schema.layers import shipped

from conftest import PATIENCE, SRC


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("oamarl sh", ["showcase"]),
        ("oamarl --c", ["--config="]),
        ("oamarl --config=oat", ["--config=oatrpo", "--config=oatrpo_paper"]),
        ("oamarl train --config oat", ["oatrpo", "oatrpo_paper"]),
        ("oamarl --config=oappo --env-config=maz", ["--env-config=maze"]),
        ("oamarl --config=oappo with learner_t", ["learner_threads="]),
        ("oamarl --env-config=maze with env_args.m", ["env_args.map_name=", "env_args.map="]),
        ("oamarl with seed=1 seed", ["seeds_at_once="]),
        ("oamarl with use_cuda=", ["use_cuda=True", "use_cuda=False"]),
        ("oamarl with reuse_clip=", ["reuse_clip=source", "reuse_clip=learner"]),
        ("oamarl with learner=oa", ["learner=oappo_learner", "learner=oatrpo_learner"]),
        ("oamarl runs s", ["show"]),
        ("oamarl runs compare --", ["--all", "--help"]),
        ("oamarl plot --kind pro", ["profile"]),
        ("oamarl plot --kind=pro", ["--kind=profile"]),
        ("oamarl evaluate latest --checkpoint ", ["latest", "best"]),
        ("oamarl config reuse_cl", ["reuse_clip"]),
        ("oamarl config env_args.goal", ["env_args.goal_reward"]),
        ("oamarl check-env ma", ["mamujoco", "matrix", "maze"]),
        ("oamarl doctor sma", ["smaclite", "smax"]),
        ("oamarl doctor smax --j", ["--json"]),
        ("oamarl list ", ["algorithms", "environments"]),
        ("oamarl install s", ["sc2", "sc2v2", "smaclite"]),
        ("oamarl install foot", ["football"]),
        ("oamarl completion ", ["bash", "zsh", "fish"]),
        ("oamarl nothing_like_it", []),
        ("oamarl with label='an open quote", []),
        ("oamarl", []),
    ],
)
def test_what_is_offered(line: str, found: list[str]) -> None:
    assert candidates(line) == found


def test_every_command_and_algorithm_is_offered() -> None:
    assert {"train", *COMMANDS} <= set(candidates("oamarl "))
    assert {f"--config={name}" for name in shipped("algs")} <= set(candidates("oamarl --config="))
    for command in COMMANDS:
        assert "--help" in candidates(f"oamarl {command} -")


def test_runs_level_by_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "checkout", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "results" / "sacred" / "oappo" / "black_red" / "1"
    run.mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({}))
    (tmp_path / "curves.json").write_text("{}")
    assert candidates("oamarl runs show ") == ["latest", "oappo/"]
    assert candidates("oamarl runs show oappo/b") == ["oappo/black_red/"]
    assert candidates("oamarl evaluate oappo/black_red/") == ["oappo/black_red/1"]
    assert candidates("oamarl with checkpoint_path=oa") == ["checkpoint_path=oappo/"]
    assert candidates("oamarl plot cur") == ["curves.json"]
    assert candidates("oamarl plot ./res") == ["./results/"]
    assert candidates("oamarl plot no/such/folder") == []


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from oamarl.tools.completion.words import candidates\n"
        "for line in ('--config=', 'with l', 'with reuse_clip=', 'plot --', 'runs '):\n"
        "    assert candidates(f'oamarl {line}'), line\n"
        "print(sorted({'torch', 'numpy', 'sacred', 'rich', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("argv", [[], ["tcsh"], ["bash", "zsh"]])
def test_another_shell(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", *argv]) == 2
    assert "bash, zsh or fish" in capsys.readouterr().err


def program(folder: Path) -> str:
    """A command ``oamarl`` of this checkout, and the PATH that has it."""
    script = folder / "oamarl"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{SRC / "main.py"}" "$@"\n')
    script.chmod(0o755)
    return f"{folder}:/usr/local/bin:/usr/bin:/bin"


_TRY = """
source <(oamarl completion bash)
complete -p oamarl
for line in "$@"; do
    COMP_LINE="$line" COMP_POINT=${#line} COMPREPLY=()
    _oamarl oamarl
    echo "${COMPREPLY[*]}"
done
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash(tmp_path: Path) -> None:
    """Bash replaces what follows the last `=` alone, so that is what its completions are."""
    lines = ["oamarl --config=oat", "oamarl with use_c", "oamarl with use_cuda=", "oamarl sho", "oamarl zzz"]
    done = subprocess.run(
        ["bash", "--norc", "-c", _TRY, "bash", *lines], env={"PATH": program(tmp_path)}, cwd=tmp_path,
        capture_output=True, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "complete -F _oamarl oamarl", "oatrpo oatrpo_paper", "use_cuda=", "True False", "showcase", "",
    ]  # fmt: skip


@pytest.mark.parametrize(("shell", "check"), [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")])
def test_syntax(shell: str, check: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert text == SCRIPTS[shell].lstrip("\n")
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(text)
    subprocess.run([shell, check, str(tmp_path / "script")], timeout=PATIENCE, check=True)


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish(tmp_path: Path) -> None:
    code = 'oamarl completion fish | source; complete -C "oamarl --config=oat"; complete -C "oamarl with learner_t"'
    done = subprocess.run(
        ["fish", "--no-config", "-c", code], env={"PATH": program(tmp_path), "HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["--config=oatrpo", "--config=oatrpo_paper", "learner_threads="]
