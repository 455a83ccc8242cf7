"""B worlds of a VMAS scenario whose slots start, step and wait apart from one another.

VMAS resets all worlds at once or one at a time. All at once is as quick for a hundred worlds as for one, so episodes
start in a nursery, a second environment of the scenario, from where their rows are copied. Where worlds that start
together share what is drawn (an order of agents, say), the nursery has one world. A scenario whose reset goes through
the worlds in Python, and is quicker one at a time, starts them in their own place by VMAS's ``reset_at``.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from .draws import Calls, RowDraws, drawing, keys_of
from .rows import Holders
from .start import quiet

#: worlds of a nursery, and where the batch has as many
_NURSERY, _OTHER = 128, 127
#: worlds of the probe
_PROBE = 6
#: a reset of all worlds at once is worth it while it calls torch at most so many times as often as that of one
_WORTH = 4
_PROBE_STEPS = 3
Where = Literal["together", "alone", "in place"]


class Shown(NamedTuple):
    """What VMAS shows after a step: observations of all agents side by side [B, sum of O], rewards [B, N], and whether
    the episode is over [B]; tensors on VMAS's device."""

    obs: torch.Tensor
    reward: torch.Tensor
    over: torch.Tensor


@dataclass(frozen=True)
class Nature:
    """What is found out about a scenario by trying it.

    | field | meaning |
    |---|---|
    | born | where worlds start: many in a nursery, one at a time in a nursery, or in their own place |
    | numpy | it draws from numpy's or Python's generators too |
    | obs_sizes | numbers that each agent sees |
    | metrics | names of infos with one number for each world |
    """

    born: Where
    numpy: bool
    obs_sizes: tuple[int, ...]
    metrics: tuple[str, ...]


@torch.inference_mode()
def probe(make: Callable[[int], Any], utils: Any) -> Nature:
    """Try a scenario in a few worlds.

    Args:
        make: makes VMAS's environment of so many worlds.
        utils: VMAS's module of that name.
    """
    env, draws = make(_PROBE), RowDraws(_PROBE)
    keys = keys_of(np.arange(_PROBE), np.zeros(_PROBE))
    with _others_unread(env) as started:
        born = _where(make, env, draws, keys, utils)
    with _others_unread(env) as unread:
        for _ in range(_PROBE_STEPS):
            actions = [torch.as_tensor(np.stack([space.sample() for _ in range(_PROBE)])).reshape(_PROBE, -1)
                       for space in _seeded_spaces(env)]  # fmt: skip
            with _streams(draws, keys, utils):
                _, _, _, _, infos = env.step(actions)
    names = dict.fromkeys(name for info in infos for name, value in info.items() if value.numel() == _PROBE)
    (seen,) = env.get_from_scenario(True, False, False, False)
    sizes = tuple(sum(x.shape[1:].numel() for x in _leaves(obs)) for obs in seen)
    return Nature(born, not (started() and unread()), sizes, tuple(names))


def _where(make: Callable[[int], Any], env: Any, draws: RowDraws, keys: np.ndarray, utils: Any) -> Where:
    """Return where worlds start."""
    with _streams(draws, keys, utils), _others_unread(env) as unread, Calls() as calls:
        together = flat(env.reset())
    shared = draws.odd or not unread()
    for other in range(1, 1 if shared else 4):  # a row must not depend on its neighbours
        with _streams(draws, np.where(np.arange(_PROBE) == other, keys, keys + np.uint64(other)), utils):
            shared = shared or not torch.equal(flat(env.reset())[other], together[other])
    with _streams(draws, keys, utils), Calls() as by_itself:
        env.reset_at(0)
    worth = _WORTH * by_itself.count
    if not shared and calls.count <= worth:
        return "together"
    one = make(1)
    with _streams(RowDraws(1), keys[:1], utils), Calls() as alone:
        one.reset()
    return "alone" if alone.count <= worth else "in place"


