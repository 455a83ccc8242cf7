"""Value targets and advantages against numbers worked out by hand, and against their definitions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from oamarl.components.returns import explained_variance, gae, next_values, nstep, nstep_parts, standardise

GAMMA, LAM = 0.5, 0.5
T = 4
X = 999.0  # what padding holds here: were it ever entered, no number below would come out
REWARD = [1.0, 2.0, 3.0, 4.0]
VALUE = [0.0, 4.0, 2.0, 8.0, 6.0]

# One batch of rows with the same rewards and values. gamma V(next) is 2, 1, 4, 3 and
# delta = r + gamma V(next) - V is 3, -1, 5, -1 wherever nothing ends; gamma lambda is 1/4.
#   name: (filled steps, terminated at, truncated at, {step: value of the final observation})
ROWS = {
    "terminated at 1, then padding": (2, [1], [], {}),
    "truncated at 2, then padding": (3, [], [2], {}),
    "terminated at 0 inside a segment": (4, [0], [], {0: 70.0}),
    "truncated at 1 inside a segment": (4, [], [1], {1: 10.0}),
    "both flags at 2 inside a segment": (4, [2], [2], {2: 100.0}),
    "runs on at the segment's end": (4, [], [], {}),
    "terminated at the segment's end": (4, [3], [], {}),
}
ADVANTAGE = [
    [2.5, -2.0],  # delta 3, 2 - 4
    [3.0625, 0.25, 5.0],  # the in-row V[3] = 8 follows the truncation
    [1.0, 0.1875, 4.75, -1.0],  # first delta 1 - 0
    [3.75, 3.0, 4.75, -1.0],  # second delta 2 + 10/2 - 4
    [2.8125, -0.75, 1.0, -1.0],  # third delta 3 - 2: both flags are a termination
    [3.046875, 0.1875, 4.75, -1.0],
    [3.0, 0.0, 4.0, -4.0],
]
NSTEP = {
    1: [[3, 2], [3, 3, 7], [1, 3, 7, 7], [3, 7, 7, 7], [3, 3, 3, 7], [3, 3, 7, 7], [3, 3, 7, 4]],
    2: [
        [2, 2],
        [2.5, 5.5, 7],
        [1, 5.5, 6.5, 7],
        [4.5, 7, 6.5, 7],
        [2.5, 3.5, 3, 7],
        [2.5, 5.5, 6.5, 7],
        [2.5, 5.5, 5, 4],
    ],
    3: [
        [2, 2],
        [3.75, 5.5, 7],
        [1, 5.25, 6.5, 7],
        [4.5, 7, 6.5, 7],
        [2.75, 3.5, 3, 7],
        [3.75, 5.25, 6.5, 7],
        [3.75, 4.5, 5, 4],
    ],
    50: [
        [2, 2],
        [3.75, 5.5, 7],
        [1, 5.25, 6.5, 7],
        [4.5, 7, 6.5, 7],
        [2.75, 3.5, 3, 7],
        [3.625, 5.25, 6.5, 7],
        [3.25, 4.5, 5, 4],
    ],
}


def batch() -> dict[str, Tensor]:
    """The rows above as one batch."""
    b = len(ROWS)
    lengths = torch.tensor([length for length, *_ in ROWS.values()])
    filled = torch.arange(T) < lengths.unsqueeze(1)
    shown = torch.arange(T + 1) <= lengths.unsqueeze(1)
    terminated, truncated = torch.zeros(b, T, dtype=torch.bool), torch.zeros(b, T, dtype=torch.bool)
    index, final = [], []
    for row, (_, ends, cuts, finals) in enumerate(ROWS.values()):
        terminated[row, ends] = True
        truncated[row, cuts] = True
        index += [[row, step] for step in finals]
        final += list(finals.values())
    value = torch.where(shown, torch.tensor(VALUE), X)
    return {
        "reward": torch.where(filled, torch.tensor(REWARD), X),
        "value": value[:, :T],
        "next_value": next_values(value, torch.tensor(final), torch.tensor(index)),
        "terminated": terminated,
        "ended": terminated | truncated | ~filled,
        "filled": filled,
    }


def pick(x: Tensor) -> list[list[float]]:
    """The filled steps of each row."""
    return [x[i, : spec[0]].tolist() for i, spec in enumerate(ROWS.values())]


def test_gae_ends_differently_in_every_row_of_a_batch() -> None:
    d = batch()
    advantage, returns = gae(d["reward"], d["value"], d["next_value"], d["terminated"], d["ended"], GAMMA, LAM)
    assert pick(advantage) == ADVANTAGE  # all of these are exact in binary
    assert pick(returns) == [[a + v for a, v in zip(row, VALUE, strict=False)] for row in ADVANTAGE]


@pytest.mark.parametrize("n", NSTEP)
def test_nstep_ends_differently_in_every_row_of_a_batch(n: int) -> None:
    d = batch()
    target = nstep(d["reward"], d["next_value"], d["terminated"], d["ended"], d["filled"], GAMMA, n)
    assert pick(target) == NSTEP[n]


@pytest.mark.parametrize("n", NSTEP)
@pytest.mark.parametrize("steps", [1, 3, T])
def test_the_parts_of_nstep_targets_make_the_same_ones(n: int, steps: int) -> None:
    d = batch()
    parts = [d[k].unsqueeze(-1) for k in ("reward", "terminated", "ended")]
    rewards, discount, ahead = nstep_parts(*parts, d["filled"], GAMMA, n, steps)
    assert rewards.shape == discount.shape == (len(ROWS), steps, 1)
    last = torch.arange(steps) + ahead - 1
    found = rewards[..., 0] + discount[..., 0] * d["next_value"].gather(1, last)
    whole = nstep(d["reward"], d["next_value"], d["terminated"], d["ended"], d["filled"], GAMMA, n)
    filled = d["filled"][:, :steps]
    assert torch.equal(found[filled], whole[:, :steps][filled])
    assert bool((ahead[filled] >= 1).all())


def test_nstep_stops_before_padding_where_no_flag_says_so() -> None:
    reward = torch.tensor([[1.0, 2.0, X, X]])
    following = torch.tensor([[4.0, 2.0, X, X]])
    filled = torch.tensor([[True, True, False, False]])
    none = torch.zeros_like(filled)
    target = nstep(reward, following, none, ~filled, filled, GAMMA, 3)
    assert target[0, :2].tolist() == [2.5, 3.0]  # 1 + 2/2 + 2/4, 2 + 2/2


def test_agents_end_on_their_own() -> None:
    # agent 0 leaves at step 0, agent 1 continues to the segment's end
    reward = torch.tensor([[[1.0, 1.0], [2.0, 2.0]]])
    value = torch.tensor([[[3.0, 3.0], [4.0, 4.0], [6.0, 6.0]]])
    terminated = torch.tensor([[[True, False], [True, False]]])
    advantage, _ = gae(reward, value[:, :2], value[:, 1:], terminated, terminated, GAMMA, LAM)
    assert advantage.tolist() == [[[-2.0, 0.25], [-2.0, 1.0]]]
    target = nstep(reward, value[:, 1:], terminated, terminated, torch.ones_like(terminated), GAMMA, 2)
    assert target.tolist() == [[[1.0, 3.5], [2.0, 5.0]]]


def test_next_values_takes_the_final_observation_and_leaves_the_values_alone() -> None:
    values = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    following = next_values(values, torch.tensor([20.0, 30.0]), torch.tensor([[1, 0], [0, 1]]))
    assert following.tolist() == [[2.0, 30.0], [20.0, 6.0]]
    assert values.tolist() == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    none = next_values(values, torch.zeros(0), torch.zeros(0, 2, dtype=torch.int64))
    assert none.tolist() == [[2.0, 3.0], [5.0, 6.0]]


def nstep_by_definition(
    reward: list[float], following: list[float], terminated: list[bool], ended: list[bool], gamma: float, n: int
) -> list[float]:
    """One row: rewards are added until n of them, an end, or the row's end; then comes the bootstrap, if any."""
    targets = []
    for t in range(len(reward)):
        total, k = 0.0, 0
        while True:
            total += gamma**k * reward[t + k]
            if k == n - 1 or ended[t + k] or t + k == len(reward) - 1:
                break
            k += 1
        targets.append(total if terminated[t + k] else total + gamma ** (k + 1) * following[t + k])
    return targets


