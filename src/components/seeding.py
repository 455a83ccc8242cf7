"""Seeds of episodes: what an episode draws depends on its own numbers, never on who ran it or when."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ..utils.errors import UserError

#: Fixed numbers: changing one changes every result.
_PURPOSES = {"train": 0, "test": 1, "evaluate": 2, "random": 3}
_ACTIONS = 1
#: What an episode is played for; `random`: with random actions, before training.
Purpose = Literal["train", "test", "evaluate", "random"]


def episode_seed(seed: int, purpose: Purpose, slot: int, episode: int) -> int:
    """Return the seed [0, 2**31) of one episode.

    Training, test, evaluation and random episodes come from separate streams, and neighbouring runs, slots and
    episodes share nothing: the four numbers go through :class:`numpy.random.SeedSequence` (seed as entropy, the rest as
    spawn key).

    Args:
        seed: the run's seed, 0 or more.
        purpose: ``"train"``, ``"test"``, ``"evaluate"`` or ``"random"``.
        slot: number of the environment slot, 0 or more.
        episode: number of the episode in that slot, counted from 0.

    Raises:
        UserError: the run's seed is negative or not a whole number.
        KeyError: another purpose.
    """
    return int(_sequence(seed, purpose, slot, episode).generate_state(1, np.uint32)[0] >> 1)


def action_noise(seed: int, purpose: Purpose, slot: int, episode: int) -> np.random.Generator:
    """Return the stream of an episode's action noise: a relative of :func:`episode_seed`, of the same arguments."""
    return np.random.Generator(np.random.SFC64(_sequence(seed, purpose, slot, episode, _ACTIONS)))


def _sequence(seed: int, purpose: str, slot: int, episode: int, *more: int) -> np.random.SeedSequence:
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise UserError(f"seed={seed!r} is not allowed: a whole number from 0 upwards is expected.")
    return np.random.SeedSequence(int(seed), spawn_key=(_PURPOSES[purpose], int(slot), int(episode), *more))