class Worlds:
    """B worlds of one scenario.

    Args:
        make: makes VMAS's environment of so many worlds.
        n_slots: B.
        nature: what :func:`probe` found.
        utils: VMAS's module of that name.
    """

    def __init__(self, make: Callable[[int], Any], n_slots: int, nature: Nature, utils: Any) -> None:
        self.env, self.nature, self._utils, self.n_slots = make(n_slots), nature, utils, n_slots
        _touch_by_row(self.env.world, utils)
        # infos are asked for where episodes end, and not at every step
        self.info, self.env.scenario.info = self.env.scenario.info, _no_info
        self._rows = Holders(self.env.scenario, n_slots)
        self._draws = RowDraws(n_slots)
        # VMAS swaps the states of three global generators around each step: needless where it draws from none
        self._step = type(self.env).step if nature.numpy else inspect.unwrap(type(self.env).step)
        self._nursery: Any = None
        if nature.born != "in place":
            size = 1 if nature.born == "alone" else _NURSERY if n_slots != _NURSERY else _OTHER
            self._nursery, self._born = make(size), RowDraws(size)
            self._newborn = Holders(self._nursery.scenario, size)

    @torch.inference_mode()
    def start(self, slots: np.ndarray, seeds: np.ndarray) -> torch.Tensor:
        """Start episodes in ``slots`` [k] from ``seeds`` [k]; returns their observations [k, sum of O]."""
        if self._nursery is None:
            return self._start_in_place(slots, seeds)
        size, alone, seen = self._born.n_rows, self.nature.born == "alone", []
        for first in range(0, len(slots), size):
            some, among = slots[first : first + size], seeds[first : first + size]
            places = np.arange(len(some))
            before = self._newborn.scalars() if alone else []
            with ExitStack() as stack:
                if alone:
                    stack.enter_context(_seeded(self._nursery, int(among[0])))
                every = placed(size, places, among)
                stack.enter_context(_streams(self._born, keys_of(every, np.zeros(size)), self._utils))
                obs = flat(self._nursery.reset())
            self._rows.take(some, self._newborn, places)
            if alone:
                self._rows.share(self._newborn, before)
            seen.append(obs[: len(some)])
        return torch.cat(seen)

    def _start_in_place(self, slots: np.ndarray, seeds: np.ndarray) -> torch.Tensor:
        """Start episodes one by one by VMAS's own ``reset_at``; returns their observations."""
        for slot, seed in zip(slots.tolist(), seeds.tolist(), strict=True):
            with _seeded(self.env, seed), quiet():
                self.env.reset_at(slot, return_observations=False)
        keys = keys_of(placed(self.n_slots, slots, seeds), np.zeros(self.n_slots))
        with _streams(self._draws, keys, self._utils):
            obs = flat(self.env.get_from_scenario(True, False, False, False)[0])
        return obs[torch.from_numpy(slots).to(obs.device)]

    @torch.inference_mode()  # an eighth to a fifth of a step's time
    def step(self, actions: list[torch.Tensor], seeds: np.ndarray, steps: np.ndarray, held: np.ndarray) -> Shown:
        """Step all worlds but those ``held`` [B].

        Args:
            actions: of each agent, [B, D].
            seeds, steps: [B] of each slot's episode, for what it draws.
            held: worlds that stay as they are.
        """
        kept = self._rows.snapshot() if held.any() else None
        with _streams(self._draws, keys_of(seeds, steps + 1), self._utils):
            obs, rewards, over, _, _ = self._step(self.env, actions)
        if kept is not None:
            rows = np.flatnonzero(held)
            self._rows.take(rows, kept, rows)
        reward = torch.stack([r.reshape(self.n_slots) for r in rewards], 1)
        return Shown(flat(obs), reward.float(), over.reshape(self.n_slots))

    @torch.inference_mode()
    def numbers(self, rows: np.ndarray) -> np.ndarray:
        """Return the numbers of infos [k, M] in ``rows`` [k], each as its mean over the agents that have it."""
        infos = [self.info(agent) for agent in self.env.agents]
        found = np.zeros((len(rows), len(self.nature.metrics)), np.float32)
        for j, name in enumerate(self.nature.metrics):
            having = [info[name].float().reshape(-1).cpu().numpy()[rows] for info in infos if name in info]
            if having:
                found[:, j] = np.mean(having, axis=0)
        return found

    def close(self) -> None:
        """Release the worlds."""
        self.env = self._nursery = None


