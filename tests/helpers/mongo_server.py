"""A server that speaks MongoDB's wire protocol (OP_MSG over TCP) in front of mongomock, for tests.

It can be stopped and started again on the same port with its data kept, made slow, made to drop connections before it
answers, and made to refuse. What mongomock does not check itself is checked here: sizes and names of keys.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import struct
import threading
from typing import Any

import bson
import mongomock

_HEADER = struct.Struct("<iiii")  # length, request, response to, operation
_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013
_LIMIT = 16 * 1024 * 1024

Document = dict[str, Any]


class Refused(Exception):
    """An answer with ``ok: 0``: the message and MongoDB's code."""


class MongoServer:
    """Start it with :meth:`start`; ``url`` names it. Use it as a context to have it stopped at the end.

    | field | meaning |
    |---|---|
    | client | the mongomock client behind it, to look at what was stored |
    | delay | seconds that every answer but those of the handshake takes |
    | cut | calls with a command's name; True: do what it says and drop the connection instead of answering |
    | before | calls with a command's name, before it is done |
    | refuse | code and text of the error that every write is answered with |
    | commands | names of all commands received |
    """

    def __init__(self) -> None:
        self.client: Any = mongomock.MongoClient()
        self.delay = 0.0
        self.cut: Any = lambda command: False
        self.before: Any = lambda command: None
        self.refuse: tuple[int, str] | None = None
        self.commands: list[str] = []
        self.port = 0
        self._store = threading.RLock()  # mongomock knows no threads
        self._stopping = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._server: socketserver.ThreadingTCPServer | None = None

    def url(self, rest: str = "") -> str:
        """The address, with ``rest`` (such as ``/database``) after it."""
        return f"mongodb://127.0.0.1:{self.port}{rest}"

    def start(self) -> MongoServer:
        """Listen: on the same port as before, if there was one."""
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                outer._sockets.add(self.request)
                with contextlib.suppress(OSError, EOFError):
                    while True:
                        outer._answer(self.request)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._stopping.clear()
        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop listening and drop all connections, as a server that was killed; the data stay."""
        self._stopping.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for connection in list(self._sockets):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._sockets.clear()

    def __enter__(self) -> MongoServer:
        return self.start()

    def __exit__(self, *args: object) -> None:
        self.stop()

    # -- protocol --------------------------------------------------------------------------------------------

    def _answer(self, connection: socket.socket) -> None:
        length, request, _, operation = _HEADER.unpack(_exactly(connection, _HEADER.size))
        body = _exactly(connection, length - _HEADER.size)
        if operation == _OP_QUERY:  # the handshake of older and newer drivers
            start = body.index(b"\0", 4) + 1 + 8
            reply = bson.encode({**_HELLO, "ok": 1.0})
            head, kind = struct.pack("<iqii", 8, 0, 0, 1), _OP_REPLY
            assert bson.decode(body[start:])
        else:
            command, database = _message(body)
            name = next(iter(command))
            self.commands.append(name)
            if name.lower() not in ("hello", "ismaster") and self.delay:
                self._stopping.wait(self.delay)
            self.before(name)
            try:
                with self._store:
                    answer = {**self._do(name, command, self.client[database]), "ok": 1.0}
            except Refused as error:
                answer = {"ok": 0.0, "code": error.args[1], "errmsg": error.args[0], "codeName": "Refused"}
            if self.cut(name):
                connection.shutdown(socket.SHUT_RDWR)
                raise EOFError
            reply, head, kind = bson.encode(answer), struct.pack("<IB", 0, 0), _OP_MSG
        message = head + reply
        connection.sendall(_HEADER.pack(_HEADER.size + len(message), 0, request, kind) + message)

    def _do(self, name: str, command: Document, db: Any) -> Document:
        if name.lower() in ("hello", "ismaster"):
            return dict(_HELLO)
        if name in ("ping", "endSessions", "createIndexes"):
            return {}
        if name == "listIndexes":
            raise Refused("no such collection", 26)
        if name == "dropDatabase":
            self.client.drop_database(db.name)
            return {}
        if name in ("insert", "update", "delete") and self.refuse:
            raise Refused(self.refuse[1], self.refuse[0])
        action = getattr(self, f"_{name}", None)
        if action is None:
            raise Refused(f"no such command: {name}", 59)
        return dict(action(command, db[command[name]]))

    def _insert(self, command: Document, collection: Any) -> Document:
        errors = []
        for i, doc in enumerate(command["documents"]):
            _check(doc)
            try:
                collection.insert_one(doc)
            except mongomock.DuplicateKeyError:
                errors.append({"index": i, "code": 11000, "errmsg": "duplicate key"})
        return {"n": len(command["documents"]) - len(errors), **({"writeErrors": errors} if errors else {})}

    def _update(self, command: Document, collection: Any) -> Document:
        matched, modified, upserted = 0, 0, []
        for i, one in enumerate(command["updates"]):
            change = collection.update_many if one.get("multi") else collection.update_one
            done = change(one["q"], one["u"], upsert=one.get("upsert", False))
            for doc in collection.find({"_id": one["q"]["_id"]}) if "_id" in one["q"] else []:
                _check(doc)
            matched, modified = matched + done.matched_count, modified + (done.modified_count or 0)
            if done.upserted_id is not None:
                upserted.append({"index": i, "_id": done.upserted_id})
                matched += 1
        return {"n": matched, "nModified": modified, **({"upserted": upserted} if upserted else {})}

    def _delete(self, command: Document, collection: Any) -> Document:
        count = 0
        for one in command["deletes"]:
            remove = collection.delete_one if one.get("limit") else collection.delete_many
            count += remove(one["q"]).deleted_count
        return {"n": count}

    def _find(self, command: Document, collection: Any) -> Document:
        found = collection.find(command.get("filter") or {}, command.get("projection") or None)
        if command.get("sort"):
            found = found.sort(list(command["sort"].items()))
        found = found.skip(command.get("skip", 0))
        return _cursor(collection, list(found.limit(abs(command.get("limit", 0)))))

    def _aggregate(self, command: Document, collection: Any) -> Document:
        return _cursor(collection, list(collection.aggregate(command["pipeline"])))


_HELLO: Document = {
    "isWritablePrimary": True, "ismaster": True, "helloOk": True, "minWireVersion": 0, "maxWireVersion": 21,
    "maxBsonObjectSize": _LIMIT, "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000, "readOnly": False,
}  # fmt: skip


def _cursor(collection: Any, docs: list[Document]) -> Document:
    return {"cursor": {"id": bson.Int64(0), "ns": f"{collection.database.name}.{collection.name}", "firstBatch": docs}}


def _check(doc: Document) -> None:
    """Refuse what MongoDB, or a tool that reads it, would."""
    if len(bson.encode(doc, check_keys=True)) > _LIMIT:
        raise Refused("object to insert too large", 10334)


def _message(body: bytes) -> tuple[Document, str]:
    """Return the command of an OP_MSG body and its database."""
    at, command, sequences = 4, {}, {}
    while at < len(body):
        kind, at = body[at], at + 1
        size = struct.unpack_from("<i", body, at)[0]
        if kind == 0:
            command = bson.decode(body[at : at + size])
        else:
            end = body.index(b"\0", at + 4)
            sequences[body[at + 4 : end].decode()] = bson.decode_all(body[end + 1 : at + size])
        at += size
    return {**command, **sequences}, command["$db"]


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = connection.recv(min(size, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
