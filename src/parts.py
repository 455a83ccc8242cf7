"""The tables of configuration dataclasses that runs read, and the resolution of a request to its settings."""

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
#: learners that need no runner, controller and network: learner -> the dataclasses that its runs read, in place of all
#: others
TABULAR_Q = "tabular_q"
ALONE = {
    TABULAR_Q: {name: ALWAYS[name] for name in ("run", "logging", "trackers")}
    | {TABULAR_Q: ".tabular.config:TabularConfig"},
}


def resolve(request: Request) -> settings.Settings:
    """Return the settings of a request: see :func:`oamarl.settings.resolve`.

    Raises:
        UserError: whatever is wrong with the request, in one sentence.
    """
    return settings.resolve(request, ALWAYS, ALONE)
