"""Runs a function as a sacred run; the ONE module that knows sacred.

sacred gives the folder, its number, ``config.json``, ``run.json``, ``info.json`` and ``metrics.json``, which other
tools read. What must survive a crash is written by :class:`~oamarl.components.logging.RunLog` in the same folder.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # sacred's own use of a deprecated module, at every start
    import sacred
    from sacred.observers import FileStorageObserver
    from sacred.serializer import flatten

from .components.config import read
from .components.errors import UserError
from .components.logging import LOG_FILE, LoggingConfig, RunLog
from .components.provenance import command_line, commit, storable, versions

#: metrics.json is rewritten whole, so at most one part in this many of a run's time goes into it.
_METRICS_SHARE = 50


class Terminated(KeyboardInterrupt):
    """The process was asked to end (SIGTERM, SIGHUP); no ``except Exception`` on the way stops it."""


@dataclass
class Result:
    """How a run ended.

    | field | meaning |
    |---|---|
    | status | ``COMPLETED``, ``INTERRUPTED`` or ``FAILED`` |
    | folder | the run's folder |
    | value | what the body returned (None unless completed) |
    | exit_code | for the process: 0, 1 (failed), 130 (Ctrl-C), 143 (SIGTERM), 129 (SIGHUP) |
    | error | the exception that ended it, already shown |
    """

    status: str
    folder: Path
    value: dict[str, Any] | None = None
    exit_code: int = 0
    error: BaseException | None = None


class _Files(FileStorageObserver):
    """sacred's file observer, with files that are never seen half-written.

    ``metrics.json`` is kept in memory and written at beats, less often as it grows, and always at the end, so a disk
    that is full for a while loses nothing.
    """

    def __init__(self, basedir: Path) -> None:
        super().__init__(basedir, source_dir=basedir.parent.parent / "_sources")  # one copy for all runs
        self._lock = threading.RLock()  # the last beat may still be writing when the run ends
        self._points: dict[str, dict[str, list[Any]]] = {}
        self._new = False
        self._not_before = 0.0

    def save_json(self, obj: Any, filename: str) -> None:
        _write_json(Path(str(self.dir)) / filename, flatten(obj), indent=2)

    def log_metrics(self, metrics_by_name: Mapping[str, Any], info: Mapping[str, Any]) -> None:
        with self._lock:
            for name, new in metrics_by_name.items():
                points = self._points.setdefault(name, {"steps": [], "timestamps": [], "values": []})
                points["steps"] += new["steps"]
                points["values"] += new["values"]
                points["timestamps"] += [stamp.isoformat() for stamp in new["timestamps"]]
                self._new = True
            if time.monotonic() >= self._not_before:
                with contextlib.suppress(OSError):  # the next beat writes all of it
                    self._write_metrics()

    def _write_metrics(self) -> None:
        if self._new:
            start = time.monotonic()
            _write_json(Path(str(self.dir)) / "metrics.json", self._points)
            self._new = False
            self._not_before = time.monotonic() + _METRICS_SHARE * (time.monotonic() - start)

    def heartbeat_event(self, *args: Any, **kwargs: Any) -> None:
        with self._lock, contextlib.suppress(OSError):
            super().heartbeat_event(*args, **kwargs)

    def completed_event(self, *args: Any, **kwargs: Any) -> None:
        with self._lock:
            self._write_metrics()
            super().completed_event(*args, **kwargs)

    def interrupted_event(self, *args: Any, **kwargs: Any) -> None:
        with self._lock:
            self._write_metrics()
            super().interrupted_event(*args, **kwargs)

    def failed_event(self, *args: Any, **kwargs: Any) -> None:
        with self._lock:
            self._write_metrics()
            super().failed_event(*args, **kwargs)


def _write_json(path: Path, content: Any, indent: int | None = None) -> None:
    # run.json and metrics.json have one writer (under its lock), so one temporary name will do
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(content, sort_keys=True, indent=indent))
    os.replace(temporary, path)


class _Warnings(logging.Handler):
    """What sacred has to say: its warnings become ours, its remarks about a run's end are ours to make."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.log: RunLog | None = None

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text.startswith(("Aborted after", "Failed after")):
            return
        if self.log is not None:
            self.log.warning(text)
        else:
            print(text, file=sys.stderr)


def run_parent(values: Mapping[str, Any]) -> Path:
    """Return ``<local_results_path>/sacred/<name>/<map_name, key or environment>``, where runs are numbered."""
    config = read(LoggingConfig, values)
    env_args = values.get("env_args") or {}
    task = env_args.get("map_name") or env_args.get("key") or values.get("env") or "unknown"
    return Path(config.local_results_path) / "sacred" / _folder_name(config.name) / _folder_name(str(task))


def _folder_name(text: str) -> str:
    """Return ``text`` as one folder's name (it may not lead anywhere else)."""
    name = re.sub(r"[/\\\x00-\x1f]", "_", text).strip()
    return f"_{name}" if name in ("", ".", "..") else name


