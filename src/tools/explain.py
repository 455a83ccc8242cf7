"""What ``oamarl config KEY`` prints: a key's meaning, type, allowed values, default, and who reads it."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
from collections.abc import Mapping
from typing import Any

from ..envs.build import factory
from ..envs.signatures import EMPTY, constructor_signature
from ..selection import NAMED_BY_LEARNERS, SELECTORS
from ..settings import OWN
from ..utils.errors import UserError, one_of
from ..utils.layout import entry, hanging
from ..utils.project import page
from ..utils.schema import keys as config
from ..utils.schema import vocabulary, yamls
from ..utils.schema.command_line import Request
from ..utils.schema.layers import CONFIGS, collect, leaves, merge, shipped
from .key_readers import allowed, parts

#: keys of environments: name -> the environments that take it, with its type and default; by the name of the YAML
Arguments = dict[str, dict[str, tuple[str, Any, str]]]
_NONE = object()


def explain(name: str, width: int | None, here: Mapping[str, tuple[Any, str]] | None = None) -> list[str]:
    """Return the lines about a key.

    Args:
        name: of the key; of an environment's argument ``env_args.NAME``.
        width: columns of the terminal.
        here: dotted key -> its value and source in the configuration that was asked for too.

    Raises:
        UserError: there is no such key.
    """
    found = _argument(name) if name.startswith("env_args.") else _key(name)
    if found is None:
        raise UserError(_unknown(name))
    rows, said = found
    if here is not None:
        value, source = here.get(name, (_NONE, ""))
        text = "not read by this configuration" if value is _NONE else f"{yamls.inline(value)} ({source})"
        rows.insert(0, ("here", text))
    lines = [name, *(line for text in said for line in hanging(text, width, 2, "  "))]
    for title, text in rows:
        lines += entry(f"  {title}", text, width, 14)
    return lines


def _key(name: str) -> tuple[list[tuple[str, str]], list[str]] | None:
    """Return the rows and the sentences about a top-level key, None where there is none."""
    defaults = yamls.load(CONFIGS / "default.yaml", "default.yaml")
    readers: list[str] = []
    kind, values, said = "", "", []
    for cls, who in parts().items():
        for f in (f for f in dataclasses.fields(cls) if f.name == name):
            hint = config.hints(cls)[name]
            kind, values = config.type_name(hint), allowed(hint, f.metadata)
            said += [f.metadata["doc"]] if f.metadata["doc"] not in said else []
            readers += [w for w in who if w not in readers]
            for other, those in f.metadata["only"].items():
                values += f"{'; ' if values else ''}has an effect with {other}={one_of(those)}"
    if name in OWN:
        kind, doc = OWN[name]
        said, readers = said or [doc], ["every run"]
    if not said:
        return _of_epymarl(name)
    if name in SELECTORS or name == "env":
        values = "a registered name, or package.module:Class of your own"
    in_use = _set_by(name)
    default = f"{yamls.inline(defaults[name])} (default.yaml)" if name in defaults else "by algorithm or environment"
    rows = [("type", kind), ("allowed", values), ("default", default), ("set by", in_use)]
    readers = ["every run"] if "every run" in readers else readers
    rows += [("read by", ", ".join(readers)), ("algorithms", _algorithms(readers))]
    return [row for row in rows if row[1]], said


def _of_epymarl(name: str) -> tuple[list[tuple[str, str]], list[str]] | None:
    """Return what becomes of a key of EPyMARL's that nothing here reads."""
    if name in vocabulary.INERT:
        return [("status", "accepted, without effect")], [f"{vocabulary.INERT[name]}."]
    if name in vocabulary.REFUSED:
        only = vocabulary.REFUSED[name]
        return [("allowed", one_of(yamls.inline(v) for v in only.allowed))], [f"EPyMARL's: here {only.instead}."]
    if name in vocabulary.OTHER:
        return [("status", "not read by any method here")], [f"EPyMARL's, of {vocabulary.OTHER[name]}."]
    return None


def _set_by(name: str) -> str:
    """Return which shipped YAMLs set a key, and to what."""
    found: dict[str, list[str]] = {}
    for folder in ("envs", "algs"):
        for path in shipped(folder).values():
            values = yamls.load(path, path.name)
            if name in values and not isinstance(values[name], Mapping):
                found.setdefault(yamls.inline(values[name]), []).append(f"{folder}/{path.name}")
    return "; ".join(f"{value} in {', '.join(files)}" for value, files in found.items())


