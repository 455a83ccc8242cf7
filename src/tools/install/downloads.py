"""Downloads: interrupted ones are resumed, files are checked and unpacked."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import json
import os
import shutil
import socket
import stat
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...utils.errors import UserError, counted, first_line, nearest

_PIECE = 1 << 20  # bytes
#: connections in a row that break off without data
_TRIES = 4
_PAUSE = 2.0  # seconds between them
_TIMEOUT = 60.0  # seconds without a byte

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)
_SCHEMES = ("http", "https", "ftp")


def check_url(url: str, where: str = "The address", also: str = "") -> None:
    """Raise UserError unless ``url`` is an address that can be fetched; ``where`` it stands, and what ``also`` may."""
    allowed = f"use an address such as https://host/folder ({', '.join(_SCHEMES)}){also}"
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise UserError(f"{where} {url} is malformed ({first_line(error)}): {allowed}.") from error
    if parts.scheme not in _SCHEMES:
        wrong = f"begins with '{parts.scheme}:'" if parts.scheme else "has no https:// in front"
        raise UserError(f"{where} {url} {wrong}: {allowed}{nearest(parts.scheme, _SCHEMES) or '.'}")
    if not host:
        raise UserError(f"{where} {url} names no host: {allowed}.")
    for char in url:
        if not "!" <= char <= "~":
            raise UserError(f"{where} {url} has {char!r} in it: write it as {urllib.parse.quote(char)}.")


def download(url: str, target: Path, sha256: str | None = None) -> dict[str, Any]:
    """Bring ``url`` to ``target``; what an earlier call left behind (``target``.part) is gone on with.

    The server must vouch for the rest to be of the same file (If-Range); otherwise it begins anew.

    Returns:
        url, size in bytes, sha256.

    Raises:
        UserError: not an address, no network, no such file, no space, a file of another size or checksum than expected.
    """
    check_url(url)
    part, facts = target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.part.json")
    with _disk(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        tries = 0
        while True:
            before = part.stat().st_size if part.exists() else 0
            try:
                size = _fetch(url, part, facts)
                break
            except (urllib.error.HTTPError, UserError):
                raise
            except (OSError, http.client.HTTPException) as error:
                if getattr(error, "errno", None) in _DISK_ERRORS:
                    raise
                have = part.stat().st_size if part.exists() else 0
                tries = 1 if have > before else tries + 1
                if tries >= _TRIES:
                    kept = f"; what has come ({have:,} bytes) is kept, and the same command resumes the download"
                    raise UserError(f"{url} cannot be fetched ({_reason(error)}){kept if have else ''}.") from error
                time.sleep(_PAUSE)
        found = sha256_of(part)
        if sha256 is not None and found != sha256.lower():
            part.unlink()
            facts.unlink(missing_ok=True)
            raise UserError(f"{url} is not the file that was expected: its sha256 is {found}, not {sha256.lower()}.")
        os.replace(part, target)
        facts.unlink(missing_ok=True)
    return {"url": url, "size": size, "sha256": found}


def _fetch(url: str, part: Path, facts: Path) -> int:
    """Bring what is missing of ``part`` in one request; returns the whole size.

    Raises:
        UserError: the server has no such file, or it does not fit on the disk.
        OSError, http.client.HTTPException: the connection broke off.
    """
    have = part.stat().st_size if part.exists() else 0
    mark = json.loads(facts.read_text()) if facts.exists() else {}
    request = urllib.request.Request(url, headers={"User-Agent": "oamarl", "Accept-Encoding": "identity"})
    if have and mark.get("url") == url and mark.get("validator"):
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", mark["validator"])
    else:
        have = 0
    try:
        reply = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have == mark.get("size"):
            return have
        if error.code == 416:
            part.unlink()
            return _fetch(url, part, facts)
        if error.code >= 500:
            raise ConnectionError(f"the server answers {error.code} {error.reason}") from error
        raise UserError(f"{url} cannot be fetched: the server answers {error.code} {error.reason}.") from error
    with reply:
        resumed = reply.status == 206 and reply.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if reply.status == 206 and not resumed:
            raise ConnectionError("the server sent another part than was asked for")
        have = have if resumed else 0
        length = reply.headers.get("Content-Length")
        size = have + int(length) if length is not None else None
        validator = reply.headers.get("ETag") or reply.headers.get("Last-Modified")
        facts.write_text(json.dumps({"url": url, "validator": validator, "size": size}))
        if size is not None:
            check_space(part.parent, size - have, f"{url} ({size / 1e9:.2f} GB)")
        if resumed:
            print(f"{part.name.removesuffix('.part')}: resuming at {have:,} of {size:,} bytes")
        with part.open("ab" if resumed else "wb") as file:
            for at in _pieces(reply, file, have):
                print(
                    f"{part.name.removesuffix('.part')}: {at / 1e6:,.0f} MB"
                    + (f" of {size / 1e6:,.0f} MB" if size else "")
                )
    got = part.stat().st_size
    if size is not None and got != size:
        raise ConnectionError(f"{got:,} of {size:,} bytes came")
    return got


def _pieces(reply: Any, file: Any, at: int) -> Iterator[int]:
    """Copy a reply; yield how much is there, every 100 MB."""
    told = at
    while piece := reply.read(_PIECE):
        file.write(piece)
        at += len(piece)
        if at - told >= 100_000_000:
            told = at
            yield at


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raise UserError where ``needed`` bytes do not fit into ``folder``'s disk."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{what} does not fit: {folder} has {free / 1e9:.2f} GB free, and {needed / 1e9:.2f} GB are needed."
        )


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """Report a refusal of the disk in one sentence."""
    try:
        yield
    except urllib.error.URLError:
        raise
    except OSError as error:
        raise UserError(f"Cannot write into {folder}: {error.strerror or error}.") from error


def _reason(error: BaseException) -> str:
    inner = getattr(error, "reason", error)
    if isinstance(inner, socket.gaierror):
        return "its host is not found: is there a network?"
    return first_line(inner) if isinstance(inner, BaseException) else str(inner)


def sha256_of(path: Path) -> str:
    """Return a file's checksum, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


