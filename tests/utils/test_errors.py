"""Sentences: their length, their numbers, and what too few open files look like."""

from __future__ import annotations

import errno
import logging
import os
import sys
from pathlib import Path

import pytest

from oamarl.utils.errors import UserError, closest, counted, sentence_of, shortened, shown_value, too_few_files

from conftest import Program


def test_a_sentence_has_an_end() -> None:
    said = str(UserError(f"lr='{'x' * 10**6}' has the wrong type."))
    assert len(said) <= 900
    assert said.startswith("lr='xxx")
    assert said.endswith("xxx' has the wrong type.")
    assert shortened("abc", 3) == "abc"
    assert len(shown_value([1] * 10**5)) <= 200
    assert shown_value(10**5000) == "a number of thousands of digits"
    assert shown_value("a\x1b") == "'a\\x1b'"
    assert shown_value(None) == "null"
    for text, ended in (("use a or b", "use a or b."), ("a?", "a?"), ("use\n 'a'", "use 'a'."), ("", "")):
        assert sentence_of(UserError(text)) == ended


def test_the_nearest_name_in_any_case() -> None:
    assert closest("QMIX", ["iql", "qmix"]) == "qmix"
    assert closest("hopper", ["Hopper", "Ant"]) == "Hopper"
    assert closest("x", ["abc"]) is None


def test_counted() -> None:
    assert counted(1, "run") == "1 run"
    assert counted(1, "run", "are") == "1 run is"
    assert counted(2, "run", "are") == "2 runs are"
    assert counted(0, "run", "do") == "0 runs do"
    assert counted(1234, "search") == "1,234 searches"


def test_too_few_files_are_found_behind_other_errors() -> None:
    full = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    outer = RuntimeError("cannot start")
    outer.__context__ = full
    for error in (full, outer, ImportError(f"libx.so: cannot open shared object file: {os.strerror(errno.EMFILE)}")):
        assert "raise the limit, as by `ulimit -n 1024`" in too_few_files(error)
    for other in (OSError(errno.ENOENT, "x"), ValueError("x"), ImportError("no module x"), None):
        assert too_few_files(other) == ""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of a process")
def test_a_process_with_few_files_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from oamarl import main as program

    def full(argv: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(program, "dispatch", full)
    assert program.main(["list"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("Too many files are open: this process may have no more than ")
    assert err.count("\n") == 1


def test_a_fault_of_the_runs_files_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    from oamarl.storage.sacred_run import _Warnings

    handler = _Warnings()
    for text in (
        "An error ocurred in the '<oamarl.storage.run_files.RunFiles object at 0x7f>' observer: [Errno 28] No space",
        "The observer '<oamarl.storage.run_files.RunFiles object at 0x7f>' failed at some point during the run.",
        "Failed after 0:00:01!",
    ):
        handler.emit(logging.LogRecord("x", logging.WARNING, "", 0, text, None, None))
    assert capsys.readouterr().err == "Warning: A file of the run: [Errno 28] No space\n"


#: words after `with` -> what `oamarl config` says
READ = {
    "label=run #3": "run #3", "label=&a": "&a", "label=007": "'007'", "label=null": "'null'",
    "label={a: 1}": "'{a: 1}'",
    "label=a\nb": '"a\\nb"', "wandb_team=1e3": "'1e3'", "wandb_team=null": "null", "name=007": "'007'",
}  # fmt: skip


@pytest.mark.parametrize("word", READ)
def test_config_shows_what_was_typed(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    from oamarl.main import main

    assert main(["config", "--config=mappo", "--env-config=maze", "with", word]) == 0
    name = word.partition("=")[0]
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.split()[0] == name]
    assert row.removeprefix(name).removesuffix("command line").strip() == READ[word]


@pytest.mark.slow
def test_results_go_where_they_were_sent(program: Program, tmp_path: Path) -> None:
    short = ("t_max=40", "batch_size_run=1", "test_nepisode=0", "hidden_dim=8", "use_cuda=False")
    done = program(
        "--config=mappo", "--env-config=matrix", "with", *short, "local_results_path=./exp #2", "label=&a",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["exp #2"]
