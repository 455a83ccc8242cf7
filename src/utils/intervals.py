"""Intervals between a run's points and tests."""

from __future__ import annotations

#: parts of a run between which there is a point and a test at least
PARTS = 5


def interval(steps: int, t_max: int) -> int:
    """Return the interval that holds in a run of ``t_max`` environment steps: ``steps``, but at most a fifth of the
    run, so that a short run has a curve too."""
    return min(steps, max(1, t_max // PARTS))
