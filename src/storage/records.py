"""Append-only files of a run: scalars (``metrics.jsonl``) and arrays (``<name>.arrays``), with their readers.

Nothing in them is ever rewritten, so a killed run loses at most the record it was writing, and a byte offset is enough
to store the position of a file at a checkpoint.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import struct
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..utils.errors import UserError, counted

METRICS_FILE = "metrics.jsonl"
LOG_FILE = "run.log"  # everything that was said
ARRAYS_SUFFIX = ".arrays"

_MAGIC = b"OAR1"
_HEAD = struct.Struct("<4sQI")  # magic, bytes of the body, crc32 of the body
_INNER = struct.Struct("<I")  # bytes of the JSON header inside the body


class AppendFile:
    """A binary file that only grows.

    Raises:
        UserError: the file cannot be opened or written (full disk, no permission).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # unbuffered: one record is one write, and a killed process leaves all earlier ones in the file
            self._file: BinaryIO = open(path, "ab", buffering=0)  # noqa: SIM115
            self._size = os.fstat(self._file.fileno()).st_size  # the length of the file if it is not truncated
        except OSError as error:
            raise UserError(f"Cannot write {path}: {error.strerror or error}.") from None
        self._lock = threading.Lock()

    def append(self, data: bytes) -> None:
        """Write ``data`` at the end; any thread may."""
        with self._lock:
            view = memoryview(data)
            try:
                while view:
                    view = view[self._file.write(view) :]
            except OSError as error:
                # a torn record would hide those that a resumed run appends
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file.fileno(), os.fstat(self._file.fileno()).st_size - len(data) + len(view))
                raise UserError(f"Cannot write {self.path}: {error.strerror or error}.") from None
            self._size += len(data)

    def trouble(self) -> str:
        """Return what has happened to the file since it was opened that lost its content, as the end of a sentence.

        ``""`` where the written content is at its path. Reading, copying and hard links do not count.
        """
        try:
            own = os.fstat(self._file.fileno())
        except OSError as error:
            return f"cannot be reached any more ({error.strerror or error})"
        if own.st_size < self._size:
            return f"was cut to {own.st_size:,} of its {self._size:,} bytes"
        if leads_to(self.path, self._file.fileno(), own):
            return ""
        if os.path.lexists(self.path):
            return "was replaced by another file"
        return "was deleted" if own.st_nlink == 0 else "was moved or renamed"

    def position(self) -> int:
        """Return the length in bytes, after making sure that the disk has it.

        It is the length that was written, also where the file has been cut since: what lacks then can be named.
        """
        os.fsync(self._file.fileno())
        return max(self._size, os.fstat(self._file.fileno()).st_size)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Place:
    """The location of a run's folder, which is held open so that it is recognised wherever it is moved to.

    Raises:
        OSError: it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._own = folder, os.stat(folder)
        self._descriptor = -1
        with contextlib.suppress(OSError):  # Windows has no such thing
            self._descriptor = os.open(folder, os.O_RDONLY)

    def own(self) -> bool:
        """Return whether the folder's path leads to it."""
        return leads_to(self.folder, self._descriptor, self._own)

    def now(self) -> tuple[Path, str, bool]:
        """Return where the folder is, what has happened to it, and whether files can be put there.

        It is its new path where it was moved and the system provides that, otherwise its old one, which may be another
        folder now: nothing is written there. What has happened is the end of a sentence, "" for nothing.
        """
        if self.own():
            return self.folder, "", True
        with contextlib.suppress(OSError):
            found = Path(os.readlink(f"/proc/self/fd/{self._descriptor}"))
            if leads_to(found, self._descriptor, self._own):
                return found, f"was moved to {found}", True
        if os.path.lexists(self.folder):
            return self.folder, "was replaced by another one", False
        return self.folder, "was deleted, moved or renamed", True

    def close(self) -> None:
        """Close the folder."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def leads_to(path: Path, descriptor: int, own: os.stat_result) -> bool:
    """Return whether ``path`` leads to the file or folder that is open as ``descriptor`` and is known as ``own``."""
    try:
        if os.path.samestat(own, os.stat(path)):
            return True
    except (FileNotFoundError, NotADirectoryError):
        pass  # a network file system may answer from memory, but not when a file is opened
    except OSError:  # no permission, a server that does not answer: what was written may well be there
        return True
    try:
        there = _opened(path)
        return os.path.samestat(own, there) or _follows(path, descriptor, there)
    except OSError:
        return False


def _follows(path: Path, descriptor: int, there: os.stat_result) -> bool:
    """Return whether a change of the open file's time shows at ``path``: some file systems number files anew."""
    if os.utime not in os.supports_fd or descriptor < 0:
        return False
    own = os.fstat(descriptor)
    if own.st_size != there.st_size:
        return False
    os.utime(descriptor, ns=(own.st_atime_ns, own.st_mtime_ns + 10**10))
    try:
        return _opened(path).st_mtime_ns != there.st_mtime_ns
    finally:
        os.utime(descriptor, ns=(own.st_atime_ns, own.st_mtime_ns))


def _opened(path: Path) -> os.stat_result:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def plain_float(name: str, value: Any) -> float:
    """Return ``value`` (number, numpy scalar, one-element tensor) as a plain float.

    Raises:
        TypeError: it is none of these; ``name`` is the metric's name, for the message.
    """
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"metric {name!r} must be one number, not {type(value).__name__}") from None


