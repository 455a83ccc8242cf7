"""Work that is repeated on a GPU, as one CUDA graph: hundreds of launches become one.

A small kernel takes a GPU about a microsecond, and a processor several times as long to launch. Of a graph the
processor launches all kernels at once, with the numbers that the same work gives without one. On the CPU, work is done
as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import torch

_T = TypeVar("_T")


def captures(device: torch.device) -> bool:
    """Return whether repeated work on ``device`` becomes a graph."""
    return device.type == "cuda"


class Graphs:
    """The CUDA graphs of one user, a learner or a runner, which are captured anew for each batch.

    They share one pool of memory, which each batch's graphs take over from the last one's: no two of them may be
    replayed at the same time, nor may a result be kept beyond the next replay.

    Args:
        device: where the work is.
        known: whether the work is this package's own alone: a network of the user's may read from the device, which no
            graph can hold, and its work is done as it is.
    """

    def __init__(self, device: torch.device, known: bool) -> None:
        self.device, self.active = device, known and captures(device)
        self._done: set[Hashable] = set()
        self._pool: Any = None
        self._stream: Any = None
        self._kept: list[Any] = []
        self._before: list[Any] = []

    def renew(self) -> None:
        """Let the graphs so far go: their tensors are of the last batch."""
        # the pool lives while a graph of it does
        self._before, self._kept = self._kept or self._before, []

    def repeated(self, name: Hashable, work: Callable[[], _T]) -> Repeated[_T]:
        """Return ``work`` as a function that is called again and again, each time with the same tensors.

        What it changes it must change in place, and it must not read from the device.

        Args:
            name: which work it is, the same in each batch. The first time of all it is done without a graph, for what
                libraries set up when they are first used.
            work: the work.
        """
        return Repeated(self, name, work)

    def capture(self, work: Callable[[], _T]) -> tuple[Any, _T]:
        """Return a graph of ``work``, which is not done yet, and the result that each replay writes."""
        if self._pool is None:
            self._pool, self._stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream(self.device)
        graph, outside = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self.device)
        self._stream.wait_stream(outside)
        with torch.cuda.stream(self._stream):
            # other threads, such as JAX's, may use the device meanwhile
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                result = work()
            finally:
                graph.capture_end()
        outside.wait_stream(self._stream)
        self._kept.append(graph)
        return graph, result

    def first_time(self, name: Hashable) -> bool:
        """Return whether work of this name was never done before."""
        if name in self._done:
            return False
        self._done.add(name)
        return True


class Repeated(Generic[_T]):
    """See :meth:`Graphs.repeated`."""

    def __init__(self, graphs: Graphs, name: Hashable, work: Callable[[], _T]) -> None:
        self._graphs, self._name, self._work = graphs, name, work
        self._graph: Any = None
        self._result: _T

    def __call__(self) -> _T:
        """Do the work; on a GPU the result is overwritten by the next call."""
        graphs = self._graphs
        if not graphs.active or (self._graph is None and graphs.first_time(self._name)):
            return self._work()
        if self._graph is None:
            self._graph, self._result = graphs.capture(self._work)
        self._graph.replay()
        return self._result
