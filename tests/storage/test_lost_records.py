"""Files of a run that something takes away, renames or cuts while it is at work."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from oamarl.envs.base import Arrays
from oamarl.main import main
from oamarl.storage import checkpoints
from oamarl.storage.log import RunLog
from oamarl.storage.records import AppendFile, Place, read_arrays, read_metrics

from run_tools import assert_same, assert_same_run, final_state, latest
from toy_envs import MixedLength


class Vandal(MixedLength):
    """Does something to its run's files at its ``when``-th step of all."""

    do: ClassVar[Callable[[], None] | None] = None
    when: ClassVar[int] = 90
    count: ClassVar[int] = 0

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        super().step(actions, out)
        type(self).count += 1
        if type(self).count == self.when and type(self).do is not None:
            type(self).do()


@pytest.fixture(autouse=True)
def _clean() -> None:
    Vandal.do, Vandal.when, Vandal.count = None, 90, 0


def words(results: Path, *more: str) -> list[str]:
    return latest([
        "--config=oappo", "with", "env=test_lost_records:Vandal", "env_args.limit=8", "use_cuda=False", "seed=5",
        "backend=serial", "batch_size_run=2", "hidden_dim=8", "epochs=2", "t_max=200", "log_interval=20",
        "checkpoint_interval=40", "test_nepisode=2", "test_interval=60", f"local_results_path={results}", *more,
    ])  # fmt: skip


def run_folder(results: Path) -> Path:
    (found,) = [p.parent for p in results.glob("sacred/*/*/*/config.json")]
    return found


