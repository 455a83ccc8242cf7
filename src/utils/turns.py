"""Threads that take turns: one runs at a time, and all meet where work is done for several of them at once.

Each thread follows its own program, in the order in which it would alone; nothing runs beside it, so that what the
threads share needs no locks and results do not depend on the system's scheduling. Where a thread has work that may be
shared it waits (:meth:`Turns.meet`); when all of them wait or have ended, the caller's ``serve`` does the work of some
or all of those that wait.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

#: Seconds that the threads have to end after the caller was interrupted.
END_SECONDS = 30.0


@dataclass
class Request:
    """Work of one thread that waits: ``kind`` of work, ``content``; ``result`` or ``error`` answer it."""

    kind: str
    content: Any
    result: Any = None
    error: BaseException | None = None
    answered: bool = False

    def answer(self, result: Any = None, error: BaseException | None = None) -> None:
        """Set the result, or the error to raise in the thread that asked."""
        self.result, self.error, self.answered = result, error, True


class Turns:
    """K threads, one of which runs at a time.

    Args:
        serve: does the work of requests (thread's number -> request) and answers at least one of them.
    """

    def __init__(self, serve: Callable[[dict[int, Request]], None]) -> None:
        self._serve = serve
        self._back = threading.Semaphore(0)
        self._go: list[threading.Semaphore] = []
        self._waiting: dict[int, Request] = {}
        self._numbers: dict[int, int] = {}
        self._stopped: BaseException | None = None

    def run(self, bodies: Sequence[Callable[[], Any]]) -> list[Any]:
        """Call every body in a thread of its own, in turns; returns what each returned or raised.

        Bodies have a copy of the caller's context variables.

        Raises:
            BaseException: what interrupted the caller; each thread gets it at its next meeting.
        """
        ended: dict[int, Any] = {}
        self._go = [threading.Semaphore(0) for _ in bodies]

        def follow(k: int, body: Callable[[], Any]) -> None:
            self._go[k].acquire()
            self._numbers[threading.get_ident()] = k
            try:
                ended[k] = body()
            except BaseException as error:  # the caller decides what becomes of it
                ended[k] = error
            finally:
                self._back.release()

        for k, body in enumerate(bodies):
            context = contextvars.copy_context()
            threading.Thread(target=context.run, args=(follow, k, body), name=f"turn {k}", daemon=True).start()
        try:
            self._until_all_wait(range(len(bodies)))
            while self._waiting:
                self._serve(self._waiting)
                ready = [k for k, request in self._waiting.items() if request.answered]
                assert ready, "a meeting that helps none of those who wait"
                self._until_all_wait(ready)
        except BaseException as error:
            self._stop(error, lambda: len(ended) == len(bodies))
            raise
        return [ended[k] for k in range(len(bodies))]

    def meet(self, kind: str, content: Any) -> Any:
        """Wait, in a thread of :meth:`run`, until ``content`` has been served; returns the result.

        Raises:
            BaseException: what serving it raised, or what interrupted the caller of :meth:`run`.
        """
        if self._stopped is not None:
            raise self._stopped
        k, request = self._numbers[threading.get_ident()], Request(kind, content)
        self._waiting[k] = request
        self._back.release()
        self._go[k].acquire()
        if self._stopped is not None:
            raise self._stopped
        if request.error is not None:
            raise request.error
        return request.result

    def _until_all_wait(self, numbers: Sequence[int] | range) -> None:
        """Let threads run one after another, each until it waits again or ends."""
        for k in numbers:
            self._waiting.pop(k, None)
            self._go[k].release()
            self._back.acquire()

    def _stop(self, error: BaseException, over: Callable[[], bool]) -> None:
        """Have every thread end by ``error``, one after another, and wait for them for a limited time."""
        self._stopped = error
        for go in self._go:
            go.release()
            if over():
                return
            self._back.acquire(timeout=END_SECONDS)
