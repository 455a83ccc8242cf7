"""The GRU on packed sequences in torch's operations: what can be differentiated twice, on any device.

Of a step, only the product with the hidden state depends on the step before: the inputs are projected for all rows at
once, by the caller. torch's own packed GRU projects them step by step on a CPU, which takes about twice as long.

    r, z = sigmoid(x_r + h W_r + b_r), sigmoid(x_z + h W_z + b_z)       x: the projected input
    n    = tanh(x_n + r * (h W_n + b_n))
    h'   = n + z * (h - n)                                              (Cho et al. 2014, torch's order of the gates)
"""

from __future__ import annotations

import torch
from torch import Tensor


def recurrence(projected: Tensor, batch_sizes: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute the hidden states of one GRU on packed sequences.

    Args:
        projected: [S, 3H] the input's part of each gate, its bias included.
        batch_sizes: [T] the rows of each step (:class:`~oamarl.components.packing.Packing`), S in all.
        hidden: [R, H] before the first step, the longest sequence first.
        weight: [3H, H] the hidden state's weights (reset, update, candidate).
        bias: [3H] their biases.

    Returns:
        [S, H] after each step.
    """
    size, rows = hidden.shape[-1], batch_sizes.tolist()
    by_column, states = weight.t(), []
    # split, not sliced: its derivative is one concatenation, that of a slice fills a matrix with zeros
    gates, candidates = (part.split(rows) for part in projected.split((2 * size, size), dim=1))
    for n, x_gates, x_new in zip(rows, gates, candidates, strict=True):
        if n < len(hidden):
            hidden = hidden[:n]  # the last ones have ended
        h_gates, h_new = torch.addmm(bias, hidden, by_column).split((2 * size, size), dim=1)
        reset, update = torch.sigmoid(x_gates + h_gates).chunk(2, dim=1)
        new = torch.tanh(torch.addcmul(x_new, reset, h_new))
        hidden = torch.lerp(new, hidden, update)
        states.append(hidden)
    return torch.cat(states) if states else projected[:, :size]
