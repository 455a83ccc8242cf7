"""Adam and RAdam as torch has them, number for number, without loading torch's compiler.

The methods of torch's optimisers import ``torch._dynamo`` when they are first called, to keep the compiler out of
them: a second of processor time at every start, and nothing here is compiled. So these classes take the methods that
torch wraps for it; where a version of torch wraps none, they take what is there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

_adam: Callable[..., Any] = inspect.unwrap(torch.optim.Adam.step)
_radam: Callable[..., Any] = inspect.unwrap(torch.optim.RAdam.step)


class _Uncompiled:
    """What all of torch's optimisers have in common, as it is below the wrappers."""

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)


class Adam(_Uncompiled, torch.optim.Adam):
    """Adam (Kingma and Ba 2015) with the arguments, numbers and state of ``torch.optim.Adam``."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; returns what ``closure``, which may compute the gradients, returned."""
        return _adam(self, closure)


class RAdam(_Uncompiled, torch.optim.RAdam):
    """Rectified Adam (Liu et al. 2020) with the arguments, numbers and state of ``torch.optim.RAdam``."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; returns what ``closure``, which may compute the gradients, returned."""
        return _radam(self, closure)
