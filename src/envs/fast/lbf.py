"""Level-based foraging by the stock package's rules, bit for bit, in a small part of its time.

A made environment keeps its object, attributes, spaces, seeding and rendering: only its class becomes a subclass of
the stock one. That keeps a second view of the game in plain integers (`quick_lbf_game`), steps that, and writes what
changed into the stock attributes. Wherever the attributes were changed from outside, or the state is not one that play
leads to, the stock code steps.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from lbforaging.foraging import environment as stock
from lbforaging.foraging.environment import ForagingEnv

from ..foreign import unwrapped
from .lbf_game import LOAD, Board, Declared, Game, board_of

#: SHA-256 of lbforaging/foraging/environment.py -> what it is. Another source may have other rules: it steps itself.
KNOWN = {
    "df3fc3564433602ceb955b1522b8b8f1264dccfb666ec54362124bd2fe85c6f8": "2.0.0",
    "e199584acde25111eb63c6624c2a2fa6ab921dc004f8984d96bc0329609dafcf": "GitHub, 2024-09-06: other rendering",
    "fe6078d650295b003f4a82e4221a28482ad30482169502133d51523e271f9b1f": "GitHub, 2024-09-09: other rendering",
}

_SEQUENCES = frozenset({list, tuple, np.ndarray})  # what can be read again if something is wrong with it
_NOWHERE = type(None)
_LARGE = 2500  # cells; beyond it the tables would take longer to make than the stock code to play
_SMALL = 2**24  # whole numbers below it are the same in float32
_ATTEMPTS = 1000  # random places that are tried for a player, and for all food together


def quicken(env: Any) -> bool:
    """Make ``env``'s innermost environment step quickly if it is LBF's own, of a known source and a usable kind.

    Returns whether it now does; anything else is left as it was.
    """
    inner = unwrapped(env)
    if type(inner) is not ForagingEnv or _source() not in KNOWN or _patched(inner):
        return False
    board = _board(inner)
    if board is None or not _read_space(inner).holds(board):
        return False
    inner.__class__ = QuickForaging
    return True


def _source() -> str:
    """Return the SHA-256 of the stock module's source file, "" where there is none."""
    try:
        return hashlib.sha256(Path(str(stock.__file__)).read_bytes()).hexdigest()
    except OSError:
        return ""


def _patched(inner: Any) -> bool:
    """Whether a method of the stock classes or of this object was replaced."""
    found = [(k, v.__code__) for c in (ForagingEnv, stock.Player) for k, v in vars(c).items() if hasattr(v, "__code__")]
    return len({code.co_filename for _, code in found}) > 1 or any(name in vars(inner) for name, _ in found)


def _board(env: Any) -> Board | None:
    """Return the board of an environment, None where its kind is left to the stock code."""
    if env._grid_observation or env.render_mode == "human" or type(env.sight) is not int or env.sight < 0:
        return None
    if env.field.ndim != 2 or min(env.field.shape) < 3 or env.field.size > _LARGE or not env.players:
        return None
    rows, cols = env.field.shape
    return board_of(rows, cols, env.sight)


