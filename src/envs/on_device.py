"""Environments whose slots live on a torch device (`backend: device`): tensors in, tensors out, no copy to the host.

A native environment (:class:`~.base.BatchedEnv`) has this form where its class has a method
``on_device(device) -> DeviceEnv``, which hands its slots over: it is not stepped itself from then on.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..utils.errors import UserError
from .base import EnvInfo
from .build import constructor_args, factory, is_native, sound

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: names of fields -> tensors [B, ...] of the shapes and types of :data:`~oamarl.components.experience.TABLE`
Tensors = Mapping[str, "Tensor"]


class DeviceStep(NamedTuple):
    """What a step of B slots gave; each has all its fields of the environment.

    | field | meaning |
    |---|---|
    | after | what the step set: reward, terminated, truncated, agent_terminated, and the episode's metrics so far |
    | final | obs, state and avail right after the step: of an episode that ended the final ones |
    | shown | obs, state, avail and alive as policies see them next: where an episode ended, the next one's first |
    """

    after: Tensors
    final: Tensors
    shown: Tensors


class DeviceEnv(Protocol):
    """B slots on a device; their numbers are, within rounding, those of the environment's native form.

    Nothing here waits for the device or reads from it, and no tensor that was handed out is written again.
    """

    info: EnvInfo
    device: torch.device

    def reset(self, where: Tensor, seeds: Tensor) -> Tensors:
        """Start episodes from ``seeds`` [B] int64 in the slots ``where`` [B] bool; returns what all slots show.

        The first call starts every slot.
        """

    def step(self, actions: Tensor, seeds: Tensor) -> DeviceStep:
        """Apply ``actions`` [B, N] int64 (or [B, N, D] float32 within the bounds) in every slot.

        Args:
            actions: of all slots.
            seeds: [B] int64 of the episodes that begin where one ends at this step.
        """

    def close(self) -> None:
        """Release what the environment holds."""


def has_device_form(env: str) -> bool:
    """Return whether an environment's slots can live on a device."""
    return is_native(env) and inspect.getattr_static(factory(env), "on_device", None) is not None


def check_device_form(env: str) -> None:
    """Refuse an environment that has no form on a device.

    Raises:
        UserError: it has none.
    """
    if not has_device_form(env):
        instead = "auto or native" if is_native(env) else "auto, serial or process"
        raise UserError(
            f"backend=device is not offered by environment '{env}', whose episodes are not tensors: use {instead}."
        )


def make_on_device(env: str, env_args: Mapping[str, Any], n_slots: int, device: torch.device) -> DeviceEnv:
    """Build ``n_slots`` slots of an environment on ``device``.

    Raises:
        UserError: the environment has no such form, wrong arguments, or something missing that it needs.
    """
    check_device_form(env)
    batched = factory(env)(n_slots=n_slots, **constructor_args(env, env_args))
    sound(batched.info, env)
    made: DeviceEnv = batched.on_device(device)
    return made


def same_device(given: str, wanted: torch.device) -> None:
    """Refuse an environment whose own argument ``device`` puts it elsewhere than the networks.

    Args:
        given: the value of ``env_args.device``, ``cpu`` or another one.
        wanted: where the networks are.

    Raises:
        UserError: the two are different.
    """
    if (given == "cpu") != (wanted.type == "cpu"):
        fitting = "env_args.device=cpu" if wanted.type == "cpu" else "env_args.device=cuda (smax: gpu)"
        raise UserError(
            f"backend=device keeps everything on one device: the networks are on '{wanted.type}' and "
            f"env_args.device={given}; use {fitting}, or another use_cuda."
        )
