"""What a user-supplied action selector must keep: its attributes before a run, its results at every step."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..components.experience import EnvInfo, Field, action_shape, faulty_fields
from ..utils.errors import PartFailed, UserError, first_line, one_of, raised_at


class CheckedSelector:
    """A user-supplied selector whose results are compared with the contract at each step.

    What it chooses goes into environments, whose own faults would be blamed otherwise, and into arrays, where numpy
    broadcasts what has another shape. See :class:`~oamarl.modules.selector_contract.Selector`.

    Args:
        selector: the selector.
        name: how messages call it, ``action_selector=package.module:Class``.
        info: the environment's sizes.
    """

    def __init__(self, selector: Any, name: str, info: EnvInfo) -> None:
        self.selector, self.name, self.info = selector, name, info
        self.fields: tuple[Field, ...] = tuple(selector.fields)
        self.continuous, self.noise = selector.continuous, selector.noise
        self._actions = action_shape(info)[1]

    def width(self, n_actions: int) -> int:
        """See :class:`~oamarl.modules.selector_contract.Selector`."""
        return int(self.selector.width(n_actions))

    def select(
        self, outputs: np.ndarray, avail: np.ndarray, noise: np.ndarray | None, context: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """Choose actions; see :class:`~oamarl.modules.selector_contract.Selector`.

        Raises:
            PartFailed: an exception, results of other shapes or types, or actions that are not legal.
        """
        found = self._call("select", outputs, avail, noise, context)
        if not (isinstance(found, tuple) and len(found) == 2):
            self._refuse(f"select returned {_shown(found)}, and a pair is expected, actions and log-probabilities")
        shape, numbers = avail.shape[:2], "iu" if self._actions == "int64" else "f"
        actions = self._array("select", "actions", found[0], avail.shape if self.continuous else shape, numbers)
        log_prob = self._array("select", "log-probabilities", found[1], shape, "f")
        if self.continuous:
            if not np.isfinite(actions).all():
                self._refuse("select chose actions that are not finite")
        else:
            self._check_legal(actions, avail)
        return actions.astype(self._actions, copy=False), log_prob.astype(np.float32, copy=False)

    def record(self, outputs: np.ndarray, avail: np.ndarray, actions: np.ndarray) -> Mapping[str, np.ndarray]:
        """Return the selector's fields; see :class:`~oamarl.modules.selector_contract.Selector`.

        Raises:
            PartFailed: an exception, other fields than the declared ones, or other shapes.
        """
        found = self._call("record", outputs, avail, actions)
        names = [f.name for f in self.fields]
        if not isinstance(found, Mapping) or set(found) != set(names):
            given = ", ".join(map(str, found)) if isinstance(found, Mapping) and found else _shown(found)
            self._refuse(f"record returned {given}, and its `fields` declare {', '.join(names)}")
        for f in self.fields:
            self._array("record", f"'{f.name}'", found[f.name], (len(avail), *f.shape(self.info)), "biuf")
        return found

    def _check_legal(self, actions: np.ndarray, avail: np.ndarray) -> None:
        within = (actions >= 0) & (actions < avail.shape[-1])
        legal = np.take_along_axis(avail, np.where(within, actions, 0)[..., None], -1)[..., 0]
        # slots that wait, and padding, may have no legal action
        wrong = (~within | ~legal) & avail.any(-1)
        if wrong.any():
            slot, agent = (int(i) for i in np.argwhere(wrong)[0])
            allowed = one_of(np.flatnonzero(avail[slot, agent]))
            self._refuse(f"select chose action {actions[slot, agent]} for agent {agent}, and legal are {allowed}")

    def _array(self, method: str, what: str, x: Any, shape: tuple[int, ...], kinds: str) -> np.ndarray:
        if not isinstance(x, np.ndarray) or x.shape != shape or x.dtype.kind not in kinds:
            expected = {"iu": "whole numbers", "f": "floats"}.get(kinds, "numbers")
            self._refuse(
                f"{method} returned {what} as {_shown(x)}, and a numpy array {shape} of {expected} is expected"
            )
        return x

    def _call(self, method: str, *given: Any) -> Any:
        try:
            return getattr(self.selector, method)(*given)
        except Exception as error:  # a user's own code
            raise PartFailed(
                f"{self.name} failed in {method} with {type(error).__name__}: {first_line(error)} "
                f"({raised_at(error, (type(self.selector).__module__.partition('.')[0],))})."
            ) from error

    def _refuse(self, what: str) -> None:
        raise PartFailed(f"{self.name}: {what}.")


def checked_selector(
    cls: Any, given: tuple[Any, ...], name: str, info: EnvInfo, kinds: Iterable[str]
) -> CheckedSelector:
    """Build a user-supplied selector.

    Args:
        cls: its class.
        given: arguments of its constructor: an instance of its ``Config``, or nothing.
        name: its value of the key ``action_selector``.
        info: the environment's sizes.
        kinds: the kinds of noise that there are.

    Raises:
        UserError: it cannot be built, sent to workers, or needs noise that there is not.
    """
    called = f"action_selector={name}"
    try:
        selector = cls(*given)
        pickle.dumps(selector)
        width = selector.width(info.n_actions)
    except Exception as error:  # a user's own code
        what = "its constructor takes its `Config` where it has one, and nothing else; it is pickled to workers"
        raise UserError(
            f"{called} cannot be built and sent to workers ({type(error).__name__}: {first_line(error)}): {what}."
        ) from error
    if selector.noise not in kinds:
        raise UserError(f"{called} has noise={selector.noise!r}: use {one_of(kinds)}.")
    if isinstance(width, bool) or not isinstance(width, int) or width < 0:
        raise UserError(f"{called} has a width of {width!r}: a whole number of 0 or more is expected.")
    return CheckedSelector(selector, called, info)


def check_fields(name: str | None, fields: Iterable[Field]) -> None:
    """Refuse fields of a selector that cannot be recorded.

    Raises:
        UserError: naming the first.
    """
    fault = faulty_fields(fields, ("actor",))
    if fault:
        raise UserError(f"action_selector={name}: {fault}")


def _shown(x: Any) -> str:
    if isinstance(x, np.ndarray):
        return f"an array {x.shape} of {x.dtype}"
    return "nothing" if x is None or (isinstance(x, Mapping) and not x) else f"a {type(x).__name__}"
