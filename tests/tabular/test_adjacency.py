"""Adjacent states, compared with the definition over all pairs of states."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from oamarl.envs.tabular import Blocker, Digital, Landmarks
from oamarl.envs.tabular.base import Views
from oamarl.tabular.adjacency import Adjacency, find, offsets, partners
from oamarl.utils.errors import UserError

MIXED = Views((3, 2, 4), np.array([[1, 1, 1], [1, 0, 1], [0, 1, 1], [1, 0, 1]], bool), 0)
APART = Views((3, 2), np.array([[1, 0], [0, 1], [1, 1]], bool), 0)


def states_of(views: Views, i: int) -> list[tuple[int, ...]]:
    """What agent i can see, in the order of its numbers."""
    return list(itertools.product(*(range(z) for z, seen in zip(views.sizes, views.seen[i], strict=True) if seen)))


def by_definition(views: Views, i: int, j: int, s: int, level: int) -> set[int]:
    places = [np.flatnonzero(views.seen[k]).tolist() for k in (i, j)]
    shared = sorted(set(places[0]) & set(places[1]))
    mine = dict(zip(places[0], states_of(views, i)[s], strict=True))
    found = set()
    for number, state in enumerate(states_of(views, j)):
        theirs = dict(zip(places[1], state, strict=True))
        if shared and sum(abs(mine[d] - theirs[d]) for d in shared) <= level:
            found.add(number)
    return found


def listed(adjacency: Adjacency, mask: np.ndarray, i: int, j: int, s: int) -> list[int]:
    place = adjacency.kind[i], adjacency.kind[j], s
    return sorted(adjacency.states[place][mask[place]].tolist())


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize(
    "views",
    [MIXED, APART, Digital(1, n_agents=2, n_states=5).views, Landmarks(1, cells=4).views,
     Blocker(1, n_agents=2, width=2, height=3).views],
)  # fmt: skip
def test_by_brute_force(views: Views, level: int) -> None:
    adjacency = find(views, level)
    for i, j in itertools.product(range(len(views.seen)), repeat=2):
        for s in range(len(states_of(views, i))):
            assert listed(adjacency, adjacency.adjacent, i, j, s) == sorted(by_definition(views, i, j, s, level))
            assert listed(adjacency, adjacency.same, i, j, s) == sorted(by_definition(views, i, j, s, 0))


def test_weights() -> None:
    """Digits 0, 1, 2 at level 1: kappa is spread over the neighbours and the digit itself."""
    adjacency = find(Views((3,), np.ones((2, 1), bool), 1), 1)
    assert adjacency.kind.tolist() == [0, 0]
    dense = np.zeros((3, 3))
    for s in range(3):
        np.add.at(dense[s], adjacency.states[0, 0, s], adjacency.weights(0.3)[0, 0, s])
    assert dense == pytest.approx(np.array([[0.85, 0.15, 0], [0.1, 0.8, 0.1], [0, 0.15, 0.85]]))
    assert adjacency.weights(0.0).sum() == 3


def test_agents_without_a_shared_coordinate_are_no_partners() -> None:
    adjacency = find(APART, 2)
    assert partners(adjacency, None).tolist() == [[0, 0, 1], [0, 0, 1], [0.5, 0.5, 0]]
    assert adjacency.weights(0.5)[adjacency.kind[0], adjacency.kind[1]].sum() == 0


def test_partners_in_cyclic_order() -> None:
    adjacency = find(Views((2,), np.ones((4, 1), bool), 0), 0)
    assert partners(adjacency, 0).sum() == 0
    assert partners(adjacency, 1).argmax(1).tolist() == [1, 2, 3, 0]
    assert partners(adjacency, 2)[3].tolist() == [0.5, 0.5, 0, 0]
    assert (partners(adjacency, None) == partners(adjacency, 9)).all()
    assert partners(find(Views((2,), np.ones((1, 1), bool), 0), 0), None).tolist() == [[0]]


def test_offsets() -> None:
    assert list(offsets(1, 2)) == [(-2,), (-1,), (0,), (1,), (2,)]
    assert set(offsets(2, 1)) == {(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)}
    assert len(list(offsets(3, 2))) == 25 == 1 + 3 * 2 * 2 + 3 * 4 * 1


def test_too_many() -> None:
    with pytest.raises(UserError, match="too many adjacent states"):
        find(Views((300, 300), np.ones((1, 2), bool), 0), 10**9)
