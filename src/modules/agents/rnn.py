"""K networks of one architecture, whose parameters are the rows of one matrix.

A network is ``fc1 -> activation -> (GRU | fc2 -> activation) -> head``: EPyMARL's ``rnn`` agent and, without the
GRU, its three-layer critics. With ``layer_norm`` each activation reads normalised sums (Ba et al. 2016), as in PQN
(Gallici et al. 2024); the GRU's own sums are left as they are. Layers are views of a row of ``params`` [K, P], so that

- all K networks are evaluated in one batched product;
- one network is trained through its row alone (:meth:`Network.row`), without touching the others;
- a trust-region step has its flat parameter vector for nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...components.packing import Packing
from ...utils.schema.keys import key
from ..kernels import compiled, gru_triton
from ..kernels.gru import recurrence
from .initial import INIT_DOC, INITS, LAYER_NORM_DOC, draw_as_torch, draw_orthogonal


@dataclass(frozen=True)
class NetworkConfig:
    """Configuration of the network's architecture."""

    hidden_dim: int = key("Width of the hidden layers (and of the GRU) of policies and critics.", low=1, high=65536)
    use_rnn: bool = key("Policies carry a GRU over the episode; otherwise they are feed-forward.")
    activation: str = key("Non-linearity of the feed-forward layers.", choices=("relu", "tanh"))
    head_gain: float = key(
        "Gain of the orthogonal initialisation of policy heads: small, so that untrained policies start close (without "
        "effect with init=torch).",
        above=0,
    )
    init: str = key(INIT_DOC, choices=INITS)
    layer_norm: bool = key(LAYER_NORM_DOC)