def _touch_by_row(world: Any, utils: Any) -> None:
    """Let no world's forces depend on the others' positions.

    VMAS works out a pair's forces for all worlds where their bounding circles meet in any of them; forces begin a
    little (``LINE_MIN_DIST``) outside of the circles, and would be there or not as other worlds have it. Pairs are
    taken in from that distance on; beyond it every force is 0.
    """
    ask, margin = world.collides, 2 * utils.LINE_MIN_DIST
    can_touch: dict[tuple[Any, Any], bool] = {}

    def collides(a: Any, b: Any) -> bool:
        if not (a.collides(b) and b.collides(a)):
            return False
        if a is b:
            return False
        if (a, b) not in can_touch:
            place, a.state.pos = a.state.pos, b.state.pos
            can_touch[a, b] = ask(a, b)  # VMAS's answer, were both at one place
            a.state.pos = place
        if not can_touch[a, b]:
            return False
        reach = a.shape.circumscribed_radius() + b.shape.circumscribed_radius() + margin
        return bool((torch.linalg.vector_norm(a.state.pos - b.state.pos, dim=-1) <= reach).any())

    world.collides = collides


def placed(n_rows: int, rows: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Return seeds [n_rows], those of ``rows`` [k] given."""
    every = np.zeros(n_rows, np.int64)
    every[rows] = seeds
    return every


def flat(obs: Any) -> torch.Tensor:
    """Return the observations of all agents side by side, [k, sum of O] float32; those in dicts in their order."""
    return torch.cat([x.reshape(len(x), -1) for one in obs for x in _leaves(one)], 1).float()


def _no_info(agent: Any) -> dict[str, torch.Tensor]:
    return {}


def _leaves(value: Any) -> list[torch.Tensor]:
    return [value] if isinstance(value, torch.Tensor) else [x for v in value.values() for x in _leaves(v)]


@contextmanager
def _streams(draws: RowDraws, keys: np.ndarray, utils: Any) -> Iterator[None]:
    """Draw from the streams of ``keys``."""
    draws.begin(keys)
    with drawing(draws, utils.ScenarioUtils), quiet():
        yield


def _seeded_spaces(env: Any) -> list[Any]:
    """Return the agents' action spaces, each of which draws the same actions every time."""
    spaces = [env.get_agent_action_space(agent) for agent in env.agents]
    for i, space in enumerate(spaces):
        space.seed(i)
    return spaces


@contextmanager
def _others_unread(env: Any) -> Iterator[Callable[[], bool]]:
    """Give what tells whether numpy's and Python's generators were left alone: VMAS keeps states of its own."""
    states = env.vmas_random_state
    before = [_text(state) for state in states[1:]]
    yield lambda: before == [_text(state) for state in states[1:]]


def _text(state: Any) -> str:
    return repr([x.tobytes() if isinstance(x, np.ndarray) else x for x in state])


@contextmanager
def _seeded(env: Any, seed: int) -> Iterator[None]:
    """Let what VMAS draws depend on ``seed``: it swaps its generators' states for the global ones at every call."""
    generator, device = torch.Generator(), torch.device(env.device)
    generator.manual_seed(seed)
    env.vmas_random_state[:] = [generator.get_state(), np.random.RandomState(seed % 2**32).get_state(),
                                random.Random(seed).getstate()]  # fmt: skip
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else [], enabled=device.type == "cuda"):
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
        yield
