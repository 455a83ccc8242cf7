"""Threads that take turns, and meet where work is shared."""

from __future__ import annotations

from typing import Any

import pytest

from oamarl.utils.turns import Request, Turns


def test_all_wait_before_anything_is_served() -> None:
    """Requests of the first kind go first; a thread that ends leaves the others to themselves."""
    served: list[tuple[str, list[int]]] = []

    def serve(waiting: dict[int, Request]) -> None:
        kind = min(request.kind for request in waiting.values())
        served.append((kind, [k for k, request in waiting.items() if request.kind == kind]))
        for request in waiting.values():
            if request.kind == kind:
                request.answer(2 * request.content)

    turns = Turns(serve)

    def body(rounds: int) -> int:
        total = 0
        for i in range(rounds):
            total += turns.meet("a", i) if i == 0 else 0
            total += turns.meet("b", i)
        return total

    assert turns.run([lambda: body(1), lambda: body(3)]) == [0, 6]
    assert served == [("a", [0, 1]), ("b", [0, 1]), ("b", [1]), ("b", [1])]


def test_errors_reach_those_that_asked() -> None:
    def serve(waiting: dict[int, Request]) -> None:
        for k, request in waiting.items():
            request.answer(error=ValueError(f"no {k}") if request.content else None)

    turns = Turns(serve)
    found: list[Any] = turns.run([lambda: turns.meet("x", False), lambda: turns.meet("x", True)])
    assert found[0] is None
    assert str(found[1]) == "no 1"


def test_an_interruption_ends_every_thread() -> None:
    ended = []

    def serve(waiting: dict[int, Request]) -> None:
        raise KeyboardInterrupt("enough")

    turns = Turns(serve)

    def body(k: int) -> None:
        try:
            turns.meet("x", k)
        finally:
            ended.append(k)

    with pytest.raises(KeyboardInterrupt, match="enough"):
        turns.run([lambda: body(0), lambda: body(1)])
    assert ended == [0, 1]
