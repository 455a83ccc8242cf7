"""Any ``nn.Module`` as K stacked networks: the parameters of its copies are the rows of one matrix.

A module keeps this contract:

    class Mine(nn.Module):
        def __init__(self, inputs, outputs, config): ...   inputs: an int, with obs_size, obs_shape, n_actions, n_agents
        def forward(self, x, hidden): ...                  x [L, I], hidden [L, H] -> out [L, A], hidden [L, H]
        def initial_hidden(self, rows): ...                only where it has a memory: zeros [rows, H]
        def features(self, x, hidden): ...                 only for learners that need what the last layer reads

With the attribute ``sequences = True`` it takes whole padded sequences, x [T, R, I] and hidden [R, H], and returns
out [T, R, A] and the memory after step T.
"""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ...components.packing import Packing
from ...utils.errors import UserError, first_line
from ..stack import Inputs
from .module_checks import Candidate, check, construct

#: The name in `layers` of numbers that are outputs themselves.
_FREE = "free outputs"


class ModuleStack(nn.Module):
    """K copies of a module; see :class:`~oamarl.modules.stack.Stack`.

    Args:
        module: the class.
        n_networks: K.
        inputs, n_outputs: sizes of a row's input and output.
        config: what the module reads.
        generator: source of the initial parameters, which are the module's own (torch's defaults).
        kind: the key that names the class, for messages.
        n_free: numbers at the end of each row of parameters that are appended to every output as they are.
        free_start: their initial value.

    Raises:
        UserError: a module that does not keep the contract, in one sentence.
    """

    def __init__(
        self,
        module: type[nn.Module],
        n_networks: int,
        inputs: Inputs,
        n_outputs: int,
        config: Any,
        generator: torch.Generator,
        *,
        kind: str = "agent",
        n_free: int = 0,
        free_start: float = 0.0,
    ) -> None:
        super().__init__()
        self.name = f"{kind}={module.__module__}:{module.__qualname__}"
        self.n_networks, self._n_inputs = n_networks, int(inputs)
        candidate = Candidate(self.name, module, inputs, n_outputs, config)
        seed = int(torch.randint(2**63 - 1, (), generator=generator))
        copies = construct(candidate, seed, n_networks + 1)
        self.memory = check(candidate, copies, construct(candidate, seed, 1)[0])
        self.recurrent = callable(getattr(module, "initial_hidden", None))
        self.sequences = bool(getattr(module, "sequences", False))
        parameters = dict(copies[0].named_parameters())
        self.shapes: dict[str, tuple[int, ...]] = {name: tuple(p.shape) for name, p in parameters.items()}
        self._frozen = {name for name, p in parameters.items() if not p.requires_grad}
        if n_free:
            self.shapes[_FREE] = (n_free,)
        self.sizes = [math.prod(shape) for shape in self.shapes.values()]
        free = torch.full((n_free,), free_start, dtype=torch.get_default_dtype())
        rows = [torch.cat([*(p.detach().flatten() for p in c.parameters()), free]) for c in copies[:n_networks]]
        self.params = nn.Parameter(torch.stack(rows))
        # Lists, so that their parameters are not this module's. The first is only ever copied: a functional call
        # changes the module that it calls while it lasts, so that each thread needs one of its own.
        self._pristine = [_Steps(copies[0], self.sequences).requires_grad_(False)]
        self._by_thread: dict[int, nn.Module] = {}

    def _apply(self, fn: Callable[[Any], Any], recurse: bool = True) -> Any:
        """Move the modules' buffers together with the parameters."""
        self._pristine[0]._apply(fn, recurse)
        self._by_thread.clear()
        return super()._apply(fn, recurse)

    def _call(
        self, w: dict[str, Tensor], x: Tensor, hidden: Tensor, sizes: list[int] | None, method: str = "forward"
    ) -> tuple[Tensor, Tensor]:
        """One network of layers ``w``: on rows of one step, or on packed rows with the number of rows of each step."""
        thread = threading.get_ident()
        if thread not in self._by_thread:
            self._by_thread[thread] = copy.deepcopy(self._pristine[0])
        own = {f"module.{name}": t.detach() if name in self._frozen else t for name, t in w.items() if name != _FREE}
        out, hidden = functional_call(self._by_thread[thread], own, (x, hidden, sizes, method))
        if _FREE in w and method == "forward":
            out = torch.cat([out, w[_FREE].expand(*out.shape[:-1], -1)], dim=-1)
        return out, hidden

    def layers(self, params: Tensor) -> dict[str, Tensor]:
        """Return the views of ``params`` [..., P]: name -> [..., *shape]."""
        parts, lead = params.split(self.sizes, dim=-1), params.shape[:-1]
        return {name: part.view(*lead, *shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def row(self, k: int) -> Tensor:
        """Return network k's parameters [P] as a leaf sharing their storage: training it changes network k alone."""
        return self.params.data[k].requires_grad_()

    def initial_hidden(self, *rows: int) -> Tensor:
        """Return zeros [*rows, H]: the memory before an episode's first step."""
        return self.params.new_zeros(*rows, self.memory)

    def single(
        self,
        params: Tensor,
        x: Tensor,
        packing: Packing | None = None,
        hidden: Tensor | None = None,
        twice: bool = False,
    ) -> Tensor:
        """Evaluate one network ``params`` [P] on rows x [L, I], or (recurrent) on packed rows x [S, I].

        ``hidden`` [R, H]: before each sequence, in ``packing.order``; None: zeros. ``twice`` changes nothing: the
        module's own operations are used in any case.
        """
        return self._rows(params, x, packing, hidden, "forward")

    def features(
        self, params: Tensor, x: Tensor, packing: Packing | None = None, hidden: Tensor | None = None
    ) -> Tensor:
        """Return what the module's ``features(x, hidden)`` gives, [L, F] or [S, F]; arguments as of :meth:`single`.

        Raises:
            UserError: it has no such method.
        """
        if not self._tells_features():
            raise UserError(
                f"{self.name} has no method features(self, x, hidden) -> (features, hidden), which gives what its last "
                "layer reads: the learner needs it."
            )
        return self._rows(params, x, packing, hidden, "features")

    def with_features(self, params: Tensor, x: Tensor, packing: Packing | None = None) -> tuple[Tensor, Tensor]:
        """Return outputs [L, A] and :meth:`features` [L, F], or ``x`` in their place where the module has none."""
        outputs = self.single(params, x, packing)
        return outputs, self.features(params, x, packing) if self._tells_features() else x

    @property
    def module(self) -> nn.Module:
        """One copy of the module, whose own parameters are not used."""
        found: nn.Module = self._pristine[0].module
        return found

    def by_method(self, method: str, params: Tensor, x: Tensor) -> Tensor:
        """Return what another method of the module, called as ``forward`` is for one step, gives for rows ``x`` [L, .]
        with the parameters [P] of one network."""
        return self._call(self.layers(params), x, x.new_zeros(len(x), self.memory), None, method)[0]

    def _tells_features(self) -> bool:
        return callable(getattr(self._pristine[0].module, "features", None))

    def _rows(self, params: Tensor, x: Tensor, packing: Packing | None, hidden: Tensor | None, method: str) -> Tensor:
        w = self.layers(params)
        if packing is None:
            return self._call(w, x, x.new_zeros(len(x), self.memory), None, method)[0]
        if hidden is None:
            hidden = x.new_zeros(len(packing.order), self.memory)
        return self._call(w, x, hidden, packing.batch_sizes.tolist(), method)[0]

    def stacked(self, params: Tensor, x: Tensor, twice: bool = False) -> Tensor:
        """Evaluate feed-forward networks ``params`` [K, P] on their own rows ``x`` [K, L, I]: [K, L, A]."""
        return torch.stack([self.single(p, rows) for p, rows in zip(params, x, strict=True)])

    def step(self, w: dict[str, Tensor], x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate one time step: x [L, I] by one network, or [K, L, I] by K; see :class:`Stack`."""
        if x.dim() == 2:
            out, following = self._call(w, x, hidden, None)
            return out, following if self.recurrent else hidden
        each = [self.step({name: t[k] for name, t in w.items()}, x[k], hidden[k]) for k in range(len(x))]
        return torch.stack([out for out, _ in each]), torch.stack([following for _, following in each])

    def check_twice(self, who: str) -> None:
        """Refuse operations without a second derivative, where the parameters now are.

        Args:
            who: the method that needs it.

        Raises:
            UserError: naming the module and what torch says.
        """
        device = self.params.device
        packing = Packing.of(torch.tensor([2, 1], device=device)) if self.recurrent else None
        x = torch.linspace(-1, 1, 3 * self._n_inputs, dtype=self.params.dtype, device=device).view(3, -1)
        leaf = self.params[0].detach().requires_grad_()
        try:
            loss = self.single(leaf, x, packing, twice=True).square().sum()
            (gradient,) = torch.autograd.grad(loss, leaf, create_graph=True)
            # backward, not grad: it also meets what is no longer connected to the parameters, and would be left out
            gradient.square().sum().backward()
        except RuntimeError as error:  # NotImplementedError is one
            raise UserError(
                f"{who} differentiates policies twice, and {self.name} has an operation without a second derivative "
                f"({first_line(error)}): use a first-order method such as mappo, happo or oappo, or other operations."
            ) from error


class _Steps(nn.Module):
    """A module on packed rows, so that one functional call evaluates all time steps."""

    def __init__(self, module: nn.Module, sequences: bool) -> None:
        super().__init__()
        self.module, self.sequences = module, sequences

    def forward(
        self, x: Tensor, hidden: Tensor, sizes: list[int] | None, method: str = "forward"
    ) -> tuple[Tensor, Tensor]:
        call = getattr(self.module, method)
        if not self.sequences:
            if sizes is None:
                out, hidden = call(x, hidden)
                return out, hidden
            found = []
            for rows in x.split(sizes):
                out, hidden = call(rows, hidden[: len(rows)])
                found.append(out)
            return torch.cat(found), hidden
        if sizes is None:
            out, hidden = call(x.unsqueeze(0), hidden)
            return out[0], hidden
        real = torch.arange(sizes[0], device=x.device) < torch.tensor(sizes, device=x.device).unsqueeze(1)  # [T, R]
        padded = x.new_zeros(*real.shape, x.shape[-1])
        padded[real] = x
        out, hidden = call(padded, hidden)
        return out[real], hidden
