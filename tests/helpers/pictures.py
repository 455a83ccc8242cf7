"""A game of images, for tests: a bright pixel in one of four quarters, and the action that names the quarter pays 1."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from oamarl.envs.base import Arrays

from toy_envs import Toy


class Pictures(Toy):
    """Two agents, each with an image [1, 4, 4] of its own; the reward is the share of those that name the quarter."""

    obs_sizes = (16, 16)
    action_sizes = (4, 4)

    def __init__(self, limit: int = 4, end: int | None = None) -> None:
        super().__init__(limit, end)
        self.info = replace(self.info, obs_shape=(1, 4, 4))

    def look(self, out: Arrays) -> None:
        n = len(self.obs_sizes)
        pixel = self.rng.integers(4, size=(n, 2))
        self.quarter = pixel[:, 0] // 2 * 2 + pixel[:, 1] // 2
        images = np.zeros((n, 4, 4), np.float32)
        images[np.arange(n), pixel[:, 0], pixel[:, 1]] = 1
        out.obs[...] = images.reshape(n, 16)
        out.state[...] = out.obs.ravel()

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        right = (actions == self.quarter).mean()
        super().step(actions, out)
        out.reward[...] = right


class Three(Pictures):
    """Three agents."""

    obs_sizes = (16, 16, 16)
    action_sizes = (4, 4, 4)