class Network(nn.Module):
    """K stacked networks.

    Args:
        n_networks: K.
        n_inputs, n_outputs: sizes of a row's input and output.
        hidden_dim, recurrent, activation: the architecture.
        head_gain: gain of the head's orthogonal initialisation.
        generator: source of the initial parameters.
        init: ``orthogonal``: orthogonal weights (Saxe et al. 2014) of the activation's gain, the head's of
            ``head_gain``, and biases of 0; ``torch``: weights and biases as ``nn.Linear`` and ``nn.GRUCell`` draw them,
            uniform in +-1/sqrt(n), n the inputs of a linear layer (the head too) and the width of a GRU.
        n_free: free numbers of each network, the last columns of ``params``: they follow its outputs, whatever the
            input (see :mod:`oamarl.modules.heads`).
        free_start: their initial value.
        layer_norm: layer normalisation with a learned scale (1 at first) and shift (0) of the sums of each linear layer
            before an activation.
    """

    Config = NetworkConfig

    def __init__(
        self,
        n_networks: int,
        n_inputs: int,
        n_outputs: int,
        *,
        hidden_dim: int,
        recurrent: bool,
        activation: str,
        head_gain: float,
        generator: torch.Generator,
        init: str = "orthogonal",
        n_free: int = 0,
        free_start: float = 0.0,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.n_networks, self.hidden_dim, self.recurrent = n_networks, hidden_dim, recurrent
        self.activation = {"relu": torch.relu, "tanh": torch.tanh}[activation]
        self._sizes: compiled.Sizes = {
            "inputs": n_inputs, "size": hidden_dim, "outputs": n_outputs, "activation": activation,
            "layer_norm": layer_norm,
        }  # fmt: skip
        h = hidden_dim
        # GRU weights are [out, in], as torch's fused kernel takes them; linear ones [in, out], as bmm does
        middle = (
            {"w_ih": (3 * h, h), "w_hh": (3 * h, h), "b_ih": (3 * h,), "b_hh": (3 * h,)}
            if recurrent
            else {"fc2.w": (h, h), "fc2.b": (h,)} | _norm_shapes("norm2", h, layer_norm)
        )
        self.shapes: dict[str, tuple[int, ...]] = {
            "fc1.w": (n_inputs, h), "fc1.b": (h,), **_norm_shapes("norm1", h, layer_norm), **middle,
            "head.w": (h, n_outputs), "head.b": (n_outputs,),
        }  # fmt: skip
        self.n_free = n_free
        if n_free:
            self.shapes["free"] = (n_free,)
        self.sizes = [math.prod(s) for s in self.shapes.values()]
        self.params = nn.Parameter(torch.zeros(n_networks, sum(self.sizes)))
        with torch.no_grad():
            for row in self.params:
                w = self.layers(row)
                if n_free:
                    w.pop("free").fill_(free_start)
                for name in [n for n in w if n.startswith("norm")]:
                    w.pop(name).fill_(1.0 if name.endswith("scale") else 0.0)
                if init == "torch":
                    draw_as_torch(w, generator)
                else:
                    draw_orthogonal(w, activation, head_gain, generator)

    @staticmethod
    def kernel(config: NetworkConfig, device: torch.device) -> str:
        """Return what networks of this architecture run in where they are differentiated once: ``C`` or ``torch``."""
        return "C" if compiled.available(torch.empty(0, device=device), config.hidden_dim) else "torch"

    def layers(self, params: Tensor) -> dict[str, Tensor]:
        """Return the views of ``params`` [..., P]: name -> [..., *shape]."""
        named = list(self.shapes.items())
        if self.n_free and params.shape[-1] < sum(self.sizes):
            named.pop()  # parameters without the free numbers
        parts = params.split(self.sizes[: len(named)], dim=-1)
        lead = params.shape[:-1]
        return {name: part.view(*lead, *shape) for (name, shape), part in zip(named, parts, strict=True)}

    def _with_free(self, params: Tensor, outputs: Tensor) -> Tensor:
        """Append the free numbers of ``params`` [(K,) P] to ``outputs`` [(K,) L, n_outputs]."""
        free = params[..., -self.n_free :]
        free = free.view(*free.shape[:-1], *[1] * (outputs.dim() - free.dim()), self.n_free)
        return torch.cat([outputs, free.expand(*outputs.shape[:-1], self.n_free)], dim=-1)

    def row(self, k: int) -> Tensor:
        """Return network k's parameters [P] as a leaf sharing their storage: training it changes network k alone."""
        return self.params.data[k].requires_grad_()

    def initial_hidden(self, *rows: int) -> Tensor:
        """Return zeros [*rows, H]: the hidden state before an episode's first step."""
        return self.params.new_zeros(*rows, self.hidden_dim)

    def single(
        self, params: Tensor, x: Tensor, packing: Packing | None = None, hidden: Tensor | None = None, *,
        twice: bool = False,
    ) -> Tensor:  # fmt: skip
        """Evaluate ONE network on rows of steps, or (recurrent) of packed sequences.

        Args:
            params: [P].
            x: [L, I].
            packing: how the rows are sequences, for a recurrent network.
            hidden: [R, H] the recurrent network's hidden state before each sequence, in the packing's order; None:
                zeros.
            twice: the result is differentiated twice (Fisher products are), which torch's operations alone can be.

        Returns:
            [L, n_outputs (+ n_free)].
        """
        if self.n_free:
            return self._with_free(params, self._single(params[: -self.n_free], x, packing, hidden, twice))
        return self._single(params, x, packing, hidden, twice)

    def _single(self, params: Tensor, x: Tensor, packing: Packing | None, hidden: Tensor | None, twice: bool) -> Tensor:
        """:meth:`single` without free numbers: ``params`` are the layers' alone."""
        by_compiled = self._by_compiled(x, twice) and not x.requires_grad  # compiled ones have no gradient of rows
        if not self.recurrent:
            if by_compiled:
                return compiled.feed_forward(params, x, None, self._sizes)
            w = self.layers(params)
            return self._second_layer(w, x) @ w["head.w"] + w["head.b"]
        packing, hidden = self._start(x, packing, hidden)
        if by_compiled:
            return compiled.recurrent(params, x, packing.batch_sizes, hidden, self._sizes)
        w = self.layers(params)
        return torch.addmm(w["head.b"], self._states(w, x, packing.batch_sizes, hidden, twice), w["head.w"])

    def features(
        self, params: Tensor, x: Tensor, packing: Packing | None = None, hidden: Tensor | None = None
    ) -> Tensor:
        """Return the layer that ONE network's head reads, [L, H]; arguments as of :meth:`single`."""
        w = self.layers(params)
        if not self.recurrent:
            return self._second_layer(w, x)
        packing, hidden = self._start(x, packing, hidden)
        if not self._by_compiled(x):
            return self._states(w, x, packing.batch_sizes, hidden, twice=False)
        # the compiled network with a head that hands its states on
        h, body = self.hidden_dim, sum(self.sizes[: list(self.shapes).index("head.w")])
        passing = torch.cat([params[:body], torch.eye(h, dtype=params.dtype).flatten(), params.new_zeros(h)])
        return compiled.recurrent(passing, x, packing.batch_sizes, hidden, {**self._sizes, "outputs": h})

    def with_features(self, params: Tensor, x: Tensor, packing: Packing | None = None) -> tuple[Tensor, Tensor]:
        """Return ONE network's outputs [L, n_outputs (+ n_free)] and :meth:`features` [L, H], from one evaluation."""
        w, features = self.layers(params), self.features(params, x, packing)
        outputs = torch.addmm(w["head.b"], features, w["head.w"])
        return (self._with_free(params, outputs) if self.n_free else outputs), features

    def _start(self, x: Tensor, packing: Packing | None, hidden: Tensor | None) -> tuple[Packing, Tensor]:
        """The packing of a recurrent network's rows, and the hidden state before each sequence."""
        if packing is None:
            raise ValueError("a recurrent network reads sequences: packing is missing")
        return packing, x.new_zeros(len(packing.order), self.hidden_dim) if hidden is None else hidden

    def _second_layer(self, w: dict[str, Tensor], x: Tensor) -> Tensor:
        """A feed-forward network's second layer [L, H] on rows ``x`` [L, I], by torch's operations."""
        x = self.activation(_normed(w, "norm1", x @ w["fc1.w"] + w["fc1.b"]))
        return self.activation(_normed(w, "norm2", x @ w["fc2.w"] + w["fc2.b"]))

    def _states(self, w: dict[str, Tensor], x: Tensor, batch_sizes: Tensor, hidden: Tensor, twice: bool) -> Tensor:
        """A recurrent network's hidden states [S, H] on packed rows ``x`` [S, I], by torch's operations."""
        x = self.activation(_normed(w, "norm1", torch.addmm(w["fc1.b"], x, w["fc1.w"])))
        form = recurrence
        if x.is_cuda and not twice and gru_triton.available(x.device, self.hidden_dim):
            form = gru_triton.recurrence_once
        elif x.is_cuda and not twice:  # cuDNN's has no second derivative
            weights = (w["w_ih"], w["w_hh"], w["b_ih"], w["b_hh"])
            return torch.gru(x, batch_sizes, hidden.unsqueeze(0), weights, True, 1, 0.0, self.training, False)[0]
        x = torch.addmm(w["b_ih"], x, w["w_ih"].t())
        return form(x, batch_sizes, hidden, w["w_hh"], w["b_hh"])

    def _by_compiled(self, x: Tensor, twice: bool = False) -> bool:
        """Whether ``x`` goes through the compiled networks."""
        return not twice and compiled.available(x, self.hidden_dim)

    def stacked(self, params: Tensor, x: Tensor, *, twice: bool = False) -> Tensor:
        """Evaluate feed-forward networks ``params`` [K, P] on their own rows ``x`` [K, L, I]: [K, L, n_outputs (+
        n_free)]."""
        if len(params) == 1 or self._by_compiled(x, twice):
            # one network needs no batched product; compiled ones take one network
            return torch.stack([self.single(p, rows, twice=twice) for p, rows in zip(params, x, strict=True)])
        if self.n_free:
            return self._with_free(params, self._stacked(params[:, : -self.n_free], x))
        return self._stacked(params, x)

    def _stacked(self, params: Tensor, x: Tensor) -> Tensor:
        """:meth:`stacked` in batched products, without free numbers."""
        w = self.layers(params)
        return self._after_first(w, torch.baddbmm(w["fc1.b"].unsqueeze(1), x, w["fc1.w"]))

    def after_first(self, params: Tensor, sums: Tensor) -> Tensor:
        """Evaluate feed-forward networks from their first layer's sums on.

        Args:
            params: [P], or [K, P].
            sums: [L, H], or [K, L, H].

        Returns:
            [(K,) L, n_outputs].
        """
        if not self._by_compiled(sums):
            return self._after_first(self.layers(params), sums)
        if params.dim() == 1:
            return compiled.feed_forward(params, None, sums, self._sizes)
        parts = zip(params, sums, strict=True)
        return torch.stack([compiled.feed_forward(p, None, rows, self._sizes) for p, rows in parts])

    def _after_first(self, w: dict[str, Tensor], x: Tensor) -> Tensor:
        x = _affine(self.activation(_normed(w, "norm1", x)), w["fc2.w"], w["fc2.b"])
        x = self.activation(_normed(w, "norm2", x))
        return _affine(x, w["head.w"], w["head.b"])

    def step(self, w: dict[str, Tensor], x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate one time step of networks.

        Args:
            w: the layers of one network, or of K.
            x: [L, I], or [K, L, I].
            hidden: [L, H], or [K, L, H] (returned as it is by feed-forward networks).

        Returns:
            outputs [(K,) L, n_outputs (+ n_free)], the next hidden state.
        """
        x = _affine(x, w["fc1.w"], w["fc1.b"])
        if not self.recurrent:
            return self._step_outputs(w, self._after_first(w, x)), hidden
        from_input = _affine(self.activation(_normed(w, "norm1", x)), w["w_ih"].transpose(-1, -2), w["b_ih"])
        from_hidden = _affine(hidden, w["w_hh"].transpose(-1, -2), w["b_hh"])
        (xr, xz, xn), (hr, hz, hn) = from_input.chunk(3, -1), from_hidden.chunk(3, -1)
        reset, update = torch.sigmoid(xr + hr), torch.sigmoid(xz + hz)
        new = torch.tanh(xn + reset * hn)
        hidden = new + update * (hidden - new)
        return self._step_outputs(w, _affine(hidden, w["head.w"], w["head.b"])), hidden

    def _step_outputs(self, w: dict[str, Tensor], outputs: Tensor) -> Tensor:
        """``outputs`` [(K,) L, n_outputs] of one time step, with the free numbers if there are any."""
        return self._with_free(w["free"], outputs) if self.n_free else outputs


def _norm_shapes(name: str, size: int, there: bool) -> dict[str, tuple[int, ...]]:
    """The parameters of a layer normalisation, if it is ``there``."""
    return {f"{name}.scale": (size,), f"{name}.shift": (size,)} if there else {}


def _normed(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """Layer normalisation of sums x [(K,) L, H] by the layer ``name``; x itself where the networks have none."""
    if f"{name}.scale" not in w:
        return x
    scale, shift = w[f"{name}.scale"].unsqueeze(-2), w[f"{name}.shift"].unsqueeze(-2)
    return F.layer_norm(x, x.shape[-1:]) * scale + shift


def _affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W + b for one network or, in one batched product, for K."""
    return torch.addmm(bias, x, weight) if x.dim() == 2 else torch.baddbmm(bias.unsqueeze(1), x, weight)
