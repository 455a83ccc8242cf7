"""A run's folder in sacred's file layout, written so that no reader sees an incomplete file and heartbeats are cheap.

:class:`RunFiles` is an observer in sacred's terms. It writes the files of sacred's own file observer, but reads curves
and text from the run's own records (:mod:`log`, :mod:`records`), which are authoritative.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..utils.errors import UserError
from .records import LOG_FILE, Place
from .series import Curves

CONFIG_FILE, RUN_FILE, INFO_FILE, CURVES_FILE, OUT_FILE = (
    *("config.json", "run.json", "info.json", "metrics.json", "cout.txt"),
)
#: metrics.json is rewritten as a whole; at most one part in this many of a run's time goes into it.
_CURVES_SHARE = 100


def write_json(path: Path, content: Any, indent: int | None = None) -> None:
    """Replace a JSON file as a whole. Each file has one writer, so one temporary name will do."""
    write_whole(path, _json_bytes(content, indent))


def _json_bytes(content: Any, indent: int | None = None) -> bytes:
    separators = None if indent else (",", ":")
    return json.dumps(content, sort_keys=True, indent=indent, separators=separators, default=str).encode()


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file as a whole."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def read_json(path: Path) -> dict[str, Any]:
    """Return the mapping in a JSON file; {} where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def folder_name(text: str) -> str:
    """Return ``text`` as one folder's or file's name (it may not lead anywhere else)."""
    name = re.sub(r"[/\\\x00-\x1f]", "_", text).strip()
    return f"_{name}" if name in ("", ".", "..") else name


def task_of(values: Mapping[str, Any]) -> str | None:
    """Return what a configuration plays: a map, a key, a kitchen, a scenario with its agents (Hopper-3x1), or the
    environment."""
    args = values.get("env_args")
    args = args if isinstance(args, Mapping) else {}
    for key in ("map_name", "key"):
        if args.get(key):
            return str(args[key])
    if values.get("env") == "overcooked" and args.get("layout"):
        return f"overcooked-{args['layout']}"
    if args.get("scenario"):
        return "-".join(str(args[key]) for key in ("scenario", "agent_conf") if args.get(key))
    return str(values["env"]) if values.get("env") else None


