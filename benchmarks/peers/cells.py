"""What is compared with what: each cell names its sides, and each side the exact configuration that it runs with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .cell import NEVER, Cell, Side, words
from .harl import harl_cells

LBF, RWARE = "lbforaging:Foraging-8x8-2p-3f-v3", "rware:rware-tiny-4ag-v2"
LBF_COOP = "lbforaging:Foraging-8x8-2p-2f-coop-v3"
#: one algorithm for both: EPyMARL's MAPPO, key by key (the values are its own mappo.yaml's, but for the network)
COMMON = {
    "seed": 1, "t_max": NEVER, "batch_size_run": 10, "hidden_dim": 128, "epochs": 4, "eps_clip": 0.2, "lr": 0.0003,
    "gamma": 0.99, "q_nstep": 5, "entropy_coef": 0.001, "grad_norm_clip": 10, "target_update_interval_or_tau": 0.01,
    "standardise_returns": False, "standardise_rewards": True, "obs_agent_id": True, "obs_last_action": False,
    "obs_individual_obs": False, "critic_type": "cv_critic", "add_value_last_step": True, "common_reward": True,
    "log_interval": 10_000, "test_interval": NEVER,
}  # fmt: skip
#: what only this project has a word for, at EPyMARL's behaviour; no tests, which EPyMARL cannot do without (it has
#: one at the start, which lies before the measured time)
OURS = {
    "activation": "relu", "gae_lambda": None, "lr_schedule": "constant", "normalise_advantage": False,
    "test_nepisode": 0,
}  # fmt: skip
THEIRS = {"batch_size": 10, "buffer_size": 10, "runner_log_interval": 10_000, "learner_log_interval": 10_000,
          "test_nepisode": 10}  # fmt: skip
#: Q-learning for both: the values of EPyMARL's qmix.yaml, vdn.yaml and default.yaml. Actions are random throughout
#: (the networks are evaluated all the same), so that both play episodes of the same lengths whatever they have learned.
VALUE_BASED = {
    "seed": 1, "t_max": NEVER, "runner": "episode", "batch_size_run": 1, "buffer_size": 5000, "batch_size": 32,
    "lr": 0.0005, "gamma": 0.99, "grad_norm_clip": 10, "target_update_interval_or_tau": 200, "double_q": True,
    "standardise_returns": False, "standardise_rewards": True, "obs_agent_id": True, "obs_last_action": False,
    "common_reward": True, "epsilon_start": 1.0, "epsilon_finish": 1.0, "log_interval": 10_000, "test_interval": NEVER,
}  # fmt: skip
#: what only this project has a word for, at EPyMARL's behaviour
OUR_VALUES = {
    "td_lambda": None, "q_nstep": None, "updates_per_step": None, "standardise_rewards_mean": True, "init": "torch",
    "test_nepisode": 0,
}  # fmt: skip
THEIR_VALUES = {"runner_log_interval": 10_000, "learner_log_interval": 10_000, "test_nepisode": 1}
#: episodes before it is measured: more than a batch of 32, so that each one is followed by an update
LEARNING = 40
#: for comparisons among this project's own methods: their shipped YAMLs, but for these
OWN = {"seed": 1, "t_max": NEVER, "hidden_dim": 128, "epochs": 4, "test_nepisode": 0, "log_interval": 10_000}


def environment(name: str, quick: bool) -> dict[str, Any]:
    """Return ``env_args`` of ``lbf`` or ``rware`` (whose episodes are short in a quick run)."""
    return {"key": LBF, "time_limit": 50} if name == "lbf" else {"key": RWARE, "time_limit": 100 if quick else 500}


def pair(env: Mapping[str, Any], rnn: bool, kind: str) -> tuple[Side, Side]:
    """MAPPO here and in EPyMARL."""
    ours = words("mappo", env, **COMMON, use_rnn=rnn, **OURS)
    theirs = words("mappo", env, **COMMON, use_rnn=rnn, **THEIRS)
    return Side("oamarl", "oamarl", {"kind": kind, "words": ours}), Side(
        "EPyMARL", "epymarl", {"kind": kind, "words": theirs}
    )


def own(name: str, config: str, env: Mapping[str, Any], kind: str = "learner", **settings: Any) -> Side:
    """One of this project's methods by itself; repeated updates start from the same state each time."""
    spec = {"kind": kind, "words": words(config, env, **{**OWN, **settings}), "restore": True}
    return Side(name, "oamarl", spec)


