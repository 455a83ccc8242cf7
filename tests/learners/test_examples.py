"""The examples of docs/ and examples/ with every option that methods share: one that is read must have its effect.

A learner of one's own inherits keys by the dozen. Each is set here, and what should follow it is looked at: the
policies with a critic that stands still, the critic with policies that stand still, so that neither hides that the
other took no notice.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from test_docs import blocks

from oamarl.envs.build import make_info
from oamarl.learners.on_policy import EntropyConfig, LearnerConfig
from oamarl.main import main
from oamarl.modules.agents.rnn import NetworkConfig
from oamarl.storage import checkpoints
from oamarl.utils.errors import UserError
from oamarl.utils.schema.layers import CONFIGS

from conftest import ROOT
from run_tools import ALGORITHMS, settings, train

#: the example learners: the guide's own file, the package's, and the guide's YAML without a learner of its own
EXAMPLES = ("guide", "package", "grouped")
#: four agents on a short line; a batch is one episode in each of four slots
GAME: dict[str, Any] = {"n_agents": 4, "cells": 3, "time_limit": 5}
BASE: dict[str, Any] = {"t_max": 45, "test_nepisode": 0, "save_best": False, "lr": 0.01, "critic_lr": 0.01}
STILL = 1e-60  # a learning rate at which no parameter moves


@dataclass(frozen=True)
class Option:
    """A key, a value of it, what else both runs need, and what must differ between them."""

    key: str
    value: Any
    base: tuple[tuple[str, Any], ...] = ()
    seen_in: tuple[str, ...] = ("policies", "critic")


def _option(key: str, value: Any, *seen_in: str, **base: Any) -> Option:
    return Option(key, value, tuple(base.items()), seen_in or ("policies", "critic"))


NSTEP = {"gae_lambda": None, "q_nstep": 3}
#: of what every learner reads, LearnerConfig's keys and those of the controller, the networks and the rewards
OPTIONS = (
    _option("gamma", 0.5), _option("gae_lambda", 0.1), _option("q_nstep", 1, **NSTEP),
    _option("add_value_last_step", False), _option("standardise_returns", False),
    _option("standardise_rewards", True),
    _option("standardise_rewards_mean", False, standardise_rewards=True),
    _option("normalise_advantage", False, "policies"),
    _option("critic", "own_networks:Plain"), _option("critic_use_rnn", True),
    _option("critic_type", "ac_critic"), _option("critic_sharing", "separate", critic_agent_obs=True),
    _option("critic_agent_obs", True), _option("obs_individual_obs", True), _option("critic_lr", 0.001, "critic"),
    _option("pr_beta", 0.5, critic_sharing="separate"),
    _option("pr_eps", 1e-9, pr_beta=0.5, critic_sharing="separate"),
    _option("pr_agents", 1, pr_beta=0.5, critic_sharing="separate"),
    _option("value_loss", "huber", "critic"), _option("huber_delta", 0.01, "critic", value_loss="huber"),
    _option("target_update_interval_or_tau", 0.1, "critic"), _option("grad_norm_clip", 1e-6),
    _option("lr", 0.001, "policies"), _option("optim_eps", 0.1), _option("obs_agent_id", False),
    _option("obs_last_action", True),
    _option("critic_epochs", 3, "critic"), _option("num_minibatches", 2), _option("value_clip", 1e-6, "critic"),
    _option("epochs", 3), _option("lr_schedule", "linear"), _option("t_max", 90, lr_schedule="linear"),
    _option("sharing", "separate", "policies"), _option("standardise_obs", True),
    _option("feature_norm", True), _option("init", "torch"), _option("layer_norm", True),
    _option("hidden_dim", 6), _option("use_rnn", True, "policies"), _option("activation", "tanh"),
    _option("head_gain", 1.0, "policies"),
    _option("common_reward", False), _option("reward_scalarisation", "mean", standardise_returns=False),
    _option("runner", "rollout"),
)  # fmt: skip
#: of the learner with an entropy bonus, and of the example alone
ENTROPY = (
    _option("entropy_coef", 1.0, "policies"), _option("entropy_schedule", "linear", "policies", entropy_coef=1.0),
    _option("entropy_coef_final", 1.0, "policies", entropy_schedule="linear"),
    _option("entropy_end_ratio", 0.01, "policies", entropy_schedule="linear", entropy_coef_final=1.0),
    _option("eps_clip", 1e-6, "policies"),
)  # fmt: skip
OWN = (_option("kl_coef", 50.0, "policies"),)


@pytest.fixture(scope="module", autouse=True)
def files(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder with the guides' files as they stand there, on Python's path together with the packages' sources."""
    folder = tmp_path_factory.mktemp("guides")
    algorithm, environment = (
        (ROOT / "docs" / f"adding-an-{page}.md").read_text(encoding="utf-8") for page in ("algorithm", "environment")
    )
    grouped, values = blocks("yaml", algorithm)[:2]
    for name, text in {
        "mappo_grouped.yaml": grouped, "mappo_kl.yaml": values, "kl_ppo.py": blocks("python", algorithm)[0],
        "my_module.py": blocks("python", environment)[0], "rendezvous.yaml": blocks("yaml", environment)[0],
    }.items():  # fmt: skip
        (folder / name).write_text(text, encoding="utf-8")
    paths = [str(folder), *(str(ROOT / "examples" / name) for name in ("kl-ppo", "rendezvous"))]
    sys.path[:0] = paths
    yield folder
    for path in paths:
        sys.path.remove(path)


