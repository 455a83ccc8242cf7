"""Adam and RAdam as torch has them, number for number, without loading torch's compiler.

The methods of torch's optimisers import ``torch._dynamo`` when they are first called, to keep the compiler out of
them: a second of processor time at every start, and nothing here is compiled. So these classes take the methods that
torch wraps for it; where a version of torch wraps none, they take what is there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

_adam: Callable[..., Any] = inspect.unwrap(torch.optim.Adam.step)
_radam: Callable[..., Any] = inspect.unwrap(torch.optim.RAdam.step)


class _Uncompiled:
    """What all of torch's optimisers have in common, as it is below the wrappers."""

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)


class Adam(_Uncompiled, torch.optim.Adam):
    """Adam (Kingma and Ba 2015) with the arguments, numbers and state of ``torch.optim.Adam``.

    On a GPU a step is one kernel that a CUDA graph can hold.
    """

    def __init__(self, params: Iterable[Tensor], **given: Any) -> None:
        params = list(params)
        if all(x.device.type == "cuda" for x in params):
            given |= {"fused": True, "capturable": True}
        super().__init__(params, **given)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state of an optimiser on any device."""
        (own, *_), groups = self.param_groups, state_dict["param_groups"]
        form = {name: own[name] for name in ("fused", "capturable", "foreach")}
        super().load_state_dict({**state_dict, "param_groups": [{**group, **form} for group in groups]})
        if not own["capturable"]:
            for found in self.state.values():
                found["step"] = found["step"].cpu()

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


@torch.no_grad()
def step_together(optimisers: Sequence[Adam]) -> None:
    """Step several optimisers of one kind, each by its own gradients, step count and learning rate.

    The numbers are those of ``step`` of each; a few operations on lists take the place of a dozen on each tensor.
    """
    if not all(_plain(optimiser) for optimiser in optimisers):
        for optimiser in optimisers:
            optimiser.step()
        return
    params, rates, firsts, seconds, counts = [], [], [], [], []
    group = optimisers[0].param_groups[0]
    for optimiser in optimisers:
        own = optimiser.param_groups[0]
        for x in own["params"]:
            state = optimiser.state[x]
            params.append(x)
            rates.append(float(own["lr"]))
            firsts.append(state["exp_avg"])
            seconds.append(state["exp_avg_sq"])
            state["step"] += 1
            counts.append(state["step"].item())
    (beta1, beta2), gradients = group["betas"], [x.grad for x in params]
    torch._foreach_lerp_(firsts, gradients, 1 - beta1)
    torch._foreach_mul_(seconds, beta2)
    torch._foreach_addcmul_(seconds, gradients, gradients, 1 - beta2)
    divisors = torch._foreach_sqrt(seconds)
    torch._foreach_div_(divisors, [(1 - beta2**n) ** 0.5 for n in counts])
    torch._foreach_add_(divisors, group["eps"])
    steps = [-(rate / (1 - beta1**n)) for rate, n in zip(rates, counts, strict=True)]
    torch._foreach_addcdiv_(params, firsts, divisors, steps)


def _plain(optimiser: Adam) -> bool:
    """Whether an optimiser has taken a step, on the CPU, by Adam's rule alone."""
    (group, *more) = optimiser.param_groups
    return (
        type(optimiser) is Adam
        and not more
        and not (group["amsgrad"] or group["weight_decay"] or group["maximize"])
        and all(x.device.type == "cpu" and optimiser.state.get(x) for x in group["params"])
    )
