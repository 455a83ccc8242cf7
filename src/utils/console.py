"""The terminal of a run: a live line at the bottom and everything else above it, or plain lines without one."""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .layout import line_width

PLAIN_WIDTH = 100

_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_NUMBERED = re.compile(r"(?<![^_])\d+(?![^_])")  # a whole part of a name between underscores: agent_3_return


def is_live(stream: TextIO, environ: Mapping[str, str] | None = None) -> bool:
    """Return whether a live line may be drawn: a terminal that can move its cursor, and no CI machine."""
    environ = os.environ if environ is None else environ
    try:
        terminal = stream.isatty()
    except (AttributeError, ValueError):
        return False
    return terminal and environ.get("TERM", "") not in ("", "dumb", "unknown") and not environ.get("CI")


def without_controls(text: str) -> str:
    """Return one line of text without escape sequences and control characters (tabs stay).

    A line that overwrote itself by carriage returns keeps its last state.
    """
    return _CONTROLS.sub("", _ESCAPES.sub("", text.rstrip("\r").rpartition("\r")[2]))


def number(value: float) -> str:
    """Return a number for a table: counts with separators, others with four significant digits."""
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    size = abs(value)
    return f"{value:,.1f}" if size >= 1000 else f"{value:.4g}" if size >= 1e-3 else f"{value:.2e}"