def _algorithms(readers: list[str]) -> str:
    """Return the shipped algorithms that read a key, given the parts that do."""
    if "every run" in readers:
        return "all"
    found, names = [], list(shipped("algs"))
    for algorithm in names:
        values = merge(collect(Request(algorithm, "maze")))[0]
        chosen = {str(values.get(part)) for part in (*SELECTORS, *NAMED_BY_LEARNERS)}
        chosen |= {f"every run with {key}={value}" for key, value in values.items() if isinstance(value, str)}
        if chosen & set(readers):
            found.append(algorithm)
    return "all" if found == names else ", ".join(found)


# -- arguments of environments -----------------------------------------------------------------------------------


def arguments() -> Arguments:
    """Return the arguments of the shipped environments; of one whose package is missing, those of its YAML."""
    found: Arguments = {}
    for environment, path in shipped("envs").items():
        values = yamls.load(path, path.name)
        given = values.get("env_args") or {}
        try:
            make = factory(values["env"])
            takes = constructor_signature(make, follow=False).without({"n_slots"}).parameters
        except (UserError, TypeError, ValueError):
            make, takes = None, {}
        docs = _documented(make)
        for name in (*given, *(n for n in takes if n not in given)):
            p = takes.get(name)
            default = given.get(name, EMPTY if p is None else p.default)
            kind = "" if p is None or p.hint is Any else config.type_name(p.hint)
            found.setdefault(name, {})[environment] = (kind, default, docs.get(name, ""))
    return found


def _documented(make: Any) -> dict[str, str]:
    """Return what the docstring of a constructor (or its class) says of its arguments."""
    found: dict[str, str] = {}
    for one in (make, getattr(make, "__init__", None)):
        _, _, told = (inspect.getdoc(one) or "").partition("Args:\n")
        section = re.split(r"\n\s*\n", told)[0]
        for names, text in re.findall(r"^ {4}(\w[\w, ]*): (.*(?:\n {5,}.*)*)", section, re.M):
            said = " ".join(text.split()).replace("``", "`")
            said = said[:1].upper() + said[1:] + ("" if said.endswith(".") else ".")
            found |= dict.fromkeys((n.strip() for n in names.split(",")), said)
    return found


def _argument(dotted: str) -> tuple[list[tuple[str, str]], list[str]] | None:
    """Return the rows and the sentences about ``env_args.NAME``, None where no shipped environment takes it."""
    taken = arguments().get(dotted.partition(".")[2])
    if not taken:
        return None
    said = list(dict.fromkeys(doc for _, _, doc in taken.values() if doc))
    rows = []
    for environment, (kind, default, doc) in taken.items():
        text = "no default: it must be given" if default is EMPTY else f"default {yamls.inline(_plain(default))}"
        text = f"{kind}, {text}" if kind else text
        rows.append((environment, f"{text}. {doc}" if doc and len(said) > 1 else text))
    if len(said) != 1:
        said = [f"An argument of environments; {page('environments.md')}."]
    return [("taken by", ", ".join(taken)), *rows], said


def _plain(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str, list, dict, type(None))) else str(value)


# -- names -------------------------------------------------------------------------------------------------------


def names() -> list[str]:
    """Return every key that can be explained."""
    found = {f.name for cls in parts() for f in dataclasses.fields(cls)} | set(OWN) | vocabulary.KNOWN
    return [*sorted(found), *(f"env_args.{name}" for name in sorted(arguments()))]


def _unknown(name: str) -> str:
    """Return the sentence about a key that does not exist, with the nearest that do."""
    known = names()
    near = [k for k in known if name and k.partition(".")[2] == name]
    near += [k for k in difflib.get_close_matches(name, known, n=3, cutoff=0.6) if k not in near]
    if not near:
        return f"There is no key '{name}'; {page('configuration.md')} has all of them."
    return f"There is no key '{name}'; did you mean {one_of(near[:3])}?"


def read(values: Mapping[str, Any], source: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    """Return dotted key -> value and source of a resolved configuration."""
    return {key: (value, source[key]) for key, value in leaves(values)}