# -- archives ----------------------------------------------------------------------------------------------------


def unpack(archive: Path, folder: Path, password: str | None = None) -> None:
    """Unpack a zip file into ``folder``: by `unzip` where it is there, since Python decrypts slowly.

    Raises:
        UserError: not a zip file, a damaged one, one that writes elsewhere, or no space for it.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            for member in members:
                path = Path(member.filename)
                if path.is_absolute() or ".." in path.parts or "\\" in member.filename:
                    raise UserError(
                        f"{archive} is not unpacked: its file '{member.filename}' would lie outside {folder}."
                    )
                kind = stat.S_IFMT(member.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):  # through a link, files elsewhere would be changed
                    what = "a link" if kind == stat.S_IFLNK else "neither a file nor a folder"
                    raise UserError(f"{archive} is not unpacked: its entry '{member.filename}' is {what}.")
            with _disk(folder):
                folder.mkdir(parents=True, exist_ok=True)
                check_space(folder, sum(m.file_size for m in members), f"What is in {archive}")
                print(f"Unpacking {archive.name} ({counted(len(members), 'file')})")
                if not _unzip(archive, folder, password):
                    _extract(opened, members, folder, password)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
        raise UserError(f"{archive} cannot be unpacked ({first_line(error)}): delete it and try again.") from error


def _unzip(archive: Path, folder: Path, password: str | None) -> bool:
    program = shutil.which("unzip")
    if program is None:
        return False
    words = [program, "-q", "-o", *(["-P", password] if password else []), str(archive), "-d", str(folder)]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode == 50:  # the archive is intact, and should not be downloaded again
        raise UserError(f"Cannot write into {folder}: {os.strerror(errno.ENOSPC)}.")
    if done.returncode > 1:  # 1: warnings
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
        raise UserError(f"{archive} cannot be unpacked ({lines[-1].strip()}): delete it and try again.")
    return True


def _extract(opened: zipfile.ZipFile, members: list[zipfile.ZipInfo], folder: Path, password: str | None) -> None:
    for member in members:
        path = Path(opened.extract(member, folder, pwd=password.encode() if password else None))
        mode = member.external_attr >> 16 & 0o777
        if mode and not member.is_dir():
            with contextlib.suppress(OSError):
                path.chmod(mode | 0o600)


def move_into(source: Path, target: Path) -> None:
    """Move what is in the folder ``source`` into ``target``, file by file where a folder is there already.

    Raises:
        UserError: the disk refuses.
    """
    with _disk(target):
        target.mkdir(parents=True, exist_ok=True)
        for child in sorted(source.iterdir()):
            there = target / child.name
            if child.is_dir() and there.is_dir():
                move_into(child, there)
            else:
                if there.is_symlink() or there.is_file():
                    there.unlink()
                shutil.move(str(child), str(there))
