"""The YAML dialect of the configuration, for files and for values on the command line alike.

PyYAML follows YAML 1.1, where ``1e-3`` is a string, ``no`` a boolean, ``1:30`` the number 90 and
``2020-01-01`` a date. Here plain scalars are null, booleans, numbers or text, as a reader expects.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from ..errors import UserError


class _Loader(yaml.SafeLoader):
    pass


# replaces the inherited resolvers whole (a class attribute of the subclass, so PyYAML itself stays as it is)
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern in (
    ("null", r"~|null|Null|NULL|None|"),
    ("bool", r"true|True|TRUE|false|False|FALSE"),
    ("int", r"[-+]?[0-9][0-9_]*"),
    ("float", r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.?(inf|Inf|nan|NaN)"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), None)


def _int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(str(node.value).replace("_", ""))  # 010 is ten, not eight


def _float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    text = str(node.value).replace("_", "").lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


_Loader.add_constructor("tag:yaml.org,2002:int", _int)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)


class _Dumper(yaml.SafeDumper):
    pass


def _dump_float(dumper: yaml.SafeDumper, value: float) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:float", repr(value))


def _dump_str(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers
_Dumper.add_representer(float, _dump_float)
_Dumper.add_representer(str, _dump_str)


def scalar(text: str) -> Any:
    """Return the value of ``key=text`` on the command line: a number, a list, text, null (``null`` or ``None``).

    Nothing after the ``=`` is the empty text; what is no YAML is text as it stands.
    """
    if not text.strip():
        return ""
    if text.startswith("(") and text.endswith(")"):
        text = f"[{text[1:-1]}]"  # a Python tuple
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError:
        return text
    # only brackets make a list or a mapping here: `-` and `a: b` are text
    return text if isinstance(value, (list, dict)) and text.lstrip()[0] not in "[{" else value


@lru_cache(maxsize=256)
def _parsed(text: str) -> Any:
    """The value of a text: to look for one name, all shipped files are read, and PyYAML takes milliseconds for each."""
    return yaml.load(text, _Loader)


def load(path: Path, shown: str) -> dict[str, Any]:
    """Return the mapping that a YAML file holds (an empty file: none).

    Args:
        path: the file.
        shown: how messages name it.

    Raises:
        UserError: unreadable, not YAML, not a mapping, or a key that is not text.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"The file {shown} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"The file {shown} is not text in UTF-8.") from error
    try:
        value = copy.deepcopy(_parsed(text))
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


def inline(value: Any) -> str:
    """Return ``value`` on one line, as it would be typed: ``[[0, 2], [1]]``, ``null``, ``0.001``."""
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=10**9)
    text = text.removesuffix("...\n").strip()
    return " ".join(text.split()) if "\n" in text else text


def description(path: Path) -> str:
    """Return the first comment line of a YAML file, the one-line description that ``oamarl list`` shows."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("#"):
                return line.lstrip("# ").strip()
            if line.strip():
                break
    return ""


def needs(path: Path) -> list[str]:
    """Return the Python packages named by a ``# needs: a, b`` line of an environment's YAML."""
    return [name.strip() for name in _note(path, "needs").split(",") if name.strip()]


def how_to_install(path: Path) -> str:
    """Return the command of an ``# install:`` line, for what pip cannot bring; ``""`` where there is none."""
    return _note(path, "install")


def _note(path: Path, kind: str) -> str:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"# {kind}:"):
            return line.removeprefix(f"# {kind}:").strip()
    return ""
