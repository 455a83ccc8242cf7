"""The conversion of checkpoint contents to bytes and back, and the files that hold them, also untrusted ones.

A file is one text line, the SHA-256 of what follows, and a ``torch.save`` of plain containers and tensors::

    oamarl-checkpoint 2 <sha256 in hex>\\n<bytes of torch.save>

The checksum detects accidental damage. Reading never executes code and never takes more memory than a few times the
size of the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pickle
import re
import stat
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..utils.errors import UserError

_HEADER = re.compile(rb"oamarl-checkpoint (\d+) ([0-9a-f]{64})\n")
HEADER_SIZE = 128  # enough to read the line; it is shorter
_VERSION = 2


class Damaged(Exception):
    """The reason why a file is no intact checkpoint, as the end of a sentence that begins with its name."""


def plain(value: Any, where: str = "payload") -> Any:
    """Return ``value`` made of dicts, lists, tuples, strings, numbers, None and CPU tensors only.

    numpy arrays become tensors, numpy scalars become numbers; a tensor that is a view of something larger is
    copied, so that the file holds it alone.

    Raises:
        TypeError: anything else is inside; the message says where.
    """
    if isinstance(value, np.generic):  # before float: numpy's float64 is one, and would not be loaded again
        return value.item()
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    if isinstance(value, torch.Tensor):
        tensor = value.detach().cpu()
        whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
        return tensor if whole else tensor.clone()
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biuf":
            raise TypeError(f"{where} is an array of {value.dtype}, which a checkpoint cannot hold")
        # torch wants native byte order and positive strides; reshape because the copy makes scalars 1-d
        array = np.ascontiguousarray(value, value.dtype.newbyteorder("=")).reshape(value.shape)
        return torch.from_numpy(array.copy())
    if isinstance(value, Mapping):
        return {plain(k, where): plain(v, f"{where}[{k!r}]") for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        items = [plain(v, f"{where}[{i}]") for i, v in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    raise TypeError(f"{where} is a {type(value).__name__}, which a checkpoint cannot hold")


def pack(payload: Mapping[str, Any]) -> memoryview:
    """Return ``payload`` as bytes.

    Raises:
        TypeError: it holds something else than plain containers, numbers, arrays and tensors.
    """
    buffer = io.BytesIO()
    torch.save(plain(payload), buffer)
    return buffer.getbuffer()


def unpack(content: memoryview) -> dict[str, Any]:
    """Return what :func:`pack` was given, its arrays as tensors; nothing is executed.

    Raises:
        Damaged: ``content`` holds something that :func:`pack` never makes.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            # torch stores without compression: whatever claims to be larger than the file grows while it is read
            entries = archive.infolist()
            stored = all(e.compress_type == zipfile.ZIP_STORED and e.file_size == e.compress_size for e in entries)
            if not stored or sum(e.file_size for e in entries) > len(content):
                raise Damaged("claims to hold more than it has: not loaded")
        payload = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, ValueError, LookupError, EOFError, AttributeError,
        TypeError, MemoryError, OverflowError, AssertionError, NotImplementedError, struct.error,
    ):  # fmt: skip
        raise Damaged("holds more than plain numbers and tensors: not loaded") from None
    _check(payload)
    return payload


def _check(payload: Any) -> None:
    """Refuse what :func:`plain` does not make, before anything walks over it.

    A tree is what was written: containers that appear twice could stand for exponentially many, and a tensor may not
    show more numbers than it stores.
    """
    odd = Damaged("does not hold what this program writes: not loaded")
    if type(payload) is not dict:
        raise odd
    seen: set[int] = set()
    waiting: list[Any] = [payload]
    while waiting:
        value = waiting.pop()
        if type(value) in (dict, list, tuple):
            if len(value) and id(value) in seen:
                raise odd
            seen.add(id(value))
            waiting.extend(value)
            if type(value) is dict:
                waiting.extend(value.values())
        elif type(value) is torch.Tensor:
            plain_one = value.layout is torch.strided and value.device.type == "cpu" and not value.is_quantized
            if not plain_one or value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise odd
        elif value is not None and type(value) not in (bool, int, float, str, bytes):
            raise odd


@contextlib.contextmanager
def temporary_for(path: Path, cannot: str) -> Iterator[Path]:
    """Give the name under which ``path`` is written until it is whole; nothing is left of it if that fails.

    Args:
        path: the file.
        cannot: how the sentence about a failure begins.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise UserError(f"{cannot}: {error.strerror or error}; the earlier checkpoints are kept.") from None


def write_sealed(path: Path, content: memoryview, temporary: Path) -> str:
    """Write bytes with their checksum, under a temporary name until they are on the disk; returns the checksum.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    checksum = hashlib.sha256(content).hexdigest()
    with open(temporary, "wb") as file:
        file.write(f"oamarl-checkpoint {_VERSION} {checksum}\n".encode())
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    directory = os.open(path.parent, os.O_RDONLY)  # the move itself must reach the disk too
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return checksum


def read_sealed(path: Path) -> memoryview:
    """Return the bytes after the header line.

    Raises:
        Damaged: they cannot be read, or are not what was written.
    """
    try:
        # reading a pipe under a checkpoint's name would block; a device has no end
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Damaged("is not a file")
            head = file.read(HEADER_SIZE)
            match = _HEADER.match(head)
            if match is None or int(match.group(1)) < 1:
                raise Damaged("is not a checkpoint of this program")
            if int(match.group(1)) != _VERSION:
                age = "a newer" if int(match.group(1)) > _VERSION else "an older"
                raise Damaged(f"was written by {age} version of this program")
            content = memoryview(head + file.read())[match.end() :]
    except OSError as error:
        raise Damaged(f"cannot be read ({error.strerror or error})") from None
    if hashlib.sha256(content).hexdigest().encode() != match.group(2):
        raise Damaged("is damaged (its checksum does not match)")
    return content
