"""What a module must keep to be a network, checked before a run: one sentence names what lacks."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parameter import UninitializedParameter

from ...utils.errors import UserError, first_line, lacks_memory
from ..stack import Inputs

#: Rows and steps of the calls that a module is tried with, and how far equal outputs may be apart.
_ROWS, _STEPS, _TOLERANCE = 3, 3, 1e-4


@dataclass(frozen=True)
class Candidate:
    """A module class and what it is built from; ``name`` is how messages call it (``agent=package:Class``)."""

    name: str
    module: type[nn.Module]
    inputs: Inputs
    n_outputs: int
    config: Any

    def refuse(self, what: str) -> NoReturn:
        """Raise the sentence about what is wrong."""
        raise UserError(f"{self.name} {what}.")

    def failed(self, where: str, error: Exception) -> NoReturn:
        """Raise the sentence about an exception of the module's own."""
        if lacks_memory(error):
            raise error
        if isinstance(error, AttributeError) and error.obj is self.config:
            keys = ", ".join(f.name for f in dataclasses.fields(self.config))  # type: ignore[arg-type]
            raise UserError(
                f"{self.name} reads config.{error.name}, and its keys are {keys}: declare all that it reads in a "
                "dataclass `Config` in the class."
            ) from error
        raise UserError(f"{self.name} fails in {where}: {type(error).__name__}: {first_line(error)}.") from error


def construct(candidate: Candidate, seed: int, n: int) -> list[nn.Module]:
    """Build ``n`` copies whose initial parameters follow ``seed``; torch's global generator stays as it was.

    Raises:
        UserError: not a module, a constructor with other arguments, or an exception in it.
    """
    cls = candidate.module
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        candidate.refuse("is not a torch.nn.Module")
    if not _callable_with(cls, 3):
        candidate.refuse("has another constructor than __init__(self, inputs, outputs, config)")
    if cls.forward is nn.Module.forward or not _callable_with(cls.forward, 3):
        candidate.refuse("has no method forward(self, x, hidden)")
    memory = getattr(cls, "initial_hidden", None)
    if callable(memory) and not _callable_with(memory, 2):
        candidate.refuse("has a method initial_hidden that does not take (self, rows)")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return [cls(candidate.inputs, candidate.n_outputs, candidate.config) for _ in range(n)]
        except Exception as error:  # a user's own code
            candidate.failed("__init__", error)


def _callable_with(function: Any, n: int) -> bool:
    try:
        inspect.signature(function).bind(*[None] * n)
    except (TypeError, ValueError):
        return False
    return True


def check(candidate: Candidate, copies: Sequence[nn.Module], again: nn.Module) -> int:
    """Check a module on a few rows.

    Args:
        candidate: the module.
        copies: two or more, built one after another.
        again: the first of them built once more, whose state may change here.

    Returns:
        H, the size of its memory; 0 without one.

    Raises:
        UserError: in one sentence, what it does not keep.
    """
    _check_parameters(candidate, copies, again)
    memory = _memory(candidate, again)
    with torch.no_grad():
        if getattr(candidate.module, "sequences", False):
            if not callable(getattr(again, "initial_hidden", None)):
                candidate.refuse("has sequences = True and no method initial_hidden(self, rows), which says its memory")
            _check_sequences(candidate, again, memory)
        else:
            _check_rows(candidate, again, memory)
    _check_self_contained(candidate, copies, memory)
    return memory


