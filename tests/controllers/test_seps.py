"""Selective parameter sharing: the index by hand, who is found to be alike, and runs that keep to it."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import oamarl
from oamarl.components.clusters import best_split, davies_bouldin, joined, kmeans, split_classes, within
from oamarl.components.generators import generator
from oamarl.controllers import seps as selective
from oamarl.envs.build import make_info
from oamarl.learners.value.state_values import ValueLearner
from oamarl.main import main
from oamarl.modules.seps import FitOptions, Transitions, fit
from oamarl.runners.episode import EpisodeConfig
from oamarl.runners.random_play import RandomRunner, random_play
from oamarl.storage import checkpoints
from oamarl.storage.records import read_arrays, read_metrics
from oamarl.training.building import build
from oamarl.utils.errors import RunError, UserError
from oamarl.utils.schema.keys import read
from oamarl.utils.signals import Stop, Terminated

from learner_tools import make_batch, make_learner
from learner_tools import make_info as sizes
from run_tools import CPU, assert_same, assert_same_batch, assert_same_run, latest, settings, train, untimed

smax = pytest.mark.skipif(
    not (importlib.util.find_spec("jax") and importlib.util.find_spec("jaxmarl")), reason="needs the extra smax"
)

#: environments whose agents are of kinds
KINDS, UNLIKE = "kinds:Kinds", "kinds:Unlike"
#: enough to tell kinds apart in about a second
PLAY = {"seps_steps": 2000, "seps_epochs": 10, "seps_hidden_dim": 64, "seps_latent_dim": 10, "seps_batch_size": 128}


def found(env: str = KINDS, args: dict[str, Any] | None = None, **more: Any) -> selective.AgentGroups:
    asked = settings("seps", env, args, **{"t_max": 10**6, **PLAY, **more}).values
    info = make_info(asked["env"], asked["env_args"])
    selective.SelectiveConfig.check(asked, info)
    return selective.find(asked, info, partial(random_play, asked, info))


# -- the Davies-Bouldin index, by hand ------------------------------------------------------------------------------

LINE = np.array([[0.0], [2.0], [10.0], [14.0], [40.0]])


def test_davies_bouldin_of_points_by_hand() -> None:
    """Centres 1 and 12, mean distances 1 and 2: (1 + 2) / 11; with 40 a third, the worst pairs are 3/11, 3/11, 2/28."""
    assert davies_bouldin(LINE[:4], np.array([0, 0, 1, 1])) == pytest.approx(3 / 11)
    assert davies_bouldin(LINE, np.array([0, 0, 1, 1, 2])) == pytest.approx((3 / 11 + 3 / 11 + 2 / 28) / 3)


def test_davies_bouldin_of_distributions_by_hand() -> None:
    """Mean squared distances 1 and 4, with variances (0, 6) and (5, 5): spreads 2 and 3; one alone has its own, 5."""
    variances = np.array([[0.0], [6.0], [5.0], [5.0], [25.0]])
    assert davies_bouldin(LINE[:4], np.array([0, 0, 1, 1]), variances[:4]) == pytest.approx(5 / 11)
    index = davies_bouldin(LINE, np.array([0, 0, 1, 1, 2]), variances)
    assert index == pytest.approx((5 / 11 + 5 / 11 + 8 / 28) / 3)
    two = davies_bouldin(np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([0, 1]), np.array([[1.0, 3.0], [4.0, 5.0]]))
    assert two == pytest.approx((2 + 3) / 5)


def test_davies_bouldin_of_distributions_is_that_of_what_they_draw() -> None:
    rng = np.random.default_rng(0)
    means, std, labels = rng.normal(size=(5, 3)) * 4, rng.uniform(0.5, 2, (5, 3)), np.array([0, 0, 1, 2, 2])
    drawn = means[:, None] + std[:, None] * rng.normal(size=(5, 100_000, 3))
    clusters = [drawn[labels == c].reshape(-1, 3) for c in range(3)]
    centres = [x.mean(0) for x in clusters]
    spreads = [math.sqrt(((x - c) ** 2).sum(1).mean()) for x, c in zip(clusters, centres, strict=True)]
    worst = [
        max((spreads[a] + spreads[b]) / np.linalg.norm(centres[a] - centres[b]) for b in range(3) if b != a)
        for a in range(3)
    ]
    assert davies_bouldin(means, labels, std**2) == pytest.approx(np.mean(worst), rel=0.01)


def test_clusters_at_one_place_are_no_clusters() -> None:
    assert davies_bouldin(np.zeros((2, 3)), np.array([0, 1])) == math.inf
    with pytest.raises(ValueError, match="two clusters or more"):
        davies_bouldin(LINE, np.zeros(5, np.int64))


# -- k-means --------------------------------------------------------------------------------------------------------


def partitions(n: int) -> Iterator[np.ndarray]:
    """Every way to split n points, numbered in the order of first appearance."""

    def go(labels: list[int]) -> Iterator[list[int]]:
        if len(labels) == n:
            yield labels
            return
        for k in range(max(labels) + 2):
            yield from go([*labels, k])

    return map(np.array, go([0]))


@pytest.mark.parametrize("seed", range(5))
def test_kmeans_finds_the_best_split_of_a_few_points(seed: int) -> None:
    points = np.random.default_rng(seed).normal(size=(7, 3))
    for k in range(1, 8):
        labels = kmeans(points, k, np.random.default_rng(0))
        least = min(within(points, x) for x in partitions(7) if x.max() + 1 == k)
        assert within(points, labels) == pytest.approx(least)
        assert list(dict.fromkeys(labels.tolist())) == list(range(k))


def test_kmeans_gives_every_cluster_a_point() -> None:
    assert kmeans(np.ones((4, 2)), 3, np.random.default_rng(0)).max() == 2
    with pytest.raises(ValueError, match="4 points cannot be 5 clusters"):
        kmeans(np.ones((4, 2)), 5, np.random.default_rng(0))


@pytest.mark.parametrize("seed", range(4))
def test_classes_are_never_joined_and_their_clusters_are_the_best(seed: int) -> None:
    points, own = np.random.default_rng(seed).normal(size=(6, 2)), np.array([0, 1, 0, 0, 1, 2])
    for k in range(3, 7):
        labels = split_classes(points, own, k, np.random.default_rng(0))
        allowed = [
            x for x in partitions(6)
            if x.max() + 1 == k and all(len(set(own[x == c])) == 1 for c in range(k))
        ]  # fmt: skip
        assert any((labels == x).all() for x in allowed)
        assert within(points, labels) == pytest.approx(min(within(points, x) for x in allowed))
    with pytest.raises(ValueError, match="3 classes cannot be 2 clusters"):
        split_classes(points, own, 2, np.random.default_rng(0))


def test_clusters_of_classes_are_numbered_by_their_first_agents() -> None:
    assert joined([np.array([1, 3]), np.array([0, 2])], [np.array([0, 1]), np.array([0, 0])]).tolist() == [0, 1, 0, 2]


#: two pairs, far apart
PAIRS = np.array([[0.0, 0.0], [0.1, 0.0], [9.0, 0.0], [9.0, 0.2]])


def test_the_number_of_clusters() -> None:
    """Of points, two pairs are three clusters: one alone has no spread. Distributions are what they are, one too."""
    rng = np.random.default_rng(0)
    labels, index = best_split(PAIRS, np.full((4, 2), 0.01), rng)
    assert labels.tolist() == [0, 0, 1, 1]
    assert list(index) == [2, 3, 4]
    labels, index = best_split(PAIRS, None, rng)
    assert labels.max() == 2
    assert list(index) == [2, 3]
    assert best_split(PAIRS, np.full((4, 2), 100.0), rng)[0].tolist() == [0, 0, 0, 0]
    assert best_split(PAIRS[:1], np.ones((1, 2)), rng)[0].tolist() == [0]
    assert best_split(PAIRS[[0, 2]], np.full((2, 2), 0.01), rng)[0].tolist() == [0, 1]


# -- random play ----------------------------------------------------------------------------------------------------


def random_runner(env: str, args: dict[str, Any] | None = None, **more: Any) -> RandomRunner:
    asked = settings("mappo", env, args, **more).values
    info = make_info(asked["env"], asked["env_args"])
    return RandomRunner(read(EpisodeConfig, asked), asked["env"], asked["env_args"], info, 3)


def test_random_play_draws_legal_actions_uniformly() -> None:
    """Two agents with 2 and 4 actions (an illegal one is an error of the toy's); the rewards are their own."""
    runner = random_runner("toy_envs:Ragged", {"limit": 50}, batch_size_run=8)
    data = Transitions.joined([Transitions.of(runner.batch()) for _ in range(5)])
    runner.close()
    assert len(data) == 2 * 5 * 8 * 50 == runner.agent_steps
    assert runner.t_env == 5 * 8 * 50
    for agent, actions in ((0, 2), (1, 4)):
        drawn = Counter(data.action[data.agent == agent].tolist())
        assert set(drawn) == set(range(actions))
        assert max(abs(n - 2000 / actions) for n in drawn.values()) < 5 * math.sqrt(2000 / actions)
    assert data.reward[data.agent == 1].mean() > 1.5 * data.reward[data.agent == 0].mean()


def test_transitions_are_those_of_the_living() -> None:
    """EarlyEnd: agent i acts 2 * (i + 1) times; its last step leads to what it saw then."""
    runner = random_runner("toy_envs:EarlyEnd", {"limit": 7}, batch_size_run=3)
    batch = runner.batch()
    runner.close()
    data = Transitions.of(batch)
    assert Counter(data.agent.tolist()) == {0: 6, 1: 12, 2: 18}
    last = (data.agent == 2).nonzero()[-1]
    torch.testing.assert_close(data.next_obs[last][0], batch.obs[-1, 6, 2])
    assert_same(data.reward[data.agent == 0].tolist(), (batch.reward[:, :2, 0]).flatten().tolist())


@pytest.mark.parametrize(("env", "args"), [(KINDS, {}), ("maze", {"time_limit": 9})])
def test_random_play_is_the_same_whoever_steps(env: str, args: dict[str, Any]) -> None:
    def play(**more: Any) -> Any:
        runner = random_runner(env, args, **more)
        batch = runner.batch()
        runner.close()
        return batch

    serial = play(backend="serial")
    assert_same_batch(serial, play(backend="process", workers=1))
    assert_same_batch(serial, play(backend="process", workers=3))
    if env == "maze":
        assert_same_batch(serial, play(backend="native"))


def test_random_episodes_are_none_of_the_trainings() -> None:
    runner, plain = random_runner(KINDS), build(settings("mappo", KINDS), CPU)[0]
    random, trained = runner.batch(), plain.run()[0]
    runner.close()
    plain.close()
    assert (random.obs[:, 0] != trained.obs[:, 0]).any()


# -- who is alike ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["moves", "rewards"])
@pytest.mark.parametrize("kinds", ["0011", "010"])
def test_kinds_are_found_in_what_actions_lead_to(what: str, kinds: str) -> None:
    """The kinds show in no observation: only in where the agents go, or what they get."""
    selection = found(args={"kinds": kinds, "what": what})
    assert selection.index == [int(k) for k in kinds]
    assert selection.t_env == 2000
    assert selection.agent_steps == 2000 * len(kinds)
    assert selection.indices[0][2] < min(1, selection.indices[0][3])


def test_agents_that_are_alike_are_one_group() -> None:
    selection = found(args={"what": "alike"})
    assert selection.index == [0, 0, 0, 0]
    assert min(selection.indices[0].values()) > 1


def test_the_number_may_be_given() -> None:
    args = {"kinds": "0110", "what": "moves"}
    assert found(args=args, seps_clusters=2).index == [0, 1, 1, 0]
    three = found(args=args, seps_clusters=3)
    assert sorted(Counter(three.index).values()) == [1, 1, 2]
    assert three.indices == []
    # two pairs are three points apart, as the index of points has it
    assert len(set(found(args=args, seps_index="means").index)) == 3


def test_agents_of_unlike_shapes_never_share() -> None:
    """0 and 2 see one number less than 1 and 3; of each two the kinds are the same, or not."""
    assert found(UNLIKE).index == [0, 1, 0, 1]
    assert found(UNLIKE, {"kinds": "0001"}).index == [0, 1, 0, 2]
    assert found(UNLIKE, {"kinds": "0001"}, seps_clusters=3).index == [0, 1, 0, 2]
    assert found(UNLIKE, seps_clusters=2).t_env == 0, "the shapes say it all"


@pytest.mark.parametrize(
    ("env", "args", "k", "index"),
    [
        (KINDS, {}, 1, [0, 0, 0, 0]), (KINDS, {}, 4, [0, 1, 2, 3]), ("toy_envs:Ragged", {}, None, [0, 1]),
        (KINDS, {"kinds": "0"}, None, [0]),
    ],
)  # fmt: skip
def test_nothing_is_played_where_nothing_is_to_be_found(
    env: str, args: dict[str, Any], k: int | None, index: list[int]
) -> None:
    selection = found(env, args, seps_clusters=k)
    assert (selection.index, selection.t_env, selection.latents) == (index, 0, None)


def test_padding_has_no_part() -> None:
    """What lies in the padded columns of an agent's observations changes nothing."""
    g = torch.Generator().manual_seed(0)
    agent = torch.arange(2).repeat(200)
    data = Transitions(
        agent, torch.randn(400, 3, generator=g), torch.randint(2, (400,), generator=g),
        torch.randn(400, 3, generator=g), torch.randn(400, generator=g),
    )  # fmt: skip
    spoilt = Transitions(data.agent, data.obs.clone(), data.action, data.next_obs.clone(), data.reward)
    spoilt.obs[agent == 1, 2] = 7.0
    spoilt.next_obs[agent == 1, 2] = -5.0
    options = FitOptions(2, 8, 2, 32, 1e-3, 1e-4)
    a, b = (fit(x, (3, 2), 2, options, generator(0, "seps")) for x in (data, spoilt))
    assert_same([a.mean, a.std], [b.mean, b.std])


def test_the_scale_of_observations_changes_nothing() -> None:
    g = torch.Generator().manual_seed(0)
    agent = torch.arange(2).repeat(200)
    obs = torch.randn(400, 3, generator=g)
    data = Transitions(agent, obs, agent * 0, obs.roll(1, 0), torch.randn(400, generator=g))
    large = Transitions(agent, obs * 1024, agent * 0, obs.roll(1, 0) * 1024, data.reward * 2 + 4)
    options = FitOptions(2, 8, 2, 32, 1e-3, 1e-4)
    a, b = (fit(x, (3, 3), 2, options, generator(0, "seps")) for x in (data, large))
    np.testing.assert_allclose(a.mean, b.mean, atol=1e-3)


def test_a_seed_has_its_groups_whoever_steps_and_however_many_threads() -> None:
    args = {"what": "alike"}  # whose latents are noise alone
    first = found(args=args, seps_steps=300)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        for more in ({"backend": "process", "workers": 1}, {"backend": "process", "workers": 3}):
            again = found(args=args, seps_steps=300, **more)
            assert again.index == first.index
            assert again.latents is not None
            assert first.latents is not None
            assert_same([again.latents.mean, again.latents.std], [first.latents.mean, first.latents.std])
            assert again.indices == first.indices
    finally:
        torch.set_num_threads(threads)
    other = found(args=args, seps_steps=300, seed=4)
    assert other.latents is not None
    assert (other.latents.mean != first.latents.mean).any()  # type: ignore[union-attr]


def test_the_mazes_colours_are_found() -> None:
    """Red and black agents see the same and move the same, but for the coloured cells."""
    assert found("maze", {}, batch_size_run=16, seps_steps=6400).index == [0, 0, 1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_the_mazes_colours_are_found_by_every_seed(seed: int) -> None:
    shipped = {"batch_size_run": 16, "seps_steps": 10000, "seed": seed}
    assert found("maze", {}, **shipped).index == [0, 0, 1, 1]
    # like agents stay together even on fewer steps, which leave more noise between them
    assert found("maze", {"agents": {"red": 4}}, **shipped | {"seps_steps": 4000}).index == [0, 0, 0, 0]
    assert found("maze", {"map_name": "black_blue_red"}, **shipped).index == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_the_foragers_of_lbf_are_alike(seed: int) -> None:
    """Their levels are drawn anew at every reset."""
    args = {"key": "lbforaging:Foraging-8x8-3p-3f-v3", "time_limit": 50}
    assert found("gymma", args, batch_size_run=16, seps_steps=4000, seed=seed).index == [0, 0, 0]


# -- shared, separate and between -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rnn", [False, True], ids=["ff", "gru"])
@pytest.mark.parametrize("common", [True, False], ids=["common", "own"])
@pytest.mark.parametrize(("k", "twin"), [(1, "shared"), (4, "separate")])
def test_one_group_is_shared_and_as_many_as_agents_are_separate(
    k: int, twin: str, common: bool, rnn: bool, tmp_path: Path
) -> None:
    more = {"t_max": 200, "use_rnn": rnn, "common_reward": common, "num_minibatches": 2}
    a = train(tmp_path / "a", "seps", KINDS, seps_clusters=k, **more)
    b = train(tmp_path / "b", "mappo", KINDS, sharing=twin, critic_sharing=twin, obs_agent_id=False, **more)
    assert untimed(a.points) == untimed(b.points)
    assert_same(a.loop.mac.state_dict(), b.loop.mac.state_dict())
    assert_same(a.loop.learner.state_dict(), b.loop.learner.state_dict())


def test_found_groups_train_as_groups_that_are_given() -> None:
    """From the same step on, the same numbers as with sharing: [0, 0, 1, 1]."""
    states = []
    for sharing in ({}, {"sharing": [0, 0, 1, 1]}):
        config = "seps" if not sharing else "mappo"
        more: dict[str, Any] = PLAY if not sharing else {**sharing, "critic_sharing": "policies", "obs_agent_id": False}
        runner, mac, learner = build(settings(config, KINDS, t_max=10**5, lr_schedule="constant", **more), CPU)
        assert mac.index == [0, 0, 1, 1]
        assert runner.t_env == (0 if sharing else 2000)
        for _ in range(3):
            learner.train(runner.run()[0], 0)
        runner.close()
        states.append((mac.state_dict(), learner.state_dict(), runner.episodes))
    assert_same(*states)


@pytest.mark.parametrize("algorithm", ["ippo", "mappo"])
def test_critics_follow_the_policies(algorithm: str) -> None:
    """Groups [0, 0, 1]: two critics; agents 0 and 1 have the values of the first one, agent 2 those of the second."""
    learner = make_learner(algorithm, sizes(3), sharing=[0, 0, 1], critic_sharing="policies")
    value: ValueLearner = learner.value
    assert (value.n_networks, value.n_values, value.joint) == (2, 3, False)
    batch = make_batch(learner.mac)
    targets = value.targets(batch)
    where = batch.filled.nonzero(as_tuple=True)
    inputs = targets.inputs[where]
    columns = [inputs.shared.unsqueeze(1).expand(-1, 3, -1), inputs.own, *inputs.numbers()]
    x = torch.cat(columns, dim=-1)
    for i, k in enumerate((0, 0, 1)):
        expected = value.network.single(value.network.params[k], x[:, i])[:, 0]
        torch.testing.assert_close(targets.raw[where][:, i], expected, rtol=1e-4, atol=1e-5)
    before = value.network.params.detach().clone()
    learner.train(batch, 0)
    assert ((value.network.params - before).abs().amax(1) > 0).all()


# -- whole runs -----------------------------------------------------------------------------------------------------


def words(results: Path, *more: str, config: str = "seps") -> list[str]:
    return latest([
        f"--config={config}", "with", f"env={KINDS}", "seed=7", "use_cuda=False", "backend=serial", "batch_size_run=4",
        "hidden_dim=8", "epochs=2", "t_max=2400", "log_interval=100", "checkpoint_interval=100", "test_interval=200",
        "test_nepisode=2", "seps_steps=2000", f"local_results_path={results}", *more,
    ])  # fmt: skip


def folder(results: Path) -> Path:
    return sorted((p.parent for p in results.glob("sacred/*/*/*/run.json")), key=lambda p: int(p.name))[-1]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that found its groups and is over."""
    results = tmp_path_factory.mktemp("done")
    assert main(words(results)) == 0
    return folder(results)


def no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **more: Any) -> None:
        raise AssertionError("groups were looked for again")

    monkeypatch.setattr("oamarl.controllers.seps.find", fail)


def test_what_was_found_is_told_and_kept(done: Path) -> None:
    text = (done / "run.log").read_text()
    assert "Selective sharing: 2,000 steps of random play, to find out which agents are alike." in text
    assert "Selective sharing: 2 networks for 4 agents, [0, 1] [2, 3]. Davies-Bouldin index: " in text
    points = read_metrics(done)
    assert points[0]["t"] == 2000
    assert points[0]["metrics"]["seps_networks"] == 2
    assert points[0]["metrics"]["seps_steps"] == 2000
    assert points[0]["metrics"]["seps_error"] > 0
    trained = [p for p in points if "updates" in p["metrics"]]
    assert trained[0]["t"] == 2000 + 100 or trained[0]["t"] == 2000 + 40
    assert trained[0]["metrics"]["agent_steps"] == 4 * trained[0]["t"]
    assert trained[0]["metrics"]["wall_clock"] > trained[0]["metrics"]["time_learning"] > 0.1
    ((t, arrays),) = read_arrays(done / "seps.arrays")
    assert t == 2000
    assert arrays["index"].tolist() == [0, 0, 1, 1]
    assert arrays["mean"].shape == arrays["std"].shape == (4, 10)
    assert checkpoints.load(checkpoints.find(done))["mac"]["index"] == [0, 0, 1, 1]
    assert json.loads((done / "config.json").read_text())["sharing"] == "selective"


def test_a_resumed_run_has_the_groups_that_it_had(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(words(tmp_path / "long", "t_max=2600", "lr_schedule=constant")) == 0
    assert main(words(tmp_path / "cut", "lr_schedule=constant")) == 0
    no_finding(monkeypatch)
    first = folder(tmp_path / "cut")
    assert main(words(tmp_path / "grown", "t_max=2600", "lr_schedule=constant", f"checkpoint_path={first}")) == 0
    assert_same_run(folder(tmp_path / "long"), folder(tmp_path / "grown"))


def test_a_trained_team_has_the_groups_of_its_run(
    done: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    no_finding(monkeypatch)
    team = oamarl.load(done, trust=True)
    assert team.mac.index == [0, 0, 1, 1]
    assert main(["evaluate", str(done), "--episodes", "2", "--trust"]) == 0
    assert "2 greedy episodes of seps" in capsys.readouterr().out
    assert main(words(done.parents[3], f"checkpoint_path={done}", "evaluate=True")) == 0


def test_a_checkpoint_that_does_not_say_who_shares_is_refused(done: Path, tmp_path: Path) -> None:
    saved = checkpoints.load(checkpoints.find(done))
    for index, said in ((None, "does not say which agents share"), ([0, 1], "is of 2 agents, and 'kinds' has 4")):
        mac = {k: v for k, v in saved["mac"].items() if k != "index"} | ({} if index is None else {"index": index})
        path = checkpoints.save(tmp_path / str(index), saved["runner"]["t_env"], {**saved, "mac": mac})
        with pytest.raises(UserError, match=said):
            oamarl.load(path, trust=True)


def test_weights_come_with_their_groups(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    no_finding(monkeypatch)
    assert main(words(tmp_path, f"init_from={done}", "t_max=100", "seps_steps=50")) == 0
    assert f"init_from={done}: its groups of agents were taken, [0, 1] [2, 3]." in capsys.readouterr().out
    points = read_metrics(folder(tmp_path))
    assert points[0]["t"] == 0, "nothing was played"
    assert main(words(tmp_path, f"init_from={done}", "seps_clusters=3")) == 2
    assert f"init_from={done} has 2 groups of agents, not 3." in capsys.readouterr().err


def test_groups_that_are_given_are_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(tmp_path, "seps_clusters=1", "t_max=80", "seps_steps=50")) == 0
    out = capsys.readouterr().out
    assert "Selective sharing: 1 network for 4 agents, [0, 1, 2, 3]. Nothing had to be played to know it." in out
    assert read_metrics(folder(tmp_path))[0]["t"] == 0


def test_other_learners_and_runners_share_selectively(tmp_path: Path) -> None:
    run = train(
        tmp_path, "ippo", KINDS, sharing="selective", critic_sharing="policies", runner="rollout", rollout_length=7,
        t_max=2200, **PLAY,
    )  # fmt: skip
    assert run.loop.mac.index == [0, 0, 1, 1]
    assert run.loop.learner.value.n_networks == 2


@pytest.mark.parametrize(
    ("env", "args"),
    [
        ("gymma", {"key": "lbforaging:Foraging-5x5-2p-1f-v3", "time_limit": 5}),
        ("gymma", {"key": "rware:rware-tiny-2ag-v2", "time_limit": 5}), ("matrix", {"key": "prop1", "n_agents": 4}),
        ("maze", {"time_limit": 5}), ("toy_envs:MixedLength", {"limit": 6}), ("toy_envs:EarlyEnd", {"limit": 7}),
        ("gymma", {"key": "toy_gym:ToyRagged-v0"}),
        pytest.param("smax", {"map_name": "3m", "time_limit": 4}, marks=smax),
    ],
)  # fmt: skip
@pytest.mark.parametrize("backend", ["auto", "process"])
def test_every_kind_of_environment(env: str, args: dict[str, Any], backend: str, tmp_path: Path) -> None:
    run = train(tmp_path, "seps", env, args, t_max=100, seps_steps=30, backend=backend, workers=2)
    own = selective.classes(run.loop.runner.info)
    for i, j in itertools.combinations(range(len(own)), 2):
        assert own[i] == own[j] or run.loop.mac.index[i] != run.loop.mac.index[j]
    assert run.loop.mac.n_networks == max(run.loop.mac.index) + 1


# -- what cannot be -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["seps_clusters=0"], "seps_clusters=0 is out of range: at least 1 is allowed."),
        (["seps_clusters=5"], "seps_clusters=5 is out of range: 'kinds' has 4 agents."),
        (["seps_clusters=two"], "seps_clusters='two' has the wrong type: int or null is expected."),
        (["seps_index=mean"], "seps_index='mean' is not allowed: use distributions or means; did you mean 'means'?"),
        (["seps_index=means", "env_args.kinds='01'"], "seps_index=means cannot tell whether two agents are alike"),
        (["seps_steps=2400"], "seps_steps=2400 leaves nothing of t_max=2400 to train"),
        (["seps_steps=0"], "seps_steps=0 is out of range: at least 1 is allowed."),
        (["seps_kl_weight=-1"], "seps_kl_weight=-1.0 is out of range: at least 0 is allowed."),
        (["seps_lr=0"], "seps_lr=0.0 is out of range: more than 0 is allowed."),
        (["sharing=shared"], "'seps_steps' is not read by 'seps'"),
        ([f"env={KINDS}", "sharing=shared", "seps_clusters=2"], "is not read by 'seps'"),
        ([f"env={UNLIKE}", "seps_clusters=1"], "has agents of 2 shapes (of observations and actions), which cannot"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(
    more: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(tmp_path, *more)) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("sacred/*/*/*/run.json"))


@pytest.mark.parametrize("config", ["happo", "hatrpo", "oappo", "oatrpo"])
def test_methods_with_separate_networks_refuse(config: str) -> None:
    with pytest.raises(UserError, match="sharing=selective is refused, use sharing=separate"):
        build(settings(config, KINDS, sharing="selective", **PLAY), CPU)


def test_numbers_that_are_not_finite_end_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError, match=r"random actions were played: .* reward of agent 0 is nan \(row 0, step 4"):
        found(args={"broken": 5})
    assert main(words(tmp_path, "env_args.broken=5")) == 1
    assert "Stopped while random actions were played" in (folder(tmp_path) / "run.log").read_text()
    assert json.loads((folder(tmp_path) / "run.json").read_text())["status"] == "FAILED"


@pytest.mark.parametrize("at", ["play", "fit"])
def test_a_run_can_be_ended_before_it_trains(at: str, tmp_path: Path) -> None:
    """max_seconds that are over at once; and something that ends the fit."""
    if at == "play":
        assert main(words(tmp_path, "max_seconds=1e-9")) == 124
        text = (folder(tmp_path) / "run.log").read_text()
        assert "Ended by max_seconds=1e-09 before training began: there is nothing to resume from." in text
        assert json.loads((folder(tmp_path) / "run.json").read_text())["status"] == "INTERRUPTED"
        return
    kinds = make_info(KINDS, {})
    asked, looked, stop = settings("seps", KINDS, t_max=10**6, **PLAY).values, [0], Stop()

    def look() -> None:
        looked[0] += 1
        if looked[0] > 2000 / 40:  # the batches of random play are over
            stop.settle()
            raise Terminated("enough")

    with pytest.raises(Terminated, match="enough"):
        selective.find(asked, kinds, partial(random_play, asked, kinds), look)
