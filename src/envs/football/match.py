"""The process of one engine: it plays games of one scenario with Google Research Football, and answers commands.

| command | meaning |
|---|---|
| B, pickled :class:`Order` | the first one: build the game |
| R, 8 bytes | start the episode of a seed |
| S, 8 N bytes | apply the agents' actions |
| D | draw this moment |

An answer is a byte and what belongs to it: K the moment's vector (or the pickled picture), U a sentence about what is
missing here, E the traceback of an error. Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import pickle
import tempfile
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from ...utils.errors import UserError, first_line
from . import views
from .moment import Moment, Sizes
from .rules import Ends, Rewards, team_rewards

#: seeds are below it: the engine takes 32 bits
_SEEDS = 2**31 - 1
#: of pictures by the game's own camera, in pixels
_WIDTH, _HEIGHT = 640, 360


@dataclass(frozen=True)
class Order:
    """A game: scenario, agents, and what is reported of it.

    | field | meaning |
    |---|---|
    | scenario | its full name |
    | sizes | of a moment |
    | representation | one of ``views.OBSERVATIONS`` |
    | checkpoints | add the rewards of checkpoints |
    | team_reward | one of ``rules.TEAM_REWARDS`` |
    | drawn | pictures come from the game's own camera; otherwise they show the field from above |
    """

    scenario: str
    sizes: Sizes
    representation: str
    checkpoints: bool
    team_reward: str
    drawn: bool = False


def load() -> tuple[Any, Any]:
    """Import Google Research Football; returns its modules ``football_env_core`` and ``config``.

    Raises:
        UserError: it is missing or broken.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    said = io.StringIO()
    try:
        # gym says at every import that it is no longer maintained
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            return tuple(importlib.import_module(f"gfootball.env.{name}") for name in ("football_env_core", "config"))  # type: ignore[return-value]
    except ModuleNotFoundError as error:
        raise UserError(
            f"Google Research Football needs the Python package '{(error.name or '').partition('.')[0]}', which is not "
            "installed: run `oamarl install football`."
        ) from error
    except Exception as error:  # such as a library of the system that is gone
        raise UserError(
            f"Google Research Football cannot be imported ({type(error).__name__}: {first_line(error)}): install it "
            "anew with `oamarl install football`."
        ) from error


class _NoCopies:
    """What the package's game uses of the module ``copy``: here nothing is changed that it shows or keeps."""

    @staticmethod
    def deepcopy(value: Any) -> Any:
        """Return ``value`` itself."""
        return value


class Match:
    """Games of one scenario, one after another.

    An episode depends on its seed alone, so what the package draws or counts from one game to the next is set before
    each: the engine's seed, which team's players move first, and the parity of the episode's number, by which some
    scenarios swap the sides.
    """

    def __init__(self, order: Order) -> None:
        core, config = load()
        # it copies each observation, of which it makes a new one at every step, for its record of the last steps
        core.copy = _NoCopies
        self._order = order
        self._config = config.Config(
            {
                "level": order.scenario, "players": [f"agent:left_players={order.sizes.n_agents},right_players=0"],
                "dump_full_episodes": False, "dump_scores": False, "write_video": False,
                "tracesdir": tempfile.gettempdir(), "render_resolution_x": _WIDTH, "render_resolution_y": _HEIGHT,
                **_seeded(0),
            }
        )  # fmt: skip
        # the game without the package's interface for one agent, which copies and mirrors every observation for each
        # player: about a third of a step
        self._game = core.FootballEnvCore(self._config)
        if order.drawn:
            self._game.render(mode="rgb_array")
        self._rewards = Rewards(order.sizes.n_agents, order.checkpoints)
        self._moment = Moment.empty(order.sizes)
        self._raws: list[dict[str, Any]] = []

    def reset(self, seed: int) -> np.ndarray:
        """Start the episode of ``seed``; returns the moment's vector."""
        for name, value in _seeded(seed).items():
            self._config[name] = value
        self._game.reset()
        self._ends = Ends(self._config.ScenarioConfig())
        self._rewards.reset()
        self._moment.reward[:] = self._moment.flags[:] = 0
        return self._shown(self._game.observation())

    def step(self, actions: np.ndarray) -> np.ndarray:
        """Apply ``actions`` [N] int64; returns the moment's vector."""
        seen, score, over, _ = self._game.step(actions.tolist())
        moment, by_rule = self._moment, self._ends.by_rule(seen)
        vector = self._shown(seen)
        moment.reward[:] = team_rewards(self._rewards(score, self._raws), self._order.team_reward)
        moment.flags[:] = score, seen["score"][0], over and by_rule, over and not by_rule
        return vector

    def _shown(self, seen: dict[str, Any]) -> np.ndarray:
        """Write what agents see; ``seen`` is the game's raw observation of the left team."""
        players = zip(seen["left_agent_controlled_player"], seen["left_agent_sticky_actions"], strict=True)
        self._raws = [{**seen, "active": player, "sticky_actions": sticky} for player, sticky in players]
        views.write(self._raws, self._order.representation, self._moment.obs, self._moment.state)
        return self._moment.vector

    def draw(self) -> np.ndarray:
        """Return a picture of this moment, [H, W, 3] uint8."""
        if self._order.drawn:
            # the package turns the picture's colours round
            return np.ascontiguousarray(self._game.render(mode="rgb_array")[..., ::-1])
        processor = importlib.import_module("gfootball.env.observation_processor")
        # the package's own picture of a game without a camera, in the colours of its videos
        raw = self._raws[0]
        state = processor.ObservationState({"observation": raw, "debug": {}})
        return np.ascontiguousarray(processor.get_frame(state))


def _seeded(seed: int) -> dict[str, Any]:
    """Return what of the package's configuration belongs to an episode."""
    return {
        "game_engine_random_seed": seed % _SEEDS, "reverse_team_processing": bool(seed % 2),
        "episode_number": seed // 2 % 2,
    }  # fmt: skip


def serve(connection: Connection, match: Match | None = None) -> None:
    """Answer commands until the pipe ends; ``match`` is a game that is built already."""
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            message = connection.recv_bytes()
            try:
                if message[:1] == b"B":
                    match = match or Match(pickle.loads(message[1:]))
                    answer = b""
                else:
                    assert match is not None
                    answer = _answer(match, message)
                connection.send_bytes(b"K" + answer)
            except UserError as error:
                connection.send_bytes(b"U" + str(error).encode())
            except (Exception, SystemExit):  # the package exits where a scenario cannot be loaded
                connection.send_bytes(b"E" + traceback.format_exc().rstrip().encode())


def _answer(match: Match, message: bytes) -> bytes:
    if message[:1] == b"R":
        return match.reset(int.from_bytes(message[1:], "little")).tobytes()
    if message[:1] == b"S":
        return match.step(np.frombuffer(message[1:], np.int64)).tobytes()
    return pickle.dumps(match.draw())