def words(example: str, files: Path) -> tuple[str, str, dict[str, Any]]:
    """The configuration and environment of an example, and the keys that an entry point would have given."""
    package = ROOT / "examples" / "kl-ppo" / "oamarl_kl_ppo" / "mappo_kl.yaml"
    if example == "package":
        return str(package), "oamarl_rendezvous.game:Rendezvous", {"learner": "oamarl_kl_ppo.kl_ppo:KLPPOLearner"}
    config = files / ("mappo_kl.yaml" if example == "guide" else "mappo_grouped.yaml")
    return str(config), "my_module:Rendezvous", {}


def learned(example: str, files: Path, folder: Path, side: str, changes: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Parameters of both sides after a few updates in which only ``side`` moves."""
    config, env, own = words(example, files)
    asked = {**own, **BASE, ("critic_lr" if side == "policies" else "lr"): STILL, **changes}
    run = train(folder, config, env, GAME, **asked)
    assert run.last("updates") >= (3 if run.asked.values["runner"] == "parallel" else 1)  # a segment is 128 steps
    learner = run.loop.learner
    return {"policies": learner.mac.network.params.detach(), "critic": learner.value.network.params.detach()}


CASES = [(e, o) for e in EXAMPLES for o in (*OPTIONS, *(ENTROPY if e == "grouped" else OWN))]


@pytest.fixture(scope="module")
def plain() -> dict[Any, torch.Tensor]:
    """What was learned without an option, by example, side and what else was set."""
    return {}


@pytest.mark.parametrize(("example", "option"), CASES, ids=[f"{e}-{o.key}" for e, o in CASES])
def test_an_option_has_its_effect(
    example: str, option: Option, files: Path, plain: dict[Any, torch.Tensor], tmp_path: Path
) -> None:
    for side in option.seen_in:
        known = (example, side, option.base)
        if known not in plain:
            plain[known] = learned(example, files, tmp_path / f"{side}-without", side, dict(option.base))[side]
        changes = {**dict(option.base), option.key: option.value}
        found = learned(example, files, tmp_path / side, side, changes)[side]
        same = found.shape == plain[known].shape and torch.equal(found, plain[known])
        assert not same, f"{option.key}={option.value} is read, and the {side} are as without it"


def test_a_standing_side_stands_still(files: Path, tmp_path: Path) -> None:
    """What the comparison above rests on."""
    for side, other in (("policies", "critic"), ("critic", "policies")):
        few = learned("guide", files, tmp_path / f"{side}1", side, {})
        many = learned("guide", files, tmp_path / f"{side}2", side, {"t_max": 90})
        assert torch.equal(few[other], many[other])
        assert not torch.equal(few[side], many[side])


def test_every_shared_key_is_tried(files: Path) -> None:
    """A key that is added to what learners share comes with its line in the table above."""
    tried = {option.key for option in OPTIONS}
    for example in EXAMPLES:
        config, env, own = words(example, files)
        asked = settings(config, env, GAME, **own, **BASE)
        read = {f.name for part in (asked.learner, asked.mac, asked.agent) for f in dataclasses.fields(part.Config)}
        more = {option.key for option in (ENTROPY if example == "grouped" else OWN)}
        # of continuous actions: the game's are numbered
        read -= {"action_selector", "action_std", "action_std_form", "log_std_init", "std_x_coef", "std_y_coef"}
        assert read == (tried | more) - {"common_reward", "reward_scalarisation", "runner"}, example
    shared = {f.name for cls in (LearnerConfig, NetworkConfig) for f in dataclasses.fields(cls)}
    assert shared <= tried
    assert {f.name for f in dataclasses.fields(EntropyConfig)} <= {option.key for option in ENTROPY}


#: all that go together
EVERYTHING: dict[str, Any] = {
    "standardise_obs": True, "standardise_rewards": True, "standardise_returns": True, "normalise_advantage": True,
    "use_rnn": True, "lr_schedule": "linear", "common_reward": False, "sharing": [0, 1, 0, 1], "obs_last_action": True,
    "critic_sharing": "policies", "critic_agent_obs": True, "obs_individual_obs": True, "grad_norm_clip": 0.5,
    "num_minibatches": 2, "critic_epochs": 3, "value_loss": "huber", "value_clip": 0.2, "save_best": True,
    "target_update_interval_or_tau": 0.5, "t_max": 90, "test_nepisode": 2, "test_interval": 20, "save_model": True,
    "save_model_interval": 20,
}  # fmt: skip


@pytest.mark.parametrize("example", EXAMPLES)
def test_everything_at_once(example: str, files: Path, tmp_path: Path) -> None:
    config, env, own = words(example, files)
    run = train(tmp_path, config, env, GAME, **{**own, **BASE, **EVERYTHING})
    saved = checkpoints.load(checkpoints.find(tmp_path))
    t_env, agent_steps = run.last("agent_steps") / GAME["n_agents"], run.last("agent_steps")
    seen = saved["mac"]["normaliser"]
    assert [float(stats["count"]) for stats in seen["obs"]] == [agent_steps], "agents are alike: one for all"
    assert float(seen["state"]["count"]) == t_env
    assert bool((seen["obs"][0]["mean"] != 0).any())
    value = saved["learner"]["value"]
    for name in ("reward_stats", "return_stats"):
        assert value[name]["mean"].shape == (GAME["n_agents"],), "each agent's own reward"
        assert float(value[name]["count"]) == t_env, name
    assert saved["mac"]["index"] == [0, 1, 0, 1]
    assert saved["mac"]["theta"].shape[0] == value["theta"].shape[0] == 2
    rates = [p["metrics"]["lr"] for p in run.points if "lr" in p["metrics"]]
    assert rates[0] == BASE["lr"]
    assert all(a > b > 0 for a, b in pairwise(rates)), "linear, to 0"
    logged = {name for point in run.points for name in point["metrics"]}
    assert {"agent_3_return_mean", "test_agent_3_return_mean", "met_mean"} <= logged
    assert len(checkpoints.listed(tmp_path / "best")) == 1
    assert len(checkpoints.listed(tmp_path / "models")) > 1


@pytest.mark.parametrize("example", ["guide", "grouped"])
def test_a_run_begins_with_the_weights_it_is_given(
    example: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And continues from its own checkpoint with the same numbers."""
    monkeypatch.chdir(files)
    config, _, _ = words(example, files)
    given = {
        "seed": 3, "hidden_dim": 8, "batch_size_run": 4, "backend": "serial", "use_cuda": False, "test_nepisode": 0,
        "standardise_obs": True, "standardise_rewards": True, "checkpoint_interval": 20,
    }  # fmt: skip
    line = [f"--config={config}", "--env-config=./rendezvous.yaml", "with", *(f"{k}={v}" for k, v in given.items())]
    line += [f"env_args.{k}={v}" for k, v in GAME.items()] + [f"local_results_path={tmp_path}"]

    def run(number: int, *more: str) -> dict[str, Any]:
        assert main([*line, *more]) == 0
        (folder,) = tmp_path.glob(f"sacred/*/*/{number}")
        return checkpoints.load(checkpoints.find(folder))

    first = run(1, "t_max=60")
    (source,) = tmp_path.glob("sacred/*/*/1")
    second = run(2, f"init_from={source}", f"lr={STILL}", "t_max=1")
    assert torch.equal(second["mac"]["theta"], first["mac"]["theta"])
    assert not torch.equal(run(3, f"lr={STILL}", "t_max=1")["mac"]["theta"], first["mac"]["theta"])
    counts = [float(x["mac"]["normaliser"]["state"]["count"]) for x in (first, second)]
    assert counts[1] == counts[0] + second["runner"]["t_env"], "the statistics came along"
    straight, resumed = run(4, "t_max=120"), run(5, "t_max=120", f"checkpoint_path={source}")
    assert torch.equal(straight["mac"]["theta"], resumed["mac"]["theta"])
    assert torch.equal(straight["learner"]["value"]["theta"], resumed["learner"]["value"]["theta"])


def test_what_an_example_does_not_follow_is_refused(files: Path) -> None:
    """The mapping, and keys that it does not read."""
    for example in ("guide", "package"):
        config, env, own = words(example, files)
        reuse = {"mac": "reuse_mac", "sharing": "separate", "obs_agent_id": False}
        asked = settings(config, env, GAME, **own, **reuse)
        with pytest.raises(UserError, match="KLPPO does not reuse other agents' experience: mac=reuse_mac is refused"):
            asked.check(make_info(env, GAME))
        with pytest.raises(UserError, match="'entropy_coef' is not read by"):
            settings(config, env, GAME, **own, entropy_coef=0.1)


@pytest.mark.parametrize("env", ["my_module:Rendezvous", "oamarl_rendezvous.game:Rendezvous"])
def test_each_argument_of_the_example_environment_has_its_effect(env: str, files: Path) -> None:
    plain = make_info(env, GAME)
    for name, value in {"n_agents": 3, "cells": 4, "time_limit": 6}.items():
        assert make_info(env, {**GAME, name: value}) != plain, name
    with pytest.raises(UserError, match="at least 2"):
        make_info(env, {**GAME, "n_agents": 1})


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_shipped_learners_see_every_observation_once(algorithm: str, tmp_path: Path) -> None:
    """As those of the examples: the loop counts, whatever the learner does."""
    more = {"t_max": 60, "test_nepisode": 0, "standardise_obs": True}
    run = train(tmp_path, algorithm, "toy_envs:Truncating", {"limit": 5}, **more)
    before = run.points[0]["t"] - 20 if algorithm == "seps" else 0  # random play is not learned from
    seen = checkpoints.load(checkpoints.find(tmp_path))["mac"]["normaliser"]
    assert float(seen["state"]["count"]) == run.result["t_env"] - before
    assert (CONFIGS / "algs" / f"{algorithm}.yaml").is_file()