def cells(quick: bool = False, cores: int = 2) -> list[Cell]:
    """Return every cell; ``cores`` is the number of processes that random stepping uses."""
    found = []
    for name in ("lbf", "rware"):
        env, title = environment(name, quick), {"lbf": "LBF 8x8-2p-3f", "rware": "RWARE tiny-4ag"}[name]
        for net, rnn, target in (("mlp", False, 10 if name == "lbf" else 6), ("gru", True, 4)):
            found.append(
                Cell(
                    f"{name}-{net}", f"{title}, MAPPO {net.upper()}-128, end to end", "steps", pair(env, rnn, "run"),
                    "EPyMARL", (">=", target), quick=(name, net) != ("rware", "mlp"),
                )
            )  # fmt: skip
        found.append(
            Cell(
                f"{name}-learner", f"{title}, MAPPO GRU-128, one update on the same batch", "updates",
                pair(env, True, "learner"), "EPyMARL", (">=", 4 if name == "lbf" else 6), quick=name == "lbf",
            )
        )  # fmt: skip
        play = Side("random", "random", {"kind": "run", **env, "processes": cores})
        ours, theirs = pair(env, False, "collect")
        stock = Side("oamarl, stock", "oamarl", pair({**env, "quick": False}, False, "collect")[0].spec)
        found.append(
            Cell(
                f"{name}-collect", f"{title}, collection without learning (MLP-128) against random stepping",
                "steps", (ours, play, theirs, stock), "random", (">=", 0.7 if name == "lbf" else 0.8),
                note=f"random: {cores} processes, each stepping one stock environment; EPyMARL: its collection alone; "
                "stock: the package's own steps (env_args.quick=False)",
            )
        )  # fmt: skip
    return [
        *found,
        mamujoco_cell(cores),
        football_cell(cores),
        *vmas_cells(cores),
        *harl_cells(),
        *value_cells(),
        *own_cells(),
        *peer_cells(quick),
    ]


def mamujoco_cell(cores: int) -> Cell:
    """Collection on Multi-Agent MuJoCo against random stepping of Gymnasium's own task, one process a core."""
    ours = own(
        "oamarl", "mappo", {"scenario": "HalfCheetah", "agent_conf": "2x3"}, "collect", env_config="mamujoco",
        runner="rollout", batch_size_run=20, rollout_length=200,
    )  # fmt: skip
    play = {"kind": "run", "key": "HalfCheetah-v5", "time_limit": 1000, "processes": cores}
    return Cell(
        "mamujoco-collect", "HalfCheetah 2x3, collection without learning (MLP-128) against random stepping", "steps",
        (ours, Side("random", "random", {**play, "wrapped": True}), Side("random, bare", "random", play)), "random",
        (">=", 0.85),
        note=f"random: {cores} processes, each stepping gymnasium.make('HalfCheetah-v5'); bare: without the wrappers",
    )  # fmt: skip


def football_cell(cores: int) -> Cell:
    """Collection on Google Research Football against random stepping of its own environment, one process a core."""
    scenario = "academy_pass_and_shoot_with_keeper"
    ours = own(
        "oamarl", "mappo", {"map_name": scenario, "n_agents": 2}, "collect", env_config="gfootball",
        runner="rollout", batch_size_run=8, rollout_length=200,
    )  # fmt: skip
    game = {"env_name": scenario, "number_of_left_players_agent_controls": 2, "logdir": ""}
    shown = {"representation": "simple115v2", "rewards": "scoring,checkpoints"}
    play = {"kind": "run", "time_limit": 401, "processes": cores}
    return Cell(
        "football-collect", "Football pass and shoot, collection without learning (MLP-128) against random stepping",
        "steps",
        (
            ours, Side("random", "random", {**play, "football": {**game, **shown}}),
            Side("random, raw", "random", {**play, "football": {**game, "representation": "raw"}}),
        ),
        "random", (">=", 0.9),
        note=f"random: {cores} processes, each stepping gfootball's create_environment; raw: its observations and "
        "rewards are not made into vectors",
    )  # fmt: skip


