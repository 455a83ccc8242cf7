"""EPyMARL's own files by their paths: what they mean here, what runs, and what ends in one sentence."""

from __future__ import annotations

import importlib.util
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from epymarl_files import ALGORITHMS, DEFAULT, ENVIRONMENTS, with_tables, write

from oamarl.envs.build import make_env
from oamarl.envs.matrix.matrix import payoff
from oamarl.envs.vector.make import make_vec
from oamarl.learners import REGISTRY
from oamarl.parts import resolve
from oamarl.settings import Settings
from oamarl.storage.records import read_metrics
from oamarl.tools.sweep.file import load as read_sweep
from oamarl.utils.errors import UserError
from oamarl.utils.schema import epymarl, layers, vocabulary, yamls
from oamarl.utils.schema.command_line import parse

from conftest import ROOT
from run_tools import train

PAGE = (ROOT / "docs" / "coming-from-epymarl.md").read_text(encoding="utf-8")
LBF = "env_args.key=lbforaging:Foraging-8x8-2p-3f-v3"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The folder ``config`` of EPyMARL's sources."""
    return write(tmp_path / "config")


def run(*words: str) -> Settings:
    return resolve(parse(words)[0])


def by_path(files: Path, algorithm: str, environment: str, *overrides: str) -> Settings:
    return run(
        f"--config={files}/algs/{algorithm}.yaml", f"--env-config={files}/envs/{environment}.yaml", "with", *overrides
    )


