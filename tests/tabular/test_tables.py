"""The update of tables: closed forms, reductions to independent Q-learning, and what is learned."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from oamarl.envs.base import EnvInfo
from oamarl.envs.build import constructor_args, factory
from oamarl.envs.tabular import Digital
from oamarl.envs.tabular.base import Views
from oamarl.parts import resolve
from oamarl.settings import Settings
from oamarl.tabular.config import TabularConfig
from oamarl.tabular.measures import distance, drawn_solution, policy_values, sampled_states, solved
from oamarl.tabular.player import Teams
from oamarl.tabular.run import build
from oamarl.tabular.tables import Tables, boltzmann, greedy, sample
from oamarl.utils.errors import UserError
from oamarl.utils.schema.command_line import Request

TWO = Views((2,), np.ones((2, 1), bool), 1)
DIGITAL: dict[str, Any] = {"n_agents": 3, "n_states": 5, "time_limit": 20}


def config(**changes: Any) -> TabularConfig:
    values: dict[str, Any] = {
        "gamma": 0.5, "lr": 0.5, "lr_power": 0.0, "pr_beta": 0.25, "pr_beta_power": 0.0, "pr_kappa": 0.0,
        "pr_eps": None, "pr_agents": None, "exploration": "epsilon_greedy", "temperature": 1.0, "epsilon_start": 1.0,
        "epsilon_finish": 0.1, "epsilon_anneal_time": 100, "evaluation_epsilon": 0.0, "reward_scalarisation": "sum",
        "seed": 0, "common_reward": False,
    }  # fmt: skip
    return TabularConfig(**{**values, **changes})


def settings(config: str, env: str, env_args: dict[str, Any] | None = None, **values: Any) -> Settings:
    return resolve(Request(config, env, {"seed": 4, "env_args": env_args or {}, **values}))


def played(config: str, env: str, episodes: int, env_args: dict[str, Any] | None = None, **values: Any) -> np.ndarray:
    """The tables after some episodes."""
    player, tables, _ = build(settings(config, env, env_args, **values))
    for _ in range(episodes):
        player.run()
    return tables.q


def one_step(tables: Tables, **changes: Any) -> np.ndarray:
    given: dict[str, Any] = {
        "states": np.array([0, 1]), "actions": np.array([0, 0]), "rewards": np.array([1.0, 2.0]),
        "after": np.array([1, 1]), "ended": np.array([False, True]), "acting": np.array([True, True]),
    }  # fmt: skip
    return tables.update(**{**given, **changes})


# -- closed forms ----------------------------------------------------------------------------------------------


def test_the_update_of_two_agents_by_hand() -> None:
    """kappa = 0: target 1 + 0.5 max(3, 0) = 2.5 and 2; the other agent has 4 in state 0, and 3 in state 1."""
    tables = Tables(config(), TWO, 2)
    tables.q[:, :, 0] = [[1.0, 3.0], [4.0, 0.0]]
    assert tables.pull(np.array([0, 1]), np.array([0, 0])).tolist() == [3.0, 3.0]
    assert one_step(tables).tolist() == [1.5, 2.0]
    assert tables.q[:, :, 0].tolist() == [[1 + 0.75 + 0.75, 3.0], [4.0, 0 + 1.0 + 0.75]]
    assert tables.q[:, :, 1].tolist() == [[0, 0], [0, 0]]
    assert tables.visits[:, :, 0].tolist() == [[1, 0], [0, 1]]


def test_kappa_takes_in_adjacent_states() -> None:
    """Both states are adjacent: Q~ is 0.6 of the same one and 0.4 of the mean of both."""
    tables = Tables(config(pr_kappa=0.4), TWO, 2)
    tables.q[:, :, 0] = [[1.0, 3.0], [4.0, 0.0]]
    first, second = 0.6 * 4 + 0.4 * 2 - 1, 0.6 * 3 + 0.4 * 2 - 0
    assert tables.pull(np.array([0, 1]), np.array([0, 0])) == pytest.approx([first, second])


def test_mismatched_states_by_hand() -> None:
    """Agent 1 does not see the second coordinate, so that agent 0's states (x, 0) and (x, 1) are one to it."""
    tables = Tables(config(), Views((2, 2), np.array([[True, True], [True, False]]), 0), 1)
    tables.q[0, :, 0], tables.q[1, :2, 0] = [1, 2, 3, 4], [10, 20]
    assert tables.pull(np.array([1, 1]), np.array([0, 0])).tolist() == [10 - 2, (3 + 4) / 2 - 20]


