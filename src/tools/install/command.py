"""``oamarl install WHAT``: games and packages that pip alone cannot install."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...utils.errors import UserError
from .arguments import AGREED, GAMES, LICENCE, TARGETS, USAGE, USUAL, What, is_url, read
from .downloads import download, move_into, sha256_of, unpack

#: Below the game's folder: archives while they are needed, and the record of downloaded ones. No checksums of them are
#: published: they are recorded when an archive had the expected content, and compared at a later download.
FOLDER, RECORD = ".oamarl-install", "archives.json"


def main(argv: list[str]) -> int:
    """Install; return the exit status."""
    if "-h" in argv or "--help" in argv:
        print(USAGE)
        return 0
    given = read(argv)
    what = TARGETS[given.what]
    game = (given.path or Path(os.environ.get("SC2PATH") or "~/StarCraftII")).expanduser().absolute()
    if "game" in given.wanted:
        install_game(game, given)
    if "maps" in given.wanted:
        install_maps(game, what, given)
    if "package" in given.wanted:
        install_package(what, given)
    if what.maps and game != Path("~/StarCraftII").expanduser() and os.environ.get("SC2PATH") != str(game):
        print(f"Say where the game is before you train: export SC2PATH={game}")
    example = {"sc2": "3s5z_vs_3s6z", "sc2v2": "protoss_5_vs_5", "smaclite": "2s3z"}[given.what]
    print(f"Try: oamarl --config=oappo --env-config={given.what} with env_args.map_name={example}")
    return 0


# -- the game and its maps ---------------------------------------------------------------------------------------


def binaries(game: Path) -> list[Path]:
    """Return the game's programs in its folder."""
    return sorted(game.glob("Versions/Base*/SC2_x64"))


def install_game(game: Path, given: Any) -> None:
    """Install StarCraft II in the folder ``game``, unless it is there.

    Raises:
        UserError: another version is requested than is there, another system than Linux, the licence is not accepted,
            or something cannot be fetched or written.
    """
    version = given.game_version or USUAL
    url, base = GAMES[version]
    there = [program.parent.name for program in binaries(game)]
    if given.game_version and there and base not in there:
        raise UserError(
            f"StarCraft II in {game} is another version than {version} ({', '.join(there)}, not {base}): give it a "
            "folder of its own (--path)."
        )
    if there:
        print(f"StarCraft II is in {game}.")
        return
    if not sys.platform.startswith("linux"):
        raise UserError(
            "Blizzard's archive is for Linux: elsewhere install StarCraft II by Battle.net, then --only maps."
        )
    _agree(given.accept_licence)
    with _work_folder(game) as folder:
        source = folder / "StarCraftII"
        found = _bring(url, game, folder, given, lambda: binaries(source), "Versions/Base*/SC2_x64", AGREED)
        for program in found:
            program.chmod(0o755)
        move_into(source, game)
    print(f"StarCraft II {version} is in {game}.")


def install_maps(game: Path, what: What, given: Any) -> None:
    """Install the maps in Maps/SMAC_Maps in the game's folder; files of the same name are replaced.

    Raises:
        UserError: there is no such folder, or something cannot be fetched or written.
    """
    if not binaries(game) and sys.platform.startswith("linux"):
        raise UserError(f"There is no StarCraft II in {game}: install the game first, or say where it is (--path).")
    assert what.maps is not None
    with _work_folder(game) as folder:
        found = _bring(what.maps, game, folder, given, lambda: _maps(folder), "maps (*.SC2Map)", name=what.maps_archive)
        flat = folder / "flat"
        flat.mkdir()
        for path in found:
            os.replace(path, flat / path.name)
        move_into(flat, game / "Maps" / "SMAC_Maps")
    print(f"{len(found)} maps are in {game / 'Maps' / 'SMAC_Maps'}.")


