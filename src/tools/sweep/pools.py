"""Pools that run the attempts of a sweep: processes on this machine, or tasks on a Ray cluster.

Both kinds of pool have the same methods: ``start``, ``poll``, ``room``, ``interrupt`` (one run, or all), ``kill``,
``close``.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, Protocol

from ...utils import ray_cluster
from ...utils.errors import UserError
from .attempt import Attempt, Order, Outcome

#: seconds between two looks at how large a cluster is
CAPACITY_EVERY = 2.0


class Pool(Protocol):
    """A pool of running attempts."""

    def room(self) -> int:
        """Return how many more attempts may be started now."""

    def start(self, order: Order) -> None:
        """Begin an attempt."""

    def poll(self) -> list[tuple[str, Outcome]]:
        """Return the names and outcomes of the attempts that have ended since the last call."""

    def interrupt(self, name: str | None = None) -> None:
        """Ask an attempt (None: all) to save a checkpoint and to end."""

    def kill(self) -> None:
        """End all attempts now."""

    def close(self) -> None:
        """Release resources; remaining attempts are ended."""


class Local:
    """Processes on this machine.

    Args:
        jobs: how many at a time.
        gpus: CUDA devices there are, in the spelling of CUDA_VISIBLE_DEVICES; none: nothing is set.
        gpus_per_run: share of one GPU, or number of GPUs, that a run takes.
    """

    def __init__(self, jobs: int, gpus: tuple[str, ...] = (), gpus_per_run: float = 0.0) -> None:
        self.jobs, self.gpus, self.gpus_per_run = jobs, gpus, gpus_per_run
        self.attempts: dict[str, tuple[int, Attempt]] = {}

    def room(self) -> int:
        """Return how many more attempts may be started now."""
        return self.jobs - len(self.attempts)

    def start(self, order: Order) -> None:
        """Begin an attempt."""
        taken = {slot for slot, _ in self.attempts.values()}
        slot = next(i for i in range(self.jobs + 1) if i not in taken)
        if self.gpus and self.gpus_per_run:
            # whole GPUs side by side, or several runs on one
            first, count = int(slot * self.gpus_per_run), max(1, int(self.gpus_per_run))
            devices = [self.gpus[(first + k) % len(self.gpus)] for k in range(count)]
            order = replace(order, env={**order.env, "CUDA_VISIBLE_DEVICES": ",".join(devices)})
        self.attempts[order.name] = (slot, Attempt(order))

    def poll(self) -> list[tuple[str, Outcome]]:
        """Return the names and outcomes of the attempts that have ended since the last call."""
        ended = []
        for name, (_, attempt) in list(self.attempts.items()):
            outcome = attempt.poll()
            if outcome is not None:
                del self.attempts[name]
                ended.append((name, outcome))
        return ended

    def interrupt(self, name: str | None = None) -> None:
        """Ask an attempt (None: all) to save a checkpoint and to end."""
        for each, (_, attempt) in self.attempts.items():
            if name in (None, each):
                attempt.interrupt()

    def kill(self) -> None:
        """End all attempts now."""
        for _, attempt in self.attempts.values():
            attempt.kill()

    def close(self) -> None:
        """Release resources; remaining attempts are asked to end."""
        self.interrupt()  # remaining runs save a checkpoint on their own, whatever happened to the sweep


def _task() -> Callable[[dict[str, Any], str], dict[str, Any]]:
    """Return the function of a Ray task: an inner function, since Ray sends it by value."""
    load = ray_cluster.loader()

    def task(order: dict[str, Any], main: str) -> dict[str, Any]:
        import dataclasses
        import time

        load(main)
        from oamarl.tools.sweep.attempt import TICK, Attempt, Order

        attempt = Attempt(Order.of(order))
        outcome = None
        while outcome is None:
            try:
                outcome = attempt.poll()
                time.sleep(TICK)
            except KeyboardInterrupt:  # the task was cancelled
                attempt.interrupt()
        return dataclasses.asdict(outcome)

    return task


class Ray:
    """Tasks on a Ray cluster, one per run. Ray decides where and when; the sweep does the retries.

    Args:
        address: of the cluster; None: the one that RAY_ADDRESS names or that runs here, else one on this machine.
        cpus, gpus: what a task takes.
        jobs: how many tasks are submitted at a time; None: as many as the cluster can run at the moment.

    Raises:
        UserError: Ray is not installed, or the cluster cannot be reached.
    """

    def __init__(self, address: str | None, cpus: float, gpus: float, jobs: int | None = None) -> None:
        self.ray = ray = ray_cluster.connect(address, "--ray")
        self.jobs = jobs
        self.tasks: dict[Any, str] = {}
        self.stopping: set[Any] = set()
        self.remote = ray.remote(_task()).options(num_cpus=cpus, num_gpus=gpus, max_retries=0)
        self.needs = {"CPU": cpus, "GPU": gpus}
        self._capacity, self._until = 0, 0.0
        there = ray.cluster_resources()
        for name, asked in self.needs.items():
            if asked > there.get(name, 0):
                self.close()
                raise UserError(f"The Ray cluster has {there.get(name, 0):g} {name}s; a run here takes {asked:g}.")

    def room(self) -> int:
        """Return how many more attempts may be started now."""
        if self.jobs is not None:
            return self.jobs - len(self.tasks)
        if time.monotonic() > self._until:  # nodes come and go
            there = self.ray.cluster_resources()
            self._capacity = min(int(there.get(k, 0) / v + 1e-9) for k, v in self.needs.items() if v)
            self._until = time.monotonic() + CAPACITY_EVERY
        return self._capacity - len(self.tasks)

    def start(self, order: Order) -> None:
        """Begin an attempt."""
        self.tasks[self.remote.remote(asdict(order), ray_cluster.MAIN)] = order.name

    def poll(self) -> list[tuple[str, Outcome]]:
        """Return the names and outcomes of the attempts that have ended since the last call."""
        if not self.tasks:
            return []
        ready, _ = self.ray.wait(list(self.tasks), num_returns=len(self.tasks), timeout=0)
        return [(self.tasks.pop(ref), self._outcome(ref)) for ref in ready]

    def _outcome(self, ref: Any) -> Outcome:
        errors = self.ray.exceptions
        try:
            return Outcome.of(self.ray.get(ref))
        except errors.TaskCancelledError:
            return Outcome("interrupted")
        except errors.RayTaskError as error:
            return Outcome("failed", f"on its node: {str(error).strip().splitlines()[-1][:300]}")
        except errors.RayError as error:  # the node, or the worker on it
            return Outcome("lost", f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}")

    def interrupt(self, name: str | None = None) -> None:
        """Ask an attempt (None: all) to save a checkpoint and to end."""
        for ref, each in self.tasks.items():
            if name in (None, each) and ref not in self.stopping:  # a second time would be an error inside the task
                self.stopping.add(ref)
                self.ray.cancel(ref, force=False)

    def kill(self) -> None:
        """End all attempts now."""
        for ref in self.tasks:
            with contextlib.suppress(self.ray.exceptions.RayError):
                self.ray.cancel(ref, force=True)

    def close(self) -> None:
        """Release resources; remaining attempts are asked to end."""
        self.ray.shutdown()
