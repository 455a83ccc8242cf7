"""Text on a terminal of few columns: help texts, paragraphs and lists, broken at words."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from typing import TextIO

#: no line is broken to fewer columns than this
NARROWEST = 20
_BRACKETS, _KEPT = re.compile(r"\[[^\[\]]*\]"), "\0"  # [--flag VALUE] stays on one line
#: an entry of a list: its indentation and name, a gap, and what is said of it
_ENTRY = re.compile(r"^( *\S+(?: \S+)*? {2,})(?=\S)")


def line_width(stream: TextIO | None = None) -> int | None:
    """Return the columns of a terminal, None where lines may be of any length: a file or a pipe.

    The variable COLUMNS goes first, also for a file.
    """
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and int(told) > 0:
        return max(int(told), NARROWEST)
    stream = sys.stdout if stream is None else stream
    try:
        found = os.get_terminal_size(stream.fileno()).columns if stream.isatty() else 0
    except (AttributeError, OSError, ValueError):
        found = 0
    return max(found, NARROWEST) if found else None


def hanging(text: str, width: int | None, indent: int = 0, first: str = "") -> list[str]:
    """Break ``text`` at words: ``first`` stands before its first line, and ``indent`` spaces before all others.

    A word that is longer than a line, such as a path, is left whole.
    """
    if width is None:
        return [f"{first}{text}".rstrip()]
    return textwrap.wrap(
        text, max(width, NARROWEST), initial_indent=first, subsequent_indent=" " * indent, break_long_words=False,
        break_on_hyphens=False,
    ) or [first.rstrip()]  # fmt: skip


def entry(name: str, text: str, width: int | None, column: int) -> list[str]:
    """Return an entry of a list: ``name``, and from ``column`` on ``text``, or below it where there is little room."""
    fits = width is None or width - column >= max(24, width // 2) or column + len(text) <= width
    if width is None or (fits and len(name) < column - 1):
        return hanging(text, width, column, f"{name:<{column}}")
    indent = len(name) - len(name.lstrip()) + 4
    return [name.rstrip(), *hanging(text, width, indent, " " * indent)]


def fit(text: str, width: int | None) -> str:
    """Return a help text with lines of at most ``width`` columns: paragraphs are filled again, entries of lists keep
    their indentation."""
    if width is None or all(len(line) <= width for line in text.split("\n")):
        return text
    lines: list[str] = []
    for block in _blocks(text.split("\n")):
        match = _ENTRY.match(block)
        if match and block.startswith(" "):
            lines += entry(match[1].rstrip(), block[match.end() :], width, match.end())
        elif block.startswith(("usage:", " ")):
            start = len(block) - len(block.lstrip())
            whole = _BRACKETS.sub(lambda found: found[0].replace(" ", _KEPT), " ".join(block.split()))
            wrapped = hanging(whole, width, start + 4 if start else 7, " " * start)
            lines += [line.replace(_KEPT, " ") for line in wrapped]
        else:
            lines += hanging(block, width)
    return "\n".join(lines)


def _blocks(lines: list[str]) -> list[str]:
    """Return paragraphs, entries and lines of a usage, each as one line; blank lines stay."""
    found: list[str] = []
    kind, column = "", 0
    for line in lines:
        indent = len(line) - len(line.lstrip())
        match = _ENTRY.match(line)
        continues = kind == "entry" and indent == column
        continues |= kind == "usage" and indent > 0 and line.lstrip().startswith(("[", "("))
        if line and kind == "entry" and indent == column and re.match(r"[a-z]+: ", line.strip()):
            found.append(line)  # a value of an option, with what it means
            continue
        if line and (continues or (kind == "text" and not indent and not line.startswith("usage:"))):
            found[-1] += f" {line.strip()}"
            continue
        found.append(line)
        if not line:
            kind = ""
        elif line.startswith("usage:") or line.lstrip().startswith("oamarl "):
            kind = "usage"
        elif match and indent:
            kind, column = "entry", match.end()
        else:
            kind = "text" if not indent else ""
    return found
