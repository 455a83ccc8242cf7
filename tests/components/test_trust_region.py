"""Conjugate gradient, Fisher products and the trust-region step against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from oamarl.components.distributions import MaskedCategorical
from oamarl.components.packing import Packing
from oamarl.components.updates.trust_region import (
    Step,
    conjugate_gradient,
    fisher_product,
    step_scalars,
    trust_region_step,
)
from oamarl.modules.agents.rnn import Network

F64 = torch.float64
ZERO = torch.zeros(3, dtype=F64)


def vector(*x: float) -> Tensor:
    return torch.tensor(x, dtype=F64)


# -- conjugate gradient ----------------------------------------------------------------------------------------

MATRIX = torch.tensor([[4.0, 1.0], [1.0, 3.0]], dtype=F64)


def counted(matrix: Tensor) -> tuple[Callable[[Tensor], Tensor], list[Tensor]]:
    calls: list[Tensor] = []

    def product(v: Tensor) -> Tensor:
        calls.append(v.clone())
        return matrix @ v

    return product, calls


def test_conjugate_gradient_solves_a_known_system() -> None:
    product, calls = counted(MATRIX)
    b = vector(1.0, 2.0)
    # the first iterate is (b.b / b.Ab) b = 5/20 b, the second is exact: (1/11, 7/11)
    assert conjugate_gradient(product, b, 1).tolist() == pytest.approx([0.25, 0.5])
    assert conjugate_gradient(product, b, 2).tolist() == pytest.approx([1 / 11, 7 / 11])
    calls.clear()
    assert conjugate_gradient(product, b, 50).tolist() == pytest.approx([1 / 11, 7 / 11])
    assert len(calls) == 2  # it stops when it is there
    assert b.tolist() == [1.0, 2.0]


def test_conjugate_gradient_of_nothing_is_nothing() -> None:
    product, calls = counted(MATRIX)
    assert conjugate_gradient(product, vector(0.0, 0.0), 10).tolist() == [0.0, 0.0]
    assert not calls


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_conjugate_gradient_does_not_depend_on_the_scale(scale: float) -> None:
    x = conjugate_gradient(counted(MATRIX)[0], scale * vector(1.0, 2.0), 10)
    assert (x / scale).tolist() == pytest.approx([1 / 11, 7 / 11])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=16, max_size=16), st.lists(st.integers(-9, 9), min_size=4, max_size=4))
def test_conjugate_gradient_solves_any_small_system(entries: list[float], b: list[int]) -> None:
    root = torch.tensor(entries, dtype=F64).view(4, 4)
    matrix = root @ root.T + torch.eye(4, dtype=F64)
    x = conjugate_gradient(lambda v: matrix @ v, vector(*b), 8, tol=1e-20)
    torch.testing.assert_close(x, torch.linalg.solve(matrix, vector(*b)), atol=1e-8, rtol=1e-8)


# -- the Fisher matrix -----------------------------------------------------------------------------------------


def softmax_kl(old: Tensor) -> Callable[[Tensor], Tensor]:
    """KL(softmax(old) || softmax(params)) of a bandit whose parameters are its logits."""
    avail = torch.ones_like(old, dtype=torch.bool)
    before = MaskedCategorical(old.detach(), avail)
    return lambda params: before.kl(MaskedCategorical(params, avail))


def test_fisher_product_is_the_softmax_fisher_by_hand() -> None:
    params = vector(0.5, 0.25, 0.25).log()
    # diag(p) - p p^T
    fisher = [[0.25, -0.125, -0.125], [-0.125, 0.1875, -0.0625], [-0.125, -0.0625, 0.1875]]
    product = fisher_product(softmax_kl(params), params)
    for k, column in enumerate(fisher):
        assert product(torch.eye(3, dtype=F64)[k]).tolist() == pytest.approx(column)
    assert product(vector(1.0, 0.0, 2.0)).tolist() == pytest.approx([0.0, -0.25, 0.25])
    assert product(vector(1.0, 1.0, 1.0)).tolist() == pytest.approx([0.0, 0.0, 0.0])  # a shift changes no policy


def test_fisher_product_of_parts_is_that_of_their_sum() -> None:
    params, v = vector(0.3, -0.4, 0.1), vector(1.0, -2.0, 0.5)
    kl = softmax_kl(params)
    parts = [lambda x: 0.25 * kl(x), lambda x: 0.75 * kl(x)]
    whole = fisher_product(kl, params)
    product = fisher_product(parts, params)
    for _ in range(2):  # parts are differentiated anew for each product
        torch.testing.assert_close(product(v), whole(v))


@pytest.mark.parametrize("recurrent", [False, True])
def test_fisher_product_of_a_network_is_the_expected_outer_product_of_scores(recurrent: bool) -> None:
    net = Network(
        1, 2, 3, hidden_dim=2, recurrent=recurrent, activation="tanh", head_gain=1.0,
        generator=torch.Generator().manual_seed(3),
    ).double()  # fmt: skip
    params = net.row(0)
    packing = Packing.of(torch.tensor([3, 1, 2])) if recurrent else None
    x = torch.randn(6, 2, dtype=F64, generator=torch.Generator().manual_seed(4))
    avail = torch.ones(6, 3, dtype=torch.bool)
    avail[0, 1] = False
    policy = MaskedCategorical(net.single(params, x, packing, twice=True), avail)
    log_probs = policy.log_probs
    fisher = torch.zeros(len(params), len(params), dtype=F64)
    for row, legal in zip(log_probs, avail, strict=True):
        for action in legal.nonzero().squeeze(1):
            (score,) = torch.autograd.grad(row[action], params, retain_graph=True)
            fisher += row[action].exp().detach() * torch.outer(score, score) / len(log_probs)
    before = policy.from_params(policy.params.detach(), avail)

    def kl(candidate: Tensor) -> Tensor:
        return before.kl(MaskedCategorical(net.single(candidate, x, packing, twice=True), avail)).mean()

    product = fisher_product(kl, params.detach())
    columns = torch.stack([product(e) for e in torch.eye(len(params), dtype=F64)])
    assert fisher.abs().max() > 1e-3
    torch.testing.assert_close(columns, fisher, atol=1e-12, rtol=1e-9)


# -- the step --------------------------------------------------------------------------------------------------


def expected_advantage(advantage: Tensor) -> Callable[[Tensor], Tensor]:
    """sum_a mu(a) r(a) A(a) = sum_a pi(a) A(a): the surrogate of a bandit."""
    return lambda params: params.softmax(-1) @ advantage


def step(
    surrogate: Callable[[Tensor], Tensor],
    params: Tensor = ZERO,
    *,
    kl: Callable[[Tensor], Tensor] | None = None,
    delta: float = 0.0003,
    damping: float = 0.0,
    tries: int = 10,
    condition: Callable[[Tensor], bool] | None = None,
) -> Step:
    return trust_region_step(
        surrogate, kl or softmax_kl(params), params, delta=delta, cg_iters=10, cg_damping=damping,
        line_search_steps=tries, condition=condition,
    )  # fmt: skip


UP = vector(1.0, 0.0, -1.0)


def test_step_on_a_softmax_bandit_by_hand() -> None:
    # From the uniform policy the natural gradient is the centred advantage; its variance is 2/3, so KL = delta at
    # s = sqrt(2 delta / (2/3)) = 0.03.
    s = 0.03
    result = step(expected_advantage(UP))
    z = math.exp(s) + 1 + math.exp(-s)
    assert (result.accepted, result.reason, result.backtracks) == (True, "accepted", 0)
    assert result.params.tolist() == pytest.approx([s, 0.0, -s])
    assert result.kl == pytest.approx(math.log(z / 3))
    assert 0.999 * 0.0003 < result.kl <= 0.0003
    assert result.improvement == pytest.approx((math.exp(s) - math.exp(-s)) / z)
    assert result.gradient_norm == pytest.approx(2**0.5 / 3)
    assert result.blocked is None


def test_damping_does_not_shorten_the_step() -> None:
    # the Fisher matrix is 1/3 on centred vectors, so that damping changes the length of the solution alone
    result = step(expected_advantage(UP), damping=1 / 9)
    assert result.params.tolist() == pytest.approx([0.03, 0.0, -0.03])
    assert result.kl == pytest.approx(0.0003, rel=1e-3)


@pytest.mark.parametrize("damping", [0.0, 0.1, 10.0])
def test_the_step_in_a_quadratic_uses_all_of_delta(damping: float) -> None:
    """By hand, F = diag(1, 4), g = (1, 1): x = (1 / (1 + d), 1 / (4 + d)), step x sqrt(2 delta / x'Fx)."""
    fisher, gradient, delta = vector(1.0, 4.0), vector(1.0, 1.0), 0.02
    result = step(
        lambda p: p @ gradient, vector(0.5, -0.5), kl=lambda p: 0.5 * ((p - vector(0.5, -0.5)) ** 2 @ fisher),
        delta=delta, damping=damping,
    )  # fmt: skip
    x, y = 1 / (1 + damping), 1 / (4 + damping)
    scale = (2 * delta / (x * x + 4 * y * y)) ** 0.5
    assert (result.accepted, result.backtracks) == (True, 0)
    assert result.params.tolist() == pytest.approx([0.5 + scale * x, -0.5 + scale * y])
    assert result.kl == pytest.approx(delta, rel=2e-6)
    assert result.kl <= delta


def test_a_direction_without_curvature_is_no_step_however_large_the_damping() -> None:
    """Along the second number the metric is 0: only the damping would give the step a length."""
    result = step(lambda p: p[1], vector(0.0, 0.0), kl=lambda p: 0.5 * p[0] ** 2 + 0.0 * p[1], damping=0.1)
    assert (result.accepted, result.reason, result.backtracks) == (False, "gradient", 0)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_step_does_not_depend_on_the_scale_of_the_surrogate(scale: float) -> None:
    result = step(expected_advantage(scale * UP))
    assert result.accepted
    assert result.params.tolist() == pytest.approx([0.03, 0.0, -0.03])
    assert result.improvement == pytest.approx(scale * step(expected_advantage(UP)).improvement)


def test_step_of_parts_is_the_step_of_their_sum() -> None:
    params = vector(0.2, 0.0, -0.5)
    kl, whole = softmax_kl(params), expected_advantage(UP)
    first, second = vector(3.0, 1.0, 0.0), vector(-2.0, -1.0, -1.0)
    result = trust_region_step(
        [expected_advantage(first), expected_advantage(second)], [lambda x: kl(x) / 4, lambda x: kl(x) * 3 / 4], params,
        delta=0.01, cg_iters=10, cg_damping=0.1, line_search_steps=10,
    )  # fmt: skip
    expected = step(whole, params, delta=0.01, damping=0.1)
    assert result.accepted
    torch.testing.assert_close(result.params, expected.params)
    assert result.kl == pytest.approx(expected.kl)
    assert result.improvement == pytest.approx(expected.improvement)


SKEWED = vector(2.0, -1.0, -1.0)  # its third moment is positive: at the full step KL is a little above delta


def test_a_step_too_far_is_halved() -> None:
    s = 0.02  # sqrt(2 delta / variance) with delta 0.0004 and variance 2
    full = math.log((math.exp(2 * s) + 2 * math.exp(-s)) / 3)
    assert full > 0.0004
    result = step(expected_advantage(SKEWED), delta=0.0004)
    assert (result.accepted, result.backtracks) == (True, 1)
    assert result.params.tolist() == pytest.approx([s, -s / 2, -s / 2])
    assert result.kl == pytest.approx(math.log((math.exp(s) + 2 * math.exp(-s / 2)) / 3), rel=1e-5)
    rejected = step(expected_advantage(SKEWED), delta=0.0004, tries=1)
    assert (rejected.accepted, rejected.reason, rejected.backtracks) == (False, "kl", 1)


# -- rejected steps --------------------------------------------------------------------------------------------

# parameters whose bits a sum and a difference would not give back: a negative zero, a denormal, a large and a small one
OLD = torch.tensor([-0.0, 1e-45, 3.0e7, 0.1], dtype=torch.float32)
TILT = torch.tensor([1.0, -1.0, 0.5, 2.0])


def quadratic(params: Tensor) -> Tensor:
    return 0.5 * ((params - OLD) ** 2).sum()


def worse_everywhere(params: Tensor) -> Tensor:
    """A slope at OLD that promises an improvement, and less than the old value at every other point."""
    moved = params - OLD
    return moved @ TILT - (0.0 if not moved.detach().any() else 1e9)


def nan_elsewhere(params: Tensor) -> Tensor:
    moved = params - OLD
    return moved @ TILT * (math.nan if moved.detach().any() else 1.0)


@pytest.mark.parametrize(
    ("surrogate", "kl", "reason", "backtracks"),
    [
        (worse_everywhere, quadratic, "surrogate", 6),
        (nan_elsewhere, quadratic, "surrogate", 6),
        (lambda params: (params * TILT).sum() * math.nan, quadratic, "gradient", 0),
        (lambda params: (params * math.inf).sum(), quadratic, "gradient", 0),
        (lambda params: (params * 0.0).sum(), quadratic, "gradient", 0),
        (lambda params: (params - OLD) @ TILT, lambda params: 100.0 + quadratic(params), "kl", 6),
        (lambda params: (params - OLD) @ TILT, lambda params: math.nan + quadratic(params), "kl", 6),
        (lambda params: (params - OLD) @ TILT, lambda params: -quadratic(params), "gradient", 0),  # no metric at all
    ],
    ids=["worse", "nan value", "nan gradient", "infinite gradient", "no gradient", "kl", "nan kl", "no curvature"],
)
def test_a_rejected_step_restores_the_parameters_bit_for_bit(
    surrogate: Callable[[Tensor], Tensor], kl: Callable[[Tensor], Tensor], reason: str, backtracks: int
) -> None:
    params = OLD.clone()
    result = trust_region_step(
        surrogate, kl, params, delta=0.01, cg_iters=5, cg_damping=0.0, line_search_steps=6, backtrack=0.5
    )
    assert (result.accepted, result.reason, result.backtracks) == (False, reason, backtracks)
    for kept in (params, result.params):
        assert torch.equal(kept.view(torch.int32), OLD.view(torch.int32))
    assert (result.kl, result.improvement) == (0.0, 0.0)


def test_an_equal_surrogate_is_no_improvement() -> None:
    flat = step(lambda params: (params - params.detach()) @ UP)  # slope 1, value 0 everywhere
    assert (flat.accepted, flat.reason) == (False, "surrogate")


def test_an_accepted_step_leaves_the_old_vector_alone() -> None:
    params = ZERO.clone()
    result = step(expected_advantage(UP), params)
    assert result.accepted
    assert torch.equal(params, ZERO)
    assert not result.params.requires_grad


# -- the further condition -------------------------------------------------------------------------------------


def test_the_condition_is_asked_last_and_shortens_the_step() -> None:
    asked: list[list[float]] = []

    def near(params: Tensor) -> bool:
        asked.append(params.tolist())
        return params.abs().max() < 0.006

    # halves of 0.02 (see above): the full step fails for its KL alone and is not asked about
    result = step(expected_advantage(SKEWED), delta=0.0004, condition=near)
    assert (result.accepted, result.reason, result.backtracks) == (True, "accepted", 3)
    assert [x[0] for x in asked] == pytest.approx([0.02, 0.01, 0.005])
    assert result.params.tolist() == pytest.approx([0.005, -0.0025, -0.0025])
    assert result.blocked is None


def test_a_condition_that_never_holds_is_told_with_its_last_candidate() -> None:
    result = step(expected_advantage(UP), tries=3, condition=lambda params: False)
    assert (result.accepted, result.reason, result.backtracks) == (False, "condition", 3)
    assert result.blocked is not None
    assert result.blocked.tolist() == pytest.approx([0.0075, 0.0, -0.0075])
    assert result.params.tolist() == [0.0, 0.0, 0.0]


def test_the_blocked_candidate_is_the_last_that_only_the_condition_kept_out() -> None:
    def gone_when_near(params: Tensor) -> Tensor:
        """An improvement at the first two tries (0.03, 0.015), none nearer."""
        size = float(params.detach().abs().max())
        return params @ UP - (1.0 if 0.0 < size < 0.01 else 0.0)

    result = step(gone_when_near, tries=4, condition=lambda params: False)
    assert (result.accepted, result.reason) == (False, "surrogate")
    assert result.blocked is not None
    assert result.blocked.tolist() == pytest.approx([0.015, 0.0, -0.015])


def test_a_condition_is_not_asked_about_a_step_that_failed_already() -> None:
    def never(params: Tensor) -> bool:
        raise AssertionError("asked")

    result = step(lambda params: (params - params.detach()) @ UP, condition=never)
    assert (result.reason, result.blocked) == ("surrogate", None)


def test_step_scalars_are_shares_of_steps_and_means_over_agents() -> None:
    taken = Step(ZERO, True, "accepted", kl=0.02, improvement=0.5, backtracks=2, gradient_norm=3.0)
    refused = Step(ZERO, False, "kl", kl=0.0, improvement=0.0, backtracks=10, gradient_norm=1.0)
    useless = Step(ZERO, False, "gradient", kl=0.0, improvement=0.0, backtracks=0, gradient_norm=0.0)
    assert step_scalars([taken, refused, useless, refused]) == {
        "approx_kl": 0.02, "agent_grad_norm": 1.25, "surrogate_improvement": 0.125, "steps_accepted": 0.25,
        "line_search_backtracks": 5.5, "rejected_kl": 0.5, "rejected_gradient": 0.25, "rejected_surrogate": 0.0,
        "rejected_condition": 0.0,
    }  # fmt: skip
    assert set(step_scalars([]).values()) == {0.0}
