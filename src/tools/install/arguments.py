"""What ``oamarl install`` can install, and the values of its command line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...utils.errors import UserError, nearest, one_of
from ..arguments import Arguments
from .downloads import check_url

LICENCE = "http://blzdistsc2-a.akamaihd.net/AI_AND_MACHINE_LEARNING_LICENSE.html"
#: the phrase that has to be typed to accept Blizzard's licence, and the password of its archives
AGREED = "iagreetotheeula"
#: version -> its archive, and its folder below Versions
GAMES = {
    "4.10": ("http://blzdistsc2-a.akamaihd.net/Linux/SC2.4.10.zip", "Base75689"),
    "4.6.2": ("http://blzdistsc2-a.akamaihd.net/Linux/SC2.4.6.2.69232.zip", "Base69232"),
}
USUAL = "4.10"
#: StarCraft's Python packages require more than they import, some of it harmful (enum34): installed without it.
_TALK = ("absl-py", "numpy", "portpicker", "protobuf", "s2clientprotocol", "websocket-client")


@dataclass(frozen=True)
class What:
    """One thing to install: where its maps come from, and its package's commit; ``needs`` are from PyPI."""

    package: str
    repository: str
    commit: str
    needs: tuple[str, ...]
    alone: tuple[str, ...] = ()
    maps: str | None = None

    @property
    def url(self) -> str:
        """The archive of the package's source."""
        return f"https://github.com/{self.repository}/archive/{self.commit}.zip"

    @property
    def archive(self) -> str:
        """Its name in a mirror."""
        return f"{self.package}-{self.commit}.zip"

    @property
    def maps_archive(self) -> str:
        """The name of its maps in a mirror: the publishers' archives are both called SMAC_Maps.zip."""
        return f"{self.package}-SMAC_Maps.zip"


TARGETS = {
    "sc2": What(
        "smac", "oxwhirl/smac", "d6aab33f76abc3849c50463a8592a84f59a5ef84", _TALK, ("pysc2>=3,<5",),
        "https://github.com/oxwhirl/smac/releases/download/v0.1-beta1/SMAC_Maps.zip",
    ),
    "sc2v2": What(
        "smacv2", "oxwhirl/smacv2", "577ab5a2cff2391f8df582da5731ea9cd6adf3c6", _TALK, ("pysc2>=3,<5",),
        "https://github.com/oxwhirl/smacv2/releases/download/maps/SMAC_Maps.zip",
    ),
    "smaclite": What(
        "smaclite", "uoe-agents/smaclite", "0d6abbea1334011984ae4704a0ef7a33c36057d6",
        ("numpy", "gymnasium", "pygame", "scikit-learn", "rtree>=1.1"),
    ),
}  # fmt: skip
#: built here rather than fetched (:mod:`.football`): it takes no flag
FOOTBALL = "football"
PARTS = ("game", "maps", "package")


def read(argv: list[str]) -> Any:
    """Return the command line's values: ``wanted`` are the parts to install, ``sums`` archive -> sha256.

    ``game_version`` is None where none is given.

    Raises:
        UserError: an invalid command line.
    """
    parser = Arguments("install", "one thing to install")
    parser.add_argument("what", nargs="?")
    parser.add_argument("--accept-licence", "--accept-license", action="store_true")
    parser.add_argument("--path", type=Path)
    parser.choice("--game-version", tuple(GAMES), None)
    parser.add_argument("--only")
    parser.add_argument("--from", dest="mirror")
    parser.add_argument("--sha256", nargs="+", action="extend", default=[], metavar="FILE=HEX")
    given = parser.parse_args(argv)
    if given.what == FOOTBALL:
        if len(argv) > 1:
            flag = next(word for word in argv if word != FOOTBALL)
            raise UserError(f"`oamarl install football` takes no flags: '{flag}' is for the other things to install.")
        return given
    if given.what not in TARGETS:
        wrong = f"`oamarl install` does not know '{given.what}'" if given.what else "`oamarl install` needs a name"
        known = (*TARGETS, FOOTBALL)
        raise UserError(f"{wrong}: use {one_of(known)}{nearest(given.what or '', known)}")
    if given.only is not None and given.only not in PARTS:
        raise UserError(f"--only {given.only} is not allowed: use {one_of(PARTS)}{nearest(given.only, PARTS)}")
    if given.what == "smaclite" and given.only in ("game", "maps"):
        raise UserError(
            f"`oamarl install smaclite --only {given.only}` has nothing to do: smaclite is a package alone."
        )
    what = TARGETS[given.what]
    given.wanted = [given.only] if given.only else [p for p in PARTS if what.maps or p == "package"]
    if given.game_version and "game" not in given.wanted:
        raise UserError(
            f"--game-version {given.game_version} is not allowed where no game is installed: `oamarl install "
            f"{given.what}{f' --only {given.only}' if given.only else ''}` leaves it as it is."
        )
    if given.mirror == "":
        raise UserError("--from is given nothing: a URL or a folder is expected.")
    if given.mirror and is_url(given.mirror):
        check_url(given.mirror, "--from", " or a folder")
    given.sums = _sums(given.sha256, _archives(what, given))
    return given


def is_url(mirror: str) -> bool:
    """Whether ``--from`` is an address; anything else is a folder (also ``C:/archives``)."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", mirror) is not None or "://" in mirror


def _archives(what: What, given: Any) -> list[str]:
    """The names of the archives that a first installation downloads."""
    game = GAMES[given.game_version or USUAL][0].rpartition("/")[2]
    names = {"game": game, "maps": what.maps_archive, "package": what.archive}
    return [names[part] for part in given.wanted]


def _sums(words: list[str], archives: list[str]) -> dict[str, str]:
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or len(value) != 64 or value.strip("0123456789abcdefABCDEF"):
            raise UserError(f"--sha256 {word} is not of the form FILE=HEX, with 64 hexadecimal digits.")
        if name not in archives:
            raise UserError(
                f"--sha256 names '{name}', which this command does not fetch: it fetches {one_of(archives)}"
                f"{nearest(name, archives)}"
            )
        found[name] = value
    return found