def status(folder: Path) -> str:
    return json.loads((folder / "run.json").read_text())["status"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing disturbs."""
    results = tmp_path_factory.mktemp("whole")
    Vandal.do, Vandal.count = None, 0
    assert main(words(results)) == 0
    return run_folder(results)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 7)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def renamed(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def replaced(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copy2(path, copy)
    copy.replace(path)


def link_to_a_copy(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copy2(path, copy)
    path.unlink()
    path.symlink_to(copy)


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def another(path: Path) -> None:
    """Another file of the same size takes its place."""
    path.with_name("another").write_bytes(os.urandom(path.stat().st_size))
    path.with_name("another").replace(path)


def link_elsewhere(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


CHANGES = (emptied, flipped, another, link_elsewhere, pipe)
HOW: list[tuple[Callable[[Path], None], str]] = [
    (Path.unlink, "was deleted"), (renamed, "was moved or renamed"), (cut, "was cut to "), (emptied, "was cut to 0 of"),
    (replaced, "was replaced by another file"), (link_to_a_copy, "was replaced by another file"),
]  # fmt: skip


def disturbed(results: Path, do: Callable[[Path], None], capsys: pytest.CaptureFixture[str], want: int = 1) -> str:
    """Run while ``do`` is done to the run's folder; returns what was said on stderr."""
    Vandal.count, Vandal.do = 0, lambda: do(run_folder(results))
    assert main(words(results)) == want
    Vandal.do = None
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return err


@pytest.mark.parametrize("name", ["metrics.jsonl", "run.log", "reuse.arrays"])
@pytest.mark.parametrize(("how", "says"), HOW)
def test_a_growing_file_that_is_not_what_was_written_ends_the_run(
    name: str, how: Callable[[Path], None], says: str, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    err = disturbed(tmp_path / "r", lambda folder: how(folder / name), capsys)
    folder = run_folder(tmp_path / "r")
    assert err.count("\n") == 1, err
    assert f"{folder / name} {says}" in err
    assert "while the run was running. The run cannot continue without its records." in err
    assert status(folder) == "FAILED"
    path = checkpoints.listed(folder / "checkpoints")[0]
    assert f"The newest checkpoint is {path}" in err
    # what is still to be learned is the same, and what is missing is said where it is
    assert main(words(tmp_path / "again", f"checkpoint_path={folder}")) == 0
    again, err = run_folder(tmp_path / "again"), capsys.readouterr().err
    assert_same(final_state(whole), final_state(again))
    same = name == "run.log" or how in (replaced, link_to_a_copy)
    assert err.count("the earlier curve is incomplete") == (not same), err
    if same:
        assert_same_run(whole, again)
    else:
        assert f"{folder / name} is " in err
        t = checkpoints.steps_of(path)
        full, rest = read_metrics(whole), read_metrics(again)
        assert [r["t"] for r in rest if r["t"] > t] == [r["t"] for r in full if r["t"] > t]


def test_a_folder_that_is_moved_has_everything_at_its_new_place(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "moved"
    err = disturbed(tmp_path / "r", lambda folder: folder.rename(moved), capsys)
    if not Path("/proc/self/fd").exists():
        pytest.skip("the system does not tell where it is")
    assert f"was moved to {moved} while the run was running" in err
    assert str(moved / "checkpoints") in err
    assert err.count("\n") == 1
    assert status(moved) == "FAILED"
    assert err.strip() in (moved / "run.log").read_text()
    assert list((tmp_path / "r" / "sacred" / "oappo").glob("*/1")) == []
    assert main(words(tmp_path / "again", f"checkpoint_path={moved}")) == 0
    assert_same_run(whole, run_folder(tmp_path / "again"))


def test_a_folder_that_is_deleted(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A checkpoint can still be written, with what a run needs to be known by; the curve is gone, and that is said."""
    err = disturbed(tmp_path / "r", shutil.rmtree, capsys)
    folder = run_folder(tmp_path / "r")
    assert f"The run's folder {folder} was deleted, moved or renamed while the run was running" in err
    assert err.count("\n") == 1
    assert status(folder) == "FAILED"
    assert "was deleted" in (folder / "run.log").read_text()
    assert str(checkpoints.find(folder)) in err
    assert main(words(tmp_path / "again", "checkpoint_path=latest", f"local_results_path={tmp_path / 'r'}")) == 0
    err = capsys.readouterr().err
    assert "metrics.jsonl is missing" in err
    assert "reuse.arrays is missing" in err
    assert_same(final_state(whole), final_state(folder.with_name("2")))


def test_another_runs_folder_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def swap(folder: Path) -> None:
        shutil.rmtree(folder)
        (folder / "checkpoints").mkdir(parents=True)
        for t in range(5):
            (folder / "checkpoints" / checkpoints.name_of(t)).write_text("another run's")
        (folder / "config.json").write_text("{}")

    err = disturbed(tmp_path, swap, capsys)
    folder = run_folder(tmp_path)
    assert f"The run's folder {folder} was replaced by another one" in err
    assert "There is no checkpoint." in err
    assert f"Not all files in {folder} are up to date: the folder is gone." in err
    assert sorted(p.name for p in folder.iterdir()) == ["checkpoints", "config.json"]
    assert len(list((folder / "checkpoints").iterdir())) == 5
    assert (folder / "config.json").read_text() == "{}"


@pytest.mark.parametrize("name", ["config.json", "info.json", "run.json", "metrics.json", "cout.txt"])
def test_a_file_that_is_written_whole_is_there_again(
    name: str, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disturbed(tmp_path, lambda folder: (folder / name).unlink(missing_ok=True), capsys, want=0)
    (folder,) = tmp_path.glob("sacred/*/*/*")
    assert status(folder) == "COMPLETED"
    assert (folder / name).stat().st_size > 0
    assert_same_run(whole, folder)
    if name == "config.json":
        kept = {k: v for k, v in json.loads((folder / name).read_text()).items() if k != "local_results_path"}
        assert kept.items() <= json.loads((whole / name).read_text()).items()


@pytest.mark.parametrize(
    "how", [emptied, link_elsewhere, pipe, lambda path: path.write_bytes(b" " * path.stat().st_size)]
)
@pytest.mark.parametrize("name", ["config.json", "info.json", "cout.txt"])
def test_a_file_that_was_changed_is_written_again(
    name: str, how: Callable[[Path], Any], whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what a run is known by gone, `latest` would pass it over in silence."""
    err = disturbed(tmp_path, lambda folder: how(folder / name), capsys, want=0)
    (folder,) = tmp_path.glob("sacred/*/*/*")
    assert status(folder) == "COMPLETED"
    if name == "cout.txt":  # the log has it all
        assert (how is not pipe) or f"Not all files in {folder} are up to date: cout.txt is not a file." in err
        return
    assert json.loads((folder / name).read_text()).keys() == json.loads((whole / name).read_text()).keys()


@pytest.mark.parametrize("part", ["checkpoints", "best"])
@pytest.mark.parametrize(
    "how", [shutil.rmtree, *(lambda path, do=do: [do(p) for p in path.iterdir()] for do in CHANGES)]
)
def test_a_checkpoint_that_is_taken_away_is_written_again(
    part: str, how: Callable[[Path], Any], whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    err = disturbed(tmp_path, lambda folder: how(folder / part), capsys, want=0)
    folder = run_folder(tmp_path)
    assert "was deleted, moved or changed" in err
    assert_same_run(whole, folder)
    assert checkpoints.load(checkpoints.find(folder / "checkpoints"))


def test_a_run_whose_last_checkpoint_cannot_be_written_again_has_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder stands where the last checkpoint was, since the last test."""

    def folder_there(folder: Path) -> None:
        for path in (folder / "checkpoints").iterdir():
            path.unlink()
            (path / "x").mkdir(parents=True)

    counts: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(Vandal, "do", lambda: None)
        assert main(words(tmp_path / "count")) == 0
        counts.append(Vandal.count)
    monkeypatch.setattr(Vandal, "when", counts[0] - 1)  # in the last test
    err = disturbed(tmp_path / "r", folder_there, capsys)
    assert "The run has reached t_max, but its last checkpoint could not be written. There is no checkpoint." in err
    assert status(run_folder(tmp_path / "r")) == "FAILED"


# -- what is no trouble --------------------------------------------------------------------------------------------


def test_a_checkpoint_that_is_copied_linked_or_touched_is_still_there(tmp_path: Path) -> None:
    path = checkpoints.save(tmp_path / "a", 7, {"runner": {"t_env": 7}})
    written = checkpoints.Written(path)
    os.link(path, tmp_path / "link")
    path.chmod(0o400)
    assert written.there()
    os.utime(path, (1, 1))
    assert written.there()
    shutil.copy(path, tmp_path / "copy")
    (tmp_path / "copy").replace(path)
    assert written.there()
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert written.there()
    path.unlink()
    checkpoints.save(tmp_path / "a", 7, {"runner": {"t_env": 7}, "other": 1})  # sound, but not it
    assert not written.there()


def test_what_others_may_do_with_a_file(tmp_path: Path) -> None:
    """Reading, copying, hard links, a folder that is moved and linked back, and rights are no loss."""
    (tmp_path / "run").mkdir()
    file = AppendFile(tmp_path / "run" / "metrics.jsonl")
    file.append(b"one\n")
    assert file.trouble() == ""
    shutil.copy2(file.path, tmp_path / "copy")
    os.link(file.path, tmp_path / "link")
    file.path.read_bytes()
    file.path.chmod(0o400)
    assert file.trouble() == ""
    (tmp_path / "run").rename(tmp_path / "large disk")
    assert file.trouble() == "was moved or renamed"
    (tmp_path / "run").symlink_to(tmp_path / "large disk")
    assert file.trouble() == ""
    file.append(b"two\n")
    assert file.trouble() == ""
    file.path.unlink()
    assert file.trouble() == "was moved or renamed"  # the hard link still has it
    (tmp_path / "link").unlink()
    assert file.trouble() == "was deleted"
    file.close()


def test_an_answer_from_memory_is_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network file system may say that a file is not there which is: opening it asks the server."""
    file = AppendFile(tmp_path / "metrics.jsonl")
    real = os.stat

    def stale(path: Any, **more: Any) -> os.stat_result:
        if path == file.path:
            raise FileNotFoundError
        return real(path, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", stale)
        assert file.trouble() == ""
        file.path.unlink()
        assert file.trouble() == "was deleted"
    file.close()


def test_a_file_system_that_numbers_files_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done to the open file shows at its path, or it is another one."""
    file, place = AppendFile(tmp_path / "metrics.jsonl"), Place(tmp_path)
    file.append(b"one\n")
    before = file.path.stat().st_mtime_ns
    monkeypatch.setattr(os.path, "samestat", lambda a, b: False)
    assert file.trouble() == ""
    assert place.now() == (tmp_path, "", True)
    assert file.path.stat().st_mtime_ns == before
    replaced(file.path)
    assert file.trouble() == "was replaced by another file"
    file.close()
    place.close()


def test_a_file_that_its_server_has_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = AppendFile(tmp_path / "metrics.jsonl")

    def lost(descriptor: int) -> os.stat_result:
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", lost)
        assert file.trouble() == "cannot be reached any more (Stale file handle)"
    file.close()


def test_a_place_is_known_again(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    place = Place(tmp_path / "run")
    assert place.now() == (tmp_path / "run", "", True)
    (tmp_path / "run").rename(tmp_path / "new")
    if Path("/proc/self/fd").exists():
        assert place.now() == (tmp_path / "new", f"was moved to {tmp_path / 'new'}", True)
    (tmp_path / "new").rmdir()
    assert place.now()[2] is True
    (tmp_path / "run").mkdir()
    (tmp_path / "held").mkdir()  # so that the same number is not given again
    if place.now()[1]:
        assert place.now() == (tmp_path / "run", "was replaced by another one", False)
    place.close()
    place.close()


def test_the_look_is_two_questions_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = RunLog(tmp_path)
    log.scalars({"a": 1.0}, 1)
    log.arrays("reuse", 1, M=np.zeros(2))
    asked: list[str] = []
    for name in ("stat", "fstat", "open", "listdir"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, _n=name, _r=real, **k: (asked.append(_n), _r(*a, **k))[1])
    log.check()
    monkeypatch.undo()
    assert sorted(asked) == ["fstat"] * 3 + ["stat"] * 3
    log.close()


# -- going on ------------------------------------------------------------------------------------------------------


def test_what_is_missing_is_said_and_what_is_there_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = RunLog(tmp_path / "old")
    for t in range(0, 50, 10):
        old.scalars({"a": float(t)}, t)
        old.arrays("reuse", t, M=np.full(3, t))
    position = old.checkpoint_position()
    old.close()

    def carried(name: str) -> tuple[RunLog, str]:
        log = RunLog(tmp_path / name)
        log.carry_over(tmp_path / "old", position)
        log.close()
        return log, capsys.readouterr().err

    log, err = carried("whole")
    assert err == ""
    metrics, arrays = tmp_path / "old" / "metrics.jsonl", tmp_path / "old" / "reuse.arrays"
    cut(metrics)
    os.truncate(arrays, arrays.stat().st_size // 2)
    log, err = carried("cut")
    assert f"{metrics} is shorter than at the checkpoint, and its records after step 30 are gone: the earlier" in err
    assert f"{arrays} is shorter than at the checkpoint, and its records after step 10 are gone: the earlier" in err
    assert [r["t"] for r in read_metrics(log.folder)] == [0, 10, 20, 30]
    assert [t for t, _ in read_arrays(log.folder / "reuse.arrays")] == [0, 10]
    metrics.write_bytes(b"x" * 30 + b"\n" + b"y" * (position["metrics.jsonl"] - 32) + b"\n")
    arrays.unlink()
    log, err = carried("spoilt")
    assert f"{metrics} has 2 lines with no record" in err
    assert f"{arrays} is missing, and with it all records up to the checkpoint" in err
    assert err.count("\n") == 2
