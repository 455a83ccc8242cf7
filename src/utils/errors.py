"""Exceptions that are reported in one sentence, and the search for the nearest valid name."""

from __future__ import annotations

import difflib
import errno
import os
import traceback
from collections.abc import Iterable
from pathlib import Path

#: characters of a sentence, and of a value in one
LONGEST_SENTENCE = 900
LONGEST_VALUE = 200


class UserError(Exception):
    """A user error in the configuration, the files or the installation, reported in one sentence.

    The command line prints the sentence alone (no traceback) and exits with status 2. What a long name or value makes
    too long is left out of its middle.
    """

    def __init__(self, sentence: object = "") -> None:
        super().__init__(shortened(str(sentence), LONGEST_SENTENCE))


class NotInstalled(UserError):
    """Something that was asked for needs a package, game or library that is not there; the sentence says which command
    installs it."""


class RunError(Exception):
    """An error that ends a run (numbers that are not finite, a full disk), reported in one sentence.

    The run is FAILED and the exit status 1; there is no traceback, since the error is not in the program.
    """


class PartFailed(RunError):
    """The code of a user-supplied part failed in the middle of a run, or gave what its contract does not allow."""


def shortened(text: str, length: int) -> str:
    """Return ``text`` with its middle left out, where it has more than ``length`` characters."""
    if len(text) <= length:
        return text
    tail = length // 3
    return f"{text[: length - tail - 5]} ... {text[-tail:]}"


def shown_value(value: object) -> str:
    """Return a value as sentences show it: None as YAML's null, else as Python writes it, and not at any length."""
    if value is None:
        return "null"
    try:
        return shortened(repr(value), LONGEST_VALUE)
    except ValueError:  # a whole number of so many digits that Python does not write it
        return "a number of thousands of digits"


def raised_in(error: BaseException, packages: Iterable[str]) -> str:
    """The package among ``packages`` whose code raised an exception, or called what raised it; ``""`` if none did."""
    return _last_frame(error, packages)[0]


def raised_at(error: BaseException, packages: Iterable[str] = ()) -> str:
    """The file and line where an exception was raised, ``mine.py, line 7``; the last in ``packages``, if any is."""
    return _last_frame(error, packages)[1]


def _last_frame(error: BaseException, packages: Iterable[str]) -> tuple[str, str]:
    found, at = "", ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package in packages or not found:
            found = package if package in packages else ""
            at = f"{Path(frame.f_code.co_filename).name}, line {line}"
    return found, at


def lacks_memory(error: BaseException) -> bool:
    """Whether an exception says that there is not enough memory (of the machine, or of its GPU)."""
    return isinstance(error, MemoryError) or any(
        text in f"{type(error).__name__} {error}" for text in ("OutOfMemory", "allocate memory", "bad_alloc")
    )


def text_of(error: BaseException, limit: int = 500) -> str:
    """An exception's message, in at most ``limit`` characters; a word about it where it cannot be told."""
    try:
        text = str(error)
    except Exception as failed:
        return f"(its message cannot be told: {type(failed).__name__})"
    return shortened(text, limit)


def too_few_files(error: BaseException | None) -> str:
    """A sentence where an exception says that no more files can be opened; ``""`` where it says something else."""
    while error is not None:
        known = isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)
        if known or (isinstance(error, ImportError) and os.strerror(errno.EMFILE) in str(error)):
            return f"Too many files are open: {_most_files()}raise the limit, as by `ulimit -n 1024`."
        error = error.__cause__ or error.__context__
    return ""


def _most_files() -> str:
    try:
        import resource
    except ImportError:  # not on Windows
        return ""
    return f"this process may have no more than {resource.getrlimit(resource.RLIMIT_NOFILE)[0]} at once; "


def first_line(error: BaseException) -> str:
    """The first line of an exception's message; its type where the message is empty."""
    return text_of(error).split("\n")[0].rstrip(".") or type(error).__name__


def reason(error: BaseException) -> str:
    """The first line of an exception's message, after its type where that tells more than that a value is wrong."""
    line = first_line(error)
    return line if isinstance(error, (UserError, ValueError)) else f"{type(error).__name__}: {line}"


def sentence_of(error: BaseException) -> str:
    """An exception's message on one line, with its full stop."""
    text = " ".join(str(error).split())
    return f"{text}." if text[-1:].isalnum() or text[-1:] in ("'", "`", ")") else text


def closest(name: str, options: Iterable[str]) -> str | None:
    """Return the one of ``options`` that is written most like ``name``, None where none is close."""
    folded = {str(o).casefold(): str(o) for o in options}
    close = difflib.get_close_matches(str(name).casefold(), list(folded), n=1, cutoff=0.5)
    return folded[close[0]] if close else None


def nearest(name: str, options: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest of ``options``, or ``""`` where none is close."""
    close = closest(name, options)
    return f"; did you mean '{close}'?" if close else ""


#: verb after several -> after one
_OF_ONE = {"are": "is", "were": "was", "do": "does", "have": "has"}


def counted(number: int, noun: str, verb: str = "") -> str:
    """Return a number with its noun, and a verb where one follows: ``1 run is``, ``2 runs are``, ``1,000 files``."""
    if number == 1:
        return f"1 {noun} {_OF_ONE[verb]}" if verb else f"1 {noun}"
    plural = f"{noun}es" if noun.endswith("ch") else f"{noun}s"
    return f"{number:,} {plural} {verb}".rstrip()


#: names of a list that are shown where it has more
MOST_SHOWN = 12


def listed(items: Iterable[object], most: int = MOST_SHOWN) -> str:
    """Return items after commas, ``a, b, c``; of more than ``most`` the first ones, the last, and their number."""
    names = [str(item) for item in items]
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most - 2])}, ..., {names[-1]} ({len(names):,} in all)"


def sizes_text(sizes: Iterable[object]) -> str:
    """Return sizes, one an agent: ``[4, 4, 6]``, and of more than six agents ``[40 x 18]`` or ``[3 x 4, 37 x 6]``."""
    values = list(sizes)
    if len(values) <= 6:
        return f"[{', '.join(map(str, values))}]"
    runs: list[tuple[int, object]] = []
    for value in values:
        count = runs.pop()[0] if runs and runs[-1][1] == value else 0
        runs.append((count + 1, value))
    return f"[{listed(f'{count} x {value}' for count, value in runs)}]"


def one_of(options: Iterable[object]) -> str:
    """Return the options as a readable list: ``a, b or c``."""
    names = [str(o) for o in options]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
