"""What has to be found out by play before the networks of a run can be built (:mod:`oamarl.controllers.contract`)."""

from __future__ import annotations

from collections.abc import Callable

from ..controllers.contract import Preparation, Prepared, RandomPlay
from ..storage.log import RunLog
from ..utils.errors import RunError, first_line, lacks_memory
from ..utils.signals import Stop, Terminated


def prepare(preparation: Preparation, play: Callable[[], RandomPlay], stop: Stop, log: RunLog) -> Prepared:
    """Find it out, and log it.

    Args:
        play: starts random play.
        stop: asks to end early.

    Raises:
        Terminated: ``stop`` asked for the end.
        RunError: there is not enough memory, or what was played cannot be learned from.
    """
    log.info(preparation.announcement)

    def check_stop() -> None:
        why = stop.why()
        if why:
            stop.settle()
            raise Terminated(f"Ended by {why} before training began: there is nothing to resume from.", stop.exit_code)

    try:
        found = preparation.find(play, check_stop)
    except Exception as error:
        check_stop()  # a batch system signals all processes of a job: workers may be gone first
        if lacks_memory(error):
            raise RunError(f"There is not enough memory ({first_line(error)}).") from error
        raise
    log.info(str(found))
    return found