@st.composite
def rows(draw: st.DrawFn) -> tuple[list[float], list[float], list[bool], list[bool]]:
    steps = draw(st.integers(1, 7))
    number = st.integers(-8, 8).map(float)

    def of(kind: st.SearchStrategy) -> list:
        return draw(st.lists(kind, min_size=steps, max_size=steps))

    terminated, truncated = of(st.booleans()), of(st.booleans())
    return of(number), of(number), terminated, [a or b for a, b in zip(terminated, truncated, strict=True)]


@settings(max_examples=150, deadline=None)
@given(rows(), st.integers(1, 9), st.sampled_from([0.0, 0.5, 0.9, 1.0]))
def test_nstep_is_its_definition(row: tuple[list, list, list, list], n: int, gamma: float) -> None:
    reward, following, terminated, ended = row
    doubles = (torch.tensor([x], dtype=torch.float64) for x in (reward, following))
    flags = (torch.tensor([x]) for x in (terminated, ended))
    target = nstep(*doubles, *flags, torch.ones(1, len(reward), dtype=torch.bool), gamma, n)
    assert target[0].tolist() == pytest.approx(nstep_by_definition(*row, gamma, n))


@settings(max_examples=60, deadline=None)
@given(rows(), st.sampled_from([0.5, 0.9, 1.0]))
def test_gae_meets_nstep_at_both_ends_of_lambda(row: tuple[list, list, list, list], gamma: float) -> None:
    reward, following = (torch.tensor([x], dtype=torch.float64) for x in row[:2])
    terminated, ended = (torch.tensor([x]) for x in row[2:])
    # GAE telescopes only over values that are one another's successors: take them so wherever a step runs on
    value = torch.cat([torch.full((1, 1), 7.0, dtype=torch.float64), following[:, :-1]], dim=1)
    filled = torch.ones_like(ended)
    for lam, n in ((0.0, 1), (1.0, reward.shape[1])):
        _, returns = gae(reward, value, following, terminated, ended, gamma, lam)
        target = nstep(reward, following, terminated, ended, filled, gamma, n)
        torch.testing.assert_close(returns, target)


