"""One actor for several runs that play together: groups of slots, each acted for by the policies of its own run.

Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..components.experience import Field
from .acting import Actor, NetworkActor
from .kernels.grouped_policy import GroupedInference
from .kernels.numpy_policy import Form, Inference
from .selector_contract import Context, Noise, Selector

#: (obs, avail, last actions, hidden, noise) of S slots
_Given = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, "np.ndarray | None"]


@dataclass(frozen=True)
class Groups:
    """Which slots are whose: ``size`` consecutive slots a group, and for each group the context of its run.

    Attributes:
        size: slots of a group, B.
        contexts: of each of all groups; None: the group does not play.
    """

    size: int
    contexts: tuple[Context | None, ...]

    def pieces(self, first: int, count: int) -> list[tuple[list[int], slice]]:
        """Return the groups that play in the slots ``first`` to ``first + count - 1``, and where their slots are there.

        Neighbouring groups that have all their slots there are one piece.
        """
        found: list[tuple[list[int], slice]] = []
        for g, context in enumerate(self.contexts):
            a, b = max(g * self.size, first) - first, min((g + 1) * self.size, first + count) - first
            if context is None or a >= b:
                continue
            whole = b - a == self.size
            if found and whole and found[-1][1].stop == a and found[-1][1].stop - found[-1][1].start >= self.size:
                groups, place = found[-1]
                if (place.stop - place.start) == self.size * len(groups):
                    found[-1] = ([*groups, g], slice(place.start, b))
                    continue
            found.append(([g], slice(a, b)))
        return found


class GroupedActor:
    """The actors of several runs as one; see :class:`~.acting.Actor`.

    Args:
        groups: whose slots are whose.
        actors: of each group, None where it does not play; alike but for their numbers.
    """

    def __init__(self, groups: Groups, actors: Sequence[Actor | None]) -> None:
        self.groups = groups
        self._actors = actors
        one = next(actor for actor in actors if actor is not None)
        self.noise: Noise | None = one.noise
        self.width = one.width
        self.fields: tuple[Field, ...] = one.fields
        self.extras: Mapping[str, np.ndarray] = {}
        self.arrays: Mapping[str, np.ndarray] | None = None
        self.recipe: Callable[[Mapping[str, np.ndarray]], Actor] | None = None
        networks = [a.network if isinstance(a, NetworkActor) else None for a in actors]
        if isinstance(one, NetworkActor) and isinstance(one.network, Inference):
            # a group that does not play has some other group's policies
            arrays = [(n if isinstance(n, Inference) else one.network).arrays for n in networks]
            self.arrays = {name: np.stack([a[name] for a in arrays]) for name in arrays[0]}
            self.recipe = partial(_again, groups, one.network.form, one.selector, one.n_actions)
        self._pieces: list[tuple[Actor, slice, Context]] = []

    def placed(self, first: int, count: int) -> Actor:
        """Return the actor of ``count`` slots from slot ``first`` on."""
        pieces: list[tuple[Any, slice, tuple[Context, ...]]] = []
        for members, place in self.groups.pieces(first, count):
            contexts = tuple(c for c in (self.groups.contexts[g] for g in members) if c is not None)
            one = self._actors[members[0]]
            assert one is not None
            if len(members) > 1 and isinstance(one, NetworkActor) and isinstance(one.network, Inference):
                assert self.arrays is not None
                network = GroupedInference(one.network.form, {k: x[members] for k, x in self.arrays.items()})
                pieces.append((_Joint(network, one.selector, self.groups.size), place, contexts))
                continue
            size = (place.stop - place.start) // len(members)
            for k, g in enumerate(members):
                start = place.start + k * size
                pieces.append((self._actors[g], slice(start, start + size), contexts[k : k + 1]))
        return _Placed(pieces, self)

    def __call__(
        self, obs: np.ndarray, avail: np.ndarray, last_actions: np.ndarray, hidden: np.ndarray,
        noise: np.ndarray | None, context: Context,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
        """Act for all slots of all groups."""
        placed = self.placed(0, len(obs))
        found = placed(obs, avail, last_actions, hidden, noise, context)
        self.extras = placed.extras
        return found


class _Joint:
    """Policies of several groups in one evaluation, and their selector: joint too where it knows no steps of a run."""

    def __init__(self, network: GroupedInference, selector: Selector, size: int) -> None:
        self._network, self._selector, self._size = network, selector, size
        # a class that says nothing of it itself may read them, whatever it inherits
        self._by_context = vars(type(selector)).get("reads_steps", True)
        self.extras: Mapping[str, np.ndarray] = {}

    def __call__(
        self, obs: np.ndarray, avail: np.ndarray, last_actions: np.ndarray, hidden: np.ndarray,
        noise: np.ndarray | None, contexts: tuple[Context, ...],
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
        outputs, following = self._network(obs, last_actions, hidden)
        alike = not self._by_context or len(set(contexts)) == 1
        cuts = [slice(None)] if alike else [slice(k * self._size, (k + 1) * self._size) for k in range(len(contexts))]
        parts, extras = [], []
        for cut, context in zip(cuts, contexts, strict=False):
            drawn = None if noise is None else noise[cut]
            chosen = self._selector.select(outputs[cut], avail[cut], drawn, context)
            parts.append(chosen)
            if self._selector.fields:
                extras.append(self._selector.record(outputs[cut], avail[cut], chosen[0]))
        if extras:
            self.extras = {name: np.concatenate([x[name] for x in extras]) for name in extras[0]}
        actions, log_prob = parts[0] if alike else (np.concatenate(x) for x in zip(*parts, strict=True))
        return actions, log_prob, following


class _Placed:
    """The pieces of a :class:`GroupedActor` for certain slots."""

    recipe: Any = None
    arrays: Mapping[str, np.ndarray] | None = None

    def __init__(self, pieces: list[tuple[Any, slice, tuple[Context, ...]]], whole: GroupedActor) -> None:
        self._pieces = pieces
        self.noise, self.width, self.fields = whole.noise, whole.width, whole.fields
        self.extras: Mapping[str, np.ndarray] = {}

    def __call__(
        self, obs: np.ndarray, avail: np.ndarray, last_actions: np.ndarray, hidden: np.ndarray,
        noise: np.ndarray | None, context: Context,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
        if len(self._pieces) == 1 and self._pieces[0][1] == slice(0, len(obs)):
            actor, _, contexts = self._pieces[0]
            given = contexts if isinstance(actor, _Joint) else contexts[0]
            found: tuple[np.ndarray, np.ndarray, np.ndarray] = actor(obs, avail, last_actions, hidden, noise, given)
            self.extras = actor.extras
            return found
        out: list[np.ndarray] = []
        extras: dict[str, np.ndarray] = {}
        for actor, place, contexts in self._pieces:
            drawn = None if noise is None else noise[place]
            given = contexts if isinstance(actor, _Joint) else contexts[0]
            chosen = actor(obs[place], avail[place], last_actions[place], hidden[place], drawn, given)
            if not out:
                # slots of groups that do not play are not stepped: any actions will do; they keep their memory
                out = [np.zeros((len(obs), *x.shape[1:]), x.dtype) for x in chosen[:2]] + [hidden.copy()]
                extras = {name: np.zeros((len(obs), *x.shape[1:]), x.dtype) for name, x in actor.extras.items()}
            for whole, part in zip(out, chosen, strict=True):
                whole[place] = part
            for name, part in actor.extras.items():
                extras[name][place] = part
        self.extras = extras
        return out[0], out[1], out[2]


def _again(
    groups: Groups, form: Form, selector: Selector, n_actions: int, arrays: Mapping[str, np.ndarray]
) -> GroupedActor:
    """The actor in another process, from the arrays of all groups."""
    each = [{name: x[g] for name, x in arrays.items()} for g in range(len(groups.contexts))]
    actors = [
        None if context is None else NetworkActor(Inference(form, own), selector, n_actions)
        for own, context in zip(each, groups.contexts, strict=True)
    ]
    return GroupedActor(groups, actors)
