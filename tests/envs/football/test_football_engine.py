"""Google Research Football itself, where it is installed: the numbers are its own, and episodes repeat to the bit."""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from oamarl.envs.base import Arrays
from oamarl.envs.build import make_env
from oamarl.envs.football.football import ACTIONS
from oamarl.envs.football.match import _seeded
from oamarl.envs.football.scenarios import SCENARIOS

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gfootball_engine") is None, reason="needs Google Research Football"
)
PAPERS = [
    ("academy_pass_and_shoot_with_keeper", 2), ("academy_3_vs_1_with_keeper", 3), ("academy_counterattack_hard", 4)
]  # fmt: skip


@pytest.fixture
def play() -> Iterator[Any]:
    """Return what makes an environment; all are closed again."""
    made: list[Any] = []

    def make(**args: Any) -> tuple[Any, Arrays]:
        env = make_env("gfootball", args)
        made.append(env)
        return env, Arrays.allocate(env.info, 1).slot(0)

    yield make
    for env in made:
        env.close()


def drawn(env: Any, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(env.info.n_actions, size=env.info.n_agents)


def episode(env: Any, out: Arrays, seed: int, steps: int = 60) -> list[bytes]:
    """Play with random actions; returns everything that was shown."""
    rng = np.random.default_rng(seed)
    env.reset(seed, out)
    shown = []
    for _ in range(steps):
        shown += [x.tobytes() for name, x in out.named().items() if name != "metrics"]
        if out.terminated or out.truncated:
            break
        env.step(drawn(env, rng), out)
    return shown


@pytest.mark.parametrize(("map_name", "n"), PAPERS)
@pytest.mark.parametrize("representation", ["simple115", "simple115v2"])
def test_observations_rewards_and_ends_are_the_packages(play: Any, map_name: str, n: int, representation: str) -> None:
    package: Any = importlib.import_module("gfootball.env")
    seed = 11
    theirs = package.create_environment(
        env_name=map_name, representation=representation, rewards="scoring,checkpoints", logdir="",
        number_of_left_players_agent_controls=n, other_config_options=_seeded(seed),
    )  # fmt: skip
    env, out = play(map_name=map_name, n_agents=n, representation=representation, team_reward="own")
    rng, obs = np.random.default_rng(3), theirs.reset()
    env.reset(seed, out)
    for step in range(401):
        np.testing.assert_array_equal(out.obs, obs.reshape(n, -1), err_msg=str(step))
        # to the right and shoot, so that checkpoints and goals are among what is compared
        actions = np.where(rng.random(n) < 0.7, ACTIONS.index("right"), drawn(env, rng))
        obs, reward, over, info = theirs.step(actions.tolist())
        env.step(actions, out)
        np.testing.assert_array_equal(out.reward, reward, err_msg=str(step))
        assert over == bool(out.terminated or out.truncated)
        if over:
            assert out.metrics[0] == info["score_reward"]
            break
    assert over
    theirs.close()


def test_actions_are_the_packages() -> None:
    names = importlib.import_module("gfootball.env.football_action_set").action_set_v1
    assert tuple(str(action) for action in names) == ACTIONS


@pytest.mark.parametrize("map_name", ["academy_pass_and_shoot_with_keeper", "academy_counterattack_easy", "5_vs_5"])
def test_an_episode_depends_on_its_seed_alone(play: Any, map_name: str) -> None:
    env, out = play(map_name=map_name)
    first = [episode(env, out, seed) for seed in range(4)]
    assert len({b"".join(shown) for shown in first}) == 4
    other, theirs = play(map_name=map_name)
    for seed in (3, 1, 2, 0):
        assert episode(other, theirs, seed) == first[seed]
        assert episode(env, out, seed) == first[seed]


@pytest.mark.parametrize("map_name", SCENARIOS)
def test_every_scenario_is_played(play: Any, map_name: str) -> None:
    entry = SCENARIOS[map_name]
    for n in {1, entry.usual, entry.players}:
        env, out = play(map_name=map_name, n_agents=n, representation="compact")
        rng = np.random.default_rng(n)
        env.reset(n, out)
        for _ in range(12):
            assert np.isfinite(out.obs).all()
            assert (out.state[97 : 97 + 11 * n].reshape(n, 11).sum(1) == 1).all()
            if out.terminated or out.truncated:
                break
            env.step(drawn(env, rng), out)


def test_no_scenario_is_forgotten() -> None:
    builder = importlib.import_module("gfootball.env.scenario_builder")
    assert set(builder.all_scenarios()) - {"tests"} == set(SCENARIOS)


@pytest.mark.parametrize("map_name", ["test_example_multiagent", "1_vs_1_easy"])
def test_time_up_is_a_truncation_within_the_limit(play: Any, map_name: str) -> None:
    env, out = play(map_name=map_name)
    for seed in range(20):
        env.reset(seed, out)
        steps = 0
        while not (out.terminated or out.truncated):
            env.step(np.zeros(env.info.n_agents, np.int64), out)
            steps += 1
        assert steps <= env.info.episode_limit
        if out.truncated:
            assert not out.agent_terminated.any()
            assert steps >= SCENARIOS[map_name].duration - 20
            return
    pytest.fail("no episode came to its time")


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGSTOP])
def test_an_engine_that_dies_or_hangs_loses_nothing(play: Any, number: signal.Signals) -> None:
    env, out = play(map_name="academy_3_vs_1_with_keeper", engine_timeout=5.0)
    whole = episode(env, out, 5)
    rng = np.random.default_rng(5)
    env.reset(5, out)
    shown = []
    for step in range(60):
        shown += [x.tobytes() for name, x in out.named().items() if name != "metrics"]
        if out.terminated or out.truncated:
            break
        if step == 8:
            os.kill(env._engine.pid, number)
        env.step(drawn(env, rng), out)
    assert shown == whole
    assert out.metrics[2] == 1


def test_pictures_change_no_number(play: Any) -> None:
    plain, out = play(map_name="academy_pass_and_shoot_with_keeper")
    whole = episode(plain, out, 4, steps=5)
    for video in ("field", "game"):
        env, theirs = play(map_name="academy_pass_and_shoot_with_keeper", video=video, render_mode="rgb_array")
        rng = np.random.default_rng(4)
        env.reset(4, theirs)
        shown, pictures = [], []
        for _ in range(5):
            shown += [x.tobytes() for name, x in theirs.named().items() if name != "metrics"]
            pictures.append(env.render())
            env.step(drawn(env, rng), theirs)
        assert shown == whole
        assert all(p.dtype == np.uint8 and p.ndim == 3 and p.shape[2] == 3 for p in pictures)
        assert (pictures[0] != pictures[-1]).any()
