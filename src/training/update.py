"""One update of the learner, its batch checked before and its parameters after."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from ..components.batch import Batch
from ..components.finite import all_finite, broken_scalars, dump, first_fault
from ..components.updates.parallel import default_threads, use_threads
from ..controllers.contract import Controller
from ..envs.vector.base import usable_cpus
from ..learners.contract import Learner
from ..runners.contract import Runner
from ..utils.errors import UserError
from .run_config import RunConfig


class Seat(Protocol):
    """The place of a run among several that train together in this process.

    | attribute | meaning |
    |---|---|
    | waited | seconds that it has waited for the others so far, or shared with them |
    """

    waited: float

    def learn(self, learner: Learner, batch: Batch, t_env: int) -> Any:
        """Return what ``learner.train(batch, t_env)`` returns."""


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
    config: RunConfig, runner: Runner, mac: Controller, learner: Learner, batch: Batch, t_begin: int,
    seat: Seat | None = None,
) -> tuple[dict[str, float], dict[str, Any]]:  # fmt: skip
    """Train on ``batch``, and take it into the statistics of observations.

    Args:
        t_begin: the step at which the batch began. Schedules go by it: the first update has their first value.
        seat: the run's place among several that train together; None: it trains alone.

    Returns:
        scalars to log, and arrays.

    Raises:
        NotFinite: a number of the batch, a scalar or a parameter is not finite.
        UserError: the learner returned something else.
    """
    fault = first_fault(batch)
    if fault is not None:
        slot, seed = runner.origin(batch, fault.row, fault.step)
        where = f"row {fault.row}, step {fault.step}, slot {slot}, episode seed {seed}"
        who = "the policies" if fault.field == "log_prob" else "the environment"
        several = fault.field == "reward" and batch.reward.shape[-1] > 1
        both = several and bool((batch.reward == batch.reward[..., :1]).all())
        added = "; with a common reward that is all agents' rewards together" if both else ""
        raise NotFinite(f"{who} gave a number that is not finite: {fault} ({where}{added})", {})
    use_threads(config.learner_threads or max(config.torch_threads, default_threads(usable_cpus())))
    found = learner.train(batch, t_begin) if seat is None else seat.learn(learner, batch, t_begin)
    scalars, arrays = plain_result(learner, found)
    # here, so that no learner can forget it, and only now: during the update the policies see what they acted on
    mac.observe(batch)
    torch.set_num_threads(config.torch_threads)
    broken = broken_scalars(scalars)
    parameters = learned(learner)
    if not all_finite(x for _, x in parameters):
        # a name may stand for several tensors
        names = dict.fromkeys(name for name, x in parameters if not all_finite([x]))
        broken += [f"the parameters of the {name}" for name in names]
    if broken:
        raise NotFinite(f"update {learner.updates} left numbers that are not finite: {', '.join(broken)}", scalars)
    return scalars, arrays


def learned(part: Learner | Controller) -> list[tuple[str, torch.Tensor]]:
    """Return the parameters of a learner (or a controller) with their names.

    Raises:
        UserError: it yields something else.
    """
    found = list(part.parameters())
    for item in found:
        if not (isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str) and torch.is_tensor(item[1])):
            raise UserError(
                f"{type(part).__name__}.parameters yields {_shown(item)}: pairs of a name and a tensor are expected, "
                "such as ('policies', parameters)."
            )
    return found


def plain_result(learner: Any, result: Any) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
    """Return what ``learner.train`` returned, its scalars as floats.

    Raises:
        UserError: it is not scalars, a dict of numbers, and arrays, a dict of dicts of arrays.
    """
    who = f"{type(learner).__name__}.train"
    if not (isinstance(result, tuple) and len(result) == 2 and all(isinstance(x, Mapping) for x in result)):
        raise UserError(
            f"{who} returned {_shown(result)}: a pair is expected, a dict of scalars and a dict of arrays (maybe {{}})."
        )
    scalars, arrays = result
    for name, values in arrays.items():
        if not (isinstance(name, str) and isinstance(values, Mapping)):
            raise UserError(
                f"{who} returned arrays with {name!r}: {_shown(values)}, and file name -> (name -> array) is expected."
            )
    return {_text(who, name): _number(who, name, x) for name, x in scalars.items()}, {
        name: {str(k): x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x) for k, x in v.items()}
        for name, v in arrays.items()
    }


def _text(who: str, name: Any) -> str:
    if not isinstance(name, str):
        raise UserError(f"{who} returned a scalar called {name!r}: a text is expected as its name.")
    return name


def _number(who: str, name: str, value: Any) -> float:
    """Return a scalar as a float: Python's numbers, and numpy's and torch's arrays of one number."""
    one = isinstance(value, (bool, int, float, np.number, np.bool_))
    if isinstance(value, (torch.Tensor, np.ndarray)):
        one = (value.numel() if isinstance(value, torch.Tensor) else value.size) == 1
    try:
        if one:
            return float(value.item() if isinstance(value, (torch.Tensor, np.ndarray)) else value)
    except (TypeError, ValueError):  # complex numbers, text in an array
        pass
    raise UserError(f"{who} returned {name}={_shown(value)}: a number is expected of each scalar.")


def _shown(value: Any) -> str:
    """A value in few words, for a message."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return f"an array of shape {tuple(value.shape)}"
    if isinstance(value, tuple):
        return f"a tuple of {', '.join(type(x).__name__ for x in value) or 'nothing'}"
    return "nothing" if value is None else f"a {type(value).__name__}"
