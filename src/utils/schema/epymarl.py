"""EPyMARL's own files: how they are recognised, and what among them has another name here.

Each of its algorithm files has the key `agent_output_type`, which its controllers read, and no file of this package
does. Such a file means what it means there: values that it leaves out are those of EPyMARL's default.yaml and code
(``config/epymarl.yaml``), and of the default.yaml beside its folder, where there is one, as EPyMARL itself reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import UserError

#: algorithm files of EPyMARL's, without `_ns`
FILES = ("coma", "ia2c", "ippo", "iql", "maa2c", "maddpg", "mappo", "pac", "pac_dcg", "qmix", "vdn")
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


def refuse_scenario(values: Mapping[str, Any], sources: Mapping[str, str]) -> None:
    """Refuse a scenario file of EPyMARL's, in place of which there is a name.

    Args:
        values: the merged configuration.
        sources: key -> the layer that set it, for the message.

    Raises:
        UserError: naming what to give instead.
    """
    if values.get("env") == _SCENARIOS:
        raise UserError(
            f"env={_SCENARIOS} ({sources['env']}) is of a scenario of SMACv2: use --env-config=sc2v2 with "
            "env_args.map_name=, the scenario's name, such as protoss_5_vs_5."
        )


def unknown_name(given: str) -> str:
    """Return a sentence about ``--config=given`` where that is a name of EPyMARL's alone; ``""``: it is none."""
    if given.removesuffix("_ns") not in FILES:
        return ""
    return (
        f"There is no algorithm '{given}' by that name: EPyMARL's file is read by its path, "
        f"--config=PATH/src/config/algs/{given}.yaml."
    )
