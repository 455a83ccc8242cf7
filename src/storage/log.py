"""The log of one run: scalars, arrays and text, to its folder, to an external sink (sacred) and to the terminal."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..utils.console import PLAIN_WIDTH, Screen, columns, plain_table, rows_of, without_controls
from ..utils.errors import UserError
from ..utils.schema.keys import key
from .progress import Progress, ProgressLines
from .records import (
    ARRAYS_SUFFIX,
    LOG_FILE,
    METRICS_FILE,
    AppendFile,
    Place,
    array_record,
    beginning,
    lacking,
    metrics_line,
    parse_metrics,
    plain_float,
    whole_arrays,
)

#: Without a live line, a line of progress appears also where nothing was printed for this long (seconds): before the
#: first line, and between two.
SILENCE = (60.0, 600.0)
#: The live line is redrawn at most this often (seconds).
_REDRAW_EVERY = 0.1


@dataclass(frozen=True)
class LoggingConfig:
    """The keys of a run's storage: its name, its folder, the interval of its JSON files."""

    name: str = key("Name of the algorithm in the results folder and in tables.")
    label: str = key("Free text stored with the run, to find it again.")
    local_results_path: str = key("Folder of all results; runs lie in sacred/<name>/<map or key>/<number> below it.")
    beat_interval: float = key(
        "Seconds between two updates of run.json and metrics.json; metrics.jsonl and run.log are always up to date.",
        above=0,
        high=1e9,
    )
    verbose: bool = key(
        "Show a table of all metrics at each log_interval, in place of one line with the steps, the returns, the speed "
        "and the time left; all of them are in metrics.jsonl and run.log either way."
    )


def _no_sink(name: str, value: float, t: int) -> None:
    pass


