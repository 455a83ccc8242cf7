"""The row that minimises variance plus squared bias: against its optimality conditions, limits and special cases."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from oamarl.components.reuse import bias_limit, bound_row

OWN = np.array([1.0, 0.0, 0.0, 0.0])


def cost(row: np.ndarray, b: np.ndarray, v: np.ndarray, kappa: float) -> float:
    return float((row**2 * v).sum() + kappa**2 * (row @ b) ** 2)


def cases(count: int = 300) -> Iterator[tuple[np.random.Generator, np.ndarray, np.ndarray, float]]:
    """Random biases and variances of 2 to 7 sources, own experience first."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        n = int(rng.integers(2, 8))
        b = rng.random(n) * rng.choice([0.02, 0.2, 1.0])
        v = rng.random(n) * rng.choice([1e-3, 0.05]) + 1e-4
        b[0] = 0.0
        yield rng, b, v, float(rng.choice([0.3, 1.0, 3.0]))


def test_it_is_a_row_and_the_optimality_conditions_hold() -> None:
    """Karush-Kuhn-Tucker: equal marginal cost of all sources in use, and none lower elsewhere."""
    some_barred = 0
    for _, b, v, kappa in cases():
        m = bound_row(b, v, kappa)
        assert (m >= 0).all()
        assert m.sum() == pytest.approx(1.0, abs=1e-12)
        assert m[0] > 0
        gradient = 2 * m * v + 2 * kappa**2 * (m @ b) * b
        used = m > 0
        assert np.ptp(gradient[used]) < 1e-9 * gradient[used].max()
        assert (gradient[~used] >= gradient[used].min() - 1e-12).all()
        some_barred += not used.all()
    assert 20 < some_barred < 280, "both kinds of row must occur"


def test_no_other_row_costs_less() -> None:
    for rng, b, v, kappa in cases(100):
        n = len(b)
        m = bound_row(b, v, kappa)
        best = cost(m, b, v, kappa)
        paper = np.r_[0.7, np.full(n - 1, 0.3 / (n - 1))]
        rows = [
            *rng.dirichlet(np.full(n, 0.1), 50),
            *rng.dirichlet(np.ones(n), 50),
            np.eye(n)[0],
            np.ones(n) / n,
            paper,
        ]
        for other in rows:
            for step in (1e-3, 0.3, 1.0):
                assert cost((1 - step) * m + step * other, b, v, kappa) >= best * (1 - 1e-9)


@pytest.mark.parametrize(
    ("b", "v", "kappa", "row"),
    [
        ([0, 0, 0, 0], [0.1] * 4, 1.0, [0.25] * 4),  # equal policies: as one shared network's gradient
        ([0, 0], [1 / 300, 1 / 100], 1.0, [0.75, 0.25]),  # by the number of steps
        ([0, 0.5, 0.2], [1, 2, 4], 0.0, [4 / 7, 2 / 7, 1 / 7]),  # inverse variances
        ([0, np.inf, 0.1], [1, 1, np.inf], 1.0, [1, 0, 0]),
        ([0, np.nan, 0.1], [1, 1, np.nan], 1.0, [1, 0, 0]),
        ([0.0], [0.3], 1.0, [1.0]),
        ([0, 0.3], [1e-12, 1e-12], 1.0, [1, 0]),  # data without end: own experience has no variance to reduce
        ([0, 1.0], [1e-3, 1e9], 1.0, [1, 0]),  # policies without a common action
        ([0, 0.2], [0.03, 0.03], 1.0, [(0.03 + 0.04) / (0.06 + 0.04), 0.03 / (0.06 + 0.04)]),
        ([0.2, 0.0], [1.0, 1.0], 1e9, [0, 1]),  # no bias at any price, in any order
        ([0, 0.1], [1e-200, 1e200], 1.0, [1, 0]),
    ],
)
def test_by_hand(b: list[float], v: list[float], kappa: float, row: list[float]) -> None:
    np.testing.assert_allclose(bound_row(np.array(b), np.array(v), kappa), row, atol=1e-9)


