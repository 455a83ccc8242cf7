"""Checkpoints whose counters, parameters or statistics cannot be: not loaded, whatever their checksum says."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from oamarl.storage import checkpoints
from oamarl.training.payload_check import unfit

from learner_tools import make_info, make_learner
from run_tools import ALGORITHMS, PQN, Q_LEARNING, train

ADAM = ("learner", "optimisers", 0, "state", 0)
FAULTS: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "negative updates": (("learner", "updates"), -1, "a counter that cannot be (learner.updates)"),
    "huge updates": (("learner", "updates"), 10**30, "a counter that cannot be (learner.updates)"),
    "half an update": (("learner", "value", "updates"), 1.5, "a counter that cannot be (learner.value.updates)"),
    "true episodes": (("runner", "episodes"), True, "a counter that cannot be (runner.episodes)"),
    "negative episodes": (("runner", "episodes"), -4, "a counter that cannot be (runner.episodes)"),
    "huge steps": (("runner", "agent_steps"), 2**63, "a counter that cannot be (runner.agent_steps)"),
    "skipped": (("runner", "skipped"), torch.tensor([0, -5]), "a number below 0 where none can be (runner.skipped)"),
    "policies": (("mac", "theta"), torch.ones(1, 3, dtype=torch.int64), "whole numbers where parameters"),
    "critic": (("learner", "value", "theta"), torch.ones(1, 3, dtype=torch.int64), "whole numbers where parameters"),
    "adam's mean": ((*ADAM, "exp_avg"), torch.ones(1, 3, dtype=torch.int32), "whole numbers where parameters"),
    "adam's step": ((*ADAM, "step"), torch.tensor(-3.0), "a number below 0 where none can be"),
    "adam's square": ((*ADAM, "exp_avg_sq"), torch.tensor([-1.0]), "a number below 0 where none can be"),
    "variance": (("learner", "value", "return_stats", "var"), torch.tensor(-1.0), "a number below 0"),
    "best": (("loop", "best"), {"t_env": -7, "return_mean": 0.0}, "a counter that cannot be (loop.best.t_env)"),
}


@pytest.fixture(scope="module")
def payload(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    run = train(tmp_path_factory.mktemp("run"), "mappo", "toy_envs:Truncating", {"limit": 5}, t_max=40)
    return checkpoints.load(checkpoints.find(run.folder))


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_is_named(fault: str, payload: dict[str, Any]) -> None:
    place, value, said = FAULTS[fault]
    wrong: Any = copy.deepcopy(payload)
    inner = wrong
    for step in place[:-1]:
        inner = inner[step]
    assert place[-1] in inner
    inner[place[-1]] = value
    assert unfit(payload) == ""
    assert said in unfit(wrong)
    assert unfit(wrong).endswith(": not loaded")


@pytest.mark.parametrize("algorithm", sorted({*ALGORITHMS, *Q_LEARNING, *PQN} - {"seps"}))
def test_what_shipped_learners_hold_is_fit(algorithm: str, payload: dict[str, Any]) -> None:
    learner = make_learner(algorithm, make_info())
    own = {**copy.deepcopy(payload), "mac": learner.mac.state_dict(), "learner": learner.state_dict()}
    assert unfit(own) == ""


def test_names_of_a_users_own_class_mean_what_they_mean_there(payload: dict[str, Any]) -> None:
    own = copy.deepcopy(payload)
    own["config"]["learner"] = "mine:Learner"
    own["learner"] = {"updates": -1, "theta": torch.ones(2, dtype=torch.int64), "count": torch.tensor(-1)}
    assert unfit(own) == ""
    own["runner"]["episodes"] = -1
    assert "runner.episodes" in unfit(own)


def test_policies_of_whole_numbers_are_refused_wherever_they_are_loaded() -> None:
    mac = make_learner("mappo", make_info()).mac
    state = mac.state_dict()
    with pytest.raises(ValueError, match="parameters are whole numbers"):
        mac.load_state_dict({**state, "theta": state["theta"].long()})
