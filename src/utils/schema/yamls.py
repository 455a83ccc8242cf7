"""Values of the configuration as text: files of it, and the words ``key=value`` of the command line.

A file is YAML (:mod:`.dialect`). After ``with`` a plain scalar (null, a boolean, a number), a value in quotes and one
in brackets are read as YAML would read them; everything else is text, character by character as it was typed.
"""

from __future__ import annotations

import copy
import importlib.util
import os
import re
import stat
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from ..errors import UserError, shown_value
from ..project import as_here
from . import dialect


class _Dumper(yaml.SafeDumper):
    pass


def _dump_float(dumper: yaml.SafeDumper, value: float) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:float", repr(value))


def _dump_str(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.yaml_implicit_resolvers = dialect.Loader.yaml_implicit_resolvers
_Dumper.add_representer(float, _dump_float)
_Dumper.add_representer(str, _dump_str)

_BRACKETS = {"[": "]", "{": "}", "(": ")"}
_TUPLES = str.maketrans("()", "[]")
#: text that stands in brackets without quotes
_BARE = re.compile(r"[A-Za-z_][\w.+/-]*", re.ASCII)


def scalar(text: str) -> Any:
    """Return the value of ``key=text`` on the command line.

    | typed | value |
    |---|---|
    | ``null``, ``None``, ``~``; ``true``, ``False``; ``3``, ``1e-3``, ``inf`` | null, a boolean, a number |
    | ``'3'``, ``"a\\nb"`` | text: what the quotes hold, with YAML's escapes in double ones |
    | ``[0, x]``, ``{a: 1}``, ``(0, 1)`` | a list, a mapping, a list |
    | anything else: ``./exp #2``, ``&a``, ``--- a``, ``a: b``, ``[1, 2``, nothing | this text |

    Anchors, aliases, tags and comments are no part of a word: with one, brackets are text.

    Raises:
        UserError: a number, a list or a mapping beyond what is read (:mod:`.dialect`), or a key twice in a mapping.
    """
    inner = text.strip()
    if not inner:
        return text
    try:
        if inner[0] in "'\"":
            return _quoted(inner, text)
        if _BRACKETS.get(inner[0]) == inner[-1]:
            return _bracketed(inner, text)
        return dialect.plain(inner) if dialect.kind_of(inner) else text
    except (dialect.Refused, ValueError) as error:
        problem = error.problem if isinstance(error, dialect.Refused) else error
        raise UserError(f"{shown_value(text)}: {problem}; in quotes it is text.") from None


def _quoted(inner: str, text: str) -> Any:
    """Return what quotes around the whole of ``inner`` hold; ``text`` where they do not hold it all."""
    if len(inner) < 2 or inner[-1] != inner[0]:
        return text
    if inner[0] == "'":
        held = inner[1:-1].replace("''", "\0")
        return text if "'" in held else held.replace("\0", "'")
    node = _composed(inner.replace("\n", "\\n"))  # YAML makes a blank of a line break
    return node.value if isinstance(node, yaml.ScalarNode) else text


def _bracketed(inner: str, text: str) -> Any:
    """Return the list or mapping that ``inner`` writes, ``text`` where it writes none."""
    tries = [inner] if inner[0] != "(" else [f"[{inner[1:-1]}]"]
    if "(" in inner and not {"'", '"'} & {*inner}:  # tuples in one another
        tries.insert(0, inner.translate(_TUPLES))
    for one in tries:
        node = _composed(one)
        if isinstance(node, yaml.CollectionNode):
            return dialect.WordLoader("").construct_document(node)
    return text


def _composed(text: str) -> yaml.Node | None:
    """Return the node that the whole of ``text`` writes, None where it is not YAML or a comment takes a part of it."""
    if re.search(r"\s#.*[\r\n]", text):
        return None
    try:
        node: yaml.Node | None = yaml.compose(text, dialect.WordLoader)
    except dialect.Refused:
        raise
    except yaml.YAMLError:
        return None
    return node if node is not None and node.end_mark.index == len(text) else None


def inline(value: Any) -> str:
    """Return ``value`` on one line, as it would be typed: ``[[0, 2], [1]]``, ``null``, ``0.001``, ``./exp #2``.

    :func:`scalar` reads it back equal. Text is in quotes only where it would be read as something else.
    """
    if isinstance(value, str) and value and value.isprintable() and _is_text(value):
        return value
    return _flow(value, bare=False)


def word(name: str, value: Any) -> str:
    """Return ``name=value`` as a word after ``with``, to be quoted for a shell."""
    return f"{name}={'' if value == '' else inline(value)}"


def _is_text(text: str) -> bool:
    try:
        return type(found := scalar(text)) is str and found == text
    except UserError:
        return False


def _flow(value: Any, bare: bool = True) -> str:
    """Return ``value`` as a part of a list or mapping in brackets; ``bare``: text may stand without quotes."""
    if isinstance(value, str):
        if bare and _BARE.fullmatch(value) and dialect.kind_of(value) is None:
            return value
        if value.isascii() and value.isprintable():
            return "'" + value.replace("'", "''") + "'"
        text: str = yaml.dump(value, Dumper=yaml.SafeDumper, default_style='"', width=10**9)
        return text.removesuffix("\n")
    if isinstance(value, Mapping):
        # YAML takes a key of over 1,024 characters only after `?`
        names = ((f"{'? ' * (len(name) > 1000)}{name}", one) for name, one in ((_flow(k), v) for k, v in value.items()))
        return "{" + ", ".join(f"{name}: {_flow(one)}" for name, one in names) + "}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_flow, value))}]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=10**9)
    return " ".join(text.removesuffix("...\n").split())


@lru_cache(maxsize=256)
def _parsed(text: str) -> Any:
    """The value of a text: to look for one name, all shipped files are read, and PyYAML takes milliseconds for each."""
    return yaml.load(text, dialect.Loader)


def load(path: Path, shown: str) -> dict[str, Any]:
    """Return the mapping that a YAML file holds (an empty file: none).

    Args:
        path: the file.
        shown: how messages name it.

    Raises:
        UserError: unreadable, not YAML, not a mapping, or a key that is not text.
    """
    text = _read(path, shown)
    try:
        value = copy.deepcopy(_parsed(text))
    except dialect.Refused as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"The file {shown}{line}: {error.problem}.") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UserError(f"The file {shown} is not YAML:{where}: {error.problem or error.context}.") from error
    except yaml.YAMLError as error:
        raise UserError(f"The file {shown} is not YAML: {' '.join(str(error).split())}.") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"The file {shown} must hold `key: value` lines, not a {type(value).__name__}.")
    check_keys(value, f"The file {shown}")
    return value


