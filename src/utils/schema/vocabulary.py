"""EPyMARL's configuration keys and what each of them does here.

A key that some part of the run reads needs no entry. The rest of the vocabulary is in one of these tables:

| status | meaning |
|---|---|
| alias | another name of a key or value that is read (:data:`RENAMED`, :data:`ALIASES`) |
| inert | accepted and without effect; one notice (:data:`INERT`) |
| refused | only the value that describes what happens here is accepted, any other is an error (:data:`REFUSED`) |
| other | belongs to methods that are not the chosen one: like every known key that is not read (:data:`OTHER`) |

:data:`READ` names the keys that parts of this version are expected to read, for the reference pages, and
:data:`DIFFERS` those of them whose meaning is not quite EPyMARL's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import UserError, one_of

#: key -> {EPyMARL's value: (value here, key that says the same explicitly, its value)}; "": there is no such key
ALIASES: dict[str, dict[str, tuple[str, str, str]]] = {
    "action_selector": {"soft_policies": ("multinomial", "", "")},
    "mac": {
        "non_shared_mac": ("basic_mac", "sharing", "separate"),
        "maddpg_mac": ("basic_mac", "action_selector", "noisy"),
    },
    "learner": {"pac_dcg_learner": ("pac_learner", "critic", "dcg")},
    "agent": {"rnn_ns": ("rnn", "sharing", "separate")},
    "mixer": {"qtran_base": ("qtran", "", "")},
    "critic_type": {
        "ac_critic_ns": ("ac_critic", "critic_sharing", "separate"),
        "cv_critic_ns": ("cv_critic", "critic_sharing", "separate"),
        "maddpg_critic": ("cv_critic", "critic_sharing", "shared"),
        "maddpg_critic_ns": ("cv_critic", "critic_sharing", "separate"),
        "coma_critic": ("cv_critic", "critic_sharing", "shared"),
        "coma_critic_ns": ("cv_critic", "critic_sharing", "separate"),
        "pac_critic": ("cv_critic", "critic_sharing", "shared"),
        "pac_critic_ns": ("cv_critic", "critic_sharing", "separate"),
        "pac_dcg_critic_ns": ("cv_critic", "critic_sharing", "separate"),
    },
}

#: key -> (the key that it is here, what it says beside it: key -> value)
RENAMED: dict[str, tuple[str, dict[str, str]]] = {
    "initial_entropy_coef": ("entropy_coef", {"entropy_schedule": "linear"}),
    "final_entropy_coef": ("entropy_coef_final", {}),
}

#: key -> why it has no effect
INERT: dict[str, str] = {
    "buffer_cpu_only": "it says in which memory a replay lies: it is always the CPU's; no number depends on it",
    "hypergroup": "a name that a search gives its runs, which training does not read; `label` is kept with a run",
    "optim_alpha": "of RMSProp, which EPyMARL's QTRAN uses; methods here use Adam",
    "repeat_id": "a number for one's own bookkeeping, which training does not read; `label` is kept with a run",
}


@dataclass(frozen=True)
class Only:
    """The values of a key that describe what happens here, and the message for any other.

    ``like`` names keys: the value of the first one that is set is allowed too. ``of`` has the allowed values of some
    learners, and what happens there, in place of the general ones.
    """

    allowed: tuple[Any, ...]
    instead: str
    like: tuple[str, ...] = ()
    of: Mapping[str, Only] = field(default_factory=dict)


_VALUES = Only(("q", None), "networks give action values")
REFUSED: dict[str, Only] = {
    "buffer_size": Only(
        (None,),
        "each update learns from one batch of new episodes and from no earlier ones",
        ("batch_size", "batch_size_run"),
    ),
    "agent_output_type": Only(
        ("pi_logits", None), "agents are policies", of={"q_learner": _VALUES, "qtran_learner": _VALUES}
    ),
    "mask_before_softmax": Only((True, None), "illegal actions never have probability"),
    "critic_q_fn": Only(
        ("coma", None), "COMA's critic is one of action values (EPyMARL's program does not read the key)"
    ),
    "critic_baseline_fn": Only(
        ("coma", None), "COMA's baseline is the counterfactual one (EPyMARL's program does not read the key)"
    ),
    "critic_train_mode": Only(
        ("seq", None),
        "COMA's critic takes one step on all steps of a batch, as in EPyMARL, whose program does not read the key",
    ),
    "critic_train_reps": Only((1, None), "COMA's critic takes one step (EPyMARL's program does not read the key)"),
    "state_value_type": Only(
        ("cv_critic", "cv_critic_ns", None),
        "PAC's state values see what its critic does beside actions, and are shared "
        "alike (critic_type, critic_sharing)",
    ),
    "duelling": Only(
        (False, None), "coordination graphs have no state values (EPyMARL's program does not read the key)"
    ),
    "env_args.pretrained_wrapper": Only((None,), "pretrained opponents are not part of this version"),
    "env_args.seed": Only((None,), "`seed` seeds every episode"),
}

#: key -> what it belongs to
OTHER: dict[str, str] = {}

READ: tuple[str, ...] = (
    "action_selector", "add_value_last_step", "agent", "batch_size", "batch_size_run", "cg_edges", "cg_payoff_rank",
    "cg_payoffs_hidden_dim", "cg_utilities_hidden_dim", "checkpoint_path", "common_reward", "critic_type", "double_q",
    "entropy_coef", "entropy_end_ratio", "env", "env_args", "epochs", "eps_clip", "epsilon_anneal_time",
    "epsilon_finish", "epsilon_start", "evaluate", "evaluation_epsilon", "gamma", "grad_norm_clip", "hidden_dim",
    "hypernet_embed", "hypernet_layers", "label", "learner", "learner_log_interval", "load_step", "local_results_path",
    "log_interval", "lr", "mac", "mixer", "mixing_embed_dim", "msg_anytime", "msg_iterations", "msg_normalized", "name",
    "obs_agent_id", "obs_individual_obs", "obs_last_action", "optim_eps", "q_nstep", "reg", "render",
    "reward_scalarisation", "runner", "runner_log_interval", "save_model", "save_model_interval", "save_replay",
    "standardise_returns", "standardise_rewards", "t_max", "target_update_interval_or_tau", "test_greedy",
    "test_interval", "test_nepisode", "use_cuda", "use_rnn", "use_tensorboard", "use_wandb", "wandb_mode",
    "wandb_project", "wandb_save_model", "wandb_team",
)  # fmt: skip

#: key that is read -> what is not as in EPyMARL
DIFFERS: dict[str, str] = {
    "add_value_last_step": "a truncated episode is bootstrapped from, a terminated one never; in EPyMARL the last step "
    "of a batch's longest episode is, whatever ended it, and value-based methods do not read the key",
    "checkpoint_path": "a run's folder, and everything is resumed, replay and targets too; EPyMARL's own checkpoints "
    "are not read",
    "env": "no environment is the default",
    "grad_norm_clip": "the limit of each network; in EPyMARL of all agents' networks (and the mixer) together",
    "label": "stored with the run",
    "local_results_path": "all files of runs; null: `results` in the checkout",
    "log_interval": "of points too whose own interval (runner_, learner_log_interval) is null; a fifth of "
    "t_max where it is more than half of it, as are those",
    "mixer": "also qtran, and a module of your own",
    "optim_eps": "Adam's; in EPyMARL RMSProp's (QTRAN), so that its files set nothing here: Adam has torch's 1e-8 then",
    "q_nstep": "of value-based methods too; 0 (targets are the critic's own values) is refused",
    "render": "with evaluate: a video of the first episodes",
    "standardise_returns": "statistics of real steps, one scale under a common reward, updated once per update",
    "standardise_rewards": "statistics of real steps, each counted once; standardise_rewards_mean=True subtracts the "
    "mean, as in EPyMARL",
    "t_max": "a run ends with the batch that reaches it; EPyMARL's ends with the one that passes it",
    "test_greedy": "greedy episodes are played beside the others, as test_greedy_*",
    "test_interval": "the first test comes before the first update, another at the end; a fifth of "
    "t_max where it is more than half of it",
    "test_nepisode": "exactly as many; in EPyMARL a multiple of batch_size_run",
}

KNOWN: frozenset[str] = frozenset({*READ, *INERT, *REFUSED, *OTHER, *RENAMED} - {k for k in REFUSED if "." in k})


def translate(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Write the aliases of one layer of the configuration (a YAML, or the command line) in this project's words.

    Each layer is translated before the layers are merged, so that a later layer can overrule what an alias said.

    Raises:
        UserError: the layer sets one key to two different values.
    """
    result = dict(values)
    for name, names in ALIASES.items():
        value = values.get(name)
        if not isinstance(value, str) or value not in names:
            continue
        result[name], implied, meaning = names[value]
        if not implied:
            continue
        if values.get(implied, meaning) != meaning:
            raise UserError(
                f"{name}={value} means {implied}={meaning}, but {implied}={values[implied]!r} is set too ({source})."
            )
        result[implied] = meaning
    for name, (here, more) in RENAMED.items():
        if name not in values:
            continue
        said = {here: result.pop(name), **more}
        for key, value in said.items():
            if values.get(key, value) != value:
                raise UserError(f"{name} means {key}={value!r}, but {key}={values[key]!r} is set too ({source}).")
        result |= said
    return result


def refuse(name: str, value: Any, source: str, values: Mapping[str, Any]) -> None:
    """Refuse a value of EPyMARL's key ``name`` that requests something which does not exist here.

    Args:
        name, value: the key and its value.
        source: where it comes from, for the message.
        values: the configuration, whose values of :attr:`Only.like` are allowed.

    Raises:
        UserError: naming what is allowed.
    """
    only = REFUSED[name]
    only = only.of.get(str(values.get("learner")), only)
    alike = [values[k] for k in only.like if values.get(k) is not None][:1]
    if value in (*only.allowed, *alike) or value == "":
        return
    allowed = one_of("null" if v is None else v for v in (*alike, *only.allowed))
    raise UserError(f"{name}={value!r} ({source}) is not offered: {only.instead}; use {allowed}.")
