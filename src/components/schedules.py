"""Values that change over training, as functions of the environment step."""

from __future__ import annotations


def scheduled(schedule: str, start: float, final: float, t_env: int, t_max: float) -> float:
    """Return the value at ``t_env``: ``constant`` keeps ``start``, ``linear`` reaches ``final`` at ``t_max``."""
    if schedule == "constant":
        return start
    done = min(max(t_env / max(t_max, 1), 0.0), 1.0)
    return start + (final - start) * done
