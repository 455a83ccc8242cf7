"""The settings of a run from a request: YAMLs merged, checked, and handed to each part as its dataclass.

default.yaml < environment's YAML < algorithm's YAML < command line. Nothing below reads YAML.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from .envs.base import EnvInfo
from .modules.options import network_config
from .selection import CONTRACTS, NETWORKS, SELECTORS, import_class, own_selector, select, shipped_class
from .utils.errors import UserError, first_line, raised_at, shown_value
from .utils.project import checkout
from .utils.schema import checks, epymarl, layers, vocabulary
from .utils.schema import keys as config
from .utils.schema.command_line import Request
from .utils.schema.layers import Layer, collect, leaves, merge

T = TypeVar("T")

#: keys read here, with their meaning
OWN = {
    "name": (
        "text",
        "Name of the algorithm: the run's folder is <local_results_path>/sacred/<name>/<map or key>/<id>.",
    ),
    "env": ("text", "The environment, or `package.module:Class` of your own."),
    "env_args": ("mapping", "Arguments of the environment, checked against its constructor."),
    "runner": ("text", "How experience is collected."),
    "mac": ("text", "The controller: which agent acts with which network."),
    "agent": ("text", "The agents' network."),
    "learner": ("text", "The method."),
    "seed": ("int or null", "Seed of everything random in the run; null draws one, which is stored with the run."),
    "local_results_path": (
        "text or null",
        "Folder of results; null is `results` in the checkout that the program runs from, otherwise `./results`.",
    ),
}


#: Keys without effect on what is learned: when to stop, test and write, and which processes step the environments.
NON_LEARNING_KEYS = frozenset(
    {
        "checkpoint_path", "checkpoint_interval", "test_nepisode", "test_interval", "test_greedy", "log_interval",
        "save_model", "save_model_interval", "save_best", "label", "local_results_path", "beat_interval", "backend",
        "workers", "step_timeout", "reset_timeout", "on_worker_death", "worker_affinity", "max_seconds", "stop_seconds",
        "ray_address", "evaluate", "render", "save_replay", "use_tensorboard", "use_wandb", "wandb_team",
        "wandb_project", "wandb_mode", "wandb_save_model", "load_step", "runner_log_interval", "learner_log_interval",
        "verbose", "seeds_at_once",
    }
)  # fmt: skip
#: The same among env_args: environment -> arguments that choose how it is stepped, not what happens.
NON_LEARNING_ENV_ARGS = {
    "gymma": frozenset({"quick"}),
    "mamujoco": frozenset({"quick"}),
    "gfootball": frozenset({"engine_timeout", "video"}),
}
#: Keys newer than the first results, with the value under which nothing changes: older configurations lack them.
NEW_KEYS: dict[str, Any] = {
    "standardise_obs": False, "learner_threads": None, "matmul_precision": "float32", "action_selector": None,
    "action_std": "free",
    "action_std_form": "exp", "log_std_init": -0.5, "std_x_coef": 1.0, "std_y_coef": 0.5,
    "critic": "v", "critic_use_rnn": False, "init": "orthogonal",
    "feature_norm": False, "layer_norm": False, "standardise_rewards_mean": True, "state_scale": 1.0,
    # of trust-region learners
    "entropy_coef": 0.0, "entropy_schedule": "constant", "entropy_coef_final": 0.0,
    # of learners with an entropy bonus, and of SEAC
    "entropy_end_ratio": 1.0, "seac_targets": "own",
    # of learners with critics or action values in targets
    "pr_beta": 0.0, "pr_eps": None, "pr_agents": None,
    # of HAPPO and HATRPO
    "factor_clip": None,
    # of OAPPO
    "reuse_clip": "source", "reuse_rho_clip": None, "reuse_check": "before", "reuse_pull": 0.0,
}  # fmt: skip


def without_non_learning(values: Mapping[str, Any], keys: frozenset[str] = NON_LEARNING_KEYS) -> dict[str, Any]:
    """Return a configuration without ``keys`` and without the env_args of `NON_LEARNING_ENV_ARGS`."""
    left = {k: v for k, v in values.items() if k not in keys}
    env, env_args = left.get("env"), left.get("env_args")
    if isinstance(env, str) and env in NON_LEARNING_ENV_ARGS and isinstance(env_args, Mapping):
        left["env_args"] = {k: v for k, v in env_args.items() if k not in NON_LEARNING_ENV_ARGS[env]}
    return left


def learned(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides the numbers of a run: two runs are the same experiment where this is equal.

    Args:
        values: a merged configuration, from `resolve` or from a run's config.json (also an older version's).
    """
    return {k: v for k, v in without_non_learning(values).items() if not (k in NEW_KEYS and v == NEW_KEYS[k])}


