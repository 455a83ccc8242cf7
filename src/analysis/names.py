"""Tasks and metrics as papers and readers call them, for pictures and reports."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ..storage.tested_actions import GREEDY, TEST

_MAZES = {"black_red": "Black and Red maze", "black_blue_red": "Black, Blue and Red maze"}
_GAMES = {
    "climbing": "Climbing game", "penalty": "Penalty game", "two_step": "Two-step game",
    "prop1": "Game of Proposition 1", "figure1": "Game r = a1 a2",
}  # fmt: skip
#: environments whose maps have the names of SMAC
_BATTLES = {"smax": "SMAX", "sc2": "SMAC", "sc2v2": "SMACv2", "smaclite": "SMAClite"}
#: PettingZoo's families
_FAMILIES = {"mpe": "MPE", "sisl": "SISL", "atari": "Atari", "butterfly": "Butterfly", "magent": "MAgent"}


def _words(camel: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", camel).lower()


#: keys of other packages' environments -> their names
_KEYS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"(?:lbforaging:)?Foraging-(.+?)(?:-v\d+)?", lambda m: f"LBF {m[1]}"),
        (r"(?:rware:)?rware-(.+?)(?:-v\d+)?", lambda m: f"RWARE {m[1]}"),
        (r"pz-([a-z0-9]+)-(.+?)(?:-v\d+)?", lambda m: f"{_FAMILIES.get(m[1], m[1])} {m[2].replace('-', ' ')}"),
        (r"mpe:(\w+?)(?:-v\d+)?", lambda m: f"MPE {_words(m[1])}"),
        (r"matrixgames:climbing-(?:no|last)state-v\d+", lambda m: "Climbing game"),
        (r"matrixgames:penalty-(\d+)-(?:no|last)state-v\d+", lambda m: f"Penalty game, k = -{m[1]}"),
        (r"vmas[-:](.+?)(?:-v\d+)?", lambda m: f"VMAS {m[1].replace('_', ' ')}"),
    )
)  # fmt: skip


def task_name(task: str, config: Mapping[str, Any]) -> str:
    """Return a task as papers write it (``lbforaging:Foraging-8x8-2p-3f-v3``: LBF 8x8-2p-3f), itself where none does.

    Args:
        task: of a run, :attr:`oamarl.analysis.runs.Run.task`.
        config: of the run; its environment tells apart maps of one name.
    """
    env, args = config.get("env"), config.get("env_args")
    args = args if isinstance(args, Mapping) else {}
    if env == "maze":
        return _MAZES.get(task, task)
    if env == "matrix":
        return _GAMES.get(task, task)
    if env == "overcooked" and args.get("layout"):
        return f"Overcooked {args['layout'].replace('_', ' ')}"
    if env == "predator_prey" and task == env:
        return "Predator-prey"
    if env == "sc2v2":
        return f"SMACv2 {task.replace('_', ' ')}"
    if env in _BATTLES and task != env:
        return f"{_BATTLES[env]} {task}"
    if env == "mamujoco" and args.get("scenario"):
        return f"MaMuJoCo {task.replace('-', ' ', 1)}"
    if env == "vmas":
        return f"VMAS {task.replace('_', ' ')}"
    for pattern, name in _KEYS:
        if found := pattern.fullmatch(task):
            return name(found)
    return task


#: metric without what tests and statistics add -> how a reader calls it
_METRICS = {
    "return": "return", "total_return": "team return", "ep_length": "episode length", "battle_won": "win rate",
    "won": "win rate", "entropy": "policy entropy", "grad_norm": "gradient norm", "critic_grad_norm":
    "gradient norm of the critic", "processed_samples": "processed samples", "wall_clock": "wall-clock time (s)",
    "policy_mse": "policy distance", "q_mse": "value distance", "q_error": "error of values",
    "own_q_error": "error of own values", "team_regret": "regret", "own_regret": "regret for own reward",
}  # fmt: skip
#: endings -> what is said of the metric; its mean is the metric itself
_ENDINGS = {
    "_mean": "{}", "_std": "standard deviation of the {}", "_min": "smallest {}", "_max": "largest {}",
}  # fmt: skip


def _known(name: str) -> str:
    if name in _METRICS:
        return _METRICS[name]
    for ending, words in _ENDINGS.items():
        if name.endswith(ending):
            return words.format(_known(name.removesuffix(ending)))
    if found := re.fullmatch(r"agent_(\d+)_(.+)", name):
        return f"{_known(found[2])} of agent {found[1]}"
    return name.replace("_", " ")


def metric_name(metric: str, actions: str = "") -> str:
    """Return a metric as a reader calls it (``test_return_mean``: test return).

    Args:
        actions: how they were chosen, in words; "" to leave that out.
    """
    name = _known(metric.removeprefix(GREEDY).removeprefix(TEST))
    if metric.startswith(TEST):
        # a kind of test alone tells it, where the words do not
        name = f"{'greedy ' if metric.startswith(GREEDY) and not actions else ''}test {name}"
    elif actions:
        name = f"training {name}"
    return f"{name}, {actions}" if actions else name
