"""The delivery of one run's folder to a database: all of its content, or new content.

Nothing is assumed about what happened to an operation that got no answer: the next :meth:`Delivery.send` looks at
what the database has. Points are appended on the condition that as many are there as were sent, so none is stored
twice and none is left out.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import mimetypes
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gridfs
from bson import ObjectId
from pymongo import UpdateOne
from pymongo.database import Database
from pymongo.errors import AutoReconnect, DuplicateKeyError, ServerSelectionTimeoutError

from ..records import LOG_FILE
from ..run_files import RUN_FILE, read_json
from ..series import Curves, Points, Series, moment
from .document import document, storable

_MISSING = object()
_CHUNK = 255 * 1024  # bytes; GridFS's own size


class Moved(Exception):
    """The database does not hold what was sent to it: another process wrote there."""


@dataclass
class _Metric:
    """What the database has of one metric: its document's id, points, and their stride (0: not known)."""

    id: ObjectId
    size: int
    stride: int


class Delivery:
    """One run's folder and the same run in a database.

    Args:
        database: where sacred's collections ``runs``, ``metrics``, ``fs.files`` and ``fs.chunks`` are.
        folder: the run's folder.
    """

    def __init__(self, database: Database[dict[str, Any]], folder: Path) -> None:
        self.db, self.folder = database, folder
        self.fs = gridfs.GridFS(database)
        self.curves = Curves(folder)
        self.id: Any = None  # the run's number in the database
        self.new = False  # whether that number was made here
        self._certain = False  # what follows is what the database holds
        self._fields: dict[str, Any] = {}
        self._metrics: dict[str, _Metric] = {}
        self._artifacts: dict[str, tuple[Any, str]] = {}  # name -> (file's id, md5)
        self._sources: list[list[Any]] | None = None

    def send(self, final: bool, attempts: int = 2) -> None:
        """Send what is new, and again at once where a connection broke or another process wrote there.

        Args:
            final: nothing follows: thinned curves end with their newest point.
            attempts: how often at most (connections of before a server was started anew are of no use, new ones are).

        Raises:
            PyMongoError: no answer, or a refusal; call again to continue from what has arrived.
            Moved: another process wrote there at every attempt.
            OSError: the folder cannot be read.
        """
        for left in reversed(range(attempts)):
            try:
                self._sync(final)
                return
            except ServerSelectionTimeoutError:
                raise
            except (AutoReconnect, Moved):
                if not left:
                    raise

    def _sync(self, final: bool) -> None:
        doc = document(self.folder)
        if not self._certain:
            self._look_up(doc["info"]["uid"])
        self._certain = False  # until everything below has been answered
        if self._sources is None:
            self._sources = self._send_sources(doc["experiment"])
        doc["experiment"]["sources"] = self._sources
        if self.id is None:
            self._insert(doc)
        self._send_metrics(final)
        metrics = [{"name": name, "id": str(metric.id)} for name, metric in self._metrics.items()]
        doc["info"] = {**doc["info"], "metrics": metrics}
        doc["artifacts"] = self._send_artifacts(read_json(self.folder / RUN_FILE).get("artifacts") or [])
        self._send_fields(doc)  # last: a run whose status says that it is over is complete
        self._certain = True

    # -- what is there ---------------------------------------------------------------------------------------

    def _look_up(self, uid: str) -> None:
        found = self.db.runs.find_one({"info.uid": uid}, {"artifacts": 1})
        if found is None:
            self._take_back()
        self.id = None if found is None else found["_id"]
        self._fields, self._metrics, self._artifacts, self._sources = {}, {}, {}, None
        if found is None:
            return
        sizes = [{"$match": {"run_id": self.id}}, {"$project": {"name": 1, "size": {"$size": "$steps"}}}]
        for metric in self.db.metrics.aggregate(sizes):
            self._metrics[metric["name"]] = _Metric(metric["_id"], metric["size"], 0)
        files = {entry["file_id"]: entry["name"] for entry in found.get("artifacts") or []}
        # also by its place: a file may have arrived, and the answer to it, or what the run says of it, may not
        place = self._place("")
        which = [{"_id": {"$in": list(files)}}, {"filename": {"$regex": f"^{re.escape(place)}"}}]
        for file in self.db.fs.files.find({"$or": which}, {"filename": 1, "md5": 1}):
            name = files.get(file["_id"]) or str(file["filename"]).removeprefix(place)
            if file["_id"] in files or name not in self._artifacts:
                self._artifacts[name] = (file["_id"], file.get("md5", ""))

    def _place(self, name: str) -> str:
        """Return the name that an artifact has among GridFS's files; sacred's own form."""
        return f"artifact://{self.db.runs.name}/{self.id}/{name}"

    # -- the run's document ----------------------------------------------------------------------------------

    def _insert(self, doc: Mapping[str, Any]) -> None:
        while True:
            # numbers only: other programs may name runs otherwise
            newest = next(self.db.runs.find({"_id": {"$gte": 0}}, {"_id": 1}).sort("_id", -1).limit(1), {"_id": 0})
            try:
                self.db.runs.insert_one({"_id": int(newest["_id"]) + 1, **doc})
            except DuplicateKeyError:  # another run started at the same moment
                continue
            self.id, self.new = int(newest["_id"]) + 1, True
            self._fields = dict(doc)
            return

    def _send_fields(self, doc: Mapping[str, Any]) -> None:
        changed = {k: v for k, v in doc.items() if self._fields.get(k, _MISSING) != v}
        if changed and not self.db.runs.update_one({"_id": self.id}, {"$set": changed}).matched_count:
            raise Moved("the run was deleted")
        self._fields = dict(doc)

    def _take_back(self) -> None:
        """Delete what was sent for a run that is no longer there (it was deleted meanwhile): nothing leads to it."""
        if self._metrics:
            self.db.metrics.delete_many({"_id": {"$in": [metric.id for metric in self._metrics.values()]}})
        for file_id, _ in self._artifacts.values():
            self.fs.delete(file_id)

    # -- metrics ---------------------------------------------------------------------------------------------

    def _send_metrics(self, final: bool) -> None:
        self.curves.update()
        inserts, updates = [], []
        for name, series in self.curves.series.items():
            metric = self._metrics.get(name)
            if metric is None:
                metric = self._metrics[name] = _Metric(ObjectId(), 0, series.stride)
                points = series.points(0, final)
                head = {"_id": metric.id, "run_id": self.id, "name": storable(name)}
                inserts.append({**head, **_columns(points)})
            elif _continues(metric, series):
                points = series.points(metric.size, final)
                push = {"$push": {column: {"$each": entries} for column, entries in _columns(points).items()}}
                # on condition, since another process may have sent this metric too
                condition = {"_id": metric.id, "steps": {"$size": metric.size}}
                if points[0]:
                    updates.append(UpdateOne(condition, push))
            else:
                metric.size, points = 0, series.points(0, final)
                updates.append(UpdateOne({"_id": metric.id}, {"$set": _columns(points)}))
            metric.size, metric.stride = metric.size + len(points[0]), series.stride
        if inserts:
            self.db.metrics.insert_many(inserts)
        if updates and self.db.metrics.bulk_write(updates, ordered=False).matched_count < len(updates):
            raise Moved("its metrics were changed")

    # -- files -----------------------------------------------------------------------------------------------

    def _send_sources(self, experiment: Mapping[str, Any]) -> list[list[Any]]:
        """Store the sources that the database lacks; return names and ids. Copies that are gone are left out."""
        base, contents = str(experiment.get("base_dir", "")), {}
        for name, copy in experiment.get("sources") or []:
            try:
                contents[name] = (self.folder.parent / str(copy)).read_bytes()
            except OSError:
                continue
        paths = {name: f"{base}/{name}" for name in contents}
        there: dict[tuple[str, str], Any] = {}
        for file in self.db.fs.files.find({"filename": {"$in": list(paths.values())}}, {"filename": 1, "md5": 1}):
            there[file["filename"], file.get("md5", "")] = file["_id"]
        # sacred looks for its sources by this md5, which GridFS itself no longer stores
        md5 = {name: _digest([content]) for name, content in contents.items()}
        ids = {name: there.get((paths[name], md5[name])) for name in contents}
        lacking = [name for name in contents if ids[name] is None]
        for name in lacking[:1]:  # makes GridFS's indexes
            ids[name] = self.fs.put(contents[name], filename=paths[name], md5=md5[name])
        now, chunks, files = dt.datetime.now(dt.timezone.utc), [], []
        for name in lacking[1:]:  # all at once: one by one they are hundreds of round trips
            ids[name], size = ObjectId(), len(contents[name])
            for n, start in enumerate(range(0, size, _CHUNK)):
                chunks.append({"files_id": ids[name], "n": n, "data": contents[name][start : start + _CHUNK]})
            head = {"_id": ids[name], "filename": paths[name], "md5": md5[name]}
            files.append({**head, "chunkSize": _CHUNK, "length": size, "uploadDate": now})
        if chunks:
            self.db.fs.chunks.insert_many(chunks)
        if files:
            self.db.fs.files.insert_many(files)
        return [[name, ids[name]] for name in contents]

    def _send_artifacts(self, names: list[str]) -> list[dict[str, Any]]:
        for name in names:
            path = self.folder / name
            if not path.is_file():
                continue
            old = self._artifacts.get(name)
            with open(path, "rb") as file:
                md5 = _digest(iter(partial(file.read, 1 << 20), b""))
                if old is not None and old[1] == md5:
                    continue
                file.seek(0)
                kind = "text/plain" if name == LOG_FILE else mimetypes.guess_type(name)[0]
                stored = self.fs.put(file, filename=self._place(name), metadata=None, contentType=kind, md5=md5)
                self._artifacts[name] = (stored, md5)
            if old is not None:
                self.fs.delete(old[0])
        return [{"name": name, "file_id": file_id} for name, (file_id, _) in self._artifacts.items()]


def _continues(metric: _Metric, series: Series) -> bool:
    """Whether what the database has is the beginning of what should be there."""
    if metric.stride == 0:  # found there: known to be a beginning only where nothing was ever thinned
        return series.stride == 1 and metric.size <= len(series.steps)
    return metric.stride == series.stride and metric.size <= len(series.steps)


def _columns(points: Points) -> dict[str, Any]:
    steps, values, times = points
    return {"steps": steps, "values": values, "timestamps": [moment(time) for time in times]}


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
