"""Build a vectorised environment from a name, on the chosen backend."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ...utils.errors import UserError, nearest, one_of
from ...utils.machine import free_memory
from ..base import EnvInfo
from ..build import constructor_args, factory, is_native, make_info, sound
from .base import BACKENDS, ON_DEATH, NativeVec, SerialVec, VecEnv, usable_cpus

#: Workers need POSIX pipes, signals and sessions.
_POSIX = os.name == "posix"


def check_memory(info: EnvInfo, n_slots: int, backend: str = "auto") -> None:
    """Refuse more environments than there is free memory for, where each takes some in processes of its own.

    Those of ``backend="ray"`` take it on other machines, whose memory is not known here.

    Raises:
        UserError: there is less.
    """
    if backend == "ray":
        return
    needed, free = n_slots * info.memory, free_memory()
    if needed and free is not None and needed > free:
        raise UserError(
            f"{n_slots} environments of '{info.name}' take {needed / 1e9:.1f} GB of memory ({info.memory / 1e6:.0f} MB "
            f"each), and {free / 1e9:.1f} GB are free: lower batch_size_run."
        )


def make_vec(
    env: str,
    env_args: Mapping[str, Any],
    n_slots: int,
    *,
    backend: str = "auto",
    workers: int | None = None,
    step_timeout: float | None = None,
    reset_timeout: float | None = None,
    on_worker_death: str = "fail",
    worker_affinity: str = "auto",
    ray_address: str | None = None,
) -> VecEnv:
    """Build ``n_slots`` slots of an environment; results are equal, bit for bit, for any backend and worker count.

    Args:
        env: name in the registry, or ``package.module:Class``.
        env_args: arguments of the environment.
        n_slots: B.
        backend: ``serial``, ``process``, ``native``, ``device`` (here the same as native, which plays whole episodes),
            ``ray``, or ``auto``: native where the environment is, else process where more than one worker makes sense,
            else serial.
        workers: processes of the `process` and `ray` backends; None: one a usable core (of the cluster); never more
            than slots.
        step_timeout, reset_timeout: seconds that one environment may take in a worker; None: no limit.
        on_worker_death: ``fail`` raises when a worker dies, hangs or raises; ``restart`` starts it again and marks its
            slots in ``VecEnv.lost``.
        worker_affinity: ``auto`` keeps each worker on one core, where there are as many workers as usable cores;
            ``none`` leaves that to the system.
        ray_address: the cluster of the `ray` backend; None: the one that RAY_ADDRESS names, else one on this machine.

    Raises:
        UserError: unknown environment, backend or argument, something missing that the environment needs, too little
            memory, or a Ray cluster that cannot be used.
        EnvError: a worker died or hung while it built its environments.
    """
    if backend not in BACKENDS:
        raise UserError(f"backend={backend!r} is not known: use {one_of(BACKENDS)}{nearest(backend, BACKENDS)}")
    if on_worker_death not in ON_DEATH:
        near = nearest(on_worker_death, ON_DEATH)
        raise UserError(f"on_worker_death={on_worker_death!r} is not known: use {one_of(ON_DEATH)}{near}")
    if n_slots < 1 or (workers is not None and workers < 1):
        raise UserError(f"{n_slots} environments with {workers} workers cannot be: at least 1 of each is needed.")
    if backend in ("native", "device") and not is_native(env):
        raise UserError(f"backend={backend} is not offered by environment '{env}': use auto, serial or process.")
    if backend in ("process", "ray") and not _POSIX:
        raise UserError(f"backend={backend} is not offered on Windows: use backend=serial, or Linux (WSL 2).")
    if backend in ("native", "device") or (backend == "auto" and is_native(env)):
        batched = factory(env)(n_slots=n_slots, **constructor_args(env, env_args))
        sound(batched.info, env)
        return NativeVec(batched, n_slots)
    info = make_info(env, env_args)
    limits: dict[str, Any] = {"step_timeout": step_timeout, "reset_timeout": reset_timeout}
    restart = on_worker_death == "restart"
    if backend == "ray":
        from .remote.vec import RayVec

        return RayVec(env, env_args, info, n_slots, workers, address=ray_address, **limits, restart=restart)
    check_memory(info, n_slots)
    count = min(n_slots, usable_cpus() if workers is None else workers)
    if backend == "process" or (backend == "auto" and count > 1 and _POSIX):
        from .process import ProcessVec

        try:
            return ProcessVec(
                env, env_args, info, n_slots, count, **limits, restart=restart, pin=worker_affinity == "auto"
            )
        except OSError as exc:
            raise UserError(f"{count} environment workers cannot be started here: {exc.strerror or exc}.") from exc
    return SerialVec(env, env_args, info, n_slots)