def check_writable(folder: Path) -> None:
    """Create ``folder`` and check that files can be created in it.

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


def store_source(content: bytes, name: str, folder: Path) -> Path:
    """Keep one copy of each version of a source file: ``<stem>_<md5>.<suffix>`` in ``folder``; returns its path."""
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    stem, suffix = os.path.splitext(os.path.basename(name))
    path = folder / folder_name(f"{stem}_{digest}{suffix}")
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # other runs may be starting at this moment
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(content)
        os.replace(file.name, path)
    return path


class RunFiles:
    """The observer: ``run.json``, ``config.json``, ``info.json``, ``metrics.json`` and ``cout.txt`` of one run.

    ``cout.txt`` and ``metrics.json`` follow ``run.log`` and ``metrics.jsonl``. An error at a heartbeat loses nothing
    (the next one writes everything); an error at the end is reported through ``say``.

    Args:
        parent: the folder in which runs are numbered.
        sources: where one copy of each source file is kept, for all runs.
        facts: content of info.json.
        say: called with a sentence about a file that could not be written at the end.
    """

    priority = 20

    def __init__(self, parent: Path, sources: Path, facts: Mapping[str, Any], say: Callable[[str], None]) -> None:
        self.parent, self.sources, self.facts, self.say = parent, sources, dict(facts), say
        self.folder = parent  # until the run has a number
        self.entry: dict[str, Any] = {}
        self._once: dict[str, bytes] = {}  # what is written at the start and not changed: name -> content
        self._place: Place | None = None
        self._lock = threading.RLock()  # the last beat may still be writing when the run ends
        self._curves = Curves(parent)
        self._not_before = 0.0
        self._unwritten = False

    # -- events of sacred ------------------------------------------------------------------------------------

    def started_event(
        self, ex_info: Any, command: str, host_info: Any, start_time: dt.datetime, config: Any, meta_info: Any, _id: Any
    ) -> str:
        """Make the folder with the next free number, and return that number.

        Raises:
            UserError: its files cannot be written.
        """
        try:
            self._start(ex_info, command, host_info, start_time, config, meta_info)
        except OSError as error:
            raise UserError(f"Cannot write the run's folder in {self.parent}: {error.strerror or error}.") from None
        return self.folder.name

    def _start(
        self, ex_info: Any, command: str, host_info: Any, start_time: dt.datetime, config: Any, meta_info: Any
    ) -> None:
        self.folder = self._numbered()
        self._place = Place(self.folder)
        self._curves = Curves(self.folder)
        self.entry = {
            "experiment": {**ex_info, "sources": self._stored(ex_info)},
            "command": command,
            "host": dict(host_info),
            "start_time": start_time.isoformat(),
            "meta": meta_info,
            "status": "RUNNING",
            "resources": [],
            "artifacts": [],
            "heartbeat": None,
        }
        # a reader that sees run.json finds the other files as well
        self._once = {CONFIG_FILE: _json_bytes(config, 2), INFO_FILE: _json_bytes(self.facts, 2)}
        self._write_once()
        (self.folder / OUT_FILE).touch()
        self._write_run()

    def heartbeat_event(self, info: Any, captured_out: str, beat_time: dt.datetime, result: Any) -> None:
        """Update all files."""
        with self._lock:
            self.entry["heartbeat"] = beat_time.isoformat()
            self.entry["result"] = result
            if self._place is None or not self._place.own():
                return  # the folder at this path is not this run's
            for write in (self._write_once, self._write_run, self._write_out, self._write_curves):
                with contextlib.suppress(OSError):
                    write()

    def settle(self, folder: Path, foreign: bool) -> None:
        """Write the remaining content to ``folder``, the run's moved or new folder; nowhere if it is ``foreign``."""
        with self._lock:
            self.folder = self._curves.folder = folder
            if self._place is not None:
                self._place.close()
            self._place = None if foreign else Place(folder) if folder.is_dir() else None

    def completed_event(self, stop_time: dt.datetime, result: Any) -> None:
        """Write all files for the last time."""
        self._end(stop_time=stop_time.isoformat(), result=result, status="COMPLETED")

    def interrupted_event(self, interrupt_time: dt.datetime, status: str) -> None:
        """Write all files for the last time."""
        self._end(stop_time=interrupt_time.isoformat(), status=status)

    def failed_event(self, fail_time: dt.datetime, fail_trace: Any) -> None:
        """Write all files for the last time."""
        self._end(stop_time=fail_time.isoformat(), status="FAILED", fail_trace=fail_trace)

    def artifact_event(self, name: str, filename: str, metadata: Any = None, content_type: Any = None) -> None:
        """Keep a copy of a file in the folder (unless it lies there), and name it in run.json."""
        with self._lock:
            with contextlib.suppress(shutil.SameFileError):
                shutil.copyfile(filename, self.folder / folder_name(name))
            if name not in self.entry["artifacts"]:
                self.entry["artifacts"].append(name)
            self._write_run()

    def resource_event(self, filename: str) -> None:
        """Nothing here opens files through sacred."""

    def log_metrics(self, metrics_by_name: Any, info: Any) -> None:
        """Points come from metrics.jsonl."""

    def join(self) -> None:
        """Nothing is left to wait for."""

    # -- files -----------------------------------------------------------------------------------------------

    def _numbered(self) -> Path:
        self.parent.mkdir(parents=True, exist_ok=True)
        number = max((int(p.name) for p in self.parent.iterdir() if p.name.isdecimal()), default=0) + 1
        while True:
            try:
                (self.parent / str(number)).mkdir()
                return self.parent / str(number)
            except FileExistsError:  # another run started at the same moment
                number += 1

    def _stored(self, ex_info: Mapping[str, Any]) -> list[list[str]]:
        """Copy the sources; return their names, and where the copies are, seen from the folder of numbers."""
        stored = []
        for name, _ in ex_info["sources"]:
            content = Path(ex_info["base_dir"], name).read_bytes()
            stored.append([name, os.path.relpath(store_source(content, name, self.sources), self.parent)])
        return stored

    def _end(self, **last: Any) -> None:
        if not self.entry:
            return  # it never started
        with self._lock:
            self.entry.update(last)
            self._not_before, self._unwritten = 0.0, self._unwritten or bool(self._curves.series)
            there = self._place is not None and self._place.own()
            problem = "" if there else "the folder is gone"
            # each of them even if others fail
            for write in (self._write_once, self._write_run, self._write_out, self._write_curves) if there else ():
                try:
                    write()
                except OSError as error:
                    problem = error.strerror or str(error)
            if problem:
                self.say(f"Not all files in {self.folder} are up to date: {problem}.")
            if self._place is not None:
                self._place.close()

    def _write_once(self) -> None:
        """Write what does not change, where it is not there (any more) or has been changed."""
        for name, content in self._once.items():
            path = self.folder / name
            # a pipe under its name would be waited for
            if not (path.is_file() and path.read_bytes() == content):
                write_whole(path, content)

    def _write_run(self) -> None:
        write_json(self.folder / RUN_FILE, self.entry, indent=2)

    def _write_out(self) -> None:
        """Append the new part of run.log to cout.txt."""
        log_file, out_file = self.folder / LOG_FILE, self.folder / OUT_FILE
        if out_file.exists() and not out_file.is_file():
            raise OSError(f"{OUT_FILE} is not a file")  # opening a pipe would block
        if log_file.is_file():  # not where the run ended before it said anything
            with open(log_file, "rb") as log, open(out_file, "ab") as out:
                log.seek(out.tell())
                shutil.copyfileobj(log, out)

    def _write_curves(self) -> None:
        self._unwritten = self._curves.update() or self._unwritten
        start = time.monotonic()
        if self._unwritten and start >= self._not_before:
            write_json(self.folder / CURVES_FILE, self._curves.sacred())
            self._unwritten = False
            self._not_before = time.monotonic() + _CURVES_SHARE * (time.monotonic() - start)