class QuickForaging(ForagingEnv):
    """The stock environment with a reset and a step of its own."""

    field: Any
    current_step: Any
    _quick: Game | None = None  # None: the stock attributes are all there is

    @cached_property
    def _valid_actions(self) -> Any:
        """The actions that each player may take; listed when it is read (in the stock code: at every step)."""
        assert self._quick is not None
        return self._quick.valid_actions()

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_valid_actions": self._valid_actions}
        state.pop("_quick", None)
        return state

    def step(self, actions: Any) -> tuple[tuple[np.ndarray, ...], list[float], Any, bool, dict[str, Any]]:
        """Apply one action a player; returns and leaves behind what the stock code does."""
        game = self._quick
        if game is None or type(actions) not in _SEQUENCES or not game.holds(self):
            return self._stock_step(actions)
        goals: list[int] = []
        loaders, reach = [], game.board.reach
        try:
            for cell, action in zip(game.cells, actions, strict=True):
                goal = reach[cell][action]
                if goal == LOAD:
                    if cell in game.beside:
                        loaders.append(len(goals))
                    goal = cell
                elif goal in game.food:
                    goal = cell
                goals.append(goal)
        except (KeyError, TypeError, ValueError):  # not one action a player: the stock code knows what to do
            return self._stock_step(actions)
        self.current_step += 1
        players = game.players
        for player in players:
            player.reward = 0
        game.move(goals)
        if loaders:
            self._load(game, loaders)
        # types as the stock code has them: numpy's where no food is left
        self._game_over = self._max_episode_steps <= self.current_step if game.food else np.True_
        self.__dict__.pop("_valid_actions", None)
        return game.observe(), [p.reward for p in players], self._game_over, False, {}

    def _load(self, game: Game, loaders: list[int]) -> None:
        """Let the players ``loaders`` load the food beside them, together where it is the same."""
        teams: dict[int, list[Any]] = {}
        for i in loaders:
            teams.setdefault(game.beside[game.cells[i]], []).append(game.players[i])
        for cell, team in teams.items():
            food, strength = game.food[cell], sum(int(p.level) for p in team)
            for player in team:
                if strength < food:
                    player.reward -= self.penalty
                else:
                    player.reward = float(player.level * food)
                    if self._normalize_reward:
                        player.reward = player.reward / float(strength * self._food_spawned)
                player.score += player.reward
            if strength >= food:
                game.eat(cell)

    def _stock_step(self, actions: Any) -> Any:
        """Let the stock code step."""
        _ = self._valid_actions  # of before whatever has been changed since
        self._quick = None
        result = super().step(actions)
        self._look()
        return result

    def _look(self) -> None:
        """Read the state from the stock attributes, where it is one that play leads to."""
        board, shape = _board(self), self.field.shape
        cells = [p.position for p in self.players]
        if board is None or self.field.dtype != np.int32:
            return
        for at in cells:
            inside = type(at) is tuple and len(at) == 2 and all(type(x) is np.int64 for x in at)
            if not inside or not (0 <= at[0] < shape[0] and 0 <= at[1] < shape[1]):
                return
        if any(type(p.level) is not np.int64 for p in self.players):
            return
        levels = self.field.ravel().tolist()
        game = Game(self, board, {i: level for i, level in enumerate(levels) if level})
        if game.usual() and game.sound(_declared(self)):
            self._quick = game

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[tuple[np.ndarray, ...], dict[str, Any]]:
        """Start an episode; draws, returns and leaves behind what the stock code does."""
        board, levels = _board(self), _levels(self)
        if board is None or levels is None or any(type(p.position) not in (tuple, _NOWHERE) for p in self.players):
            _ = self._valid_actions
            self._quick = None
            started = super().reset(seed=seed, options=options)
            self._look()
            return started
        if seed is not None:
            super(ForagingEnv, self).reset(seed=seed, options=options)
        self.field = np.zeros(self.field.shape, np.int32)
        placed = self._place_players(board, *levels[:2])
        food = self._place_food(board, *levels[2:])
        self._food_spawned = np.int_(sum(food.values()))
        self.current_step, self._game_over = 0, False
        game = Game(self, board, food) if placed else None
        if game is None or not game.sound(_declared(self)):  # no usual play leads here: left to the stock code
            _ = self._valid_actions
            self._quick = None
            self._gen_valid_moves()
            seen = self._make_gym_obs()
            self._look()
            return seen, {}
        self._quick = game
        self.__dict__.pop("_valid_actions", None)
        return game.observe(), {}

    def _place_players(self, board: Board, lowest: list[int], highest: list[int]) -> bool:
        """Put the players on free cells; returns whether all found one."""
        draw, (rows, cols) = self.np_random.integers, self.field.shape
        order = self.np_random.permutation(len(self.players)).tolist()
        # also where those who are still to be placed stood in the last episode
        there = [p.position for p in self.players]
        placed = 0
        for i, player in enumerate(self.players):
            player.reward = 0
            for _ in range(_ATTEMPTS):
                place = board.places[int(draw(0, rows)) * cols + int(draw(0, cols))]
                if place not in there:
                    player.setup(place, draw(lowest[order[i]], highest[order[i]] + 1), self.field.shape)
                    there[i] = place
                    placed += 1
                    break
        return placed == len(self.players)

    def _place_food(self, board: Board, least: list[int], most: list[int] | None) -> dict[int, int]:
        """Put food on cells that are apart, not at the edge; returns cell -> level."""
        draw, (rows, cols) = self.np_random.integers, self.field.shape
        order = self.np_random.permutation(self.max_num_food).tolist()
        if most is None:
            most = [int(sum(sorted(p.level for p in self.players)[:3]))] * len(least)
        if self.force_coop:
            least = most
        food: dict[int, int] = {}
        taken = {int(p.position[0]) * cols + int(p.position[1]) for p in self.players if p.position}
        n = 0
        for _ in range(_ATTEMPTS):
            if n == len(order):
                break
            cell = int(draw(1, rows - 1)) * cols + int(draw(1, cols - 1))
            if cell in taken:
                continue
            low, high = least[order[n]], most[order[n]]
            level = low if low == high else int(draw(low, high + 1))
            n += 1
            if level:
                self.field[board.grid[cell]] = food[cell] = level
                taken.update(board.crowded[cell])
        return food


def _declared(env: Any) -> Declared:
    """Return the numbers and bounds of the observation space; read again only where it is another one."""
    space = env.observation_space[0]
    if space is not vars(env).get("_quick_space"):
        env._quick_space, env._quick_declared = space, _read_space(env)
    declared: Declared = env._quick_declared
    return declared


def _read_space(env: Any) -> Declared:
    space = env.observation_space[0]  # all players have one
    food = float(space.high[2]) if env.max_num_food else 0.0
    row, col = space.high[-3:-1] if env._observe_agent_levels else space.high[-2:]
    return Declared(space.shape[0], food, float(row), float(col), float(space.low[-1]), float(space.high[-1]))


def _levels(env: Any) -> tuple[list[int], list[int], list[int], list[int] | None] | None:
    """Return the lowest and highest levels of players and of food (None: what they can load); None if unusable."""
    most = None if env.max_food_level is None else _whole(env.max_food_level, env.max_num_food)
    lowest, highest = (_whole(x, len(env.players)) for x in (env.min_player_level, env.max_player_level))
    least = _whole(env.min_food_level, env.max_num_food)
    if lowest is None or highest is None or least is None or (most is None) != (env.max_food_level is None):
        return None
    return lowest, highest, least, most


def _whole(values: Any, n: int) -> list[int] | None:
    """Return an array of n small whole numbers as a list, None if it is something else."""
    if type(values) is not np.ndarray or values.shape != (n,) or (n and values.dtype.kind != "i"):
        return None
    found: list[int] = values.tolist()
    return found if all(0 <= x < _SMALL for x in found) else None
