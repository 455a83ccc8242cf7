"""The YAML dialect of the configuration, and the limits of what is read.

PyYAML follows YAML 1.1, where ``1e-3`` is a string, ``no`` a boolean, ``1:30`` the number 90 and
``2020-01-01`` a date. Here plain scalars are null, booleans, numbers or text, as a reader expects. A key stands once in
a mapping, or again with an equal value, as in a file of EPyMARL's. Nothing that is read grows without bounds: not by
nesting, not by anchors that stand for one another.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import yaml

#: the largest file of configuration, in bytes
MOST_BYTES = 300_000
#: keys and values of a file, each counted wherever an alias repeats it
MOST_KEYS = 2_000
MOST_VALUES = 12_000
#: lists and mappings inside one another
DEEPEST = 50
#: of a whole number
MOST_DIGITS = 300

#: kind of a plain scalar -> how it is written; what matches none of them is text
PLAIN: dict[str, re.Pattern[str]] = {
    "null": re.compile(r"~|null|Null|NULL|None|"),
    "bool": re.compile(r"true|True|TRUE|false|False|FALSE"),
    "int": re.compile(r"[-+]?[0-9][0-9_]*"),
    "float": re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.?(inf|Inf|nan|NaN)"),
}
_TAG = "tag:yaml.org,2002:"


class Refused(yaml.MarkedYAMLError):
    """What is YAML and still not read: ``problem`` completes "The file x, line 3:"."""


def kind_of(text: str) -> str | None:
    """Return null, bool, int or float, as which a plain scalar is read; None for text."""
    return next((kind for kind, pattern in PLAIN.items() if pattern.fullmatch(text)), None)


def plain(text: str) -> Any:
    """Return the value of a plain scalar, which has no blanks around it: null, a boolean, a number or text.

    Raises:
        ValueError: a number that is too large, in a sentence's words.
    """
    kind = kind_of(text)
    return text if kind is None else _READ[kind](text)


def _int(text: str) -> int:
    digits = text.replace("_", "")
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number of {len(digits.lstrip('+-')):,} digits is not read: at most {MOST_DIGITS} are")
    return int(digits)  # 010 is ten, not eight


def _float(text: str) -> float:
    text = text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan")
    value = float(text)
    if math.isinf(value) and "inf" not in text:
        raise ValueError("a number above 1.8e308 is not read: write inf for infinity")
    return value


_READ: dict[str, Callable[[str], Any]] = {
    "null": lambda text: None,
    "bool": lambda text: text.lower() == "true",
    "int": _int,
    "float": _float,
}


class Loader(yaml.SafeLoader):
    """Reads the dialect; ``yaml.load(text, Loader)`` raises :class:`Refused` for what is YAML and is not read."""

    #: whether anchors, aliases, tags and scalars over several lines are allowed
    extended = True

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._level = self._keys = self._values = 0
        #: id of a mapping -> its keys so far, and the first node of each with its value
        self._names: dict[int, dict[tuple[str, str], tuple[yaml.Node, yaml.Node]]] = {}
        #: id of a complete node -> its values with those inside, and how deep it is nested
        self._sizes: dict[int, tuple[int, int]] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node (``index`` is None for a key of the mapping ``parent``), within the limits."""
        event = self.peek_event()
        if not self.extended and (event.anchor or getattr(event, "tag", None)):
            raise yaml.YAMLError("an anchor, an alias or a tag")
        self._level += 1
        self._values += 1
        if self._level > DEEPEST:
            raise _nested(event.start_mark)
        if self._values > MOST_VALUES:
            raise _refuse(f"more than {MOST_VALUES:,} values", event.start_mark)
        node = super().compose_node(parent, index)
        self._level -= 1
        assert node is not None
        if not isinstance(event, yaml.AliasEvent):
            self._measure(node)
        elif id(node) not in self._sizes:
            kind = "list" if isinstance(node, yaml.SequenceNode) else "mapping"
            raise _refuse(f"a {kind} holds itself", event.start_mark)
        if isinstance(parent, yaml.MappingNode):
            if index is None:
                self._count_key(event.start_mark)
            else:
                self._check_again(parent, index, node)
        return node

    def _measure(self, node: yaml.Node) -> None:
        """Note how large a complete node is, what aliases repeat included, and check it."""
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            inner = node.value
        elif isinstance(node, yaml.MappingNode):
            inner = [value for _, value in node.value]
        elif not self.extended and node.start_mark.line != node.end_mark.line:
            raise yaml.YAMLError("text over several lines")
        found = [self._sizes[id(one)] for one in inner]
        size, deep = 1 + sum(s for s, _ in found), 1 + max((d for _, d in found), default=0)
        if size > MOST_VALUES:
            raise _refuse(f"more than {MOST_VALUES:,} values, with those that aliases repeat", node.start_mark)
        if deep > DEEPEST:
            raise _nested(node.start_mark)
        self._sizes[id(node)] = size, deep

    def _count_key(self, mark: Any) -> None:
        """Refuse too many keys."""
        self._keys += 1
        if self._keys > MOST_KEYS:
            raise _refuse(f"more than {MOST_KEYS:,} keys", mark)

    def _check_again(self, mapping: yaml.MappingNode, key: Any, value: yaml.Node) -> None:
        """Refuse a key that the mapping has already, unless its plain value is the same."""
        if not isinstance(key, yaml.ScalarNode):
            return
        names = self._names.setdefault(id(mapping), {})
        first, before = names.setdefault((key.tag, key.value), (key, value))
        if first is key or (self.extended and _equal_scalars(before, value)):
            return
        lines = f"in line {first.start_mark.line + 1} and in line {key.start_mark.line + 1}"
        where = lines if self.extended else "in one mapping"
        raise _refuse(f"'{key.value}' is given twice, {where}: leave one of them out", key.start_mark)


