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
#: dataclasses that a value of a key adds: (key, value) -> ".module:Class"
WITH_VALUE = {
    ("sharing", "selective"): ".controllers.seps:SelectiveConfig",
    ("action_selector", "epsilon_greedy"): ".modules.action_selectors:EpsilonConfig",
}


def resolve(request: Request) -> settings.Settings:
    """Return the settings of a request: see :func:`oamarl.settings.resolve`.

    Raises:
        UserError: whatever is wrong with the request, in one sentence.
    """
    return settings.resolve(request, ALWAYS, WITH_VALUE)
