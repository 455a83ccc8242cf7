"""Critics with a memory: values of whole batches step by step, and of packed sequences in regression.

L value functions read along: V, or [N, V] where each also reads the other agents' experience. One network serves all
of them, or each of the last dimension has its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...components.batch import Batch
from ...components.packing import Packing, sent
from ..stack import Stack
from .v import CriticInputs


@dataclass(frozen=True)
class Unrolled:
    """Values of a batch of B rows, and the memory that continues after it.

    | field | shape | meaning |
    |---|---|---|
    | values | [B, T+1, *L] | of all observations, the last one of each episode included; 0 where there are none |
    | final | [K, *L] | of the final observations of episodes that end inside a row (``Batch.final_index``) |
    | hidden | [B, *L, H] | after step T-1: before the next batch's first step, where its episode continues |
    """

    values: Tensor
    final: Tensor
    hidden: Tensor


def _networks(x: Tensor, n_networks: int) -> Tensor:
    """[S, *L, ...] -> [S * L, ...] for one network, or [V, S * (L / V), ...] for V of them."""
    if n_networks == 1:
        return x.flatten(0, -2)
    return x.movedim(-2, 0).flatten(1, -2)


def _values(x: Tensor, lead: torch.Size, n_networks: int) -> Tensor:
    """Undo :func:`_networks`: back to [*lead, ...]; ``lead`` = [S, *L]."""
    if n_networks == 1:
        return x.view(*lead, -1)
    return x.view(lead[-1], *lead[:-1], -1).movedim(0, -2)


def step(network: Stack, w: dict[str, Tensor], k: int, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """One time step of ``k`` networks with layers ``w``: x [S, *L, I], hidden [S, *L, H] -> values [S, *L], hidden."""
    lead = x.shape[:-1]
    out, following = network.step(w, _networks(x, k), _networks(hidden, k))
    return _values(out, lead, k).squeeze(-1), _values(following, lead, k)


@torch.no_grad()
def unroll(
    network: Stack, params: Tensor, inputs: CriticInputs, final: CriticInputs, batch: Batch, hidden: Tensor
) -> Unrolled:
    """Evaluate a batch step by step, each episode from zeros and each continued one from ``hidden`` [B, *L, H].

    Args:
        network: the critic.
        params: [K, P], one network for all value functions or one for each of the last dimension.
        inputs: [B, T+1, ...], of the observations.
        final: [K', ...], of the final observations of episodes that end inside a row.
        batch: where steps are real and episodes begin.
        hidden: before the first step.
    """
    x, x_final, k = inputs.assembled(), final.assembled(), len(params)
    w = network.layers(params if k > 1 else params[0])
    steps = batch.filled.shape[1]
    zero = torch.zeros_like(batch.filled[:, :1])
    # an observation has a value if a step was taken from it or led to it
    shown = torch.cat([batch.filled, zero], 1) | torch.cat([zero, batch.filled], 1)
    # rows that are whole episodes show an episode's last observation where the next one would begin
    begins = batch.begins if batch.before is not None else torch.zeros_like(shown)
    values = x.new_zeros(x.shape[:-1])
    finals = x.new_zeros(x_final.shape[:-1])
    ended_row, ended_step = batch.final_index.unbind(1)
    hidden = hidden.clone()
    after = hidden
    for t in range(steps + 1):
        (which,) = (ended_step == t - 1).nonzero(as_tuple=True)
        if len(which):
            finals[which] = step(network, w, k, x_final[which], hidden[ended_row[which]])[0]
        after = hidden
        rows = shown[:, t].nonzero(as_tuple=True)[0]
        now = torch.where(begins[rows, t].view(-1, *[1] * (hidden.dim() - 1)), 0.0, hidden[rows])
        values[rows, t], following = step(network, w, k, x[rows, t], now)
        hidden = hidden.index_copy(0, rows, following)
    return Unrolled(values, finals, after)


@dataclass(frozen=True)
class Sequences:
    """The sequences that the real steps of a batch consist of, cut where episodes begin.

    Real steps are numbered row by row, so that a sequence's are side by side.

    | field | shape | meaning |
    |---|---|---|
    | first | [R] int64 | each sequence's first step |
    | lengths | [R] int64, on the CPU | their steps |
    | hidden | [R, *L, H] | the memory before each; zeros where an episode begins |
    """

    first: Tensor
    lengths: Tensor
    hidden: Tensor

    @classmethod
    def of(cls, batch: Batch, hidden: Tensor) -> Sequences:
        """Cut a batch whose rows begin with the memory ``hidden`` [B, *L, H]."""
        row, step = batch.filled.nonzero(as_tuple=True)
        begins = batch.begins[row, step]
        # the first real step of a row starts a sequence, whether or not an episode begins there
        starts = begins | torch.cat([torch.ones_like(row[:1]), row.diff()]).bool()
        (first,) = starts.nonzero(as_tuple=True)
        lengths = torch.cat([first[1:], first.new_full((1,), len(row))]) - first
        carried = ((step[first] == 0) & ~begins[first]).view(-1, *[1] * (hidden.dim() - 1))
        return cls(first, lengths.cpu(), torch.where(carried, hidden[row[first]], 0.0))

    def __len__(self) -> int:
        return len(self.first)

    def pack(self, part: Tensor) -> tuple[Tensor, Packing, Tensor]:
        """Pack the sequences ``part`` [R'], numbers on the CPU.

        Returns:
            the numbers [S'] of the steps in packed order, the layout, and the memory before each sequence in
            ``packing.order``.
        """
        packing = Packing.of(self.lengths[part], self.first.device)
        part = sent(part, self.first.device)
        rows = self.first[part][packing.sequence] + packing.step
        return rows, packing, self.hidden[part[packing.order]]


def packed_values(network: Stack, params: Tensor, x: CriticInputs, packing: Packing, hidden: Tensor) -> Tensor:
    """Values [S, *L] on packed rows ``x`` of sequences that begin with the memory ``hidden`` [R, *L, H]."""
    rows, k = x.assembled(), len(params)
    lead = rows.shape[:-1]
    each = rows[0].numel() // rows.shape[-1] // (1 if k == 1 else k)
    layout = _repeated(packing, each)
    if k == 1:
        out = network.single(params[0], _networks(rows, 1), layout, _networks(hidden, 1))
        return _values(out, lead, 1).squeeze(-1)
    several = zip(params, _networks(rows, k), _networks(hidden, k), strict=True)
    outs = torch.stack([network.single(p, own, layout, before) for p, own, before in several])
    return _values(outs, lead, k).squeeze(-1)


def _repeated(packing: Packing, n: int) -> Packing:
    """The layout in which each sequence stands ``n`` times, side by side."""
    if n == 1:
        return packing
    copies = torch.arange(n, device=packing.order.device)
    order = (packing.order.unsqueeze(1) * n + copies).flatten()
    sequence = (packing.sequence.unsqueeze(1) * n + copies).flatten()
    return Packing(packing.batch_sizes * n, order, sequence, packing.step.repeat_interleave(n))
