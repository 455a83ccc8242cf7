"""EPyMARL's own files: how they are recognised, and the methods among them that are not part of this version.

Each of its algorithm files has the key `agent_output_type`, which its controllers read, and no file of this package
does. Such a file means what it means there: values that it leaves out are those of EPyMARL's default.yaml and code
(``config/epymarl.yaml``), and of the default.yaml beside its folder, where there is one, as EPyMARL itself reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import UserError

#: learner of EPyMARL's that is not part of this version -> its method
ABSENT = {
    "pac_dcg_learner": "Pareto actor-critic with coordination graphs (PAC-DCG)",
}
#: method of EPyMARL's that is -> its learner
BUILT = {
    "IQL, VDN, QMIX": "q_learner",
    "QTRAN": "qtran_learner",
    "IA2C, MAA2C": "actor_critic_learner",
    "IPPO, MAPPO": "ppo_learner",
    "COMA": "coma_learner",
    "PAC": "pac_learner",
    "MADDPG": "maddpg_learner",
}
#: name of an algorithm file of EPyMARL's, without `_ns` -> its learner
FILES = {
    "coma": "coma_learner", "ia2c": "actor_critic_learner", "ippo": "ppo_learner", "iql": "q_learner",
    "maa2c": "actor_critic_learner", "maddpg": "maddpg_learner", "mappo": "ppo_learner",
    "pac": "pac_learner", "pac_dcg": "pac_dcg_learner", "qmix": "q_learner", "vdn": "q_learner",
}  # fmt: skip
#: environment that only EPyMARL's scenario files name -> what to give instead
_SCENARIOS = "sc2wrapped"
#: keys that mean something else in its files than here -> what
OTHER_MEANING = {"optim_eps": "there it is RMSProp's, which no method here uses; Adam has torch's 1e-8, as in EPyMARL"}


def is_algorithm(values: Mapping[str, Any]) -> bool:
    """Whether a YAML is an algorithm file of EPyMARL's."""
    return "agent_output_type" in values


def is_defaults(values: Mapping[str, Any]) -> bool:
    """Whether a YAML is EPyMARL's default.yaml (edited or not): only that has RMSProp's `optim_alpha`."""
    return "optim_alpha" in values and "learner" not in values and not is_algorithm(values)


def refuse_absent(values: Mapping[str, Any], sources: Mapping[str, str]) -> None:
    """Refuse a method or scenario of EPyMARL's that is not part of this version.

    Args:
        values: the merged configuration.
        sources: key -> the layer that set it, for the message.

    Raises:
        UserError: naming the method, and those that are.
    """
    learner = values.get("learner")
    if isinstance(learner, str) and learner in ABSENT:
        raise UserError(_absent(learner, f"learner={learner} ({sources['learner']})"))
    if values.get("env") == _SCENARIOS:
        raise UserError(
            f"env={_SCENARIOS} ({sources['env']}) is of a scenario of SMACv2: use --env-config=sc2v2 with "
            "env_args.map_name=, the scenario's name, such as protoss_5_vs_5."
        )


def unknown_name(given: str) -> str:
    """Return a sentence about ``--config=given`` where that is a name of EPyMARL's alone; ``""``: it is none."""
    method = given.removesuffix("_ns")
    if method not in FILES:
        return ""
    learner = FILES[method]
    if learner in ABSENT:
        return _absent(learner, f"--config={given}")
    return (
        f"There is no algorithm '{given}' by that name: EPyMARL's file is read by its path, "
        f"--config=PATH/src/config/algs/{given}.yaml."
    )


def _absent(learner: str, given: str) -> str:
    built = "; ".join(f"{method} ({name})" for method, name in BUILT.items())
    return f"{ABSENT[learner]} is not part of this version: {given}. Of EPyMARL's methods there are {built}."