def test_step_sizes_fall_with_the_visits() -> None:
    """alpha = 0.5 / k, beta = 0.25 / sqrt(k): a second and a third visit, the target being always 1."""
    tables = Tables(config(lr_power=1.0, pr_beta_power=0.5, gamma=0.0), TWO, 1)
    tables.q[1] = 8.0
    want = 0.0
    for k in (1, 2, 3):
        one_step(tables, rewards=np.array([1.0, 8.0]), acting=np.array([True, False]))
        want += 0.5 / k * (1 - want) + 0.25 / np.sqrt(k) * (8 - want)
        assert tables.q[0, 0, 0] == pytest.approx(want)
    assert (tables.q[1] == 8).all(), "it was not acting"
    assert tables.visits[1].sum() == 0


def test_policies() -> None:
    q = np.array([[1.0, 1.0, 0.0]])
    assert greedy(q, 0.3)[0] == pytest.approx([0.45, 0.45, 0.1])
    assert boltzmann(q, 0.5)[0] == pytest.approx(np.exp([2, 2, 0]) / np.exp([2, 2, 0]).sum())
    assert sample(np.array([[0.25, 0.5, 0.25]] * 4), np.array([0.0, 0.25, 0.7, 0.99])).tolist() == [0, 1, 1, 2]
    assert distance(np.array([[1.0, 0.0], [0.0, 1.0]])) == 0.25


@pytest.mark.parametrize("gamma", [0.0, 0.9, 0.99999])
def test_solutions_are_fixed_points(gamma: float) -> None:
    """Also close to 1, where iterating values takes hours, and of a game of no rewards, whose actions are all alike."""
    game = np.random.default_rng(3)
    transitions = game.random((30, 4, 30))
    transitions /= transitions.sum(-1, keepdims=True)
    for reward in (game.uniform(-1.0, 4.0, (30, 4)), np.zeros((30, 4))):
        q = solved(transitions, reward, gamma)
        assert reward + gamma * transitions @ q.max(-1) == pytest.approx(q, rel=1e-8)


def test_the_solution_of_a_chain() -> None:
    """State 0: action 0 stays and pays 1, action 1 goes to state 1, which pays 3 and ends."""
    transitions = np.zeros((2, 2, 2))
    transitions[0, 0, 0] = transitions[0, 1, 1] = 1
    reward = np.array([[1.0, 0.0], [3.0, 3.0]])
    assert solved(transitions, reward, 0.5) == pytest.approx(np.array([[2.0, 1.5], [3.0, 3.0]]), abs=1e-8)
    values = policy_values(transitions, reward, 0.5, np.array([[0, 0], [1, 0]]))
    assert values == pytest.approx(np.array([[2.0, 3.0], [1.5, 3.0]]))
    assert sampled_states(Views((2, 3), np.array([[True, True], [False, True]]), 0)).tolist() == [
        [0, 1, 2, 3, 4, 5],
        [0, 1, 2, 0, 1, 2],
    ]