def _check_parameters(candidate: Candidate, copies: Sequence[nn.Module], again: nn.Module) -> None:
    parameters = [dict(c.named_parameters()) for c in copies]
    if not parameters[0]:
        candidate.refuse("has no parameters: its layers must be attributes of it (a list of layers an nn.ModuleList)")
    for name, p in parameters[0].items():
        if isinstance(p, UninitializedParameter):
            candidate.refuse(f"has the parameter '{name}' without a size: lazy layers are not supported")
        if p.dtype != torch.get_default_dtype() or p.device.type != "cpu":
            candidate.refuse(
                f"has the parameter '{name}' of type {p.dtype} on {p.device}: "
                f"{torch.get_default_dtype()} on the CPU is expected, the run moves it"
            )
    if not any(p.requires_grad for p in parameters[0].values()):
        candidate.refuse("has no parameter that can be trained (requires_grad is False for all)")
    shapes = [{name: p.shape for name, p in each.items()} for each in parameters]
    if any(each != shapes[0] for each in shapes):
        candidate.refuse("has other parameters in each copy: their names and shapes must not vary")
    owned = {p.untyped_storage().data_ptr(): name for name, p in parameters[0].items()}
    for name, p in parameters[1].items():
        if p.untyped_storage().data_ptr() in owned:
            candidate.refuse(f"shares its parameter '{name}' between copies: create it in __init__")
    if any(not torch.equal(p, parameters[0][name]) for name, p in again.named_parameters()):
        candidate.refuse("has initial parameters that do not follow torch's seed: draw them by torch")


def _memory(candidate: Candidate, module: nn.Module) -> int:
    """H, from two calls of ``initial_hidden``."""
    begin: Any = getattr(module, "initial_hidden", None)
    if not callable(begin):
        return 0
    sizes = []
    for rows in (1, _ROWS):
        try:
            hidden = begin(rows)
        except Exception as error:
            candidate.failed("initial_hidden", error)
        if not isinstance(hidden, Tensor) or hidden.dim() != 2 or len(hidden) != rows:
            got = tuple(hidden.shape) if isinstance(hidden, Tensor) else type(hidden).__name__
            candidate.refuse(
                f"returns {got} from initial_hidden({rows}): zeros of shape [{rows}, H] are expected, in one "
                "tensor (of an LSTM, h and c side by side)"
            )
        if hidden.dtype != torch.get_default_dtype() or bool((hidden != 0).any()):
            candidate.refuse(
                f"begins with a memory that is not zeros of {torch.get_default_dtype()}: initial_hidden must return "
                "zeros, a learned beginning can be added in forward"
            )
        sizes.append(hidden.shape[1])
    if sizes[0] != sizes[1] or not sizes[0]:
        candidate.refuse(f"has a memory of {sizes[0]} and of {sizes[1]} numbers: one fixed size above 0 is expected")
    return sizes[0]


