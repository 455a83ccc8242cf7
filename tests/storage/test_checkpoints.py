"""Checkpoints: whole or not at all, checked when read, never code."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import pickle
import resource
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oamarl.storage import checkpoints
from oamarl.utils.errors import UserError


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def wrap(content: bytes, version: int = 2) -> bytes:
    """A file whose checksum is right, whatever it holds."""
    return f"oamarl-checkpoint {version} {hashlib.sha256(content).hexdigest()}\n".encode() + content


def test_round_trip(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    torch_generator = torch.Generator().manual_seed(5)
    parameters = torch.nn.Linear(3, 2)
    optimiser = torch.optim.Adam(parameters.parameters())
    parameters(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    payload = {
        "t_env": np.int64(120),
        "weights": parameters.state_dict(),
        "optimiser": optimiser.state_dict(),
        "numpy": generator.bit_generator.state,  # integers of 128 bits
        "torch": torch_generator.get_state(),
        "seeds": np.arange(6, dtype=np.int64).reshape(2, 3)[:, ::-1],  # negative strides
        "scalar": np.float32(0.5),
        "double": np.float64(0.25),
        "zero_d": np.array(7.0),
        "big_endian": np.array([1, 2], ">i4"),
        "empty": np.zeros((0, 4), np.float32),
        "mixed": (1, None, True, "text", [2.5, {"deep": float("inf")}]),
        7: "a key that is a number",
    }
    path = checkpoints.save(tmp_path / "checkpoints", 120, payload)
    back = checkpoints.load(path)
    assert back["t_env"] == 120
    assert type(back["t_env"]) is int
    assert back["scalar"] == 0.5
    assert type(back["double"]) is float
    assert back["mixed"] == payload["mixed"]
    assert back[7] == payload[7]
    assert back["seeds"].tolist() == [[2, 1, 0], [5, 4, 3]]
    assert back["zero_d"].shape == ()
    assert back["big_endian"].tolist() == [1, 2]
    assert back["empty"].shape == (0, 4)
    assert all(torch.equal(back["weights"][k], v) for k, v in parameters.state_dict().items())
    assert torch.equal(back["torch"], torch_generator.get_state())
    other = np.random.default_rng(0)
    other.bit_generator.state = back["numpy"]
    assert other.random() == generator.random()
    torch.optim.Adam(parameters.parameters()).load_state_dict(back["optimiser"])


def test_a_view_is_stored_alone(tmp_path: Path) -> None:
    whole = torch.zeros(1_000_000)
    path = checkpoints.save(tmp_path, 1, {"row": whole[:10], "parameter": torch.nn.Parameter(whole[5:9])})
    assert path.stat().st_size < 10_000
    assert not checkpoints.load(path)["parameter"].requires_grad


@pytest.mark.parametrize("value", [{1, 2}, object(), torch.nn.Linear(1, 1), np.array(["text"]), lambda: 0])
def test_other_things_are_refused_when_saving(tmp_path: Path, value: object) -> None:
    with pytest.raises(TypeError, match=r"payload\['learner'\]\[1\] is a"):
        checkpoints.save(tmp_path, 1, {"learner": [0, value]})
    assert names(tmp_path) == []


def test_two_are_kept(tmp_path: Path) -> None:
    for t in (100, 2000, 30):
        checkpoints.save(tmp_path, t, {"t": t})
    checkpoints.save(tmp_path, 40000, {"t": 40000})
    assert names(tmp_path) == ["checkpoint_000000002000.pt", "checkpoint_000000040000.pt"]
    assert checkpoints.load(checkpoints.find(tmp_path))["t"] == 40000


def test_what_others_put_there_takes_no_place(tmp_path: Path) -> None:
    """A file whose name says a later step would otherwise have every new checkpoint tidied away at once."""
    for t in (7, 8, 9):
        (tmp_path / checkpoints.name_of(10**9 + t)).write_text("not a checkpoint")
    for t in (1, 2, 3):
        checkpoints.save(tmp_path, t, {"t": t})
    assert [checkpoints.load(tmp_path / checkpoints.name_of(t))["t"] for t in (2, 3)] == [2, 3]
    assert len(names(tmp_path)) == 5


def test_all_are_kept(tmp_path: Path) -> None:
    for t in range(5):
        checkpoints.save(tmp_path, t, {"t": t}, keep=None)
    assert len(names(tmp_path)) == 5


def test_steps_beyond_the_padding_still_sort(tmp_path: Path) -> None:
    for t in (999, 10**13):
        checkpoints.save(tmp_path, t, {"t": t})
    assert checkpoints.load(checkpoints.find(tmp_path))["t"] == 10**13


def test_leftovers_of_a_killed_save_go(tmp_path: Path) -> None:
    (tmp_path / ".checkpoint_000000000001.pt.99.tmp").write_bytes(b"half")
    checkpoints.save(tmp_path, 2, {"t": 2})
    assert names(tmp_path) == ["checkpoint_000000000002.pt"]


def test_find_takes_file_folder_and_run(tmp_path: Path) -> None:
    path = checkpoints.save(tmp_path / "run" / "checkpoints", 5, {"t": 5})
    assert checkpoints.find(path) == path
    assert checkpoints.find(str(path.parent)) == path
    assert checkpoints.find(tmp_path / "run") == path


def test_find_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        checkpoints.find(tmp_path / "nowhere")
    with pytest.raises(UserError, match="There is no checkpoint in"):
        checkpoints.find(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="There is no checkpoint in"):
        checkpoints.find(tmp_path)


@given(cut=st.floats(0, 1, exclude_max=True))
@settings(max_examples=30, deadline=None)
def test_truncated_anywhere(tmp_path_factory: pytest.TempPathFactory, cut: float) -> None:
    folder = tmp_path_factory.mktemp("cut")
    path = checkpoints.save(folder, 1, {"x": torch.arange(50)})
    data = path.read_bytes()
    path.write_bytes(data[: int(cut * len(data))])
    with pytest.raises(UserError, match=r"is damaged|is not a checkpoint"):
        checkpoints.load(path)
    with pytest.raises(UserError, match="no intact checkpoint"):
        checkpoints.find(folder)


@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=50, deadline=None)
def test_any_flipped_bit_is_noticed(tmp_path_factory: pytest.TempPathFactory, where: float, bit: int) -> None:
    path = checkpoints.save(tmp_path_factory.mktemp("flip"), 1, {"x": torch.arange(50)})
    data = bytearray(path.read_bytes())
    data[int(where * len(data))] ^= 1 << bit
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"is damaged|is not a checkpoint|newer version"):
        checkpoints.load(path)


def test_falls_back_to_the_older(tmp_path: Path) -> None:
    older = checkpoints.save(tmp_path, 1, {"t": 1})
    newer = checkpoints.save(tmp_path, 2, {"t": 2})
    newer.write_bytes(newer.read_bytes()[:-1])
    said: list[str] = []
    assert checkpoints.find(tmp_path, said.append) == older
    assert len(said) == 1
    assert newer.name in said[0]
    assert older.name in said[0]
    # the damaged file itself is refused, and the sentence knows the way out
    with pytest.raises(UserError, match=f"damaged.*{older.name} in the same folder is intact"):
        checkpoints.find(newer)


def test_from_a_newer_version(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_1.pt"
    path.write_bytes(wrap(b"whatever", version=3))
    with pytest.raises(UserError, match="newer version"):
        checkpoints.load(path)


class _Trap:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)


def test_code_is_never_run(tmp_path: Path) -> None:
    mark, zipped = tmp_path / "executed", tmp_path / "zip.bin"
    torch.save({"x": _Trap(mark)}, zipped)
    torch.save({"x": _Trap(mark)}, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    contents = [zipped.read_bytes(), (tmp_path / "old.bin").read_bytes(), pickle.dumps({"x": _Trap(mark)}, protocol=2)]
    for i, content in enumerate(contents):
        path = tmp_path / f"checkpoint_{i}.pt"
        path.write_bytes(wrap(content))
        with pytest.raises(UserError, match="holds more than plain numbers and tensors"):
            checkpoints.load(path)
    assert not mark.exists()
    # the trap is a real one
    pickle.loads(contents[2])
    assert mark.exists()


def test_garbage_with_a_right_checksum(tmp_path: Path) -> None:
    for i, content in enumerate([b"", b"\x80\x02}", b"PK\x03\x04 nothing"]):
        path = tmp_path / f"checkpoint_{i}.pt"
        path.write_bytes(wrap(content))
        with pytest.raises(UserError, match="not loaded"):
            checkpoints.load(path)


def test_full_disk_keeps_the_old_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints.save(tmp_path, 1, {"t": 1})
    old = checkpoints.save(tmp_path, 2, {"t": 2})

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match="No space left on device; the earlier checkpoints are kept"):
            checkpoints.save(tmp_path, 3, {"t": 3})
    assert names(tmp_path) == ["checkpoint_000000000001.pt", "checkpoint_000000000002.pt"]
    assert checkpoints.find(tmp_path) == old


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_really_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file system itself refuses the bytes (its temporary file is a link to a device that is always full)."""
    old = checkpoints.save(tmp_path, 1, {"t": 1})
    monkeypatch.setattr(os, "getpid", lambda: 1)
    (tmp_path / ".checkpoint_000000000002.pt.1.tmp").symlink_to("/dev/full")
    with pytest.raises(UserError, match="No space left on device"):
        checkpoints.save(tmp_path, 2, {"x": torch.zeros(100_000)})
    assert names(tmp_path) == [old.name]


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(UserError, match="Cannot write the checkpoint"):
        checkpoints.save(tmp_path / "checkpoints", 1, {})