def learned_in_full(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return :func:`learned` with every key of `NEW_KEYS`: what lacks one has the value that changes nothing."""
    return {**NEW_KEYS, **without_non_learning(values)}


@dataclass(frozen=True)
class Settings:
    """The checked configuration of a run.

    Attributes:
        values: every key that is read, converted to its type; nested only in ``env_args``.
        source: dotted key -> where its value came from: ``default.yaml``, ``envs/x.yaml``, ``command line`` ...
        notices: sentences about keys that have no effect, for the user's eyes.
        parts: the dataclasses that are read, by the key that selected them (``run``, ``logging``, ``learner`` ...).
        added: those of them that the value of a key has added.
        alone: the name of a learner that works without the other classes; "": there are all of them.
        runner, mac, agent, learner: the selected classes; None for a learner alone.
        critic: the class of the learner's critic; None for learners without one.
    """

    values: dict[str, Any]
    source: dict[str, str]
    notices: tuple[str, ...]
    parts: dict[str, type] = field(repr=False)
    added: tuple[str, ...] = ()
    alone: str = ""
    runner: Any = None
    mac: Any = None
    agent: Any = None
    learner: Any = None
    critic: Any = None

    def part(self, cls: type[T]) -> T:
        """Return the dataclass ``cls`` filled from these values."""
        return config.read(cls, self.values_for(cls))

    def values_for(self, cls: type) -> dict[str, Any]:
        """Return the values as ``cls``, a part or its dataclass, reads them.

        `batch_size` is what one update learns from. An off-policy learner draws it from the replay, and runners collect
        one episode from each slot then, as if it were null.
        """
        collects = cls in (self.runner, getattr(self.runner, "Config", None))
        drawn = collects and not getattr(self.learner, "on_policy", True)
        return {**self.values, "batch_size": None} if drawn else self.values

    def of_other_actions(self, info: EnvInfo) -> list[str]:
        """Return sentences about keys of the command line that have no effect on the environment's kind of actions."""
        here = "continuous" if info.continuous else "discrete"
        of = {f.name: f.metadata["actions"] for cls in self.parts.values() for f in dataclasses.fields(cls)}
        return [
            f"'{name}' has no effect in '{info.name}', whose actions are {here}: it is for {kind} ones."
            for name, kind in of.items()
            if kind not in (None, here) and self.source.get(name) == "command line"
        ]

    def check(self, info: EnvInfo) -> None:
        """Have each part refuse contradictions between its keys and the environment.

        Raises:
            UserError: from the classmethod ``check(values, info)`` of one of them, or that of a user-supplied class
                raised something else.
        """
        parts = (self.parts[name] for name in (*self.added, *([self.alone] if self.alone else [])))
        for cls in (self.learner, self.mac, self.runner, *parts):
            check = getattr(cls, "check", None)
            if check is None:
                continue
            try:
                check(self.values_for(cls), info)
            except UserError:
                raise
            except Exception as error:
                if shipped_class(cls):
                    raise
                kind = next(k for k in CONTRACTS if getattr(self, k) is cls)
                raise UserError(
                    f"{kind}={self.values[kind]}: its check failed with {type(error).__name__}: {first_line(error)} "
                    f"({raised_at(error, (cls.__module__.partition('.')[0],))})."
                ) from error


def results_folder(value: Any) -> str:
    """Return the absolute folder of results; null is ``results`` in the checkout, else in the current folder."""
    if value:
        return str(Path(str(value)).expanduser().absolute())
    return str((checkout() or Path.cwd()) / "results")


def _own(values: dict[str, Any], typed: Mapping[str, str]) -> set[str]:
    """Check and complete the keys that are read here; return those whose value was derived.

    Args:
        values: the merged configuration.
        typed: what was typed on the command line for values that are not text.
    """
    if values.get("local_results_path") is not None and "local_results_path" in typed:
        values["local_results_path"] = typed["local_results_path"]
    values["name"] = typed.get("name", values["name"])
    derived = {name for name in ("seed", "local_results_path") if values.get(name) in (None, "")}
    for name in ("name", "env", *SELECTORS):
        if name in values and not (isinstance(values[name], str) and values[name]):
            raise UserError(f"{name}={shown_value(values[name])} has the wrong type: a name is expected.")
    if "/" in values["name"] or values["name"].startswith("."):
        raise UserError(f"name={values['name']!r} cannot name a folder: leave out '/' and a leading '.'.")
    if values.get("env_args") is None:
        values["env_args"] = {}
    if not isinstance(values["env_args"], dict):
        raise UserError(f"env_args={shown_value(values['env_args'])} has the wrong type: a mapping is expected.")
    values["local_results_path"] = results_folder(values.get("local_results_path"))
    if "seed" in derived:
        values["seed"] = random.SystemRandom().randrange(2**31)
    # also when no part declares it: numpy and torch take no other seed
    values["seed"] = config.check_value("seed", values["seed"], int, {"low": 0, "high": 2**31 - 1})
    return derived


def _added(parts: Mapping[str, type], values: Mapping[str, Any]) -> dict[str, type]:
    """Return the dataclasses that the values of keys add (``key(..., adds=...)``), named by the value."""
    found = {}
    for cls in parts.values():
        for f in dataclasses.fields(cls):
            value, adds = values.get(f.name), f.metadata["adds"]
            if isinstance(value, str) and value in adds:
                found[value] = adds[value]
    return found


def _without_parts(values: dict[str, Any], origin: Mapping[str, Layer], who: str) -> list[str]:
    """Remove runner, controller and network from the ``values`` of a learner that needs none; return notices.

    Raises:
        UserError: the command line names one.
    """
    names = [name for name in SELECTORS if name != "learner" and name in values]
    for name in names:
        values.pop(name)
        if origin[name].origin == "command":
            raise UserError(f"'{name}' is not read by {who}, which has no networks: take it off the command line.")
    given = [name for name in names if origin[name].origin == "user"]
    return [f"Not read by {who}: {', '.join(given)}."] if given else []


def resolve(
    request: Request, always: Mapping[str, str], alone: Mapping[str, Mapping[str, str]] | None = None
) -> Settings:
    """Merge and check everything that can be checked before the environment is built.

    Args:
        request: the names of YAMLs and the values of the command line.
        always: the dataclasses that every run reads, part -> ``".module:Class"``.
        alone: learners without runner, controller and network, each with the dataclasses that its runs read.

    Raises:
        UserError: whatever is wrong with the request, in one sentence.
    """
    from .envs.build import check_env_args

    found = collect(request)
    values, origin = merge(found)
    derived = _own(values, request.typed)
    epymarl.refuse_scenario(values, {name: layer.name for name, layer in origin.items()})
    for name in SELECTORS:
        if name not in values:
            raise UserError(
                f"The configuration lacks '{name}' ({OWN[name][1].rstrip('.')}): an algorithm's YAML sets it, or "
                "names one that does (`base: mappo`)."
            )
    notices, classes = layers.notices(found), {}
    own = (alone or {}).get(values["learner"])
    who = ", ".join(values[name] for name in (SELECTORS if own is None else ("learner",)))
    who = f"'{values['name']}' ({who})"
    if own is None:
        classes = select(values)
        parts = {name: import_class(target) for name, target in always.items()}
        parts |= {name: network_config(cls) if name in NETWORKS else cls.Config for name, cls in classes.items()}
        parts |= own_selector(values)
    else:
        notices += _without_parts(values, origin, who)
        parts = {name: import_class(target) for name, target in own.items()}
    read = {f.name: cls for cls in parts.values() for f in dataclasses.fields(cls)}
    added = _added(parts, values)
    for cls in added.values():
        read |= {f.name: cls for f in dataclasses.fields(cls)}
    parts |= added
    checks.check_names(values, origin, checks.known_names(found, {*OWN, *read}))
    for name in [n for n in vocabulary.REFUSED if n.startswith("env_args.")]:
        inner = name.partition(".")[2]
        if inner in values["env_args"]:
            where = next(layer.name for k, layer in origin.items() if k == name or k.startswith(f"{name}."))
            vocabulary.refuse(name, values["env_args"].pop(inner), where, values)
    values["env_args"] = check_env_args(values["env"], values["env_args"], request.typed)
    checks.check_values(values, origin, parts)
    notices += checks.unread(values, origin, {*OWN, *read}, who)
    notices += checks.without_effect(values, origin, parts)
    checks.check_returns(values, origin)
    source = {k: "worked out" if k in derived or k not in origin else origin[k].name for k, _ in leaves(values)}
    name = "" if own is None else values["learner"]
    return Settings(values, source, tuple(notices), parts, tuple(added), alone=name, **classes)
