"""PPO's clipped objective, the KL estimate and the sequential factor against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oamarl.components.updates.surrogate import approx_kl, clipped_surrogate, factor_of, factors_without_own
from oamarl.learners.losses import outside_share

EPS = 0.2
# (ratio, advantage, objective, slope in the ratio)
CASES = [
    (1.1, 2.0, 2.2, 2.0),  # inside
    (1.1, -2.0, -2.2, -2.0),
    (0.9, 2.0, 1.8, 2.0),
    (0.9, -2.0, -1.8, -2.0),
    (1.5, 2.0, 2.4, 0.0),  # a good action is not made likelier still
    (1.5, -2.0, -3.0, -2.0),  # a bad one that became likelier is pulled back at full strength
    (0.5, 2.0, 1.0, 2.0),  # a good one that became rarer likewise
    (0.5, -2.0, -1.6, 0.0),  # a bad one is not made rarer still
    (1.5, 0.0, 0.0, 0.0),
]


@pytest.mark.parametrize(("ratio", "advantage", "objective", "slope"), CASES)
def test_clipped_surrogate_and_its_gradient(ratio: float, advantage: float, objective: float, slope: float) -> None:
    r = torch.tensor([ratio], dtype=torch.float64, requires_grad=True)
    value = clipped_surrogate(r, torch.tensor([advantage], dtype=torch.float64), EPS)
    value.sum().backward()
    assert value.item() == pytest.approx(objective)
    assert r.grad is not None
    assert r.grad.item() == pytest.approx(slope)


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 5), st.floats(-5, 5), st.floats(0.01, 0.9))
def test_clipped_surrogate_never_promises_more_than_the_plain_one(r: float, a: float, eps: float) -> None:
    ratio, advantage = (torch.tensor([x], dtype=torch.float64) for x in (r, a))
    value = clipped_surrogate(ratio, advantage, eps).item()
    assert value <= r * a + 1e-12
    if 1 - eps < r < 1 + eps:
        assert value == pytest.approx(r * a)


def test_approx_kl_by_hand() -> None:
    kl = approx_kl(torch.tensor([0.0, math.log(2.0), -math.log(2.0)]))
    assert kl.tolist() == pytest.approx([0.0, 1 - math.log(2.0), math.log(2.0) - 0.5], abs=1e-6)


def test_approx_kl_is_kl_in_expectation_under_the_acting_policy() -> None:
    mu, pi = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]], dtype=torch.float64)
    exact = 0.5 * math.log(2.5) + 0.3 * math.log(1.5) + 0.2 * math.log(1 / 3)
    assert float(mu @ approx_kl(pi.log() - mu.log())) == pytest.approx(exact)


def test_factor_leaves_out_the_slot_that_is_drawn_anew() -> None:
    ratios = torch.tensor([[2.0, 3.0, 0.5], [1.0, 4.0, 10.0]])
    logs = ratios.log()
    assert factor_of(logs).tolist() == pytest.approx([3.0, 40.0])
    assert factor_of(logs, 1).tolist() == pytest.approx([1.0, 10.0])
    assert factor_of(logs, 0).tolist() == pytest.approx([1.5, 40.0])
    expected = torch.tensor([[1.5, 1.0, 6.0], [40.0, 10.0, 4.0]])
    torch.testing.assert_close(factors_without_own(logs), expected)
    assert torch.equal(logs, ratios.log())  # the caller's log-ratios are used again for the next source


def test_factor_of_sequences_is_taken_step_by_step() -> None:
    # [E=2, N=2, T=2]
    logs = torch.tensor([[[2.0, 3.0], [5.0, 7.0]], [[11.0, 13.0], [17.0, 19.0]]]).log()
    both = [[10.0, 21.0], [187.0, 247.0]]
    torch.testing.assert_close(factor_of(logs), torch.tensor(both))
    torch.testing.assert_close(factor_of(logs, 0), torch.tensor([[5.0, 7.0], [17.0, 19.0]]))
    torch.testing.assert_close(factors_without_own(logs), (logs.exp()).flip(1))


@pytest.mark.parametrize("own", [20.0, 60.0, 200.0, -200.0])
def test_factor_without_a_huge_own_ratio_keeps_the_others_digits(own: float) -> None:
    # dividing a product by its own part would leave nothing of these in float32: exp(200) is already infinite
    logs = torch.tensor([[own, 0.1, -0.03]])
    expected = pytest.approx(math.exp(0.07), rel=1e-6)
    assert factor_of(logs, 0).item() == expected
    assert factors_without_own(logs)[0, 0].item() == expected


def test_factor_of_a_team_that_was_not_updated_is_one() -> None:
    assert factor_of(torch.zeros(4, 3, 5)).eq(1.0).all()
    assert factor_of(torch.zeros(4, 1), 0).tolist() == [1.0] * 4
    assert factor_of(torch.tensor([[3.0]]), 0).tolist() == [1.0]  # alone, there are no others
    assert factors_without_own(torch.tensor([[3.0]])).tolist() == [[1.0]]


def test_share_outside_the_clip_range_counts_valid_steps_only() -> None:
    ratios = torch.tensor([[1.0, 1.19, 1.21], [0.79, 0.81, 9.0]])
    valid = torch.tensor([[True, True, True], [True, True, False]])
    assert outside_share(ratios.log(), valid) == pytest.approx(2 / 5)
    assert outside_share(ratios.log(), torch.zeros_like(valid)) == 0.0
