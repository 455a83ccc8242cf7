"""``oamarl install WHAT``: games and packages that pip alone cannot install."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ...utils.errors import UserError, counted
from . import football
from .arguments import AGREED, FOOTBALL, GAMES, LICENCE, TARGETS, USUAL, What, is_url, read
from .downloads import download, move_into, sha256_of, unpack
from .pip import pip

USAGE = """\
usage: oamarl install sc2|sc2v2|smaclite [--accept-licence] [--path DIR] [--game-version 4.10|4.6.2]
                      [--only game|maps|package] [--from URL|DIR] [--sha256 FILE=HEX ...]
       oamarl install football

  sc2                 StarCraft II for Linux (4 GB to fetch), SMAC's maps and the package `smac`
  sc2v2               the same for SMACv2
  smaclite            the package `smaclite`, which needs no game
  football            Google Research Football: builds its engine (about 12 minutes of processor time, once for each
                      Python of a machine), installs it and plays an episode
  --accept-licence    you have read and accept Blizzard's AI and Machine Learning licence (asked otherwise)
  --path DIR          where the game lies (SC2PATH, otherwise ~/StarCraftII)
  --game-version      4.10; 4.6.2 is what the SMAC paper used: win rates of the two differ
  --only              one of the three things
  --from URL|DIR      a mirror, or a folder of archives, in place of the publishers' addresses
  --sha256 FILE=HEX   what an archive must have (SC2.4.10.zip=...)

What is there already is left as it is; what broke off is gone on with."""

#: a map to begin with
EXAMPLES = {
    "sc2": "3s5z_vs_3s6z", "sc2v2": "protoss_5_vs_5", "smaclite": "2s3z", FOOTBALL: "academy_3_vs_1_with_keeper",
}  # fmt: skip
#: Below the game's folder: archives while they are needed.
FOLDER = ".oamarl-install"


def main(argv: list[str]) -> int:
    """Install; return the exit status."""
    given = read(argv)
    if given.what == FOOTBALL:
        football.install()
        print(f"Try: oamarl --config=happo --env-config=gfootball with env_args.map_name={EXAMPLES[FOOTBALL]}")
        return 0
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
    print(f"Try: oamarl --config=oappo --env-config={given.what} with env_args.map_name={EXAMPLES[given.what]}")
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
    print(f"{counted(len(found), 'map', 'are')} in {game / 'Maps' / 'SMAC_Maps'}.")


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
    archive, ours = _archive(url, game / FOLDER, given, name)
    unpack(archive, folder, password)
    found = look()
    if ours:
        archive.unlink()
    if not found:
        raise UserError(f"The archive {archive} has no {wanted} in it.")
    return found


def _archive(url: str, folder: Path, given: Any, name: str = "") -> tuple[Path, bool]:
    """Return an archive, and whether it is ours to delete: the user's own, or one that was fetched, now or before.

    Raises:
        UserError: it cannot be had, or is another file than ``--sha256`` says.
    """
    name = name or url.rpartition("/")[2]
    wanted = given.sums.get(name)
    if given.mirror and not is_url(given.mirror):
        path = Path(given.mirror).expanduser() / name
        if not path.is_file():
            raise UserError(f"--from {given.mirror} has no {name}.")
        if wanted and sha256_of(path) != wanted.lower():
            raise UserError(f"{path} is not the file that was expected: its sha256 is not {wanted}.")
        return path, False
    if given.mirror:
        url = f"{given.mirror.rstrip('/')}/{name}"
    target = folder / name
    if target.is_file() and (not wanted or sha256_of(target) == wanted.lower()):
        print(f"{target} came whole before: it is not fetched again.")
        return target, True
    print(f"Fetching {url}")
    facts = download(url, target, wanted)
    print(f"{name}: {facts['size']:,} bytes, sha256 {facts['sha256']}{'' if wanted else ' (not compared)'}")
    return target, True


# -- the package -------------------------------------------------------------------------------------------------


def install_package(what: What, given: Any) -> None:
    """Install the package's pinned commit into this Python, without the requirements that it does not need.

    Raises:
        UserError: its archive is not available or has another checksum than expected, or pip fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = what.url
        if given.mirror or what.archive in given.sums:  # pip compares no checksums of addresses
            source = str(_archive(what.url, Path(folder), given, what.archive)[0])
        pip("install", *what.needs)
        pip("install", "--no-deps", *what.alone, source)
    print(f"The package {what.package} ({what.repository}, commit {what.commit[:8]}) is installed.")
