"""Runs a function as a sacred run; the ONE module that knows sacred.

:class:`~oamarl.storage.run_files.RunFiles` writes what sacred's own observer would, for the tools that read it.
What must survive a crash is written by :class:`~oamarl.storage.log.RunLog` in the same folder. Where
``MONGO_URL`` is set, :class:`~oamarl.storage.mongo.mirror.Mirror` keeps a database up to date with the folder.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import traceback
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..utils.console import Screen
from ..utils.errors import RunError, UserError, too_few_files
from ..utils.schema.keys import read
from ..utils.signals import Stop, Terminated
from ..utils.waiting import will_exit
from ..utils.warn_once import OPPOSED, begin_run
from .liveness import this_process
from .log import LOG_FILE, LoggingConfig, RunLog
from .mongo import connection as mongo
from .mongo.mirror import END_WAIT, END_WAIT_INTERRUPTED, Mirror
from .provenance import command_line, commit, storable, versions
from .run_files import RunFiles, check_writable, folder_name, task_of
from .trackers import Trackers, TrackersConfig
from .trackers import check as check_trackers


@contextlib.contextmanager
def _hidden(package: str) -> Iterator[None]:
    """A package that is not loaded yet seems to be missing."""
    hide = package not in sys.modules
    if hide:
        sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hide:
            del sys.modules[package]


# sacred loads pandas for the tables that a run may return: half a second of every start, and no run here returns any
with warnings.catch_warnings(), _hidden("pandas"):
    warnings.simplefilter("ignore")  # sacred's own use of a deprecated module, at every start
    import sacred
    from sacred.dependencies import Source, get_digest


@dataclass
class Result:
    """How a run ended.

    | field | meaning |
    |---|---|
    | status | ``COMPLETED``, ``INTERRUPTED`` or ``FAILED`` |
    | folder | the run's folder |
    | value | what the body returned (None unless completed) |
    | exit_code | for the process: 0, 1 (failed), 128 + the signal's number, 124 (max_seconds) |
    | error | the exception that ended it, already shown |
    """

    status: str
    folder: Path
    value: dict[str, Any] | None = None
    exit_code: int = 0
    error: BaseException | None = None


class _Warnings(logging.Handler):
    """Handler of sacred's log: its warnings go to the run's log, its remarks about a run's end are left out."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.log: RunLog | None = None

    def emit(self, record: logging.LogRecord) -> None:
        text = re.sub("^An error ocurred in the '.*?' observer: ", "A file of the run: ", record.getMessage())
        # that an observer failed "at some point" was said when it did
        if not text.startswith(("Aborted after", "Failed after", "The observer ")):
            self.say(text)

    def say(self, text: str) -> None:
        """Warn in the run's log, or on the terminal where there is none any more."""
        if self.log is not None:
            self.log.warning(text)
        else:
            print(f"Warning: {text}", file=sys.stderr)


def run_parent(values: Mapping[str, Any]) -> Path:
    """Return ``<local_results_path>/sacred/<name>/<task>``, where runs are numbered."""
    config = read(LoggingConfig, values)
    task = task_of(values) or "unknown"
    return Path(config.local_results_path) / "sacred" / folder_name(config.name) / folder_name(task)


def execute(
    values: Mapping[str, Any],
    notices: Sequence[str],
    body: Callable[[RunLog], dict[str, Any]],
    *,
    info: Mapping[str, Any] | None = None,
    stop: Stop | None = None,
    trackers: TrackersConfig | None = None,
    close: Callable[[], None] = lambda: None,
    screen: Screen | None = None,
) -> Result:
    """Run ``body`` as one sacred run and return how it ended.

    The folder is ``run_parent(values)/<number>``; runs that start together get different numbers. Signals end the
    run as INTERRUPTED. An exception ends it as FAILED; its traceback is shown once and is in run.log (of a RunError
    the sentence alone). Where MONGO_URL is set, the run is in that database too, as far as it can be reached.

    Args:
        values: the whole merged configuration; stored as config.json.
        notices: sentences to show at the start.
        body: does the work; what it returns is stored as the result.
        info: further facts to store in info.json, such as ``resumed_from``.
        stop: polled by ``body``, which ends in good order after a signal; None: a signal ends it wherever it is.
        trackers: where scalars go beside the files; None: nowhere.
        close: closes the environments; called once the run's files say how it ended, before anything is waited for.
        screen: where the run shows things; None: the process's own output.

    Raises:
        UserError: the folder cannot be written, the configuration cannot be stored or MONGO_URL is no address
            (nothing was started then), or ``body`` raised it (the run is FAILED, and run.log has the sentence).
    """
    config, where = read(LoggingConfig, values), mongo.address()
    if trackers is not None:
        check_trackers(trackers)
    parent = run_parent(values).absolute()
    begin_run(known=() if values.get("common_reward", True) else (OPPOSED,))
    stored, facts = storable(values), _facts(values, info or {})
    check_writable(parent)
    handler = _Warnings()
    files = RunFiles(parent, parent.parent.parent / "_sources", facts, handler.say)
    experiment = _experiment(config, stored, files, handler)
    result, stop = Result("FAILED", parent), stop or Stop()
    mirrors: list[Mirror] = []

    @experiment.main
    def main(_run: Any) -> dict[str, Any]:
        result.folder = files.folder
        tracked = Trackers(trackers, stored, files.folder, handler.say)
        with _open_log(_run, files, tracked, handler, result, config.verbose, screen) as log:
            if where is not None:
                mirrors.append(Mirror(where, files.folder, config.beat_interval, log.info, log.warning))
            result.value = _observed(log, body, facts, notices, result)
        return result.value

    with stop.listening():
        try:
            _perform(experiment, config, facts, result)
        finally:
            stop.over()  # the run has ended, and how it did cannot change any more
            will_exit(result.exit_code)
            close()
            for mirror in mirrors:
                missing = mirror.finish(END_WAIT_INTERRUPTED if result.status == "INTERRUPTED" else END_WAIT)
                if missing:
                    handler.say(missing)
    return result


