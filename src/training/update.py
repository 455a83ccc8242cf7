"""One update of the learner, its batch checked before and its parameters after."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..components.batch import Batch
from ..components.finite import all_finite, broken_scalars, dump, first_fault
from ..components.parallel import default_threads, use_threads
from ..envs.vector.base import usable_cpus
from .run_config import RunConfig


class NotFinite(Exception):
    """Numbers of an update that are not finite, as a clause of a sentence.

    Args:
        what: the clause.
        scalars: of the update, if it was made.
    """

    def __init__(self, what: str, scalars: Mapping[str, float]) -> None:
        super().__init__(what)
        self.scalars = scalars

    def dump(self, path: Path, batch: Batch) -> str:
        """Write the update's batch and scalars into a file; returns a sentence about it."""
        try:
            dump(path, batch, self.scalars)
        except OSError as error:
            return f"The batch could not be kept ({error.strerror or error})."
        return f"The batch is in {path}."


def checked_update(
    config: RunConfig, runner: Any, mac: Any, learner: Any, batch: Batch, t_begin: int
) -> tuple[dict[str, float], dict[str, Any]]:
    """Train on ``batch``, and take it into the statistics of observations.

    Args:
        t_begin: the step at which the batch began. Schedules go by it: the first update has their first value.

    Returns:
        scalars to log, and arrays.

    Raises:
        NotFinite: a number of the batch, a scalar or a parameter is not finite.
    """
    fault = first_fault(batch)
    if fault is not None:
        slot, seed = runner.origin(batch, fault.row, fault.step)
        where = f"row {fault.row}, step {fault.step}, slot {slot}, episode seed {seed}"
        who = "the policies" if fault.field == "log_prob" else "the environment"
        raise NotFinite(f"{who} gave a number that is not finite: {fault} ({where})", {})
    use_threads(config.learner_threads or max(config.torch_threads, default_threads(usable_cpus())))
    scalars, arrays = learner.train(batch, t_begin)
    # here, so that no learner can forget it, and only now: during the update the policies see what they acted on
    mac.observe(batch)
    torch.set_num_threads(config.torch_threads)
    broken = broken_scalars(scalars)
    parameters = {"policies": mac.network.params, "critic": learner.value.network.params}
    if not all_finite(parameters.values()):
        broken += [f"the parameters of the {name}" for name, x in parameters.items() if not all_finite([x])]
    if broken:
        raise NotFinite(f"update {learner.updates} left numbers that are not finite: {', '.join(broken)}", scalars)
    return scalars, arrays
