"""Intervals between a run's points and tests."""

from __future__ import annotations

#: parts of a run between which there is a point or a test where its interval is too long for a curve
PARTS = 5


def interval(steps: int, t_max: int) -> int:
    """Return the interval that holds in a run of ``t_max`` environment steps: ``steps``, or, where that is more than
    half of the run, a fifth of the run, so that a short run has a curve too."""
    return steps if 2 * steps <= t_max else max(1, t_max // PARTS)
