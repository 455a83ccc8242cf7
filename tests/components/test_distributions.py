"""The masked categorical against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oamarl.components.distributions import MaskedCategorical, gumbel, kl_categorical

# weights 1, 2, 3, 4 with the third illegal: 1/7, 2/7, 0, 4/7
LOGITS = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64).log()
AVAIL = torch.tensor([True, True, False, True])
P = [1 / 7, 2 / 7, 0.0, 4 / 7]
ENTROPY = -sum(p * math.log(p) for p in P if p)


def test_probabilities_and_log_probabilities() -> None:
    policy = MaskedCategorical(LOGITS, AVAIL)
    assert policy.log_probs.exp().tolist() == pytest.approx(P)
    assert policy.log_prob(torch.tensor(3)).item() == pytest.approx(math.log(4 / 7))
    rows = MaskedCategorical(LOGITS.expand(2, 3, 4), AVAIL.expand(2, 3, 4))
    actions = torch.tensor([[0, 1, 3], [3, 1, 0]])
    expected = [[math.log(P[a]) for a in row] for row in actions.tolist()]
    assert rows.log_prob(actions).tolist() == [pytest.approx(row) for row in expected]
    assert rows.mode().tolist() == [[3, 3, 3], [3, 3, 3]]


def test_entropy_and_kl_by_hand() -> None:
    policy = MaskedCategorical(LOGITS, AVAIL)
    even = MaskedCategorical(torch.zeros(4, dtype=torch.float64), AVAIL)
    assert policy.entropy().item() == pytest.approx(ENTROPY)
    assert even.entropy().item() == pytest.approx(math.log(3))
    assert policy.kl(even).item() == pytest.approx(math.log(3) - ENTROPY)
    # the other way round: sum of log((1/3) / p) / 3
    assert even.kl(policy).item() == pytest.approx(sum(math.log(1 / (3 * p)) for p in P if p) / 3)
    assert policy.kl(policy).item() == 0.0
    assert kl_categorical(policy.log_probs, even.log_probs).item() == policy.kl(even).item()


def test_gradient_of_the_entropy_by_hand() -> None:
    logits = LOGITS.clone().requires_grad_()
    MaskedCategorical(logits, AVAIL).entropy().backward()
    assert logits.grad is not None
    # dH / dlogit_a = -p_a (log p_a + H); nothing at the illegal action
    expected = [-p * (math.log(p) + ENTROPY) if p else 0.0 for p in P]
    assert logits.grad.tolist() == pytest.approx(expected)


def test_a_single_legal_action_is_certain() -> None:
    only = torch.tensor([False, True, False])
    a, b = MaskedCategorical(torch.tensor([5.0, -90.0, 3.0]), only), MaskedCategorical(torch.zeros(3), only)
    assert a.log_prob(torch.tensor(1)).item() == 0.0
    assert a.entropy().item() == 0.0
    assert a.kl(b).item() == 0.0
    assert a.sample(gumbel(torch.tensor([0.99, 0.0, 0.99]))).item() == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-30, 30), st.floats(-30, 30), st.booleans()), min_size=2, max_size=6))
def test_kl_is_a_distance_of_distributions(columns: list[tuple[float, float, bool]]) -> None:
    p, q, legal = zip(*columns, strict=True)
    if not any(legal):
        legal = tuple(True for _ in legal)
    mask = torch.tensor(legal)
    p, q = torch.tensor([p, q], dtype=torch.float64)
    a, b = MaskedCategorical(p, mask), MaskedCategorical(q, mask)
    assert a.kl(b).item() >= -1e-12
    assert a.log_probs[mask].exp().sum().item() == pytest.approx(1.0)
    assert 0.0 - 1e-12 <= a.entropy().item() <= math.log(sum(legal)) + 1e-12
    shifted = MaskedCategorical(p + 4.0, mask)
    assert a.kl(shifted).item() == pytest.approx(0.0, abs=1e-9)


def test_padded_rows_give_no_nan_and_no_gradient() -> None:
    # the second row is padding: no legal action, and a mask outside
    logits = torch.tensor([[1.0, 2.0, 3.0], [0.0, math.log(2.0), 0.0]], requires_grad=True)
    avail = torch.tensor([[True, False, True], [False, False, False]])
    policy = MaskedCategorical(logits, avail)
    other = MaskedCategorical(torch.tensor([[0.0, 0.0, 1.0], [2.0, 0.0, 0.0]]), avail)
    parts = policy.log_prob(torch.zeros(2, dtype=torch.int64)), policy.entropy(), policy.kl(other)
    assert all(x.isfinite().all() for x in parts)
    assert policy.log_probs[1].exp().tolist() == pytest.approx([1 / 3] * 3)
    valid = torch.tensor([True, False])
    torch.where(valid, sum(parts), 0.0).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[1].tolist() == [0.0, 0.0, 0.0]
    assert logits.grad[0, 1].item() == 0.0
    assert logits.grad[0, 0].item() != 0.0


def test_illegal_actions_are_never_sampled() -> None:
    # the illegal action has the largest logit and the most favourable noise there is
    logits, avail = torch.tensor([0.0, 80.0, -80.0]), torch.tensor([True, False, True])
    policy = MaskedCategorical(logits.expand(1000, 3), avail.expand(1000, 3))
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(1000, 3, generator=generator)
    noise[:, 1] = 1.0
    noise[:4] = torch.tensor([0.0, 1.0, 0.0])
    assert not (policy.sample(gumbel(noise)) == 1).any()
    assert not (policy.mode() == 1).any()
    assert policy.log_prob(torch.ones(1000, dtype=torch.int64)).exp().eq(0.0).all()


def test_the_gumbel_rule_by_hand() -> None:
    # -log(-log u): 0.5 -> 0.3665, 0.7 -> 1.0309, 0.9 -> 2.2504; weights 4 : 1 are 1.3863 apart
    policy = MaskedCategorical(torch.tensor([4.0, 1.0]).log(), torch.tensor([True, True]))
    assert policy.sample(gumbel(torch.tensor([0.5, 0.5]))).item() == 0
    assert policy.sample(gumbel(torch.tensor([0.5, 0.9]))).item() == 1  # 1.3863 + 0.3665 < 2.2504
    assert policy.sample(gumbel(torch.tensor([0.7, 0.9]))).item() == 0  # 1.3863 + 1.0309 > 2.2504


def test_sampled_frequencies_are_the_probabilities() -> None:
    n = 100_000
    policy = MaskedCategorical(LOGITS.float().expand(n, 4), AVAIL.expand(n, 4))
    drawn = policy.sample(gumbel(torch.rand(n, 4, generator=torch.Generator().manual_seed(7))))
    counts = drawn.bincount(minlength=4)
    assert counts[2].item() == 0
    for count, p in zip(counts.tolist(), P, strict=True):
        assert abs(count - n * p) <= 4.5 * (n * p * (1 - p)) ** 0.5


def test_extreme_noise_and_logits_stay_finite() -> None:
    policy = MaskedCategorical(torch.tensor([[1e4, -1e4, 0.0]]), torch.tensor([[True, True, True]]))
    assert policy.entropy().item() == 0.0
    assert policy.sample(gumbel(torch.tensor([[0.0, 1.0, 1.0]]))).item() == 0
    assert policy.log_probs.isfinite().all()
