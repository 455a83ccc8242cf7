"""What the command line says about a picture's looks: title, labels, limits and logarithmic axes."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...analysis.curves import Line
from ...utils.errors import UserError, nearest

#: ends of an axis; None: as the data have it
Limits = tuple[float | None, float | None]
_SIZES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
_NUMBER = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)([kMG]?)", re.ASCII)


@dataclass(frozen=True)
class View:
    """The looks of a picture that were asked for.

    | field | meaning |
    |---|---|
    | title | above everything; "" for none |
    | xlim, ylim | ends of the axes |
    | log | which axes are logarithmic: of ``x`` and ``y`` |
    """

    title: str = ""
    xlim: Limits = (None, None)
    ylim: Limits = (None, None)
    log: frozenset[str] = frozenset()

    def visible(self, line: Line) -> Line:
        """Return a line without what a logarithmic axis has no place for."""
        shown = np.ones(len(line.x), bool)
        shown &= (line.x > 0) | ("x" not in self.log)
        shown &= (line.centre > 0) | ("y" not in self.log)
        return line if shown.all() else replace(line, centre=np.where(shown, line.centre, np.nan))

    def apply(self, axes: Any) -> None:
        """Set the axes of a panel, on which everything is drawn already."""
        for name, (low, high) in (("x", self.xlim), ("y", self.ylim)):
            if name in self.log:
                getattr(axes, f"set_{name}scale")("log", nonpositive="clip")
            if low is not None or high is not None:
                getattr(axes, f"set_{name}lim")(low, high)


#: nothing was asked for
PLAIN = View()


def limits(text: str) -> Limits:
    """Read ``A:B``, of which one may be left out; numbers may end in k, M or G (an argparse type)."""
    low, colon, high = text.partition(":")
    try:
        ends = tuple(_end(part) for part in (low, high))
        if not colon or ends == (None, None) or (None not in ends and not ends[0] < ends[1]):  # type: ignore[operator]
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not allowed: A:B with A below B is expected, such as 0:1, 0:2M, 0.5: or :1e6"
        ) from None
    return ends[0], ends[1]


def _end(text: str) -> float | None:
    if not text.strip():
        return None
    found = _NUMBER.fullmatch(text.strip())
    if found is None or not math.isfinite(value := float(found[1]) * _SIZES[found[2]]):
        raise ValueError
    return value


def add_view(parser: Any) -> None:
    """Add the arguments of :class:`View`, and --labels."""
    parser.add_argument("--title", default="")
    parser.add_argument("--labels", action="append", default=[])
    parser.add_argument("--xlim", type=limits, default=(None, None))
    parser.add_argument("--ylim", type=limits, default=(None, None))
    parser.choice("--log", ("x", "y"), None, action="append")


def joined(argv: Sequence[str]) -> list[str]:
    """Return the command line with limits that begin with a minus sign joined to their flag: argparse would take them
    for flags."""
    found: list[str] = []
    for word in argv:
        if found and found[-1] in ("--xlim", "--ylim") and re.match(r"-[\d.]", word):
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found


def read_view(options: Any) -> View:
    """Return the looks that a command line asks for.

    Raises:
        UserError: limits or logarithmic axes for a picture without such axes, or limits that a logarithm excludes.
    """
    view = View(options.title, options.xlim, options.ylim, frozenset(options.log or ()))
    asked = [flag for flag, given in (("--xlim", any(x is not None for x in view.xlim)),
                                      ("--ylim", any(x is not None for x in view.ylim)), ("--log", view.log))
             if given]  # fmt: skip
    if asked and options.kind not in ("curves", "profile"):
        raise UserError(f"{asked[0]} is for --kind curves and profile, and not for --kind {options.kind}.")
    for name, ends in (("x", view.xlim), ("y", view.ylim)):
        if name in view.log and any(end is not None and end <= 0 for end in ends):
            raise UserError(f"--log {name} needs --{name}lim above 0: a logarithmic axis has no 0 and nothing below.")
    return view


def check_shown(view: View, lines: Sequence[Line]) -> list[str]:
    """Return sentences about points that the picture of ``lines`` does not show.

    Raises:
        UserError: it would show nothing of any of them.
    """
    inside, hidden = 0, set()
    for line in lines:
        shown = np.ones(len(line.x), bool)
        for name, values, (low, high) in (("x", line.x, view.xlim), ("y", line.centre, view.ylim)):
            shown &= values >= (-np.inf if low is None else low)
            shown &= values <= (np.inf if high is None else high)
            if name in view.log and (values <= 0).any():
                hidden.add(name)
                shown &= values > 0
        inside += int(shown.sum())
    if lines and not inside:
        above = " and above 0" if view.log else ""
        x, y = _range([line.x for line in lines]), _range([line.centre for line in lines])
        raise UserError(f"Nothing lies within the asked limits{above}: the curves have x {x} and y {y}.")
    told = "axis has no place for values of 0 and less: they are left out."
    return [f"A logarithmic {name} {told}" for name in sorted(hidden)]


def _range(values: Sequence[np.ndarray]) -> str:
    return f"from {_number(min(v.min() for v in values))} to {_number(max(v.max() for v in values))}"


def _number(x: float) -> str:
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.4g}"


def relabelled(words: Sequence[str], known: Mapping[str, str]) -> dict[str, str]:
    """Return the names that ``--labels`` changes: key -> new name.

    Args:
        words: ``OLD=NEW,...`` each; an old name may itself have commas and equals signs.
        known: key of a line or a task -> how it is shown; OLD is either.

    Raises:
        UserError: another form, or an OLD that is not there.
    """
    keys = {**{shown: key for key, shown in known.items()}, **{key: key for key in known}}
    found: dict[str, str] = {}
    for word in words:
        rest = word.strip()
        while rest:
            old, rest = _begins(rest, keys)
            cuts = [at for name in keys if (at := rest.find(f",{name}=")) >= 0]
            # where another OLD seems to begin, whose mistake is to be found
            cuts += [match.start() for match in [re.search(r",(?=[\w.:+-]+=)", rest)] if match]
            cut = min(cuts, default=len(rest))
            new, rest = rest[:cut].strip(), rest[cut + 1 :].strip()
            if not new:
                raise UserError(f"--labels {word}: the new name of '{old}' is missing.")
            found[keys[old]] = new
    return found


def _begins(text: str, keys: Iterable[str]) -> tuple[str, str]:
    """Return the known name with which OLD=NEW begins, and what follows its equals sign.

    Raises:
        UserError: there is none.
    """
    for name in sorted(keys, key=len, reverse=True):
        if text.startswith(f"{name}="):
            return name, text[len(name) + 1 :]
    old, sign, _ = text.partition("=")
    if not sign or not old.strip():
        raise UserError(f"--labels takes OLD=NEW,..., such as oappo=Ours, and not '{text}'.")
    hint = nearest(old.strip(), keys) or f": use {', '.join(sorted(keys)[:8])}"
    raise UserError(f"--labels: there is no line or task '{old.strip()}'{hint}")


def renamed(lines: Sequence[Line], labels: Mapping[str, str], tasks: Mapping[str, str]) -> list[Line]:
    """Return lines under the names with which they are shown."""
    return [replace(x, label=labels.get(x.label, x.label), task=tasks.get(x.task, x.task)) for x in lines]
