"""Rendering of an environment while it is played: one slot in this process, built so that it can be drawn.

An environment that can be drawn has ``render() -> [H, W, 3] uint8`` (a batched one ``render(slot)``), and a
constructor argument ``render_mode`` where it must know in advance that it will be drawn. No window is opened.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..utils.errors import UserError
from .base import Arrays
from .build import check_env_args, constructor_args, factory, is_native, make_env
from .closing import close_all
from .info_metrics import InfoMetrics, attach
from .vector.base import NativeVec, VecEnv
from .vector.slots import InfoRecorder, SlotChecks


def without_display() -> None:
    """Let pyglet, pygame and MuJoCo draw into memory where there is no display; call it before they are imported."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        os.environ.setdefault("PYGLET_HEADLESS", "true")
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        os.environ.setdefault("MUJOCO_GL", "egl")
        if "pyglet" in sys.modules:
            sys.modules["pyglet"].options["headless"] = True


def takes_render_mode(env: str) -> bool:
    """Return whether the environment's constructor has an argument ``render_mode``."""
    return "render_mode" in inspect.signature(factory(env)).parameters


class Watched(VecEnv):
    """A vectorised environment of one slot that can be drawn; its numbers are those of any other backend.

    Raises:
        UserError: the environment has no ``render``, or cannot be built.
    """

    def __init__(self, env: str, env_args: Mapping[str, Any]) -> None:
        without_display()
        args = check_env_args(env, env_args)
        if takes_render_mode(env):
            args["render_mode"] = "rgb_array"
        self._name, self._inner = env, None
        if is_native(env):
            self._env: Any = factory(env)(n_slots=1, **constructor_args(env, args))
            self._inner = NativeVec(self._env, 1)
            super().__init__(self._env.info, self._inner.arrays, self._inner.seeds, self._inner.steps)
        else:
            self._env = make_env(env, args)
            info = self._env.info
            seeds, steps = np.zeros((2, 1), np.int64)
            super().__init__(info, Arrays.allocate(info, 1), seeds, steps, InfoMetrics.allocate(1))
            self._checks = SlotChecks(info, self.arrays, self.seeds, self.steps)
            attach(self._env, InfoRecorder(self._checks, self.info_metrics, 0))
        if not callable(getattr(self._env, "render", None)):
            self.close()
            raise UserError(f"The environment '{env}' cannot be drawn: it has no render().")

    def _reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        if self._inner is not None:
            self._inner.reset(slots, seeds)
        else:
            self._checks.begin(slots, seeds)
            self.info_metrics.begin(slots)
            self._env.reset(int(seeds[0]), self.arrays.slot(0))
            self._checks.check()

    def _step(self, actions: np.ndarray, active: np.ndarray) -> None:
        if self._inner is not None:
            self._inner.step(actions, active)
        else:
            self.steps += active
            self._env.step(actions[0], self.arrays.slot(0))
            self._checks.check()

    def frame(self) -> np.ndarray:
        """Return the picture of this moment, [H, W, 3] uint8.

        Raises:
            UserError: it cannot be drawn here, or what came is no picture.
        """
        try:
            picture = self._env.render(0) if self._inner is not None else self._env.render()
        except UserError:
            raise
        except Exception as error:  # whatever a drawing library raises where it finds no display
            text = " ".join(str(error).split()) or "no reason given"
            raise UserError(
                f"The environment '{self.info.name}' cannot be drawn here ({type(error).__name__}: {text}); one that "
                "insists on a display runs under xvfb-run."
            ) from None
        shape = np.shape(picture)
        if len(shape) != 3 or shape[2] not in (3, 4) or np.asarray(picture).dtype != np.uint8:
            raise UserError(f"The environment '{self.info.name}' drew no picture: [H, W, 3] uint8 is expected.")
        return np.ascontiguousarray(np.asarray(picture)[..., :3])

    def close(self) -> None:
        """Release the environment."""
        env, self._env = self._env, None
        if env is not None:
            close_all([env.close], self._name)
