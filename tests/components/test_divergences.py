"""Total variation and chi-square of policies, against enumeration, numbers worked out by hand, and integrals."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oamarl.components.distributions import DiagonalGaussian, MaskedCategorical, chi_square_categorical

AVAIL = torch.tensor([True, True, False, True])


def categorical(*weights: float, avail: torch.Tensor = AVAIL) -> MaskedCategorical:
    return MaskedCategorical(torch.tensor(weights, dtype=torch.float64).log(), avail)


def gaussian(mean: list[float], std: list[float], own: list[bool] | None = None) -> DiagonalGaussian:
    outputs = torch.tensor([*mean, *(math.log(s) for s in std)], dtype=torch.float64)
    return DiagonalGaussian(outputs, torch.tensor(own or [True] * len(mean)))


# -- categorical -------------------------------------------------------------------------------------------------


def test_by_hand_under_a_mask() -> None:
    # the third action is illegal: p = 1/2, 1/4, 1/4 and q = 1/4, 1/4, 1/2
    p, q = categorical(2, 1, 9, 1), categorical(1, 1, 1, 2)
    assert p.total_variation(q).item() == pytest.approx(0.25)
    assert q.total_variation(p).item() == pytest.approx(0.25)
    # (1/4) / (1/4) + (1/16) / (1/4) + (1/16) / (1/2) - 1
    assert p.chi_square(q).item() == pytest.approx(1.0 + 0.25 + 0.125 - 1.0)
    # (1/16) / (1/2) + (1/16) / (1/4) + (1/4) / (1/4) - 1
    assert q.chi_square(p).item() == pytest.approx(0.375)


def test_equal_policies_are_not_apart_at_all() -> None:
    p = MaskedCategorical(torch.randn(50, 4, generator=torch.Generator().manual_seed(0)), AVAIL.expand(50, 4))
    assert (p.total_variation(p) == 0).all()
    assert (p.chi_square(p) == 0).all()


def test_near_policies_keep_their_digits_in_float32() -> None:
    """1 +- 1e-4: chi-square is 1e-8, which would be lost beside a sum of 1."""
    p = torch.tensor([0.5 + 5e-5, 0.5 - 5e-5]).log()
    q = torch.tensor([0.5, 0.5]).log()
    assert chi_square_categorical(p, q).item() == pytest.approx(1e-8, rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_extreme_policies_give_no_nan(dtype: torch.dtype) -> None:
    """Probabilities that underflow in one or in both, and illegal actions."""
    p = MaskedCategorical(torch.tensor([0.0, -200.0, 5.0, -40.0], dtype=dtype), AVAIL)
    q = MaskedCategorical(torch.tensor([0.0, -300.0, 5.0, -60.0], dtype=dtype), AVAIL)
    # the fourth action alone counts: e^-80 / e^-60
    assert p.chi_square(q).item() == pytest.approx(math.exp(-20.0), rel=1e-4)
    far = MaskedCategorical(torch.tensor([-900.0, 0.0, 5.0, 0.0], dtype=dtype), AVAIL)
    assert p.total_variation(far).item() == pytest.approx(1.0)
    assert p.chi_square(far).item() == math.inf
    padding = MaskedCategorical(torch.randn(4, dtype=dtype), torch.zeros(4, dtype=torch.bool))
    assert padding.chi_square(padding).item() == padding.total_variation(padding).item() == 0.0


logits = st.lists(st.tuples(st.floats(-8, 8), st.floats(-8, 8)), min_size=2, max_size=6)


@settings(max_examples=80, deadline=None)
@given(logits)
def test_as_enumerated_and_within_the_known_bounds(columns: list[tuple[float, float]]) -> None:
    both = torch.tensor(columns, dtype=torch.float64).t()
    legal = torch.ones(len(columns), dtype=torch.bool)
    p, q = MaskedCategorical(both[0], legal), MaskedCategorical(both[1], legal)
    a, b = both.softmax(1).tolist()
    tv = sum(abs(x - y) for x, y in zip(a, b, strict=True)) / 2
    chi = sum(x * x / y for x, y in zip(a, b, strict=True)) - 1
    assert p.total_variation(q).item() == pytest.approx(tv, abs=1e-12)
    assert p.chi_square(q).item() == pytest.approx(chi, rel=1e-9, abs=1e-12)
    kl = p.kl(q).item()
    assert 2 * tv**2 <= kl + 1e-12  # Pinsker
    assert kl <= math.log1p(max(chi, 0.0)) + 1e-9  # Jensen
    assert 4 * tv**2 <= chi + 1e-9  # Cauchy-Schwarz


# -- Gaussian ----------------------------------------------------------------------------------------------------


def test_gaussians_by_hand() -> None:
    """Equal deviations 2, means 1 apart: chi-square exp(1/4) - 1, KL 1/8, and a bound of 1/4 on the total variation."""
    p, q = gaussian([1.0, 3.0], [2.0, 0.5]), gaussian([0.0, 3.0], [2.0, 0.5])
    assert p.chi_square(q).item() == pytest.approx(math.expm1(0.25))
    assert p.total_variation(q).item() == pytest.approx(0.25)
    # one dimension, equal means, deviations 1 and 2: 2 / sqrt(2 - 1/4) - 1
    assert gaussian([0.0], [1.0]).chi_square(gaussian([0.0], [2.0])).item() == pytest.approx(2 / 1.75**0.5 - 1)
    assert p.chi_square(p).item() == p.total_variation(p).item() == 0.0
    assert gaussian([50.0], [1.0]).total_variation(gaussian([0.0], [1.0])).item() == 1.0


@pytest.mark.parametrize(
    ("mean", "std", "other_mean", "other_std"),
    [([0.3, -1.0], [0.7, 1.2], [0.0, -0.5], [0.9, 1.0]), ([0.0, 0.0], [1.3, 0.4], [0.2, 0.1], [1.0, 0.5])],
)
def test_gaussians_as_integrated(
    mean: list[float], std: list[float], other_mean: list[float], other_std: list[float]
) -> None:
    """Over a grid: the chi-square is exact, the total variation bounded from above."""
    p, q = gaussian(mean, std), gaussian(other_mean, other_std)
    line = torch.linspace(-30, 30, 2001, dtype=torch.float64)
    points = torch.cartesian_prod(line, line)
    cell = float(line[1] - line[0]) ** 2
    wide = torch.ones(len(points), 2, dtype=torch.bool)
    log_p, log_q = (
        DiagonalGaussian(x.params.expand(len(points), 4), wide).log_prob(points) for x in (p, q)
    )  # fmt: skip
    assert p.chi_square(q).item() == pytest.approx(float((2 * log_p - log_q).exp().sum()) * cell - 1, rel=1e-6)
    tv = float((log_p.exp() - log_q.exp()).abs().sum()) * cell / 2
    assert tv <= p.total_variation(q).item() <= 1.0


def test_where_the_gaussian_chi_square_diverges_the_bound_by_kl_stands() -> None:
    wide, narrow = gaussian([0.5, 0.0], [1.5, 1.0]), gaussian([0.0, 0.0], [1.0, 1.0])
    assert wide.chi_square(narrow).item() == pytest.approx(math.expm1(wide.kl(narrow).item()))
    # at s^2 = 2 s'^2 too; just below the exact value is there
    edge = gaussian([0.0, 0.0], [math.sqrt(2.0) * (1 + 1e-12), 1.0])
    assert edge.chi_square(narrow).item() == pytest.approx(math.expm1(edge.kl(narrow).item()))
    below = gaussian([0.0, 0.0], [1.41, 1.0])
    assert below.chi_square(narrow).item() == pytest.approx(1 / (1.41 * math.sqrt(2 - 1.41**2)) - 1)


def test_dimensions_that_an_agent_lacks_add_nothing() -> None:
    own = [True, False]
    p, q = gaussian([0.3, 7.0], [0.7, 90.0], own), gaussian([0.0, -9.0], [0.9, 0.01], own)
    one, other = gaussian([0.3], [0.7]), gaussian([0.0], [0.9])
    assert p.chi_square(q).item() == pytest.approx(one.chi_square(other).item())
    assert p.total_variation(q).item() == pytest.approx(one.total_variation(other).item())
    none = gaussian([0.3, 7.0], [0.7, 90.0], [False, False])
    assert none.chi_square(none).item() == none.total_variation(none).item() == 0.0