def sentence(*words: str) -> str:
    with pytest.raises(UserError) as caught:
        run(*words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- what they mean ------------------------------------------------------------------------------------------------

#: what EPyMARL's default.yaml and code say to all methods
EVERYWHERE: dict[str, Any] = {
    "gamma": 0.99, "init": "torch", "optim_eps": 1e-8, "grad_norm_clip": 10.0, "activation": "relu",
    "obs_last_action": False, "standardise_rewards": True, "standardise_rewards_mean": True,
    "standardise_returns": False, "common_reward": True, "reward_scalarisation": "sum", "standardise_obs": False,
    "feature_norm": False, "agent": "rnn", "mac": "basic_mac", "test_nepisode": 100, "test_interval": 50000,
    "test_greedy": True, "log_interval": 50000, "runner_log_interval": 10000, "learner_log_interval": 10000,
    "save_model": False, "save_model_interval": 50000, "env": "gymma",
}  # fmt: skip
POLICIES: dict[str, Any] = {
    **EVERYWHERE, "action_selector": "multinomial", "runner": "parallel", "batch_size_run": 10, "batch_size": 10,
    "q_nstep": 5, "gae_lambda": None, "normalise_advantage": False, "value_loss": "mse", "add_value_last_step": True,
    "lr_schedule": "constant", "critic_lr": None, "critic": "v", "critic_use_rnn": False, "obs_individual_obs": False,
    "critic_agent_obs": False, "entropy_schedule": "constant", "t_max": 20050000,
}  # fmt: skip
PPO: dict[str, Any] = {**POLICIES, "learner": "ppo_learner", "epochs": 4, "critic_epochs": None, "eps_clip": 0.2,
                       "num_minibatches": 1, "value_clip": None, "lr": 3e-4}  # fmt: skip
A2C: dict[str, Any] = {**POLICIES, "learner": "actor_critic_learner", "seac_coef": 0.0, "value_loss_coef": 1.0}
COMA: dict[str, Any] = {**POLICIES, "learner": "coma_learner", "critic_type": "cv_critic"}
PAC: dict[str, Any] = {
    **POLICIES, "learner": "pac_learner", "critic_type": "cv_critic", "q_nstep": 10, "standardise_rewards": False,
    "entropy_schedule": "linear", "entropy_coef_final": 0.01, "entropy_end_ratio": 0.8, "t_max": 500500,
    "name": "pac_sarsa_ns",
}  # fmt: skip
SHARED: dict[str, Any] = {"sharing": "shared", "critic_sharing": "shared", "obs_agent_id": True, "use_rnn": True,
                          "hidden_dim": 128, "target_update_interval_or_tau": 0.01}  # fmt: skip
SEPARATE: dict[str, Any] = {"sharing": "separate", "critic_sharing": "separate", "obs_agent_id": False,
                            "use_rnn": False, "hidden_dim": 64, "target_update_interval_or_tau": 200.0}  # fmt: skip
VALUES: dict[str, Any] = {
    **EVERYWHERE, "learner": "q_learner", "action_selector": "epsilon_greedy", "epsilon_start": 1.0,
    "epsilon_finish": 0.05, "epsilon_anneal_time": 50000, "evaluation_epsilon": 0.0, "runner": "episode",
    "batch_size_run": 1, "batch_size": 32, "buffer_size": 5000, "updates_per_step": None, "replay_steps": None,
    "replay": "uniform", "replay_sharing": "own", "double_q": True, "td_lambda": None, "q_nstep": None,
    "target_update_interval_or_tau": 200.0, "t_max": 2050000,
}  # fmt: skip
TOGETHER: dict[str, Any] = {"sharing": "shared", "obs_agent_id": True, "use_rnn": False, "hidden_dim": 64, "lr": 5e-4}
APART: dict[str, Any] = {**TOGETHER, "sharing": "separate", "obs_agent_id": False}
QMIX: dict[str, Any] = {
    "mixer": "qmix", "mixing_embed_dim": 32, "hypernet_layers": 2, "hypernet_embed": 64, "state_scale": 1.0,
}  # fmt: skip
MADDPG: dict[str, Any] = {
    **EVERYWHERE, "learner": "maddpg_learner", "action_selector": "noisy", "warmup_steps": 0, "runner": "episode",
    "batch_size_run": 1, "buffer_size": 50000, "updates_per_step": None, "replay_steps": None, "replay": "uniform",
    "q_nstep": None, "gumbel": "st", "gumbel_temperature": 1.0, "other_actions": "policies", "reg": 0.001,
    "twin_critic": False, "policy_delay": 1, "target_interval_unit": "episodes", "critic_type": "cv_critic",
    "obs_individual_obs": False, "critic_lr": None, "lr": 5e-4, "hidden_dim": 128, "t_max": 2050000,
}  # fmt: skip
EXPECTED: dict[str, dict[str, Any]] = {
    "iql": {**VALUES, **TOGETHER, "mixer": None, "use_rnn": True, "hidden_dim": 128, "lr": 3e-4,
            "epsilon_anneal_time": 200000},
    "iql_ns": {**VALUES, **APART, "mixer": None},
    "vdn": {**VALUES, **TOGETHER, "mixer": "vdn"},
    "vdn_ns": {**VALUES, **APART, "mixer": "vdn"},
    "qmix": {**VALUES, **TOGETHER, **QMIX},
    "qmix_ns": {**VALUES, **APART, **QMIX},
    "ia2c": {**A2C, **SHARED, "critic_type": "ac_critic", "entropy_coef": 0.001, "lr": 5e-4},
    "ia2c_ns": {**A2C, **SEPARATE, "critic_type": "ac_critic", "entropy_coef": 0.001, "lr": 5e-4},
    "maa2c": {**A2C, **SHARED, "critic_type": "cv_critic", "entropy_coef": 0.01, "lr": 5e-4},
    "maa2c_ns": {**A2C, **SEPARATE, "critic_type": "cv_critic", "entropy_coef": 0.01, "lr": 3e-4},
    "ippo": {**PPO, **SHARED, "critic_type": "ac_critic", "entropy_coef": 0.001},
    "ippo_ns": {**PPO, **SEPARATE, "critic_type": "ac_critic", "entropy_coef": 0.01},
    "mappo": {**PPO, **SHARED, "critic_type": "cv_critic", "entropy_coef": 0.001},
    "mappo_ns": {**PPO, **SEPARATE, "critic_type": "cv_critic", "entropy_coef": 0.01},
    "coma": {**COMA, **SHARED, "hidden_dim": 64, "lr": 3e-4, "entropy_coef": 0.001, "q_nstep": 10,
             "target_update_interval_or_tau": 200.0},
    "coma_ns": {**COMA, **SEPARATE, "obs_agent_id": True, "lr": 5e-4, "entropy_coef": 0.01},
    "pac_ns": {**PAC, **SEPARATE, "lr": 3e-4, "entropy_coef": 20.0, "target_update_interval_or_tau": 0.01},
    "pac_dcg_ns": {**PAC, **SEPARATE, "lr": 5e-4, "entropy_coef": 30.0, "target_update_interval_or_tau": 0.01,
                   "critic": "dcg", "cg_edges": "full", "cg_utilities_hidden_dim": None, "cg_payoffs_hidden_dim": None,
                   "cg_payoff_rank": None, "msg_anytime": True, "msg_iterations": 8, "msg_normalized": True,
                   "name": "pac_sarsa_dcg_ns"},
    "maddpg": {**MADDPG, "sharing": "shared", "critic_sharing": "shared", "obs_agent_id": True, "use_rnn": True,
               "batch_size": 32, "target_update_interval_or_tau": 200.0},
    "maddpg_ns": {**MADDPG, "sharing": "separate", "critic_sharing": "separate", "obs_agent_id": False,
                  "use_rnn": False, "batch_size": 16, "target_update_interval_or_tau": 0.01},
}  # fmt: skip


def test_there_are_twenty_and_five() -> None:
    assert (len(ALGORITHMS), len(ENVIRONMENTS)) == (20, 5)
    assert sorted(EXPECTED) == sorted(ALGORITHMS)
    assert {name.removesuffix("_ns") for name in ALGORITHMS} == set(epymarl.FILES)
    learners = vocabulary.ALIASES["learner"]
    assert {learners.get(x["learner"], (x["learner"],))[0] for x in ALGORITHMS.values()} <= set(REGISTRY)


@pytest.mark.parametrize("name", EXPECTED)
def test_an_algorithm_file_means_what_it_means_there(name: str, files: Path) -> None:
    settings = by_path(files, name, "gymma", LBF)
    wanted = {"name": name} | EXPECTED[name]
    assert {k: settings.values.get(k, "not read") for k in wanted} == wanted
    for cls in settings.parts.values():
        settings.part(cls)
    (notice,) = settings.notices
    assert notice == (
        f"An algorithm file of EPyMARL's: what it leaves out has EPyMARL's value, of epymarl.yaml and "
        f"{files}/default.yaml (docs/coming-from-epymarl.md)."
    )
    assert settings.source["init"] == "epymarl.yaml"
    assert settings.source["gamma"] == f"{files}/default.yaml"


@pytest.mark.parametrize("name", ALGORITHMS)
def test_without_its_default_yaml_it_means_the_same(name: str, files: Path) -> None:
    there = by_path(files, name, "gymma", LBF, "seed=1")
    (files / "default.yaml").unlink()
    alone = by_path(files, name, "gymma", LBF, "seed=1")
    differing = {k for k, v in there.values.items() if alone.values[k] != v}
    assert differing <= {"label", "local_results_path"}
    assert alone.notices[0].endswith("of epymarl.yaml (docs/coming-from-epymarl.md).")


def test_an_edited_default_yaml_counts_below_the_environment(tmp_path: Path) -> None:
    """default < environment < algorithm < command line."""
    files = write(tmp_path / "config", {"gamma": 0.9, "lr": 0.1, "t_max": 7, "test_nepisode": 7, "optim_eps": 1e-3})
    values = by_path(files, "vdn", "gymma", LBF).values
    assert (values["gamma"], values["t_max"], values["test_nepisode"]) == (0.9, 2050000, 100)
    assert values["lr"] == 0.1  # vdn.yaml has none
    assert values["optim_eps"] == 1e-8  # RMSProp's there
    values = by_path(files, "mappo", "gymma", LBF, "gamma=0.8", "optim_eps=1e-5").values
    assert [values[k] for k in ("gamma", "lr", "t_max", "optim_eps")] == [0.8, 3e-4, 20050000, 1e-5]


def test_default_yaml_by_its_path(files: Path, tmp_path: Path) -> None:
    """On its own it names no method; as the base of a file elsewhere it lies below the environment."""
    said = sentence(f"--config={files}/default.yaml", f"--env-config={files}/envs/gymma.yaml", "with", LBF)
    assert "is EPyMARL's default.yaml, which names no algorithm" in said
    own = tmp_path / "own.yaml"
    own.write_text(yamls.dump({**ALGORITHMS["mappo"], "base": "config/default.yaml"}))
    settings = run(f"--config={own}", f"--env-config={files}/envs/gymma.yaml", "with", LBF)
    beside = by_path(files, "mappo", "gymma", LBF, f"seed={settings.values['seed']}")
    assert settings.values == beside.values | {"name": "own"}
    (files / "default.yaml").write_text("gamma: [")
    assert "default.yaml is not YAML" in sentence(f"--config={files}/algs/qmix.yaml", "--env-config=maze")


def test_a_file_based_on_one_of_epymarl(files: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("base: config/algs/qmix.yaml\nlr: 0.001\noptim_eps: 0.1\n")
    settings = run(f"--config={own}", "--env-config=maze")
    wanted = [0.001, "qmix", "torch", 128000, 0.1]  # a key of one's own file has this project's meaning
    assert [settings.values[k] for k in ("lr", "mixer", "init", "t_max", "optim_eps")] == wanted
    own.write_text("base: mappo\nlr: 0.001\n")
    assert run(f"--config={own}", "--env-config=maze").values["init"] == "orthogonal"


def test_another_default_yaml_beside_a_file_is_not_read(files: Path) -> None:
    (files / "default.yaml").write_text("gamma: 0.5\n")
    assert by_path(files, "mappo", "gymma", LBF).values["gamma"] == 0.99


def test_a_key_that_means_another_thing_there_is_named(files: Path) -> None:
    path = files / "algs/mappo.yaml"
    path.write_text(path.read_text() + "optim_eps: 0.001\n")
    settings = by_path(files, "mappo", "gymma", LBF)
    assert settings.values["optim_eps"] == 1e-8
    assert settings.notices[1].startswith("'optim_eps' has no effect in EPyMARL's files: there it is RMSProp's")


def test_the_shipped_files_are_not_taken_for_epymarls() -> None:
    for path in (layers.shipped("algs") | layers.tuned()).values():
        assert not epymarl.is_algorithm(yamls.load(path, path.name))
    assert epymarl.is_defaults(DEFAULT)
    assert not epymarl.is_defaults(yamls.load(layers.CONFIGS / "default.yaml", "default.yaml"))
    settings = run(f"--config={layers.CONFIGS}/algs/mappo.yaml", "--env-config=maze")
    assert (settings.notices, settings.values["init"]) == ((), "orthogonal")


def test_outputs_are_what_the_learner_learns(files: Path) -> None:
    own = files / "algs/own.yaml"
    own.write_text(yamls.dump({**ALGORITHMS["qmix"], "agent_output_type": "pi_logits"}))
    said = sentence(f"--config={own}", "--env-config=maze")
    assert "networks give action values; use q or null" in said
    own.write_text(yamls.dump({**ALGORITHMS["mappo"], "agent_output_type": "q"}))
    assert "agents are policies; use pi_logits or null" in sentence(f"--config={own}", "--env-config=maze")


def test_qtran_of_pymarl(files: Path) -> None:
    """EPyMARL ships no file of it, but its learner has the name and keys."""
    own = files / "algs/qtran.yaml"
    keys = {"learner": "qtran_learner", "mixer": "qtran_base", "mixing_embed_dim": 64, "qtran_arch": "qtran_paper",
            "network_size": "small", "opt_loss": 1, "nopt_min_loss": 0.1}  # fmt: skip
    own.write_text(yamls.dump({**ALGORITHMS["vdn"], **keys}))
    values = run(f"--config={own}", "--env-config=maze").values
    assert [values[k] for k in ("mixer", "mixing_embed_dim", "opt_loss", "init")] == ["qtran", 64, 1.0, "torch"]


# -- environments --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENVIRONMENTS)
@pytest.mark.parametrize("algorithm", ["qmix", "mappo"])
def test_an_environment_file_means_what_it_means_there(algorithm: str, name: str, files: Path) -> None:
    given, lbf = ENVIRONMENTS[name], {"key": LBF.partition("=")[2]} if name == "gymma" else {}
    values = by_path(files, algorithm, name, *([LBF] if name == "gymma" else [])).values
    for key, value in given.items():
        if key not in ("env_args", "t_max"):
            assert values[key] == value, key
    assert values["t_max"] == (20050000 if algorithm == "mappo" else given["t_max"])
    left = {k: v for k, v in given["env_args"].items() if k not in ("seed", "pretrained_wrapper")}
    assert values["env_args"] == left | lbf


def test_environment_files_serve_methods_of_ours(files: Path) -> None:
    settings = run("--config=oappo", f"--env-config={files}/envs/gymma.yaml", "with", LBF)
    assert settings.notices == ()
    assert (settings.values["t_max"], settings.values["init"]) == (2050000, "orthogonal")


# -- what is not part of this version ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "override", "part"),
    [
        (
            "coma",
            "critic_q_fn=other",
            "critic_q_fn='other' (command line) is not offered: COMA's critic is one of action",
        ),
        ("coma", "critic_train_reps=2", "takes one step (EPyMARL's program does not read the key); use 1 or null"),
        ("coma_ns", "critic_baseline_fn=none", "COMA's baseline is the counterfactual one"),
        ("coma_ns", "common_reward=False", "COMA asks what an agent's action was worth to the team"),
        ("pac_ns", "state_value_type=ac_critic", "PAC's state values see what its critic does beside actions"),
        ("pac_dcg_ns", "duelling=True", "coordination graphs have no state values"),
        ("pac_dcg_ns", "common_reward=False", "one value of the team, which needs one reward"),
        ("pac_dcg_ns", "cg_edges=random", "cg_edges='random'"),
    ],
)
def test_values_of_actor_critics_that_are_refused(name: str, override: str, part: str, files: Path) -> None:
    def start() -> None:
        settings = by_path(files, name, "gymma", LBF, override)
        settings.check(make_env(settings.values["env"], settings.values["env_args"]).info)

    with pytest.raises(UserError) as caught:
        start()
    assert part in str(caught.value)


@pytest.mark.parametrize("name", ["ia2c_ns"])
def test_a_file_that_has_no_namesake_here_is_read_by_its_path(name: str) -> None:
    assert f"--config=PATH/src/config/algs/{name}.yaml" in sentence(f"--config={name}", "--env-config=maze")


def test_scenario_files_of_smacv2(files: Path, tmp_path: Path) -> None:
    (tmp_path / "terran_5_vs_5.yaml").write_text("env: sc2wrapped\nenv_args: {map_name: 10gen_terran}\n")
    said = sentence("--config=mappo", f"--env-config={tmp_path}/terran_5_vs_5.yaml")
    assert "use --env-config=sc2v2 with env_args.map_name=" in said


@pytest.mark.parametrize(("flag", "part"), [("-F", "local_results_path"), ("--force", "leave it"), ("-p", "config`")])
def test_flags_of_sacred(flag: str, part: str) -> None:
    said = sentence(flag, "--config=mappo", "--env-config=maze")
    assert "is a flag of sacred's" in said
    assert part in said


def test_its_search_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "search.config.yaml"
    path.write_text("exclude: null\ngrid-search: {lr: [0.0001, 0.0003]}\ngrid-search-groups: {}\n")
    with pytest.raises(UserError, match=r"a file of EPyMARL's search.py, which is not read here: .* `search:`"):
        read_sweep(path)


# -- matrix games --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "table"),
    [
        ("penalty-100", [[-100, 0, 10], [0, 2, 0], [10, 0, -100]]),
        ("penalty-0", [[0, 0, 10], [0, 2, 0], [10, 0, 0]]),
        ("penalty-25", [[-25, 0, 10], [0, 2, 0], [10, 0, -25]]),
        ("climbing", [[11, -30, 0], [-30, 7, 0], [0, 6, 5]]),
    ],
)
def test_games_of_matrixgames(key: str, table: list[list[float]]) -> None:
    """The package's payoffs (``table``) but for the names of agents and actions, paid to each agent."""
    args = {"key": f"matrixgames:{key}-nostate-v0", "time_limit": 3}
    vec = make_vec("gymma", args, 9)
    try:
        assert (vec.info.n_agents, vec.info.n_actions, vec.info.episode_limit) == (2, 3, 3)
        assert (vec.info.team_reward, vec.info.name) == (False, args["key"])
        joint = np.array([(a, b) for a in range(3) for b in range(3)])
        theirs = np.array(table)
        # climbing: agents change places; penalty: the second agent's actions in reverse
        theirs = theirs.T if key == "climbing" else theirs[:, ::-1]
        vec.reset(np.arange(9), np.arange(9))
        seen = vec.arrays.obs.copy()
        for t in range(3):
            vec.step(joint, np.ones(9, bool))
            assert (vec.arrays.reward == theirs[tuple(joint.T)][:, None]).all()
            assert (vec.arrays.obs == seen).all()
            assert (vec.arrays.terminated == (t == 2)).all()
            assert not vec.arrays.truncated.any()
    finally:
        vec.close()
    assert (seen == seen[0]).all()
    assert np.array_equal(payoff("climbing"), np.array([[11, -30, 0], [-30, 7, 6], [0, 0, 5]]))