def duration(seconds: float, short: bool = False) -> str:
    """Return seconds in a readable form: ``0:42``, ``12:05``, ``3 h 20 min``, ``2 d 4 h``; ``?`` where unknown.

    Args:
        short: in at most six characters, such as ``3h20m`` and ``2d4h``.
    """
    if short:
        return duration(seconds).replace(" ", "").replace("min", "m")
    if not math.isfinite(seconds) or seconds < 0:
        return "?"
    s = round(seconds)
    if s < 3600:
        return f"{s // 60}:{s % 60:02d}"
    minutes = s // 60
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def rows_of(metrics: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return names and formatted values; three or more of one numbered kind share a row as ``low .. high``."""
    families: dict[str, list[str]] = {}
    for name in metrics:
        families.setdefault(_NUMBERED.sub("*", name), []).append(name)
    rows = []
    for pattern, names in families.items():
        if len(names) < 3:
            rows += [(name, number(metrics[name])) for name in names]
        else:
            values = [metrics[name] for name in names]
            rows.append((pattern, f"{number(min(values))} .. {number(max(values))}"))
    return rows


def columns(rows: Sequence[tuple[str, str]], width: int) -> list[list[tuple[str, str]]]:
    """Return ``rows`` dealt into as many equal columns as fit ``width``, filled top to bottom."""
    for count in range(min(4, len(rows)), 0, -1):
        height = -(-len(rows) // count)
        parts = [list(rows[i : i + height]) for i in range(0, len(rows), height)]
        needed = sum(max(len(n) for n, _ in part) + max(len(v) for _, v in part) + 4 for part in parts)
        if needed <= width or count == 1:
            return parts
    return []


class Screen:
    """The terminal output of a run. All methods may be called from any thread.

    Output that cannot be delivered (the reader of a pipe has ended) is dropped and does not end the run.
    """

    def __init__(self, stdout: TextIO | None = None, stderr: TextIO | None = None, live: bool | None = None) -> None:
        """Take the streams as they are now.

        Args:
            live: draw the live line; None finds out from the streams and the environment variables.
        """
        self.stdout = sys.stdout if stdout is None else stdout
        self.stderr = sys.stderr if stderr is None else stderr
        self.live = is_live(self.stdout) if live is None else live
        self._lock = threading.RLock()
        self._gone: set[int] = set()
        self._console: Console | None = None
        self._status: Live | None = None
        if self.live:
            # NO_COLOR is read by rich itself
            self._console = Console(file=self.stdout, force_terminal=True, highlight=False, markup=False)
            self._unicode = self._console.encoding.startswith("utf")

    @property
    def width(self) -> int:
        """Columns of text that fit a line."""
        return self._console.width if self._console else line_width(self.stdout) or PLAIN_WIDTH

    def line(self, text: str, *, error: bool = False, style: str = "") -> None:
        """Show one or more whole lines, above the live line where there is one."""
        # what is sent to stderr goes there also beside a live line, if that is somewhere else
        stream = self.stderr if error else self.stdout
        if self._console is not None and (stream is self.stdout or is_live(stream)):
            shown = Text(text, style=style)
            self._rich(lambda console: console.print(shown, soft_wrap=True))
        else:
            self._write(stream, "".join(without_controls(part) + "\n" for part in text.split("\n")))

    def table(self, title: str, metrics: Mapping[str, float]) -> None:
        """Show names and values in as many columns as fit."""
        parts = columns(rows_of(metrics), self.width)
        if self._console is not None:
            table = _rich_table(title, parts)
            self._rich(lambda console: console.print(table))
        else:
            self._write(self.stdout, "".join(f"{line}\n" for line in plain_table(title, parts)))

    def status(self, text: str, fraction: float) -> None:
        """Show ``text`` as the live line, after a bar of ``fraction`` (0 to 1) if there is room; no terminal: nothing.

        The line never wraps: what does not fit is cut.
        """
        if self._console is None:
            return
        room = min(self.width - len(text) - 3, 30)
        bar = Text()
        if room >= 8:
            done = round(max(0.0, min(1.0, fraction)) * room)
            # two characters, not two colours alone: the bar must be readable without colour
            full, rest = ("━", "┄") if self._unicode else ("=", "-")
            bar = Text.assemble((full * done, "green"), (rest * (room - done), "bright_black"), "  ")
        shown = Text.assemble(bar, text, no_wrap=True, overflow="crop")
        self._rich(lambda console: self._draw(console, shown))

    def _draw(self, console: Console, shown: Text) -> None:
        if self._status is None:
            # no refresh thread and no redirection: prints come through capture(), in order
            self._status = Live(
                console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
            )
            self._status.start()
        self._status.update(shown, refresh=True)

    def close(self) -> None:
        """Remove the live line and show the cursor again."""
        with self._lock:
            if self._status is not None:
                status, self._status = self._status, None
                self._rich(lambda console: status.stop())

    def _rich(self, draw: Callable[[Console], None]) -> None:
        with self._lock:
            if self._console is None or id(self.stdout) in self._gone:
                return
            try:
                draw(self._console)
            except UnicodeEncodeError:
                pass  # a character that this terminal has no code for; run.log has it
            except (OSError, ValueError):  # ValueError: the stream was closed
                self._lost(self.stdout)

    def _write(self, stream: TextIO, text: str) -> None:
        with self._lock:
            if id(stream) in self._gone:
                return
            try:
                stream.write(text)
                stream.flush()
            except UnicodeEncodeError:
                encoding = stream.encoding or "ascii"
                with contextlib.suppress(OSError, ValueError):
                    stream.write(text.encode(encoding, "replace").decode(encoding))
            except (OSError, ValueError):
                self._lost(stream)

    def _lost(self, stream: TextIO) -> None:
        self._gone.add(id(stream))
        # the interpreter flushes the stream once more at its end: this must not print an error
        with contextlib.suppress(OSError, ValueError, AttributeError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)

    @contextlib.contextmanager
    def capture(self, seen: Callable[[str], None]) -> Iterator[None]:
        """Redirect output to ``sys.stdout`` and ``sys.stderr`` through this screen, line by line.

        Args:
            seen: called with each whole line, without escape sequences (for the run's own log).
        """
        before = sys.stdout, sys.stderr
        out, err = _Lines(self, before[0], seen, False), _Lines(self, before[1], seen, True)
        sys.stdout, sys.stderr = out, err
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before
            out.finish()
            err.finish()


class _Lines(io.TextIOBase):
    """A text stream that hands whole lines to the screen."""

    def __init__(self, screen: Screen, stream: TextIO, seen: Callable[[str], None], error: bool) -> None:
        self._screen, self._stream, self._seen, self._error = screen, stream, seen, error
        self._rest = ""

    # read by libraries that ask about the terminal
    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    @property
    def buffer(self) -> Any:
        return self._stream.buffer

    def writable(self) -> bool:
        return True

    def write(self, text: Any) -> int:
        with self._screen._lock:
            *lines, self._rest = (self._rest + str(text)).split("\n")
            if len(self._rest) > 65536:  # a counter that only ever overwrites itself
                self._rest = self._rest[-1024:]
            for line in lines:
                self._line(line)
        return len(text)

    def _line(self, line: str) -> None:
        clean = without_controls(line)
        self._seen(clean)
        self._screen.line(clean, error=self._error)

    def finish(self) -> None:
        if self._rest:
            line, self._rest = self._rest, ""
            self._line(line)


def _rich_table(title: str, parts: Sequence[Sequence[tuple[str, str]]]) -> Table:
    table = Table(title=title, title_style="bold", title_justify="left", box=None, padding=(0, 1), show_header=False)
    for _ in parts:
        table.add_column(style="cyan", no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
    for i in range(len(parts[0]) if parts else 0):
        table.add_row(*[cell for part in parts for cell in (part[i] if i < len(part) else ("", ""))])
    return table


def plain_table(title: str, parts: Sequence[Sequence[tuple[str, str]]]) -> list[str]:
    """Return the lines of a table in plain text: a title, then aligned names and values."""
    lines = [title]
    names = [max(len(n) for n, _ in part) for part in parts]
    values = [max(len(v) for _, v in part) for part in parts]
    for i in range(len(parts[0]) if parts else 0):
        cells = [
            f"{part[i][0]:<{n}} {part[i][1]:>{v}}"
            for part, n, v in zip(parts, names, values, strict=True)
            if i < len(part)
        ]
        lines.append("  " + "   ".join(cells))
    return lines
