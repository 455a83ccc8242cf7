"""The seeds that a configuration trains at once (`seeds_at_once`)."""

from __future__ import annotations

from ..settings import Settings
from ..utils.errors import UserError

#: seeds in one process
MOST = 1000


def seeds_of(settings: Settings) -> list[int]:
    """Return the seeds that ``settings`` train at once; [] where it is one alone.

    Raises:
        UserError: `seeds_at_once` is not possible, or contradicts another key.
    """
    asked, first = settings.values.get("seeds_at_once"), settings.values["seed"]
    if asked is None:
        return []
    if settings.values.get("use_wandb"):
        raise UserError("use_wandb=True follows one run a process: leave seeds_at_once out, or use_wandb=False.")
    if settings.values.get("matmul_precision") == "bf16":  # torch keeps this for each thread, and each seed has one
        raise UserError(
            "matmul_precision=bf16 is not offered with seeds_at_once: use tf32 or float32, or train one seed a process."
        )
    if isinstance(asked, int):
        if not 1 <= asked <= MOST:
            raise UserError(f"seeds_at_once={asked} is not allowed: a number from 1 to {MOST:,}, or a list of seeds.")
        asked = list(range(first, first + asked)) if asked > 1 else []
    elif settings.source.get("seed") not in ("worked out", "default.yaml"):
        raise UserError(f"seeds_at_once={asked} names the seeds, and seed={first} another one: leave seed out.")
    elif not 1 <= len(asked) <= MOST:
        raise UserError(f"seeds_at_once={asked} is not allowed: from 1 to {MOST:,} seeds.")
    twice = sorted({seed for seed in asked if asked.count(seed) > 1})
    if twice:
        raise UserError(f"seeds_at_once={asked} names seed {twice[0]} twice.")
    if asked and max(asked) >= 2**31:
        raise UserError(f"seeds_at_once={asked} goes to seed {max(asked)}: seeds are below {2**31}.")
    return asked


def refuse(settings: Settings, what: str) -> None:
    """Refuse `seeds_at_once` where one run alone is possible.

    Raises:
        UserError: it is set.
    """
    if settings.values.get("seeds_at_once") is not None:
        raise UserError(f"seeds_at_once trains several seeds, and {what}: leave it out.")
