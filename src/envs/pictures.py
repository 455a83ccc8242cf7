"""Pictures of Gymnasium and PettingZoo environments: render modes and frames."""

from __future__ import annotations

import inspect
from typing import Any

from ..utils.errors import UserError
from .foreign import unwrapped


def gymnasium_mode(spec: Any) -> str | None:
    """Return the ``render_mode`` to make an environment with, None where it offers no pictures by that name.

    Args:
        spec: its registered spec.
    """
    from gymnasium.envs.registration import load_env_creator

    creator = spec.entry_point if callable(spec.entry_point) else load_env_creator(spec.entry_point)
    modes = (getattr(creator, "metadata", None) or {}).get("render_modes") or ()
    return "rgb_array" if "rgb_array" in modes else None


def check_mode(render_mode: str | None) -> None:
    """Refuse a ``render_mode`` that opens a window, or that no environment has.

    Raises:
        UserError: it is neither None nor ``rgb_array``.
    """
    if render_mode not in (None, "rgb_array"):
        raise UserError(
            f"env_args.render_mode='{render_mode}' is not allowed: leave it out; `oamarl evaluate RUN --video` sets it."
        )


def gymnasium_frame(env: Any) -> Any:
    """Return the picture of a Gymnasium or PettingZoo environment, also of one that asks for the mode at every call."""
    inner = unwrapped(env)
    if "mode" in inspect.signature(inner.render).parameters:
        return inner.render(mode="rgb_array")
    return env.render()