class RunLog:
    """One run's files and its terminal.

    Files in ``folder``: ``metrics.jsonl`` (all scalars), ``<name>.arrays`` (arrays), ``run.log`` (all text). They
    only grow, so a run that fails leaves everything up to its last moment.
    """

    def __init__(
        self,
        folder: str | Path,
        sink: Callable[[str, float, int], Any] = _no_sink,
        *,
        screen: Screen | None = None,
        verbose: bool = False,
    ) -> None:
        """Open the files.

        Args:
            folder: the run's folder; made where missing.
            sink: called with (name, value, t) for every scalar.
            screen: where to show things; None takes the process's own output.
            verbose: show a table at each log interval, in place of one line.

        Raises:
            UserError: the folder cannot be written.
        """
        self.folder, self.foreign = Path(folder), False
        self.screen = Screen() if screen is None else screen
        self._sink = sink
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._place = Place(self.folder)
        except OSError as error:
            raise UserError(f"Cannot write in the run's folder {folder}: {error.strerror or error}.") from None
        self._log: AppendFile | None = AppendFile(self.folder / LOG_FILE)
        self._metrics = AppendFile(self.folder / METRICS_FILE)
        self._arrays: dict[str, AppendFile] = {}
        self._recent: dict[str, float] = {}
        self._verbose, self._lines = verbose, ProgressLines()
        self._fresh: set[str] = set()  # metrics newer than the last line of progress
        self._progress: Progress | None = None
        self._drawn_at, self._line_at, self._silence = -math.inf, time.monotonic(), SILENCE[0]

    # ---- numbers

    def scalars(self, metrics: Mapping[str, Any], t: int) -> None:
        """Store scalars of environment step ``t``, as plain floats.

        Raises:
            TypeError: a value is not one number.
            UserError: the file cannot be written.
        """
        values = {str(name): plain_float(name, value) for name, value in metrics.items()}
        if not values:
            return
        self._metrics.append(metrics_line(values, t))
        self._pass_on(values, int(t))

    def _pass_on(self, values: Mapping[str, float], t: int) -> None:
        self._recent.update(values)
        self._fresh.update(values)
        for name, value in values.items():
            self._sink(name, value, t)

    def arrays(self, name: str, t: int, **arrays: np.ndarray) -> None:
        """Append arrays to ``<name>.arrays`` under step ``t``; :func:`records.read_arrays` reads them.

        Raises:
            TypeError: an array holds objects.
            UserError: the file cannot be written.
        """
        if name not in self._arrays:
            self._arrays[name] = AppendFile(self.folder / f"{name}{ARRAYS_SUFFIX}")
        self._arrays[name].append(array_record(t, arrays))

    # ---- text

    def info(self, text: str) -> None:
        """Show a line, and keep it in ``run.log``."""
        self.note(text)
        self.screen.line(text)

    def warning(self, text: str) -> None:
        """Show a warning (on stderr where lines are plain), and keep it in ``run.log``."""
        self.note(f"Warning: {text}")
        self.screen.line(f"Warning: {text}", error=True, style="yellow")

    def error(self, text: str) -> None:
        """Show an error (on stderr where lines are plain), and keep it in ``run.log``."""
        self.note(text)
        self.screen.line(text, error=True, style="red")

    def note(self, text: str) -> None:
        """Keep lines in ``run.log`` alone, each after the time of day."""
        if self._log is None:
            return
        clock = time.strftime("%Y-%m-%d %H:%M:%S")
        lines = "".join(f"{clock}  {without_controls(line)}\n" for line in text.split("\n"))
        # a failing log does not end the run: metrics and checkpoints report a full disk
        with contextlib.suppress(UserError, ValueError):
            self._log.append(lines.encode("utf-8", "backslashreplace"))

    def capture(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which everything printed in this process also goes to ``run.log``."""
        return self.screen.capture(self.note)

    def point(self, t: int) -> None:
        """Show that step ``t`` is logged: one line, or with ``verbose`` a table; ``run.log`` has the table always."""
        progress = self._progress
        if progress is not None:
            self.note(progress.text(PLAIN_WIDTH))
            if self._verbose and not self.screen.live:
                self.screen.line(progress.text(self.screen.width))
        self._table(t, self._verbose)
        if progress is not None and not self._verbose:
            if t >= progress.t_max:
                return  # the run's last line has the results of its last test too
            self._line(progress)
        self._line_at, self._silence = time.monotonic(), SILENCE[1]
        self._fresh.clear()

    def table(self, t: int) -> None:
        """Show the newest value of every metric, as of step ``t``."""
        self._table(t, True)

    def _table(self, t: int, show: bool) -> None:
        title = f"Step {t:,}"
        metrics = {name: self._recent[name] for name in sorted(self._recent, key=_rank)}
        if show:
            self.screen.table(title, metrics)
        self.note("\n".join(plain_table(title, columns(rows_of(metrics), PLAIN_WIDTH))))

    def _line(self, progress: Progress) -> None:
        *head, line = self._lines.lines(progress, self._recent, self._fresh, self.screen.width)
        for one in head:
            self.screen.line(one, style="bold")
        self.screen.line(line)

    def progress(self, t: int, t_max: int, steps_per_second: float, return_mean: float | None) -> None:
        """Show the run's progress; may be called at any rate.

        On a terminal it is the live line. Elsewhere it is a line where nothing was printed for a long time.

        Args:
            t, t_max: environment steps done and in all.
            steps_per_second: recent speed (nan or 0: not known yet).
            return_mean: newest mean return (None or nan: not known yet).
        """
        now = time.monotonic()
        self._progress = Progress(t, t_max, steps_per_second, return_mean)
        if self.screen.live:
            if now - self._drawn_at >= _REDRAW_EVERY or t >= t_max:
                self._drawn_at = now
                self.screen.status(self._progress.text(self.screen.width), self._progress.done)
        elif now - self._line_at >= self._silence:
            self._between()

    def _between(self) -> None:
        """Show a line of progress, with what is newer than the last one."""
        if self._progress is not None:
            self.note(self._progress.text(PLAIN_WIDTH))
            self._line(self._progress)
            self._line_at, self._silence = time.monotonic(), SILENCE[1]
            self._fresh.clear()

    # ---- files that are taken away

    def check(self) -> None:
        """Check that the run's append-only files are still at their paths, with everything that was written to them.

        It costs two system calls for each file. Where the whole folder was moved, ``folder`` becomes its new path, if
        the system provides it; ``foreign`` is set if the old path belongs to another folder now.

        Raises:
            UserError: one of them was deleted, renamed, replaced or cut; the sentence says which and how.
        """
        for file in [self._metrics, *self._arrays.values(), *([] if self._log is None else [self._log])]:
            trouble = file.trouble()
            if trouble:
                folder = self.folder
                self.folder, what, ours = self._place.now()
                self.foreign = not ours
                text = f"The run's folder {folder} {what}" if what else f"{file.path} {trouble}"
                raise UserError(f"{text} while the run was running.")

    def begin_again(self) -> None:
        """Create ``run.log`` again if it is gone, for the run's last messages."""
        path = self.folder / LOG_FILE
        if self._log is not None and not self.foreign and not os.path.lexists(path):
            with contextlib.suppress(UserError):
                again = AppendFile(path)
                self._log.close()
                self._log = again

    # ---- resuming and ending

    def checkpoint_position(self) -> dict[str, int]:
        """Return the length in bytes of each of the run's record files, once the disk has them."""
        files = {METRICS_FILE: self._metrics} | {f.path.name: f for f in self._arrays.values()}
        return {name: file.position() for name, file in files.items()}

    def carry_over(
        self, old_folder: str | Path, position: Mapping[str, int], rewrite: Callable[[bytes], bytes] | None = None
    ) -> None:
        """Begin this run's records with those of an earlier run, up to a checkpoint's ``position`` and no further.

        Call it before anything is logged. Scalars also go to the sink. Missing records are reported in one warning for
        each file; the others are used.

        Args:
            rewrite: renames the metrics in lines of scalars to their present names; None: lines stay as they are.

        Raises:
            RuntimeError: this run has logged something already.
            UserError: ``position`` names a file that is no record of a run.
        """
        if self._recent or self._arrays:
            raise RuntimeError("carry_over must come before the first record of the new run")
        for name, size in position.items():
            size = int(size)
            if Path(name).name != name or not (name == METRICS_FILE or name.endswith(ARRAYS_SUFFIX)):
                raise UserError(f"The checkpoint names a record file '{name}', which no run of this program has.")
            path = Path(old_folder) / name
            data = beginning(path, size)
            if name == METRICS_FILE:
                # a short file may end inside a line, which would swallow the first line that follows
                whole = data[: data.rfind(b"\n") + 1]
                kept = whole if rewrite is None else rewrite(whole)
                found = parse_metrics(kept)
                self._metrics.append(kept)
                for record in found:
                    self._pass_on(record["metrics"], record["t"])
                last, torn = found[-1]["t"] if found else None, whole.count(b"\n") - len(found)
            else:
                end, last = (size, None) if len(data) == size else whole_arrays(data)
                whole, torn = data[:end], 0
                if whole or not size:
                    log = name.removesuffix(ARRAYS_SUFFIX)
                    self._arrays[log] = AppendFile(self.folder / name)
                    self._arrays[log].append(whole)
            lacks = lacking(path, len(data) < size, len(whole) < len(data), torn, last)
            if lacks:
                self.warning(f"{lacks}: the earlier curve is incomplete.")
        self._fresh.clear()

    def close(self) -> None:
        """Close the files and remove the live line; what is newer than the last line of progress becomes a line."""
        self.screen.close()
        if self._fresh:
            self._between()
        self._metrics.close()
        for file in self._arrays.values():
            file.close()
        if self._log is not None:
            log, self._log = self._log, None
            with contextlib.suppress(OSError):
                log.close()
        self._place.close()


def _rank(name: str) -> int:
    """Return the position of a metric in a table: training returns, test results, then all others in order."""
    if name.startswith("test_"):
        return 1
    return 0 if "return_" in name or name.startswith("ep_length") else 2
