"""The replay of a run on the disk: chunks in <run>/replay/ that are written once, and that checkpoints refer to.

At each rolling checkpoint the episodes since the last one become new chunks, which are on the disk before the
checkpoint that names them. So a kill at any moment leaves the last checkpoint with all of its chunks, and what is
written at a checkpoint does not grow with the replay.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..components.replay import Replay
from ..utils.errors import UserError
from .payloads import HEADER_SIZE, Damaged, pack, read_sealed, temporary_for, unpack, write_sealed
from .records import beginning

FOLDER = "replay"  # inside a run's folder
#: a chunk has at most so many bytes, or one episode: each exists twice while it is written
MOST_BYTES = 64 << 20

_NAME = re.compile(r"chunk-(\d{6,12})\.pt")


@dataclass(frozen=True)
class Chunk:
    """A file with the episodes numbered ``since`` to ``until`` - 1, the checksum of its content, and its size."""

    name: str
    since: int
    until: int
    checksum: str
    size: int

    @property
    def number(self) -> int:
        """Its place in the order of writing."""
        match = _NAME.fullmatch(self.name)
        if match is None:
            raise ValueError(f"{self.name!r} is no chunk's name")
        return int(match.group(1))


class ReplayFiles:
    """The chunks of one run's replay, and the episodes that are in them.

    Args:
        folder: the run's.
        replay: what they hold.
    """

    def __init__(self, folder: Path, replay: Replay) -> None:
        self.folder, self.replay = folder / FOLDER, replay
        self.chunks: list[Chunk] = []  # what the replay consists of, oldest first
        self._last = 0  # number of the newest
        self._needed: dict[Path, set[str]] = {}  # checkpoint -> its chunks

    # -- writing -----------------------------------------------------------------------------------------------

    def write(self) -> dict[str, Any]:
        """Write the episodes that are in no chunk yet; returns what a checkpoint needs to know of the replay.

        Raises:
            UserError: the disk is full or the folder cannot be written; chunks that were written stay.
        """
        replay = self.replay
        if not all(self._there(chunk) for chunk in self.chunks):
            self.chunks = []  # deleted or changed: what they held is written anew
        self.chunks = [chunk for chunk in self.chunks if chunk.until > replay.oldest]
        since = max(self.chunks[-1].until if self.chunks else 0, replay.oldest)
        while since < replay.newest:
            until = self._until(since)
            self.chunks.append(self._write(since, until))
            since = until
        return {"chunks": [vars(chunk).copy() for chunk in self.chunks], "state": replay.state_dict()}

    def saved(self, checkpoint: Path) -> None:
        """Take note that ``checkpoint`` refers to the chunks that there are, and delete those that none refers to."""
        self._needed[checkpoint] = {chunk.name for chunk in self.chunks}
        self._needed = {path: names for path, names in self._needed.items() if path.is_file()}
        kept = set().union(*self._needed.values(), {chunk.name for chunk in self.chunks})
        for path in self.folder.glob("chunk-*.pt"):
            if path.name not in kept:
                with contextlib.suppress(OSError):  # costs disk space only: tried again next time
                    path.unlink()

    def _until(self, since: int) -> int:
        """The end of the chunk that begins with episode ``since``."""
        return since + max(1, int((self.replay.sizes(since).cumsum() <= MOST_BYTES).sum()))

    def _write(self, since: int, until: int) -> Chunk:
        self._last += 1
        path = self.folder / f"chunk-{self._last:06d}.pt"
        with temporary_for(path, f"Cannot write the replay into {path}") as temporary:
            if not self.folder.is_dir():
                self.folder.mkdir(parents=True)
                _sync(self.folder.parent)
            content = pack(self.replay.entries(since, until))
            checksum = write_sealed(path, content, temporary)
            return Chunk(path.name, since, until, checksum, path.stat().st_size)

    def _there(self, chunk: Chunk) -> bool:
        try:
            return (self.folder / chunk.name).stat().st_size == chunk.size
        except OSError:
            return False

    # -- reading -----------------------------------------------------------------------------------------------

    def resume(self, saved: Mapping[str, Any], source: Path) -> None:
        """Fill the replay from the chunks of an earlier run, and make them this run's: as links, or copies.

        Args:
            saved: from :meth:`write`, as a checkpoint gave it back.
            source: the earlier run's folder.

        Raises:
            UserError: a chunk is missing, damaged, or not the one that the checkpoint refers to.
        """
        try:
            chunks = [Chunk(**entry) for entry in saved["chunks"]]
            self._last = max([0, *(chunk.number for chunk in chunks)])
        except (TypeError, ValueError, KeyError) as error:
            raise UserError(f"The checkpoint of {source} does not say which chunks its replay has ({error}).") from None
        try:
            self.replay.restore(saved["state"], self._read(chunks, source / FOLDER))
        except (ValueError, KeyError, TypeError, IndexError, RuntimeError) as error:
            raise UserError(f"The replay in {source / FOLDER} is not the one of the checkpoint: {error}.") from None
        self.chunks = chunks

    def _read(self, chunks: list[Chunk], source: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        for chunk in chunks:
            path = source / chunk.name
            try:
                content = read_sealed(path)
                if beginning(path, HEADER_SIZE).split()[2].decode() != chunk.checksum:
                    raise Damaged("is another one than the checkpoint refers to")
                part = unpack(content)
                self._take(path)
            except Damaged as problem:
                raise UserError(
                    f"The chunk {path} of the replay {problem}: resume from another checkpoint, or begin anew from its "
                    "weights with init_from."
                ) from None
            yield chunk.since, part

    def _take(self, path: Path) -> None:
        """Link or copy a chunk into this run's folder."""
        own = self.folder / path.name
        if own == path:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, own)
        except OSError:  # another file system, or one without links
            temporary = self.folder / f".{own.name}.{os.getpid()}.tmp"
            try:
                shutil.copyfile(path, temporary)
                _sync(temporary)
                temporary.replace(own)
            except OSError as error:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
                reason = error.strerror or str(error)
                raise UserError(f"The chunk {path} of the replay cannot be copied to {own}: {reason}.") from None
        _sync(self.folder)


def _sync(path: Path) -> None:
    """Have a file's content, or the names in a folder, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
