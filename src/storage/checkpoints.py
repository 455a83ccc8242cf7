"""Checkpoint files: written whole or not at all, checked when read, and never able to run code.

The format of the files is in :mod:`payloads`; the content is read as untrusted data.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..utils.errors import UserError
from .payloads import HEADER_SIZE, Damaged, pack, read_sealed, temporary_for, unpack, write_sealed
from .records import beginning

FOLDER = "checkpoints"  # inside a run's folder: the newest ones, to resume from
MODELS = "models"  # permanent snapshots
BEST = "best"  # the one with the best test return

_NAME = re.compile(r"checkpoint_(\d{1,18})\.pt")

T = TypeVar("T")


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def steps_of(path: Path) -> int:
    """Return the environment steps in a checkpoint's file name, -1 for another name."""
    match = _NAME.fullmatch(path.name)
    return int(match.group(1)) if match else -1


def name_of(t_env: int) -> str:
    """Return the file name of the checkpoint of step ``t_env``."""
    return f"checkpoint_{t_env:012d}.pt"


def listed(folder: Path) -> list[Path]:
    """Return the checkpoint files of a folder, newest first."""
    files = [p for p in folder.glob("checkpoint_*.pt") if steps_of(p) >= 0]
    return sorted(files, key=steps_of, reverse=True)


def save(folder: str | Path, t_env: int, payload: Mapping[str, Any], *, keep: int | None = 2) -> Path:
    """Write ``payload`` as the checkpoint of step ``t_env`` and return its path.

    It is written under a temporary name and renamed when it is on the disk, so that neither a reader nor a crash or a
    full disk can give an incomplete checkpoint.

    Args:
        folder: made where missing.
        keep: the newest ``keep`` checkpoints stay, older ones go (after the new one is safe); None keeps all.

    Raises:
        UserError: the disk is full or the folder cannot be written; the earlier checkpoints are still there.
        TypeError: the payload holds something else than plain containers, numbers, arrays and tensors.
    """
    folder = Path(folder)
    content = pack(payload)
    path = folder / name_of(t_env)
    with temporary_for(path, f"Cannot write the checkpoint {path}") as temporary:
        folder.mkdir(parents=True, exist_ok=True)
        write_sealed(path, content, temporary)
    if keep is not None:
        # a failure to tidy up costs disk space only: the next save tries again
        # a file with a later step in its name is not this run's: it takes no place and stays
        own = [p for p in listed(folder) if steps_of(p) <= t_env]
        for old in [*own[keep:], *folder.glob(".checkpoint_*.tmp")]:
            with contextlib.suppress(OSError):
                old.unlink()
    return path


def copy(source: Path, folder: Path) -> bool:
    """Put a copy of an intact checkpoint into ``folder``; returns whether that succeeded."""
    temporary = folder / f".{source.name}.{os.getpid()}.tmp"
    try:
        content = read_sealed(source)
        _payload(source, content)
        folder.mkdir(parents=True, exist_ok=True)
        write_sealed(folder / source.name, content, temporary)
    except (Damaged, OSError):
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        return False
    return True


def _payload(path: Path, content: memoryview) -> dict[str, Any]:
    """Return what the bytes of the file ``path`` hold.

    Raises:
        Damaged: nothing that this program writes, or the state of another step than the file's name says.
    """
    payload, named = unpack(content), steps_of(path)
    runner = payload.get("runner")
    steps = runner.get("t_env") if isinstance(runner, dict) else None
    if type(steps) is int and named >= 0 and named != steps:
        # which is the newest, and which is tidied away, goes by names
        held = f"{steps:,}" if 0 <= steps < 10**18 else "none that can be"
        raise Damaged(f"holds another step than its name says ({held}): not loaded")
    return payload


def stamp(path: Path) -> tuple[int, int]:
    """Return a file's size and time of change, which tell cheaply that it may be another one; (-1, -1): none there."""
    try:
        found = path.stat()
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


