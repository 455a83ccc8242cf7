"""The part of docs/methods/ that follows from the code and the stored curves: each method's settings and curves."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..settings import OWN
from ..utils.errors import UserError
from ..utils.schema import keys, yamls
from ..utils.schema.command_line import Request
from ..utils.schema.layers import collect, leaves, merge, tuned
from .key_readers import parts, table
from .sweep.file import SHIPPED, Cell
from .sweep.file import load as read_sweep

#: the lines that the part stands between; the first one names the algorithms of the page, its own one first
BEGIN = re.compile(r"^<!-- settings and curves of ([\w ]+): python -m oamarl\.tools\.reference -->$", re.M)
END = "<!-- end of settings and curves -->"
#: keys that say which method it is, not how it is set
_NAMES = ("name", "learner", "mac")


def pages(docs: Path) -> dict[Path, str]:
    """Return the pages of ``docs/methods`` as they should be.

    Raises:
        UserError: a page lacks the lines that the part stands between.
    """
    found = {}
    for path in sorted((docs / "methods").glob("*.md")):
        page = path.read_text(encoding="utf-8")
        begin, (_, end, after) = BEGIN.search(page), page.partition(END)
        if begin is None or not end:
            raise UserError(f"{path} has no lines '<!-- settings and curves of NAMES ...' and '{END}'.")
        names = begin[1].split()
        lines = [*_settings(names), *_curves(names, docs)]
        found[path] = f"{page[: begin.end()]}\n\n" + "\n".join(lines).rstrip() + f"\n\n{end}{after}"
    return found


# -- settings ------------------------------------------------------------------------------------------------------


def _values(algorithm: str) -> Mapping[str, Any]:
    """Return the keys that an algorithm's YAML sets, with their values, those of its base included."""
    layers = collect(Request(algorithm, "maze"))[2:-1]  # between the environment's and the command line's
    return dict(leaves(merge(layers)[0]))


@functools.cache
def _meanings(learner: str) -> dict[str, str]:
    """Return what each key is for, in the words of the learner if that reads it."""
    found = {name: doc for name, (_, doc) in OWN.items()}
    for cls, _ in sorted(parts().items(), key=lambda part: learner not in part[1]):
        keys.hints(cls)
        for f in dataclasses.fields(cls):
            found.setdefault(f.name, f.metadata["doc"])
    return found


def _settings(names: list[str]) -> Iterator[str]:
    main = _values(names[0])
    meanings = _meanings(main.get("learner", ""))
    rows: list[tuple[str, ...]] = [
        (f"`{key}`", f"`{yamls.inline(value)}`", meanings.get(key, ""))
        for key, value in main.items()
        if key not in _NAMES
    ]
    yield f"## Settings\n\n`config/algs/{names[0]}.yaml`; the rest are defaults ([all keys](../configuration.md)).\n"
    yield table(("key", "value", "meaning"), rows)
    others = []
    for other in names[1:]:
        theirs = _values(other)
        changed = [f"`{k}: {yamls.inline(v)}`" for k, v in theirs.items() if k not in ("name",) and main.get(k) != v]
        changed += [f"without `{k}`" for k in main if k not in theirs]
        others.append(f"- `{other}`: {', '.join(changed)}")
    if others:
        yield "\nRelated configurations, by what they set differently:\n"
        yield from others
    if fitted := [name for name in tuned() if name.rpartition("/")[2] in names]:
        yield f"\nSettings for single tasks: {', '.join(f'`{name}`' for name in fitted)}."


# -- curves --------------------------------------------------------------------------------------------------------


@functools.cache
def _cells(docs: Path) -> tuple[tuple[str, str, Cell], ...]:
    """Return the groups of runs of which curves are stored: experiment, algorithm, the run of the first seed.

    A group that several experiments have is that of the first one.
    """
    stored = {path.stem.rpartition("-seed")[0] for path in (docs / "results" / "data").glob("*.json")}
    found: dict[str, tuple[str, str, Cell]] = {}
    for experiment in SHIPPED:
        for cell in read_sweep(docs.parent / "experiments" / f"{experiment}.yaml").cells:
            word = next(word for word in cell.words if word.startswith("--config="))
            if cell.group in stored:
                found.setdefault(cell.group, (experiment, word[len("--config=") :].rpartition("/")[2], cell))
    return tuple(found.values())


def _curves(names: Sequence[str], docs: Path) -> Iterator[str]:
    """Yield the part about the stored curves of algorithms as they are, without those of variants for comparison."""
    rows = [row for row in _cells(docs) if row[1] in names and row[2].group.endswith(f"-{row[1]}")]
    if not rows:
        yield "\n## Curves\n\nNo curves are stored for this method yet."
        return
    yield "\n## Curves\n\nStored in [results/data](../results/data); each with the command of its first seed:\n"
    for experiment, _, cell in rows:
        source = f"[experiments/{experiment}.yaml](../../experiments/{experiment}.yaml)"
        yield f"`{cell.group}` ({source}):\n\n```sh\n{cell.command}\n```\n"
    for experiment in dict.fromkeys(row[0] for row in rows):
        picture = f"images/curves/{experiment}.png"
        if (docs / picture).is_file():
            yield f"![curves of experiments/{experiment}.yaml](../{picture})\n"
            yield f"```sh\noamarl plot experiments/{experiment}.yaml --out {Path('docs') / picture}\n```\n"
