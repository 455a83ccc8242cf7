"""SMAC's maps as teams of the six unit types that SMAX has, with SMAC's own episode limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ...utils.errors import UserError, closest, nearest, one_of

#: SMAX's unit types, in its own order: a unit's type is its place here.
UNITS = ("marine", "marauder", "stalker", "zealot", "zergling", "hydralisk")
#: as map names and pictures write them
LETTERS = ("m", "M", "s", "z", "zg", "h")
#: steps of an episode where a team is composed by `allies` and `enemies`
OWN_LIMIT = 150
#: observations and enemies' look-ups grow with the square of the units
_MOST_UNITS = 100

#: name -> allies, enemies, SMAC's limit
_SMAC = {
    "2m_vs_1z": ("2m", "1z", 150),
    "3m": ("3m", "3m", 60),
    "8m": ("8m", "8m", 120),
    "25m": ("25m", "25m", 150),
    "5m_vs_6m": ("5m", "6m", 70),
    "8m_vs_9m": ("8m", "9m", 120),
    "10m_vs_11m": ("10m", "11m", 150),
    "27m_vs_30m": ("27m", "30m", 180),
    "2s3z": ("2s 3z", "2s 3z", 120),
    "3s5z": ("3s 5z", "3s 5z", 150),
    "3s5z_vs_3s6z": ("3s 5z", "3s 6z", 170),
    "3s_vs_3z": ("3s", "3z", 150),
    "3s_vs_4z": ("3s", "4z", 200),
    "3s_vs_5z": ("3s", "5z", 250),
    "6h_vs_8z": ("6h", "8z", 150),
    "corridor": ("6z", "24zg", 400),
}
#: name -> units of each team; which ones they are, and where they begin, is drawn for each episode
_SMACV2 = {"smacv2_5_units": 5, "smacv2_10_units": 10, "smacv2_20_units": 20}
_SMACV2_LIMIT = 200
MAPS = (*_SMAC, *_SMACV2)

#: SMAC's other maps -> what SMAX lacks for them, and the map that comes nearest
MISSING = {
    "MMM": ("healing medivacs", "10m_vs_11m"),
    "MMM2": ("healing medivacs", "10m_vs_11m"),
    "1c3s5z": ("colossi", "3s5z"),
    "2s_vs_1sc": ("spine crawlers", "3s_vs_3z"),
    "so_many_baneling": ("banelings", "corridor"),
    "bane_vs_bane": ("banelings", "25m"),
    "2c_vs_64zg": ("colossi", "corridor"),
}


@dataclass(frozen=True)
class Map:
    """The teams of a battle and its step limit.

    Attributes:
        name: the map's.
        allies, enemies: each unit's type, an index into UNITS.
        limit: steps of an episode.
        drawn: types and places are drawn for each episode, as in SMACv2.
    """

    name: str
    allies: tuple[int, ...]
    enemies: tuple[int, ...]
    limit: int
    drawn: bool = False

    @property
    def ally_types(self) -> tuple[str, ...]:
        """The allies' unit types, by name; empty where they are drawn for each episode."""
        return () if self.drawn else tuple(UNITS[kind] for kind in self.allies)


def find_map(name: str, allies: Mapping[str, int] | None = None, enemies: Mapping[str, int] | None = None) -> Map:
    """Return the map called ``name``, or the one that ``allies`` and ``enemies`` (unit type -> number) compose.

    Raises:
        UserError: an unknown map, one that SMAX cannot have, or teams that make no battle.
    """
    if (allies is None) != (enemies is None):
        given, lacking = ("allies", "enemies") if enemies is None else ("enemies", "allies")
        raise UserError(f"env_args.{given} composes a battle of your own: set env_args.{lacking} as well.")
    if allies is not None and enemies is not None:
        teams = _team("allies", allies), _team("enemies", enemies)
        if len(teams[0]) + len(teams[1]) > _MOST_UNITS:
            raise UserError(f"env_args.allies and enemies have more than {_MOST_UNITS} units together.")
        return Map("own_battle" if name in MAPS else name, *teams, OWN_LIMIT)
    if name in _SMACV2:
        marines = (0,) * _SMACV2[name]
        return Map(name, marines, marines, _SMACV2_LIMIT, drawn=True)
    if name in _SMAC:
        ours, theirs, limit = _SMAC[name]
        return Map(name, _units(ours), _units(theirs), limit)
    raise UserError(_unlike(name))


def _unlike(name: str) -> str:
    """Return why ``name`` is no map of smax, with the nearest one."""
    for missing, (lacks, near) in MISSING.items():
        if missing.lower() == name.lower():
            return (
                f"env_args.map_name='{name}' cannot be played in smax, which has no {lacks}: the nearest map is "
                f"'{near}', and --env-config=sc2 has '{missing}' where StarCraft II is installed."
            )
    if _smacv2_units(name) is not None:
        return (
            f"env_args.map_name='{name}' is a map of SMACv2, whose races smax does not have: the nearest map is "
            f"'{smax_map(name)}', and --env-config=sc2v2 has '{name}' where StarCraft II is installed."
        )
    kin = _kin(name)
    hint = f"; did you mean '{kin}'?" if kin else ""
    return f"env_args.map_name='{name}' is not a map of smax: use {one_of(MAPS)}{hint}"


def smax_map(name: str) -> str:
    """Return the map nearest to a map of SMAC, SMACv2 (by its number of units) or SMAClite; 3m where none is near."""
    return _kin(name) or "3m"


def _kin(name: str) -> str | None:
    kin = {other.lower(): near for other, (_, near) in MISSING.items()} | {other.lower(): other for other in MAPS}
    units = _smacv2_units(name)
    if units is not None:
        return min(_SMACV2, key=lambda other: abs(_SMACV2[other] - units))
    same = closest(name.lower(), kin)
    return kin[same] if same else None


def _smacv2_units(name: str) -> int | None:
    """The agents of a map that is called as SMACv2's are (``zerg_5_vs_5``, ``10gen_zerg``), otherwise None."""
    found = re.fullmatch(r"(?:(?:protoss|terran|zerg)_(\d+)_vs_\d+|\d+gen_.*)", name.lower())
    return int(found[1] or 5) if found else None


def _units(text: str) -> tuple[int, ...]:
    """Read a team as the table writes it: ``"3s 5z"``."""
    found: list[int] = []
    for word in text.split():
        letters = word.lstrip("0123456789")
        found += [LETTERS.index(letters)] * int(word.removesuffix(letters))
    return tuple(found)


def _team(which: str, counts: Mapping[str, int]) -> tuple[int, ...]:
    found: list[int] = []
    for unit, count in counts.items():
        if unit not in UNITS:
            near = nearest(unit, UNITS)
            raise UserError(f"env_args.{which} has '{unit}', which smax lacks: use {one_of(UNITS)}{near}")
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise UserError(f"env_args.{which}.{unit}={count!r} is not a number of units: 0 or more is allowed.")
        found += [UNITS.index(unit)] * count
    if not found:
        raise UserError(f"env_args.{which} has no units: at least 1 is needed.")
    return tuple(found)
