"""The keys and values of EPyMARL's YAMLs (of September 2024), laid out in a folder as its source tree has them.

``python tests/epymarl_files.py`` writes the tables of values in docs/coming-from-epymarl.md anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from oamarl.utils.schema import yamls

Values = dict[str, Any]

DEFAULT: Values = {
    "runner": "episode", "mac": "basic_mac", "env": "sc2", "common_reward": True, "reward_scalarisation": "sum",
    "env_args": {}, "batch_size_run": 1, "test_nepisode": 20, "test_interval": 2000, "test_greedy": True,
    "log_interval": 2000, "runner_log_interval": 2000, "learner_log_interval": 2000, "t_max": 10000, "use_cuda": True,
    "buffer_cpu_only": True, "use_tensorboard": False, "use_wandb": False, "wandb_team": None, "wandb_project": None,
    "wandb_mode": "offline", "wandb_save_model": False, "save_model": False, "save_model_interval": 50000,
    "checkpoint_path": "", "evaluate": False, "render": False, "load_step": 0, "save_replay": False,
    "local_results_path": "results", "gamma": 0.99, "batch_size": 32, "buffer_size": 32, "lr": 0.0005,
    "optim_alpha": 0.99, "optim_eps": 0.00001, "grad_norm_clip": 10, "add_value_last_step": True, "agent": "rnn",
    "hidden_dim": 64, "obs_agent_id": True, "obs_last_action": True, "repeat_id": 1, "label": "default_label",
    "hypergroup": None,
}  # fmt: skip

#: in every algorithm file (PAC: standardise_rewards False, and no standardise_returns)
_ALL: Values = {"obs_last_action": False, "obs_individual_obs": False, "standardise_returns": False,
                "standardise_rewards": True}  # fmt: skip
_NS: Values = {"obs_agent_id": False, "mac": "non_shared_mac", "agent": "rnn_ns", "use_rnn": False}
_ON_POLICY: Values = {
    **_ALL, "action_selector": "soft_policies", "mask_before_softmax": True, "runner": "parallel", "buffer_size": 10,
    "batch_size_run": 10, "batch_size": 10, "agent_output_type": "pi_logits", "q_nstep": 5, "t_max": 20050000,
}  # fmt: skip
_SHARED: Values = {"obs_agent_id": True, "use_rnn": True, "hidden_dim": 128, "target_update_interval_or_tau": 0.01}
_SEPARATE: Values = {**_NS, "target_update_interval_or_tau": 200}
_A2C: Values = {**_ON_POLICY, "learner": "actor_critic_learner"}
_PPO: Values = {**_ON_POLICY, "learner": "ppo_learner", "epochs": 4, "eps_clip": 0.2}
_Q: Values = {
    **_ALL, "action_selector": "epsilon_greedy", "epsilon_start": 1.0, "epsilon_finish": 0.05,
    "epsilon_anneal_time": 50000, "evaluation_epsilon": 0.0, "runner": "episode", "buffer_size": 5000,
    "target_update_interval_or_tau": 200, "agent_output_type": "q", "learner": "q_learner", "double_q": True,
}  # fmt: skip
_Q_SHARED: Values = {"obs_agent_id": True, "use_rnn": False}
_QMIX: Values = {"mixer": "qmix", "mixing_embed_dim": 32, "hypernet_layers": 2, "hypernet_embed": 64}
_COMA: Values = {
    **_ON_POLICY, "learner": "coma_learner", "target_update_interval_or_tau": 200, "critic_q_fn": "coma",
    "critic_baseline_fn": "coma", "critic_train_mode": "seq", "critic_train_reps": 1,
}  # fmt: skip
_MADDPG: Values = {**_ALL, "runner": "episode", "buffer_size": 50000, "mac": "maddpg_mac", "reg": 0.001, "lr": 0.0005,
                   "learner": "maddpg_learner", "agent_output_type": "pi_logits", "hidden_dim": 128}  # fmt: skip
_PAC: Values = {
    **{k: v for k, v in _ON_POLICY.items() if k != "standardise_returns"}, **_NS, "standardise_rewards": False,
    "target_update_interval_or_tau": 0.01, "q_nstep": 10, "final_entropy_coef": 0.01, "entropy_end_ratio": 0.8,
    "state_value_type": "cv_critic_ns", "t_max": 500500,
}  # fmt: skip

ALGORITHMS: dict[str, Values] = {
    "iql": {**_Q, "obs_agent_id": True, "use_rnn": True, "hidden_dim": 128, "lr": 0.0003, "mixer": None,
            "epsilon_anneal_time": 200000},
    "iql_ns": {**_Q, **_NS, "mixer": None},
    "vdn": {**_Q, **_Q_SHARED, "mixer": "vdn"},
    "vdn_ns": {**_Q, **_NS, "mixer": "vdn"},
    "qmix": {**_Q, **_Q_SHARED, **_QMIX},
    "qmix_ns": {**_Q, **_NS, **_QMIX},
    "ia2c": {**_A2C, **_SHARED, "lr": 0.0005, "entropy_coef": 0.001, "critic_type": "ac_critic"},
    "ia2c_ns": {**_A2C, **_SEPARATE, "lr": 0.0005, "entropy_coef": 0.001, "critic_type": "ac_critic_ns"},
    "maa2c": {**_A2C, **_SHARED, "lr": 0.0005, "entropy_coef": 0.01, "critic_type": "cv_critic"},
    "maa2c_ns": {**_A2C, **_SEPARATE, "lr": 0.0003, "entropy_coef": 0.01, "critic_type": "cv_critic_ns"},
    "ippo": {**_PPO, **_SHARED, "lr": 0.0003, "entropy_coef": 0.001, "critic_type": "ac_critic"},
    "ippo_ns": {**_PPO, **_SEPARATE, "lr": 0.0003, "entropy_coef": 0.01, "critic_type": "ac_critic_ns"},
    "mappo": {**_PPO, **_SHARED, "lr": 0.0003, "entropy_coef": 0.001, "critic_type": "cv_critic"},
    "mappo_ns": {**_PPO, **_SEPARATE, "lr": 0.0003, "entropy_coef": 0.01, "critic_type": "cv_critic_ns"},
    "coma": {**_COMA, "obs_agent_id": True, "use_rnn": True, "hidden_dim": 64, "lr": 0.0003, "entropy_coef": 0.001,
             "q_nstep": 10, "critic_type": "coma_critic"},
    "coma_ns": {**_COMA, **_NS, "obs_agent_id": True, "lr": 0.0005, "entropy_coef": 0.01,
                "critic_type": "coma_critic_ns"},
    "maddpg": {**_MADDPG, "obs_agent_id": True, "batch_size": 32, "target_update_interval_or_tau": 200,
               "use_rnn": True, "critic_type": "maddpg_critic"},
    "maddpg_ns": {**_MADDPG, "obs_agent_id": False, "agent": "rnn_ns", "batch_size": 16, "use_rnn": False,
                  "target_update_interval_or_tau": 0.01, "critic_type": "maddpg_critic_ns"},
    "pac_ns": {**_PAC, "name": "pac_sarsa_ns", "lr": 0.0003, "learner": "pac_learner", "initial_entropy_coef": 20.0,
               "critic_type": "pac_critic_ns"},
    "pac_dcg_ns": {**_PAC, "name": "pac_sarsa_dcg_ns", "lr": 0.0005, "learner": "pac_dcg_learner",
                   "initial_entropy_coef": 30.0, "critic_type": "pac_dcg_critic_ns", "cg_edges": "full",
                   "cg_utilities_hidden_dim": None, "cg_payoffs_hidden_dim": None, "cg_payoff_rank": None,
                   "duelling": False, "msg_anytime": True, "msg_iterations": 8, "msg_normalized": True},
}  # fmt: skip

_CADENCE: Values = {
    "test_greedy": True, "test_nepisode": 100, "test_interval": 50000, "log_interval": 50000,
    "runner_log_interval": 10000, "learner_log_interval": 10000, "t_max": 2050000,
}  # fmt: skip
_SC2: Values = {
    "continuing_episode": False, "difficulty": "7", "game_version": None, "map_name": "3m", "move_amount": 2,
    "obs_all_health": True, "obs_instead_of_state": False, "obs_last_action": False, "obs_own_health": True,
    "obs_pathing_grid": False, "obs_terrain_height": False, "obs_timestep_number": False, "reward_death_value": 10,
    "reward_defeat": 0, "reward_negative_scale": 0.5, "reward_only_positive": True, "reward_scale": True,
    "reward_scale_rate": 20, "reward_sparse": False, "reward_win": 200, "replay_dir": "", "replay_prefix": "",
    "state_last_action": False, "state_timestep_number": False, "step_mul": 8, "seed": None, "heuristic_ai": False,
    "debug": False,
}  # fmt: skip
ENVIRONMENTS: dict[str, Values] = {
    "gymma": {"env": "gymma", "env_args": {"key": None, "time_limit": 100, "pretrained_wrapper": None}, **_CADENCE},
    "sc2": {"env": "sc2", "env_args": {**_SC2, "heuristic_rest": False}, **_CADENCE},
    "sc2_beta": {"env": "sc2", "env_args": _SC2, **_CADENCE, "test_nepisode": 24, "test_interval": 20000,
                 "log_interval": 20000, "runner_log_interval": 20000, "learner_log_interval": 20000,
                 "t_max": 10050000},
    "sc2v2": {"env": "sc2v2", "env_args": {"map_name": None, "time_limit": 150}, **_CADENCE},
    "smaclite": {"env": "smaclite", "env_args": {"map_name": None, "time_limit": 150, "use_cpp_rvo2": False},
                 **_CADENCE},
}  # fmt: skip


def write(folder: Path, default: Values | None = None) -> Path:
    """Write all files under ``folder``, with ``default`` among the values of default.yaml; returns the folder."""
    files = {"default.yaml": {**DEFAULT, **(default or {})}}
    files |= {f"algs/{name}.yaml": {**values, "name": values.get("name", name)} for name, values in ALGORITHMS.items()}
    files |= {f"envs/{name}.yaml": values for name, values in ENVIRONMENTS.items()}
    for name, values in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # its vdn.yaml has this line a second time
        again = "use_rnn: False\n" if name == "algs/vdn.yaml" else ""
        path.write_text(yamls.dump(values) + again, encoding="utf-8")
    return folder


#: algorithms of one name here and in EPyMARL whose values differ alike
GROUPS = (
    ("mappo", "ippo"),
    ("mappo_ns", "ippo_ns"),
    ("ia2c",),
    ("maa2c",),
    ("maa2c_ns",),
    ("coma",),
    ("coma_ns",),
    ("pac_ns",),
    ("pac_dcg_ns",),
    ("iql",),
    ("vdn",),
    ("qmix",),
    ("vdn_ns",),
    ("qmix_ns",),
    ("maddpg",),
    ("maddpg_ns",),
)
#: keys whose values say nothing of the method, or follow from others
_ASIDE = {
    "name",
    "seed",
    "label",
    "local_results_path",
    "env_args",
    "head_gain",
    "learner",
    "action_selector",
    "batch_size",
}


def differing(here: Values, there: Values) -> list[str]:
    """Rows of a table of the keys that differ: ``| key | here | there |``."""
    from oamarl.settings import NON_LEARNING_KEYS

    def cell(values: Values, key: str) -> str:
        return f"`{yamls.inline(values[key])}`" if key in values else "not read"

    keys = sorted((set(here) | set(there)) - NON_LEARNING_KEYS - _ASIDE)
    rows = [(key, cell(here, key), cell(there, key)) for key in keys]
    return [f"| `{key}` | {a} | {b} |" for key, a, b in rows if a != b]


def with_tables(page: str, folder: Path) -> str:
    """Return docs/coming-from-epymarl.md with its tables of values that differ as they should be.

    Args:
        page: as it is.
        folder: where :func:`write` has written the files.
    """
    from oamarl.parts import resolve
    from oamarl.utils.schema.command_line import Request

    def values(config: str) -> Values:
        key = {"key": "lbforaging:Foraging-8x8-2p-3f-v3"}
        return resolve(Request(config, "gymma", {"env_args": key, "seed": 1})).values

    for group in GROUPS:
        head = f"### {' and '.join(f'`{name}`' for name in group)}\n"
        tables = ["\n".join(differing(values(n), values(f"{folder}/algs/{n}.yaml"))) for n in group]
        assert len(set(tables)) == 1, f"{group} need tables of their own"
        before, found, rest = page.partition(head)
        assert found, f"the page has no part '{head.strip()}'"
        _, following, after = rest.partition("\n#")
        page = f"{before}{head}\n| key | by name | EPyMARL's file |\n|---|---|---|\n{tables[0]}\n{following}{after}"
    return page


if __name__ == "__main__":
    import tempfile

    PAGE = Path(__file__).resolve().parent.parent / "docs" / "coming-from-epymarl.md"
    with tempfile.TemporaryDirectory() as place:
        PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), write(Path(place) / "config")), encoding="utf-8")
