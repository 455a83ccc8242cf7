"""The natural-gradient step of TRPO on flat parameters (HATRPO paper, eq. 7-9; Schulman et al. 2015, appendix C)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

#: A scalar function of flat parameters [P], differentiable, or functions that it is the sum of: parts are
#: differentiated one after another, so that memory holds the graph of one part alone.
Scalar = Callable[[Tensor], Tensor] | Sequence[Callable[[Tensor], Tensor]]


#: The share of delta that the first candidate leaves free where the KL is a quadratic: its rounding must not halve the
#: step.
ROOM = 1e-6


def _parts(function: Scalar) -> Sequence[Callable[[Tensor], Tensor]]:
    return [function] if callable(function) else function


def _value(function: Scalar, params: Tensor) -> Tensor:
    return torch.stack([part(params) for part in _parts(function)]).sum()


def _value_and_gradient(function: Scalar, params: Tensor) -> tuple[Tensor, Tensor]:
    leaf, values, gradient = params.clone().requires_grad_(), [], torch.zeros_like(params)
    for part in _parts(function):
        value = part(leaf)
        gradient += torch.autograd.grad(value, leaf)[0]
        values.append(value.detach())
    return torch.stack(values).sum(), gradient


def conjugate_gradient(product: Callable[[Tensor], Tensor], b: Tensor, iterations: int, tol: float = 1e-10) -> Tensor:
    """Return x with product(x) = b for a symmetric positive definite ``product``, after at most ``iterations``.

    It stops early at a squared residual of ``tol`` times that of x = 0: relative, because the natural gradient's
    direction must not depend on the scale of the advantages.
    """
    x = torch.zeros_like(b)
    r, p = b.clone(), b.clone()
    rr = r @ r
    enough, on_host = tol * rr, b.device.type == "cpu"
    for _ in range(iterations):
        going = rr > enough
        if on_host and not going:  # a GPU would have to wait to be asked: it makes steps of length 0 from there on
            break
        ap = product(p)
        alpha = torch.where(going, rr / (p @ ap), 0.0)
        x += alpha * p
        r -= alpha * ap
        rr_new = r @ r
        p = torch.where(going, r + (rr_new / rr) * p, p)
        rr = rr_new
    return x


def fisher_product(kl: Scalar, params: Tensor) -> Callable[[Tensor], Tensor]:
    """Return v -> H v, H the Hessian of ``kl`` at ``params`` [P] (the exact Fisher there)."""
    leaf, parts = params.detach().clone().requires_grad_(), _parts(kl)

    def gradient(part: Callable[[Tensor], Tensor]) -> Tensor:
        return torch.autograd.grad(part(leaf), leaf, create_graph=True)[0]

    # the graph of a single part serves all products; those of several are made anew each time, to hold one at a time
    kept = gradient(parts[0]) if len(parts) == 1 else None

    def product(v: Tensor) -> Tensor:
        result = torch.zeros_like(v)
        for part in parts:
            g = gradient(part) if kept is None else kept
            result += torch.autograd.grad(g, leaf, v, retain_graph=kept is not None)[0]
        return result

    return product


@dataclass(frozen=True)
class Step:
    """Outcome of one trust-region step.

    ``reason`` is ``accepted``, or why the last backtrack failed: ``surrogate``, ``kl``, ``condition``, or
    ``gradient`` (zero or not finite, or without curvature x'Hx along the step: nothing was tried). ``blocked`` is the
    last candidate that the extra condition alone kept from being accepted, if there was one.
    """

    params: Tensor
    accepted: bool
    reason: str
    kl: float
    improvement: float
    backtracks: int
    gradient_norm: float
    blocked: Tensor | None = None


def trust_region_step(
    surrogate: Scalar,
    kl: Scalar,
    params: Tensor,
    *,
    delta: float,
    cg_iters: int,
    cg_damping: float,
    line_search_steps: int,
    backtrack: float = 0.5,
    condition: Callable[[Tensor], bool] | None = None,
) -> Step:
    """Maximise ``surrogate`` subject to ``kl`` <= ``delta`` by one natural-gradient step with backtracking.

    The step is x sqrt(2 delta / x'Hx), (H + damping I) x = g: by the quadratic approximation of the KL it uses all of
    delta, whatever the damping. The same ``surrogate`` gives the gradient g and judges the line search; the same ``kl``
    gives the metric H and the ball. A step is accepted only if the surrogate improved, kl <= delta, and ``condition``
    (if any) holds.

    Args:
        surrogate: to be maximised, a function of [P] (or its parts).
        kl: KL(old || new), zero at ``params``.
        params: [P] old parameters, not modified.
        delta: radius of the trust region (`kl_threshold`).
        cg_iters, line_search_steps: as configured.
        cg_damping: added to H's diagonal in the solution for x.
        backtrack: factor between tries.
        condition: a further test of candidate parameters.

    Returns:
        the step; its ``params`` is the old vector itself, bit for bit, when rejected.
    """
    # cuDNN's recurrent kernels have no second derivative, and both sides of a comparison must use the same kernels
    with torch.backends.cudnn.flags(enabled=False):
        return _step(
            surrogate, kl, params.detach(), delta, cg_iters, cg_damping, line_search_steps, backtrack, condition
        )


def _step(
    surrogate: Scalar,
    kl: Scalar,
    params: Tensor,
    delta: float,
    cg_iters: int,
    cg_damping: float,
    line_search_steps: int,
    backtrack: float,
    condition: Callable[[Tensor], bool] | None,
) -> Step:
    value, gradient = _value_and_gradient(surrogate, params)
    norm = float(gradient.norm())
    rejected = {"params": params, "accepted": False, "kl": 0.0, "improvement": 0.0, "gradient_norm": norm}
    if not 1e-12 < norm < float("inf"):
        return Step(**rejected, reason="gradient", backtracks=0)  # type: ignore[arg-type]
    product = fisher_product(kl, params)
    # the damping regularises the solution alone: in the step's length it would leave part of the region unused
    direction = conjugate_gradient(lambda v: product(v) + cg_damping * v, gradient, cg_iters)
    curvature = float(direction @ product(direction))
    if not 0.0 < curvature < float("inf"):
        return Step(**rejected, reason="gradient", backtracks=0)  # type: ignore[arg-type]
    full = direction * (2.0 * delta * (1.0 - ROOM) / curvature) ** 0.5
    reason, blocked = "surrogate", None
    with torch.no_grad():
        for k in range(line_search_steps):
            candidate = params + full * backtrack**k
            improvement = float(_value(surrogate, candidate) - value)
            distance = float(_value(kl, candidate))
            # `not >` and `not <=` so that NaN is a failure
            inside = distance <= delta
            better = improvement > 0.0
            if inside and better and (condition is None or condition(candidate)):
                return Step(candidate, True, "accepted", distance, improvement, k, norm)
            reason = "surrogate" if not better else "kl" if not inside else "condition"
            blocked = candidate if reason == "condition" else blocked
    return Step(**rejected, reason=reason, backtracks=line_search_steps, blocked=blocked)  # type: ignore[arg-type]


#: Why a step can be rejected (``Step.reason``).
REJECTIONS = ("surrogate", "kl", "condition", "gradient")


def step_scalars(steps: Sequence[Step]) -> dict[str, float]:
    """Scalars of an iteration's trust-region steps: shares accepted and rejected by cause, and means over agents.

    `approx_kl` is the exact KL of the accepted steps (0 with none).
    """
    n = max(len(steps), 1)
    accepted = [s for s in steps if s.accepted]
    return {
        "approx_kl": sum(s.kl for s in accepted) / max(len(accepted), 1),
        "agent_grad_norm": sum(s.gradient_norm for s in steps) / n,
        "surrogate_improvement": sum(s.improvement for s in steps) / n,
        "steps_accepted": len(accepted) / n,
        "line_search_backtracks": sum(s.backtracks for s in steps) / n,
        **{f"rejected_{why}": sum(s.reason == why for s in steps) / n for why in REJECTIONS},
    }
