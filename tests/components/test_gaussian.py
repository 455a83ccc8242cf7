"""The diagonal Gaussian: closed forms, masks of dimensions, and numbers at the edge."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from oamarl.components.distributions import LOG_STD, DiagonalGaussian, StdForm
from oamarl.components.updates.trust_region import fisher_product
from oamarl.modules.continuous_selectors import Gaussian, StdConfig
from oamarl.modules.selector_contract import Context

USUAL, BOUNDED = StdConfig("exp", 1.0, 0.5), StdConfig("sigmoid", 2.0, 0.5)
FORM = StdForm(2.0, 0.5)

G = torch.Generator().manual_seed(0)
OUTPUTS = 0.5 * torch.randn(7, 3, 8, generator=G, dtype=torch.float64)
OTHER = 0.5 * torch.randn(7, 3, 8, generator=G, dtype=torch.float64)
ACTIONS = torch.randn(7, 3, 4, generator=G, dtype=torch.float64)
ALL = torch.ones(7, 3, 4, dtype=torch.bool)


def theirs(outputs: torch.Tensor, size: int = 4) -> Independent:
    mean, log_std = outputs.chunk(2, -1)
    return Independent(Normal(mean[..., :size], log_std[..., :size].exp()), 1)


def test_closed_forms_are_torchs() -> None:
    policy, other = DiagonalGaussian(OUTPUTS, ALL), DiagonalGaussian(OTHER, ALL)
    torch.testing.assert_close(policy.log_prob(ACTIONS), theirs(OUTPUTS).log_prob(ACTIONS))
    torch.testing.assert_close(policy.entropy(), theirs(OUTPUTS).entropy())
    torch.testing.assert_close(policy.kl(other), kl_divergence(theirs(OUTPUTS), theirs(OTHER)))
    assert (policy.kl(policy) == 0).all()


def test_by_hand() -> None:
    """Mean 1 and 0, std 2 and 1; KL to the standard normal: (4 + 1) / 2 - 1 / 2 - log 2."""
    policy = DiagonalGaussian(torch.tensor([1.0, 0.0, math.log(2.0), 0.0]), torch.tensor([True, True]))
    standard = DiagonalGaussian(torch.zeros(4), torch.tensor([True, True]))
    assert policy.kl(standard).item() == pytest.approx(2.0 - math.log(2.0))
    assert policy.entropy().item() == pytest.approx(math.log(2 * math.pi * math.e) + math.log(2.0))
    assert policy.log_prob(torch.tensor([3.0, 0.0])).item() == pytest.approx(-0.5 - math.log(4 * math.pi))
    assert policy.mode().tolist() == [1.0, 0.0]
    assert policy.sample(torch.tensor([1.0, -2.0])).tolist() == pytest.approx([3.0, -2.0])


def test_missing_dimensions_add_nothing_whatever_is_in_them() -> None:
    own = ALL.clone()
    own[..., 2:] = False
    spoiled = OUTPUTS.clone()
    spoiled[..., [2, 3, 6, 7]] = torch.tensor([math.nan, math.inf, -math.inf, 1e9], dtype=torch.float64)
    spoiled.requires_grad_()
    policy, other = DiagonalGaussian(spoiled, own), DiagonalGaussian(OTHER, own)
    small, small_other = (theirs(x, 2) for x in (OUTPUTS, OTHER))
    torch.testing.assert_close(policy.log_prob(ACTIONS), small.log_prob(ACTIONS[..., :2]))
    torch.testing.assert_close(policy.entropy(), small.entropy())
    torch.testing.assert_close(policy.kl(other), kl_divergence(small, small_other))
    assert (policy.sample(torch.ones(4)) * ~own == 0).all()
    (policy.log_prob(ACTIONS) + policy.entropy() + policy.kl(other)).sum().backward()
    assert spoiled.grad is not None
    assert spoiled.grad.isfinite().all()
    assert (spoiled.grad[..., [2, 3, 6, 7]] == 0).all()


def test_a_row_without_dimensions_is_nothing() -> None:
    """Padding of a batch: neither an infinite ratio nor a NaN."""
    policy = DiagonalGaussian(OUTPUTS, ~ALL)
    for x in (policy.log_prob(ACTIONS), policy.entropy(), policy.kl(DiagonalGaussian(OTHER, ~ALL))):
        assert (x == 0).all()


def test_its_parameters_and_an_index_make_it_again() -> None:
    own = torch.rand(7, 1, 4, generator=G) < 0.7  # one mask for all policies
    policy = DiagonalGaussian(OUTPUTS, own)
    again = DiagonalGaussian.from_params(policy.params, own)
    torch.testing.assert_close(again.kl(policy), torch.zeros(7, 3, dtype=torch.float64))
    torch.testing.assert_close(again[2].log_prob(ACTIONS[2]), policy.log_prob(ACTIONS)[2])
    i = torch.arange(3)
    torch.testing.assert_close(again[i, i].entropy(), policy.entropy()[i, i])


def test_standard_deviations_are_kept_in_range() -> None:
    outputs = torch.tensor([0.0, 0.0, -1000.0, 1000.0])
    policy = DiagonalGaussian(outputs, torch.tensor([True, True]))
    assert policy.log_std.tolist() == list(LOG_STD)
    assert policy.log_prob(torch.tensor([0.1, 0.1])).isfinite()
    assert policy.kl(DiagonalGaussian(-outputs, torch.tensor([True, True]))).isfinite()


def test_the_bounded_form_by_hand() -> None:
    """HARL's: std = 0.5 sigmoid(l / 2); 0.25 at l = 0, 0.5 sigmoid(1) = 0.3655 at l = 2, and never above 0.5."""
    numbers = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 1000.0, -1000.0], dtype=torch.float64)
    policy = DiagonalGaussian(numbers, torch.ones(4, dtype=torch.bool), FORM)
    assert policy.log_std.exp().tolist() == pytest.approx([0.25, 0.36552929, 0.5, math.exp(LOG_STD[0])])


