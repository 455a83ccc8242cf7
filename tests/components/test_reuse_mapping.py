"""Eq. 9, the fixed mappings and their refusals, and drawing permutations, against numbers worked out by hand."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oamarl.components.reuse import (
    adaptive_row,
    balanced,
    birkhoff,
    check_matrix,
    cyclic_support,
    draw_permutation,
    fixed_mapping,
    is_permutation,
    perfect_matching,
    sinkhorn,
)
from oamarl.utils.errors import UserError

INF = math.inf


def same(n: int) -> np.ndarray:
    return np.ones((n, n), dtype=bool)


# -- eq. 9 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distances", "learner", "sigma", "lam", "row"),
    [
        ([0.05, 0.0, 0.2, 0.1], 1, 0.1, 0.7, [0.15, 0.7, 0.0, 0.15]),  # at sigma is still near
        ([0.05, 0.0, 0.2, 0.3], 1, 0.1, 0.7, [0.3, 0.7, 0.0, 0.0]),
        ([0.2, 0.0, 0.3], 1, 0.1, 0.7, [0.0, 1.0, 0.0]),  # nobody is near
        ([0.0, 0.0, 0.0], 2, 0.1, 0.4, [0.3, 0.3, 0.4]),  # own share, also at distance 0 from others
        ([0.0, 0.0, 1e-9], 0, 0.0, 0.7, [0.7, 0.3, 0.0]),  # sigma 0 takes equal policies alone
        ([9.0, 0.0, INF, 7.0], 1, INF, 0.7, [0.15, 0.7, 0.0, 0.15]),  # no sigma reaches an infinite distance
        ([0.0, INF, INF], 0, 0.1, 0.7, [1.0, 0.0, 0.0]),
        ([math.nan, 0.0, 0.01], 1, 0.1, 0.7, [0.0, 0.7, 0.3]),  # a distance that is not a number is not near
        ([0.0, 0.0], 0, 0.1, 1.0, [1.0, 0.0]),
        ([0.0, 0.0, 0.0], 0, 0.1, 0.0, [0.0, 0.5, 0.5]),
        ([0.0], 0, 0.1, 0.7, [1.0]),
        ([0.05, INF, 0.05], 1, 0.1, 0.7, [0.15, 0.7, 0.15]),  # the own distance is not asked for
    ],
)
def test_adaptive_row_by_hand(distances: list[float], learner: int, sigma: float, lam: float, row: list[float]) -> None:
    assert adaptive_row(np.array(distances), learner, sigma, lam).tolist() == pytest.approx(row)


def test_barred_sources_are_left_out_and_the_row_is_built_anew() -> None:
    d = np.array([0.0, 0.02, 0.03, 0.04])
    assert adaptive_row(d, 0, 0.1, 0.7, barred=[2]).tolist() == pytest.approx([0.7, 0.15, 0.0, 0.15])
    assert adaptive_row(d, 0, 0.1, 0.7, barred=[1, 3, 2]).tolist() == [1.0, 0.0, 0.0, 0.0]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.05, 0.1, 0.2, INF]), min_size=1, max_size=6), st.data())
def test_adaptive_rows_sum_to_one_and_use_the_near_alone(distances: list[float], data: st.DataObject) -> None:
    i = data.draw(st.integers(0, len(distances) - 1))
    sigma, lam = data.draw(st.sampled_from([0.0, 0.1, INF])), data.draw(st.sampled_from([0.1, 0.7, 0.9]))
    row = adaptive_row(np.array(distances), i, sigma, lam)
    assert row.sum() == pytest.approx(1.0)
    near = [d <= sigma and d < INF for d in distances]
    assert [x > 0 for x in row] == [near[j] or j == i for j in range(len(row))]
    assert len({round(x, 12) for j, x in enumerate(row) if j != i and x}) <= 1  # the near share alike


# -- fixed mappings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "lam", "extra", "expected"),
    [
        ("none", 0.7, {}, [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        ("all", 0.7, {}, [[0.7, 0.15, 0.15], [0.15, 0.7, 0.15], [0.15, 0.15, 0.7]]),
        ("all", "uniform", {}, [[1 / 3] * 3] * 3),
        ("groups", 0.6, {"groups": [[0, 2], [1]]}, [[0.6, 0, 0.4], [0, 1, 0], [0.4, 0, 0.6]]),
        ("groups", "uniform", {"groups": [[0, 2]]}, [[0.5, 0, 0.5], [0, 1, 0], [0.5, 0, 0.5]]),
        ("groups", 0.6, {"groups": [[2, 0, 1]]}, [[0.6, 0.2, 0.2], [0.2, 0.6, 0.2], [0.2, 0.2, 0.6]]),
        ("matrix", 0.7, {"matrix": [[0, 1, 0], [0.5, 0, 0.5], [0, 0, 1]]}, [[0, 1, 0], [0.5, 0, 0.5], [0, 0, 1]]),
    ],
)
def test_fixed_mappings_by_hand(scheme: str, lam: Any, extra: dict, expected: list[list[float]]) -> None:
    np.testing.assert_allclose(fixed_mapping(scheme, same(3), lam, **extra), expected, rtol=1e-12)


def test_matrix_rows_are_scaled_to_sum_to_one() -> None:
    m = check_matrix([[0.3333333, 0.3333333, 0.3333333], [1, 0, 0], [0.5, 0.5, 0]], 3)
    np.testing.assert_allclose(m.sum(1), 1.0, rtol=1e-15)
    np.testing.assert_allclose(m[0], 1 / 3, rtol=1e-12)


def test_agents_with_other_spaces_may_stand_in_another_group() -> None:
    match = np.array([[True, False, True], [False, True, False], [True, False, True]])
    fixed_mapping("groups", match, 0.6, groups=[[0, 2], [1]])
    fixed_mapping("none", match, 0.6)
    fixed_mapping("matrix", match, 0.6, matrix=[[0.5, 0, 0.5], [0, 1, 0], [0, 0, 1]])


DIFFER = (
    "reuse_scheme={} lets agent {} learn from agent {}, but their observation or action spaces "
    "differ: use adaptive_kl or none, or leave that pair out."
)
NAMES = "reuse_groups={} must name each agent (0 to 2) at most once."
ENTRY = "reuse_matrix has an entry that is negative or not a number; shares are at least 0."


@pytest.mark.parametrize(
    ("scheme", "extra", "sentence"),
    [
        ("groups", {}, "reuse_scheme=groups needs reuse_groups, for example [[0, 2], [1]]."),
        ("groups", {"groups": []}, "reuse_scheme=groups needs reuse_groups, for example [[0, 2], [1]]."),
        ("groups", {"groups": [[0, 3]]}, NAMES.format([[0, 3]])),
        ("groups", {"groups": [[0, -1]]}, NAMES.format([[0, -1]])),
        ("groups", {"groups": [[0, 1], [1, 2]]}, NAMES.format([[0, 1], [1, 2]])),
        ("groups", {"groups": [[0, 0]]}, NAMES.format([[0, 0]])),
        ("matrix", {}, "reuse_scheme=matrix needs reuse_matrix, 3 rows of 3 shares."),
        (
            "matrix",
            {"matrix": [[1, 0], [0, 1]]},
            "reuse_matrix has 2 rows of [2] entries; 3 rows of 3 are needed.",
        ),
        (
            "matrix",
            {"matrix": [[1, 0, 0], [0, 1], [0, 0, 1]]},
            "reuse_matrix has 3 rows of [2, 3] entries; 3 rows of 3 are needed.",
        ),
        ("matrix", {"matrix": [[1.2, -0.2, 0], [0, 1, 0], [0, 0, 1]]}, ENTRY),
        ("matrix", {"matrix": [[math.nan, 1, 0], [0, 1, 0], [0, 0, 1]]}, ENTRY),
        ("matrix", {"matrix": [[INF, 1, 0], [0, 1, 0], [0, 0, 1]]}, ENTRY),
        (
            "matrix",
            {"matrix": [[1, 0, 0], [0.5, 0.4, 0], [0, 0, 1]]},
            "reuse_matrix row 1 sums to 0.9; each row must sum to 1.",
        ),
        (
            "matrix",
            {"matrix": [[0, 0, 0], [0, 1, 0], [0, 0, 1]]},
            "reuse_matrix row 0 sums to 0; each row must sum to 1.",
        ),
        ("all", {}, DIFFER.format("all", 0, 1)),
        ("groups", {"groups": [[1, 2]]}, DIFFER.format("groups", 1, 2)),
        ("matrix", {"matrix": [[1, 0, 0], [0, 1, 0], [0, 0.1, 0.9]]}, DIFFER.format("matrix", 2, 1)),
    ],
)
def test_refusals(scheme: str, extra: dict, sentence: str) -> None:
    # agent 1 has spaces of its own
    match = np.array([[True, False, True], [False, True, False], [True, False, True]])
    with pytest.raises(UserError) as caught:
        fixed_mapping(scheme, match, 0.7, **extra)
    assert str(caught.value) == sentence


# -- permutations ----------------------------------------------------------------------------------------------


def test_is_permutation() -> None:
    assert is_permutation(np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]]))
    assert not is_permutation(np.array([[0, 1], [0, 1]]))
    assert not is_permutation(np.array([[0.5, 0.5], [0.5, 0.5]]))


def test_cyclic_support_by_hand() -> None:
    # 0 -> 1 -> 2 -> 0 is a cycle; 3 learns from 2, but nobody there from 3; 4 and 3 from each other
    m = np.array(
        [
            [0.5, 0.5, 0.0, 0.0, 0.0],
            [0.0, 0.5, 0.5, 0.0, 0.0],
            [0.5, 0.0, 0.5, 0.0, 0.0],
            [0.0, 0.0, 0.2, 0.5, 0.3],
            [0.0, 0.0, 0.0, 0.5, 0.5],
        ]
    )
    expected = m > 0
    expected[3, 2] = False
    np.testing.assert_array_equal(cyclic_support(m), expected)


matrices = st.integers(1, 4).flatmap(
    lambda n: st.lists(
        st.lists(st.sampled_from([0.0, 0.0, 0.05, 0.3, 1.0]), min_size=n, max_size=n), min_size=n, max_size=n
    ).map(lambda rows: _with_diagonal(np.array(rows)))
)


def _with_diagonal(m: np.ndarray) -> np.ndarray:
    m = m + 0.1 * np.eye(len(m))
    return m / m.sum(1, keepdims=True)


@settings(max_examples=80, deadline=None)
@given(matrices)
def test_cyclic_support_is_the_union_of_the_permutations_inside(m: np.ndarray) -> None:
    n = len(m)
    inside = np.zeros((n, n), dtype=bool)
    for e in permutations(range(n)):
        if all(m[i, e[i]] > 0 for i in range(n)):
            inside[np.arange(n), list(e)] = True
    np.testing.assert_array_equal(cyclic_support(m), inside)


def test_sinkhorn_by_hand() -> None:
    # scaling rows and columns keeps ad / bc = (0.8 * 0.5) / (0.2 * 0.5) = 4, so p / (1 - p) = 2
    m = np.array([[0.8, 0.2], [0.5, 0.5]])
    np.testing.assert_allclose(sinkhorn(m), [[2 / 3, 1 / 3], [1 / 3, 2 / 3]], atol=1e-9)
    assert m.tolist() == [[0.8, 0.2], [0.5, 0.5]]
    doubly = np.array([[0.7, 0.3], [0.3, 0.7]])
    np.testing.assert_allclose(sinkhorn(doubly), doubly, atol=1e-15)


def test_perfect_matching_steps_aside_for_who_has_no_choice() -> None:
    # 0 takes column 0 first, and must give it up to 1, who knows no other, and then column 1 to 2
    support = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0]], dtype=bool)
    assert perfect_matching(support).tolist() == [2, 0, 1]
    with pytest.raises(ValueError, match="no permutation"):
        perfect_matching(np.array([[1, 0, 0], [1, 0, 0], [1, 1, 1]], dtype=bool))


def test_birkhoff_by_hand() -> None:
    m = np.array([[0.75, 0.25, 0.0], [0.0, 0.75, 0.25], [0.25, 0.0, 0.75]])
    parts = {tuple(e.tolist()): w for w, e in birkhoff(m)}
    assert parts == pytest.approx({(0, 1, 2): 0.75, (1, 2, 0): 0.25})


@settings(max_examples=60, deadline=None)
@given(matrices)
def test_birkhoff_reconstructs_what_is_balanced(m: np.ndarray) -> None:
    doubly = balanced(m)
    np.testing.assert_allclose(doubly.sum(0), 1.0, atol=1e-8)
    np.testing.assert_allclose(doubly.sum(1), 1.0, atol=1e-8)
    parts = birkhoff(doubly)
    assert sum(w for w, _ in parts) == pytest.approx(1.0)
    rebuilt = np.zeros_like(doubly)
    for weight, e in parts:
        assert weight > 0
        assert sorted(e.tolist()) == list(range(len(m)))
        rebuilt[np.arange(len(m)), e] += weight
    np.testing.assert_allclose(rebuilt, doubly, atol=1e-7)


def frequencies(m: np.ndarray, draws: int) -> np.ndarray:
    """How often each source is drawn over ``draws`` evenly spaced uniforms."""
    n = len(m)
    counts = np.zeros((n, n))
    for uniform in (np.arange(draws) + 0.5) / draws:
        e, _ = draw_permutation(m, float(uniform))
        assert sorted(e.tolist()) == list(range(n))
        counts[np.arange(n), e] += 1
    return counts / draws


def test_draws_by_hand() -> None:
    m = np.array([[0.8, 0.2], [0.5, 0.5]])
    np.testing.assert_allclose(frequencies(m, 300), [[2 / 3, 1 / 3], [1 / 3, 2 / 3]], atol=1 / 300)
    assert draw_permutation(m, 0.3)[1] == pytest.approx(1 / 6)  # |1/3 - 0.5|, beyond |2/3 - 0.8|


def test_draws_follow_the_balanced_mapping() -> None:
    # adaptive rows: 0, 1 and 2 are near one another, 3 is near to 0, whom nobody's path leads back to 3
    m = np.array([[0.6, 0.2, 0.2, 0], [0.4, 0.6, 0, 0], [0.2, 0.2, 0.6, 0], [0.4, 0, 0, 0.6]])
    seen = frequencies(m, 500)
    parts = len(birkhoff(balanced(m)))
    np.testing.assert_allclose(seen, balanced(m), atol=parts / 500)
    assert seen[3].tolist() == [0, 0, 0, 1]
    assert (seen[:3, :3] > 0).sum() == 8
    assert draw_permutation(m, 0.5)[1] == pytest.approx(np.abs(balanced(m) - m).max())


@pytest.mark.parametrize("uniform", [0.0, 0.31, 0.999999999])
def test_a_permutation_is_drawn_as_it_is(uniform: float) -> None:
    # agent 0 learns from 1, 1 from 2, 2 from 0; no diagonal is needed
    cycle = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
    e, deviation = draw_permutation(cycle, uniform)
    assert (e.tolist(), deviation) == ([1, 2, 0], 0.0)
    e, deviation = draw_permutation(np.eye(3), uniform)
    assert (e.tolist(), deviation) == ([0, 1, 2], 0.0)


def test_the_ends_of_the_unit_interval_draw_the_first_and_the_last_part() -> None:
    m = np.array([[0.75, 0.25, 0.0], [0.0, 0.75, 0.25], [0.25, 0.0, 0.75]])
    first, last = draw_permutation(m, 0.0)[0].tolist(), draw_permutation(m, 1.0 - 1e-16)[0].tolist()
    assert {tuple(first), tuple(last)} == {(0, 1, 2), (1, 2, 0)}
    edge = birkhoff(balanced(m))[0][0]  # [0, edge) is the first part's, [edge, 1) the last one's
    assert draw_permutation(m, float(np.nextafter(edge, 0.0)))[0].tolist() == first
    assert draw_permutation(m, edge)[0].tolist() == last


def test_thirty_agents_are_drawn_in_good_time() -> None:
    rng = np.random.default_rng(0)
    d = rng.random((30, 30))
    m = np.stack([adaptive_row(d[i], i, 0.4, 0.7) for i in range(30)])
    e, deviation = draw_permutation(m, 0.4)
    assert sorted(e.tolist()) == list(range(30))
    assert (m[np.arange(30), e] > 0).all()
    assert 0.0 < deviation < 1.0
