"""What docstrings have that griffe, which reads them for the reference, does not know: shared entries, and roles."""

from __future__ import annotations

import re
from typing import Any

import griffe

#: of a section such as Args: names with a common description, and its further lines
_SEVERAL = re.compile(r"^( {4}(?:\*{0,2}\w+, )+\*{0,2}\w+):( .*(?:\n {5,}.*)*)", re.M)
_ROLE = re.compile(r":(?:data|func|class|meth|mod|attr):`[~.]*([^`]+)`")


def plain(text: str) -> str:
    """Return a docstring with one entry for each argument, and with names in place of Sphinx's roles."""

    def each(found: re.Match[str]) -> str:
        return "\n".join(f"    {name.strip()}:{found[2]}" for name in found[1].split(","))

    head, args, rest = text.partition("Args:\n")
    section, end, after = rest.partition("\n\n")
    return _ROLE.sub(r"`\1`", f"{head}{args}{_SEVERAL.sub(each, section)}{end}{after}")


class Docstrings(griffe.Extension):
    """Rewrite each docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = plain(obj.docstring.value)