def test_the_score_is_the_gradient_in_the_networks_own_numbers() -> None:
    own = torch.rand(7, 3, 4, generator=G) < 0.7
    for form in (None, FORM):
        outputs = OUTPUTS.clone().requires_grad_()
        (expected,) = torch.autograd.grad(DiagonalGaussian(outputs, own, form).log_prob(ACTIONS).sum(), outputs)
        torch.testing.assert_close(DiagonalGaussian(OUTPUTS, own, form).score(ACTIONS), expected)


@pytest.mark.parametrize(("config", "form"), [(USUAL, None), (BOUNDED, FORM)])
def test_the_selector_draws_the_same_in_numpy(config: StdConfig, form: StdForm | None) -> None:
    own = torch.rand(7, 3, 4, generator=G) < 0.7
    outputs, noise = OUTPUTS.float() * 3, torch.randn(7, 3, 4, generator=G)
    policy = DiagonalGaussian(outputs, own, form)
    for given, expected in ((noise, policy.sample(noise)), (None, policy.mode())):
        z = None if given is None else given.numpy()
        actions, log_prob = Gaussian(config).select(outputs.numpy(), own.numpy(), z, Context(greedy=given is None))
        assert (actions.dtype, log_prob.dtype) == (np.float32, np.float32)
        np.testing.assert_allclose(actions, expected.numpy(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(log_prob, policy.log_prob(torch.from_numpy(actions)).numpy(), rtol=1e-3, atol=1e-3)


def test_actions_are_numbers_where_means_are_not() -> None:
    """As legal actions of a categorical: log_prob shows what is broken, not a failed game."""
    outputs = np.array([[np.nan, 1.0, 0.0, 0.0]], np.float32)
    actions, log_prob = Gaussian(USUAL).select(outputs, np.ones((1, 2), bool), np.zeros((1, 2), np.float32), Context())
    assert actions.tolist() == [[0.0, 1.0]]
    assert np.isnan(log_prob).all()
    assert (
        DiagonalGaussian(torch.from_numpy(outputs), torch.ones(1, 2).bool()).sample(torch.zeros(1, 2)).isfinite().all()
    )


@pytest.mark.parametrize("form", [None, FORM])
def test_the_fisher_product_by_hand(form: StdForm | None) -> None:
    """Of means 1 / std^2, of the numbers behind deviations 2 slope^2; 0 in dimensions and at steps that are not there.

    Three steps with one mean and one number in each of two dimensions; the second step lacks the second dimension, and
    the third is padding.
    """
    params = torch.tensor([0.3, -0.2, 0.4, -0.7], dtype=torch.float64)
    own = torch.tensor([[True, True], [True, False], [False, False]])
    share = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64)
    old = DiagonalGaussian(params.expand(3, 4), own, form)

    def kl(p: torch.Tensor) -> torch.Tensor:
        return (share * old.kl(DiagonalGaussian(p.expand(3, 4), own, form))).sum()

    std = old.log_std.exp()[0]
    slope = torch.ones(2, dtype=torch.float64) if form is None else form.slope(params[2:])
    seen = torch.tensor([1.0, 0.5], dtype=torch.float64)  # share of the steps that have the dimension
    expected = torch.cat([seen / std.square(), 2.0 * seen * slope.square()])
    product = fisher_product(kl, params)
    for k in range(4):
        column = torch.zeros(4, dtype=torch.float64)
        column[k] = expected[k]
        torch.testing.assert_close(product(torch.eye(4, dtype=torch.float64)[k]), column)