def _maps(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*.SC2Map") if "__MACOSX" not in p.parts)


def _agree(accepted: bool) -> None:
    if accepted:
        return
    print(f"StarCraft II comes under Blizzard's AI and Machine Learning licence: {LICENCE}")
    if not sys.stdin.isatty():
        raise UserError(f"The licence of StarCraft II must be accepted: read {LICENCE}, then add --accept-licence.")
    try:
        answer = input(f"If you accept it, type {AGREED}: ")
    except EOFError:
        answer = ""
    if answer.strip().lower() != AGREED:
        raise UserError("The licence was not accepted: nothing was fetched.")


@contextlib.contextmanager
def _work_folder(game: Path) -> Iterator[Path]:
    """A temporary folder on the game's disk, from which unpacked files can be moved by renaming."""
    try:
        (game / FOLDER).mkdir(parents=True, exist_ok=True)
        made = tempfile.TemporaryDirectory(dir=game / FOLDER)
    except OSError as error:
        raise UserError(f"Cannot write into {game}: {error.strerror or error}.") from error
    with made as folder:
        yield Path(folder)


def _bring(
    url: str, game: Path, folder: Path, given: Any, look: Callable[[], list[Path]], wanted: str,
    password: str | None = None, name: str = "",
) -> list[Path]:  # fmt: skip
    """Fetch an archive, unpack it into ``folder`` and drop it; it stays where unpacking fails.

    Returns:
        what ``look`` finds: ``wanted``, in words.
    """
    archive = _archive(url, game / FOLDER, given, name)
    unpack(archive.path, folder, password)
    found = look()
    archive.drop(good=bool(found))
    if not found:
        raise UserError(f"The archive {archive.facts.get('url', archive.path)} has no {wanted} in it.")
    return found


@dataclass(frozen=True)
class Archive:
    """An archive on the disk; ``record`` and ``facts`` of one that was fetched, which is ours to delete."""

    path: Path
    record: Path | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def drop(self, good: bool) -> None:
        """Delete it if it is ours; where it was ``good``, what comes from its address again must be the same."""
        if self.record is None:
            return
        if good:
            _note(self.record, {**self.facts, "unpacked": True})
        self.path.unlink()


def _archive(url: str, folder: Path, given: Any, name: str = "") -> Archive:
    """Return an archive: the user's own, one downloaded earlier and not unpacked then, or one downloaded now.

    Raises:
        UserError: it is not available, or its checksum is not the expected or recorded one.
    """
    name = name or url.rpartition("/")[2]
    wanted = given.sums.get(name)
    if given.mirror and not is_url(given.mirror):
        path = Path(given.mirror).expanduser() / name
        if not path.is_file():
            raise UserError(f"--from {given.mirror} has no {name}.")
        if wanted and sha256_of(path) != wanted.lower():
            raise UserError(f"{path} is not the file that was expected: its sha256 is not {wanted}.")
        return Archive(path)
    if given.mirror:
        url = f"{given.mirror.rstrip('/')}/{name}"
    record, target = folder / RECORD, folder / name
    last = _record(record).get(url, {})
    # the checksum of what could not be unpacked says only that it came whole: a damaged archive is not to come again
    same = last.get("sha256") if last.get("unpacked", True) else None
    expected = wanted or same
    whole = (expected or last.get("sha256") or "").lower()
    if whole and target.is_file() and sha256_of(target) == whole:
        print(f"{target} came whole before: it is not fetched again.")
        return Archive(target, record, {"url": url, "size": target.stat().st_size, "sha256": whole})
    print(f"Fetching {url}")
    why = "" if wanted else f" (as it came last time: delete {record} if its publisher has replaced it)"
    facts = {**download(url, target, expected, why), "unpacked": False}
    if same is None:
        _note(record, facts)
    print(f"{name}: {facts['size']:,} bytes, sha256 {facts['sha256']}{'' if expected else ' (recorded, not compared)'}")
    return Archive(target, record, facts)


def _record(path: Path) -> dict[str, Any]:
    """Return URL -> url, size, sha256 and whether it could be unpacked (records of old do not say so: it could)."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return {k: v for k, v in found.items() if isinstance(v, dict)} if isinstance(found, dict) else {}


def _note(record: Path, facts: dict[str, Any]) -> None:
    try:
        record.write_text(json.dumps({**_record(record), facts["url"]: facts}, indent=1))
    except OSError as error:
        raise UserError(f"Cannot write {record}: {error.strerror or error}.") from error


# -- the package -------------------------------------------------------------------------------------------------


def install_package(what: What, given: Any) -> None:
    """Install the package's pinned commit into this Python, without the requirements that it does not need.

    Raises:
        UserError: its archive is not available or has another checksum than expected, or pip fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = what.url
        if given.mirror or what.archive in given.sums:  # pip compares no checksums of addresses
            source = str(_archive(what.url, Path(folder), given, what.archive).path)
        pip("install", *what.needs)
        pip("install", "--no-deps", *what.alone, source)
    print(f"The package {what.package} ({what.repository}, commit {what.commit[:8]}) is installed.")


def pip(*words: str) -> None:
    """Run pip in this Python.

    Raises:
        UserError: it is not there, or fails.
    """
    command = [sys.executable, "-m", "pip", *words]
    if importlib.util.find_spec("pip") is None and shutil.which("uv"):  # uv's environments have no pip
        command = ["uv", "pip", words[0], "--python", sys.executable, *words[1:]]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise UserError(f"`{' '.join(command)}` failed with exit status {done.returncode}: see above.")