def vmas_cells(cores: int) -> list[Cell]:
    """Collection on VMAS against its own random stepping, and MAPPO here and in BenchMARL; one process each."""
    found = []
    for worlds in (32, 1024):
        ours = own(
            "oamarl", "mappo", {"scenario": "balance"}, "collect", env_config="vmas", runner="rollout",
            batch_size_run=worlds, rollout_length=100, hidden_dim=64,
        )  # fmt: skip
        given = {"scenario": "balance", "num_envs": worlds, "continuous_actions": False, "max_steps": 100}
        play = {"kind": "run", "time_limit": 100, "processes": 1, "vmas": given}
        found.append(
            Cell(
                f"vmas-collect-{worlds}",
                f"VMAS balance, {worlds} environments, collection without learning (MLP-64) against random stepping",
                "steps", (ours, Side("random", "random", play)), "random", (">=", 0.85),
                note="random: env.step(env.get_random_actions()) in one process; all worlds are reset together",
            )
        )  # fmt: skip
    ours = own(
        "oamarl", "mappo", {"scenario": "balance", "n_agents": 3}, "run", env_config="vmas", runner="rollout",
        batch_size_run=1024, rollout_length=100, num_minibatches=4, lr=0.0005, lr_schedule="constant", entropy_coef=0.0,
        standardise_returns=False,
    )  # fmt: skip
    frames = 1024 * 100
    spec = {
        "kind": "run", "suite": "VmasTask", "task": "BALANCE", "task_config": {"max_steps": 100, "n_agents": 3},
        "cells": [128, 128], "threads": cores, "algorithm": {"lmbda": 0.95, "entropy_coef": 0.0},
        "experiment": {
            **_EXPERIMENT, "on_policy_collected_frames_per_batch": frames, "on_policy_n_envs_per_worker": 1024,
            "on_policy_minibatch_size": frames // 4,
        },
    }  # fmt: skip
    found.append(
        Cell(
            "vmas-benchmarl",
            "VMAS balance, 1,024 environments x 100 steps, MAPPO MLP-128, 4 epochs of 4 mini-batches, end to end",
            "steps", (ours, Side("BenchMARL", "benchmarl", spec)), "BenchMARL", (">=", 2),
        )
    )  # fmt: skip
    return found


def value_cells() -> list[Cell]:
    """Q-learning here and in EPyMARL at EPyMARL's cadence: one environment, and one update after each episode."""
    found = []
    for task, key in (("lbf", LBF), ("lbf-coop", LBF_COOP)):
        title = f"LBF {key.split('-', 1)[1].removesuffix('-v3')}"
        for method, net in (("qmix", "mlp"), ("vdn", "mlp"), ("qmix", "gru"), ("vdn", "gru")):
            env, values = {"key": key, "time_limit": 50}, {**VALUE_BASED, "use_rnn": net == "gru"}
            values["hidden_dim"] = {"mlp": 64, "gru": 128}[net]
            sides = tuple(
                Side(
                    name, program,
                    {"kind": "run", "words": words(method, env, **values, **own), "warm_iterations": LEARNING},
                )
                for name, program, own in (("oamarl", "oamarl", OUR_VALUES), ("EPyMARL", "epymarl", THEIR_VALUES))
            )  # fmt: skip
            found.append(
                Cell(
                    f"{task}-{method}-{net}", f"{title}, {method.upper()} {net.upper()}-{values['hidden_dim']}, one "
                    "environment and an update after each episode, end to end",
                    "steps", sides, "EPyMARL", (">=", 4), quick=(task, net) == ("lbf", "mlp"),
                )
            )  # fmt: skip
    return found


def players(n: int) -> dict[str, Any]:
    """LBF with n agents."""
    return {"key": f"lbforaging:Foraging-8x8-{n}p-3f-v3", "time_limit": 50}


