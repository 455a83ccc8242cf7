"""Updates in two threads: the critic's in the background of the policies', and large mini-batches cut into shards.

:func:`oamarl.components.updates.descent.descend` is what learners call.

Torch's operations do not hold Python's lock. Threads inside each of them, the usual way, gain little on operations as
small as a step of a GRU for some dozen rows, and lose much where cores have other work. Two threads with work of their
own gain on both counts. Sums are taken in a fixed order: numbers do not depend on which thread did the work.
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

#: Shards that the rows of a mini-batch are cut into on the CPU; another number would change last digits.
SHARDS = 2

#: Fewest sequences, and fewest feed-forward rows, of a shard: with fewer, an operation's fixed cost is what counts.
_SEQUENCES, _ROWS = 16, 1024

#: One shard's objective: parameters (leaves) -> losses, each differentiated before the next one is asked for.
Shard = Callable[[list[Tensor]], Iterable[Tensor]]


class _Threads:
    """The threads of updates: ``count`` at a time, each with ``each`` threads inside torch's operations."""

    count, each = 1, 1
    pool: ThreadPoolExecutor | None = None


_threads = _Threads()


def use_threads(count: int) -> None:
    """Set the number of threads that updates use from here on."""
    _threads.count, _threads.each = min(SHARDS, count), max(1, count // SHARDS)
    torch.set_num_threads(_threads.each if _threads.count > 1 else count)


def default_threads(cores: int) -> int:
    """Return the default number of update threads: a core each, and no more than OMP_NUM_THREADS."""
    limit = os.environ.get("OMP_NUM_THREADS", "").strip()
    return min(SHARDS, cores, int(limit) if limit.isdecimal() and int(limit) else SHARDS)


def shards(n: int, rows: int, recurrent: bool, device: torch.device | str = "cpu") -> list[slice]:
    """Return the parallel shards of a mini-batch of ``n`` entries of ``rows`` rows each, as nearly equal slices.

    There is one shard where rows are too few to be worth a thread, and on an accelerator, which works on all at once.
    """
    enough = n * rows >= SHARDS * (_SEQUENCES if recurrent else _ROWS)
    parts = min(SHARDS, n) if enough and torch.device(device).type == "cpu" else 1
    edges = [n * k // parts for k in range(parts + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


def differentiate(params: Sequence[Tensor], objectives: Sequence[Shard]) -> Tensor:
    """Set the ``grad`` of each of ``params`` to the gradient of the sum of all shards' losses; returns that sum
    (detached).

    Shards run in parallel and share nothing but ``params``: whatever else they write must be their own.
    """

    def one(shard: Shard) -> tuple[Tensor, list[Tensor]]:
        leaves = [x.detach().requires_grad_() for x in params]
        total, several = params[0].new_zeros(()), len(leaves) > 1
        gradients: list[Tensor] = []
        for loss in shard(leaves):
            found = torch.autograd.grad(loss, leaves, allow_unused=several, materialize_grads=several)
            gradients = [x.add_(y) for x, y in zip(gradients, found, strict=True)] if gradients else list(found)
            total = total + loss.detach()
        return total, gradients or [torch.zeros_like(x) for x in leaves]

    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(in_background(partial(one, shard))) for shard in objectives[1:]]
        done = [one(objectives[0]), *(other() for other in others)]
    (total, gradients), *rest = done
    for more, found in rest:
        total, gradients = total + more, [x.add_(y) for x, y in zip(gradients, found, strict=True)]
    for x, gradient in zip(params, gradients, strict=True):
        x.grad = gradient
    return total


@contextlib.contextmanager
def in_background(work: Callable[[], _T]) -> Iterator[Callable[[], _T]]:
    """Run ``work`` in another thread if one is free before the result is asked for, in the caller's otherwise.

    Yields:
        a function that returns the result (to be called once). At the context's end ``work`` has ended or never began.
    """
    if _threads.count == 1:
        yield work
        return
    if _threads.pool is None:
        _threads.pool = ThreadPoolExecutor(SHARDS - 1, "update")
    precise = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda"), torch.is_autocast_cache_enabled()
    future = _threads.pool.submit(_in_worker, work, precise)
    try:
        yield lambda: work() if future.cancel() else future.result()
    finally:
        if not future.cancel():
            wait([future])


def _in_worker(work: Callable[[], _T], precise: tuple[bool, torch.dtype, bool]) -> _T:
    if torch.get_num_threads() != _threads.each:  # each thread has a setting of its own
        torch.set_num_threads(_threads.each)
    enabled, dtype, cached = precise  # the caller's precision of products, which each thread has of its own too
    torch.set_autocast_enabled("cuda", enabled)
    torch.set_autocast_dtype("cuda", dtype)
    torch.set_autocast_cache_enabled(cached)
    return work()