def check_writable(folder: Path) -> None:
    """Make ``folder`` and see that files can be made in it.

    Raises:
        UserError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".write_test"):
            pass
    except OSError as error:
        raise UserError(
            f"The results folder {folder} cannot be written: {error.strerror or error}; "
            "set local_results_path to another one."
        ) from None


@dataclass
class _Stop:
    """Signals received so far; the first one ends the run, later ones must not disturb its clean end."""

    received: list[int] = field(default_factory=list)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)
        if len(self.received) == 1:
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated
        if self.received.count(signal.SIGINT) >= 3:  # somebody insists
            raise KeyboardInterrupt


@contextlib.contextmanager
def _signals(stop: _Stop) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {}
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # a process started by nohup ignores SIGHUP, and shall go on doing so
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def execute(
    values: Mapping[str, Any],
    notices: Sequence[str],
    body: Callable[[RunLog], dict[str, Any]],
    *,
    info: Mapping[str, Any] | None = None,
) -> Result:
    """Run ``body`` as one sacred run and return how it ended.

    The folder is ``run_parent(values)/<number>``; runs that start together get different numbers. Ctrl-C, SIGTERM and
    SIGHUP end the run as INTERRUPTED. An exception ends it as FAILED; its traceback is shown once and is in run.log.

    Args:
        values: the whole merged configuration; stored as config.json.
        notices: sentences to show at the start.
        body: does the work; what it returns is stored as the result.
        info: further facts to store in info.json, such as ``resumed_from``.

    Raises:
        UserError: the folder cannot be written or the configuration cannot be stored (nothing was started then), or
            ``body`` raised it (the run is FAILED, and run.log has the sentence).
    """
    config = read(LoggingConfig, values)
    parent = run_parent(values)
    stored, facts = storable(values), _facts(values, info or {})
    check_writable(parent)
    files, handler = _Files(parent.absolute()), _Warnings()
    experiment = _experiment(config, stored, files, handler)
    result, stop = Result("FAILED", parent), _Stop()
    logs: list[Path] = []
    # sacred's copy of the output is our own log: complete, and free of what only a terminal understands
    experiment.captured_out_filter = lambda _: _text(logs)  # type: ignore[assignment]

    @experiment.main
    def main(_run: Any) -> dict[str, Any]:
        result.folder = parent / str(_run._id)
        files.save_json(facts, "info.json")  # sacred's first beat may never come
        log = handler.log = RunLog(result.folder, _run.log_scalar)
        logs.append(log.folder / LOG_FILE)
        try:
            result.value = _observed(log, body, facts, notices, result)
        finally:
            handler.log = None
            log.close()
            _run.captured_out = _text(logs)
            _run.add_artifact(str(logs[0]), content_type="text/plain")
        return result.value

    with _signals(stop):
        try:
            experiment.run(
                info=facts,
                meta_info={"command_line": facts["command_line"], "comment": config.label},
                options={"--capture": "no", "--beat-interval": config.beat_interval},
            )
            result.status = "COMPLETED"
        except KeyboardInterrupt as error:
            result.status, result.error, result.value = "INTERRUPTED", error, None
            result.exit_code = 128 + int(stop.received[0] if stop.received else signal.SIGINT)
        except UserError:
            raise
        except Exception as error:
            if error is not result.error:  # not the body's, which was shown: sacred could not start or end the run
                print(traceback.format_exc(), file=sys.stderr)
            result.error, result.value, result.exit_code = error, None, 1
    return result


def _experiment(
    config: LoggingConfig, stored: Mapping[str, Any], files: _Files, handler: _Warnings
) -> sacred.Experiment:
    experiment = sacred.Experiment(config.name.replace(".", "_"), save_git_info=False)
    logger = logging.getLogger("oamarl.sacred")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.WARNING)
    experiment.logger = logger  # type: ignore[assignment]
    experiment.add_config(dict(stored))
    # sacred finds only what this module names; a result needs the exact source of the whole package
    for path in sorted(Path(__file__).resolve().parent.rglob("*.py")):
        experiment.add_source_file(str(path))
    experiment.observers.append(files)
    return experiment


def _facts(values: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, Any]:
    """Return what info.json holds, all of it known at the start (sacred cannot take later additions safely)."""
    seed = values.get("seed")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise UserError(f"seed={seed!r} is not allowed: a whole number from 0 to {2**32 - 1} is expected.")
    key = str((values.get("env_args") or {}).get("key") or "")
    facts = {"command_line": command_line(), "folder": os.getcwd(), "commit": commit(), "versions": versions(key)}
    return {**facts, **storable(info, "info")}


def _observed(
    log: RunLog,
    body: Callable[[RunLog], dict[str, Any]],
    facts: Mapping[str, Any],
    notices: Sequence[str],
    result: Result,
) -> dict[str, Any]:
    """Run ``body`` with everything said about it on the terminal and in run.log."""
    with log.capture():
        log.info(f"Run folder: {log.folder}")
        log.note(f"Command line: {facts['command_line']}")
        log.note(f"Versions: {', '.join(f'{name} {version}' for name, version in facts['versions'].items())}")
        for notice in notices:
            log.info(notice)
        try:
            return storable(body(log) or {}, "The result")
        except KeyboardInterrupt as error:
            log.warning(f"{'Asked to end' if isinstance(error, Terminated) else 'Interrupted'}: the run stops here.")
            raise
        except UserError as error:
            log.note(str(error))  # the command line shows it, alone
            raise
        except Exception as error:
            result.error = error
            log.error(traceback.format_exc().rstrip())
            raise


def _text(logs: Sequence[Path]) -> str:
    with contextlib.suppress(OSError):
        return "".join(path.read_text(encoding="utf-8", errors="replace") for path in logs)
    return ""
