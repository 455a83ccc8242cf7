"""oamarl: multi-agent reinforcement learning in the EPyMARL style, with the off-agent methods OAPPO and OATRPO."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .utils import moved

if TYPE_CHECKING:
    from pathlib import Path

    from .evaluation.team import Team

__version__ = "0.1.0"

moved.install()


def load(run: str | Path, **options: Any) -> Team:
    """Return the trained team of a run, or of the zoo (``zoo:NAME``): ``oamarl.load(run).act(obs, avail)``.

    See :mod:`oamarl.evaluation.team`.
    """
    from .evaluation.team import load  # brings torch, which environment workers and the command line must not wait for

    return load(run, **options)
