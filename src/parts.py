"""The table of configuration dataclasses that every run reads, and the resolution of a request to its settings."""

from __future__ import annotations

from . import settings
from .utils.schema.command_line import Request

#: dataclasses that every run reads: part -> ".module:Class"
ALWAYS = {
    "run": ".training.run_config:RunConfig",
    "evaluation": ".evaluation.command:EvaluationConfig",
    "logging": ".storage.log:LoggingConfig",
    "trackers": ".storage.trackers:TrackersConfig",
}


def resolve(request: Request) -> settings.Settings:
    """Return the settings of a request: see :func:`oamarl.settings.resolve`.

    Raises:
        UserError: whatever is wrong with the request, in one sentence.
    """
    return settings.resolve(request, ALWAYS)
