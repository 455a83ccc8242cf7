"""Updates in two threads: the same numbers as in one, whichever thread did the work."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from oamarl.components.updates import parallel
from oamarl.training.building import build

from run_tools import CPU, assert_same, settings


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = parallel._threads.count, parallel._threads.each, torch.get_num_threads()
    yield
    parallel._threads.count, parallel._threads.each = before[:2]
    torch.set_num_threads(before[2])


def test_the_gradient_is_that_of_the_sum() -> None:
    """f = sum a_k x^2 with a = 1, 2 | 3: f' = 12 x."""
    params = torch.tensor([1.0, -2.0], requires_grad=True)

    def shard(*factors: float) -> parallel.Shard:
        return lambda leaves: ((a * leaves[0] ** 2).sum() for a in factors)

    for threads in (1, 2):
        parallel.use_threads(threads)
        params.grad = torch.ones(2)  # what was there is replaced
        total = parallel.differentiate([params], [shard(1.0, 2.0), shard(3.0)])
        assert (float(total), total.requires_grad) == (30.0, False)
        assert params.grad.tolist() == [12.0, -24.0]


def test_a_shard_without_rows_adds_nothing() -> None:
    params = torch.ones(2, requires_grad=True)
    parallel.differentiate([params], [lambda leaves: iter(()), lambda leaves: [leaves[0].sum()]])
    assert params.grad is not None
    assert params.grad.tolist() == [1.0, 1.0]


def test_several_leaves_have_their_gradients_and_unused_ones_zeros() -> None:
    first, second, unused = (torch.full((k,), 2.0, requires_grad=True) for k in (1, 2, 3))
    total = parallel.differentiate(
        [first, second, unused], [lambda x: [x[0].sum() * 3.0, (x[1] ** 2).sum()], lambda x: [(x[0] * x[1]).sum()]]
    )
    assert float(total) == 6.0 + 8.0 + 8.0
    grads = [x.grad.tolist() for x in (first, second, unused) if x.grad is not None]
    assert grads == [[3.0 + 4.0], [4.0 + 2.0] * 2, [0.0] * 3]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("which", [0, 1])
def test_a_fault_in_either_shard_is_raised_when_no_thread_works_any_more(threads: int, which: int) -> None:
    parallel.use_threads(threads)
    params, done = torch.ones(1, requires_grad=True), []

    def good(leaves: list[Tensor]) -> Iterator[Tensor]:
        yield leaves[0].sum()
        done.append(1)

    def bad(leaves: list[Tensor]) -> Iterator[Tensor]:
        raise ArithmeticError("a shard failed")

    pair: list[Any] = [good, good]
    pair[which] = bad
    with pytest.raises(ArithmeticError, match="a shard failed"):
        parallel.differentiate([params], pair)
    assert parallel.differentiate([params], [good, good]) == 2.0


def test_the_other_thread_multiplies_as_exactly_as_the_caller() -> None:
    parallel.use_threads(2)
    where: list[int] = []

    def state() -> tuple[bool, torch.dtype]:
        where.append(threading.get_ident())
        return torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")

    before = state()
    try:
        for precise in ((True, torch.bfloat16), (False, torch.float16)) * 2:
            torch.set_autocast_enabled("cuda", precise[0])
            torch.set_autocast_dtype("cuda", precise[1])
            with parallel.in_background(state) as there:
                time.sleep(0.2)  # so that the other thread takes it
                assert there() == precise
        assert len(set(where)) == 2
    finally:
        torch.set_autocast_enabled("cuda", before[0])
        torch.set_autocast_dtype("cuda", before[1])


def test_work_in_the_background_is_done_once() -> None:
    parallel.use_threads(2)
    me, gate = threading.get_ident(), threading.Event()
    with parallel.in_background(threading.get_ident) as first:
        assert first() is not None
    with parallel.in_background(gate.wait) as busy:  # the only other thread is taken
        with parallel.in_background(threading.get_ident) as second:
            assert second() == me
        gate.set()
        assert busy() is True


def test_no_thread_works_on_after_the_context() -> None:
    parallel.use_threads(2)
    done: list[int] = []
    with pytest.raises(KeyboardInterrupt), parallel.in_background(lambda: done.append(1)):
        raise KeyboardInterrupt
    count = len(done)  # begun and finished, or never begun
    with parallel.in_background(lambda: None) as other:
        other()
    assert len(done) == count


@pytest.mark.parametrize(
    ("n", "rows", "recurrent", "expected"),
    [(7, 5, True, [(0, 3), (3, 7)]), (6, 5, True, [(0, 6)]), (2048, 1, False, [(0, 1024), (1024, 2048)]),
     (2047, 1, False, [(0, 2047)]), (1, 10_000, True, [(0, 1)])],
)  # fmt: skip
def test_shards(n: int, rows: int, recurrent: bool, expected: list[tuple[int, int]]) -> None:
    assert [(x.start, x.stop) for x in parallel.shards(n, rows, recurrent)] == expected
    assert len(parallel.shards(n, rows, recurrent, "cuda")) == 1


@pytest.mark.parametrize(
    ("limit", "cores", "expected"), [("", 4, 2), ("", 1, 1), ("1", 4, 1), ("8", 4, 2), ("4,2", 4, 2), ("0", 2, 2)]
)
def test_default_number_of_threads(limit: str, cores: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    assert parallel.default_threads(cores) == expected


@pytest.mark.parametrize("use_rnn", [False, True])
@pytest.mark.parametrize("config", ["mappo", "ippo_ns", "happo", "hatrpo", "oappo", "oatrpo", "ia2c", "seac"])
def test_updates_are_equal_for_any_number_of_threads(
    config: str, use_rnn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "_SEQUENCES", 1)
    monkeypatch.setattr(parallel, "_ROWS", 1)
    found = []
    for threads in (1, 2):
        parallel.use_threads(threads)
        values = {"batch_size_run": 6, "use_rnn": use_rnn, "t_max": 1000, "epochs": 2, "hidden_dim": 16}
        runner, mac, learner = build(settings(config, "maze", {"time_limit": 12}, **values), CPU)
        scalars, _ = learner.train(runner.run()[0], 0)
        found.append((scalars, mac.state_dict(), learner.state_dict()))
        runner.close()
    assert_same(found[0], found[1])
