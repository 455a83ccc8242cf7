"""``oamarl sweep``: many runs from one file, on this machine's cores or on a Ray cluster."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...utils.errors import UserError, counted
from ...utils.project import page
from ..arguments import Arguments, at_least

if TYPE_CHECKING:
    from .drive import How
    from .file import Sweep
    from .pools import Pool
    from .search import Searches
    from .view import State

USAGE = f"""\
usage: oamarl sweep FILE [--jobs N] [--ray [ADDRESS]] [--results DIR] [--replace] [--dry-run]

Runs algorithms x environments x seeds x overrides as FILE says ({page("sweeps.md")}), each in a process of its own, and
stores a small curve file of each finished run. Finished runs are not repeated; interrupted ones are resumed.

  --jobs N         runs at a time (default: as many as the cores allow)
  --ray [ADDRESS]  run on a Ray cluster instead, one task per run
  --results DIR    folder of the runs (default: as for any run), and of curve files unless FILE says where
  --replace        replace curve files of other configurations
  --dry-run        check everything, and show what would run"""


@dataclass(frozen=True)
class Asked:
    """The words of the command line."""

    file: Path
    jobs: int | None = None
    ray: bool = False
    address: str | None = None
    results: str | None = None
    replace: bool = False
    dry: bool = False


def parse(argv: list[str]) -> Asked:
    """Read the command line.

    Raises:
        UserError: an unknown flag, a missing value, not exactly one file.
    """
    p = Arguments("sweep", "one sweep file")
    p.add_argument("files", nargs="*")
    p.add_argument("--jobs", type=at_least(1))
    p.add_argument("--ray", nargs="?", const="")
    p.add_argument("--results")
    p.add_argument("--replace", action="store_true")
    p.add_argument("--dry-run", action="store_true")
    given = p.parse_args(argv)
    files, ray, address = given.files, given.ray is not None, given.ray or None
    if address in argv and ":" not in address and address != "auto":  # the word after --ray is the file
        files, address = [*files, address], None
    if len(files) != 1:
        raise UserError(
            f"`oamarl sweep` takes one sweep file, not {len(files)}: oamarl sweep my.yaml; see {page('sweeps.md')}"
        )
    return Asked(Path(files[0]), given.jobs, ray, address, given.results, given.replace, given.dry_run)


def main(argv: list[str]) -> int:
    """Run a sweep; return the exit status: 0 all done, 1 some failed, 128 + a signal's number where it was stopped.

    Raises:
        UserError: an error in the command line, the file or a cell, found before the first run starts.
    """
    asked = parse(argv)
    from ...settings import results_folder
    from .drive import refuse_other
    from .file import load
    from .ready import refuse_missing

    results = Path(results_folder(asked.results))
    sweep = load(asked.file, results)
    if "," in str(results) and any(cell.at_once > 1 for cell in sweep.cells):
        raise UserError(f"seeds_at_once needs a results folder without a comma in its name: {results}.")
    jobs, workers = shares(sweep, asked)
    how = make_how(sweep, results, workers, asked)
    if sweep.search is None:
        refuse_other(how, list(sweep.cells), asked.replace)
    if asked.dry:
        return dry(sweep, how, jobs, asked)
    if not asked.ray:  # a cluster's machines have what its runs need
        refuse_missing((c for c in sweep.cells if sweep.search is not None or how.known(c) is None), str(sweep.path))
    with lock(how.folder):
        return run(sweep, how, jobs, asked)


def shares(sweep: Sweep, asked: Asked) -> tuple[int, int]:
    """Return the number of parallel runs, and of processes that each may use to step its environments.

    Runs side by side use the cores best: one run on two cores waits for its own parts half of the time. Only where
    there are fewer runs than cores does a run get more than one.
    """
    from ...envs.vector.base import usable_cpus

    cores = usable_cpus()
    threads = max(cell.threads for cell in sweep.cells)
    if asked.ray:
        return asked.jobs or 1, max(1, int(cpus(sweep)))
    trials = sweep.search.trials if sweep.search is not None else 1
    need = max(1, round(sweep.cpus_per_run)) if sweep.cpus_per_run else threads
    jobs = asked.jobs or max(1, min(processes(sweep) * trials, cores // need))
    return jobs, max(1, cores // jobs // threads)


def processes(sweep: Sweep) -> int:
    """Return in how many processes the runs are: each of as many seeds of a configuration as the file says."""
    sizes: dict[str, list[int]] = {}
    for cell in sweep.cells:
        sizes.setdefault(cell.group, []).append(cell.at_once)
    return sum(-(-len(each) // each[0]) for each in sizes.values())


def cpus(sweep: Sweep) -> float:
    """Return the processors that a task on a cluster takes."""
    return sweep.cpus_per_run or float(max(cell.threads for cell in sweep.cells))


def make_how(sweep: Sweep, results: Path, workers: int, asked: Asked) -> How:
    """Return what all runs share."""
    from .drive import How

    # a second thread of numpy would take the core of another run
    env = {} if asked.ray or "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(sweep.cells[0].threads)}
    # trials are intermediate results: the winner is stored with the code
    curves = sweep.curves if sweep.search is None else results / "sweeps" / sweep.name / "curves"
    metric = sweep.search.metric if sweep.search is not None else None
    return How(sweep.name, results, curves, sweep.retries, workers, env, metric)


def dry(sweep: Sweep, how: How, jobs: int, asked: Asked) -> int:
    """Show what would run; return the exit status."""
    for cell in sweep.cells:
        print(f"{'done' if how.known(cell) is not None else 'to run':<7} {cell.name}: {cell.command}")
    done = sum(how.known(cell) is not None for cell in sweep.cells)
    where = "on the Ray cluster" if asked.ray else f"{jobs} at a time"
    trials = f", each in up to {sweep.search.trials} trials of the search" if sweep.search is not None else ""
    print(
        f"{counted(len(sweep.cells), 'run')}, {done} done, {len(sweep.cells) - done} to run, "
        f"{where}{trials}; curves: {how.curves}"
    )
    return 0


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a sweep's lock: two sweeps of one name would run everything twice.

    Raises:
        UserError: it is running already, or its folder cannot be written.
    """
    from filelock import FileLock, Timeout

    held = FileLock(folder / "lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held.acquire(blocking=False)
    except Timeout:
        raise UserError(f"This sweep is running already ({folder}): stop it first, or give it another name.") from None
    except OSError as error:
        raise UserError(f"The sweep's folder {folder} cannot be written: {error.strerror or error}.") from None
    try:
        yield
    finally:
        held.release()


def run(sweep: Sweep, how: How, jobs: int, asked: Asked) -> int:
    """Run what is missing, and print the results; return the exit status."""
    from ...storage.provenance import command_line, commit
    from .drive import Cells, Drive
    from .pools import Local
    from .search import Searches
    from .view import View

    searches = Searches(sweep, how.folder) if sweep.search is not None else None
    missing = [c for c in sweep.cells if searches is not None or how.known(c) is None]
    pool = make_pool(sweep, jobs, asked) if missing else Local(1)
    facts = {"file": str(sweep.path.absolute()), "command": command_line(), "commit": commit()}
    drive = Drive(how, searches or Cells(missing), pool, View(sweep.name), facts)
    try:
        if searches is None:
            for cell in sweep.cells:
                drive.add(cell)
            say = f"{counted(len(missing), 'run')} to do, {len(sweep.cells) - len(missing)} done"
        else:
            say = f"{counted(len(searches.studies), 'search')}, {counted(searches.left(), 'trial')} to do"
        where = "on a Ray cluster" if asked.ray else f"{jobs} at a time"
        drive.view.event(f"Sweep {sweep.name}: {say}, {where}; files in {how.folder}")
        status = drive.run()
    finally:
        drive.view.close(list(drive.states.values()))
        pool.close()
    report(list(drive.states.values()), how, searches, status)
    return status


def make_pool(sweep: Sweep, jobs: int, asked: Asked) -> Pool:
    """Return the pool in which the runs are started.

    Raises:
        UserError: there are fewer GPUs than a run takes, or the Ray cluster cannot be had.
    """
    from .pools import Local, Ray

    if asked.ray:
        return Ray(asked.address, cpus(sweep), sweep.gpus_per_run, asked.jobs)
    gpus: tuple[str, ...] = ()
    if sweep.gpus_per_run:
        import torch

        told = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(str(i) for i in range(torch.cuda.device_count())))
        gpus = tuple(x for x in told.split(",") if x)
        if len(gpus) < sweep.gpus_per_run:
            raise UserError(f"This machine has {counted(len(gpus), 'GPU')}; a run here takes {sweep.gpus_per_run:g}.")
        if asked.jobs is None:
            jobs = max(1, min(jobs, int(len(gpus) / sweep.gpus_per_run)))
    return Local(jobs, gpus, sweep.gpus_per_run)


def report(states: list[State], how: How, searches: Searches | None, status: int) -> None:
    """Print the results."""
    from .view import counts, summary

    print("\n".join(["", *(summary(states) if searches is None else searches.summary())]))
    for state in states:
        if state.status == "failed":
            print(f"failed: {state.cell.name}: {state.reason} ({how.folder / 'logs' / state.cell.name}.log)")
    print(f"{counts(states)}; curves in {how.curves}")
    if status > 1:
        print("Stopped. The same command continues the sweep.")
