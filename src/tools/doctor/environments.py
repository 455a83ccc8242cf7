"""Environments, each started for a few steps of random play, and the worker processes that step them."""

from __future__ import annotations

import numpy as np

from ...envs.conformance.examples import Example, not_installed
from ...utils.errors import NotInstalled, UserError, counted, sizes_text

_STEPS = 3


def play(example: Example) -> str:
    """Play a few steps in two slots, on the backend that a run would take by itself in one process.

    Raises:
        NotInstalled: it needs something that is not there.
        UserError, EnvError: it cannot be played.
    """
    from ...envs.build import is_native

    try:
        args = example.args()
        return _played(example.env, args, "native" if is_native(example.env) else "serial")
    except UserError as error:
        if not_installed(example, error):
            raise NotInstalled(str(error)) from error
        raise


def workers() -> str:
    """Step an environment in two worker processes.

    Raises:
        UserError, EnvError: workers cannot be started here, or end.
    """
    from ...envs.vector.base import usable_cpus

    _played("matrix", {"steps": _STEPS}, "process")
    return f"2 processes; {counted(usable_cpus(), 'core')} to use"


def _played(env: str, args: dict[str, object], backend: str) -> str:
    from ...envs.vector.make import make_vec
    from ...modules.acting import random_actions

    vec = make_vec(env, args, 2, backend=backend, workers=2)
    try:
        info, rng = vec.info, np.random.default_rng(0)
        vec.reset(np.arange(2), np.arange(2))
        for _ in range(_STEPS):
            active = ~(vec.arrays.terminated | vec.arrays.truncated)
            if not active.any():
                break
            vec.step(np.stack([random_actions(info, avail, rng) for avail in vec.arrays.avail]), active)
    finally:
        vec.close()
    return (
        f"{info.name}: {counted(info.n_agents, 'agent')}, observations {sizes_text(info.obs_sizes)}, actions "
        f"{sizes_text(info.action_sizes)}"
    )
