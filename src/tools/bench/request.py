"""The request of a benchmark: its flags, the configuration, and its name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...utils.errors import UserError
from ...utils.schema import yamls
from ...utils.schema.command_line import Request
from ...utils.schema.layers import leaves

if TYPE_CHECKING:
    from ...settings import Settings


@dataclass(frozen=True)
class Options:
    """The values of the flags."""

    seconds: float = 20.0
    rounds: int = 5
    json: str | None = None
    compare: Path | None = None
    standard: bool = False


def words_of(request: Request) -> list[str]:
    """Return the words that :func:`~oamarl.utils.schema.command_line.parse` reads as ``request``."""
    flags = {"--config": request.config, "--env-config": request.env_config}
    return [
        *(f"{k}={v}" for k, v in flags.items() if v),
        "with",
        *(f"{k}={request.typed[k]}" if k in request.typed else yamls.word(k, v) for k, v in leaves(request.overrides)),
    ]


def settings_of(request: Request) -> Settings:
    """Return the settings to measure; a run without a seed gets a fixed one.

    Raises:
        UserError: an invalid configuration, or keys that a measurement does not allow.
    """
    from ...parts import resolve

    settings = resolve(replace(request, overrides={"seed": 1, **request.overrides}))
    for name in ("checkpoint_path", "load_step", "init_from", "evaluate", "render"):
        if settings.values.get(name):
            raise UserError(f"`oamarl bench` measures a new run: leave {name} out.")
    return settings


def name_of(settings: Settings, request: Request) -> str:
    """Return the name of a case: the algorithm, the task, and the other settings."""
    args = settings.values["env_args"]
    task = args.get("map_name") or args.get("key") or settings.values["env"]
    own = (f"env_args.{n}" for n in ("key", "map_name"))
    more = [f"{k}={yamls.inline(v)}" for k, v in leaves(request.overrides) if k not in (*own, "seed")]
    return " ".join([settings.values["name"], str(task), *more])
