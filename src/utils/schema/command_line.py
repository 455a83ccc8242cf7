"""The command line of a run: ``--config=A --env-config=E with key=value env_args.x=y seed=3``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import UserError, nearest
from . import yamls

FLAGS = ("--config", "--env-config")
#: flags of sacred's command line, which EPyMARL's users may type -> what to do here
_SACRED = {
    ("-F", "--file_storage"): "use `with local_results_path=FOLDER`",
    ("-b", "--beat-interval"): "use `with beat_interval=SECONDS`",
    ("-c", "--comment"): "use `with label=TEXT`",
    ("-f", "--force"): "leave it out, there is no check to override",
    ("-m", "--mongo_db"): "set the variable MONGO_URL (docs/mongodb.md)",
    ("-n", "--name"): "use `with name=NAME`",
    ("-p", "--print-config"): "use `oamarl config` with the same words",
    ("-u", "--unobserved"): "leave it out, every run has a folder",
}


@dataclass(frozen=True)
class Request:
    """The request of a command line: an algorithm and an environment (names or paths), and overrides (nested)."""

    config: str | None = None
    env_config: str | None = None
    overrides: dict[str, Any] = field(default_factory=dict)


def parse(argv: Sequence[str], switches: Sequence[str] = ()) -> tuple[Request, set[str]]:
    """Read the command line of a run.

    Args:
        argv: the words after the command's name.
        switches: flags without a value that this command knows, e.g. ``--yaml``.

    Returns:
        The request, and which of ``switches`` were given.

    Raises:
        UserError: an unknown flag, a word in the wrong place, an override that is not ``key=value``, or
            whose value has keys that are no names.
    """
    given: dict[str, str] = {}
    overrides: dict[str, Any] = {}
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
            value = yamls.scalar(text)
            yamls.check_keys(value, f"'{word}'")
            _put(overrides, name, value)
    return Request(given.get("--config"), given.get("--env-config"), overrides), seen


def _put(overrides: dict[str, Any], dotted: str, value: Any) -> None:
    """Set ``a.b.c`` in a nested dict."""
    *path, last = dotted.split(".")
    if not all([*path, last]):
        raise UserError(f"'{dotted}' is not a key: a part between its dots is empty.")
    here = overrides
    for step in path:
        inner = here.setdefault(step, {})
        if not isinstance(inner, dict):
            raise UserError(f"'{dotted}' and '{step}={inner!r}' contradict each other.")
        here = inner
    if isinstance(here.get(last), dict) and not isinstance(value, dict):
        raise UserError(f"'{dotted}={value!r}' and '{dotted}.{next(iter(here[last]), '')}' contradict each other.")
    here[last] = value
