"""Terminals without Unicode: what they cannot show is written in ASCII, and never an error."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Mapping
from typing import TextIO

#: characters that the program prints -> how they are written without Unicode
ASCII = {
    "±": "+-", "≥": ">=", "≤": "<=", "×": "x", "→": "->", "←": "<-", "–": "-", "—": "-", "…": "...", "’": "'", "‘": "'",
    "“": '"', "”": '"', "•": "*", "·": "*", "σ": "sigma", "δ": "delta", "γ": "gamma", "λ": "lambda", "ε": "epsilon",
    "τ": "tau", "ρ": "rho", "μ": "mu", "µ": "u", "π": "pi", "∞": "inf", "√": "sqrt", "²": "^2", "█": "#", "▏": "|",
    "━": "=", "╸": "=", "╺": "-", "─": "-", "┄": "-", "│": "|", "┌": "+", "┐": "+", "└": "+", "┘": "+", "├": "+",
    "┤": "+", "┬": "+", "┴": "+", "┼": "+", "✓": "ok", "✔": "ok", "✗": "x", "✘": "x", "\u00a0": " ", "\u202f": " ",
}  # fmt: skip
#: names of the error handlers: of a stream that is ASCII, and of one whose locale alone is
_STRICT, _LOCALE = "oamarl.ascii", "oamarl.locale"


def _replace(error: UnicodeError, otherwise: str) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letter = error.object[error.start]
    if "\udc80" <= letter <= "\udcff":  # a byte of a file's name that is no text: as it was
        return bytes([ord(letter) - 0xDC00]), error.start + 1
    found: str | bytes | None = ASCII.get(letter)
    if found is None:
        found = otherwise if otherwise else letter.encode("utf-8", "backslashreplace")
    return found, error.start + 1


codecs.register_error(_STRICT, lambda error: _replace(error, "?"))
codecs.register_error(_LOCALE, lambda error: _replace(error, ""))


def posix_locale(environ: Mapping[str, str]) -> bool:
    """Whether the environment variables ask for the locale C or POSIX, which has no Unicode; unset says nothing."""
    told = next((environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if environ.get(name)), "")
    return told in ("C", "POSIX")


def prepare(streams: tuple[TextIO, ...] | None = None, environ: Mapping[str, str] | None = None) -> None:
    """Have the process's output show in ASCII what its terminal cannot show.

    A stream that cannot encode everything gets ``?`` for what has no replacement. Where the locale alone is C or POSIX,
    Python writes UTF-8 all the same: only characters with a replacement are replaced, and files keep their names.
    """
    environ = os.environ if environ is None else environ
    for stream in (sys.stdout, sys.stderr) if streams is None else streams:
        change = getattr(stream, "reconfigure", None)
        if change is None:
            continue
        try:
            unicode = codecs.lookup(stream.encoding).name.startswith("utf")
        except (LookupError, TypeError):
            unicode = False
        if not unicode:
            change(errors=_STRICT)
        elif posix_locale(environ) and not environ.get("PYTHONIOENCODING"):
            change(encoding="ascii", errors=_LOCALE)
        elif stream.errors == "strict":  # a file's name may hold bytes that are no text
            change(errors="surrogateescape")
