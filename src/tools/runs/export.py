"""``oamarl runs export``: copy runs from folders to MongoDB, and back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...storage.mongo import connection as mongo
from ...utils.errors import UserError, nearest
from ..arguments import Arguments

USAGE = """\
usage: oamarl runs export RUN ... [--to mongo]
       oamarl runs export NUMBER ... --to files DIR

The first form stores runs (folders, their paths below results/sacred, or `latest`) in the database that MONGO_URL
names; a run that is there already is brought up to date. The second writes runs of that database, by their numbers
there, as folders DIR/NUMBER; folders that are there already are brought up to date."""


def parse(argv: list[str]) -> tuple[list[str], Path | None]:
    """Return the runs and the folder to write to (None: to MongoDB).

    Raises:
        UserError: a word that is not understood.
    """
    p = Arguments("runs export")
    p.add_argument("runs", nargs="*")
    p.add_argument("--to", nargs="+", default=["mongo"])
    # DIR follows `--to files` and `--to=files` alike
    given = p.parse_args([part for word in argv for part in (word.split("=") if word[:5] == "--to=" else [word])])
    kind, *rest = given.to
    if kind not in ("mongo", "files"):
        raise UserError(f"--to needs mongo or files DIR, not '{kind}'{nearest(kind, ['mongo', 'files'])}")
    if kind == "files" and not rest:
        raise UserError("--to files needs the folder to write to: --to files DIR.")
    folder = Path(rest.pop(0)).expanduser() if kind == "files" else None
    words = given.runs + rest
    if not words:
        raise UserError("`oamarl runs export` needs a run: a folder or `latest`; with --to files, a number.")
    return words, folder


@contextlib.contextmanager
def database() -> Iterator[tuple[mongo.Address, Any]]:
    """Open the database of MONGO_URL, and report its errors in one sentence.

    Raises:
        UserError: it is not set, does not answer, or refuses.
    """
    from pymongo.errors import PyMongoError

    where = mongo.address()
    if where is None:
        raise UserError(f"{mongo.VARIABLE} is not set: {mongo.VARIABLE}=mongodb://host:27017/database is expected.")
    try:
        client = mongo.connect(where)
        try:
            yield where, client[where.database]
        finally:
            client.close()
    except PyMongoError as error:
        raise UserError(f"MongoDB at {where.shown} {mongo.reason(error, where)}.") from None


def main(argv: list[str]) -> int:
    """Copy runs; return the exit status.

    Raises:
        UserError: an invalid command line, a run that does not exist, or a database or folder that fails.
    """
    words, folder = parse(argv)
    with database() as (where, db):
        if folder is None:
            _to_mongo(words, where, db)
        else:
            _to_files(words, where, db, folder)
    return 0


def _to_mongo(words: list[str], where: mongo.Address, db: Any) -> None:
    from ...analysis.find_run import find_run
    from ...settings import results_folder
    from ...storage.mongo.delivery import Delivery, Moved

    folders = [find_run(word, Path(results_folder(None))) for word in words]  # all of them are there, or none is sent
    for folder in folders:
        delivery = Delivery(db, folder.absolute())
        try:
            delivery.send(final=True, attempts=3)
        except Moved:
            raise UserError(f"Another process stores {folder} at this moment: try again later.") from None
        except OSError as error:
            raise UserError(f"Cannot read {folder}: {error.strerror or error}.") from None
        done = "stored as" if delivery.new else "brought up to date as"
        print(f"{folder}: {done} run {delivery.id} of {where}")


def _to_files(words: list[str], where: mongo.Address, db: Any, parent: Path) -> None:
    from ...storage.mongo.fetch import fetch

    for word in words:
        if not word.isdecimal():
            raise UserError(f"'{word}' is not the number of a run in {where}: with --to files, numbers are expected.")
    for word in words:
        try:
            print(f"Run {word} of {where}: {fetch(db, int(word), parent.absolute())}")
        except OSError as error:
            raise UserError(f"Cannot write the run to {parent}: {error.strerror or error}.") from None
