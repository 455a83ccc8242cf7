"""A stand-in for the package's game: the ball is carried to the right by the first agent, and shot from there.

| action of the first agent | what happens |
|---|---|
| right (5) | the ball moves 0.1 to the right |
| shot (12) | a goal, from 0.3 before the line on; otherwise the ball is out of play |
| sliding (16) | the opponents have the ball |
| dribble (17) | a goal of the opponents |

A file ``<what>-<step>`` in the folder OAMARL_STANDIN_FOOTBALL lets an engine crash, hang or raise in that step, the
first one that gets there: it takes the file away. ``always-<step>`` stays, and crashes every engine.
Each game that is built writes its process into the file ``built`` there.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from .config import TEAMS, Config


class FootballEnvCore:
    def __init__(self, config: Config) -> None:
        self._config = config
        self.left, self.right = TEAMS.get(config["level"], (11, 11))
        self.time = -1
        if folder := os.environ.get("OAMARL_STANDIN_FOOTBALL"):
            with (Path(folder) / "built").open("a") as file:
                file.write(f"{os.getpid()}\n")
        self.reset()

    def reset(self) -> bool:
        built = self.time >= 0
        # as the package: what is counted and drawn from one game to the next would make games differ
        self._config["episode_number"] += 1
        values = [
            int(self._config[name]) for name in ("game_engine_random_seed", "reverse_team_processing", "episode_number")
        ]
        self.rng = np.random.default_rng(values)
        self.places = self.rng.uniform(-0.4, 0.4, (self.left + self.right, 2))
        self.ball = np.array([0.3, *self.rng.uniform(-0.1, 0.1, 1), 0.0])
        self.time, self.mode, self.owner, self.score, self.over = 0, 0, 0, [0, 0], False
        if built:  # the package begins a game when it is built
            self._event()
        return True

    def step(self, actions: list[int]) -> tuple[dict[str, Any], int, bool, dict[str, Any]]:
        assert not self.over, "Cant call step() once episode finished (call reset() instead)"
        assert isinstance(actions, list)
        self.time += 1
        self._event()
        before, scenario = self.score[0] - self.score[1], self._config.scenario
        self.places += 0.01 * (np.array(actions)[:1] - 9) * self.rng.uniform(-1, 1, self.places.shape)
        action, owner = actions[0], self.owner
        self.mode = 0
        if action == 5:
            self.ball[0] += 0.1
        elif action == 12 and self.ball[0] >= 0.7:
            self.score[0] += 1
        elif action == 12:
            self.mode = 2
        elif action == 16:
            self.owner = 1
        elif action == 17:
            self.score[1] += 1
        self.over = (
            self.time > scenario.game_duration
            or (scenario.end_episode_on_score and max(self.score) > 0)
            or (scenario.end_episode_on_out_of_play and self.mode != 0)
            or (scenario.end_episode_on_possession_change and self.owner != owner)
        )
        reward = self.score[0] - self.score[1] - before
        return self.observation(), reward, self.over, {}

    def observation(self) -> dict[str, Any]:
        left, right = np.split(self.places.copy(), [self.left])
        sticky = np.eye(10, dtype=np.uint8)[self.time % 10]
        return {
            "left_team": left, "left_team_direction": left / 10, "left_team_active": np.ones(self.left, bool),
            "right_team": right, "right_team_direction": right / 10, "right_team_active": np.ones(self.right, bool),
            "left_team_roles": np.arange(self.left), "right_team_roles": np.arange(self.right),
            "ball": self.ball.copy(), "ball_direction": np.array([0.01, 0.0, 0.0]), "ball_owned_team": self.owner,
            "ball_owned_player": self._player(0) if self.owner == 0 else 0, "game_mode": self.mode,
            "score": list(self.score), "steps_left": self._config.scenario.game_duration - self.time,
            "left_agent_controlled_player": [self._player(i) for i in range(self._config.agents)],
            "left_agent_sticky_actions": [sticky for _ in range(self._config.agents)],
        }  # fmt: skip

    def _player(self, agent: int) -> int:
        """Which player an agent controls: another one every five steps."""
        return (agent + self.time // 5) % self.left

    def _event(self) -> None:
        folder = os.environ.get("OAMARL_STANDIN_FOOTBALL")
        for path in Path(folder).glob(f"*-{self.time}") if folder else ():
            what = path.name.partition("-")[0]
            if what != "always":
                path.unlink()
            if what in ("crash", "always"):
                os.kill(os.getpid(), signal.SIGSEGV)
            if what == "hang":
                time.sleep(3600)
            if what == "raise":
                raise ValueError("the ball is gone")

    def render(self, mode: str) -> Any:
        return np.full((72, 128, 3), self.time, np.uint8)
