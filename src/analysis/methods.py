"""Methods as papers write them, and the look of each in all pictures.

A method's line has the same colour, dashes and marker wherever it is drawn: those of :data:`METHODS`, or, of a method
of your own, ones that follow from its name (and, where two such names in a picture would share a colour, the next one).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: Okabe and Ito's colours, without their yellow, which is too light for a line on white
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_BLUE, _VERMILION, _GREEN, _PURPLE, _ORANGE, _SKY, _BLACK = COLOURS
#: darker ones, Tol's muted scheme with a brown and a grey: colours of further methods
MUTED = ("#332288", "#44aa99", "#882255", "#cc6677", "#999933", "#aa4499", "#117733", "#7f4f24", "#777777")
_INDIGO, _TEAL, _WINE, _ROSE, _OLIVE, _MAGENTA, _FOREST, _BROWN, _GREY = MUTED
#: matplotlib's dashes: drawn and left out, in widths of the line
DASHES: tuple[Any, ...] = (
    "-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)), (0, (8, 2, 2, 2)), (0, (3, 1, 1, 1, 1, 1)), (0, (2, 2))
)  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
#: those of methods that are in no table
OWN_MARKERS = ("*", "<", ">", "p", "h", "d")


@dataclass(frozen=True)
class Style:
    """How a line is drawn.

    | field | meaning |
    |---|---|
    | colour | of the line, its band and its marker |
    | dash | matplotlib's line style |
    | marker | matplotlib's marker |
    | hollow | the marker is white inside |
    """

    colour: str
    dash: Any
    marker: str
    hollow: bool = False

    @property
    def face(self) -> str:
        """The colour inside the marker."""
        return "white" if self.hollow else self.colour


def _style(colour: str, k: int, shift: int = 0, hollow: bool = False) -> Style:
    return Style(colour, DASHES[(k + shift) % len(DASHES)], MARKERS[k], hollow)


#: key of a method (its ``name``) -> its name in papers, and its look
METHODS: dict[str, tuple[str, Style]] = {
    "oappo": ("OAPPO", _style(_BLUE, 0)),
    "mappo": ("MAPPO", _style(_VERMILION, 1)),
    "ippo": ("IPPO", _style(_GREEN, 2)),
    "happo": ("HAPPO", _style(_PURPLE, 3)),
    "hatrpo": ("HATRPO", _style(_ORANGE, 5)),
    "oatrpo": ("OATRPO", _style(_SKY, 4)),
    "seac": ("SEAC", _style(_BLACK, 6)),
    "iql": ("IQL", _style(_INDIGO, 0, 1)),
    "vdn": ("VDN", _style(_TEAL, 4, 3)),
    "qmix": ("QMIX", _style(_WINE, 1, 2)),
    "qtran": ("QTRAN", _style(_ROSE, 3, 6)),
    "pqn": ("PQN", _style(_MAGENTA, 5, 2)),
    "pqn_vdn": ("PQN-VDN", _style(_BROWN, 6, 4)),
    "seql": ("SEQL", _style(_OLIVE, 2, 4)),
    "snac": ("SNAC", _style(_GREY, 6, 3)),
    "ia2c": ("IA2C", _style(_MAGENTA, 2, 3)),
    "maddpg": ("MADDPG", _style(_FOREST, 3, 4)),
    "matd3": ("MATD3", _style(_GREY, 0, 2)),
    "ddpg": ("DDPG", _style(_FOREST, 5, 2)),
    "td3": ("TD3", _style(_GREY, 4, 0)),
    "dvm": ("DVM", _style(_OLIVE, 3, 2)),
    "maptf_mappo": ("MAPTF-MAPPO", _style(_VERMILION, 6, 1)),
    "maptf_maddpg": ("MAPTF-MADDPG", _style(_FOREST, 1, 3)),
    "roma": ("ROMA", _style(_WINE, 5, 3)),
    "seps": ("SEPS", _style(_TEAL, 1, 5)),
    "ia2c_shared": ("IA2C (shared)", _style(_MAGENTA, 4, 1)),
    "maa2c": ("MAA2C", _style(_BROWN, 3, 0)),
    "coma": ("COMA", _style(_ROSE, 4, 1)),
    "pac": ("PAC", _style(_OLIVE, 5, 1)),
    "pac_dcg": ("PAC-DCG", _style(_INDIGO, 6, 5)),
    "iql_tabular": ("IQL (tables)", _style(_BLACK, 0, 1)),
    "pr_tabular": ("PR (tables)", _style(_BLUE, 1)),
    # of other programs, whose runs are drawn too
    "seac-authors": ("SEAC (authors)", _style(_BLACK, 1, 1, True)),
    "jaxmarl-mappo": ("MAPPO (JaxMARL)", _style(_VERMILION, 3, 1, True)),
}
#: ending of a key -> what is added to the method's name, and to its dashes
_VARIANTS = {"_paper": (" (paper)", 2), "_ns": (" (no sharing)", 3)}


def _variant(method: str) -> tuple[str, str] | None:
    """Return a method of :data:`METHODS` and an ending of :data:`_VARIANTS` that make up a key, if they do."""
    for ending in _VARIANTS:
        if (base := method.removesuffix(ending)) != method and base in METHODS:
            return base, ending
    return None


def method_name(method: str) -> str:
    """Return a method as papers write it (oappo_paper: OAPPO (paper)); a method of your own is called as you did."""
    if method in METHODS:
        return METHODS[method][0]
    found = _variant(method)
    return method if found is None else METHODS[found[0]][0] + _VARIANTS[found[1]][0]


def method_style(method: str) -> Style:
    """Return a method's look; that of a method of your own follows from a hash of its name."""
    if method in METHODS:
        return METHODS[method][1]
    if found := _variant(method):
        base = METHODS[found[0]][1]
        k = DASHES.index(base.dash) + _VARIANTS[found[1]][1]
        return Style(base.colour, DASHES[k % len(DASHES)], base.marker, hollow=True)
    return _own(_hash(method))


