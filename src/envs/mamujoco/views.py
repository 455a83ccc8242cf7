"""Views of single joints: what an agent sees of its own joints and of those near them (`observe: obsk`).

As in Gymnasium-Robotics' MAMuJoCo: of an agent's own joints position, velocity and, for Ant and the humanoids, forces;
of joints up to ``agent_obsk`` links away the position; and the torso's position and velocity.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from .robots import ROBOTS, Split

#: per body (cinert, cvel, cfrc_ext) or per joint; numbers of each body
_OF_BODIES = {"cinert": 10, "cvel": 6, "cfrc_ext": 6}


@dataclass(frozen=True)
class Graph:
    """What is near what in a robot.

    | field | meaning |
    |---|---|
    | links | sets of joints that are one link apart |
    | own | what is seen of an agent's own joints |
    | bodies | joint -> numbers of the bodies whose forces belong to it |
    | root_qpos, root_qvel | places of the torso's numbers in qpos and qvel |
    | clip_qvel, clip_force | velocities within 10, contact forces within 1, as in the task's own observation |
    """

    links: tuple[tuple[str, ...], ...] = ()
    own: tuple[str, ...] = ("qpos", "qvel")
    bodies: dict[str, tuple[int, ...]] | None = None
    root_qpos: tuple[int, ...] = (1, 2)
    root_qvel: tuple[int, ...] = (0, 1, 2)
    clip_qvel: bool = False
    clip_force: bool = False


def _chain(*joints: str) -> tuple[tuple[str, ...], ...]:
    """Return the links of joints in a row."""
    return tuple(itertools.pairwise(joints))


#: of a torso that moves freely: height and orientation, and all velocities
_FREE_QPOS, _FREE_QVEL = (2, 3, 4, 5, 6), (0, 1, 2, 3, 4, 5)
_ABDOMEN = ("abdomen_x", "abdomen_y", "abdomen_z")
_HUMANOID = Graph(
    links=(
        _ABDOMEN,
        *((f"{side}_hip_x", f"{side}_hip_y", f"{side}_hip_z") for side in ("left", "right")),
        *((f"{side}_elbow", f"{side}_shoulder1", f"{side}_shoulder2") for side in ("left", "right")),
        *((f"{side}_knee", f"{side}_hip_x", f"{side}_hip_y", f"{side}_hip_z") for side in ("left", "right")),
        *((*_ABDOMEN, f"{side}_shoulder1", f"{side}_shoulder2") for side in ("left", "right")),
        *((*_ABDOMEN, f"{side}_hip_x", f"{side}_hip_y", f"{side}_hip_z") for side in ("left", "right")),
    ),
    own=("qpos", "qvel", "cinert", "cvel", "qfrc_actuator", "cfrc_ext"),
    # 1 torso, 2 waist, 3 pelvis, 4-6 right thigh, shin, foot, 7-9 left ones, 10-11 right arm, 12-13 left arm
    bodies={
        "abdomen_y": (1, 2, 3), "abdomen_z": (1, 2, 3), "abdomen_x": (3, 4, 7),
        **{f"right_hip_{axis}": (4, 5) for axis in "xyz"}, "right_knee": (5, 6),
        **{f"left_hip_{axis}": (7, 8) for axis in "xyz"}, "left_knee": (8, 9),
        "right_shoulder1": (1, 10, 11), "right_shoulder2": (1, 10, 11), "right_elbow": (11,),
        "left_shoulder1": (1, 12, 13), "left_shoulder2": (1, 12, 13), "left_elbow": (13,),
    },
    root_qpos=_FREE_QPOS,
    root_qvel=_FREE_QVEL,
)  # fmt: skip

GRAPHS: dict[str, Graph] = {
    "Ant": Graph(
        links=(
            *((f"ankle_{leg}", f"hip_{leg}") for leg in (4, 1, 2, 3)), tuple(f"hip_{leg}" for leg in (4, 1, 2, 3))
        ),
        own=("qpos", "qvel", "cfrc_ext"),
        # 1 torso; of each leg: upper part, joint, lower part
        bodies={f"hip_{leg}": (1, 3 * leg - 1) for leg in (1, 2, 3, 4)}
        | {f"ankle_{leg}": (3 * leg - 1, 3 * leg, 3 * leg + 1) for leg in (1, 2, 3, 4)},
        clip_force=True,
        root_qpos=_FREE_QPOS,
        root_qvel=_FREE_QVEL,
    ),
    "HalfCheetah": Graph(_chain("bfoot", "bshin", "bthigh", "fthigh", "fshin", "ffoot")),
    "Hopper": Graph(_chain("foot_joint", "leg_joint", "thigh_joint"), clip_qvel=True),
    "Humanoid": _HUMANOID,
    "HumanoidStandup": _HUMANOID,
    "ManySegmentSwimmer": Graph(root_qpos=(), root_qvel=()),
    "Swimmer": Graph(_chain("motor1_rot", "motor2_rot"), root_qpos=(2,)),
    "Walker2d": Graph(
        _chain("foot_joint", "leg_joint", "thigh_joint", "thigh_left_joint", "leg_left_joint", "foot_left_joint")
    ),
}  # fmt: skip


class Views:
    """The agents' views of a robot.

    Args:
        name: the robot.
        model, data: MuJoCo's, of one environment.
        split: the agents' joints.
        reach: links that an agent sees beyond its own joints.

    Attributes:
        sizes: numbers that each agent sees.
    """

    def __init__(self, name: str, model: Any, data: Any, split: Split, reach: int) -> None:
        self._data, self._graph = data, GRAPHS[name]
        g = self._graph
        self._names = ["qpos", "qvel", *(n for n in g.own if n not in ("qpos", "qvel"))]
        sizes = [np.size(getattr(data, field)) for field in self._names]
        self._start = dict(zip(self._names, np.cumsum([0, *sizes]).tolist(), strict=False))
        self._source = np.zeros(sum(sizes))
        # numbers of the joints with a motor, in MuJoCo's order
        joints = model.actuator_trnid[:, 0]
        self._qpos, self._qvel = model.jnt_qposadr[joints].tolist(), model.jnt_dofadr[joints].tolist()
        names = ROBOTS[name].joints or tuple(f"rot{i}" for i in range(len(joints)))
        self._number = {joint: i for i, joint in enumerate(names)}
        links = g.links if ROBOTS[name].joints else _chain(*names)
        self._places = [self._of(_near([names[j] for j in own], links, reach)) for own in split]
        self.sizes = tuple(len(places) for places in self._places)

    def _of(self, near: list[list[str]]) -> np.ndarray:
        """Return the places, in the source, of what an agent sees; ``near[k]``: joints k links away."""
        places: list[int] = []
        seen: set[tuple[str, int]] = set()
        for k, joints in enumerate(near):
            for joint in joints:
                for field in self._graph.own if k == 0 else ("qpos",):
                    if field in _OF_BODIES:
                        places += self._of_bodies(field, joint, seen)
                    else:
                        at = self._qpos if field == "qpos" else self._qvel
                        places.append(self._start[field] + at[self._number[joint]])
        places += [self._start["qpos"] + i for i in self._graph.root_qpos]
        places += [self._start["qvel"] + i for i in self._graph.root_qvel]
        return np.array(places)

    def _of_bodies(self, field: str, joint: str, seen: set[tuple[str, int]]) -> list[int]:
        """Return the places of what belongs to a joint's bodies; each body counts once for an agent."""
        width, places = _OF_BODIES[field], []
        for body in (self._graph.bodies or {})[joint]:
            if (field, body) not in seen:
                seen.add((field, body))
                first = self._start[field] + width * body
                places += list(range(first, first + width))
        return places

    def write(self, rows: np.ndarray, standardise: bool) -> None:
        """Write the agents' views into ``rows`` [N, O]; ``standardise``: with mean 0 and deviation 1 over each view."""
        np.concatenate([getattr(self._data, field).ravel() for field in self._names], out=self._source)
        start = self._start
        if self._graph.clip_qvel:
            velocity = self._source[start["qvel"] :]
            np.clip(velocity, -10, 10, out=velocity)
        if self._graph.clip_force:
            force = self._source[start["cfrc_ext"] :]
            np.clip(force, -1, 1, out=force)
        for row, places in zip(rows, self._places, strict=True):
            view = self._source[places]
            if standardise:
                view -= view.mean()
                view /= view.std() or 1.0
            row[: len(places)] = view


def _near(own: list[str], links: tuple[tuple[str, ...], ...], reach: int) -> list[list[str]]:
    """Return the joints 0, 1, ... ``reach`` links away from ``own``, each list in order of names."""
    found = [sorted(own)]
    known = set(own)
    for _ in range(reach):
        new = {j for link in links if known & set(link) for j in link} - known
        # those two links away touch the newest ones alone; older ones have no unknown neighbours left
        if not new:
            break  # the whole robot is seen
        known |= new
        found.append(sorted(new))
    return found
