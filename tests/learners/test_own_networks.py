"""Networks and critics of one's own through whole runs: each method and sharing, workers, resume, evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import oamarl
from oamarl.main import main
from oamarl.storage import checkpoints
from oamarl.training.building import build
from oamarl.utils.errors import UserError

from conftest import Program
from run_tools import assert_same_run, latest, settings, train

#: network -> keys that it needs
NETWORKS: dict[str, dict[str, Any]] = {
    "LayerNormMLP": {}, "Convolution": {}, "GatedCell": {}, "EntityAttention": {"entity_size": 4}
}  # fmt: skip
GAME = "toy_envs:Pictures"


def asked(network: str, **more: Any) -> dict[str, Any]:
    return {"agent": f"networks:{network}", **NETWORKS[network], "t_max": 40, **more}


@pytest.mark.parametrize("algorithm", ["mappo", "oappo", "oatrpo"])
@pytest.mark.parametrize("network", NETWORKS)
def test_every_method_trains_every_network(network: str, algorithm: str, networks: Any, tmp_path: Path) -> None:
    if (network, algorithm) == ("EntityAttention", "oatrpo"):
        with pytest.raises(UserError, match="OATRPO differentiates policies twice, and agent=networks:EntityAtt"):
            train(tmp_path, algorithm, GAME, **asked(network))
        return
    run = train(tmp_path, algorithm, GAME, **asked(network, critic="networks:SmallCritic", standardise_obs=True))
    assert run.last("updates") >= 2
    assert np.isfinite(run.last("critic_loss"))


@pytest.mark.parametrize("sharing", ["shared", "separate", "grouped"])
@pytest.mark.parametrize("network", NETWORKS)
def test_networks_are_shared_in_every_way(network: str, sharing: str, networks: Any, tmp_path: Path) -> None:
    """Three agents: the grouped ones are 0 and 2."""
    keys = {"sharing": [0, 1, 0] if sharing == "grouped" else sharing}
    critic = {"critic": "networks:GatedCell", "critic_sharing": "policies", "obs_last_action": True}
    run = train(tmp_path, "ippo", "toy_envs:ThreePictures", **asked(network, **keys, **critic, num_minibatches=2))
    mac, value = run.loop.mac, run.loop.learner.value
    expected = {"shared": 1, "separate": run.loop.mac.info.n_agents, "grouped": 2}[sharing]
    assert (len(mac.network.params), len(value.network.params)) == (expected, expected)
    assert run.last("approx_kl") < 0.1
    # at first the policies that learn are those that acted
    first = next(p["metrics"] for p in run.points if "ratio_mean" in p["metrics"])
    assert first["ratio_mean"] == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("network", NETWORKS)
def test_workers_give_the_same_run(network: str, networks: Any, tmp_path: Path) -> None:
    for folder, more in (("one", {}), ("two", {"backend": "process", "workers": 2})):
        train(tmp_path / folder, "mappo", GAME, **asked(network, **more))
    assert_same_run(tmp_path / "one", tmp_path / "two")


WORDS = ("t_max=120", "seed=4", "use_cuda=False", "hidden_dim=8", "epochs=2", "batch_size_run=3", "backend=serial",
         "test_interval=40", "test_nepisode=2", "checkpoint_interval=1", "log_interval=1",
         "lr_schedule=constant")  # fmt: skip
RUNS = {
    "episodes": ("--config=mappo", "env=toy_envs:MixedLength", "agent=networks:GatedCell", "critic=networks:GatedCell"),
    "segments": ("--config=mappo", "env=toy_envs:MixedLength", "agent=networks:GatedCell", "critic_use_rnn=True",
                 "runner=rollout", "rollout_length=7", "num_minibatches=2", "target_update_interval_or_tau=0.5"),
    "own critic": ("--config=ippo_ns", "env=toy_envs:MixedLength", "critic=networks:GatedCell", "runner=rollout",
                   "rollout_length=7"),
    "trust region": ("--config=oatrpo", "env=toy_envs:MixedLength", "agent=own_networks:TiedAndConstant"),
}  # fmt: skip


def folder(results: Path) -> Path:
    return max((p.parent for p in results.glob("sacred/*/*/*/run.json")), key=lambda p: int(p.name))


@pytest.mark.parametrize("run", RUNS)
def test_resumed_runs_are_those_never_interrupted(run: str, networks: Any, tmp_path: Path) -> None:
    config, *more = RUNS[run]
    words = latest([config, "with", *WORDS, *more])
    if "mappo" not in config and "ippo" not in config:
        words.remove("test_interval=40")
    assert main([*words, f"local_results_path={tmp_path / 'whole'}"]) == 0
    whole = folder(tmp_path / "whole")
    older = checkpoints.listed(whole / "checkpoints")[-1]
    assert main([*words, f"local_results_path={tmp_path / 'again'}", f"checkpoint_path={older}"]) == 0
    assert_same_run(whole, folder(tmp_path / "again"))


def test_a_trained_network_is_evaluated_and_loaded(networks: Any, tmp_path: Path, program: Program) -> None:
    words = ["--config=mappo", "with", *WORDS, f"env={GAME}", "agent=networks:Convolution"]
    assert main([*words, f"local_results_path={tmp_path}"]) == 0
    run = folder(tmp_path)
    with pytest.raises(UserError, match=r"agent=networks:Convolution, code that does not come with oamarl"):
        oamarl.load(run)
    team = oamarl.load(run, trust=True)
    assert team.act(np.zeros((2, 16), np.float32)).shape == (2,)
    trained = checkpoints.load(checkpoints.find(run))["mac"]["theta"]
    assert torch.equal(team.mac.network.params, trained)
    assert main(["evaluate", str(run), "--episodes", "2", "--trust"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_networks_learn(network: str, networks: Any, tmp_path: Path) -> None:
    """Four steps of a quarter each: at random 1, at best 4."""
    keys = {"hidden_dim": 32, "t_max": 9_000, "lr": 0.003, "batch_size_run": 16, "epochs": 4, "test_interval": 6000}
    keys["standardise_returns"] = False
    run = train(tmp_path, "mappo", GAME, **{**asked(network), **keys}, log_interval=1000, test_nepisode=32)
    assert run.last("test_greedy_return_mean") > 3.5


REFUSED = {
    "agent=networks:LayerNormMLP use_rnn=True": "'use_rnn' is not read by",
    "agent=networks:LayerNorm": "did you mean 'LayerNormMLP'?",
    "agent=networks:EntityAttention": "The configuration lacks 'entity_size'",
    "agent=own_networks:WrongSize": "agent=own_networks:WrongSize returns outputs of shape",
    "critic=own_networks:WrongSize": "critic=own_networks:WrongSize returns outputs of shape",
    "critic=networks:GatedCell critic_use_rnn=True": "critic_use_rnn=True is for the built-in critic",
    "critic=w": "Unknown critic 'w': use v",
    "agent=networks:Convolution": "fails in __init__: ValueError: observations of shape [channels, height, width] are",
    "agent=own_networks:NotAModule": "is not a torch.nn.Module",
}


@pytest.mark.parametrize("words", REFUSED)
def test_one_sentence(words: str, networks: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--config=mappo", "with", "env=toy_envs:MixedLength", *words.split(), f"local_results_path={tmp_path}"]
    assert main(given) == 2
    err = capsys.readouterr().err
    assert REFUSED[words] in err
    assert err.count("\n") == 1


def test_memories_on_segments_are_refused_where_others_experience_is_read(networks: Any) -> None:
    for part in ("agent", "critic"):
        given = settings("seac", "toy_envs:MixedLength", runner="rollout", t_max=40, **{part: "networks:GatedCell"})
        with pytest.raises(UserError, match=f"SEAC with {part}=networks:GatedCell needs whole episodes to reuse"):
            build(given, torch.device("cpu"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("network", NETWORKS)
def test_a_run_on_a_device(network: str, networks: Any, tmp_path: Path) -> None:
    words = ["--config=mappo", "with", *WORDS, f"env={GAME}", f"agent=networks:{network}", "critic=networks:GatedCell"]
    more = [f"{k}={v}" for k, v in NETWORKS[network].items()]
    assert main(latest([*words, *more, "use_cuda=True", f"local_results_path={tmp_path}"])) == 0


def test_the_initial_parameters_of_ones_own_networks_are_their_own(networks: Any, tmp_path: Path) -> None:
    """`init` is the built-in networks': it is read where there is one, and refused where there is none."""
    with pytest.raises(UserError, match="'init' is not read by"):
        settings("mappo", GAME, agent="networks:LayerNormMLP", critic="networks:SmallCritic", init="torch")
    found = [
        train(tmp_path / init, "mappo", GAME, t_max=20, agent="networks:LayerNormMLP", init=init).loop
        for init in ("orthogonal", "torch")
    ]
    shapes = {loop.learner.value.network.params.shape for loop in found}
    assert len(shapes) == 1
    assert not torch.equal(*(loop.learner.value.network.params for loop in found))
