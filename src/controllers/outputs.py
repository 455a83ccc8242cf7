"""Raw outputs of all agents' networks (such as Q-values) at every step of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..components.batch import Batch
from ..components.experience import no_action
from ..components.packing import Packing


def all_outputs(mac: Any, batch: Batch, params: Tensor | None = None) -> Tensor:
    """Evaluate all agents' networks at all steps and after the last one; 0 where there is no observation.

    Args:
        mac: the controller.
        batch: whole episodes, or rows that are cut where an episode ends; a recurrent network starts from
            ``batch.hidden`` where that is there, otherwise from zeros.
        params: [K, P] of the networks (of a slow copy); None: as they are.

    Returns:
        [B, T+1, N, A].
    """
    return _everywhere(mac, batch, params, lambda *row: (mac.network.single(*row),))[0]


def all_outputs_and_features(mac: Any, batch: Batch, params: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return :func:`all_outputs` and what the networks' heads read there, [B, T+1, N, A] and [B, T+1, N, F].

    A module that does not tell what its head reads gives its inputs in their place.
    """
    outputs, features = _everywhere(mac, batch, params, mac.network.with_features)
    return outputs, features


def _everywhere(
    mac: Any, batch: Batch, params: Tensor | None, evaluate: Callable[..., tuple[Tensor, ...]]
) -> tuple[Tensor, ...]:
    """What ``evaluate`` gives of the networks at all steps and after the last one, each [B, T+1, N, ...]."""
    params = mac.network.params if params is None else params
    none = no_action(mac.info)
    first = torch.full_like(batch.actions[:, :1], none) if batch.before is None else batch.before.unsqueeze(1)
    x = mac.with_extras(batch.obs, torch.cat([first, batch.actions], dim=1))
    there = torch.cat([torch.ones_like(batch.filled[:, :1]), batch.filled], dim=1)
    index, places, found = torch.tensor(mac.index, device=x.device), [], []
    for k in range(mac.n_networks):
        members = (index == k).nonzero().squeeze(1)
        places.append(_rows(there, members, mac.recurrent))
        *at, packing = places[-1]
        given = [params[k], x[tuple(at)], packing]
        if packing is not None and batch.hidden is not None:
            first = packing.order
            given.append(batch.hidden[first.div(len(members), rounding_mode="floor"), members[first % len(members)]])
        found.append(evaluate(*given))
    where = tuple(torch.cat(parts) for parts in zip(*(place[:3] for place in places), strict=True))
    joined = [torch.cat(parts) for parts in zip(*found, strict=True)]
    return tuple(y.new_zeros(*x.shape[:-1], y.shape[-1]).index_put(where, y) for y in joined)


def _rows(there: Tensor, members: Tensor, recurrent: bool) -> tuple[Tensor, Tensor, Tensor, Packing | None]:
    """Row, step and agent of each row [L] of the agents ``members``, packed where their networks are recurrent."""
    if recurrent:
        packing = Packing.of(there.sum(1).repeat_interleave(len(members)))
        of = packing.sequence
        return of.div(len(members), rounding_mode="floor"), packing.step, members[of % len(members)], packing
    row, step = there.nonzero(as_tuple=True)
    each = len(members)
    return row.repeat_interleave(each), step.repeat_interleave(each), members.repeat(len(row)), None
