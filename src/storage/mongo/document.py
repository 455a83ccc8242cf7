"""The conversion of a run's folder to the document that sacred's own observer would have stored, and back."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..records import LOG_FILE
from ..run_files import CONFIG_FILE, INFO_FILE, OUT_FILE, RUN_FILE, read_json
from ..series import milliseconds, moment

FORMAT = "MongoObserver-0.7.0"  # of sacred, whose collections these are
#: Bytes of output in the document, the newest (MongoDB takes 16 MB in all); the artifact run.log has all of it.
OUT_LIMIT = 1_000_000
_TIMES = ("start_time", "stop_time", "heartbeat")
_INT64 = 2**63


def storable(value: Any) -> Any:
    """Return ``value`` in the form that MongoDB accepts: as in sacred, '.' in a key becomes ',' and '$' '@'."""
    if isinstance(value, Mapping):
        return {_key(str(name)): storable(v) for name, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [storable(v) for v in value]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # half a surrogate pair is no text
    if isinstance(value, int) and not isinstance(value, bool) and not -_INT64 <= value < _INT64:
        return str(value)
    return value


def _key(name: str) -> str:
    name = storable(name).replace(".", ",").replace("\x00", "")
    return f"@{name[1:]}" if name.startswith("$") else name


def uid(folder: Path) -> str:
    """Return what identifies a run wherever it is stored: its own ``uid``, or one of what it cannot share."""
    found = read_json(folder / INFO_FILE).get("uid")
    if isinstance(found, str) and found:
        return found
    run = read_json(folder / RUN_FILE)
    parts = [run.get("start_time"), run.get("host"), read_json(folder / CONFIG_FILE)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def document(folder: Path) -> dict[str, Any]:
    """Return sacred's document of the run in ``folder``, but for what only a database can name: ``_id``, and the ids
    of sources, artifacts and metrics."""
    run = read_json(folder / RUN_FILE)
    found = {
        "experiment": {},
        "command": "main",
        "host": {},
        "meta": {},
        "status": "RUNNING",
        **storable(run),
        "format": FORMAT,
        "config": storable(read_json(folder / CONFIG_FILE)),
        "info": {**storable(read_json(folder / INFO_FILE)), "uid": uid(folder)},
        "captured_out": output(folder),
        "resources": [],
        "artifacts": [],
    }
    for name in _TIMES:
        if name in found or name != "stop_time":
            found[name] = _time(found.get(name))
    return found


def _time(value: Any) -> dt.datetime | None:
    try:
        return moment(milliseconds(value))  # MongoDB's resolution
    except (TypeError, ValueError):
        return None


def output(folder: Path) -> str:
    """Return the run's output, or its end where it is long."""
    for name in (LOG_FILE, OUT_FILE):
        try:
            with open(folder / name, "rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - OUT_LIMIT))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            continue
        if size <= OUT_LIMIT:
            return text
        return f"[the first {size - OUT_LIMIT:,} bytes are in {name}]\n{text}"
    return ""


def run_entry(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of run.json of a document, sources and artifacts left as they are."""
    others = ("_id", "config", "info", "captured_out", "format")
    entry = {name: value for name, value in found.items() if name not in others}
    for name in _TIMES:
        if isinstance(entry.get(name), dt.datetime):
            entry[name] = entry[name].isoformat()
    return entry


def number(value: Any) -> float:
    """Return a stored value of a metric as a float; what is no number is NaN."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
