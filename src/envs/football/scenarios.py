"""The scenarios of Google Research Football 2.10.2, and how many players each lets agents control."""

from __future__ import annotations

from dataclasses import dataclass

from ...utils.errors import UserError, counted, nearest

#: the release whose scenarios these are
VERSION = "2.10.2"


@dataclass(frozen=True)
class Scenario:
    """A scenario.

    | field | meaning |
    |---|---|
    | usual | agents where no number is asked for: the papers', otherwise all players but the keeper |
    | players | players of the left team that agents can control |
    | duration | steps of the game until it is over |
    """

    usual: int
    players: int
    duration: int = 400


SCENARIOS: dict[str, Scenario] = {
    "academy_pass_and_shoot_with_keeper": Scenario(2, 3),
    "academy_run_pass_and_shoot_with_keeper": Scenario(2, 3),
    "academy_3_vs_1_with_keeper": Scenario(3, 4),
    "academy_counterattack_easy": Scenario(4, 11),
    "academy_counterattack_hard": Scenario(4, 11),
    "academy_corner": Scenario(10, 11),
    "academy_empty_goal_close": Scenario(1, 2),
    "academy_empty_goal": Scenario(1, 2),
    "academy_run_to_score": Scenario(1, 2),
    "academy_run_to_score_with_keeper": Scenario(1, 2),
    "academy_single_goal_versus_lazy": Scenario(10, 11, 3000),
    "1_vs_1_easy": Scenario(1, 1, 500),
    "5_vs_5": Scenario(4, 4, 3000),
    "11_vs_11_easy_stochastic": Scenario(10, 11, 3000),
    "11_vs_11_stochastic": Scenario(10, 11, 3000),
    "11_vs_11_hard_stochastic": Scenario(10, 11, 3000),
    "11_vs_11_competition": Scenario(10, 11, 3000),
    "11_vs_11_kaggle": Scenario(10, 11, 3000),
    "test_example_multiagent": Scenario(3, 4, 100),
}
#: scenarios that papers and older code name and this release no longer has -> the most similar one
GONE = {"academy_run_and_pass_with_keeper": "academy_run_pass_and_shoot_with_keeper"}


def find_scenario(map_name: str) -> tuple[str, Scenario]:
    """Return a scenario's name and its entry.

    Raises:
        UserError: an unknown scenario, or one that the release no longer has.
    """
    if map_name in SCENARIOS:
        return map_name, SCENARIOS[map_name]
    whole = f"academy_{map_name}"  # one name for a task, by which its runs are found
    if whole in SCENARIOS:
        raise UserError(f"env_args.map_name='{map_name}' lacks 'academy_': use {whole}.")
    for name in (map_name, whole):
        if name in GONE:
            raise UserError(
                f"env_args.map_name='{map_name}' is no longer in Google Research Football {VERSION}: use "
                f"{GONE[name]}, the most similar one."
            )
    hint = nearest(map_name, SCENARIOS) or f": use one of {', '.join(SCENARIOS)}."
    raise UserError(f"env_args.map_name='{map_name}' is not a scenario of Google Research Football {VERSION}{hint}")


def agents_of(name: str, scenario: Scenario, n_agents: int | None) -> int:
    """Return the number of agents, the scenario's usual one where none is asked for.

    Raises:
        UserError: fewer than 1, or more than there are players to control.
    """
    if n_agents is None:
        return scenario.usual
    if not 1 <= n_agents <= scenario.players:
        allowed = "1 is" if scenario.players == 1 else f"1 to {scenario.players} are"
        raise UserError(
            f"env_args.n_agents={n_agents} is out of range: {name} has {counted(scenario.players, 'player')} that "
            f"agents can control, so {allowed} allowed."
        )
    return n_agents
