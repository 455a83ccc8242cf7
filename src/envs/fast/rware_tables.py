"""The state of RWARE's warehouse in numbers and bytes, kept up with what its agents do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

import numpy as np

from .rware_moves import winners

_FORWARD, _TOGGLE = 1, 4
#: headings are 0 up, 1 down, 2 left, 3 right: what is ahead of each (x, y), and what each becomes by action 2 or 3
_AHEAD = ((0, -1), (0, 1), (-1, 0), (1, 0))
_TURNED = {2: (2, 3, 1, 0), 3: (3, 2, 0, 1)}
_state_of = attrgetter("x", "y", "dir", "carrying_shelf")


class Tables:
    """A warehouse in numbers: a cell is y * width + x, a pose is cell * 8 + heading * 2 + whether a shelf is carried.

    Attributes:
        pose: of each agent.
        seen: of each agent, the pieces of memory whose bytes in a row are its observation.
        agent_at, shelf_at: the ids in ``env.grid``, by cell; the grid itself, not a copy.
        moved: agents whose previous place is no longer what the stock would say it is.
    """

    def __init__(self, env: Any) -> None:
        from rware.warehouse import Action, Direction, RewardType

        self.height, self.width = height, width = env.grid_size
        self.bits, self.kinds = env.msg_bits, RewardType
        self.actions, self.headings = tuple(Action), tuple(Direction)
        self.codes = {key: action.value for action in Action for key in (action, action.value)}
        self.goals = [y * width + x for x, y in env.goals]
        self.highway = [bool(h) for h in env.highways.ravel()]
        self.places = [(x, y) for y in range(height) for x in range(width)]
        self.ahead = [
            min(max(y + dy, 0), height - 1) * width + min(max(x + dx, 0), width - 1)
            for x, y in self.places
            for dx, dy in _AHEAD
            for _carrying in (False, True)
        ]
        # in one line of cells scaled coordinates divide by zero, which ends otherwise for numpy's numbers
        self.scaled = env.normalised_coordinates
        self.flat = bool(env.fast_obs)
        self._lay_out(env, env.sensor_range if self.flat else 0)
        self.known: list[Any] | None = None

    def _lay_out(self, env: Any, reach: int) -> None:
        """Make the buffer of all cells, with a border as wide as agents see, and what each pose sees of it."""
        height, width, numbers = self.height, self.width, 7 + self.bits
        self.nothing = _bytes([0, 1, 0, 0, 0] + [0] * self.bits)  # no agent has the heading up
        self.facing = [_bytes([1] + [float(d == heading) for d in range(4)]) for heading in range(4)]
        self.no_shelf, self.shelf = _bytes([0, 0]), (_bytes([1, 0]), _bytes([1, 1]))
        size, line = 4 * numbers, width + 2 * reach
        self.empty = (self.nothing + self.no_shelf) * (line * (height + 2 * reach))
        self.buffer = bytearray(self.empty)
        starts = [((y + reach) * line + x + reach) * size for x, y in self.places]
        self.facing_of = [slice(a, a + 20) for a in starts]
        self.message_of = [slice(a + 20, a + size - 8) for a in starts]
        self.agent_of = [slice(a, a + size - 8) for a in starts]
        self.shelf_of = [slice(a + size - 8, a + size) for a in starts]
        whole, wide = memoryview(self.buffer), (2 * reach + 1) * size
        corners = [a - reach * (line + 1) * size for a in starts]
        around = [
            tuple(whole[b : b + wide] for b in range(a, a + (2 * reach + 1) * line * size, line * size))
            for a in corners
        ]
        self.length = 8 + (2 * reach + 1) ** 2 * numbers
        own = self._own(env)
        self.sights = [(own[pose * 32 : pose * 32 + 32], *around[pose >> 3]) for pose in range(len(self.ahead))]

    def _own(self, env: Any) -> bytes:
        """Return what agents see of themselves, 8 numbers for each pose."""
        own = np.zeros((self.height, self.width, 4, 2, 8), np.float32)
        x, y = np.arange(self.width), np.arange(self.height)
        if self.scaled and 1 not in env.grid_size:
            x, y = x / (self.width - 1), y / (self.height - 1)
        own[..., 0] = x[None, :, None, None]
        own[..., 1] = y[:, None, None, None]
        own[..., 1, 2] = 1
        own[..., 3:7] = np.eye(4)[:, None]
        own[..., 7] = env.highways[:, :, None, None]
        return own.tobytes()

    def hold(self, env: Any) -> bool:
        """Return whether the game is still as this left it: others may write to it between steps."""
        return (
            self.known is not None
            and list(map(_state_of, env.agents)) == self.known
            and env.request_queue == self.queue
            and env.agents is self.agents
            and env.shelfs is self.shelfs
            and env.grid is self.grid
        )

    def read(self, env: Any) -> bool:
        """Read the game's state; False where it is not one that playing leads to."""
        self.known = None
        if not self._sound(env):
            return False
        self.agents, self.shelfs, self.grid = env.agents, env.shelfs, env.grid
        cells = self.height * self.width
        numbers = memoryview(env.grid).cast("B").cast("i")
        self.agent_at, self.shelf_at = numbers[:cells], numbers[cells:]
        self.moved: Iterable[int] = range(len(self.agents))
        self.queue = list(env.request_queue)
        self.buffer[:] = self.empty
        for shelf in self.shelfs:
            self._show_shelf(shelf)
        self.pose = []
        for agent in self.agents:
            cell, heading = int(agent.y) * self.width + int(agent.x), self.headings.index(agent.dir)
            self.pose.append(cell * 8 + heading * 2 + (agent.carrying_shelf is not None))
            self.buffer[self.facing_of[cell]] = self.facing[heading]
        self.seen = [self.sights[pose] for pose in self.pose]
        self.known = list(map(_state_of, self.agents))
        self.hear()
        return True

    def _sound(self, env: Any) -> bool:
        if not env.agents or len(env.agents) != env.n_agents or not env.grid.flags.c_contiguous:
            return False
        if self.scaled and 1 in env.grid_size:
            return False
        for layer, things in zip(env.grid, (env.agents, env.shelfs), strict=True):
            ids = list(range(1, len(things) + 1))
            there = np.array([(t.y, t.x) for t in things], np.int64).reshape(-1, 2)
            if [t.id for t in things] != ids or (there < 0).any() or (there >= layer.shape).any():
                return False
            expected = np.zeros_like(layer)
            expected[there[:, 0], there[:, 1]] = ids
            if np.count_nonzero(expected) != len(ids) or (expected != layer).any():
                return False
        carried = [(a, a.carrying_shelf) for a in env.agents if a.carrying_shelf is not None]
        return all(env.shelfs[s.id - 1] is s and (a.x, a.y) == (s.x, s.y) for a, s in carried)

    def _show_shelf(self, shelf: Any) -> None:
        cell = int(shelf.y) * self.width + int(shelf.x)
        self.buffer[self.shelf_of[cell]] = self.shelf[shelf in self.queue]

    def decode(self, actions: Any) -> list[int] | None:
        """Return the actions' numbers, and pass on the messages; None where the stock may have to complain."""
        try:
            if len(actions) != len(self.agents):
                return None
            if not self.bits:
                return [self.codes[action] for action in actions]
            codes = [self.codes[action[0]] for action in actions]
            for agent, action in zip(self.agents, actions, strict=True):
                agent.message[:] = action[1:]
        except (KeyError, TypeError, ValueError, IndexError):
            return None
        return codes

    def act(self, env: Any, codes: Sequence[int]) -> np.ndarray | None:
        """Let the agents do ``codes``; returns their rewards so far, None for zeros."""
        agents, pose, agent_at, actions = self.agents, self.pose, self.agent_at, self.actions
        for i in self.moved:
            agent = agents[i]
            agent.prev_x, agent.prev_y = agent.x, agent.y
        moves: dict[int, int] = {}
        toggles, touching = [], False
        for i, code in enumerate(codes):
            agents[i].req_action = actions[code]
            if code == _FORWARD:
                here = pose[i]
                target = self.ahead[here]
                ahead = agent_at[target]
                if target == here >> 3:  # a wall
                    continue
                if here & 1 and self.shelf_at[target] and not (ahead and pose[ahead - 1] & 1):
                    agents[i].req_action = actions[0]  # a shelf stands there
                    continue
                touching = touching or ahead > 0
                moves[i] = target
            elif code == _TOGGLE:
                toggles.append(i)  # after all moves are decided: who carries a shelf counts for them
            elif code:
                self._turn(i, _TURNED[code])
        if touching or (len(moves) > 1 and len(set(moves.values())) < len(moves)):
            moves = self._settle(moves)
        rewards = None
        for i in toggles:
            rewards = self._toggle(env, i, rewards)
        if moves:
            self._move(moves)
        self.moved = moves
        return rewards

    def _turn(self, i: int, turned: Sequence[int]) -> None:
        pose = self.pose[i]
        heading = turned[pose >> 1 & 3]
        self.agents[i].dir = self.headings[heading]
        self.buffer[self.facing_of[pose >> 3]] = self.facing[heading]
        self._stand(i, pose & ~6 | heading << 1)

    def _stand(self, i: int, pose: int) -> None:
        """Note that agent i now has ``pose``."""
        self.pose[i] = pose
        self.seen[i] = self.sights[pose]
        self.known[i] = _state_of(self.agents[i])  # type: ignore[index]

    def _toggle(self, env: Any, i: int, rewards: np.ndarray | None) -> np.ndarray | None:
        """Let agent i put its shelf down, or take the one it stands under."""
        agent, pose = self.agents[i], self.pose[i]
        cell = pose >> 3
        if not pose & 1:
            if not self.shelf_at[cell]:
                return rewards
            agent.carrying_shelf = self.shelfs[self.shelf_at[cell] - 1]
        elif self.highway[cell]:
            return rewards
        else:
            agent.carrying_shelf = None
            if agent.has_delivered and env.reward_type == self.kinds.TWO_STAGE:
                rewards = np.zeros(env.n_agents) if rewards is None else rewards
                rewards[i] += 0.5
            agent.has_delivered = False
        self._stand(i, pose ^ 1)
        return rewards

    def _move(self, moves: Mapping[int, int]) -> None:
        """Move agents to their cells; first all leave, as one may come where another was."""
        buffer, agent_at, shelf_at = self.buffer, self.agent_at, self.shelf_at
        for i in moves:
            pose = self.pose[i]
            cell = pose >> 3
            agent_at[cell] = 0
            buffer[self.agent_of[cell]] = self.nothing
            if pose & 1:
                shelf_at[cell] = 0
                buffer[self.shelf_of[cell]] = self.no_shelf
        for i, cell in moves.items():
            agent, pose = self.agents[i], self.pose[i] & 7
            agent.x, agent.y = self.places[cell]
            agent_at[cell] = i + 1
            buffer[self.facing_of[cell]] = self.facing[pose >> 1]
            if pose & 1:
                shelf = agent.carrying_shelf
                shelf.x, shelf.y = self.places[cell]
                shelf_at[cell] = shelf.id
                buffer[self.shelf_of[cell]] = self.shelf[shelf in self.queue]
            self._stand(i, cell << 3 | pose)

    def _settle(self, moves: dict[int, int]) -> dict[int, int]:
        """Return those of ``moves`` that succeed, and take back the others."""
        starts = [pose >> 3 for pose in self.pose]
        wins = winners(starts, moves, self.agent_at, self.places)
        for i in moves:
            if i not in wins:
                self.agents[i].req_action = self.actions[0]
        return {i: target for i, target in moves.items() if i in wins}

    def deliver(self, env: Any, cell: int, rewards: np.ndarray | None) -> np.ndarray:
        """Request another shelf instead of the one in ``cell``, and return the rewards with those for it."""
        queue, shelf = env.request_queue, self.shelfs[self.shelf_at[cell] - 1]
        new = env.np_random.choice([s for s in self.shelfs if s not in queue])
        queue[queue.index(shelf)] = new
        self.queue = list(queue)
        self._show_shelf(shelf)
        self._show_shelf(new)
        rewards = np.zeros(env.n_agents) if rewards is None else rewards
        who = self.agent_at[cell] - 1
        if env.reward_type == self.kinds.GLOBAL:
            rewards += 1
        elif env.reward_type == self.kinds.INDIVIDUAL:
            rewards[who] += 1
        elif env.reward_type == self.kinds.TWO_STAGE:
            self.agents[who].has_delivered = True
            rewards[who] += 0.5
        return rewards

    def hear(self) -> None:
        """Show the agents' messages."""
        if self.bits:
            for agent, pose in zip(self.agents, self.pose, strict=True):
                self.buffer[self.message_of[pose >> 3]] = _bytes(agent.message)

    def observe(self) -> tuple[np.ndarray, ...]:
        """Return what all agents see."""
        self.hear()
        shape = len(self.seen), self.length
        return tuple(np.ndarray(shape, np.float32, bytearray().join(chain.from_iterable(self.seen))))


def _bytes(numbers: Any) -> bytes:
    return np.asarray(numbers).astype(np.float32).tobytes()