def metrics_line(metrics: Mapping[str, float], t: int, now: float | None = None) -> bytes:
    """Return one line of ``metrics.jsonl``: ``{"t": steps, "time": seconds since 1970, "metrics": {...}}``."""
    now = time.time() if now is None else now
    return (json.dumps({"t": int(t), "time": round(now, 3), "metrics": dict(metrics)}) + "\n").encode()


def parse_metrics(data: bytes) -> list[dict[str, Any]]:
    """Return the records of ``metrics.jsonl`` content; an unfinished last line is left out."""
    records = []
    for line in data.split(b"\n")[:-1]:  # what follows the last newline was never finished
        try:
            record = json.loads(line)
        except ValueError:
            continue  # a line torn by a crash of the whole machine
        if isinstance(record, dict) and isinstance(record.get("metrics"), dict):
            records.append(record)
    return records


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Return the records ``{"t", "time", "metrics"}`` of a run, in order; [] where there is no such file.

    Args:
        path: the run's folder, or its ``metrics.jsonl``.
    """
    path = Path(path)
    path = path / METRICS_FILE if path.is_dir() else path
    return parse_metrics(path.read_bytes()) if path.is_file() else []


def curve(records: list[dict[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return steps [K] int64 and values [K] float64 of one metric; values that are not numbers (NaN) are left out."""
    points = [(r["t"], r["metrics"][name]) for r in records if name in r["metrics"]]
    points = [(t, v) for t, v in points if not math.isnan(v)]
    return np.array([t for t, _ in points], np.int64), np.array([v for _, v in points], np.float64)


def array_record(t: int, arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return one record of an array file.

    Raises:
        TypeError: an array holds objects instead of numbers.
    """
    entries, blobs = [], []
    for name, value in arrays.items():
        array = np.asarray(value)
        if array.dtype.hasobject:
            raise TypeError(f"array {name!r} holds objects; only plain numbers are stored")
        entries.append({"name": name, "dtype": array.dtype.str, "shape": list(array.shape)})
        blobs.append(array.tobytes())
    header = json.dumps({"t": int(t), "arrays": entries}).encode()
    body = _INNER.pack(len(header)) + header + b"".join(blobs)
    return _HEAD.pack(_MAGIC, len(body), zlib.crc32(body)) + body


def _bodies(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield where each whole record ends, and what is in it."""
    at = 0
    while at + _HEAD.size <= len(data):
        magic, size, crc = _HEAD.unpack_from(data, at)
        body = data[at + _HEAD.size : at + _HEAD.size + size]
        if magic != _MAGIC or len(body) < size or zlib.crc32(body) != crc:
            return  # the tail was cut off while it was written: nothing whole follows it
        at += _HEAD.size + size
        yield at, body


def whole_arrays(data: bytes) -> tuple[int, int | None]:
    """Return the bytes of an array file's whole records, and the step of the newest one (None: there is none)."""
    end, t = 0, None
    with contextlib.suppress(
        ValueError, LookupError, TypeError, RecursionError, struct.error
    ):  # a file of another program
        for at, body in _bodies(data):
            size = _INNER.unpack_from(body)[0]
            end, t = at, int(json.loads(body[_INNER.size : _INNER.size + size])["t"])
    return end, t


def _records(data: bytes) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    for _, body in _bodies(data):
        header_size = _INNER.unpack_from(body)[0]
        header = json.loads(body[_INNER.size : _INNER.size + header_size])
        offset, arrays = _INNER.size + header_size, {}
        for entry in header["arrays"]:
            dtype, shape = np.dtype(entry["dtype"]), tuple(entry["shape"])
            count = math.prod(shape)
            arrays[entry["name"]] = np.frombuffer(body, dtype, count, offset).reshape(shape).copy()
            offset += count * dtype.itemsize
        yield header["t"], arrays


def read_arrays(path: str | Path) -> list[tuple[int, dict[str, np.ndarray]]]:
    """Return ``[(t, {name: array})]`` of an array file, in order; a cut-off tail is left out, [] without a file."""
    path = Path(path)
    return list(_records(path.read_bytes())) if path.is_file() else []


def beginning(path: Path, size: int) -> bytes:
    """Return the first ``size`` bytes of a file, or as many as there are."""
    try:
        with open(path, "rb") as file:
            # the size in a checkpoint is untrusted: not that much memory is allocated
            return file.read(min(size, os.fstat(file.fileno()).st_size))
    except OSError:
        return b""


def lacking(path: Path, short: bool, cut: bool, torn: int, last: int | None) -> str:
    """Return which records of the checkpoint's time an earlier run's file lacks; "" where it has all of them.

    Args:
        short: it is shorter than it was then.
        cut: it ends there inside a record.
        torn: lines in it that are no records.
        last: step of the last record that it has.
    """
    if not path.exists():
        return f"{path} is missing, and with it all records up to the checkpoint"
    if short or cut:
        gone = "it has no record any more" if last is None else f"its records after step {last:,} are gone"
        return f"{path} is {'shorter than' if short else 'another file than'} at the checkpoint, and {gone}"
    return f"{path} has {counted(torn, 'line')} with no record" if torn else ""
