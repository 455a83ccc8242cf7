"""Role evidence from numbers worked out by hand, and its expectations from simulated gradients."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from oamarl.components import roles
from oamarl.components.distributions import LOG_STD, DiagonalGaussian, MaskedCategorical
from oamarl.components.roles import (
    BETA,
    HORIZON,
    NOISE,
    PRIOR,
    PRIOR_DECAY,
    RIDGE,
    WIDEST,
    RoleEvidence,
    difference,
    narrowed,
    parts_of,
    sums_by_part,
    whitening,
)


def numbered(*lengths: int) -> torch.Tensor:
    return torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))


# -- parts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lengths", "part"),
    [
        ((2,) * 8, [k // 2 for k in range(16)]),  # enough episodes: as they are
        ((1,) * 9, list(range(9))),
        # two episodes: four pieces each, as equal as can be
        ((8, 5), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 7]),
        # 3 episodes: three pieces each, of which a short one has fewer
        ((1, 2, 3), [0, 1, 2, 3, 4, 5]),
        ((16,), [k // 2 for k in range(16)]),
        ((1,), [0]),
        ((), []),
    ],
)
def test_parts_by_hand(lengths: tuple[int, ...], part: list[int]) -> None:
    found, count = parts_of(numbered(*lengths) if lengths else torch.zeros(0, dtype=torch.int64))
    assert found.tolist() == part
    assert count == (max(part) + 1 if part else 0)


def test_episodes_of_any_number_become_parts_from_zero() -> None:
    found, count = parts_of(torch.tensor([7, 7, 3, 3, 3, 9, 4, 5, 6, 8, 2]))
    assert count == 8
    assert found.tolist() == [0, 0, 1, 1, 1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("lengths", [(3, 50), (40, 1, 1), (7,), (2, 3, 5, 7, 11, 13, 17)])
def test_pieces_stay_within_their_episodes_and_in_order(lengths: tuple[int, ...]) -> None:
    episode = numbered(*lengths)
    part, count = parts_of(episode)
    assert torch.equal(part.unique(), torch.arange(count))
    assert (part.diff() >= 0).all()
    assert (part.diff()[episode.diff() > 0] == 1).all()
    pieces = -(-roles.PARTS // len(lengths))
    assert count == sum(min(length, pieces) for length in lengths)


# -- gradients' differences ---------------------------------------------------------------------------------------


def test_whitening_by_hand() -> None:
    """Axes with second moments 4 and 1: mean 2.5, ridge 0.025."""
    x = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, -1.0]]) * 2**0.5
    expected = torch.tensor([(4 + 2.5 * RIDGE) ** -0.5, (1 + 2.5 * RIDGE) ** -0.5])
    torch.testing.assert_close(whitening(x), expected.diag(), rtol=0, atol=1e-6)


def test_whitened_features_have_moments_near_the_identity() -> None:
    x = torch.randn(5000, 6, generator=torch.Generator().manual_seed(1)) @ torch.diag(torch.arange(1.0, 7.0))
    w = whitening(x)
    torch.testing.assert_close(w, w.T)
    moments = (x @ w).T @ (x @ w) / len(x)
    assert (moments - torch.eye(6)).abs().max() < 0.2
    assert (whitening(10.0 * x) * 10.0 - w).abs().max() < 1e-5, "another scale of all features changes nothing"


@pytest.mark.parametrize("x", [torch.zeros(3, 2), torch.zeros(0, 2), torch.ones(5, 2)])
def test_whitening_without_variance_is_finite(x: torch.Tensor) -> None:
    assert whitening(x).isfinite().all()


def test_wide_features_are_projected_the_same_way_each_time() -> None:
    x = torch.randn(4, WIDEST + 3)
    assert narrowed(x[:, :WIDEST]).shape == (4, WIDEST)
    assert torch.equal(narrowed(x[:, :WIDEST]), x[:, :WIDEST])
    a, b = narrowed(x), narrowed(x.double())
    assert a.shape == (4, WIDEST)
    torch.testing.assert_close(a, b.float())
    # lengths are kept in expectation
    many = torch.randn(200, WIDEST + 100, generator=torch.Generator().manual_seed(2))
    assert float(narrowed(many).norm() / many.norm()) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("at_once", [1, 40, 2**21])
def test_sums_by_part_against_a_loop(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roles, "_PRODUCTS", at_once)
    g = torch.Generator().manual_seed(3)
    f, s = torch.randn(20, 4, generator=g, dtype=torch.float64), torch.randn(20, 3, generator=g, dtype=torch.float64)
    part = torch.randint(5, (20,), generator=g)
    part[part == 3] = 2  # a part without rows
    expected = torch.zeros(5, 3, 4, dtype=torch.float64)
    for k in range(20):
        expected[part[k]] += torch.outer(s[k], f[k])
    found = sums_by_part(f, s, part, 5)
    torch.testing.assert_close(found, expected.flatten(1), rtol=0, atol=1e-12)
    assert (found[3] == 0).all()


def test_difference_by_hand() -> None:
    """Parts 1 and 3 apart on one axis, 2 on another: deviations +-1 from the mean, times n / (n - 1) = 2."""
    own, other = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[2.0, 2.0], [3.0, 3.0]])
    delta, noise = difference(own, other)
    assert delta.tolist() == [4.0, 4.0]
    assert float(noise) == pytest.approx(2.0 * (1.0 + 1.0))


def test_differences_of_equal_expectation_have_their_noise_as_square() -> None:
    """E |delta|^2 = E V where the expectations agree; where they differ by m, it is |m|^2 more."""
    g = torch.Generator().manual_seed(4)
    for shift in (0.0, 0.5):
        squares, noises = [], []
        for _ in range(3000):
            common = torch.randn(8, 5, generator=g)  # own and other's parts vary together
            delta, noise = difference(
                common + torch.randn(8, 5, generator=g), 0.5 * common + torch.randn(8, 5, generator=g) + shift
            )
            squares.append(float(delta.square().sum()))
            noises.append(float(noise))
        assert np.mean(noises) == pytest.approx(8 * 5 * 2.25, rel=0.03)
        assert np.mean(squares) - np.mean(noises) == pytest.approx(5 * (8 * shift) ** 2, abs=6.0)


# -- evidence ------------------------------------------------------------------------------------------------------


def test_two_iterations_by_hand() -> None:
    evidence = RoleEvidence(2)
    assert (evidence.ratios() == 1).all()
    np.testing.assert_allclose(evidence.squared_bias(np.ones((2, 2))), [[0, PRIOR], [PRIOR, 0]])
    delta = torch.zeros(2, 2, 3)
    delta[0, 1], delta[1, 0] = torch.tensor([3.0, 0.0, 4.0]), torch.tensor([1.0, 1.0, 0.0])
    noise = torch.tensor([[0.0, 5.0], [4.0, 0.0]])
    evidence.add(delta, noise)
    # one iteration: |delta|^2 / V, whatever beta is
    np.testing.assert_allclose(evidence.ratios(), [[1.0, 5.0], [0.5, 1.0]], rtol=1e-6)
    bias = evidence.squared_bias(np.array([[1.0, 3.0], [7.0, 1.0]]))
    left = PRIOR * PRIOR_DECAY
    np.testing.assert_allclose(bias, [[0, (5.0 - NOISE) * HORIZON * 4.0 + left], [left, 0]], rtol=1e-6)
    second = torch.zeros(2, 2, 3)
    second[0, 1, 1] = 2.0
    evidence.add(second, torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
    mean = (1 - BETA) * np.array([3.0 * BETA, 2.0, 4.0 * BETA])
    spread = (1 - BETA) ** 2 * (5.0 * BETA**2 + 1.0)
    ratios = evidence.ratios()
    assert ratios[0, 1] == pytest.approx((mean**2).sum() / spread)
    assert ratios[1, 0] == pytest.approx(0.5), "an iteration that says nothing changes nothing"
    assert evidence.iterations == 2


def test_of_equal_roles_the_ratio_is_one_in_expectation() -> None:
    g, found = torch.Generator().manual_seed(5), []
    for _ in range(400):
        evidence = RoleEvidence(2)
        for _ in range(5):
            delta, noise = torch.zeros(2, 2, 40), torch.zeros(2, 2)
            parts = torch.randn(2, 16, 40, generator=g)
            delta[0, 1], noise[0, 1] = difference(*parts)
            evidence.add(delta, noise)
        found.append(evidence.ratios()[0, 1])
    assert np.mean(found) == pytest.approx(1.0, abs=0.03)
    assert np.quantile(found, 0.95) < 1.6


def test_of_unlike_roles_the_ratio_grows_with_the_iterations() -> None:
    g, evidence, seen = torch.Generator().manual_seed(6), RoleEvidence(2), []
    for _ in range(40):
        parts = torch.randn(2, 16, 40, generator=g)
        delta, noise = torch.zeros(2, 2, 40), torch.zeros(2, 2)
        delta[0, 1], noise[0, 1] = difference(parts[0], parts[1] + 0.25)
        evidence.add(delta, noise)
        seen.append(evidence.ratios()[0, 1])
    # |m|^2 / V = 40 (16 * .25)^2 / (40 * 16 * 2) = 1/2 an iteration, 19 times that in the averages
    assert seen[0] == pytest.approx(1.5, abs=0.5)
    assert np.mean(seen[20:]) == pytest.approx(1 + 0.5 * 19, rel=0.2)


def test_scaled_gradients_say_the_same() -> None:
    g, a, b = torch.Generator().manual_seed(7), RoleEvidence(3), RoleEvidence(3)
    for _ in range(3):
        delta, noise = torch.randn(3, 3, 4, generator=g), torch.rand(3, 3, generator=g)
        a.add(delta, noise)
        b.add(100.0 * delta, 1e4 * noise)
    np.testing.assert_allclose(a.ratios(), b.ratios(), rtol=1e-5)


@pytest.mark.filterwarnings("error")
def test_bias_of_sources_of_infinite_variance_is_a_number() -> None:
    evidence = RoleEvidence(3)
    delta, noise = torch.ones(3, 3, 2), torch.ones(3, 3)
    delta[0, 1] = 0.5
    evidence.add(delta, noise)
    variance = np.full((3, 3), np.inf)
    found = evidence.squared_bias(variance)
    assert found[0, 1] == pytest.approx(PRIOR * PRIOR_DECAY), "no excess, whatever the variance"
    assert found[0, 2] == np.inf
    assert (np.diag(found) == 0).all()


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
@pytest.mark.parametrize("where", ["differences", "noise"])
def test_an_iteration_without_numbers_is_left_out(bad: float, where: str) -> None:
    """A pair keeps what it knows, and the others' evidence is taken in."""
    g, a, b = torch.Generator().manual_seed(8), RoleEvidence(2), RoleEvidence(2)
    for k in range(4):
        delta, noise = torch.randn(2, 2, 3, generator=g), torch.rand(2, 2, generator=g)
        left_out, less = delta.clone(), noise.clone()
        if k == 1:
            left_out[0, 1], less[0, 1] = 0.0, 0.0
            (delta[..., 0] if where == "differences" else noise)[0, 1] = bad
        a.add(delta, noise)
        b.add(left_out, less)
    np.testing.assert_array_equal(a.ratios(), b.ratios())
    assert np.isfinite(a.ratios()).all()