def _inputs(candidate: Candidate, *lead: int) -> Tensor:
    """Test inputs [*lead, I] that do not touch torch's global generator."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*lead, int(candidate.inputs), generator=generator, dtype=torch.get_default_dtype())


def _forward(candidate: Candidate, module: nn.Module, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """One call, which changes nothing that it is given, and whose result has the shapes of the contract."""
    given, before = (x.clone(), hidden.clone()), {name: b.detach().clone() for name, b in module.named_buffers()}
    try:
        result = module(*given)
    except Exception as error:
        candidate.failed("forward", error)
    changed = [name for name, b in module.named_buffers() if name not in before or not torch.equal(b, before[name])]
    if changed:
        candidate.refuse(
            f"changes its buffer '{changed[0]}' in forward (as batch normalisation does): a network's outputs may "
            "depend on its parameters and inputs alone"
        )
    for name, now, was in zip(("x", "hidden"), given, (x, hidden), strict=True):
        if not torch.equal(now, was):
            candidate.refuse(f"changes its argument {name} in place in forward: others read it, make a new tensor")
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[0], Tensor):
        candidate.refuse("does not return (out, hidden) from forward")
    out, following = result
    expected = (*x.shape[:-1], candidate.n_outputs)
    if tuple(out.shape) != expected:
        candidate.refuse(f"returns outputs of shape {tuple(out.shape)} from forward: {expected} is expected")
    if out.dtype != x.dtype:
        candidate.refuse(f"returns outputs of type {out.dtype} from forward: {x.dtype} is expected")
    if not bool(torch.isfinite(out).all()):
        candidate.refuse("returns numbers that are not finite from forward")
    if hidden.shape[-1]:
        if not isinstance(following, Tensor) or following.shape != hidden.shape or following.dtype != hidden.dtype:
            got = tuple(following.shape) if isinstance(following, Tensor) else type(following).__name__
            candidate.refuse(f"returns the memory {got} from forward: shape {tuple(hidden.shape)} is expected")
        return out, following
    return out, hidden


def _check_rows(candidate: Candidate, module: nn.Module, memory: int) -> None:
    x = _inputs(candidate, _ROWS)
    hidden = x.new_zeros(_ROWS, memory)
    out, following = _forward(candidate, module, x, hidden)
    if not all(map(torch.equal, (out, following), _forward(candidate, module, x, hidden))):
        candidate.refuse("gives other outputs from call to call (as dropout does): acting and learning must agree")
    alone = [_forward(candidate, module, x[r : r + 1], hidden[r : r + 1]) for r in range(_ROWS)]
    for whole, parts in ((out, [o for o, _ in alone]), (following, [h for _, h in alone])):
        if not _close(whole, torch.cat(parts)):
            candidate.refuse("gives a row other outputs beside other rows: rows must not depend on one another")
    if memory:
        # the memory is taken as it was left, for fewer rows too
        _forward(candidate, module, x[:1], following[:1])


def _check_sequences(candidate: Candidate, module: nn.Module, memory: int) -> None:
    x = _inputs(candidate, _STEPS, _ROWS)
    hidden = x.new_zeros(_ROWS, memory)
    out, following = _forward(candidate, module, x, hidden)
    if not all(map(torch.equal, (out, following), _forward(candidate, module, x, hidden))):
        candidate.refuse("gives other outputs from call to call (as dropout does): acting and learning must agree")
    if not _close(out[:, :1], _forward(candidate, module, x[:, :1], hidden[:1])[0]):
        candidate.refuse("gives a row other outputs beside other rows: rows must not depend on one another")
    steps, state = [], hidden
    for t in range(_STEPS):
        one, state = _forward(candidate, module, x[t : t + 1], state)
        steps.append(one)
    if not (_close(out, torch.cat(steps)) and _close(following, state)):
        candidate.refuse(
            "gives other outputs on a sequence than step by step with its memory: a step may depend on earlier ones "
            "alone, and through hidden"
        )


def _check_self_contained(candidate: Candidate, copies: Sequence[nn.Module], memory: int) -> None:
    """Outputs depend on parameters and inputs alone: two copies with the same parameters agree."""
    x = _inputs(candidate, 1, _ROWS) if getattr(candidate.module, "sequences", False) else _inputs(candidate, _ROWS)
    hidden = x.new_zeros(_ROWS, memory)
    leaves = {name: p.detach().requires_grad_(p.requires_grad) for name, p in copies[0].named_parameters()}
    try:
        with torch.enable_grad():
            outs = [functional_call(c, leaves, (x, hidden))[0] for c in (copies[0], copies[-1])]
            if outs[0].requires_grad:
                wanted = [p for p in leaves.values() if p.requires_grad]
                torch.autograd.grad(outs[0].square().sum(), wanted, allow_unused=True)
    except Exception as error:  # what works without gradients alone: Tensor.numpy, results changed in place
        candidate.failed("forward, or its gradient", error)
    if not _close(*outs):
        candidate.refuse(
            "depends on random numbers that are not among its parameters: make lists of layers nn.ModuleList, and "
            "numbers that stay as they were drawn an nn.Parameter with requires_grad=False"
        )
    if not outs[0].requires_grad:
        candidate.refuse("gives outputs that do not depend on its parameters by operations of torch")


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=_TOLERANCE, atol=_TOLERANCE)
