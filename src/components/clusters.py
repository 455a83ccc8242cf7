"""Clusters of a few points: k-means, and the Davies-Bouldin index that tells how many there are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Random starts of k-means: so many that a few points are split in the best way there is.
_STARTS = 64
#: Index from which on clusters run into one another: two clusters' spreads add up to their distance.
APART = 1.0


def kmeans(points: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Return the cluster of each point, numbered in the order of the clusters' first points.

    Lloyd's algorithm from the best of many k-means++ starts (Arthur and Vassilvitskii 2007).

    Args:
        points: [n, d].
        k: clusters, 1 to n; each gets a point.
        rng: source of the starts.

    Returns:
        [n] int64, 0 to k - 1.
    """
    n = len(points)
    if not 1 <= k <= n:
        raise ValueError(f"{n} points cannot be {k} clusters")
    if k in (1, n):
        return np.arange(n) if k == n else np.zeros(n, np.int64)
    points = points.astype(np.float64)
    best, least = np.zeros(n, np.int64), np.inf
    for _ in range(_STARTS):
        labels = _lloyd(points, _spread_start(points, k, rng))
        cost = within(points, labels)
        if cost < least:
            best, least = labels, cost
    return renumbered(best)


def _spread_start(points: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Return k points [k, d], each drawn by its squared distance to those before it."""
    chosen = [int(rng.integers(len(points)))]
    for _ in range(k - 1):
        far = ((points[:, None] - points[chosen]) ** 2).sum(-1).min(1)
        far[chosen] = 0.0
        if far.sum() <= 0:  # what is left are copies
            far = np.ones(len(points))
            far[chosen] = 0.0
        chosen.append(int(rng.choice(len(points), p=far / far.sum())))
    return points[chosen]


def _lloyd(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Move points and centres in turn until nothing changes; returns the labels [n]."""
    n, k = len(points), len(centres)
    labels = np.full(n, -1)
    for _ in range(100):
        distance = ((points[:, None] - centres) ** 2).sum(-1)
        found = distance.argmin(1)
        for empty in np.flatnonzero(np.bincount(found, minlength=k) == 0):
            # a cluster that lost its points takes the one that fits worst among those with company
            fit = np.where(np.bincount(found, minlength=k)[found] > 1, distance[np.arange(n), found], -1.0)
            found[fit.argmax()] = empty
        if (found == labels).all():
            break
        labels = found
        centres = np.stack([points[labels == c].mean(0) for c in range(k)])
    return labels


def renumbered(labels: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return labels [n] numbered from 0 in the order of their first appearance."""
    numbers = {old: new for new, old in enumerate(dict.fromkeys(np.asarray(labels).tolist()))}
    return np.array([numbers[x] for x in np.asarray(labels).tolist()], np.int64)


def within(points: np.ndarray, labels: np.ndarray) -> float:
    """Return the sum of squared distances to the centres: what k-means makes small."""
    return float(sum(((points[labels == c] - points[labels == c].mean(0)) ** 2).sum() for c in np.unique(labels)))


def davies_bouldin(points: np.ndarray, labels: np.ndarray, variances: np.ndarray | None = None) -> float:
    """Return the Davies-Bouldin index of two clusters or more: the smaller, the better they are apart.

    The mean over clusters of the worst (S_a + S_b) / |centre_a - centre_b| with another one (Davies and Bouldin
    1979), infinite where centres coincide. Of points, S is their mean distance to the centre (q = 1, as most libraries
    have it). Of distributions, S is the root of the mean squared distance (q = 2) of what they draw, which has a closed
    form: a single distribution has a spread, so that splitting what is alike never looks good, as with points it does.

    Args:
        points: [n, d], or the distributions' means.
        labels: [n], the clusters 0 to k - 1.
        variances: [n, d], of distributions with independent coordinates; None: these are points.
    """
    clusters = [labels == c for c in range(int(labels.max()) + 1)]
    if len(clusters) < 2:
        raise ValueError("the Davies-Bouldin index compares two clusters or more")
    centres = np.stack([points[c].mean(0) for c in clusters])
    distances = [((points[c] - centre) ** 2).sum(1) for c, centre in zip(clusters, centres, strict=True)]
    if variances is None:
        spreads = np.array([np.sqrt(d).mean() for d in distances])
    else:
        spreads = np.sqrt([(d + variances[c].sum(1)).mean() for c, d in zip(clusters, distances, strict=True)])
    between = np.sqrt(((centres[:, None] - centres) ** 2).sum(-1))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(between > 0, (spreads[:, None] + spreads) / between, np.inf)
    np.fill_diagonal(ratios, -np.inf)
    return float(ratios.max(1).mean())


def best_split(
    points: np.ndarray, variances: np.ndarray | None, rng: np.random.Generator
) -> tuple[np.ndarray, dict[int, float]]:
    """Choose the number of clusters by the Davies-Bouldin index.

    Of distributions (``variances`` given) 1 to n clusters come into question: 1 where every split runs into one another
    (index of :data:`APART` or more). Of points, for which the index says nothing about 1 and is 0 for n, 2 to n - 1.

    Returns:
        the labels [n], and the index of every number of clusters that was tried.
    """
    n = len(points)
    numbers = range(2, n if variances is None else n + 1)
    splits = {k: kmeans(points, k, rng) for k in numbers}
    index = {k: davies_bouldin(points, labels, variances) for k, labels in splits.items()}
    best = min(index, key=lambda k: index[k], default=1)
    if best == 1 or (variances is not None and index[best] >= APART):
        return np.zeros(n, np.int64), index
    return splits[best], index


def split_classes(points: np.ndarray, classes: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``k`` clusters of points [n, d] none of which joins points of different ``classes`` [n].

    The classes' numbers of clusters are those with the least sum of squared distances to the centres in all.

    Raises:
        ValueError: fewer clusters than classes, or more than points.
    """
    members = [np.flatnonzero(classes == c) for c in np.unique(classes)]
    if not len(members) <= k <= len(points):
        raise ValueError(f"{len(points)} points of {len(members)} classes cannot be {k} clusters")
    #: clusters used so far -> (cost, labels of each class so far)
    table: dict[int, tuple[float, list[np.ndarray]]] = {0: (0.0, [])}
    for own in members:
        splits = [kmeans(points[own], c, rng) for c in range(1, len(own) + 1)]
        costs = [within(points[own], labels) for labels in splits]
        following: dict[int, tuple[float, list[np.ndarray]]] = {}
        for used, (cost, chosen) in table.items():
            for labels, more in zip(splits, costs, strict=True):
                count = used + int(labels.max()) + 1
                if count not in following or cost + more < following[count][0]:
                    following[count] = cost + more, [*chosen, labels]
        table = following
    return joined(members, table[k][1])


def joined(members: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> np.ndarray:
    """Return the clusters of all points, of the ``labels`` that each class's ``members`` have among themselves."""
    found, used = np.zeros(sum(len(own) for own in members), np.int64), 0
    for own, inside in zip(members, labels, strict=True):
        found[own] = used + inside
        used += int(inside.max()) + 1
    return renumbered(found)