def _read(path: Path, shown: str) -> str:
    """Return the text of a file, which is not waited for: a pipe may have no end, and a device has none.

    Raises:
        UserError: not a file, unreadable, too large, or not text.
    """
    try:
        with open(path, "rb", opener=lambda name, how: os.open(name, how | getattr(os, "O_NONBLOCK", 0))) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UserError(f"The file {shown} cannot be read: it is a pipe or a device, not a file.")
            content = file.read(dialect.MOST_BYTES + 1)
    except OSError as error:
        raise UserError(f"The file {shown} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"The file {shown} cannot be read: {error}.") from error
    if len(content) > dialect.MOST_BYTES:
        raise UserError(f"The file {shown} is not read: it has more than {dialect.MOST_BYTES:,} bytes.")
    try:
        return content.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise UserError(f"The file {shown} is not text in UTF-8.") from error


def check_keys(value: Any, shown: str, above: tuple[int, ...] = ()) -> None:
    """Check all mappings in ``value``, which is from ``shown`` and lies in ``above`` (ids of what holds it).

    Raises:
        UserError: a key that is not text, or something that holds itself (by YAML's anchors).
    """
    if not isinstance(value, (Mapping, list)):
        return
    if id(value) in above:
        raise UserError(f"{shown} has a {'list' if isinstance(value, list) else 'mapping'} that holds itself.")
    for name in value if isinstance(value, Mapping) else ():
        if not isinstance(name, str):
            raise UserError(f"{shown} has the key {inline(name)}, which is not text: keys are names.")
    for inner in value.values() if isinstance(value, Mapping) else value:
        check_keys(inner, shown, (*above, id(value)))


def dump(value: Any) -> str:
    """Return ``value`` as YAML that :func:`load` reads back equal."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=False)


def description(path: Path) -> str:
    """Return the first comment line of a YAML file, the one-line description that ``oamarl list`` shows."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("#"):
                return as_here(line.lstrip("# ").strip())
            if line.strip():
                break
    return ""


def needs(path: Path) -> list[str]:
    """Return the Python packages named by a ``# needs: a, b`` line of an environment's YAML."""
    return [name.strip() for name in _note(path, "needs").split(",") if name.strip()]


def absent(names: Iterable[str]) -> list[str]:
    """Return those of the packages that are not there; none is imported, but for what a dotted name lies in."""
    found = []
    for name in names:
        try:
            there = importlib.util.find_spec(name) is not None
        except (ImportError, ValueError):
            there = False
        if not there:
            found.append(name)
    return found


def how_to_install(path: Path) -> str:
    """Return the command of an ``# install:`` line, for what pip cannot bring; ``""`` where there is none."""
    return _note(path, "install")


def _note(path: Path, kind: str) -> str:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"# {kind}:"):
            return as_here(line.removeprefix(f"# {kind}:").strip())
    return ""