def test_two_agents_formula() -> None:
    """M_ij / M_ii = v_ii / (v_ij + kappa^2 b^2): a source at b = sqrt(v) has half of own experience's share."""
    for b, own, other, kappa in [(0.2, 0.03, 0.05, 1.0), (0.5, 0.01, 0.02, 3.0), (0.25, 0.0625, 0.0625, 1.0)]:
        m = bound_row(np.array([0.0, b]), np.array([own, other]), kappa)
        assert m[1] / m[0] == pytest.approx(own / (other + kappa**2 * b**2))
    assert m[1] / m[0] == pytest.approx(0.5)


def test_renaming_the_sources_renames_the_row() -> None:
    for rng, b, v, kappa in cases(100):
        p = rng.permutation(len(b))
        np.testing.assert_allclose(bound_row(b[p], v[p], kappa), bound_row(b, v, kappa)[p], atol=1e-12)


def test_a_source_that_moves_away_loses_share_without_a_jump() -> None:
    for rng, b, v, kappa in cases():
        j = int(rng.integers(1, len(b)))
        before, farther, hardly = bound_row(b, v, kappa), b.copy(), b.copy()
        farther[j] *= 1.2
        hardly[j] += 1e-7
        after = bound_row(farther, v, kappa)
        assert after[j] / after[0] <= before[j] / before[0] + 1e-12
        assert np.abs(bound_row(hardly, v, kappa) - before).max() < 1e-3


def test_bias_in_other_units_is_another_kappa() -> None:
    for _, b, v, kappa in cases(20):
        np.testing.assert_allclose(bound_row(b, v, kappa), bound_row(kappa * b, v), atol=1e-12)
        np.testing.assert_allclose(bound_row(b, v, kappa), bound_row(5.0 * b, 25.0 * v, kappa), atol=1e-12)


def test_the_limit_is_where_a_source_gets_nothing() -> None:
    """A further source just within b* has a share, just beyond it none."""
    checked = 0
    for _, b, v, kappa in cases(100):
        m = bound_row(b, v, kappa)
        limit = bias_limit(b, v, m, kappa)
        if limit == np.inf:
            continue
        more = np.r_[v, v.mean()]
        assert bound_row(np.r_[b, 0.999 * limit], more, kappa)[-1] > 0
        beyond = bound_row(np.r_[b, 1.001 * limit], more, kappa)
        assert beyond[-1] == 0
        np.testing.assert_allclose(beyond[:-1], m, atol=1e-12)
        assert (b[m > 0] <= limit).all()
        assert (b[m == 0] >= limit * (1 - 1e-12)).all()
        checked += 1
    assert checked > 50


def test_the_limit_by_hand() -> None:
    b, v = np.array([0.0, 0.5, np.inf]), np.array([1.0, 2.0, 1.0])
    assert bias_limit(b, v, bound_row(b, v)) == pytest.approx((1 + 0.125) / 0.25)
    assert bias_limit(b, v, np.array([1.0, 0.0, 0.0])) == np.inf


def test_simulated_estimates_err_least() -> None:
    """Sources with these biases and variances, averaged: own experience alone and all alike err more."""
    rng = np.random.default_rng(1)
    b, v = np.array([0, 0.05, 0.1, 0.6]), np.array([0.03, 0.03, 0.04, 0.2])
    found = b * rng.choice([-1.0, 1.0], (20_000, 1)) + rng.standard_normal((20_000, 4)) * np.sqrt(v)
    error = {tuple(row): float(((found @ row) ** 2).mean()) for row in (bound_row(b, v), OWN, np.full(4, 0.25))}
    ours, own, uniform = error.values()
    assert ours < 0.6 * own
    assert ours < 0.6 * uniform


@pytest.mark.parametrize(("b", "v"), [([np.inf], [1.0]), ([np.nan, np.inf], [1.0, 1.0])])
def test_nothing_left_to_learn_from(b: list[float], v: list[float]) -> None:
    with pytest.raises(ValueError, match="every source is barred"):
        bound_row(np.array(b), np.array(v))
