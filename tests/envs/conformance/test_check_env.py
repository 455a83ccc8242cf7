"""`oamarl check-env`: every fault is named, and sound environments are found sound."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from oamarl.main import main

from toy_envs import MixedLength

ROOM = "broken_envs:Broken"


def check(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str], list[str], str]:
    """Exit status, findings, warnings and everything that was printed."""
    status = main(("check-env", *words))
    out, err = capsys.readouterr()
    lines = (out + err).splitlines()
    return (
        status,
        [x.removeprefix("wrong: ") for x in lines if x.startswith("wrong: ")],
        [x.removeprefix("note:  ") for x in lines if x.startswith("note: ")],
        out + err,
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oamarl.envs.conformance.suite.SPEED_SECONDS", 0.01)
    monkeypatch.setattr("oamarl.envs.conformance.suite.OPPOSED_SECONDS", 0.01)


@pytest.fixture
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the comparison of backends, which takes most of the time."""
    monkeypatch.setattr("oamarl.envs.conformance.suite.Conformance._backends", lambda self, first: None)


FAULTS = {
    "build": "building the environment raises RuntimeError: no display .*broken_envs.py, line",
    "no limit": "info.episode_limit=0 must be a whole number of at least 1",
    "sizes": r"info.obs_sizes=\(3, 4\) and info.obs_size=3 do not fit",
    "reset raises": "reset .seed 0. raises KeyError: 'seed' .*line",
    "step raises": "step 4 .seed 0. raises ZeroDivisionError: the fourth step",
    "shape": r"could not broadcast input array from shape \(2,4\) into shape \(2,3\) .*broken_envs.py, line",
    "reward shape": "raises ValueError: could not broadcast .*broken_envs.py, line",
    "broadcast": r"out.obs of shape \(2, 3\) is given numbers of shape \(2, 1\), which numpy repeats",
    "one reward": "out.reward is given one number for 2 agents",
    "rebinds": "reset .seed 0. binds out.obs to another array",
    "obs unwritten": r"at reset .seed 0. out.obs\[0, 0\] is nan, or was not written",
    "not a number": r"after step 3 .seed 0. out.obs\[0, 1\] is nan",
    "infinite": r"out.state\[0\] is inf",
    "reward nan": r"after step 1 .seed 0. out.reward\[1\] is nan",
    "metrics": r"out.metrics\[0\] is inf",
    "padding": "agent 1 sees more than its 2 numbers",
    "padded action": "agent 0 may take action 2: it has 2",
    "no action": "after step 2 .seed 0. agent 1 is alive and has no legal action",
    "dead mask": "after step 2 .seed 0. agent 0 is not alive and has 2 legal actions",
    "nobody alive": "at reset .seed 0. no agent is alive .reset writes out.alive",
    "gone": "after step 1 .seed 0. no agent is alive and the episode continues",
    "over": "at reset .seed 0. the episode is over already",
    "endless": "after step 6 .seed 0. the episode continues, and info.episode_limit=6",
    "back": "after step 4 .seed 0. agent 0 is no longer agent_terminated",
    "dead and alive": "after step 2 .seed 0. agent 0 is agent_terminated and alive at once",
    "flag": r"out.truncated is given \[0.5\]: it holds True and False",
    "actions": "step 1 .seed 0. changes the actions that it was given",
    "no seed": "the same seed .0. gives another episode in a second instance; first difference: obs at reset",
    "mask": "the same seed .0. gives another episode in a second instance; first difference: avail",
    "global numpy": "depend on the global generators .*obs at reset.*global_random=True",
    "global random": "depend on the global generators .*obs at reset.*global_random=True",
    "leftover": "leaves something behind: seed 0 then gives another episode .first difference: obs at reset",
    "half": "reset in the middle of an episode leaves something behind",
    "shared": "two instances in one process disturb each other",
    "other's rows": "the arrays of one instance change while only another one is stepped",
    "close": "close raises OSError: the game does not end",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_named(capsys: pytest.CaptureFixture[str], no_workers: None, fault: str) -> None:
    status, wrong, _, everything = check(capsys, ROOM, "with", f"env_args.fault={fault}")
    assert status == 1, everything
    assert any(re.search(FAULTS[fault], sentence) for sentence in wrong), wrong
    assert len(wrong) <= 3, wrong  # one fault is not reported in many ways
    assert "Traceback" not in everything


def test_many_agents_in_few_words(capsys: pytest.CaptureFixture[str], no_workers: None) -> None:
    status, _, _, everything = check(capsys, "toy_envs:Crowd")
    assert status == 0, everything
    assert "40 agents, observations [3 x 4, 37 x 2], actions [40 x 3], state" in everything
    assert max(map(len, everything.splitlines())) < 200


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("one seed", "different seeds give the same episode"),
        ("clock", "all episodes are terminated at exactly episode_limit=6"),
        ("global unused", "the global generators of numpy or Python were drawn from or seeded"),
        ("late reward", "agent 0 is rewarded after its end"),
    ],
)
def test_warnings_are_not_errors(capsys: pytest.CaptureFixture[str], no_workers: None, fault: str, says: str) -> None:
    status, wrong, notes, everything = check(capsys, ROOM, "with", f"env_args.fault={fault}")
    assert (status, wrong) == (0, []), everything
    assert any(says in note for note in notes), everything


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("gymma", "with", "env_args.key=toy_gym:ToyRespawning-v0"), "after step 3 .seed 0. agent 1 is no longer term"),
        (("gymma", "with", "env_args.key=toy_zoo:Returning"), "after step 4 .seed 0. agent a is no longer terminated"),
        (("faulty_envs:Back",), "after step 4 .seed 0. agent 1 is no longer agent_terminated"),
        (("faulty_envs:Back", "with", "env_args.what=alive"), "after step 4 .seed 0. agent 1 is agent_terminated and"),
    ],
)
def test_an_end_that_is_taken_back(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str) -> None:
    status, wrong, _, everything = check(capsys, *words)
    assert status == 1, everything
    assert any(re.search(says, sentence) for sentence in wrong), wrong
    assert len(wrong) == 1
    assert "Warning" not in everything


