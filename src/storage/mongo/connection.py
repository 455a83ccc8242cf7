"""The MongoDB that ``MONGO_URL`` names: its address without secrets, connections with short time-outs, and messages
for errors there. Only this package imports pymongo."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ...utils.errors import UserError, first_line

if TYPE_CHECKING:
    from pymongo import MongoClient

VARIABLE = "MONGO_URL"
DATABASE = "oamarl"  # where the URL names none

#: Bounds of every operation (milliseconds): finding a server that answers, connecting, waiting for an answer.
TIMEOUTS = {"serverSelectionTimeoutMS": 2000, "connectTimeoutMS": 2000, "socketTimeoutMS": 5000}

#: options of the URL that name files
_FILES = ("tlsCAFile", "tlsCRLFile", "tlsCertificateKeyFile")
_FORM = re.compile(r"mongodb(\+srv)?://(?:(?P<user>[^@]*)@)?(?P<hosts>[^/?@]+)(?:/(?P<path>[^?@]*))?(?:\?[^@]*)?")
#: MongoDB's codes for a wrong password and for a user who may not do what was asked
_LOGIN, _FORBIDDEN = (18, 8000), (13,)


@dataclass(frozen=True)
class Address:
    """Where the database is.

    | field | meaning |
    |---|---|
    | url | with the password: never shown, stored or passed on |
    | shown | hosts and ports alone |
    | database | its name |
    """

    url: str = field(repr=False)
    shown: str
    database: str

    def __str__(self) -> str:
        return f"{self.shown}/{self.database}"

    def redact(self, text: str) -> str:
        """Return ``text`` without the URL and without what stands before its '@'."""
        user = (_FORM.fullmatch(self.url) or {"user": None})["user"] or ""
        secrets = [self.url, user, unquote(user)]
        if ":" in user:
            secrets += [user.partition(":")[2], unquote(user.partition(":")[2])]
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


def address(environ: Mapping[str, str] | None = None) -> Address | None:
    """Return the address in ``MONGO_URL``; None where that is not set.

    Raises:
        UserError: it is no address of a MongoDB, or names a TLS file that cannot be read (the message shows nothing of
            the address).
    """
    url = (os.environ if environ is None else environ).get(VARIABLE, "").strip()
    if not url:
        return None
    match = _FORM.fullmatch(url)
    expected = "mongodb://[user:password@]host[:port][/database], with %-escapes in user and password, is expected."
    if match is None or not _valid(url):
        raise UserError(f"{VARIABLE} is not the address of a MongoDB: {expected}")
    database = unquote(match["path"] or "") or DATABASE
    if re.search(r"[\s/\\.\"$*<>:|?\x00]", database) or len(database.encode()) > 63:
        raise UserError(f"{VARIABLE} names a database with a character that MongoDB does not allow: {expected}")
    return Address(url, match["hosts"], database)


def _valid(url: str) -> bool:
    from pymongo.errors import PyMongoError
    from pymongo.uri_parser import parse_uri

    if url.startswith("mongodb+srv:"):
        return True  # to look further would ask the network
    try:
        parse_uri(url, validate=True, warn=False)
    except (PyMongoError, ValueError):
        return False
    except OSError as error:  # pymongo opens the files that the options name, and says which option it is
        option = re.search(r"The (\w+) file", str(error))
        which = next((name for name in _FILES if option and name.lower() == option[1].lower()), "an option")
        reason = os.strerror(error.errno) if error.errno else first_line(error)
        raise UserError(f"{VARIABLE}: the TLS file of {which} cannot be read: {reason}.") from None
    return True


def connect(where: Address) -> MongoClient[dict[str, Any]]:
    """Return a client; it connects when first used, in threads of its own.

    Raises:
        PyMongoError: the options in the URL contradict one another, or its host has no SRV record.
    """
    from pymongo import MongoClient

    return MongoClient(where.url, appname="oamarl", **TIMEOUTS)  # type: ignore[arg-type]


def reason(error: BaseException, where: Address) -> str:
    """Return what went wrong as the end of a sentence that begins with the server's name, without secrets."""
    from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError

    if isinstance(error, AutoReconnect):  # time-outs and failed searches for a server are of this kind
        return "does not answer"
    if isinstance(error, OperationFailure) and error.code in _LOGIN:
        return "refuses the user or the password"
    if isinstance(error, OperationFailure) and error.code in _FORBIDDEN:
        return f"does not let this user write to '{where.database}'"
    said = where.redact(" ".join(str(error).split()))[:200]
    kind = "reports" if isinstance(error, PyMongoError) else f"cannot be used: {type(error).__name__}"
    return f"{kind}: {said}" if said else kind
