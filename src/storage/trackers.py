"""A run's scalars to TensorBoard and Weights & Biases, beside the run's own files.

Both are optional packages, imported when they are used. An error there after the start never stops a run: it gives one
warning, and the tracker is not used from then on.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from ..utils.errors import NotInstalled
from ..utils.schema.keys import key
from ..utils.waiting import within

#: folder of TensorBoard's files in the run's folder; Weights & Biases makes its own `wandb/` there
TENSORBOARD_FOLDER = "tensorboard"
PROJECT = "oamarl"
#: seconds that a tracker may take to write or send what is left, at the end
CLOSE_SECONDS = 120.0
#: the same for the scalars of one step: what takes them may have been stopped, and its pipe be full
LOG_SECONDS = 60.0
_SHOWN = {"tensorboard": "TensorBoard", "wandb": "Weights & Biases"}


@dataclass(frozen=True)
class TrackersConfig:
    """The keys of a run's trackers."""

    use_tensorboard: bool = key("Write the metrics for TensorBoard too, in the run's folder tensorboard/.")
    use_wandb: bool = key("Log the metrics to Weights & Biases too.")
    wandb_team: str | None = key("Team or user at Weights & Biases; null: the user who is logged in.")
    wandb_project: str | None = key("Project at Weights & Biases; null: oamarl.")
    wandb_mode: str = key(
        "offline writes to the run's folder wandb/ (`wandb sync` uploads it); online sends.",
        choices=("offline", "online"),
    )
    wandb_save_model: bool = key("With save_model, also give the snapshots to Weights & Biases, at the end.")


def check(config: TrackersConfig) -> None:
    """Check that the requested packages are installed.

    Raises:
        UserError: one is not.
    """
    for name, asked in (("tensorboard", config.use_tensorboard), ("wandb", config.use_wandb)):
        if asked:
            require(name)


def require(name: str) -> None:
    """Check that the package of the tracker ``name`` is installed; nothing of it is imported.

    Raises:
        UserError: it is not.
    """
    if importlib.util.find_spec(name) is None:
        raise NotInstalled(f"use_{name}=True needs the package {name}: pip install {name}.")


class _Tracker(Protocol):
    def log(self, values: Mapping[str, float], t: int) -> None:
        """Take all scalars of an environment step."""

    def close(self) -> None:
        """Write what is left."""


class _TensorBoard:
    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / TENSORBOARD_FOLDER))

    def log(self, values: Mapping[str, float], t: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, t)

    def close(self) -> None:
        self.writer.close()


class _Wandb:
    def __init__(self, config: TrackersConfig, values: Mapping[str, Any], folder: Path) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")  # it is our terminal; failures are exceptions
        import wandb

        self.folder, self.models = folder, config.wandb_save_model and bool(values.get("save_model"))
        task = folder.parent.name
        self.run = wandb.init(
            project=config.wandb_project or PROJECT, entity=config.wandb_team, dir=str(folder),
            mode=cast("Literal['online', 'offline', 'disabled', 'shared']", config.wandb_mode),
            config=dict(values), name=f"{values.get('name')} {task} seed {values.get('seed')}",
            group=f"{values.get('name')} {task}", notes=str(values.get("label") or "") or None, reinit="create_new",
            # run.log has what the run prints, and its terminal is its own
            settings=wandb.Settings(console="off", silent=True, save_code=False, disable_git=True),
        )  # fmt: skip

    def log(self, values: Mapping[str, float], t: int) -> None:
        self.run.log(dict(values), step=t)

    def close(self) -> None:
        for path in sorted((self.folder / "models").glob("*")) if self.models else ():
            self.run.save(str(path), base_path=str(self.folder), policy="now")
        self.run.finish()


class Trackers:
    """The trackers of one run: a sink for :class:`~oamarl.storage.log.RunLog`.

    Args:
        values: the whole configuration, to be stored there.
        folder: the run's folder.
        say: called with a sentence when a tracker fails.
    """

    def __init__(
        self, config: TrackersConfig | None, values: Mapping[str, Any], folder: Path, say: Callable[[str], None]
    ) -> None:
        self.say = say
        self._step, self._values = 0, dict[str, float]()
        self._trackers: dict[str, _Tracker] = {}
        if config is not None and config.use_tensorboard:
            self._start("tensorboard", lambda: _TensorBoard(folder))
        if config is not None and config.use_wandb:
            self._start("wandb", lambda: _Wandb(config, values, folder))

    def __call__(self, name: str, value: float, t: int) -> None:
        """Take a scalar of step ``t``; those of one step are passed on together."""
        if not self._trackers:
            return
        if t != self._step:
            self._flush()
            self._step = t
        self._values[name] = value

    def close(self) -> None:
        """Pass on the remaining scalars, and close."""
        self._flush()
        for name, tracker in list(self._trackers.items()):
            self._guarded(name, lambda tracker=tracker, name=name: self._close(tracker, name))  # type: ignore[misc]
        self._trackers = {}

    def _close(self, tracker: _Tracker, name: str) -> None:
        if not within(CLOSE_SECONDS, tracker.close, f"The end of {_SHOWN[name]}"):
            self.say(
                f"{_SHOWN[name]} did not end within {CLOSE_SECONDS:g} seconds and was not waited for any longer; the "
                "run's own files have everything."
            )

    def _flush(self) -> None:
        values, self._values = self._values, {}
        for name, tracker in list(self._trackers.items()) if values else ():
            self._guarded(name, lambda tracker=tracker: self._log(tracker, values))  # type: ignore[misc]

    def _log(self, tracker: _Tracker, values: Mapping[str, float]) -> None:
        if not within(LOG_SECONDS, lambda: tracker.log(values, self._step), "A tracker of scalars"):
            raise TimeoutError(f"took nothing within {LOG_SECONDS:g} seconds")

    def _start(self, name: str, make: Callable[[], _Tracker]) -> None:
        def start() -> None:
            self._trackers[name] = make()

        self._guarded(name, start)

    def _guarded(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # whatever these packages raise: a full disk, no login, no network
            self._trackers.pop(name, None)
            reason = " ".join(str(error).split()) or type(error).__name__
            self.say(f"{_SHOWN[name]} failed ({reason}): it gets no more; the run's own files have everything.")
