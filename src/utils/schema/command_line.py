"""The command line of a run: ``--config=A --env-config=E with key=value env_args.x=y seed=3``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import LONGEST_VALUE, UserError, nearest, shortened, shown_value
from ..project import page
from . import dialect, yamls

FLAGS = ("--config", "--env-config")
#: flags of sacred's command line, which EPyMARL's users may type -> what to do here
_SACRED = {
    ("-F", "--file_storage"): "use `with local_results_path=FOLDER`",
    ("-b", "--beat-interval"): "use `with beat_interval=SECONDS`",
    ("-c", "--comment"): "use `with label=TEXT`",
    ("-f", "--force"): "leave it out, there is no check to override",
    ("-m", "--mongo_db"): f"set the variable MONGO_URL ({page('mongodb.md')})",
    ("-n", "--name"): "use `with name=NAME`",
    ("-p", "--print-config"): "use `oamarl config` with the same words",
    ("-u", "--unobserved"): "leave it out, every run has a folder",
}


@dataclass(frozen=True)
class Request:
    """The request of a command line: an algorithm and an environment (names or paths), and overrides (nested).

    ``typed``: dotted key -> what was typed for it, where that was read as something other than text. A key that takes
    text takes this (``label=007``).
    """

    config: str | None = None
    env_config: str | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    typed: dict[str, str] = field(default_factory=dict, compare=False)


def parse(argv: Sequence[str], switches: Sequence[str] = ()) -> tuple[Request, set[str]]:
    """Read the command line of a run.

    Args:
        argv: the words after the command's name.
        switches: flags without a value that this command knows, e.g. ``--yaml``.

    Returns:
        The request, and which of ``switches`` were given.

    Raises:
        UserError: an unknown flag, a word in the wrong place, an override that is not ``key=value``, whose value has
            keys that are no names, or that contradicts another.
    """
    if len(argv) > dialect.MOST_KEYS:
        raise UserError(f"The command line has {len(argv):,} words: at most {dialect.MOST_KEYS:,} are read.")
    given: dict[str, str] = {}
    overrides: dict[str, Any] = {}
    typed: dict[str, str] = {}
    seen: set[str] = set()
    after_with = False
    words = iter(argv)
    for word in words:
        name, equals, text = word.partition("=")
        if word in switches:
            seen.add(word)
        elif name in FLAGS:
            value = text if equals else next(words, "")
            if not value or value == "with":
                raise UserError(
                    f"{name} needs a name or a path, e.g. {name}={'oappo' if name == FLAGS[0] else 'maze'}."
                )
            if given.setdefault(name, value) != value:
                raise UserError(f"{name} is given twice: '{given[name]}' and '{value}'.")
        elif word.startswith("-"):
            for flags, instead in _SACRED.items():
                if name in flags:
                    raise UserError(f"'{name}' is a flag of sacred's, which is not offered here: {instead}.")
            known = [*FLAGS, *switches, "--help", "--version"]
            raise UserError(f"Unknown flag '{name}': use {', '.join(known)}{nearest(name, known)}")
        elif word == "with":
            after_with = True
        elif not after_with:
            hint = f"; overrides come after `with`: with {word}" if equals else nearest(word, [*FLAGS, "with"])
            raise UserError(f"Unexpected word '{word}'{hint}")
        elif not equals or not name:
            raise UserError(f"'{word}' after `with` is not of the form key=value.")
        else:
            _add(overrides, typed, name, text)
    return Request(given.get("--config"), given.get("--env-config"), overrides, typed), seen


def _add(overrides: dict[str, Any], typed: dict[str, str], dotted: str, text: str) -> None:
    """Add the word ``dotted=text`` to the overrides.

    Raises:
        UserError: it cannot be read, or contradicts a word before it.
    """
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        encoding = sys.getfilesystemencoding()
        if encoding.replace("-", "") != "utf8":
            raise UserError(
                f"{dotted}={shown_value(text)} has letters that this locale's encoding ({encoding}) does not know: use "
                "a UTF-8 one, such as LC_ALL=C.UTF-8."
            )
        raise UserError(f"{dotted}={shown_value(text)} is not text in UTF-8.")
    *path, last = dotted.split(".")
    if not all([*path, last]):
        raise UserError(f"'{dotted}' is not a key: a part between its dots is empty.")
    if len(path) > dialect.DEEPEST:
        raise UserError(f"'{shortened(dotted, LONGEST_VALUE)}' is not a key: it has more than {dialect.DEEPEST} dots.")
    try:
        value = yamls.scalar(text)
    except UserError as error:
        raise UserError(f"{dotted}={error}") from None
    yamls.check_keys(value, f"'{dotted}={text}'")
    here = overrides
    for step in path:
        inner = here.setdefault(step, {})
        if not isinstance(inner, dict):
            raise UserError(f"'{dotted}' and '{step}={_shown(inner)}' contradict each other.")
        here = inner
    if last in here and typed.get(dotted, here[last]) == text:
        return  # the same word again
    _lay(here, last, value, dotted)
    if not isinstance(value, str):
        typed[dotted] = text


def _lay(here: dict[str, Any], name: str, value: Any, dotted: str) -> None:
    """Set ``here[name]``, whose whole name is ``dotted``; a mapping is laid over one that is there.

    Raises:
        UserError: there is another value.
    """
    if name not in here:
        here[name] = value
    elif isinstance(here[name], dict) and isinstance(value, dict):
        for inner, one in value.items():
            _lay(here[name], inner, one, f"{dotted}.{inner}")
    elif isinstance(here[name], dict) or isinstance(value, dict):
        plain, mapping = (value, here[name]) if isinstance(here[name], dict) else (here[name], value)
        inside = f"{dotted}.{next(iter(mapping))}" if mapping else f"{dotted}={{}}"
        raise UserError(f"'{dotted}={_shown(plain)}' and '{inside}' contradict each other.")
    else:
        both = f"'{_shown(here[name])}' and '{_shown(value)}'"
        raise UserError(f"'{dotted}' is given twice, as {both}: leave one of them out.")


def _shown(value: Any) -> str:
    return shortened(yamls.inline(value), LONGEST_VALUE)
