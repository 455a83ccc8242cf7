"""The reuse mapping: who learns from whose experience (off-agent paper, sections 4.2 and 5.3).

M[i, j] is the share with which agent i, the LEARNER, uses the experience of agent j, the SOURCE (the paper's
figure 2); rows sum to 1. D[i, j] is how far the learner's policy is from the source's, on the source's
observations (eq. 5 and 9).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..utils.errors import UserError

#: Rows may miss 1 by this much in a configuration file.
ROW_TOLERANCE = 1e-6


def adaptive_row(
    distances: np.ndarray, learner: int, sigma: float, lam: float, barred: Sequence[int] = ()
) -> np.ndarray:
    """Row ``learner`` of the mapping by eq. 9.

    With J = { j != i : D[i, j] <= sigma }: M[i, i] = lambda and M[i, j] = (1 - lambda) / |J| for j in J; with J
    empty M[i, i] = 1. (Read literally, eq. 9 gives lambda to every pair at distance 0, and rows would not sum to 1.)

    Args:
        distances: [N], D[i, .]; infinity bars a source.
        barred: sources left out whatever their distance.
    """
    # an infinite distance bars a source under an infinite sigma too
    reachable = np.isfinite(distances) & (distances <= sigma)
    near = [j for j in range(len(distances)) if j != learner and reachable[j] and j not in barred]
    return _row(len(distances), learner, near, lam)


def _row(n: int, learner: int, others: Sequence[int], lam: float | str) -> np.ndarray:
    row = np.zeros(n)
    if not len(others):
        row[learner] = 1.0
        return row
    own = 1.0 / (len(others) + 1) if lam == "uniform" else float(lam)
    row[learner] = own
    row[list(others)] = (1.0 - own) / len(others)
    return row


def fixed_mapping(
    scheme: str,
    match: np.ndarray,
    lam: float | str,
    groups: Sequence[Sequence[int]] | None = None,
    matrix: Sequence[Sequence[float]] | None = None,
) -> np.ndarray:
    """The mappings that do not depend on the policies.

    Args:
        scheme: ``none`` (NR: HAPPO and HATRPO), ``all`` (AR), ``groups`` (RR, UR), ``matrix``.
        match: [N, N] bool, which agents have the same original spaces.
        lam: own experience's share lambda, or ``uniform`` for 1/|set|.
        groups: disjoint lists of agents; an agent in none learns from itself.
        matrix: [N, N] rows of shares.

    Raises:
        UserError: a wrong size, a negative entry, a row that does not sum to 1, agents named twice or not
            there, or reuse between agents whose spaces differ.
    """
    n = len(match)
    if scheme == "none":
        return np.eye(n)
    if scheme == "matrix":
        m = check_matrix(matrix, n)
    else:
        sets = [list(range(n))] if scheme == "all" else check_groups(groups, n)
        m = np.eye(n)
        for members in sets:
            for i in members:
                m[i] = _row(n, i, [j for j in members if j != i], lam)
    clash = np.argwhere((m > 0) & ~match)
    if len(clash):
        i, j = clash[0]
        raise UserError(
            f"reuse_scheme={scheme} lets agent {i} learn from agent {j}, but their observation or action spaces "
            "differ: use adaptive_kl or none, or leave that pair out."
        )
    return m


def check_groups(groups: Sequence[Sequence[int]] | None, n: int) -> list[list[int]]:
    """Return ``reuse_groups`` checked: disjoint, existing agents."""
    if not groups:
        raise UserError("reuse_scheme=groups needs reuse_groups, for example [[0, 2], [1]].")
    named = [i for g in groups for i in g]
    if any(i < 0 or i >= n for i in named) or len(set(named)) != len(named):
        raise UserError(f"reuse_groups={list(groups)} must name each agent (0 to {n - 1}) at most once.")
    return [list(g) for g in groups]


def check_matrix(matrix: Sequence[Sequence[float]] | None, n: int) -> np.ndarray:
    """Return ``reuse_matrix`` as [N, N], checked and its rows scaled to sum to exactly 1."""
    if matrix is None:
        raise UserError(f"reuse_scheme=matrix needs reuse_matrix, {n} rows of {n} shares.")
    if len(matrix) != n or any(len(row) != n for row in matrix):
        raise UserError(
            f"reuse_matrix has {len(matrix)} rows of {sorted({len(r) for r in matrix})} entries; "
            f"{n} rows of {n} are needed."
        )
    m = np.asarray(matrix, dtype=float)
    if not np.isfinite(m).all() or (m < 0).any():
        raise UserError("reuse_matrix has an entry that is negative or not a number; shares are at least 0.")
    sums = m.sum(1)
    for i, total in enumerate(sums):
        if abs(total - 1.0) > ROW_TOLERANCE:
            raise UserError(f"reuse_matrix row {i} sums to {total:g}; each row must sum to 1.")
    return m / sums[:, None]


def bound_row(bias: np.ndarray, variance: np.ndarray, kappa: float = 1.0) -> np.ndarray:
    """The row M that bounds the error of a learner's gradient: variance plus squared bias, with no threshold to set.

        M = argmin over the simplex of  sum_j M_j^2 v_j + kappa^2 (sum_j M_j b_j)^2

    In closed form: over the sources S in use, w_j = (1 - kappa^2 b_j S1 / (1 + kappa^2 S2)) / v_j with S1 = sum b/v and
    S2 = sum b^2/v; the source of the largest bias is dropped while that is negative; M = w / sum w.

    Args:
        bias: [N] b_j, 0 for own experience; infinity bars a source.
        variance: [N] v_j above 0; infinity bars a source.
        kappa: weight of the bias.

    Raises:
        ValueError: no source is left, own experience among them.
    """
    b, v = np.asarray(bias, float), np.asarray(variance, float)
    usable = np.isfinite(b) & np.isfinite(v)
    order = [j for j in np.argsort(b, kind="stable") if usable[j]]
    for keep in range(len(order), 0, -1):
        s = order[:keep]
        # scaled by the smallest variance, so that 1/v stays a number
        scale = v[s].min()
        w, bw = scale / v[s], b[s] / v[s]
        s1, s2 = bw.sum(), (b[s] * bw).sum()
        w = w * (1.0 - kappa**2 * b[s] * s1 / (1.0 + kappa**2 * s2))
        if w.min() >= 0 or keep == 1:
            row = np.zeros(len(b))
            row[s] = w / w.sum()
            return row
    raise ValueError("every source is barred, own experience too")


def bias_limit(bias: np.ndarray, variance: np.ndarray, row: np.ndarray, kappa: float = 1.0) -> float:
    """b*: the bias beyond which :func:`bound_row` gives a source nothing, (1 + kappa^2 S2) / (kappa^2 S1) over the
    sources in use; infinite where none of them has a bias."""
    used = row > 0
    b, v = np.asarray(bias, float)[used], np.asarray(variance, float)[used]
    s1 = float((b / v).sum())
    return (1.0 + kappa**2 * float((b**2 / v).sum())) / (kappa**2 * s1) if s1 > 0 else float("inf")


# -- one permutation per iteration (Algorithm 1, lines 5-6) -------------------------------------------------


def is_permutation(m: np.ndarray) -> bool:
    """True where every row and column of ``m`` has a single 1 and zeros."""
    return bool(((m == 0) | (m == 1)).all() and (m.sum(0) == 1).all() and (m.sum(1) == 1).all())


def cyclic_support(m: np.ndarray) -> np.ndarray:
    """[N, N] bool: the entries of ``m`` that lie on a permutation of its support.

    With a positive diagonal these are the entries inside one strongly connected component: a path back from
    source to learner closes the cycle, and all other agents keep their own experience.
    """
    n = len(m)
    reach = (m > 0) | np.eye(n, dtype=bool)
    for k in range(n):
        reach |= reach[:, k : k + 1] & reach[k : k + 1, :]
    return (m > 0) & reach & reach.T


def sinkhorn(m: np.ndarray, tol: float = 1e-10, iterations: int = 100_000) -> np.ndarray:
    """Balance a non-negative matrix with total support to a doubly stochastic one (rows and columns sum to 1)."""
    m = m.copy()
    for _ in range(iterations):
        m /= m.sum(0, keepdims=True)
        m /= m.sum(1, keepdims=True)
        if np.abs(m.sum(0) - 1.0).max() <= tol:
            break
    return m


def perfect_matching(support: np.ndarray) -> np.ndarray:
    """Return e with support[i, e[i]] True for all i, every column once (augmenting paths).

    Raises:
        ValueError: there is none.
    """
    n = len(support)
    owner = np.full(n, -1)

    def place(i: int, seen: np.ndarray) -> bool:
        for j in np.flatnonzero(support[i] & ~seen):
            seen[j] = True
            if owner[j] < 0 or place(int(owner[j]), seen):
                owner[j] = i
                return True
        return False

    for i in range(n):
        if not place(i, np.zeros(n, dtype=bool)):
            raise ValueError("no permutation lies in the support")
    return np.argsort(owner)


def birkhoff(m: np.ndarray, tol: float = 1e-9) -> list[tuple[float, np.ndarray]]:
    """Decompose a doubly stochastic matrix into weighted permutations (Birkhoff-von Neumann), weights summing to 1."""
    rest, parts = m.copy(), []
    n = len(m)
    while rest.sum() > n * tol:
        try:
            e = perfect_matching(rest > tol)
        except ValueError:  # what is left is rounding
            break
        weight = rest[np.arange(n), e].min()
        rest[np.arange(n), e] -= weight
        parts.append((float(weight), e))
    total = sum(w for w, _ in parts)
    return [(w / total, e) for w, e in parts]


def balanced(m: np.ndarray) -> np.ndarray:
    """The doubly stochastic M' that ``sample`` draws from: entries on no permutation dropped, the rest balanced."""
    return m if is_permutation(m) else sinkhorn(np.where(cyclic_support(m), m, 0.0))


def draw_permutation(m: np.ndarray, uniform: float) -> tuple[np.ndarray, float]:
    """Draw a mapping e (e[i] = the source of learner i) with P(e[i] = j) = M'[i, j].

    Args:
        m: [N, N] mapping with a positive diagonal, or itself a permutation.
        uniform: a draw from [0, 1).

    Returns:
        e [N] and the largest |M' - M|.
    """
    doubly = balanced(m)
    parts = birkhoff(doubly)
    cumulative = np.cumsum([w for w, _ in parts])
    e = parts[min(int(np.searchsorted(cumulative, uniform, side="right")), len(parts) - 1)][1]
    return e, float(np.abs(doubly - m).max())
