"""The robots of Multi-Agent MuJoCo and their splits: which agent moves which joints.

Joints are numbered as MuJoCo's actuators, which is the order of a single agent's action.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ...utils.errors import UserError, nearest, one_of

#: agent -> numbers of the joints that it moves, in the order of its action
Split = tuple[tuple[int, ...], ...]

_UPPER_LOWER: Split = ((2, 0, 1, 11, 12, 13, 14, 15, 16), (3, 5, 4, 6, 7, 9, 8, 10))


@dataclass(frozen=True)
class Robot:
    """A robot.

    | field | meaning |
    |---|---|
    | task | Gymnasium's name of its task, without the version |
    | joints | names of the joints that have a motor, in MuJoCo's order; empty: as many as a split asks for |
    | usual | the split where none is asked for |
    | splits | splits that are not consecutive joints: Gymnasium-Robotics' tables |
    """

    task: str
    joints: tuple[str, ...]
    usual: str
    splits: dict[str, Split] = field(default_factory=dict)


_LEGS = ("hip_4", "ankle_4", "hip_1", "ankle_1", "hip_2", "ankle_2", "hip_3", "ankle_3")
_BODY = (
    "abdomen_y", "abdomen_z", "abdomen_x", "right_hip_x", "right_hip_z", "right_hip_y", "right_knee", "left_hip_x",
    "left_hip_z", "left_hip_y", "left_knee", "right_shoulder1", "right_shoulder2", "right_elbow", "left_shoulder1",
    "left_shoulder2", "left_elbow",
)  # fmt: skip

ROBOTS: dict[str, Robot] = {
    "Ant": Robot(
        "Ant", _LEGS, "4x2",
        {
            "2x4": ((2, 3, 4, 5), (6, 7, 0, 1)),  # the front legs, the back legs
            "2x4d": ((2, 3, 0, 1), (4, 5, 6, 7)),  # the legs of one side each
            "4x2": ((2, 3), (4, 5), (6, 7), (0, 1)),
        },
    ),
    "HalfCheetah": Robot("HalfCheetah", ("bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot"), "2x3"),
    "Hopper": Robot("Hopper", ("thigh_joint", "leg_joint", "foot_joint"), "3x1"),
    "Humanoid": Robot("Humanoid", _BODY, "17x1", {"9|8": _UPPER_LOWER}),
    "HumanoidStandup": Robot("HumanoidStandup", _BODY, "17x1", {"9|8": _UPPER_LOWER}),
    "ManySegmentSwimmer": Robot("Swimmer", (), "10x2"),
    "Swimmer": Robot("Swimmer", ("motor1_rot", "motor2_rot"), "2x1"),
    "Walker2d": Robot(
        "Walker2d",
        ("thigh_joint", "leg_joint", "foot_joint", "thigh_left_joint", "leg_left_joint", "foot_left_joint"),
        "2x3",
        {"2x3": ((2, 1, 0), (5, 4, 3))},
    ),
}  # fmt: skip
#: what papers call them
_ALIASES = {"Walker": "Walker2d"}
#: a chain of more segments would be slower than learning could use
_MOST_SEGMENTS = 100


def find_robot(scenario: str) -> tuple[str, Robot]:
    """Return a robot's name and its entry; ``Walker`` is ``Walker2d``.

    Raises:
        UserError: an unknown robot.
    """
    name = _ALIASES.get(scenario, scenario)
    if name not in ROBOTS:
        plain = re.sub(r"-v\d+$", "", name)
        if plain in ROBOTS:
            raise UserError(
                f"env_args.scenario='{scenario}' names a version of the task: use env_args.scenario={plain} (and "
                "env_args.task_version=v5 or v4)."
            )
        raise UserError(
            f"env_args.scenario='{scenario}' is not a known robot: use {one_of(ROBOTS)}{nearest(plain, ROBOTS)}"
        )
    return name, ROBOTS[name]


def find_split(name: str, agent_conf: str | None) -> tuple[str, Split]:
    """Return the split of robot ``name`` that ``agent_conf`` asks for, and how it is written.

    Args:
        agent_conf: agents times joints (``2x3``), or the agents' numbers of joints (``4|2``); None: the usual one.
            One that no table of the robot has gives each agent the next joints in MuJoCo's order.

    Raises:
        UserError: one that does not divide the robot's joints.
    """
    robot = ROBOTS[name]
    conf = robot.usual if agent_conf is None else agent_conf.strip()
    if conf in robot.splits:
        return conf, robot.splits[conf]
    if times := re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", conf):
        sizes = [int(times[2])] * int(times[1])
    elif re.fullmatch(r"[1-9]\d{0,3}(\|[1-9]\d{0,3})+", conf):
        sizes = [int(size) for size in conf.split("|")]
    else:
        sizes = []
    total, joints = sum(sizes), len(robot.joints)
    if not sizes or (total != joints if joints else not 2 <= total <= _MOST_SEGMENTS):
        raise UserError(_refused(name, conf))
    first = [sum(sizes[:i]) for i in range(len(sizes))]
    return conf, tuple(tuple(range(a, a + size)) for a, size in zip(first, sizes, strict=True))


def _refused(name: str, conf: str) -> str:
    """Return the sentence about a split that robot ``name`` does not have."""
    joints = len(ROBOTS[name].joints)
    if not joints:
        return (
            f"env_args.agent_conf='{conf}' is not a split of {name}: use agents times joints such as 10x2, of 2 to "
            f"{_MOST_SEGMENTS} joints in all."
        )
    even = [f"{n}x{joints // n}" for n in range(1, joints + 1) if joints % n == 0]
    known = list(dict.fromkeys([*ROBOTS[name].splits, *even]))
    more = "; scenario=ManySegmentSwimmer has as many joints as its split" if name == "Swimmer" else ""
    return (
        f"env_args.agent_conf='{conf}' is not a split of the {joints} joints of {name}: use {one_of(known)}, or sizes "
        f"that add up to {joints}, such as {joints - 1}|1{more or nearest(conf, known)}"
    )