def test_episodes_that_are_copies_are_one_observation() -> None:
    """A constant difference without noise would raise the ratio without end."""
    evidence, g = RoleEvidence(2), torch.Generator().manual_seed(3)
    for _ in range(30):
        evidence.add(*drawn_alike(g))
    before = evidence.ratios()
    for noise in (0.0, 1e-9):
        for _ in range(50):
            evidence.add(torch.full((2, 2, 3), 0.1), torch.full((2, 2), noise))
    np.testing.assert_allclose(evidence.ratios(), before, rtol=1e-4)


def drawn_alike(g: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Differences of two agents of one role, and their noise."""
    return torch.randn(2, 2, 3, generator=g), torch.full((2, 2), 3.0)


def test_state_is_the_evidence() -> None:
    a, g = RoleEvidence(2), torch.Generator().manual_seed(9)
    empty = RoleEvidence(2)
    empty.load_state_dict(RoleEvidence(2).state_dict())
    assert empty.mean is None
    a.add(torch.randn(2, 2, 3, generator=g), torch.rand(2, 2, generator=g))
    buffer = io.BytesIO()
    torch.save(a.state_dict(), buffer)
    buffer.seek(0)
    b = RoleEvidence(2)
    b.load_state_dict(torch.load(buffer, weights_only=True))
    more = torch.randn(2, 2, 3, generator=g), torch.rand(2, 2, generator=g)
    a.add(*more)
    b.add(*more)
    np.testing.assert_array_equal(a.ratios(), b.ratios())
    np.testing.assert_array_equal(a.squared_bias(np.ones((2, 2))), b.squared_bias(np.ones((2, 2))))


# -- scores ----------------------------------------------------------------------------------------------------------


def test_categorical_score_is_the_gradient() -> None:
    g = torch.Generator().manual_seed(10)
    logits = torch.randn(30, 5, generator=g, dtype=torch.float64).requires_grad_()
    avail = torch.rand(30, 5, generator=g) < 0.6
    avail[torch.arange(30), torch.arange(30) % 5] = True
    avail[:, 4] = False  # an action that the agent does not have
    avail[:, 0] = True
    policy = MaskedCategorical(logits, avail)
    actions = policy.sample(torch.rand(30, 5, generator=g, dtype=torch.float64))
    (expected,) = torch.autograd.grad(policy.log_prob(actions).sum(), logits)
    found = policy.score(actions)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert (found[~avail] == 0).all()
    torch.testing.assert_close(found.sum(-1), torch.zeros(30, dtype=torch.float64), rtol=0, atol=1e-12)


def test_gaussian_score_is_the_gradient() -> None:
    g = torch.Generator().manual_seed(11)
    outputs = torch.randn(30, 6, generator=g, dtype=torch.float64).requires_grad_()
    assert (outputs.detach()[:, 3:] > LOG_STD[0]).all(), "within the limits"
    avail = torch.ones(30, 3, dtype=torch.bool)
    avail[:10, 2] = False
    policy = DiagonalGaussian(outputs.clamp(max=1.9), avail)
    actions = policy.sample(torch.randn(30, 3, generator=g, dtype=torch.float64)).detach()
    again = DiagonalGaussian(leaf := outputs.detach().clamp(max=1.9).requires_grad_(), avail)
    (expected,) = torch.autograd.grad(again.log_prob(actions).sum(), leaf)
    found = policy.score(actions)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    assert (found[:10, [2, 5]] == 0).all()


def test_scores_have_no_mean() -> None:
    """E_pi[ score ] = 0 for both distributions."""
    g = torch.Generator().manual_seed(12)
    n = 200_000
    logits, avail = torch.tensor([[0.3, -1.0, 0.8]]).expand(n, 3), torch.tensor([[True, True, True]]).expand(n, 3)
    policy = MaskedCategorical(logits, avail)
    u = -torch.log(-torch.log(torch.rand(n, 3, generator=g).clamp(1e-9, 1 - 1e-7)))
    assert policy.score(policy.sample(u)).mean(0).abs().max() < 0.01
    gaussian = DiagonalGaussian(torch.tensor([[0.5, -1.0, 0.2, -0.3]]).expand(n, 4), avail[:, :2])
    assert gaussian.score(gaussian.sample(torch.randn(n, 2, generator=g))).mean(0).abs().max() < 0.02
