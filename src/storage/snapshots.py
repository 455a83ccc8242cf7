"""The selection of one of a run's checkpoints by its step: EPyMARL's ``load_step``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..utils.errors import UserError
from .checkpoints import BEST, FOLDER, MODELS, find, listed, load, steps_of


def kept(path: Path) -> list[Path]:
    """Return all checkpoint files below ``path``, a folder of them or a run's folder (``checkpoints/``, ``models/``
    and ``best/``); of one step in this order."""
    inside = [path / name for name in (FOLDER, MODELS, BEST) if (path / name).is_dir()]
    return [file for folder in inside or [path] for file in listed(folder)]


def at_step(path: str | Path, step: int, say: Callable[[str], None]) -> Path:
    """Return the checkpoint of ``path`` whose step is closest to ``step``; of two equally close ones the later.

    Only files of one step are opened here, of which an intact one is taken: a damaged file is reported when it is
    loaded.

    Args:
        path: a checkpoint file, a folder of them, or a run's folder.
        step: environment steps; 0 leaves ``path`` as it is, which selects the newest.
        say: called with one sentence if no checkpoint has exactly this step.

    Raises:
        UserError: ``path`` is a file of another step.
    """
    path = Path(path)
    if step and path.is_file():
        own = _step_in(path)
        if own not in (-1, step):
            raise UserError(
                f"{path} is the checkpoint of step {own}, and load_step={step} asks for another: name the folder of "
                "checkpoints, or leave load_step out."
            )
    files = kept(path) if step and path.is_dir() else []
    if not files:
        return path
    closest = min((steps_of(file) for file in files), key=lambda t: (abs(t - step), -t))
    same = [file for file in files if steps_of(file) == closest]
    if closest != step:
        say(f"load_step={step}: {path} has no checkpoint of this step; the closest one, of step {closest}, is taken.")
    return next((file for file in same if len(same) > 1 and _intact(file)), same[0])


def _step_in(file: Path) -> int:
    """Return the step of a checkpoint file, by its name or what it holds; -1 if neither says."""
    if steps_of(file) >= 0:
        return steps_of(file)
    try:
        return int(load(file)["runner"]["t_env"])
    except (UserError, KeyError, TypeError, ValueError):
        return -1


def _intact(file: Path) -> bool:
    try:
        return bool(find(file))
    except UserError:
        return False
