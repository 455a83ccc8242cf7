"""What ``oamarl doctor`` tries, by name: a list that imports nothing of what it names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ...envs.conformance.examples import Example, examples, needed
from . import environments, pictures, probes

#: what the result of a check can be. NOT_HERE: nothing is wrong, this machine lacks it or nobody asked for it
WORKS, MISSING, NOT_HERE, FAILS = STATES = ("works", "not installed", "not here", "fails")
CORE = "core"
#: examples of environments that need a package which is no requirement of oamarl, though their file names none
_OPTIONAL = ("pettingzoo",)
#: examples that take seconds to start: they are tried last
_SLOW = ("mamujoco", "smax", "sc2", "sc2v2", "gfootball", "vmas", "overcooked")


@dataclass(frozen=True)
class Check:
    """One thing that is tried in a process of its own.

    | field | meaning |
    |---|---|
    | name | how the command line names it |
    | group | what it belongs to; a group's name stands for all in it |
    | core | training needs it: without it the exit status is 1 |
    | probe | tries it; returns what there is to say of it, and raises where it does not work |
    | cost | checks of a lower cost are tried first |
    | aliases | further names, that several checks may share |
    """

    name: str
    group: str
    probe: Callable[[], str]
    core: bool = False
    cost: int = 1
    aliases: tuple[str, ...] = ()

    def called(self, name: str) -> bool:
        """Whether ``name`` asks for this check."""
        return name in (self.name, self.group, *self.aliases)


def _environment(example: Example) -> Check:
    core = not needed(example) and example.name not in _OPTIONAL
    return Check(
        example.name, "environments", partial(environments.play, example), core, 2 if example.name in _SLOW else 0,
        (example.config,),
    )  # fmt: skip


def catalogue() -> list[Check]:
    """Return all checks, in the order in which they are shown."""
    return [
        Check("torch", CORE, probes.torch, core=True),
        Check("sacred", CORE, probes.sacred, core=True, cost=0),
        Check("workers", CORE, environments.workers, core=True, cost=0),
        *sorted((_environment(example) for example in examples()), key=lambda check: not check.core),
        Check("compiler", "devices", probes.compiler),
        Check("cuda", "devices", probes.cuda),
        Check("mps", "devices", probes.mps),
        Check("jax", "devices", probes.jax),
        Check("gif", "pictures", partial(pictures.video, ".gif"), cost=0),
        Check("mp4", "pictures", partial(pictures.video, ".mp4"), cost=0),
        Check("draw-lbf", "pictures", partial(pictures.draw, "lbf")),
        Check("draw-mamujoco", "pictures", partial(pictures.draw, "mamujoco"), cost=2),
        Check("mongodb", "servers", probes.mongodb, cost=0),
        Check("ray", "extras", probes.ray),
        Check("optuna", "extras", probes.optuna),
        Check("tensorboard", "extras", probes.tensorboard),
        Check("wandb", "extras", probes.wandb),
    ]


def names() -> list[str]:
    """Return every name that the command line takes."""
    found = catalogue()
    aliases = [alias for check in found for alias in check.aliases]
    return list(dict.fromkeys([*(c.name for c in found), *(c.group for c in found), *aliases]))
