"""Parsers for the command lines of tools, whose errors are one sentence with the nearest flag."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from ..utils.errors import UserError, nearest


class Arguments(argparse.ArgumentParser):
    """A parser for ``oamarl COMMAND``; user errors are raised as UserError.

    Args:
        command: the words after ``oamarl``, for messages.
        most: the most that the command takes, in words, such as ``one run``.
    """

    def __init__(self, command: str, most: str = "nothing more") -> None:
        super().__init__(add_help=False, allow_abbrev=False)
        self.command, self.most = command, most

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print."""
        wrong = message.removeprefix("unrecognized arguments: ").split(" ")[0]
        if message.startswith("unrecognized") and wrong.startswith("-"):
            flags = [flag for action in self._actions for flag in action.option_strings]
            name = wrong.partition("=")[0]
            raise UserError(f"`oamarl {self.command}` has no flag '{name}'{nearest(name, flags) or '; see --help.'}")
        if message.startswith("unrecognized"):
            raise UserError(f"`oamarl {self.command}` takes {self.most}, and '{wrong}' is one word too many.")
        message = message.removeprefix("argument ").replace(": expected one argument", " needs a value")
        raise UserError(f"`oamarl {self.command}`: {message}; see --help.")

    def choice(self, flag: str, choices: tuple[str, ...], default: str | None, action: str = "store") -> None:
        """Add a flag that takes one of ``choices``; with the action ``append`` it may be given several times."""

        def read(text: str) -> str:
            if text not in choices:
                raise argparse.ArgumentTypeError(
                    f"'{text}' is not allowed: use {', '.join(choices)}{nearest(text, choices)}"
                )
            return text

        self.add_argument(flag, type=read, default=default, action=action)


def share(text: str) -> float:
    """Read a share, at least 0 and less than 1 (an argparse type)."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not allowed: a share from 0 up to 1 is expected")
    return value


def number(text: str) -> float:
    """Read a finite number (an argparse type)."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not allowed: a number is expected")
    return value


def at_least(low: float, kind: Callable[[str], float] = int) -> Callable[[str], Any]:
    """Return an argparse type: a whole number from ``low`` on, or with ``kind=float`` any number."""

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = low - 1
        if not low <= value < 2**31:
            what = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"'{text}' is not allowed: {what} from {low:g} on is expected")
        return value

    return read


def listed(text: str) -> list[str]:
    """Read words separated by commas (an argparse type)."""
    return [word.strip() for word in text.split(",") if word.strip()]


def add_selection(parser: Any) -> None:
    """Add the arguments common to all commands about many runs: paths, --filter, --by, --metric."""
    parser.add_argument("paths", nargs="*", metavar="PATH")
    parser.add_argument("--filter", nargs="+", action="extend", default=[], metavar="CONDITION")
    parser.add_argument("--by", type=listed, action="extend", default=[])
    parser.add_argument("--metric", default="return_mean")