def test_explained_variance_by_hand() -> None:
    target, value = torch.tensor([1.0, 2.0, 3.0, 4.0, X]), torch.tensor([1.0, 2.0, 3.0, 2.0, -X])
    mask = torch.tensor([True, True, True, True, False])
    assert explained_variance(value, target, mask) == pytest.approx(1 - 0.75 / 1.25)
    assert explained_variance(target + 5.0, target, mask) == pytest.approx(1.0)  # a constant error is no variance
    huge = explained_variance(value * 1e30, target * 1e30, mask)  # whose squares are beyond float32
    assert huge == pytest.approx(explained_variance(value, target, mask))
    assert explained_variance(value, torch.full((5,), 3.0), mask) == 0.0
    assert explained_variance(value, target, torch.tensor([True, False, False, False, False])) == 0.0


def test_standardise_by_hand() -> None:
    x = torch.tensor([[1.0, X], [3.0, 5.0]])
    mask = torch.tensor([[True, False], [True, True]])
    third = 8.0 / 3.0  # mean 3, variance (4 + 0 + 4) / 3
    expected = torch.tensor([[-2.0 / third**0.5, 0.0], [0.0, 2.0 / third**0.5]])
    torch.testing.assert_close(standardise(x, mask), expected)
    # one number has no deviation: it is left as it is
    alone = torch.tensor([[True, False], [False, False]])
    assert standardise(x, alone).tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert standardise(torch.full((2, 2), 4.0), mask).tolist() == [[0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("number", [0.1, -3.3, 7.7, 123.4])
def test_equal_numbers_become_0_though_their_mean_is_rounded(number: float) -> None:
    x = torch.full((64, 25), number)
    assert not standardise(x, torch.ones_like(x, dtype=torch.bool)).any()
