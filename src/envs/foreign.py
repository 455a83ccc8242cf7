"""Environments of other packages, and what one that merely looks like theirs may lack."""

from __future__ import annotations

from typing import Any


def unwrapped(env: Any) -> Any:
    """Return the environment inside a package's wrappers: ``env`` itself where it knows of none."""
    return getattr(env, "unwrapped", env)


def close(env: Any) -> None:
    """Close ``env``, if it can be closed."""
    if hasattr(env, "close"):
        env.close()
