"""EPyMARL's configuration keys and what each of them does here.

A key that some part of the run reads needs no entry. The rest of the vocabulary is in one of these tables:

| status | meaning |
|---|---|
| alias | another way to write something that is read (:data:`ALIASES`) |
| inert | accepted and without effect; one notice (:data:`INERT`) |
| refused | one value is what happens here anyway, any other is an error (:data:`REFUSED`) |
| other | belongs to methods that are not the chosen one: like every known key that is not read (:data:`OTHER`) |

:data:`READ` names the keys that parts of this version are expected to read, for the reference page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import UserError, one_of

#: key -> {EPyMARL's value: (value here, key that says the same explicitly, its value)}
ALIASES: dict[str, dict[str, tuple[str, str, str]]] = {
    "mac": {"non_shared_mac": ("basic_mac", "sharing", "separate")},
    "agent": {"rnn_ns": ("rnn", "sharing", "separate")},
    "critic_type": {
        "ac_critic_ns": ("ac_critic", "critic_sharing", "separate"),
        "cv_critic_ns": ("cv_critic", "critic_sharing", "separate"),
    },
}

#: key -> why it has no effect
INERT: dict[str, str] = {
    "buffer_cpu_only": "there is no replay buffer; batches go to the device whole",
    "buffer_size": "on-policy methods keep no replay buffer",
    "hypergroup": "it names a group of runs for one laboratory's tools",
    "learner_log_interval": "log_interval holds for all logs",
    "load_step": "the newest intact checkpoint of checkpoint_path is loaded; name the file itself for another",
    "optim_alpha": "it is RMSProp's; the optimiser is Adam",
    "repeat_id": "it numbers repetitions for one laboratory's tools",
    "runner_log_interval": "log_interval holds for all logs",
}


@dataclass(frozen=True)
class Only:
    """The values of a key that mean what happens here anyway, and what to say about any other."""

    allowed: tuple[Any, ...]
    instead: str


REFUSED: dict[str, Only] = {
    "action_selector": Only(("soft_policies", "multinomial", None), "policies are sampled"),
    "agent_output_type": Only(("pi_logits", None), "agents are policies"),
    "mask_before_softmax": Only((True, None), "illegal actions never have probability"),
    "env_args.pretrained_wrapper": Only((None,), "pretrained opponents are not part of this version"),
    "env_args.seed": Only((None,), "`seed` seeds every episode"),
}

#: key -> what it belongs to
OTHER: dict[str, str] = {
    "cg_edges": "coordination graphs",
    "cg_payoff_rank": "coordination graphs",
    "cg_payoffs_hidden_dim": "coordination graphs",
    "cg_utilities_hidden_dim": "coordination graphs",
    "critic_baseline_fn": "COMA",
    "critic_q_fn": "COMA",
    "critic_train_mode": "COMA",
    "critic_train_reps": "COMA",
    "double_q": "Q-learning",
    "duelling": "coordination graphs",
    "entropy_end_ratio": "Pareto actor-critic",
    "epsilon_anneal_time": "epsilon-greedy exploration",
    "epsilon_finish": "epsilon-greedy exploration",
    "epsilon_start": "epsilon-greedy exploration",
    "evaluation_epsilon": "epsilon-greedy exploration",
    "final_entropy_coef": "Pareto actor-critic",
    "hypernet_embed": "QMIX",
    "hypernet_layers": "QMIX",
    "initial_entropy_coef": "Pareto actor-critic",
    "mixer": "value decomposition",
    "mixing_embed_dim": "QMIX",
    "msg_anytime": "coordination graphs",
    "msg_iterations": "coordination graphs",
    "msg_normalized": "coordination graphs",
    "reg": "MADDPG",
    "state_value_type": "Pareto actor-critic",
}

READ: tuple[str, ...] = (
    "add_value_last_step", "agent", "batch_size", "batch_size_run", "checkpoint_path", "common_reward",
    "critic_type", "entropy_coef", "env", "env_args", "epochs", "eps_clip", "evaluate", "gamma", "grad_norm_clip",
    "hidden_dim", "label", "learner", "local_results_path", "log_interval", "lr", "mac", "name", "obs_agent_id",
    "obs_individual_obs", "obs_last_action", "optim_eps", "q_nstep", "render", "reward_scalarisation", "runner",
    "save_model", "save_model_interval", "save_replay", "standardise_returns", "standardise_rewards", "t_max",
    "target_update_interval_or_tau", "test_greedy", "test_interval", "test_nepisode", "use_cuda", "use_rnn",
    "use_tensorboard", "use_wandb", "wandb_mode", "wandb_project", "wandb_save_model", "wandb_team",
)  # fmt: skip

KNOWN: frozenset[str] = frozenset({*READ, *INERT, *REFUSED, *OTHER} - {k for k in REFUSED if "." in k})


def translate(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Write the aliases of one layer of the configuration (a YAML, or the command line) in this project's words.

    Each layer is translated before the layers are merged, so that a later layer can overrule what an alias said.

    Raises:
        UserError: the layer says the same thing twice, differently.
    """
    result = dict(values)
    for name, names in ALIASES.items():
        value = values.get(name)
        if not isinstance(value, str) or value not in names:
            continue
        result[name], implied, meaning = names[value]
        if values.get(implied, meaning) != meaning:
            raise UserError(
                f"{name}={value} means {implied}={meaning}, but {implied}={values[implied]!r} is set too ({source})."
            )
        result[implied] = meaning
    return result


def refuse(name: str, value: Any, source: str) -> None:
    """Raise UserError if EPyMARL's key ``name`` has a value that asks for something which does not exist here."""
    only = REFUSED[name]
    if value in only.allowed or value == "":
        return
    allowed = one_of("null" if v is None else v for v in only.allowed)
    raise UserError(f"{name}={value!r} ({source}) is not offered: {only.instead}; use {allowed}.")