def _experiment(
    config: LoggingConfig, stored: Mapping[str, Any], files: RunFiles, handler: _Warnings
) -> sacred.Experiment:
    experiment = sacred.Experiment(config.name.replace(".", "_"), save_git_info=False)
    logger = logging.getLogger("oamarl.sacred")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.WARNING)
    experiment.logger = logger  # type: ignore[assignment]
    experiment.add_config(dict(stored))
    # sacred finds only what this module names; a result needs the exact source of the whole package
    here = Path(__file__).resolve().parents[1]
    for path in sorted(here.rglob("*.py")):
        experiment.add_source_file(str(path))
    for path in sorted(here.rglob("*.[ch]")):  # which add_source_file refuses
        experiment.sources.add(Source(str(path), get_digest(str(path)), None, None, None))
    experiment.observers.append(files)
    return experiment


@contextlib.contextmanager
def _open_log(
    run: Any, files: RunFiles, tracked: Trackers, handler: _Warnings, result: Result, verbose: bool,
    screen: Screen | None,
) -> Iterator[RunLog]:  # fmt: skip
    """The run's log; when it is closed, the run's files and ``result`` have the folder where the run was at its end."""
    log = handler.log = RunLog(files.folder, tracked, screen=screen, verbose=verbose)
    try:
        yield log
    finally:
        tracked.close()
        handler.log = None
        log.close()
        files.settle(log.folder, log.foreign)
        with contextlib.suppress(OSError):  # it was taken away
            run.add_artifact(str(files.folder / LOG_FILE), content_type="text/plain")
        result.folder = files.folder


def _perform(experiment: sacred.Experiment, config: LoggingConfig, facts: Mapping[str, Any], result: Result) -> None:
    """Run the experiment, and record in ``result`` how it ended.

    Raises:
        UserError: as ``execute``.
    """
    try:
        experiment.run(
            meta_info={"command_line": facts["command_line"], "comment": config.label},
            options={"--capture": "no", "--beat-interval": config.beat_interval},
        )
        result.status = "COMPLETED"
    except KeyboardInterrupt as error:
        result.status, result.error, result.value = "INTERRUPTED", error, None
        result.exit_code = error.exit_code if isinstance(error, Terminated) else 130
    except UserError:
        result.exit_code = 2
        raise
    except Exception as error:
        if error is not result.error:  # not the body's, which was shown: sacred could not start or end the run
            print(too_few_files(error) or traceback.format_exc(), file=sys.stderr)
        result.error, result.value, result.exit_code = error, None, 1


def _facts(values: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, Any]:
    """Return what info.json holds, all of it known at the start."""
    seed = values.get("seed")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise UserError(f"seed={seed!r} is not allowed: a whole number from 0 to {2**32 - 1} is expected.")
    key = str((values.get("env_args") or {}).get("key") or "")
    facts = {"command_line": command_line(), "folder": os.getcwd(), "commit": commit(), "versions": versions(key)}
    # which run this is wherever it is stored, and which process it is, to tell dead from alive
    facts |= {"uid": uuid.uuid4().hex, "process": this_process()}
    return {**facts, **storable(info, "info")}


def _observed(
    log: RunLog,
    body: Callable[[RunLog], dict[str, Any]],
    facts: Mapping[str, Any],
    notices: Sequence[str],
    result: Result,
) -> dict[str, Any]:
    """Run ``body``, its messages on the terminal and in run.log; returns the result to store."""
    with log.capture():
        log.info(f"Run folder: {log.folder}")
        log.note(f"Command line: {facts['command_line']}")
        log.note(f"Versions: {', '.join(f'{name} {version}' for name, version in facts['versions'].items())}")
        for notice in notices:
            log.info(notice)
        try:
            found = storable(_renamed(body(log) or {}), "The result")
            try:
                log.check()
            except UserError as error:
                raise RunError(str(error)) from None
            return found
        except KeyboardInterrupt as error:
            log.warning(str(error) or "Interrupted: the run stops here.")
            raise
        except UserError as error:
            log.note(str(error))  # the command line shows it, alone
            raise
        except RunError as error:
            result.error = error
            log.error(str(error))
            raise
        except Exception as error:
            result.error = error
            log.error(too_few_files(error) or traceback.format_exc().rstrip())
            raise


def _renamed(result: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics' names may hold what stored keys may not: as in sacred, '.' becomes ',' and a leading '$' '@'."""
    names = {name: str(name).replace(".", ",").replace("=", "_") for name in result}
    return {f"@{new[1:]}" if new.startswith("$") else new: result[name] for name, new in names.items()}