def test_an_episode_that_does_not_end_is_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    status, wrong, _, _ = check(capsys, ROOM, "with", "env_args.fault=endless")
    assert status == 1
    assert wrong == ["after step 6 (seed 0) the episode continues, and info.episode_limit=6."]


def test_several_findings_in_one_go(capsys: pytest.CaptureFixture[str], no_workers: None) -> None:
    _, wrong, _, _ = check(capsys, ROOM, "with", "env_args.fault=padding")
    assert len(wrong) == 1
    status, wrong, _, _ = check(capsys, "broken_envs:Strays", "with", "env_args.fault=padding")
    assert status == 1
    assert len(wrong) == 2
    assert any("disturb each other" in sentence for sentence in wrong)


def test_workers_that_see_something_else(capsys: pytest.CaptureFixture[str]) -> None:
    status, wrong, _, everything = check(capsys, ROOM, "with", "env_args.fault=process")
    assert status == 1, everything
    assert wrong == ["backend=process gives other numbers than one instance alone: obs differs at reset (seed 0)."]


@pytest.mark.parametrize(
    "words",
    [
        (ROOM,),
        ("maze",),
        ("matrix", "with", "env_args.steps=3"),
        ("toy_envs:Ragged", "--episodes=4", "--seed=7"),
        ("gymma", "with", "env_args.key=lbforaging:Foraging-8x8-2p-3f-v3"),
        ("gymma", "with", "env_args.key=toy_zoo:Leaving"),
        ("gymma", "with", "env_args.key=toy_zoo:Dicey", "env_args.global_random=True"),
        ("gymma", "with", "env_args.key=toy_gym:ToyCorridor-v0"),
    ],
    ids=lambda words: "-".join(words[::2]),
)
def test_sound_environments(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    status, wrong, _, everything = check(capsys, *words)
    assert (status, wrong) == (0, []), everything
    assert re.search(r"[0-9,]+ steps a second", everything)


def test_what_lies_outside_a_declared_space(capsys: pytest.CaptureFixture[str], no_workers: None) -> None:
    words = ("gymma", "with", "env_args.key=toy_gym:ToyOutside-v0")
    status, wrong, _, _ = check(capsys, *words)
    assert status == 1
    assert any("agent 0 has the shape (4,), its space says (2, 2)" in x for x in wrong)
    assert any(
        "agent 1 sees array([0, 1, 2]), which is not in its observation space MultiBinary(3)" in x for x in wrong
    )
    assert any("agent 2 is 5 at [1], and its space allows -1 to 1" in x for x in wrong)
    assert any("agent 3 is float64, its space says float32" in x for x in wrong)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("mze",), "did you mean 'maze'"),
        (("maze", "matrix"), "takes one environment, maze, matrix given"),
        (("maze", "--episodes=many"), "--episodes: 'many' is not allowed: a whole number"),
        (("maze", "--sed=1"), "Unknown flag '--sed'"),
        (("maze", "with", "lr=3"), "'lr' is not an argument of an environment"),
        (("maze", "with", "env_args.map_nam=x"), "did you mean 'map_name'"),
        (("gymma", "with", "env_args.key=CartPole-v9"), "did you mean 'CartPole-v1'"),
        (("toy_envs:Rgged",), "did you mean 'Ragged'"),
        ((), "needs an environment: a name, a YAML file or package.module:Factory"),
        (("./none.yaml",), "./none.yaml cannot be read"),
    ],
)
def test_mistakes_on_the_command_line(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str) -> None:
    status, _, _, everything = check(capsys, *words)
    assert status == 2
    assert everything.count("\n") == 1
    assert says in everything


def test_a_yaml_of_the_users(capsys: pytest.CaptureFixture[str], tmp_path, no_workers: None) -> None:
    (tmp_path / "mine.yaml").write_text("env: broken_envs:Broken\nenv_args:\n  fault: padding\n")
    assert check(capsys, str(tmp_path / "mine.yaml"))[0] == 1
    assert check(capsys, str(tmp_path / "mine.yaml"), "with", "env_args.fault=''")[0] == 0


class Hanging(MixedLength):
    """Its first step does not return."""

    def step(self, actions: Any, out: Any) -> None:
        while True:
            time.sleep(0.01)


def test_a_step_that_does_not_return(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oamarl.envs.conformance.player.STEP_SECONDS", 0.2)
    status, wrong, _, _ = check(capsys, "test_check_env:Hanging")
    assert (status, wrong) == (1, ["step 1 (seed 0) does not return within 0.2 seconds."])