def _equal_scalars(one: yaml.Node, other: yaml.Node) -> bool:
    if not (isinstance(one, yaml.ScalarNode) and isinstance(other, yaml.ScalarNode) and one.tag == other.tag):
        return False
    read = _READ.get(one.tag.removeprefix(_TAG), str)
    try:
        return bool(read(one.value) == read(other.value))
    except (ValueError, KeyError):  # what has a tag and is not of that kind is refused as it is read
        return one.value == other.value


def _refuse(problem: str, mark: Any) -> Refused:
    return Refused(problem=problem, problem_mark=mark)


def _nested(mark: Any) -> Refused:
    return _refuse(f"lists or mappings are nested more than {DEEPEST} deep", mark)


class WordLoader(Loader):
    """Reads a bracketed value of the command line, where ``&``, ``*`` and ``!`` begin text."""

    extended = False


def _constructor(kind: str) -> Callable[[yaml.SafeLoader, yaml.Node], Any]:
    """Return how a scalar of ``kind`` is read, also one with a tag, such as ``!!int x``."""
    name = {"null": "null", "bool": "a boolean", "int": "a whole number", "float": "a number"}[kind]

    def construct(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
        text = str(loader.construct_scalar(node)) if isinstance(node, yaml.ScalarNode) else ""
        allowed = ("int", "float") if kind == "float" else (kind,)
        if not isinstance(node, yaml.ScalarNode) or kind_of(text) not in allowed:
            raise _refuse(f"'{text}' has the tag !!{kind} and is not {name}", node.start_mark)
        try:
            return _READ[kind](text)
        except ValueError as error:
            raise _refuse(str(error), node.start_mark) from None

    return construct


def _other_tag(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    tag = node.tag.replace(_TAG, "!!")
    raise _refuse(f"the tag {tag} is not read: leave it out", node.start_mark)


# these replace the inherited ones whole (attributes of the subclass, so PyYAML itself stays as it is)
_KEPT = ("str", "seq", "map")
Loader.yaml_implicit_resolvers = {}
Loader.yaml_constructors = {_TAG + kind: yaml.SafeLoader.yaml_constructors[_TAG + kind] for kind in _KEPT}
for _kind, _pattern in PLAIN.items():
    Loader.add_implicit_resolver(_TAG + _kind, re.compile(f"^(?:{_pattern.pattern})$"), None)
    Loader.add_constructor(_TAG + _kind, _constructor(_kind))
Loader.add_constructor(None, _other_tag)
