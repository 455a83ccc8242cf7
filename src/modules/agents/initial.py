"""Initial parameters of the built-in networks: how the layers of one network are drawn, in place."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

#: values of the key ``init``
INITS = ("orthogonal", "torch")
INIT_DOC = (
    "Initial parameters of the built-in networks: orthogonal (biases 0), or as torch's nn.Linear and nn.GRUCell draw "
    "them, uniform in +-1/sqrt(inputs), biases and heads too (as in EPyMARL). Modules of one's own draw their own."
)
LAYER_NORM_DOC = (
    "Layer normalisation (Ba et al. 2016), with a learned scale and shift, of the sums of each linear layer of the "
    "built-in networks that an activation follows (with a GRU: of its input layer)."
)
#: a GRU's parameters
_GRU = ("w_ih", "w_hh", "b_ih", "b_hh")


def draw_orthogonal(
    layers: Mapping[str, Tensor], activation: str, head_gain: float, generator: torch.Generator
) -> None:
    """Draw orthogonal weights (Saxe et al. 2014) and leave the biases, which are zeros, as they are.

    Args:
        layers: name -> the layer's numbers, linear weights [in, out] and a GRU's [3 H, H], each gate by itself.
        activation: relu or tanh, whose gain the hidden layers have (the GRU: 1).
        head_gain: gain of the layer ``head``.
        generator: source of the numbers.
    """
    hidden_gain = nn.init.calculate_gain("relu" if activation == "relu" else "tanh")
    for name, view in layers.items():
        if view.dim() == 1:
            continue
        if name in _GRU:
            for gate in view.chunk(3):
                nn.init.orthogonal_(gate, 1.0, generator=generator)
        else:
            nn.init.orthogonal_(view, head_gain if name == "head.w" else hidden_gain, generator=generator)


def draw_as_torch(layers: Mapping[str, Tensor], generator: torch.Generator) -> None:
    """Draw weights and biases from the distributions of ``nn.Linear`` and ``nn.GRUCell``.

    Uniform in +-1/sqrt(n): of a linear layer n is its number of inputs, of a GRU its width (LeCun et al. 1998).
    Arguments as of :func:`draw_orthogonal`.
    """
    for name, view in layers.items():
        if name in _GRU:
            fan_in = layers["w_hh"].shape[-1]
        else:
            fan_in = layers[f"{name.partition('.')[0]}.w"].shape[0]
        bound = 1.0 / max(fan_in, 1) ** 0.5
        view.uniform_(-bound, bound, generator=generator)
