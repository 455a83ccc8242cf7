"""`runner: rollout`: segments of fixed length, from environments anywhere or from slots on the networks' device."""

from __future__ import annotations

from typing import Any

from .on_device import DeviceRolloutRunner
from .rollout import RolloutConfig, RolloutRunner


class SegmentRunner(RolloutRunner):
    """What makes the runner of segments that `backend` asks for."""

    def __new__(cls, config: RolloutConfig, *args: Any, **options: Any) -> RolloutRunner:  # type: ignore[misc]
        """Return the runner; arguments as of :class:`~.episode.EpisodeRunner`."""
        return (DeviceRolloutRunner if config.backend == "device" else RolloutRunner)(config, *args, **options)
