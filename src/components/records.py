"""Append-only files of a run: scalars (``metrics.jsonl``) and arrays (``<name>.arrays``), with their readers.

Nothing in them is ever rewritten, so a run that is killed loses at most the record it was writing, and a byte
offset is enough to say how far a file had got when a checkpoint was made.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import struct
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .errors import UserError

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
        except OSError as error:
            raise UserError(f"Cannot write {path}: {error.strerror or error}.") from None

    def append(self, data: bytes) -> None:
        """Write ``data`` at the end."""
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            # a torn record would hide those that a resumed run appends
            with contextlib.suppress(OSError):
                os.ftruncate(self._file.fileno(), os.fstat(self._file.fileno()).st_size - len(data) + len(view))
            raise UserError(f"Cannot write {self.path}: {error.strerror or error}.") from None

    def position(self) -> int:
        """Return the length in bytes, after making sure that the disk has it."""
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Close the file."""
        self._file.close()


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
        if isinstance(record, dict) and "metrics" in record:
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


def _records(data: bytes) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    at = 0
    while at + _HEAD.size <= len(data):
        magic, size, crc = _HEAD.unpack_from(data, at)
        body = data[at + _HEAD.size : at + _HEAD.size + size]
        if magic != _MAGIC or len(body) < size or zlib.crc32(body) != crc:
            return  # the tail was cut off while it was written: nothing whole follows it
        at += _HEAD.size + size
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