def test_adjacent_states_draw_the_solution_together() -> None:
    """Two states without transitions, of values 0 and 1, each the other's neighbour: Q = R + w (mean - Q)."""
    transitions, reward = np.zeros((2, 1, 2)), np.array([[0.0], [1.0]])
    mean = np.full((2, 2), 0.5)
    for weight in (0.0, 1.0, 1e9):
        found = drawn_solution(transitions, reward, 0.9, mean, weight)
        half = 0.5 * weight / (1 + weight)
        assert found[:, 0] == pytest.approx([half, 1 - half], abs=1e-6)


# -- reductions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env", ["digital", "navigation", "blocker", "landmarks"])
def test_without_a_weight_it_is_independent_q_learning(env: str) -> None:
    alone = played("iql_tabular", env, 3)
    assert np.abs(alone).sum() > 0
    assert (played("pr_tabular", env, 3, pr_beta=0.0) == alone).all()
    assert (played("pr_tabular", env, 3, pr_agents=0) == alone).all(), "without partners"
    assert (played("pr_tabular", env, 3) != alone).any()


@pytest.mark.parametrize("env", ["digital", "navigation", "blocker"])
def test_one_agent_learns_alone(env: str) -> None:
    one = {"n_agents": 1}
    assert (played("pr_tabular", env, 3, one) == played("iql_tabular", env, 3, one)).all()


def test_nobody_adjacent() -> None:
    views = Views((2, 2), np.array([[True, False], [False, True]]), 0)
    paths = []
    for beta in (0.25, 0.0):
        tables = Tables(config(pr_beta=beta), views, 2)
        tables.q[:, :, 0] = [[1.0, 3.0], [4.0, 0.0]]
        one_step(tables)
        paths.append(tables.q.copy())
    assert (paths[0] == paths[1]).all()


def test_the_same_seed_is_the_same_run_and_another_is_not() -> None:
    first = played("pr_tabular", "digital", 3, DIGITAL)
    assert (played("pr_tabular", "digital", 3, DIGITAL) == first).all()
    assert (played("pr_tabular", "digital", 3, DIGITAL, seed=5) != first).any()


@pytest.mark.parametrize("env", ["digital", "navigation", "blocker", "landmarks"])
def test_many_seeds_at_once_are_each_as_alone(env: str) -> None:
    asked = settings("pr_tabular", env)
    config, make = asked.part(TabularConfig), partial(factory(env), **constructor_args(env, asked.values["env_args"]))
    slots = make(3)
    tables = Tables(config, slots.views, slots.info.n_actions, teams=3)
    teams, steps = Teams(config, slots, tables), np.zeros(3, np.int64)
    for number in range(3):
        steps += teams.episode(np.array([4, 5, 6]), np.full(3, number), steps).lengths
    for b, seed in enumerate((4, 5, 6)):
        player, alone, _ = build(settings("pr_tabular", env, seed=seed))
        for _ in range(3):
            player.run()
        assert player.t_env == steps[b]
        assert (alone.q[0] == tables.q[b]).all()
        assert (alone.visits[0] == tables.visits[b]).all()


def test_tests_do_not_disturb_training() -> None:
    runs = []
    for tested in (False, True):
        player, tables, _ = build(settings("pr_tabular", "blocker"))
        for _ in range(3):
            player.run()
            if tested:
                once, again = player.test(4, True), player.test(4, True)
                assert np.array_equal(once.returns, again.returns)
        runs.append(tables.q)
    assert (runs[0] == runs[1]).all()


# -- learning --------------------------------------------------------------------------------------------------


def test_digital_is_learned_as_it_is_solved() -> None:
    """Independent agents learn their own rewards; with reciprocity all agree on the values of the mean reward."""
    found = {}
    given: dict[str, Any] = {"env_args": DIGITAL, "epsilon_finish": 1.0, "pr_kappa": 0.0}
    for name in ("iql_tabular", "pr_tabular"):
        player, _, learner = build(settings(name, "digital", **given))
        while player.t_env < 12_000:
            player.run()
        found[name] = learner.train(None, player.t_env - learner.steps)[0]
    alone, together = found["iql_tabular"], found["pr_tabular"]
    assert alone["own_q_error"] < 0.12 < 0.15 < alone["q_error"]
    assert together["q_error"] < 0.12 < 0.15 < together["own_q_error"]
    assert alone["own_regret"] < 0.05
    assert together["team_regret"] < 0.1 * alone["team_regret"]
    assert together["policy_mse"] < 0.05 * alone["policy_mse"]


