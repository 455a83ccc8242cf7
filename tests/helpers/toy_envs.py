"""Small environments with known numbers, for tests; named ``toy_envs:Ragged`` and so on in ``env:``."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace

import numpy as np

from oamarl.components.experience import Field
from oamarl.envs.base import Arrays, EnvInfo
from oamarl.utils.errors import UserError


def _info(name: str, obs_sizes: tuple[int, ...], action_sizes: tuple[int, ...], limit: int, **more: object) -> EnvInfo:
    n, width = len(obs_sizes), max(obs_sizes)
    return EnvInfo(
        name,
        n,
        width,
        n * width,
        max(action_sizes),
        limit,
        obs_sizes,
        action_sizes,
        **more,  # type: ignore[arg-type]
    )


class Toy:
    """What the toys share: random observations from the episode's seed, and an end at a known step.

    Reward of agent i at step t (from 1): ``t * (i + 1)``, plus its action / 10.
    """

    obs_sizes: tuple[int, ...] = (3, 3)
    action_sizes: tuple[int, ...] = (2, 2)

    def __init__(self, limit: int = 6, end: int | None = None) -> None:
        """``end``: step at which the episode terminates; ``limit``: step at which it is cut."""
        self.limit, self.end = limit, end
        self.info = _info(type(self).__name__, self.obs_sizes, self.action_sizes, limit, metrics=("reward_sum",))

    def reset(self, seed: int, out: Arrays) -> None:
        self.rng = np.random.default_rng(seed)
        self.seed, self.time = seed, 0
        for field in (out.reward, out.terminated, out.truncated, out.agent_terminated, out.metrics):
            field[...] = 0
        out.alive[...] = True
        for i, size in enumerate(self.action_sizes):
            out.avail[i] = np.arange(self.info.n_actions) < size
        self.look(out)

    def look(self, out: Arrays) -> None:
        out.obs[...] = 0
        for i, size in enumerate(self.obs_sizes):
            out.obs[i, :size] = self.rng.standard_normal(size)
        out.state[...] = out.obs.ravel()

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        assert out.avail[np.arange(self.info.n_agents), actions].all(), "an illegal action"
        self.time += 1
        self.look(out)
        out.reward[...] = self.time * np.arange(1, self.info.n_agents + 1) + actions / 10
        out.metrics[0] += out.reward.sum()
        out.terminated[...] = self.end is not None and self.time >= self.end
        out.truncated[...] = self.time >= self.limit
        out.agent_terminated[...] = out.terminated

    def close(self) -> None:
        pass


class Ragged(Toy):
    """Two agents that differ in both observation (3, 5) and action (2, 4) sizes."""

    obs_sizes = (3, 5)
    action_sizes = (2, 4)


class Crowd(Toy):
    """Forty agents, three of which see more than the others."""

    obs_sizes = (4,) * 3 + (2,) * 37
    action_sizes = (3,) * 40


class Truncating(Toy):
    """Never terminates unless ``end`` is given; with ``end == limit`` both flags are set at once."""


class MixedLength(Toy):
    """An episode has ``1 + seed % limit`` steps; it terminates for an even seed and is truncated for an odd one."""

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        super().step(actions, out)
        over = self.time >= 1 + self.seed % self.limit
        out.terminated[...] = over and self.seed % 2 == 0
        out.truncated[...] = over and self.seed % 2 == 1
        out.agent_terminated[...] = out.terminated


class EarlyEnd(Toy):
    """Three agents; agent i ends at step ``2 * (i + 1)``, and the episode with the last one."""

    obs_sizes = (2, 2, 2)
    action_sizes = (3, 3, 3)

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        before = out.agent_terminated.copy()
        super().step(actions, out)
        ended = self.time >= 2 * np.arange(1, 4)
        out.reward[before] = 0
        out.agent_terminated[...] = ended
        out.alive[...] = ~ended
        out.avail[ended] = [True, False, False]
        out.terminated[...] = ended.all()
        out.truncated[...] = self.time >= self.limit


class Failing(Toy):
    """Fails as told at its third step, where the seed is 13: ``raise``, ``user``, ``exit``, ``kill`` or ``hang``."""

    def __init__(self, how: str = "raise", limit: int = 6) -> None:
        super().__init__(limit)
        self.how = how

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        super().step(actions, out)
        if self.time == 3 and self.seed == 13:
            if self.how == "raise":
                raise ZeroDivisionError("the toy broke")
            if self.how == "user":
                raise UserError("The toy is asked to stop.")
            if self.how == "exit":
                os._exit(5)
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(600)


class Spy(Toy):
    """Shows in its observations whether torch is loaded, and the process it lives in."""

    def look(self, out: Arrays) -> None:
        import sys

        out.obs[...] = "torch" in sys.modules
        out.state[...] = os.getpid()


class Pictures(Toy):
    """Two agents, each with an image [1, 4, 4] in which one pixel is bright: the reward is the share of those whose
    action names the quarter that it is in."""

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


class ThreePictures(Pictures):
    """Three agents."""

    obs_sizes = (16, 16, 16)
    action_sizes = (4, 4, 4)


class Target:
    """Two agents see a target and are rewarded for actions close to it, each by its own -|a - target|^2.

    The second agent has one dimension less where ``ragged``. Bounds are -1 and 1, targets lie between -0.6 and 0.6.
    Actions beyond the bounds, or numbers where an agent has no dimension, fail.
    """

    SIZE = 2

    def __init__(self, limit: int = 5, ragged: bool = False) -> None:
        self.sizes = (self.SIZE, self.SIZE - ragged)
        low = tuple((-1.0,) * size for size in self.sizes)
        high = tuple((1.0,) * size for size in self.sizes)
        self.info = EnvInfo(
            "target", 2, self.SIZE, 2 * self.SIZE, self.SIZE, limit, (self.SIZE, self.SIZE), self.sizes,
            action_low=low, action_high=high,
        )  # fmt: skip
        self.own = np.arange(self.SIZE) < np.array(self.sizes)[:, None]

    def _look(self, out: Arrays) -> None:
        self.target = np.where(self.own, self.rng.uniform(-0.6, 0.6, (2, self.SIZE)), 0.0)
        out.obs[...] = self.target
        out.state[...] = self.target.ravel()

    def reset(self, seed: int, out: Arrays) -> None:
        self.rng, self.time = np.random.default_rng(seed), 0
        out.alive[...] = True
        out.avail[...] = self.own
        self._look(out)

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        assert actions.dtype == np.float32
        assert actions.shape == (2, self.SIZE)
        assert (np.abs(actions) <= 1).all(), "beyond the bounds"
        assert (actions[~self.own] == 0).all(), "an action of a dimension that the agent lacks"
        self.time += 1
        out.reward[...] = -np.square(actions - self.target).sum(1)
        out.truncated[...] = self.time >= self.info.episode_limit
        self._look(out)

    def close(self) -> None:
        pass


class Counting(Target):
    """Gives two fields of its own: the step that is about to be made (with a final one), and whether it was odd."""

    def __init__(self, limit: int = 5) -> None:
        super().__init__(limit)
        extra = (
            Field("clock", ("N", 2), "int64", "before", final=True),
            Field("odd", ("N",), "bool", "after"),
        )
        self.info = EnvInfo(**{**vars(self.info), "extra": extra})

    def reset(self, seed: int, out: Arrays) -> None:
        super().reset(seed, out)
        out.extra["clock"][...] = self.time

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        super().step(actions, out)
        out.extra["clock"][...] = self.time
        out.extra["odd"][...] = self.time % 2
