"""Where this program comes from, a checkout or an installed package, and how its pages and extras are named there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

from .errors import NotInstalled, UserError, first_line

#: folder of the package ``oamarl``
PACKAGE = Path(__file__).resolve().parents[1]
#: address of the project's documentation site, with a slash at its end; "" where there is none
SITE = ""


def checkout() -> Path | None:
    """Return the folder of the checkout that the program runs from, None for an installed package."""
    project = PACKAGE.parent
    return project if PACKAGE.name == "src" and (project / "setup.py").is_file() else None


def page(name: str, anchor: str = "") -> str:
    """Return where a page of the documentation can be opened.

    Args:
        name: of a file in ``docs/``, ``smax.md``.
        anchor: of a section of the page.

    Returns:
        In a checkout the file's path below it. Of an installed package the page's address on the project's site
        (:data:`SITE`), or where there is no site the path of the package's own copy.
    """
    section = f"#{anchor}" if anchor else ""
    if checkout() is not None:
        return f"docs/{name}{section}"
    if SITE:
        return f"{SITE}{name.removesuffix('.md')}.html{section}"
    return f"{PACKAGE / 'docs' / name}{section}"


def pages_note() -> str:
    """Return a line that says where the pages lie that are called ``docs/...``; "" in a checkout, where they do."""
    if checkout() is not None:
        return ""
    return f"The pages docs/... are in {SITE or PACKAGE / 'docs'}"


def extra(name: str) -> str:
    """Return the command that installs an optional part.

    oamarl is on no package index. pip takes an installed package's own list of extras, and asks no index for it.
    """
    return f"pip install -e '.[{name}]'" if checkout() is not None else f"pip install 'oamarl[{name}]'"


def optional(package: str, user: str) -> Any:
    """Return a package that an extra of its name brings.

    Args:
        package: its name.
        user: what needs it, the beginning of a sentence.

    Raises:
        UserError: it is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError:
        raise NotInstalled(f"{user} needs the package {package}: {extra(package)}.") from None
    except ImportError as error:
        raise UserError(f"{user} needs the package {package}, whose import fails: {first_line(error)}.") from None


def as_here(text: str) -> str:
    """Return the text of a shipped file with the commands that install extras as :func:`extra` has them."""
    return re.sub(r"pip install -e '\.\[(\w+)\]'", lambda found: extra(found[1]), text)