@pytest.mark.parametrize(("env", "reached"), [("navigation", 0.5), ("blocker", -2.0)])
def test_it_learns_in_seconds(env: str, reached: float) -> None:
    small: dict[str, Any] = {"navigation": {"size": 4}, "blocker": {"n_agents": 2, "width": 3}}[env]
    player, _, _ = build(settings("pr_tabular", env, small, epsilon_anneal_time=2000))
    before = np.mean([r[0] for r in player.test(20, True).returns])
    while player.t_env < 5000:
        player.run()
    after = np.mean([r[0] for r in player.test(20, True).returns])
    assert before < reached < after, (before, after)


def test_rewards_may_be_made_common() -> None:
    for how, share in (("sum", 1.0), ("mean", 1 / 3)):
        player, _, _ = build(settings("iql_tabular", "digital", DIGITAL, common_reward=True, reward_scalarisation=how))
        given = np.array([[1.0, 2.0, 6.0]])
        assert player.teams.rewards(given).tolist() == [[9 * share] * 3]


def test_values_of_a_common_reward_are_compared_with_its_solution() -> None:
    """Of the sum of three agents' rewards that of their mean, three times; for each agent, too."""
    solutions = []
    for how, factor in (("sum", 3.0), ("mean", 1.0)):
        _, _, learner = build(settings("iql_tabular", "digital", DIGITAL, common_reward=True, reward_scalarisation=how))
        measures = learner._measures
        for own in measures.own_solutions:
            assert own == pytest.approx(measures.solution, rel=1e-9)
        solutions.append(measures.solution / factor)
    _, _, learner = build(settings("iql_tabular", "digital", DIGITAL))
    for found in solutions:
        assert found == pytest.approx(learner._measures.solution, rel=1e-9)


# -- what is refused -------------------------------------------------------------------------------------------


def test_steps_beyond_one_are_refused() -> None:
    info: EnvInfo = Digital(1).info
    values = {"name": "pr_tabular", "env": "digital", "lr": 0.8, "pr_beta": 0.3}
    with pytest.raises(UserError, match=r"lr=0.8 and pr_beta=0.3 are together more than 1"):
        TabularConfig.check(values, info)


def test_tables_too_large_are_refused() -> None:
    with pytest.raises(UserError, match="12 agents with 743,008,370,688 states and 3 actions would hold more than"):
        build(settings("iql_tabular", "landmarks", {"n_agents": 12, "cells": 12}))


def test_an_environment_that_cannot_be_counted_is_refused() -> None:
    with pytest.raises(UserError, match="'pr_tabular' learns tables, and the observations of 'maze' cannot be counted"):
        build(settings("pr_tabular", "maze"))


@pytest.mark.parametrize("word", ["hidden_dim", "epochs", "batch_size_run"])
def test_keys_of_networks_are_refused(word: str) -> None:
    with pytest.raises(UserError, match=rf"'{word}' is not read by 'pr_tabular' \(tabular_q\)"):
        settings("pr_tabular", "digital", **{word: 4})


def test_parts_of_networks_are_refused() -> None:
    with pytest.raises(UserError, match=r"'mac' is not read by 'pr_tabular' \(tabular_q\), which has no networks"):
        settings("pr_tabular", "digital", mac="basic_mac")


def test_keys_of_tables_are_refused_with_networks() -> None:
    with pytest.raises(UserError, match="'pr_kappa' is not read by 'mappo'"):
        settings("mappo", "digital", pr_kappa=0.1)
