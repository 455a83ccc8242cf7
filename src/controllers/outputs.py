"""Raw outputs of all agents' networks (such as Q-values) at every step of a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..components.batch import Batch
from ..components.experience import no_action
from ..components.packing import Packing


@dataclass(frozen=True)
class Rows:
    """What K networks read at the real steps of a batch and after the last ones, laid out once for any parameters.

    | field | shape | meaning |
    |---|---|---|
    | shape | B, T+1, N | of the batch |
    | inputs | K x [L_k, I] | each network's rows |
    | packings | K | how they are sequences, of recurrent networks; otherwise None |
    | hidden | K x [R_k, H] | recurrent: the memory before each sequence, in the packing's order; None: zeros |
    | place | [L] int64 | where all rows are among the places [B (T+1) N]; None: they are all places, in order |
    """

    shape: tuple[int, ...]
    inputs: list[Tensor]
    packings: list[Packing | None]
    hidden: list[Tensor] | None
    place: Tensor | None


def rows_of(mac: Any, batch: Batch) -> Rows:
    """Lay out what the networks of ``mac`` read of ``batch``: whole episodes, or rows that are cut where one ends."""
    none = no_action(mac.info)
    first = torch.full_like(batch.actions[:, :1], none) if batch.before is None else batch.before.unsqueeze(1)
    x = mac.with_extras(batch.obs, torch.cat([first, batch.actions], dim=1))
    there = torch.cat([torch.ones_like(batch.filled[:, :1]), batch.filled], dim=1)
    shape, x = tuple(x.shape[:-1]), x.flatten(0, 2)
    if mac.n_networks == 1 and not mac.recurrent and bool(batch.filled.all()):
        return Rows(shape, [x], [None], None, None)
    index, places, packings = torch.tensor(mac.index, device=x.device), [], []
    hidden: list[Tensor] = []
    for k in range(mac.n_networks):
        members = (index == k).nonzero().squeeze(1)
        place, packing = _places(there, members, shape, mac.recurrent)
        places.append(place)
        packings.append(packing)
        if packing is not None and batch.hidden is not None:
            first, each = packing.order, len(members)
            hidden.append(batch.hidden[first.div(each, rounding_mode="floor"), members[first % each]])
    inputs = [x.index_select(0, place) for place in places]
    return Rows(shape, inputs, packings, hidden or None, torch.cat(places))


def all_outputs(mac: Any, batch: Batch | Rows, params: Tensor | None = None) -> Tensor:
    """Evaluate all agents' networks at all steps and after the last one; 0 where there is no observation.

    Args:
        mac: the controller.
        batch: whole episodes, or rows that are cut where an episode ends, or :func:`rows_of` them; a recurrent network
            starts from ``batch.hidden`` where that is there, otherwise from zeros.
        params: [K, P] of the networks (of a target network); None: as they are.

    Returns:
        [B, T+1, N, A].
    """
    return _everywhere(mac, batch, params, lambda *row: (mac.network.single(*row),))[0]


def all_outputs_and_features(mac: Any, batch: Batch | Rows, params: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return :func:`all_outputs` and what the networks' heads read there, [B, T+1, N, A] and [B, T+1, N, F].

    A module that does not tell what its head reads gives its inputs in their place.
    """
    outputs, features = _everywhere(mac, batch, params, mac.network.with_features)
    return outputs, features


def all_features(mac: Any, batch: Batch | Rows, params: Tensor | None = None) -> Tensor:
    """Return what the networks' heads read at all steps and after the last one, [B, T+1, N, F], alone.

    Raises:
        UserError: the module does not tell it.
    """
    return _everywhere(mac, batch, params, lambda *row: (mac.network.features(*row),))[0]


def _everywhere(
    mac: Any, batch: Batch | Rows, params: Tensor | None, evaluate: Callable[..., tuple[Tensor, ...]]
) -> tuple[Tensor, ...]:
    """What ``evaluate`` gives of the networks at all steps and after the last one, each [B, T+1, N, ...]."""
    params = mac.network.params if params is None else params
    rows = batch if isinstance(batch, Rows) else rows_of(mac, batch)
    given = [params, rows.inputs, rows.packings] + ([rows.hidden] if rows.hidden is not None else [])
    found = [evaluate(*row) for row in zip(*given, strict=True)]
    joined = [parts[0] if len(parts) == 1 else torch.cat(parts) for parts in zip(*found, strict=True)]
    if rows.place is None:
        return tuple(y.view(*rows.shape, y.shape[-1]) for y in joined)
    n = rows.shape[0] * rows.shape[1] * rows.shape[2]
    return tuple(
        y.new_zeros(n, y.shape[-1]).index_copy(0, rows.place, y).view(*rows.shape, y.shape[-1]) for y in joined
    )


def _places(there: Tensor, members: Tensor, shape: tuple[int, ...], recurrent: bool) -> tuple[Tensor, Packing | None]:
    """Where the rows [L] of the agents ``members`` are among all places, packed where their networks are recurrent."""
    each, (_, steps, agents) = len(members), shape
    if recurrent:
        packing = Packing.of(there.sum(1).repeat_interleave(each))
        of = packing.sequence
        row = of.div(each, rounding_mode="floor")
        return (row * steps + packing.step) * agents + members[of % each], packing
    step = there.flatten().nonzero().squeeze(1)
    return (step.unsqueeze(1) * agents + members).flatten(), None
