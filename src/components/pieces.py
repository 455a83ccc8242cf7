"""Segments with episodes that begin and end anywhere, as rows of one episode each."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .batch import FIRST, Batch
from .replay.episodes import Pieces
from .replay.fields import beginnings


def one_episode_a_row(batch: Batch) -> Batch:
    """Return the same steps with a row for each episode, or for each piece of one that a segment holds.

    The observation after a row's last step is the true one, whether its episode ended there or continues: nothing is
    in ``final_*``. A piece that continues an episode keeps the actions and the hidden state before it. Batches of whole
    episodes are returned as they are.

    Args:
        batch: B rows of T steps.

    Returns:
        R rows, as long as the longest of them; what is behind a row's end is zeros and not filled.
    """
    if batch.before is None:
        return batch
    pieces, device = Pieces.of(batch, batch.filled.numel()), batch.obs.device
    at, begins, length = (torch.from_numpy(x).to(device) for x in (pieces.at, pieces.begins, pieces.length))
    steps, longest = batch.actions.shape[1], int(pieces.length.max(initial=1))
    place = torch.arange(longest + 1, device=device)
    index = begins.unsqueeze(1) + torch.minimum(place, length.unsqueeze(1))
    ending = torch.from_numpy(pieces.endings(batch)).to(device)
    content, finals, found = batch.named(), {}, dict[str, Tensor]()
    for name, x in content.items():
        if name.startswith("final_") or name in FIRST:
            continue
        longer = x.shape[1] > steps
        part = x[at.unsqueeze(1), index if longer else index[:, :longest].clamp(max=steps - 1)]
        if longer and f"final_{name}" in content:
            finals[f"final_{name}"] = content[f"final_{name}"][:0]
            (ended,) = (ending >= 0).nonzero(as_tuple=True)
            part[ended, length[ended]] = content[f"final_{name}"][ending[ended]]
        part[place > length.unsqueeze(1) if longer else place[1:] > length.unsqueeze(1)] = 0
        found[name] = part
    before, _ = beginnings(batch, pieces.at, pieces.begins, pieces.begins + pieces.length - 1)
    found["before"] = torch.from_numpy(np.ascontiguousarray(before)).to(device)
    if batch.hidden is not None:
        continued = (begins == 0).view(-1, 1, 1)  # a runner's is zeros where an episode begins with the segment
        found["hidden"] = torch.where(continued, batch.hidden[at], 0.0)
    return Batch.of(found, **finals, final_index=batch.final_index[:0])