@pytest.mark.slow
def test_killed_while_saving(tmp_path: Path) -> None:
    """SIGKILL at any moment leaves an intact checkpoint."""
    script = (
        "import sys, torch\n"
        "from oamarl.storage import checkpoints\n"
        "for t in range(1, 10**6):\n"
        "    checkpoints.save(sys.argv[1], t, {'t': t, 'x': torch.full((20000,), t)})\n"
        "    print(t, flush=True)\n"
    )
    for trial in range(3):
        folder = tmp_path / str(trial)
        child = subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        for _ in range(5 + 7 * trial):
            child.stdout.readline()
        child.kill()
        seen = [int(line) for line in child.stdout.read().split("\n")[:-1]]
        child.wait()
        back = checkpoints.load(checkpoints.find(folder))
        assert back["t"] >= max(seen, default=1)
        assert (back["x"] == back["t"]).all()


# -- hostile files ---------------------------------------------------------------------------------------------


def torch_bytes(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def rezip(content: bytes, change: Callable[[str, bytes], bytes], compression: int) -> bytes:
    """The same archive with other contents or another compression."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return out.getvalue()


def laughs(depth: int) -> list:
    """Ten times itself, ``depth`` times: small in a file, endless to walk over."""
    value: list = [1]
    for _ in range(depth):
        value = [value] * 10
    return value


def stored(value: object, change: Callable[[str, bytes], bytes]) -> bytes:
    return rezip(torch_bytes(value), change, zipfile.ZIP_STORED)


def bomb() -> bytes:
    """A tensor of 400 MB in a file of 400 kB."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(torch_bytes({"x": torch.zeros(1)}))) as old:
        shape = old.read("archive/data.pkl").replace(b"K\x01", b"J\x00\xe1\xf5\x05")  # 1 -> 10**8, wherever it stands
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
            for name in old.namelist():
                if name.endswith("/data/0"):
                    with new.open(name, "w") as file:
                        for _ in range(400):
                            file.write(bytes(10**6))
                else:
                    new.writestr(name, shape if name.endswith(".pkl") else old.read(name))
    return out.getvalue()


HOSTILE: dict[str, Callable[[], bytes]] = {
    "a zip bomb": bomb,
    "laughs": lambda: torch_bytes({"config": laughs(40)}),
    "a stretched tensor": lambda: torch_bytes({"x": torch.zeros(1).expand(10**12)}),
    "a sparse tensor": lambda: torch_bytes({"x": torch.zeros(3).to_sparse()}),
    "an endless integer": lambda: torch_bytes({"t_env": 1 << 100_000}),
    "an ordered dict": lambda: torch_bytes({"x": OrderedDict(a=1)}),
    "a parameter": lambda: torch_bytes({"x": torch.nn.Parameter(torch.zeros(2))}),
    "a device": lambda: torch_bytes({"x": torch.device("cpu")}),
    "a set": lambda: torch_bytes({"x": {1, 2}}),
    "no dict": lambda: torch_bytes([1, 2]),
    "too short a storage": lambda: stored({"x": torch.zeros(100)}, lambda n, d: d[:40] if "/data/" in n else d),
    "another pickle": lambda: stored({"x": 1}, lambda n, d: d[:-3] if n.endswith(".pkl") else d),
    "an empty zip": lambda: b"PK\x05\x06" + bytes(18),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_one_sentence_and_the_older_one_is_used(name: str, tmp_path: Path) -> None:
    good = checkpoints.save(tmp_path, 1, {"t": 1})
    bad = tmp_path / "checkpoint_000000000002.pt"
    bad.write_bytes(wrap(HOSTILE[name]()))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match="not loaded"):
        checkpoints.load(bad)
    said: list[str] = []
    assert checkpoints.load_newest(tmp_path, said.append) == (good, {"t": 1})
    assert len(said) == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "it took memory (kB)"


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    """A pipe, a device without an end, a folder, a link to itself, under a checkpoint's name."""
    good = checkpoints.save(tmp_path, 1, {"t": 1})
    os.mkfifo(tmp_path / "checkpoint_2.pt")
    (tmp_path / "checkpoint_3.pt").symlink_to("/dev/zero")
    (tmp_path / "checkpoint_4.pt").mkdir()
    (tmp_path / "checkpoint_5.pt").symlink_to(tmp_path / "checkpoint_5.pt")
    (tmp_path / f"checkpoint_{'9' * 5000}.pt"[:250]).write_text("")  # int() of so many digits is an error of its own
    said: list[str] = []
    assert checkpoints.load_newest(tmp_path, said.append)[0] == good
    assert len(said) == 4
    for number in (2, 3, 4):
        with pytest.raises(UserError, match=r"is not a file|cannot be read"):
            checkpoints.load(tmp_path / f"checkpoint_{number}.pt")


def test_a_link_to_a_checkpoint_is_one(tmp_path: Path) -> None:
    path = checkpoints.save(tmp_path / "a", 1, {"t": 1})
    (tmp_path / "checkpoint_1.pt").symlink_to(path)
    assert checkpoints.load(checkpoints.find(tmp_path))["t"] == 1


def test_from_an_older_version(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_1.pt"
    path.write_bytes(wrap(b"whatever", version=1))
    with pytest.raises(UserError, match="written by an older version"):
        checkpoints.load(path)


def test_a_payload_that_does_not_fit_is_passed_over(tmp_path: Path) -> None:
    for t in (1, 2, 3):
        checkpoints.save(tmp_path, t, {"t": t}, keep=None)
    said: list[str] = []
    path, payload = checkpoints.load_newest(tmp_path, said.append, lambda p: "is odd" if p["t"] > 1 else "")
    assert (checkpoints.steps_of(path), payload["t"]) == (1, 1)
    assert [text.split(": ")[1].split(";")[0] for text in said] == [
        "checkpoint_000000000003.pt is odd", "checkpoint_000000000002.pt is odd",
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"is odd; checkpoint_0+2\.pt in the same folder is intact"):
        checkpoints.load_newest(tmp_path / "checkpoint_000000000003.pt", fits=lambda p: "is odd")


@pytest.mark.parametrize("held", [1, 3, -(2**40), 2**70])
def test_a_name_that_says_another_step_than_the_file_is_refused(held: int, tmp_path: Path) -> None:
    """Which is the newest, and which is tidied away, goes by names."""
    good = checkpoints.save(tmp_path, 1, {"runner": {"t_env": 1}})
    bad = checkpoints.save(tmp_path, 2, {"runner": {"t_env": held}})
    says = r"0002\.pt holds another step than its name says \(.+\): not loaded"
    with pytest.raises(UserError, match=says + r"\.$"):
        checkpoints.load(bad)
    with pytest.raises(UserError, match=says + r"; checkpoint_0+1\.pt in the same folder is intact"):
        checkpoints.find(bad)
    said: list[str] = []
    assert checkpoints.find(tmp_path, said.append) == good
    assert checkpoints.load_newest(tmp_path, said.append) == (good, {"runner": {"t_env": 1}})
    assert len(said) == 2
    assert not checkpoints.copy(bad, tmp_path / "best")
    assert checkpoints.copy(good, tmp_path / "best")
    # a name of the user's own says nothing of a step
    bad.rename(tmp_path / "mine.pt")
    if held == 3:
        assert checkpoints.load(tmp_path / "mine.pt") == {"runner": {"t_env": 3}}


def test_an_interrupted_save_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(fd: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(tmp_path, 1, {"t": 1})
    assert names(tmp_path) == []
