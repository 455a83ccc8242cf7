"""Sparse predator-prey, in the spirit of the SEAC paper's (Christianos et al. 2020, section 4.1), batched in numpy.

Predators move as the agents of the Multi-agent Particle Environment do. Those adjacent to the prey are rewarded only if
there are enough of them at the same step. The paper's program was not released: its numbers are arguments here, with
defaults of our own, and the prey, a MADDPG policy there, follows a script (:mod:`oamarl.envs.predator_prey.prey`).
"""

from __future__ import annotations

import math

import numpy as np

from ...utils.errors import UserError
from ..base import Arrays, EnvInfo
from .draws import uniform
from .prey import DRAWS, flee, place

#: directions of the actions: nop, left, right, down, up
MOVES = np.array([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)], np.float64)
#: seconds of one step, as in the Multi-agent Particle Environment
DT = 0.1


class PredatorPrey:
    """B games, stepped together; positions are [x, y], the map is the square from -size / 2 to size / 2."""

    native = True

    def __init__(
        self,
        n_slots: int,
        n_agents: int = 3,
        n_adjacent: int = 2,
        size: float = 2.0,
        capture_radius: float = 0.25,
        speed: float = 1.0,
        acceleration: float = 3.0,
        damping: float = 0.25,
        prey_speed: float = 0.2,
        prey_skill: float = 0.5,
        capture_reward: float = 1.0,
        outside_penalty: float = 0.01,
        step_reward: float = 0.0,
        captures: int | None = 1,
        time_limit: int = 50,
    ) -> None:
        """Build ``n_slots`` games.

        Args:
            n_slots: B.
            n_agents: predators, N.
            n_adjacent: how many predators must be adjacent to the prey at the same step.
            size: side of the map.
            capture_radius: distance from the prey up to which a predator is adjacent.
            speed: largest speed of a predator, per second; a step is 0.1 seconds.
            acceleration: of a predator along its action's direction, per second squared.
            damping: share of its velocity that a predator loses each step.
            prey_speed: of the prey.
            prey_skill: probability, at each step, that the prey flees; otherwise it moves at random.
            capture_reward: to each adjacent predator at a capture.
            outside_penalty: taken from a predator at each step that it ends outside the map.
            step_reward: to each predator at every step.
            captures: how many end the episode; the prey starts anew after the others. None: only the limit ends it.
            time_limit: steps until an episode is cut.

        Raises:
            UserError: a number that makes no game.
        """
        _in_range(
            ("n_agents", n_agents, 1, math.inf), ("n_adjacent", n_adjacent, 1, n_agents),
            ("damping", damping, 0, 1), ("prey_skill", prey_skill, 0, 1), ("prey_speed", prey_speed, 0, math.inf),
            ("captures", 1 if captures is None else captures, 1, math.inf), ("time_limit", time_limit, 1, math.inf),
            ("outside_penalty", outside_penalty, 0, math.inf),
        )  # fmt: skip
        _positive(size=size, capture_radius=capture_radius, speed=speed, acceleration=acceleration)
        self.extent, self.capture_radius, self.n_adjacent = size / 2, capture_radius, n_adjacent
        self._speed, self._push, self._kept = speed, acceleration * DT, 1.0 - damping
        self.prey_speed, self.prey_skill = prey_speed, prey_skill
        self._capture_reward, self._outside, self._step_reward = capture_reward, outside_penalty, step_reward
        self._captures = math.inf if captures is None else captures
        n, obs_size = n_agents, 4 + 2 * (n_agents - 1) + 4
        self._others = np.array([[j for j in range(n) if j != i] for i in range(n)], np.int64).reshape(n, n - 1)
        self._seeds = np.zeros(n_slots, np.int64)
        self._time = np.zeros(n_slots, np.int64)
        self.positions, self.velocities = np.zeros((2, n_slots, n, 2))
        self.prey, self.prey_velocity = np.zeros((2, n_slots, 2))
        self.info = EnvInfo(
            name="predator_prey",
            n_agents=n,
            obs_size=obs_size,
            state_size=4 * (n + 1),
            n_actions=len(MOVES),
            episode_limit=time_limit,
            obs_sizes=(obs_size,) * n,
            action_sizes=(len(MOVES),) * n,
            metrics=("captures",),
        )

    def reset(self, slots: np.ndarray, seeds: np.ndarray, out: Arrays) -> None:
        """Start episodes in ``slots`` [k]: predators stand anywhere on the map, the prey away from them."""
        n = self.info.n_agents
        self._seeds[slots], self._time[slots] = seeds, 0
        draws = uniform(seeds, self._time[slots], 2 * n + DRAWS)
        self.positions[slots] = ((2 * draws[:, : 2 * n] - 1) * self.extent).reshape(-1, n, 2)
        self.velocities[slots] = self.prey_velocity[slots] = 0.0
        self.prey[slots] = place(self.positions[slots], draws[:, 2 * n :], self.extent)
        self._show(slots, out)
        out.avail[slots] = out.alive[slots] = True
        for field in (out.reward, out.terminated, out.truncated, out.agent_terminated, out.metrics):
            field[slots] = 0

    def step(self, actions: np.ndarray, active: np.ndarray, out: Arrays) -> None:
        """Move the predators of the active slots, then the prey, and pay captures."""
        rows: np.ndarray | slice = slice(None) if active.all() else np.flatnonzero(active)
        if not isinstance(rows, slice) and rows.size == 0:
            return
        self._time[rows] += 1
        velocity = self._kept * self.velocities[rows] + self._push * MOVES[actions[rows]]
        # no hypot, exp or sin here: their last bits may differ with the number of slots
        fast = np.sqrt(velocity[..., 0] ** 2 + velocity[..., 1] ** 2)
        velocity *= (self._speed / np.maximum(fast, self._speed))[..., None]
        position = self.positions[rows] + DT * velocity
        draws = uniform(self._seeds[rows], self._time[rows], DRAWS)
        before = self.prey[rows]
        prey = flee(before, position, draws, self.prey_speed * DT, self.prey_skill, self.extent)
        self.velocities[rows], self.positions[rows] = velocity, position
        self.prey[rows], self.prey_velocity[rows] = prey, (prey - before) / DT
        self._pay(rows, draws, out)
        self._show(rows, out)

    def _pay(self, rows: np.ndarray | slice, draws: np.ndarray, out: Arrays) -> None:
        """Write the rewards and ends of ``rows``, and place the prey of captures that do not end the episode."""
        position = self.positions[rows]
        gap = position - self.prey[rows][:, None]
        adjacent = gap[..., 0] ** 2 + gap[..., 1] ** 2 <= self.capture_radius**2  # [k, N]
        captured = adjacent.sum(1) >= self.n_adjacent
        outside = (np.abs(position) > self.extent).any(2)
        paid = adjacent & captured[:, None]
        out.reward[rows] = self._capture_reward * paid - self._outside * outside + self._step_reward
        out.metrics[rows, 0] += captured
        done = out.metrics[rows, 0] >= self._captures
        out.terminated[rows] = done
        out.truncated[rows] = (self._time[rows] >= self.info.episode_limit) & ~done
        out.agent_terminated[rows] = done[:, None]
        again = np.flatnonzero(captured & ~done)
        if again.size:
            slots = np.arange(len(self._time))[rows][again]
            self.prey[slots] = place(self.positions[slots], draws[again], self.extent)
            self.prey_velocity[slots] = 0.0

    def _show(self, rows: np.ndarray | slice, out: Arrays) -> None:
        """Write observations and states: positions in halves of the map's side, velocities in largest speeds."""
        place, moving = self.positions[rows] / self.extent, self.velocities[rows] / self._speed
        prey, flight = self.prey[rows] / self.extent, self.prey_velocity[rows] / self._speed
        k, n = place.shape[:2]
        others = (place[:, self._others] - place[:, :, None]).reshape(k, n, -1)
        flights = np.broadcast_to(flight[:, None], (k, n, 2))
        out.obs[rows] = np.concatenate([moving, place, others, prey[:, None] - place, flights], axis=2)
        each = np.concatenate([place, moving], axis=2).reshape(k, -1)
        out.state[rows] = np.concatenate([each, prey, flight], axis=1)

    def close(self) -> None:
        """Nothing to release."""

    def render(self, slot: int) -> np.ndarray:
        """Return a picture of one slot as it is now, uint8 [H, W, 3]; see :mod:`oamarl.envs.predator_prey.picture`."""
        from .picture import rgb_picture

        return rgb_picture(self.positions[slot], self.prey[slot], self.extent, self.capture_radius, self.n_adjacent)


def _in_range(*numbers: tuple[str, float, float, float]) -> None:
    """Check (name, value, lowest, highest) of arguments.

    Raises:
        UserError: a value that is not between the two.
    """
    for name, value, low, high in numbers:
        if not low <= value <= high or value == math.inf:
            allowed = f"a number from {low} on" if high == math.inf else f"{low} to {high}"
            raise UserError(f"env_args.{name}={value} is out of range: {allowed} is allowed.")


def _positive(**numbers: float) -> None:
    """Check arguments that must be above 0.

    Raises:
        UserError: one that is not.
    """
    for name, value in numbers.items():
        if not 0 < value < math.inf:
            raise UserError(f"env_args.{name}={value} is out of range: a number above 0 is allowed.")
