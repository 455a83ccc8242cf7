"""The conversion of checkpoint contents to bytes and back: plain containers and tensors, also from untrusted files.

Reading never executes code and never takes more memory than a few times the size of the file.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


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
