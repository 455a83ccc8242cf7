"""The adapter of games with SMAC's interface: SMAC and SMACv2, which play StarCraft II in a process of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np

from ...utils.errors import UserError
from .. import build
from ..base import Arrays, EnvInfo
from .die_with_parent import die_with_parent
from .temp import own_temporary_files

#: per-episode extras, by the names that EPyMARL logs them under (``battle_won_mean`` ...)
METRICS = ("battle_won", "dead_allies", "dead_enemies", "episode_limit")
#: The game fails beyond 2**19 of its own steps, which are counted over all episodes that it plays.
GAME_STEPS = 2**19
#: game steps that the start of an episode may take: units are killed, and new ones are waited for
_STARTING = 64

#: SMAC registers each of its environments with atexit, which keeps it for ever; what it holds is released
_HEAVY = {
    "_obs", "_controller", "_sc2_proc", "_run_config", "agents", "enemies", "previous_ally_units",
    "previous_enemy_units", "pathing_grid", "terrain_height", "renderer",
}  # fmt: skip

#: A game has been started in this process: one that cannot be is a fault then, not a mistake of the user's.
_seen = False


class StarCraft:
    """An environment that plays games of one map, one after another.

    An agent is alive where it has another action than the no-op (action 0).

    | the episode ends | terminated | truncated |
    |---|---|---|
    | won, lost, or both sides dead | True | False |
    | at its step limit | not ``continuing`` | ``continuing`` |

    SMAC starts a game that died again by itself, and reports its episode as a defeat without reward; here that is an
    exception, so that such an episode is never learned from.

    Until SMAC has seen the end of an episode, each of its resets starts a further StarCraft II and adds once more to
    the largest reward, by which it scales: a reset in the middle of a game's first episode is given a new game.
    """

    #: what `oamarl check-env` says to episodes of one seed that differ
    unrepeatable = (
        "That is StarCraft II's: an episode depends on its game's seed, on what was played in that game before, and on "
        "the game itself; env_args.recycle_episodes=1 gives each episode a game of its own."
    )

    def __init__(
        self,
        name: str,
        make: Callable[[int | None], Any],
        *,
        continuing: bool,
        step_mul: int | None,
        recycle_episodes: int | None,
        save_replay: bool = False,
        time_limit: int | None = None,
        reseed: Callable[[Any, int], None] | None = None,
        explain: Callable[[Exception], UserError | None] = lambda _: None,
    ) -> None:
        """Read the sizes of a game; StarCraft II itself is started at the first reset.

        Args:
            name: how messages call it.
            make: makes a game from the seed of StarCraft II; it must tell time-outs (SMAC's ``continuing_episode``).
            continuing: the step limit cuts an episode (truncated); otherwise it is an end (terminated).
            step_mul: game steps of a step; None: the map's own.
            recycle_episodes: episodes after which StarCraft II is started anew; None: only where it must be.
            save_replay: write a replay of each episode, each a game of its own.
            time_limit: steps, where the map's own limit is not less.
            reseed: what draws an episode's content in Python, seeded before each reset.
            explain: turns what StarCraft II raises at its start into the user's sentence, or None.
        """
        game = make(None)
        sizes = game.get_env_info()
        _put_away(game)
        n, actions, obs = (int(sizes[k]) for k in ("n_agents", "n_actions", "obs_shape"))
        limit = int(sizes["episode_limit"])
        self.info = EnvInfo(
            name=name, n_agents=n, obs_size=obs, state_size=int(sizes["state_shape"]), n_actions=actions,
            episode_limit=limit if time_limit is None else min(limit, time_limit), obs_sizes=(obs,) * n,
            action_sizes=(actions,) * n, metrics=METRICS, team_reward=True,
        )  # fmt: skip
        self._make, self._reseed, self._explain = make, reseed, explain
        self._continuing, self._save_replay = continuing, save_replay
        self._recycle = 1 if save_replay else recycle_episodes
        self._step_mul = step_mul or 8
        self._game: Any = None
        self._episodes = self._game_steps = self._time = 0
        self._counted = False  # SMAC has counted an episode of this game

    def reset(self, seed: int, out: Arrays) -> None:
        """Start the episode of ``seed``, in a new game where the old one has served its time or has ended none.

        Raises:
            UserError: StarCraft II is not there or cannot be started, and never was.
            RuntimeError: it died.
        """
        global _seen
        most = self.info.episode_limit * self._step_mul + _STARTING
        worn = self._game_steps + most > GAME_STEPS or self._episodes == self._recycle
        first = self._game is None or worn or not self._counted
        if first:
            self._stop()
            self._game = self._make(seed)
            # SMAC itself must see the end that a time limit makes
            getattr(self._game, "env", self._game).episode_limit = self.info.episode_limit
            self._episodes = self._game_steps = 0
            self._counted = False
        game = self._game
        if self._reseed is not None:
            self._reseed(game, seed)
        restarts = _restarts(game)
        try:
            with own_temporary_files() if first else contextlib.nullcontext(), die_with_parent():
                game.reset()
        except Exception as error:
            known = _seen or build.started_again  # what starts a worker again may cure it
            if first and not known and (sentence := self._explain(error)) is not None:
                raise sentence from error
            raise
        _seen = True
        if _restarts(game) != restarts:
            raise RuntimeError("StarCraft II ended unexpectedly between two episodes")
        self._time = 0
        self._game_steps += _STARTING
        for field in (out.reward, out.terminated, out.truncated, out.agent_terminated, out.metrics):
            field[...] = 0
        show(game.get_obs(), game.get_state(), game.get_avail_actions(), out)

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        """Apply ``actions`` [N].

        Raises:
            RuntimeError: StarCraft II died.
        """
        game = self._game
        reward, over, info = game.step(actions.tolist())
        self._time += 1
        self._game_steps += self._step_mul
        if over and "battle_won" not in info:
            raise RuntimeError(f"StarCraft II ended unexpectedly in step {self._time} of an episode")
        show(game.get_obs(), game.get_state(), game.get_avail_actions(), out)
        out.reward[...] = reward
        late = bool(info.get("episode_limit", False))
        cut = late and self._continuing
        out.terminated[...] = over and not cut
        out.truncated[...] = cut
        # a dead agent still shares in the team's reward: no agent's episode ends before the team's
        out.agent_terminated[...] = out.terminated
        out.metrics[...] = [float(info.get(name, 0)) for name in METRICS[:-1]] + [float(late)]
        if over:
            self._counted = True
            self._episodes += 1
            if self._save_replay:
                game.save_replay()

    def render(self) -> np.ndarray:
        """Return a schematic picture of this moment, uint8 [H, W, 3]."""
        picture: np.ndarray = np.asarray(self._game.render(mode="rgb_array"))
        return picture

    def _stop(self) -> None:
        if self._game is not None:
            _put_away(self._game)
            self._game = None

    def close(self) -> None:
        """End StarCraft II."""
        self._stop()


def show(obs: Any, state: Any, avail: Any, out: Arrays) -> None:
    """Write observations, state and legal actions; an agent whose no-op (action 0) is legal is dead, as SMAC has it."""
    out.obs[...] = obs
    out.state[...] = state
    out.avail[...] = avail
    out.alive[...] = ~out.avail[:, 0]


def _restarts(game: Any) -> int:
    """How often SMAC has started StarCraft II again by itself."""
    return int(getattr(game, "force_restarts", 0))


def _put_away(game: Any) -> None:
    # one that died cannot be asked to quit; its process ends with this worker's group
    with contextlib.suppress(Exception):
        game.close()
    inner = vars(getattr(game, "env", game))
    inner.update(dict.fromkeys(_HEAVY & inner.keys()))
