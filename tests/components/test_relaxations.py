"""Straight-through estimators: one-hot samples of legal actions, their gradients by hand, and the variance of these."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from oamarl.components.distributions import gumbel
from oamarl.components.relaxations import gapped_straight_through, greedy_one_hot, straight_through

Estimator = Callable[[Tensor, Tensor, Tensor], Tensor]
ESTIMATORS: dict[str, Estimator] = {
    "st": lambda logits, avail, noise: straight_through(logits, avail, noise, 0.7),
    "gst": lambda logits, avail, noise: gapped_straight_through(logits, avail, noise, 0.7, 1.0),
}


def noise_of(*shape: int, seed: int = 0) -> Tensor:
    uniform = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return gumbel(uniform)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_samples_are_one_hot_and_legal_to_the_bit(name: str) -> None:
    avail = torch.tensor(list(itertools.product((False, True), repeat=4))).repeat(500, 1)
    logits = 30.0 * torch.randn(len(avail), 4, generator=torch.Generator().manual_seed(1))
    logits.requires_grad_()
    found = ESTIMATORS[name](logits, avail, noise_of(len(avail), 4).float())
    assert torch.equal(found.sum(-1), avail.any(-1).float()), "zeros where nothing is legal"
    assert bool(((found == 0) | (found == 1)).all())
    assert not bool((found * ~avail).any()), "an illegal action"
    (found * torch.randn(found.shape)).sum().backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())
    assert not bool(logits.grad[~avail].any()), "an illegal action has a gradient"


@pytest.mark.parametrize("name", ESTIMATORS)
def test_samples_have_the_probabilities_of_the_softmax(name: str) -> None:
    logits, avail = torch.tensor([1.0, 0.0, 2.0, 9.0]), torch.tensor([True, True, True, False])
    n = 40_000
    found = ESTIMATORS[name](logits.expand(n, 4), avail.expand(n, 4), noise_of(n, 4).float()).mean(0)
    expected = torch.cat([logits[:3].softmax(0), torch.zeros(1)])
    torch.testing.assert_close(found, expected, rtol=0, atol=0.01)


def test_gradients_by_hand() -> None:
    """Action 1 is sampled: d f / d logits is J(s) (1, 2, 4) / tau, with J = diag(s) - s s'."""
    logits = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64, requires_grad=True)
    avail, noise = torch.ones(3, dtype=torch.bool), torch.tensor([0.0, 3.0, 1.0], dtype=torch.float64)
    weights, tau = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64), 0.5
    surrogates = {
        # logits and noise: 2, 4, 1.5
        "st": torch.tensor([2.0, 4.0, 1.5], dtype=torch.float64),
        # m1 lifts 1 to the maximum of 2; m2 is max(2 + 1 - 2, 0) = 1 and max(.5 + 1 - 2, 0) = 0
        "gst": torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64),
    }
    for name, numbers in surrogates.items():
        sample = (
            straight_through(logits, avail, noise, tau)
            if name == "st"
            else gapped_straight_through(logits, avail, noise, tau, 1.0)
        )
        assert sample.tolist() == [0.0, 1.0, 0.0]
        (found,) = torch.autograd.grad((sample * weights).sum(), logits)
        s = (numbers / tau).softmax(0)
        torch.testing.assert_close(found, s * (weights - (s * weights).sum()) / tau)


def test_the_gapped_estimator_has_the_lower_variance() -> None:
    """On a function of a sample that can be enumerated, at one temperature: given the sample, gst's gradient has no
    variance at all, and st's has."""
    logits = torch.tensor([0.3, -0.2, 0.5, 0.0], dtype=torch.float64)
    values = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    n, total = 20_000, {}
    for name, estimator in ESTIMATORS.items():
        x = logits.expand(n, 4).clone().requires_grad_()
        sample = estimator(x, torch.ones(n, 4, dtype=torch.bool), noise_of(n, 4))
        (sample * values).sum().backward()
        assert x.grad is not None
        total[name] = float(x.grad.var(0).sum())
        given = [x.grad[sample.argmax(-1) == a].var(0).sum() for a in range(4)]
        assert all(v < 1e-20 for v in given) == (name == "gst")
    assert total["gst"] < 0.8 * total["st"]


def test_the_best_action() -> None:
    logits, avail = torch.tensor([[3.0, 2.0, 1.0]] * 2), torch.tensor([[False, True, True], [False] * 3])
    assert greedy_one_hot(logits, avail).tolist() == [[0.0, 1.0, 0.0], [0.0] * 3]
