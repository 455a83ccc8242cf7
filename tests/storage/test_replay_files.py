"""Chunks of the replay: written once, tidied away when nothing needs them, and refused when they are not whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from oamarl.components.generators import generator
from oamarl.components.replay import Replay
from oamarl.storage import checkpoints, replay_files
from oamarl.storage.replay_files import ReplayFiles
from oamarl.utils.errors import UserError

from learner_tools import make_batch, make_info, make_learner, through_a_file
from run_tools import assert_same

INFO = make_info(limit=6)
MAC = make_learner("mappo", INFO).mac


def new(capacity: int = 40) -> Replay:
    return Replay(capacity, INFO.episode_limit, generator(5, "replay"), alpha=0.6)


def grow(replay: Replay, first: int, n: int = 2) -> None:
    for seed in range(first, first + n):
        replay.add(make_batch(MAC, seed=seed))


def save(files: ReplayFiles, t_env: int) -> dict[str, Any]:
    """What a rolling checkpoint does."""
    content = {"runner": {"t_env": t_env}, "replay": files.write()}
    files.saved(checkpoints.save(files.folder.parent / "checkpoints", t_env, content, keep=2))
    return content["replay"]


def found(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Each chunk's inode, size and time of change."""
    return {p.name: (s.st_ino, s.st_size, s.st_mtime_ns) for p in (folder / "replay").iterdir() if (s := p.stat())}


def test_chunks_are_written_once_and_what_is_written_does_not_grow(tmp_path: Path) -> None:
    replay = new(400)
    files, before, sizes = ReplayFiles(tmp_path, replay), {}, []
    for t in range(1, 31):
        grow(replay, 2 * t)
        save(files, t)
        now = found(tmp_path)
        assert {name: now[name] for name in before} == before, "an old chunk was changed"
        added = [size for name, (_, size, _) in now.items() if name not in before]
        sizes.append(sum(added))
        before = now
    assert len(before) == 30
    assert max(sizes) < 1.1 * min(sizes)
    size = (tmp_path / "checkpoints" / checkpoints.name_of(30)).stat().st_size
    assert size < 2 * max(sizes), "and the checkpoint holds no experience"


def test_chunks_that_no_kept_checkpoint_needs_are_deleted(tmp_path: Path) -> None:
    replay = new(16)
    files = ReplayFiles(tmp_path, replay)
    for t in range(1, 11):
        grow(replay, t, 1)  # four episodes a chunk
        save(files, t)
    # the newest checkpoint has chunks 7 to 10, the one before it 6 to 9
    assert sorted(found(tmp_path)) == [f"chunk-{k:06d}.pt" for k in range(6, 11)]
    for t in (9, 10):
        saved = checkpoints.load(tmp_path / "checkpoints" / checkpoints.name_of(t))["replay"]
        other = new(16)
        ReplayFiles(tmp_path / f"resumed{t}", other).resume(saved, tmp_path)
        assert len(other) == 16


def test_what_was_overwritten_before_it_was_saved_is_never_written(tmp_path: Path) -> None:
    replay = new(8)
    files = ReplayFiles(tmp_path, replay)
    grow(replay, 0, 10)
    save(files, 1)
    assert [(c.since, c.until) for c in files.chunks] == [(32, 40)]


def test_large_additions_become_several_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_files, "MOST_BYTES", 3000)
    replay = new()
    files = ReplayFiles(tmp_path, replay)
    grow(replay, 0, 5)
    saved = save(files, 1)
    assert len(files.chunks) > 3
    assert [c.since for c in files.chunks] == [0, *(c.until for c in files.chunks[:-1])]
    other = new()
    ReplayFiles(tmp_path / "b", other).resume(through_a_file(saved_plain(saved)), tmp_path)
    assert_same(vars_of(other), vars_of(replay))


def saved_plain(saved: dict[str, Any]) -> dict[str, Any]:
    state = {k: torch.as_tensor(v) if k == "priorities" else v for k, v in saved["state"].items()}
    return {"chunks": saved["chunks"], "state": state}


def vars_of(replay: Replay) -> dict[str, Any]:
    drawn = replay.draw_episodes(10)
    return {**replay.state_dict(), "index": drawn.index, "weight": drawn.weight, "obs": drawn.batch.obs}


