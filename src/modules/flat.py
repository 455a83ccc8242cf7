"""One ``nn.Module`` as a function of a vector of parameters, so that it has target networks and clipped gradients as
all networks of the framework have."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


class FlatModule(nn.Module):
    """A module whose parameters are the row of one matrix.

    | attribute | meaning |
    |---|---|
    | params | [1, P] |

    Args:
        make: builds the module, its parameters by torch's global random stream.
        generator: source of the seed of its initial parameters.
    """

    def __init__(self, make: Callable[[], nn.Module], generator: torch.Generator) -> None:
        super().__init__()
        seed = int(torch.randint(2**63 - 1, (), generator=generator))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = make()
        self.shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
        # finding out at every call takes longer than a small module
        self._tied = len(dict(module.named_parameters(remove_duplicate=False))) > len(self.shapes)
        self.sizes = [math.prod(shape) for shape in self.shapes.values()]
        row = torch.cat([torch.zeros(0), *(p.detach().flatten() for p in module.parameters())])
        self.params = nn.Parameter(row.unsqueeze(0))
        # In a list, so that its own parameters are none of this module. It is only ever copied: a functional call
        # changes the module that it calls while it lasts, so that each thread needs one of its own.
        self._pristine = [copy.deepcopy(module).requires_grad_(False)]
        self._by_thread: dict[int, nn.Module] = {}

    def forward(self, params: Tensor, *args: Any) -> Any:
        """Return the module's outputs of ``args`` with ``params`` [1, P]."""
        thread = threading.get_ident()
        if thread not in self._by_thread:
            self._by_thread[thread] = copy.deepcopy(self._pristine[0])
        parts = params[0].split(self.sizes)
        named = {name: x.view(shape) for (name, shape), x in zip(self.shapes.items(), parts, strict=True)}
        return functional_call(self._by_thread[thread], named, args, tie_weights=self._tied)

    def _apply(self, fn: Callable[[Any], Any], recurse: bool = True) -> Any:
        """Move the module's buffers together with the parameters."""
        self._pristine[0]._apply(fn, recurse)
        self._by_thread.clear()
        return super()._apply(fn, recurse)
