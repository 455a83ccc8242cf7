"""Google Research Football (Kurach et al. 2020): agents control players of the left team, the game plays the others.

Every game has an engine, in a process of its own. One that dies, hangs or raises is replaced by a new one, in which the
episode is played up to where it was: its seed and its actions lead there, to the bit, so that nothing is lost. See
docs/football.md for scenarios, what agents see, and what differs from the papers.
"""

from __future__ import annotations

import importlib.util
import math
import pickle

import numpy as np

from ...utils.errors import NotInstalled, UserError, nearest, one_of
from ...utils.waiting import say
from ..base import Arrays, EnvInfo
from ..pictures import check_mode
from . import rules, views
from .engine import Engine, EngineFailed
from .match import Order
from .moment import Moment, Sizes
from .scenarios import agents_of, find_scenario

ACTIONS = (
    "idle", "left", "top_left", "top", "top_right", "right", "bottom_right", "bottom", "bottom_left", "long_pass",
    "high_pass", "short_pass", "shot", "sprint", "release_direction", "release_sprint", "sliding", "dribble",
    "release_dribble",
)  # fmt: skip
METRICS = ("score_reward", "scored", "engine_restarts")
VIDEOS = ("game", "field")
#: bytes of memory of one engine: its own, and its part of the process from which it is forked (docs/football.md)
ENGINE_BYTES = 45_000_000
#: engines that may fail in one episode before the failure counts as the episode's own
_MOST_RESTARTS = 3


