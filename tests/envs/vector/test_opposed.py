"""Agents whose rewards are opposed: what tells them, and where it is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oamarl.components.experience import EnvInfo
from oamarl.envs.base import Arrays
from oamarl.envs.vector.opposed import LOOKS, Opposed, RewardRecord, opposed
from oamarl.main import main
from oamarl.storage.sacred_run import OPPOSED
from oamarl.utils import warn_once

RNG = np.random.default_rng(1)


class Duel:
    """Two predators and a prey: what the first two win at a step the third loses. With ``apart`` each has its own."""

    def __init__(self, apart: bool = False, team_reward: bool = False) -> None:
        self.info = EnvInfo(
            name="duel", n_agents=3, obs_size=1, state_size=1, n_actions=2, episode_limit=50, obs_sizes=(1, 1, 1),
            action_sizes=(2, 2, 2), team_reward=team_reward,
        )  # fmt: skip
        self.apart = apart

    def reset(self, seed: int, out: Arrays) -> None:
        self.rng, self.time = np.random.default_rng(seed), 0
        self._see(out)
        out.alive[...] = out.avail[...] = True

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        self.time += 1
        hits = self.rng.random(3) < 0.2
        out.reward[...] = hits * [1.0, 1.0, -2.0] if self.apart else hits[0] * np.array([1.0, 1.0, -2.0])
        out.truncated[...] = self.time >= 50
        self._see(out)

    def _see(self, out: Arrays) -> None:
        out.obs[...] = out.state[...] = self.time / 50

    def close(self) -> None:
        pass


class DuelBatch:
    """The same, all slots in one call."""

    native = True

    def __init__(self, n_slots: int) -> None:
        self.one = [Duel() for _ in range(n_slots)]
        self.info = self.one[0].info

    def reset(self, slots: np.ndarray, seeds: np.ndarray, out: Arrays) -> None:
        for b, seed in zip(slots.tolist(), seeds.tolist(), strict=True):
            self.one[b].reset(seed, out.slot(b))

    def step(self, actions: np.ndarray, active: np.ndarray, out: Arrays) -> None:
        for b in np.flatnonzero(active).tolist():
            self.one[b].step(actions[b], out.slot(b))

    def close(self) -> None:
        pass


def test_zero_sum() -> None:
    prey = RNG.standard_normal(300)
    found = opposed(np.stack([-prey / 2, prey, -prey / 2], 1), -0.5)
    assert found is not None
    assert found.sides == ([0, 2], [1])
    assert found.correlation == pytest.approx(-1.0)
    assert found.sentence(["wolf", "hare", "fox"]).startswith(
        "The rewards of wolf, fox and of hare are opposed (correlation -1.00 over 300 steps): what one side wins"
    )


@pytest.mark.parametrize(
    "rewards",
    [
        RNG.standard_normal((300, 3)),  # each its own
        np.repeat(RNG.standard_normal((300, 1)), 3, 1),  # a team
        np.where(RNG.random((300, 2)) < 0.1, 1.0, -0.05),  # a cost of each step, and a goal
        np.eye(2)[RNG.integers(0, 2, 300)],  # one food for two: nobody loses
        np.zeros((300, 2)),
        np.stack([RNG.standard_normal(300), np.zeros(300)], 1),  # one that is never rewarded
        np.full((300, 2), np.nan),
        np.ones((300, 1)),
    ],
)
def test_what_is_not_opposed(rewards: np.ndarray) -> None:
    assert opposed(rewards, -0.25) is None


def test_a_record_looks_a_few_times() -> None:
    info = Duel().info
    record, prey = RewardRecord(info), RNG.standard_normal((1000, 1)).astype(np.float32)
    rows = prey * np.array([1.0, 1.0, -2.0], np.float32)
    found = [record.add(rows[t : t + 10]) for t in range(0, 1000, 10) if record.open]
    assert len(found) == 25  # closed at the first look, at 250 steps
    assert isinstance(found[-1], Opposed)
    assert not any(found[:-1])
    quiet = RewardRecord(info)
    while quiet.open:
        assert quiet.add(np.zeros((100, 3), np.float32)) is None
    assert quiet._count == max(LOOKS)
    assert not RewardRecord(Duel(team_reward=True).info).open


def played(tmp_path: Path, capsys: pytest.CaptureFixture[str], *words: str, env: str = "Duel") -> str:
    folder = f"local_results_path={tmp_path}"
    run = ["--config=ippo", "with", f"env=test_opposed:{env}", "t_max=600", "test_nepisode=0", folder, *words]
    assert main(run) == 0
    out, err = capsys.readouterr()
    return out + err


@pytest.mark.parametrize("backend", ["serial", "process"])
def test_a_run_says_it_once(tmp_path: Path, capsys: pytest.CaptureFixture[str], backend: str, here: Any) -> None:
    said = played(tmp_path, capsys, f"backend={backend}", "workers=2")
    assert said.count("The rewards of agent 0, agent 1 and of agent 2 are opposed (correlation -1.00") == 1
    assert "common_reward=False each for its own" in said


def test_a_run_of_a_batched_environment_says_it_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = played(tmp_path, capsys, env="DuelBatch")
    assert said.count("The rewards of agent 0, agent 1 and of agent 2 are opposed (correlation -1.00") == 1


@pytest.mark.parametrize("words", [["common_reward=False"], ["env_args.apart=True"], ["env_args.team_reward=True"]])
def test_a_run_that_has_nothing_to_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], here: Any
) -> None:
    assert "are opposed" not in played(tmp_path, capsys, "backend=serial", *words)


def test_check_env_notes_it(capsys: pytest.CaptureFixture[str], here: Any) -> None:
    main(["check-env", "test_opposed:Duel"])
    out = capsys.readouterr().out
    assert "note:  The rewards of agent 0, agent 1 and of agent 2 are opposed" in out
    main(["check-env", "test_opposed:Duel", "with", "env_args.apart=True"])
    assert "are opposed" not in capsys.readouterr().out


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers find this module too."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def test_the_kind_fits_the_buffer() -> None:
    assert OPPOSED in warn_once.KINDS
    names = [f"adversary_{i}" for i in range(40)]
    assert len(Opposed((list(range(20)), list(range(20, 40))), -0.5, 1000).sentence(names).encode()) < 1000
