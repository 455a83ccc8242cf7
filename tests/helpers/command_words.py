"""Command lines of tests: common words, of which some are replaced."""

from __future__ import annotations

from collections.abc import Iterable


def latest(words: Iterable[str]) -> list[str]:
    """Return a command line without the words ``key=value`` that a later word gives another value."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, _ = word.partition("=")
        name = name if equals else word
        found.pop(name, None)
        found[name] = word
    return list(found.values())