@pytest.mark.parametrize(
    ("args", "part"),
    [
        ({"key": "matrixgames:climbing-laststate-v0"}, "use matrixgames:climbing-nostate-v0"),
        ({"key": "matrixgames:climbing-nostate-v0", "ep_length": 3}, "env_args.ep_length is not an argument"),
        ({"key": "matrixgames:climbing-nostate-v0", "time_limit": 0}, "out of range"),
        ({"key": "vmas-balance"}, "use --env-config=vmas with env_args.scenario=balance"),
    ],
)
def test_games_that_cannot_be_played(args: dict[str, Any], part: str) -> None:
    with pytest.raises(UserError, match=part):
        make_env("gymma", args)


def test_other_games_of_the_package_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matrixgames", None)
    with pytest.raises(UserError, match="matrixgames"):
        make_env("gymma", {"key": "matrixgames:pdilemma-nostate-v0"})


# -- they run --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALGORITHMS)
def test_each_file_trains(name: str, files: Path, tmp_path: Path) -> None:
    """A few updates of each, on a matrix game by EPyMARL's id with the default rewards: the sum over both agents."""
    off_policy = ALGORITHMS[name]["learner"] in ("q_learner", "maddpg_learner")
    done = train(
        tmp_path / "run", f"{files}/algs/{name}.yaml", f"{files}/envs/gymma.yaml",
        {"key": "matrixgames:penalty-25-nostate-v0", "time_limit": 2},
        t_max=2 * (ALGORITHMS[name].get("batch_size", 32) + 2) if off_policy else 60,
        epochs=..., batch_size_run=..., hidden_dim=8, log_interval=20, test_interval=40, runner_log_interval=10,
        learner_log_interval=10,
    )  # fmt: skip
    # with one environment updates begin once a batch's episodes are there, and two more come; of 30 with ten there are
    # three
    assert done.loop.learner.updates == 3
    points = read_metrics(tmp_path / "run")
    assert all(math.isfinite(v) for p in points for v in p["metrics"].values())
    returns = [p["metrics"]["return_mean"] for p in points if "return_mean" in p["metrics"]]
    assert returns
    assert all(-100 <= r <= 40 for r in returns)  # two rounds of at most 10 and at least -25 for both
    assert "test_return_mean" in points[0]["metrics"]


