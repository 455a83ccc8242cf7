"""The checkpoint files of one run: written, watched, and named in its last words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..storage import checkpoints
from ..storage.checkpoints import FOLDER
from ..storage.log import RunLog
from ..storage.provenance import resume_command
from ..storage.replay_files import ReplayFiles
from ..utils.errors import UserError


class CheckpointFiles:
    """The checkpoints that a run writes, and the newest one, which it would be resumed from."""

    def __init__(self) -> None:
        self.newest: Path | None = None
        #: of a learner with a replay: its chunks, which the rolling checkpoints refer to
        self.replay: ReplayFiles | None = None
        self._written: checkpoints.Written | None = None  # the newest, if this run wrote it
        self._failing = False

    def save(
        self, log: RunLog, folder: str, keep: int | None, t_env: int, payload: Callable[[], dict[str, Any]]
    ) -> bool:
        """Write a checkpoint into a subfolder of the run's; returns whether that succeeded.

        A full disk may be empty again at the next interval, so it is said once and the run continues.
        """
        try:
            content = payload()
            if self.replay is not None and folder == FOLDER:
                content = content | {"replay": self.replay.write()}
            path = checkpoints.save(log.folder / folder, t_env, content, keep=keep)
            if self.replay is not None and folder == FOLDER:
                self.replay.saved(path)
        except (UserError, OSError) as error:
            if not self._failing:
                log.warning(f"{error} The next one is tried at its time.")
            self._failing = True
            return False
        if self._failing:
            log.info(f"Checkpoints can be written again: {path}.")
        self._failing = False
        if folder == FOLDER:
            self.newest, self._written = path, checkpoints.Written(path)
        return True

    def is_of(self, t_env: int) -> bool:
        """Whether the newest checkpoint is of this step."""
        return self.newest is not None and checkpoints.steps_of(self.newest) == t_env

    def forget_changed(self, log: RunLog) -> bool:
        """Whether the newest checkpoint of this run was deleted, moved or changed; then it is the newest no more."""
        written = self._written
        if written is None or self.newest != written.path or written.there():
            return False
        log.warning(f"The checkpoint {self.newest} was deleted, moved or changed: a new one is written.")
        self.newest = None
        return True

    def state(self) -> str:
        """Which checkpoint there is, as a sentence."""
        if self.newest is None or not self.newest.is_file():
            return "There is no checkpoint."
        return f"The newest checkpoint is {self.newest} (step {checkpoints.steps_of(self.newest):,})."

    def advice(self, log: RunLog, load_step: int) -> str:
        """Which checkpoint there is and the command that resumes from it; ``load_step``: the run's own key."""
        if self.newest is None or not self.newest.is_file():
            return self.state()
        # the run's own folder, unless it has nothing yet and stands where an earlier one stood
        own = self.newest.parent.parent == log.folder
        newest = ["load_step=0"] if load_step else []  # also where a YAML chooses an earlier one
        return f"{self.state()} To resume: {resume_command(log.folder if own else self.newest, *newest)}"