def own_cells() -> list[Cell]:
    """Return the comparisons among this project's methods."""
    found = []
    for slots, limit in ((10, 2.0), (64, 1.3)):
        for n in (3, 5, 8):
            sides = tuple(
                own(label, config, players(n), batch_size_run=slots)
                for label, config in (("HAPPO", "happo"), ("MAPPO non-shared", "mappo_ns"))
            )
            found.append(
                Cell(
                    f"happo-{n}p-{slots}env", f"LBF {n} agents, {slots} environments, MLP-128: one update", "update",
                    sides, "MAPPO non-shared", ("<=", limit), quick=(n, slots) == (8, 10),
                )
            )  # fmt: skip
    for slots in (10, 64):
        base = own("HAPPO", "happo", players(5), batch_size_run=slots)
        for mode, measure in (("frequency", "update"), ("sample", "update"), ("weights", "sample")):
            side = own(f"OAPPO {mode}", "oappo", players(5), batch_size_run=slots, reuse_mode=mode)
            title = f"LBF 5 agents, {slots} environments, MLP-128: OAPPO {mode} against HAPPO"
            found.append(
                Cell(
                    f"oappo-{mode}-{slots}env", title, measure, (side, base), "HAPPO", ("<=", 1.15),
                    quick=(mode, slots) == ("weights", 10),
                )
            )  # fmt: skip
    many = {"key": "lbforaging:Foraging-20x20-9p-5f-v3", "players": 30, "time_limit": 50}
    sides = tuple(own(f"OAPPO {mode}", "oappo", many, reuse_mode=mode) for mode in ("weights", "frequency"))
    found.append(
        Cell(
            "oappo-30", "LBF 20x20, 30 agents, MLP-128: one update (all 900 pairs may be in use)", "update",
            (*sides, own("HAPPO", "happo", many)), "HAPPO",
        )
    )  # fmt: skip
    return found


def peer_cells(quick: bool) -> list[Cell]:
    """Return the comparisons with packages of PyPI."""
    env = environment("lbf", quick)
    ours = pair(env, True, "run")[0]
    zoo = words(
        "mappo", {**env, "seed": 1}, **{k: v for k, v in (COMMON | THEIRS).items() if k not in _NOT_ZOO}, use_rnn=True
    )
    spread = words(
        "mappo", {"key": "pz-mpe-simple-spread-v3", "time_limit": 25}, **OWN, batch_size_run=10, batch_size=40,
        lr=0.0005, lr_schedule="constant", gae_lambda=0.95, entropy_coef=0.0, standardise_returns=False,
    )  # fmt: skip
    bench = tuple(
        Side(
            f"BenchMARL {label}",
            "benchmarl",
            {"kind": "run", **BENCHMARL, "experiment": {**_EXPERIMENT, "parallel_collection": many}},
        )
        for label, many in (("serial", False), ("10 processes", True))
    )
    return [
        Cell(
            "lbf-gru-pymarlzooplus", "LBF 8x8-2p-3f, MAPPO GRU-128, end to end", "steps",
            (ours, Side("pymarlzooplus", "pymarlzooplus", {"kind": "run", "words": zoo})), "pymarlzooplus",
        ),
        Cell(
            "spread-mlp-benchmarl", "MPE simple-spread, 3 agents, MAPPO MLP-128, 1000 steps a batch, end to end",
            "steps",
            (Side("oamarl", "oamarl", {"kind": "run", "words": spread}), *bench), "BenchMARL serial",
            note="another code of the same game: mpe2 here, pettingzoo.mpe there",
        ),
    ]  # fmt: skip


#: pymarlzooplus takes the seed in env_args, and has no word for these
_NOT_ZOO = ("seed", "common_reward", "add_value_last_step")
_EXPERIMENT = {
    "evaluation": False, "render": False, "loggers": [], "create_json": False, "prefer_continuous_actions": False,
    "on_policy_collected_frames_per_batch": 1000, "on_policy_n_envs_per_worker": 10, "on_policy_n_minibatch_iters": 4,
    "on_policy_minibatch_size": 1000, "max_n_frames": NEVER, "lr": 0.0005, "gamma": 0.99,
}  # fmt: skip
BENCHMARL: dict[str, Any] = {
    "suite": "PettingZooTask", "task": "SIMPLE_SPREAD", "task_config": {"max_cycles": 25}, "cells": [128, 128],
    "threads": 1, "algorithm": {"lmbda": 0.95, "entropy_coef": 0.0},
}  # fmt: skip
