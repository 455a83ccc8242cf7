"""Throughput of an environment under random play: the upper bound of any runner's steps a second."""

from __future__ import annotations

import numpy as np

from ...modules.acting import UniformActor
from .episode_store import EpisodeStore, Job, cursor_layout
from .playing import Player, Stepper


def random_throughput(stepper: Stepper, seconds: float, seed: int) -> tuple[int, float]:
    """Step every slot with uniformly drawn legal actions; an ended episode is followed by another.

    Returns:
        the steps made, of all slots, and the seconds they took: at least ``seconds``, and at least one step.
    """
    layout = cursor_layout(stepper.info, len(stepper.arrays.avail), hidden=1, played=False)
    cursor = {name: np.zeros(shape, dtype) for name, (shape, dtype) in layout.items()}
    cursor["number"][:], cursor["fresh"][:] = -1, True
    player = Player(stepper, EpisodeStore(cursor, {}), 0)
    # drawing actions must cost next to nothing beside a fast environment
    player.play(Job(seed, "random", False, "own", False, None, seconds=seconds), UniformActor(stepper.info, seed))
    return player.made, float(cursor["playing"][0])
