"""The export of a run from a database to a folder, for any run that sacred observed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import gridfs
from gridfs.errors import NoFile
from pymongo.database import Database

from ...utils.errors import UserError
from ..records import LOG_FILE, METRICS_FILE, metrics_line
from ..run_files import (
    CONFIG_FILE,
    CURVES_FILE,
    INFO_FILE,
    OUT_FILE,
    RUN_FILE,
    folder_name,
    read_json,
    store_source,
    write_json,
    write_whole,
)
from ..series import Curves, milliseconds
from .document import number, run_entry, uid

_OURS = {CONFIG_FILE, CURVES_FILE, INFO_FILE, OUT_FILE, RUN_FILE, METRICS_FILE}


def fetch(database: Database[dict[str, Any]], run_id: int, parent: Path) -> Path:
    """Write run ``run_id`` of ``database`` as ``parent/<run_id>`` and return that folder.

    A second call brings the folder up to date. Names that lead elsewhere, or to the files written here, are changed.

    Raises:
        UserError: there is no such run, or the folder belongs to another one.
        OSError: the folder cannot be written.
    """
    found = database.runs.find_one({"_id": run_id})
    if found is None:
        raise UserError(f"There is no run {run_id} in the database '{database.name}'.")
    folder = parent / str(run_id)
    info = {name: value for name, value in (found.get("info") or {}).items() if name != "metrics"}
    if (folder / RUN_FILE).exists() and not _same(folder, info, found):
        raise UserError(f"{folder} holds another run: give --to files another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    fs = gridfs.GridFS(database)
    curves = _curves(database.metrics.find({"run_id": run_id}), folder)
    write_json(folder / CONFIG_FILE, found.get("config") or {}, indent=2)
    write_json(folder / INFO_FILE, info, indent=2)
    write_json(folder / CURVES_FILE, curves.sacred())
    write_whole(folder / METRICS_FILE, _lines(curves))
    entry = run_entry(found)
    entry["artifacts"] = _artifacts(fs, found.get("artifacts") or [], folder)
    sources = _sources(fs, (found.get("experiment") or {}).get("sources") or [], parent / "_sources")
    entry["experiment"] = {**(found.get("experiment") or {}), "sources": sources}
    whole = folder / LOG_FILE  # the document may hold only its end
    text = whole.read_bytes() if whole.is_file() else str(found.get("captured_out") or "").encode()
    write_whole(folder / OUT_FILE, text)
    write_json(folder / RUN_FILE, entry, indent=2)  # last: it says that the folder is a run
    return folder


def _same(folder: Path, info: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    if info.get("uid"):
        return uid(folder) == info["uid"]
    return read_json(folder / RUN_FILE).get("start_time") == run_entry(found).get("start_time")


def _curves(metrics: Iterable[Mapping[str, Any]], folder: Path) -> Curves:
    curves = Curves(folder, limit=sys.maxsize)  # what is there was thinned already, if at all
    for metric in metrics:
        for row in zip(*(metric.get(column) or [] for column in ("steps", "values", "timestamps")), strict=False):
            try:
                curves.append(str(metric["name"]), int(row[0]), number(row[1]), milliseconds(row[2]))
            except (TypeError, ValueError):
                continue  # a step or a time that is none
    return curves


def _lines(curves: Curves) -> bytes:
    """Return metrics.jsonl: what was stored at one moment of one step is one record again."""
    records: dict[tuple[int, int, int], dict[str, float]] = {}
    for name, series in curves.series.items():
        for step, value, time in zip(*series.points(), strict=True):
            again = 0  # the same metric may have been stored twice in one millisecond
            while name in records.setdefault((time, step, again), {}):
                again += 1
            records[time, step, again][name] = value
    return b"".join(metrics_line(metrics, step, time / 1000) for (time, step, _), metrics in sorted(records.items()))


def _artifacts(fs: gridfs.GridFS, artifacts: Iterable[Mapping[str, Any]], folder: Path) -> list[str]:
    names = []
    for artifact in artifacts:
        name = folder_name(str(artifact["name"]))
        name = f"_{name}" if name in _OURS else name
        try:
            write_whole(folder / name, fs.get(artifact["file_id"]).read())
        except NoFile:
            continue
        names.append(name)
    return names


def _sources(fs: gridfs.GridFS, sources: Iterable[Any], folder: Path) -> list[list[str]]:
    stored = []
    for name, file_id in sources:
        try:
            path = store_source(fs.get(file_id).read(), str(name), folder)
        except NoFile:
            continue
        stored.append([str(name), f"{folder.name}/{path.name}"])
    return stored
