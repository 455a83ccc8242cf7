"""Ray clusters: the connection of this process to one, and the package on its nodes."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from .errors import UserError
from .project import PACKAGE, optional

#: seconds in which a cluster must answer
CONNECT_WITHIN = 10.0
#: the program's file, from which :func:`loader` loads the package
MAIN = str(PACKAGE / "main.py")


def import_ray(user: str) -> Any:
    """Return the package ``ray``.

    Args:
        user: what needs it, the beginning of a sentence.

    Raises:
        UserError: it is not installed, or cannot be imported.
    """
    return optional("ray", user)


def reach(address: str | None) -> None:
    """Check that a server listens at a cluster's address: Ray itself would try for minutes.

    Raises:
        UserError: no server listens there.
    """
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if not colon:
        return  # none, `auto` or `local`
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_WITHIN):
            pass
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(f"The Ray cluster {address} cannot be reached: {error}.") from None


def connect(address: str | None, user: str, **options: Any) -> Any:
    """Connect this process to a cluster and return the package ``ray``.

    Args:
        address: of the cluster; None: the one that RAY_ADDRESS names or that runs here, else one on this machine;
            ``local``: always one on this machine, of this process's own.
        user: what needs Ray, the beginning of a sentence.
        options: for ``ray.init``.

    Raises:
        UserError: Ray is not installed, or the cluster cannot be reached.
    """
    ray = import_ray(user)
    reach(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster started here reports to nobody
    with _own_sigterm():
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
        except (ConnectionError, ValueError, RuntimeError, OSError, ray.exceptions.RayError) as error:
            said = " ".join(str(error).split())[:200]
            raise UserError(f"The Ray cluster {address or ''} cannot be reached: {said}") from None
    with contextlib.suppress(ImportError):
        # its daemons' last words, a page of their state, would come to the terminal when a node is lost
        from ray._private import worker

        worker.print_to_stdstream = lambda *_, **__: None
    return ray


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep this process's answer to SIGTERM, which Ray replaces by its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def loader() -> Callable[[str], None]:
    """Return ``load(main)``, which makes the package importable on a node: an inner function, sent by value."""

    def load(main: str) -> None:
        import importlib.util
        import os

        # a node that shares this machine's files runs this very code, any other what is installed there
        spec = importlib.util.spec_from_file_location("oamarl_entry", main) if os.path.isfile(main) else None
        if spec is not None and spec.loader is not None:
            entry = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(entry)
            entry.as_package()

    return load