# -- the page about them -------------------------------------------------------------------------------------------


def test_every_key_of_its_files_has_a_row() -> None:
    keys = {key for values in (DEFAULT, *ALGORITHMS.values(), *ENVIRONMENTS.values()) for key in values}
    assert len(keys) == 86
    assert keys <= vocabulary.KNOWN
    rows = re.findall(r"^\| `([\w.]+)` \| (same|differs|alias|inert|refused|other) \|", PAGE, re.M)
    assert {key for key, _ in rows} == vocabulary.KNOWN | set(vocabulary.REFUSED)
    assert set(vocabulary.DIFFERS) <= set(vocabulary.READ)


def test_the_page_has_the_values_of_both(files: Path) -> None:
    assert with_tables(PAGE, files) == PAGE, "run: python tests/epymarl_files.py"


def test_the_switches_of_the_page_exist(files: Path) -> None:
    table = PAGE.partition("## Differences on purpose")[2].partition("###")[0]
    cells = [line.split("|")[-2] for line in table.splitlines() if line.startswith("| ")][2:]
    switches = {switch for cell in cells for switch in re.findall(r"`([\w.]+=[^`]*)`", cell)}
    assert len(switches) >= 8
    for switch in switches:
        environment = "sc2v2" if switch.startswith("env_args.") else "maze"
        said = []
        for name in ("ippo", "ia2c", "vdn"):
            try:
                run(f"--config={files}/algs/{name}.yaml", f"--env-config={environment}", "with", switch)
            except UserError as error:
                said.append(str(error))
        assert len(said) < 3, switch
        assert all("is not read by" in sentence for sentence in said), said