def _hash(method: str) -> int:
    return int.from_bytes(hashlib.sha256(method.encode()).digest()[:4], "big")


def _together(methods: Iterable[str]) -> dict[str, Style]:
    """Return the looks of methods in one picture: methods of your own have colours that differ while there are some."""
    found, taken = {}, set[str]()
    for method in sorted(set(methods)):
        style = method_style(method)
        if method not in METHODS and _variant(method) is None:
            turned = (_own(_hash(method) + k) for k in range(len(MUTED)))
            style = next((one for one in turned if one.colour not in taken), style)
            taken.add(style.colour)
        found[method] = style
    return found


def _own(k: int) -> Style:
    k, colour = divmod(k, len(MUTED))
    k, marker = divmod(k, len(OWN_MARKERS))
    return Style(MUTED[colour], DASHES[k % len(DASHES)], OWN_MARKERS[marker])


def _others(style: Style, only: bool, k: int) -> Style:
    """Return the look of the k-th further line of a method: in its colour, or, of the ``only`` method, in another."""
    if k == 0:
        return style
    dash = DASHES[(DASHES.index(style.dash) + k) % len(DASHES)]
    colours = [style.colour, *(c for c in (*COLOURS, *MUTED) if c != style.colour)]
    markers = MARKERS if style.marker in MARKERS else OWN_MARKERS
    at = markers.index(style.marker)
    if only:
        turn = k // len(colours)
        return Style(colours[k % len(colours)], dash, markers[(at + k + turn) % len(markers)], turn % 2 == 1)
    turn = k // len(DASHES)
    return Style(style.colour, dash, markers[(at + k + turn) % len(markers)], (turn // len(markers)) % 2 == 1)


def styles(labels: Mapping[str, str]) -> dict[str, Style]:
    """Return the looks of lines that are drawn together, no two alike.

    The line of a method that has one has the method's. Several lines of a method (other settings) have its colour, and
    dashes and markers that differ; where all lines are of one method they differ in colour too.

    Args:
        labels: label of a line -> key of its method.
    """
    counts, looks = Counter(labels.values()), _together(labels.values())
    seen: Counter[str] = Counter()
    found: dict[str, Style] = {}
    # single lines first: they keep their method's look
    for label in sorted(labels, key=lambda x: (counts[labels[x]] > 1, x)):
        method = labels[label]
        k = seen[method]
        while (one := _others(looks[method], len(counts) == 1, k)) in found.values() and k < 500:
            k += 1
        seen[method] = k + 1
        found[label] = one
    return {label: found[label] for label in labels}
