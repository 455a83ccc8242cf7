"""Updates in two threads: the critic's beside the policies', and large minibatches in halves.

Torch's operations do not hold Python's lock. Threads inside each of them, the usual way, gain little on operations as
small as a step of a GRU for some dozen rows, and lose much where cores have other work. Two threads with work of their
own gain on both counts. What is added up is added up in a fixed order: numbers do not depend on who worked on them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

_T = TypeVar("_T")

#: Parts that the rows of a minibatch are cut into on the CPU; another number would change last digits.
SIDES = 2

#: Fewest rows of a side: with fewer, an operation's fixed cost is what counts.
_SEQUENCES, _ROWS = 16, 1024

#: parameters (a leaf) -> losses, each differentiated before the next one is asked for
Side = Callable[[Tensor], Iterable[Tensor]]


class _Threads:
    """How many threads work on updates: ``sides`` of them at a time, each with ``each`` in torch's operations."""

    sides, each = 1, 1
    pool: ThreadPoolExecutor | None = None


_threads = _Threads()


def use_threads(count: int) -> None:
    """Have updates from here on done by ``count`` threads."""
    _threads.sides, _threads.each = min(SIDES, count), max(1, count // SIDES)
    torch.set_num_threads(_threads.each if _threads.sides > 1 else count)


def default_threads(cores: int) -> int:
    """Return how many threads updates take unless told otherwise: a core each, and no more than OMP_NUM_THREADS."""
    told = os.environ.get("OMP_NUM_THREADS", "").strip()
    return min(SIDES, cores, int(told) if told.isdigit() and int(told) else SIDES)


def halves(n: int, rows: int, recurrent: bool, device: torch.device | str = "cpu") -> list[slice]:
    """Return the sides of ``n`` entries of ``rows`` rows each: nearly equal; one side where there are too few rows, or
    where an accelerator does them all at once."""
    enough = n * rows >= SIDES * (_SEQUENCES if recurrent else _ROWS)
    parts = min(SIDES, n) if enough and torch.device(device).type == "cpu" else 1
    edges = [n * k // parts for k in range(parts + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


def differentiate(theta: Tensor, sides: Sequence[Side]) -> Tensor:
    """Set ``theta.grad`` to the gradient of the sum of all sides' losses, and return that sum (detached).

    Sides share nothing but ``theta``: whatever else they write must be their own.
    """

    def one(side: Side) -> tuple[Tensor, Tensor]:
        leaf = theta.detach().requires_grad_()
        total, gradient = theta.new_zeros(()), None
        for loss in side(leaf):
            (found,) = torch.autograd.grad(loss, leaf)
            gradient = found if gradient is None else gradient.add_(found)
            total = total + loss.detach()
        return total, torch.zeros_like(leaf) if gradient is None else gradient

    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(alongside(partial(one, side))) for side in sides[1:]]
        done = [one(sides[0]), *(other() for other in others)]
    (total, gradient), *more_sides = done
    for more, found in more_sides:
        total, gradient = total + more, gradient.add_(found)
    theta.grad = gradient
    return total


@contextlib.contextmanager
def alongside(work: Callable[[], _T]) -> Iterator[Callable[[], _T]]:
    """Have ``work`` done by another thread, if one is free before its result is asked for; by the caller otherwise.

    Yields:
        a function that returns the result (to be called once). At the context's end nobody is at work on it any more.
    """
    if _threads.sides == 1:
        yield work
        return
    if _threads.pool is None:
        _threads.pool = ThreadPoolExecutor(SIDES - 1, "side")
    future = _threads.pool.submit(_elsewhere, work)
    try:
        yield lambda: work() if future.cancel() else future.result()
    finally:
        if not future.cancel():
            wait([future])


def _elsewhere(work: Callable[[], _T]) -> _T:
    if torch.get_num_threads() != _threads.each:  # each thread has a setting of its own
        torch.set_num_threads(_threads.each)
    return work()
