"""The mirror of a run in the database that ``MONGO_URL`` names, updated without delaying the run.

One thread does all network communication. It reads the run's folder, so nothing accumulates in memory while the server
is unavailable, and nothing in the folder can be lost: when the server answers again, or at the next
``oamarl runs export``, what is missing is sent.
"""

from __future__ import annotations

import contextlib
import shlex
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import connection as mongo

#: Seconds that the end of a run may wait for its last points to arrive (a missing server is detected sooner).
END_WAIT = 20.0
#: The same where the run was interrupted: the job may be killed soon.
END_WAIT_INTERRUPTED = 5.0
#: Reported changes between answering and not; an unstable server would fill the log otherwise.
_TELL = 6


class Mirror:
    """One run in MongoDB, from its start to its end.

    Args:
        where: the database.
        folder: the run's folder, with its run.json.
        interval: seconds between two updates.
        info, warn: show the user a message.
    """

    def __init__(
        self,
        where: mongo.Address,
        folder: Path,
        interval: float,
        info: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> None:
        self.where, self.folder, self.interval = where, folder, interval
        self._info, self._warn = info, warn
        self._stop = threading.Event()
        self._delivery: Any = None
        self._problem = "has not answered yet"  # why the last update did not arrive; "" if it did
        self._told = 0
        self._thread = threading.Thread(target=self._loop, name="mongo", daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        client: Any = None
        ended = False
        while not ended:
            ended = self._stop.is_set()  # looked at before: what follows then sees the last of the files
            try:
                if client is None:
                    client = mongo.connect(self.where)
                if self._delivery is None:
                    from .delivery import Delivery

                    self._delivery = Delivery(client[self.where.database], self.folder)
                self._delivery.send(final=ended)
            except Exception as error:  # no error of the server or the URL may end the run
                self._failed(mongo.reason(error, self.where))
            else:
                self._arrived()
            if not ended:
                self._stop.wait(self.interval)
        if client is not None:
            with contextlib.suppress(Exception):
                client.close()

    def _failed(self, why: str) -> None:
        if not self._problem or self._told == 0:
            self._tell(
                self._warn,
                f"MongoDB at {self.where.shown} {why}. The run continues with its files; "
                "what is missing there is sent as soon as possible.",
            )
        self._problem = why

    def _arrived(self) -> None:
        if self._problem and self._told == 0:
            self._tell(
                self._info,
                f"MongoDB: this is run {self._delivery.id} of database '{self.where.database}' at {self.where.shown}.",
            )
        elif self._problem:
            text = f"MongoDB at {self.where.shown} answers again and has everything (run {self._delivery.id})."
            self._tell(self._info, text)
        self._problem = ""

    def _tell(self, how: Callable[[str], None], text: str) -> None:
        self._told += 1
        if self._told <= _TELL and not self._stop.is_set():  # what matters at the end, finish says
            how(text)

    def finish(self, limit: float) -> str | None:
        """Send the last of the run's files, and return a sentence if not everything has arrived in time.

        Call it when nothing is written any more. It takes at most ``limit`` seconds, or until Ctrl-C.
        """
        self._stop.set()
        try:
            self._thread.join(limit)
        except KeyboardInterrupt:
            self._problem = "was not waited for"
        else:
            if self._thread.is_alive():
                self._problem = f"did not take everything within {limit:g} seconds"
        if not self._problem:
            return None
        return (
            f"MongoDB at {self.where.shown} {self._problem}: the run is complete in its folder, and "
            f"`oamarl runs export {shlex.quote(str(self.folder))}` sends what is missing."
        )