def test_a_resumed_run_has_chunks_of_its_own(tmp_path: Path) -> None:
    """As links where they can be: the earlier run's folder may then be deleted, and what follows is appended."""
    replay = new()
    files = ReplayFiles(tmp_path / "a", replay)
    grow(replay, 0)
    save(files, 1)
    saved = checkpoints.load(checkpoints.find(tmp_path / "a"))["replay"]
    other = new()
    theirs = ReplayFiles(tmp_path / "b", other)
    theirs.resume(saved, tmp_path / "a")
    assert os.path.samefile(tmp_path / "a/replay/chunk-000001.pt", tmp_path / "b/replay/chunk-000001.pt")
    for one, its in ((replay, files), (other, theirs)):
        grow(one, 2)
        save(its, 2)
    for path in (tmp_path / "a/replay").iterdir():
        path.unlink()
    third = new()
    ReplayFiles(tmp_path / "c", third).resume(
        checkpoints.load(checkpoints.find(tmp_path / "b"))["replay"], tmp_path / "b"
    )
    assert_same(vars_of(third), vars_of(replay))


def test_without_links_chunks_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replay = new()
    files = ReplayFiles(tmp_path / "a", replay)
    grow(replay, 0)
    save(files, 1)

    def refuse(*_: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    other = new()
    ReplayFiles(tmp_path / "b", other).resume(
        checkpoints.load(checkpoints.find(tmp_path / "a"))["replay"], tmp_path / "a"
    )
    assert (tmp_path / "b/replay/chunk-000001.pt").read_bytes() == (tmp_path / "a/replay/chunk-000001.pt").read_bytes()
    assert not os.path.samefile(tmp_path / "a/replay/chunk-000001.pt", tmp_path / "b/replay/chunk-000001.pt")
    assert_same(vars_of(other), vars_of(replay))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    saved = checkpoints.load(checkpoints.find(tmp_path / "a"))["replay"]
    with pytest.raises(UserError, match=r"chunk-000001.pt of the replay cannot be copied to .*: No space left"):
        ReplayFiles(tmp_path / "c", new()).resume(saved, tmp_path / "a")
    assert not found(tmp_path / "c"), "nothing incomplete is left"


@pytest.mark.parametrize("harm", ["missing", "damaged", "another"])
def test_a_chunk_that_is_not_whole_is_one_sentence(harm: str, tmp_path: Path) -> None:
    replay = new()
    files = ReplayFiles(tmp_path, replay)
    for t in (1, 2):
        grow(replay, t)
        save(files, t)
    saved = checkpoints.load(checkpoints.find(tmp_path))["replay"]
    path = tmp_path / "replay/chunk-000001.pt"
    if harm == "missing":
        path.unlink()
    elif harm == "damaged":
        path.write_bytes(path.read_bytes()[:-9] + b"123456789")
    else:
        path.write_bytes((tmp_path / "replay/chunk-000002.pt").read_bytes())
    said = {"missing": "cannot be read", "damaged": "is damaged", "another": "is another one than"}[harm]
    with pytest.raises(UserError, match=rf"The chunk .*chunk-000001.pt of the replay {said}.*init_from"):
        ReplayFiles(tmp_path / "new", new()).resume(saved, tmp_path)


@pytest.mark.parametrize("name", ["../chunk-000001.pt", "/etc/passwd", "chunk-1.pt", 7])
def test_a_checkpoint_cannot_name_other_files(name: Any, tmp_path: Path) -> None:
    entry = {"name": name, "since": 0, "until": 1, "checksum": "", "size": 1}
    with pytest.raises(UserError, match="does not say which chunks"):
        ReplayFiles(tmp_path, new()).resume({"chunks": [entry], "state": {}}, tmp_path)


def test_another_replay_is_one_sentence(tmp_path: Path) -> None:
    replay = new()
    files = ReplayFiles(tmp_path, replay)
    grow(replay, 0)
    saved = save(files, 1)
    for change in ({"newest": 99}, {"size": 10**12}, {"begin": -1}, {"longer": None}):
        state = {**saved["state"], **change}
        with pytest.raises(UserError, match="is not the one of the checkpoint"):
            ReplayFiles(tmp_path / "new", new()).resume({"chunks": saved["chunks"], "state": state}, tmp_path)


def test_chunks_that_were_taken_away_are_written_anew(tmp_path: Path) -> None:
    replay = new()
    files = ReplayFiles(tmp_path, replay)
    grow(replay, 0)
    save(files, 1)
    (tmp_path / "replay/chunk-000001.pt").unlink()
    grow(replay, 2)
    save(files, 2)
    assert sorted(found(tmp_path)) == ["chunk-000002.pt"]
    other = new()
    ReplayFiles(tmp_path / "b", other).resume(checkpoints.load(checkpoints.find(tmp_path))["replay"], tmp_path)
    assert_same(vars_of(other), vars_of(replay))


def test_a_full_disk_is_said_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replay = new()
    files = ReplayFiles(tmp_path, replay)
    grow(replay, 0)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=r"Cannot write the replay into .*: No space left on device; the earlier"):
            files.write()
    assert not found(tmp_path), "nothing incomplete is left"
    save(files, 1)
    assert [(c.since, c.until) for c in files.chunks] == [(0, 8)]