# -- EPyMARL's README ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["qmix", "mappo"])
@pytest.mark.parametrize(
    ("key", "limit"),
    [
        *[(f"matrixgames:{game}-nostate-v0", 25) for game in ("climbing", "penalty-0", "penalty-50", "penalty-75")],
        *[(f"lbforaging:Foraging-{task}-v3", 50) for task in ("2s-8x8-2p-2f-coop", "15x15-4p-5f")],
        ("rware:rware-tiny-2ag-v2", 500), ("pz-mpe-simple-spread-v3", 25), ("pz-mpe-simple-speaker-listener-v4", 25),
    ],
)  # fmt: skip
def test_its_commands_as_they_are_typed(algorithm: str, key: str, limit: int) -> None:
    if key.startswith("pz"):
        pytest.importorskip("mpe2")
    words = (f"--config={algorithm}", "--env-config=gymma", "with", f"env_args.time_limit={limit}")
    settings = run(*words, f"env_args.key={key}")
    env = make_env(settings.values["env"], settings.values["env_args"])
    try:
        assert env.info.name == key
        assert env.info.episode_limit == limit
        settings.check(env.info)
    finally:
        env.close()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("--config=qmix --env-config=gymma with env_args.key=pz-mpe-simple-tag-v3 "
         "env_args.pretrained_wrapper=PretrainedTag", "pretrained opponents are not part of this version"),
        ("--config=qmix --env-config=gymma with env_args.key=vmas-balance env_args.time_limit=150",
         "use --env-config=vmas with env_args.scenario=balance"),
        ("--config=vdn --env-config=gymma with env_args.time_limit=50 env_args.key=lbforaging:Foraging-8x8-2p-3f-v3 "
         "common_reward=False", "one value of the team"),
        ("--config=qmix --env-config=sc2 with env_args.map_name=3s5z", "oamarl install sc2"),
        ("--config=qmix --env-config=sc2v2 with env_args.map_name=protoss_5_vs_5", "oamarl install sc2v2"),
        ("--config=qmix --env-config=smaclite with env_args.time_limit=150 env_args.map_name=MMM",
         "oamarl install smaclite"),
    ],
)  # fmt: skip
def test_its_commands_that_end_in_a_sentence(words: str, part: str) -> None:
    module = {"sc2": "smac", "sc2v2": "smacv2", "smaclite": "smaclite"}.get(words.split("=")[2].split()[0])
    if module is not None and importlib.util.find_spec(module):
        pytest.skip("the game may be there")

    def start() -> None:
        settings = run(*words.split())
        settings.check(make_env(settings.values["env"], settings.values["env_args"]).info)

    with pytest.raises(UserError) as caught:
        start()
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)
