"""An example of every environment that has a file in config/envs, to be played where each is to be tried."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...utils.errors import NotInstalled, UserError
from ...utils.schema import yamls
from ...utils.schema.layers import environment, shipped

#: file of config/envs -> name of an example -> arguments beside the file's: those that it leaves open, and a limit
#: where episodes are long. A file that is not here has one example, with its own arguments.
ARGUMENTS: dict[str, dict[str, dict[str, Any]]] = {
    "gymma": {
        "lbf": {"key": "lbforaging:Foraging-8x8-2p-3f-v3"},
        "rware": {"key": "rware:rware-tiny-2ag-v2"},
        "pettingzoo": {"key": "pz-mpe-simple-spread-v3"},
    },
    "mamujoco": {"mamujoco": {"time_limit": 40}},
    "sc2v2": {"sc2v2": {"map_name": "protoss_5_vs_5"}},
    "smaclite": {"smaclite": {"map_name": "2s3z"}},
    "smax": {"smax": {"time_limit": 20}},
    "vmas": {"vmas": {"max_steps": 20}},
}


@dataclass(frozen=True)
class Example:
    """One environment with the arguments with which it can be built.

    | field | meaning |
    |---|---|
    | name | of the example, ``lbf`` |
    | config | of its file in config/envs, ``gymma`` |
    | path | that file |
    | env | its name in the registry |
    | given | arguments, those of the file and the example's own, not checked |
    """

    name: str
    config: str
    path: Path
    env: str
    given: dict[str, Any]

    def args(self) -> dict[str, Any]:
        """Return the arguments, checked.

        Raises:
            UserError: the environment needs something that is not installed.
        """
        from ..build import check_env_args  # completion of command lines asks for the names alone, and does not wait

        return check_env_args(self.env, self.given)


def examples() -> Iterator[Example]:
    """Yield the examples of every file in config/envs, in alphabetical order; nothing of them is imported."""
    for config, path in shipped("envs").items():
        values = environment(config).values
        for name, own in ARGUMENTS.get(config, {config: {}}).items():
            yield Example(name, config, path, str(values["env"]), {**(values.get("env_args") or {}), **own})


def needed(example: Example) -> list[str]:
    """Return the packages that the example's file says it needs."""
    return yamls.needs(example.path)


def not_installed(example: Example, error: UserError) -> bool:
    """Whether an error in building the example says that something is not installed, and not that it is broken."""
    return isinstance(error, NotInstalled) or bool(yamls.absent(needed(example)))
