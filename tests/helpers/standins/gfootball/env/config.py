"""A stand-in for the package's configuration: values, and the scenario's flags."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

#: players of both teams
TEAMS = {"academy_3_vs_1_with_keeper": (4, 2), "academy_pass_and_shoot_with_keeper": (3, 2), "1_vs_1_easy": (1, 1)}


class Config:
    def __init__(self, values: dict[str, Any]) -> None:
        self.values = dict(values)
        self.agents = int(re.findall(r"left_players=(\d+)", values["players"][0])[0])
        academy = values["level"].startswith("academy")
        self.scenario = SimpleNamespace(
            game_duration=30 if academy else 500, end_episode_on_score=academy, end_episode_on_out_of_play=academy,
            end_episode_on_possession_change=academy,
        )  # fmt: skip

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.values[name] = value

    def ScenarioConfig(self) -> Any:  # the package's name
        return self.scenario
