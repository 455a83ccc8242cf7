"""Spaces of several agents as rows of one size: flat padded observations, numbered or continuous actions, masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..utils.errors import UserError

#: a combination of choices becomes one numbered action; beyond this many a policy could not learn them apart
_MOST_ACTIONS = 4096
#: a bound beyond this is none: no range of actions can be laid between such numbers
_NO_BOUND = 1e6


class AgentSpaces:
    """Observation and action spaces of N agents, flattened and padded to one size.

    Attributes:
        obs_sizes, action_sizes: each agent's own sizes; a combined action space (MultiDiscrete, MultiBinary, a Tuple
            of Discretes) counts every combination as one action; of continuous actions (Box) the numbers of each.
        obs_size, n_actions: the largest of them, O and A.
        obs_shape: of one observation, where all agents' are arrays (Box) of one shape and more than one dimension.
        legal: [N, A] bool, the actions (of continuous ones: the dimensions) that are not padding.
        at_end: [N, A] bool, what is legal for agents that have ended: the first action; what they draw of continuous
            ones is ignored.
        action_low, action_high: bounds of continuous actions, each agent's own numbers; empty of numbered ones. Between
            two bounds actions are -1 to 1 here, and :meth:`move` lays them out over the environment's own range; where
            a side is open they are the environment's own numbers.
        watch: None, or a list to which every observation outside its declared space adds a sentence.
    """

    def __init__(self, where: str, names: Sequence[str], obs: Sequence[Any], actions: Sequence[Any]) -> None:
        """Read Gymnasium spaces, one an agent; a Dict with ``action_mask`` is split into observation and mask.

        Args:
            where: the environment's name, for messages.
            names: the agents, for messages.
            obs, actions: the spaces.

        Raises:
            UserError: a space without a fixed size, or actions that are neither discrete nor all continuous.
        """
        from gymnasium import spaces

        for what, given in (("observation", obs), ("action", actions)):
            for name, space in zip(names, given, strict=True):
                if not isinstance(space, spaces.Space):
                    raise UserError(no_space(where, f"the {what} space of agent {name}", space))
        self._refuse_mixed(where, names, actions)

        self.names = [str(n) for n in names]
        self.obs_spaces, self.masked = [], []
        for name, space in zip(self.names, obs, strict=True):
            masked = isinstance(space, spaces.Dict) and "action_mask" in space.spaces
            rest = _without_mask(space) if masked else space
            if not rest.is_np_flattenable:
                raise UserError(
                    f"The environment '{where}' cannot be used: the observations of agent {name} "
                    f"({type(rest).__name__}) have no fixed size."
                )
            self.obs_spaces.append(rest)
            self.masked.append(masked)
        self._flatten = spaces.flatten
        self._boxes = [isinstance(s, spaces.Box) for s in self.obs_spaces]
        self._numbered = [isinstance(s, spaces.Discrete) for s in self.obs_spaces]
        self.obs_sizes = tuple(int(spaces.flatdim(s)) for s in self.obs_spaces)
        shapes = {s.shape if box else None for s, box in zip(self.obs_spaces, self._boxes, strict=True)}
        shape = shapes.pop() if len(shapes) == 1 else None
        self.obs_shape = tuple(map(int, shape)) if shape is not None and len(shape) > 1 else None
        self._choices = [_choices(space) for space in actions]
        self.continuous = isinstance(actions[0], spaces.Box)
        self.action_low: tuple[tuple[float, ...], ...] = ()
        self.action_high: tuple[tuple[float, ...], ...] = ()
        self._moves: list[Any] = []
        if self.continuous:
            self._ranges = [_Range.of(where, name, space) for name, space in zip(self.names, actions, strict=True)]
            self.action_low, self.action_high = (
                tuple(getattr(r, end) for r in self._ranges) for end in ("low", "high")
            )
            self.action_sizes = tuple(len(low) for low in self.action_low)
        else:
            self._moves = [_moves(where, name, space) for name, space in zip(self.names, actions, strict=True)]
            self.action_sizes = tuple(len(m) for m in self._moves)
        self.obs_size, self.n_actions = max(self.obs_sizes), max(self.action_sizes)
        self.legal = np.arange(self.n_actions) < np.array(self.action_sizes)[:, None]
        first = np.broadcast_to(np.arange(self.n_actions) == 0, self.legal.shape)
        self.at_end = self.legal if self.continuous else first
        self.watch: list[str] | None = None

    @staticmethod
    def _refuse_mixed(where: str, names: Sequence[str], actions: Sequence[Any]) -> None:
        """Refuse numbered actions of some agents beside continuous ones of others.

        Raises:
            UserError: naming one agent of each kind.
        """
        from gymnasium import spaces

        kinds = [isinstance(space, spaces.Box) for space in actions]
        if any(kinds) and not all(kinds):
            box, other = kinds.index(True), kinds.index(False)
            raise UserError(
                f"The environment '{where}' cannot be used: agent {names[box]} has continuous actions (Box) and agent "
                f"{names[other]} {type(actions[other]).__name__}; the agents' actions must be all continuous or all "
                "discrete."
            )

    def observe(self, i: int, value: Any, row: np.ndarray) -> Any:
        """Write agent i's observation into ``row`` [O] and return the mask that came inside it, or None.

        Raises:
            ValueError: an observation of another size than the space says.
        """
        mask = None
        if self.masked[i]:
            mask = value["action_mask"]
            rest = {k: v for k, v in value.items() if k != "action_mask"}
            value = rest["observation"] if list(rest) == ["observation"] else rest
        if self.watch is not None:
            self._complain(i, value)
        flat = np.asarray(value).ravel() if self._boxes[i] else self._flat(i, value)
        size = self.obs_sizes[i]
        if flat.size != size:
            raise ValueError(f"agent {self.names[i]} sees {flat.size} numbers, and its observation space says {size}")
        row[:size] = flat
        return mask

    def _flat(self, i: int, value: Any) -> np.ndarray:
        """An observation of another space than Box, flattened.

        Raises:
            ValueError: one that cannot be.
        """
        space = self.obs_spaces[i]
        if self._numbered[i] and not space.start <= value < space.start + space.n:  # -1 would be the last one
            raise ValueError(f"agent {self.names[i]} sees {value!r:.60}, which is not in its observation space {space}")
        try:
            found: np.ndarray = self._flatten(space, value)
        except (IndexError, KeyError, TypeError) as exc:
            raise ValueError(
                f"agent {self.names[i]} sees {value!r:.60}, which is not in its observation space {space}"
            ) from exc
        return found

    def mask(self, i: int, given: Any, row: np.ndarray) -> None:
        """Write agent i's legal actions into ``row`` [A]; ``given`` None: all of its own.

        ``given`` has one entry an action; for a combined space also one mask a choice (Gymnasium's form).

        Raises:
            ValueError: a mask of another size.
        """
        if given is None or self.continuous:  # a mask is of numbered actions
            row[...] = self.legal[i]
            return
        choices, size = self._choices[i], self.action_sizes[i]
        if len(choices) > 1 and isinstance(given, (tuple, list)) and [np.size(g) for g in given] == choices:
            flat = np.asarray(given[0], bool)
            for part in given[1:]:
                flat = np.logical_and.outer(flat, np.asarray(part, bool))
        else:
            flat = np.asarray(given, bool)
        flat = flat.ravel()
        # masks that are stacked have entries for the most actions of any agent
        if flat.size != size and (flat.size != self.n_actions or flat[size:].any()):
            raise ValueError(f"agent {self.names[i]} has {size} actions, and its action mask {flat.size} entries")
        row[...] = False
        row[:size] = flat[:size]

    def move(self, i: int, action: Any) -> Any:
        """Return agent i's ``action``, a number or (continuous) [A] float32, as its environment expects it.

        Raises:
            ValueError: a numbered action that is padding for this agent.
        """
        if self.continuous:
            return self._ranges[i].laid_out(action)
        if not 0 <= action < self.action_sizes[i]:
            raise ValueError(f"agent {self.names[i]} has no action {action}: it has {self.action_sizes[i]}")
        return self._moves[i][action]

    def _complain(self, i: int, value: Any) -> None:
        """Report an observation outside its declared space."""
        assert self.watch is not None
        space, name = self.obs_spaces[i], self.names[i]
        if not self._boxes[i]:
            if not space.contains(value):
                self.watch.append(f"agent {name} sees {value!r:.60}, which is not in its observation space {space}.")
            return
        array = np.asarray(value)
        if array.shape != space.shape:
            self.watch.append(
                f"the observation of agent {name} has the shape {array.shape}, its space says {space.shape}."
            )
        elif not np.can_cast(array.dtype, space.dtype):
            self.watch.append(f"the observation of agent {name} is {array.dtype}, its space says {space.dtype}.")
        elif ((array < space.low) | (array > space.high)).any():
            which = np.argwhere((array < space.low) | (array > space.high))[0]
            at = tuple(which.tolist())
            self.watch.append(
                f"the observation of agent {name} is {array[at]:g} at {list(at)}, and its space allows "
                f"{space.low[at]:g} to {space.high[at]:g}."
            )


@dataclass(frozen=True)
class _Range:
    """A Box of actions: own action a is ``centre + half a`` within ``space``, in each of its numbers.

    ``low``, ``high``: bounds of a, -1 and 1 where both sides have one, with centre and half the range then.
    """

    space: Any
    low: tuple[float, ...]
    high: tuple[float, ...]
    centre: np.ndarray
    half: np.ndarray

    @classmethod
    def of(cls, where: str, name: str, space: Any) -> _Range:
        """Read a Box.

        Raises:
            UserError: it has no number, or numbers that are not floating-point.
        """
        if not np.issubdtype(space.dtype, np.floating) or space.shape == () or 0 in space.shape:
            raise UserError(
                f"The environment '{where}' cannot be used: the actions of agent {name} are {space}, and a Box of "
                "floating-point numbers, at least one, is needed (whole numbers: MultiDiscrete)."
            )
        low, high = (np.asarray(x, np.float64).ravel() for x in (space.low, space.high))
        open_below, open_above = np.abs(low) >= _NO_BOUND, np.abs(high) >= _NO_BOUND
        closed = ~(open_below | open_above)  # a number that cannot vary is closed too: its range is 0
        bottom, top = np.where(closed, low, -1.0), np.where(closed, high, 1.0)
        lowest = np.where(closed, -1.0, np.where(open_below, -np.inf, low))
        highest = np.where(closed, 1.0, np.where(open_above, np.inf, high))
        return cls(space, tuple(lowest.tolist()), tuple(highest.tolist()), (bottom + top) / 2, (top - bottom) / 2)

    def laid_out(self, action: np.ndarray) -> np.ndarray:
        """Return ``action`` [A] (padded) in the environment's own range, shape and type."""
        space = self.space
        own = self.centre + self.half * action[: len(self.low)]
        # rounding must not lead beyond a bound
        found: np.ndarray = np.clip(own.reshape(space.shape).astype(space.dtype), space.low, space.high)
        return found


def no_space(where: str, what: str, given: Any) -> str:
    """Say that ``what`` of the environment ``where`` is no space of Gymnasium's."""
    kind, old = type(given).__name__, type(given).__module__.partition(".")[0] == "gym"
    said = f"a {kind}{' of the package gym' if old else ''}"
    hint = f", which has {kind} too" if old else ""
    return (
        f"The environment '{where}' cannot be used: {what} is {said}, and a space of gymnasium.spaces is needed{hint}."
    )


def _without_mask(space: Any) -> Any:
    from gymnasium import spaces

    rest = {k: v for k, v in space.spaces.items() if k != "action_mask"}
    return rest["observation"] if list(rest) == ["observation"] else spaces.Dict(rest)


def _choices(space: Any) -> list[int]:
    """Return the number of options of each choice that a (discrete) action consists of."""
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    if isinstance(space, spaces.MultiDiscrete):
        return [int(n) for n in space.nvec.ravel()]
    if isinstance(space, spaces.MultiBinary):
        return [2] * int(np.prod(space.shape))
    if isinstance(space, spaces.Tuple) and all(isinstance(s, spaces.Discrete) for s in space):
        return [int(s.n) for s in space]
    return []


def _moves(where: str, name: str, space: Any) -> list[Any]:
    """Return the environment's own action for each numbered action of a space, the last choice fastest.

    Raises:
        UserError: not discrete, or too many combinations.
    """
    from gymnasium import spaces

    choices = _choices(space)
    if not choices:
        raise UserError(
            f"The environment '{where}' cannot be used: agent {name} has the action space {type(space).__name__}, and "
            "only Discrete, MultiDiscrete, MultiBinary, Tuples of Discretes, and Box are supported."
        )
    total = int(np.prod(np.array(choices, object)))
    if total > _MOST_ACTIONS:
        raise UserError(
            f"The environment '{where}' cannot be used: the actions of agent {name} have {total} combinations, and at "
            f"most {_MOST_ACTIONS} are supported."
        )
    if isinstance(space, spaces.Discrete):
        return [int(space.start) + a for a in range(total)]
    table = np.stack(np.unravel_index(np.arange(total), choices), axis=-1)
    if isinstance(space, spaces.Tuple):
        starts = [int(s.start) for s in space]
        return [tuple(a + s for a, s in zip(row, starts, strict=True)) for row in table.tolist()]
    start = space.start.ravel() if isinstance(space, spaces.MultiDiscrete) else 0
    return list((table + start).astype(space.dtype).reshape(total, *space.shape))