class Football:
    """One game; the actions of ``ACTIONS`` are legal for every agent at every step.

    | the episode ends | terminated | truncated |
    |---|---|---|
    | by a rule of its scenario (a goal, the ball out of play or lost) | True | False |
    | at ``time_limit``, or when the game's time is up | False | True |

    Metrics of an episode: ``score_reward``, goals of the own team minus the opponents'; ``scored``, 1 if the own team
    has scored; ``engine_restarts``, engines that failed in it.
    """

    def __init__(
        self,
        map_name: str = "academy_3_vs_1_with_keeper",
        n_agents: int | None = None,
        representation: str = "simple115v2",
        rewards: str = "scoring,checkpoints",
        team_reward: str = "first",
        time_limit: int | None = None,
        engine_timeout: float = 60.0,
        video: str = "game",
        render_mode: str | None = None,
    ) -> None:
        """Read the sizes of a game; the engine itself is started at the first reset.

        Args:
            map_name: the scenario.
            n_agents: players of the left team that agents control; None: as in the papers.
            representation: what an agent sees: ``simple115v2``, ``simple115`` or ``compact``.
            rewards: ``scoring`` or ``scoring,checkpoints``.
            team_reward: every agent has the reward of the ``first`` one, or the ``sum`` of all; ``own``: each its own.
            time_limit: steps until an episode is cut; None: the game's own time.
            engine_timeout: seconds without an answer after which an engine is replaced.
            video: pictures are by the ``game``'s own camera, or of the ``field`` from above, which is quicker.
            render_mode: set where pictures will be asked for.

        Raises:
            UserError: an unknown scenario or value, or Google Research Football missing.
        """
        for name, value, known in (
            ("representation", representation, views.OBSERVATIONS), ("rewards", rewards, rules.REWARDS),
            ("team_reward", team_reward, rules.TEAM_REWARDS), ("video", video, VIDEOS),
        ):  # fmt: skip
            if value not in known:
                raise UserError(f"env_args.{name}='{value}' is not known: use {one_of(known)}{nearest(value, known)}")
        if time_limit is not None and time_limit < 1:
            raise UserError(f"env_args.time_limit={time_limit} is out of range: at least 1 is allowed.")
        if not 0 < engine_timeout < math.inf:
            raise UserError(f"env_args.engine_timeout={engine_timeout} is out of range: seconds above 0 are allowed.")
        check_mode(render_mode)
        scenario, entry = find_scenario(map_name)
        n = agents_of(scenario, entry, n_agents)
        _check_installed()
        sizes = Sizes(n, views.SIZES[representation], views.state_size(n))
        # a game that is over at its last step has one step more than its time
        limit = entry.duration + 1 if time_limit is None else min(time_limit, entry.duration + 1)
        self.info = EnvInfo(
            name=scenario, n_agents=n, obs_size=sizes.obs, state_size=sizes.state, n_actions=len(ACTIONS),
            episode_limit=limit, obs_sizes=(sizes.obs,) * n, action_sizes=(len(ACTIONS),) * n, metrics=METRICS,
            team_reward=team_reward != "own", memory=ENGINE_BYTES,
        )  # fmt: skip
        drawn = render_mode is not None and video == "game"
        self._order = Order(scenario, sizes, representation, rewards != "scoring", team_reward, drawn)
        self._sizes, self._patience = sizes, engine_timeout
        self._engine: Engine | None = None
        #: the commands of the present episode, from its reset on, and the last one's answer
        self._episode: list[bytes] = []
        self._answer = b""
        self._restarts = 0
        self._score = 0.0

    # -- the engine ----------------------------------------------------------------------------------------------

    def _play(self, command: bytes) -> Moment:
        """Send a command that is part of the episode; returns the moment after it."""
        answer = self._ask(command)
        self._episode.append(command)
        self._answer = answer
        return Moment(np.frombuffer(answer, np.float32), self._sizes)

    def _ask(self, command: bytes) -> bytes:
        """Return the engine's answer, of a new one where this one fails.

        Raises:
            EngineFailed: the new one fails as well, or too many have failed in this episode.
        """
        try:
            return self._tell(command)
        except EngineFailed as failure:
            self._restarts += 1
            if self._restarts > _MOST_RESTARTS:
                raise
            at = f"in step {len(self._episode)}" if self._episode else "at an episode's start"
            say(
                f"A football engine of {self.info.name} {failure}\nIt failed {at}. A new one is started, and the "
                "episode is played again up to there."
            )
            self._catch_up()
            return self._tell(command)

    def _tell(self, command: bytes) -> bytes:
        """Return the engine's answer; it is started where none is running."""
        if self._engine is None:
            self._engine = Engine(self._order, self._patience)
        try:
            return self._engine.ask(command)
        except BaseException:  # it has been put away
            self._engine = None
            raise

    def _catch_up(self) -> None:
        """Bring a new engine to the present moment of the episode."""
        answer = b""
        for command in self._episode:
            answer = self._tell(command)
        if answer != self._answer:
            self.close()
            raise EngineFailed("failed, and the same seed and actions led a new one elsewhere")

    def close(self) -> None:
        """End the engine."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    # -- the environment -----------------------------------------------------------------------------------------

    def reset(self, seed: int, out: Arrays) -> None:
        """Start the episode of ``seed``.

        Raises:
            UserError: Google Research Football is missing or broken.
            EngineFailed: two engines in a row failed.
        """
        self._episode, self._answer, self._restarts, self._score = [], b"", 0, 0.0
        moment = self._play(b"R" + int(seed).to_bytes(8, "little"))
        for field in (out.reward, out.terminated, out.truncated, out.agent_terminated, out.metrics):
            field[...] = 0
        out.avail[...] = out.alive[...] = True
        out.obs[...], out.state[...] = moment.obs, moment.state
        out.metrics[2] = self._restarts

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        """Apply ``actions`` [N].

        Raises:
            EngineFailed: two engines in a row failed.
        """
        moment = self._play(b"S" + np.ascontiguousarray(actions, np.int64).tobytes())
        late = len(self._episode) - 1 >= self.info.episode_limit
        self._score += moment.score_reward
        out.obs[...], out.state[...], out.reward[...] = moment.obs, moment.state, moment.reward
        out.terminated[...] = out.agent_terminated[...] = moment.terminated
        out.truncated[...] = not moment.terminated and (moment.truncated or late)
        out.metrics[...] = self._score, float(moment.goals > 0), self._restarts

    def render(self) -> np.ndarray:
        """Return a picture of this moment, uint8 [H, W, 3]."""
        picture: np.ndarray = pickle.loads(self._ask(b"D"))
        return picture


def _check_installed() -> None:
    """Raise UserError where Google Research Football is not installed; nothing of it is imported."""
    for package in ("gfootball", "gfootball_engine"):
        if importlib.util.find_spec(package) is None:
            raise NotInstalled(
                f"gfootball needs Google Research Football, whose package '{package}' is not installed: run `oamarl "
                "install football`."
            )
