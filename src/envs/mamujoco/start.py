"""Gymnasium's MuJoCo tasks: import, construction, and the swimmer of many segments."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ...utils.errors import NotInstalled, UserError, first_line, nearest, one_of
from ...utils.project import extra
from .robots import Robot

VERSIONS = ("v5", "v4")


def start(robot: Robot, task_version: str, n_joints: int, render_mode: str | None) -> Any:
    """Return Gymnasium's environment of a robot, without wrappers.

    Args:
        robot: the robot.
        task_version: ``v5`` or ``v4``.
        n_joints: joints with a motor; a robot without a number of its own gets so many.
        render_mode: ``rgb_array`` where it will be drawn.

    Raises:
        UserError: an unknown version, MuJoCo missing or broken, or a version that lacks the robot.
    """
    if task_version not in VERSIONS:
        near = nearest(task_version, VERSIONS)
        raise UserError(f"env_args.task_version='{task_version}' is not known: use {one_of(VERSIONS)}{near}")
    if not robot.joints and task_version != "v5":
        raise UserError(
            f"env_args.task_version={task_version} has no ManySegmentSwimmer: use env_args.task_version=v5."
        )
    task, mujoco = _load(f"{robot.task}-{task_version}")
    with _quiet(mujoco):
        if robot.joints:
            return task(render_mode=render_mode)
        with tempfile.TemporaryDirectory(prefix="oamarl-") as folder:
            file = Path(folder) / "swimmer.xml"
            many_segments(assets() / "swimmer.xml", n_joints).write(file)
            return task(xml_file=str(file), render_mode=render_mode)


def _load(task: str) -> tuple[Any, Any]:
    """Return the class of a Gymnasium task, and the package ``mujoco``."""
    try:
        # as Any: neither package declares all of its types
        mujoco: Any = importlib.import_module("mujoco")
        registration: Any = importlib.import_module("gymnasium.envs.registration")
        return registration.load_env_creator(registration.spec(task).entry_point), mujoco
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("mujoco", "imageio", "glfw", "packaging"):
            raise UserError(f"mamujoco cannot be used: {first_line(error)}.") from None
        raise NotInstalled(
            f"mamujoco needs the Python package '{missing}', which is not installed: run `{extra('mamujoco')}`."
        ) from None
    except Exception as error:  # such as a library that does not fit this system
        if os.environ.get("MUJOCO_GL"):  # the libraries for pictures are imported with MuJoCo
            raise UserError(_no_pictures(error)) from None
        raise UserError(f"mamujoco cannot be used: importing MuJoCo fails: {first_line(error)}.") from None


@contextmanager
def _quiet(mujoco: Any) -> Iterator[None]:
    """Drop MuJoCo's warnings: it prints, and writes into a file, that the tasks' own models use old attributes."""
    if not hasattr(mujoco, "set_mju_user_warning"):
        yield
        return
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda text: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)


def assets() -> Path:
    """Return the folder of the models that come with Gymnasium."""
    package = importlib.import_module("gymnasium.envs.mujoco")
    return Path(str(package.__file__)).parent / "assets"


def many_segments(swimmer: Path, n_joints: int) -> Any:
    """Return Gymnasium's swimmer with ``n_joints`` joints in place of 2: a chain of segments of one kind.

    As in MAMuJoCo (Peng et al. 2021) and Gymnasium-Robotics, the axes of the inner joints point up and down in turn.

    Args:
        swimmer: Gymnasium's model file.
    """
    tree = ElementTree.parse(swimmer)
    body = next(b for b in tree.iter("body") if b.get("name") == "mid")
    following = next(iter(body.findall("body")))
    motors = next(iter(tree.iter("actuator")))
    like = dict(next(iter(motors)).attrib)
    for motor in list(motors):
        motors.remove(motor)
    for i in range(n_joints):
        if i:
            inner = ElementTree.SubElement(body, "body", {"name": f"mid{i}", "pos": str(following.get("pos"))})
            inner.extend(ElementTree.fromstring(ElementTree.tostring(part)) for part in following)
            if i == 1:
                body.remove(following)
            body = inner
        joint = next(iter(body.findall("joint")))
        up = -1 if i % 2 == 0 and 0 < i < n_joints - 1 else 1
        joint.attrib.update(name=f"rot{i}", axis=f"0 0 {up}")
        ElementTree.SubElement(motors, "motor", like | {"joint": f"rot{i}"})
    return tree


def draw(env: Any) -> Any:
    """Return the picture of this moment of a Gymnasium MuJoCo environment, uint8 [H, W, 3].

    Raises:
        UserError: there is no OpenGL that draws without a display.
    """
    try:
        return env.render()
    except Exception as error:  # each of MuJoCo's drawing libraries raises errors of its own
        raise UserError(_no_pictures(error)) from None


def _no_pictures(error: Exception) -> str:
    """Return the sentence about a machine on which MuJoCo cannot draw."""
    how = os.environ.get("MUJOCO_GL")
    said = f"MUJOCO_GL={how}" if how else "MUJOCO_GL is not set"
    return (
        f"MuJoCo cannot draw here ({said}: {first_line(error)}): MUJOCO_GL=egl needs EGL (Debian: libegl1 and a driver "
        "or libegl-mesa0), MUJOCO_GL=osmesa needs libosmesa6, MUJOCO_GL=glfw a display."
    )