class Written:
    """A checkpoint that was written, to be known again: a copy, a link and another time of change are still the same.

    Args:
        path: the file, as it is now.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._stamp, self._sum = path, stamp(path), _sum(path)

    def there(self) -> bool:
        """Return whether its content is at its path, whole; it is read only where the file's stamp is another one."""
        now = stamp(self.path)
        if now == self._stamp:
            return now[0] >= 0
        try:
            read_sealed(self.path)
        except Damaged:
            return False
        if _sum(self.path) != self._sum:
            return False
        self._stamp = now
        return True


def _sum(path: Path) -> bytes:
    """Return the line with the checksum of a file; nothing where it is none."""
    if not path.is_file():
        return b""
    return beginning(path, HEADER_SIZE).partition(b"\n")[0]


def _whole(path: Path) -> dict[str, Any]:
    return _payload(path, read_sealed(path))


def load(path: str | Path) -> dict[str, Any]:
    """Return the payload of a checkpoint file, its tensors on the CPU (arrays come back as tensors).

    Loading never executes code: only plain containers and tensors are accepted, whatever the checksum says.

    Raises:
        UserError: the file is missing, damaged, or holds anything else.
    """
    path = Path(path)
    try:
        return _whole(path)
    except Damaged as problem:
        raise UserError(f"The checkpoint {path} {problem}.") from None


def load_newest(
    path: str | Path, say: Callable[[str], None] = _say, fits: Callable[[dict[str, Any]], str] = lambda payload: ""
) -> tuple[Path, dict[str, Any]]:
    """Return the newest valid checkpoint at ``path`` and its payload.

    Args:
        path: a checkpoint file, a folder of them, or a run's folder (which has ``checkpoints/`` inside).
        say: called with one sentence for each newer file that is skipped because it is invalid.
        fits: returns what is wrong with a payload, as the end of a sentence that begins with the file's name.

    Raises:
        UserError: nothing is there, or no valid file.
    """

    def whole(file: Path) -> dict[str, Any]:
        payload = _whole(file)
        problem = fits(payload)
        if problem:
            raise Damaged(problem)
        return payload

    return _newest(path, say, whole)


def find(path: str | Path, say: Callable[[str], None] = _say) -> Path:
    """Return the newest intact checkpoint at ``path``.

    Args:
        path: a checkpoint file, a folder of them, or a run's folder (which has ``checkpoints/`` inside).
        say: called with one sentence for each newer file that is skipped because it is damaged.

    Raises:
        UserError: nothing is there, or nothing intact.
    """
    return _newest(path, say, _whole)[0]


def _newest(path: str | Path, say: Callable[[str], None], opened: Callable[[Path], T]) -> tuple[Path, T]:
    """Return the newest file at ``path`` that can be opened, and the result of opening it."""
    path = Path(path)
    if path.is_file():
        try:
            return path, opened(path)
        except Damaged as problem:
            raise UserError(f"The checkpoint {path} {problem}{_instead(path)}.") from None
    if not path.is_dir():
        if str(path) == "latest":
            raise UserError(
                "`latest` is for training's checkpoint_path and `oamarl evaluate`; name a folder or a file here."
            )
        raise UserError(f"There is no checkpoint at {path}: no such file or folder.")
    folder = path / FOLDER if (path / FOLDER).is_dir() else path
    files = listed(folder)
    if not files:
        raise UserError(
            f"There is no checkpoint in {folder}: a checkpoint file, a folder of them or a run's folder is expected."
        )
    problems = []
    for file in files:
        try:
            found = opened(file)
        except Damaged as problem:
            problems.append(f"{file.name} {problem}")
            continue
        for text in problems:
            say(f"Skipped a checkpoint: {text}; continuing from {file.name}.")
        return file, found
    raise UserError(f"There is no intact checkpoint in {folder}: {'; '.join(problems)}.")


def _instead(path: Path) -> str:
    """Return a hint at the newest intact checkpoint beside ``path``, or nothing."""
    for other in listed(path.parent):
        if other != path:
            with contextlib.suppress(Damaged):
                _whole(other)
                return f"; {other.name} in the same folder is intact"
    return ""
