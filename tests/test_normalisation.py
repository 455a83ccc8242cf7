"""Running statistics, schedules and named random streams."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oamarl.components.generators import generator
from oamarl.components.normalisation import RunningMeanStd
from oamarl.components.schedules import scheduled


def test_running_mean_and_variance_by_hand() -> None:
    stats = RunningMeanStd()
    stats.update(torch.tensor([2.0]))
    assert (stats.mean.item(), stats.var.item(), stats.count.item()) == (2.0, 0.0, 1.0)
    stats.update(torch.tensor([4.0, 9.0]))
    assert stats.mean.item() == pytest.approx(5.0)
    assert stats.var.item() == pytest.approx(26 / 3)  # (9 + 1 + 16) / 3
    stats.update(torch.zeros(0))
    assert stats.count.item() == 3.0
    assert stats.normalise(torch.tensor([5.0, 8.0])).tolist() == pytest.approx([0.0, 3 / (26 / 3) ** 0.5])
    assert stats.denormalise(torch.tensor([0.0, 1.0])).tolist() == pytest.approx([5.0, 5.0 + (26 / 3) ** 0.5])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(-50, 50), max_size=6), min_size=1, max_size=6).filter(lambda x: any(x)),
    st.sampled_from([0.0, 1e6]),
)
def test_merging_pieces_is_one_pass(pieces: list[list[int]], offset: float) -> None:
    stats = RunningMeanStd()
    for piece in pieces:
        stats.update(torch.tensor(piece, dtype=torch.float64) + offset)
    whole = np.array([x for piece in pieces for x in piece]) + offset
    assert stats.count.item() == len(whole)
    assert stats.mean.item() == pytest.approx(whole.mean(), rel=1e-12, abs=1e-9)
    assert stats.var.item() == pytest.approx(whole.var(), rel=1e-6, abs=1e-6)


def test_each_agent_has_its_own_scale_and_padding_is_not_seen() -> None:
    # [B=2, T=2, N=2], the last step of the second row is padding
    reward = torch.tensor([[[1.0, 10.0], [3.0, 30.0]], [[5.0, 20.0], [777.0, 777.0]]])
    filled = torch.tensor([[True, True], [True, False]])
    stats = RunningMeanStd((2,))
    stats.update(reward[filled])
    assert stats.mean.tolist() == pytest.approx([3.0, 20.0])
    assert stats.var.tolist() == pytest.approx([8 / 3, 200 / 3])
    scaled = stats.normalise(reward)
    assert scaled[0, 0].tolist() == pytest.approx([-2 / (8 / 3) ** 0.5, -10 / (200 / 3) ** 0.5])
    torch.testing.assert_close(stats.denormalise(scaled), reward)


def test_before_the_first_update_nothing_changes_and_a_constant_does_not_divide_by_zero() -> None:
    stats, x = RunningMeanStd(), torch.tensor([-3.0, 0.25])
    assert torch.equal(stats.normalise(x), x)
    assert torch.equal(stats.denormalise(x), x)
    stats.update(torch.full((5,), 2.0))
    assert stats.std.item() == pytest.approx(1e-4)
    assert stats.normalise(torch.tensor([2.0])).item() == 0.0


def test_a_snapshot_keeps_its_numbers_and_restores_them() -> None:
    stats = RunningMeanStd((2,))
    stats.update(torch.tensor([[1.0, 2.0], [3.0, 8.0]]))
    saved = stats.state_dict()
    stats.update(torch.tensor([[100.0, 100.0]]))
    restored = RunningMeanStd((2,))
    restored.load_state_dict(saved)
    assert restored.mean.tolist() == [2.0, 5.0]
    assert restored.var.tolist() == [1.0, 9.0]
    restored.update(torch.tensor([[100.0, 100.0]]))
    assert all(torch.equal(a, stats.state_dict()[k]) for k, a in restored.state_dict().items())


@pytest.mark.parametrize(("t_env", "expected"), [(-5, 1.0), (0, 1.0), (25, 0.8), (100, 0.2), (130, 0.2)])
def test_a_linear_schedule_ends_at_its_final_value(t_env: int, expected: float) -> None:
    assert scheduled("linear", 1.0, 0.2, t_env, 100) == pytest.approx(expected)
    assert scheduled("constant", 1.0, 0.2, t_env, 100) == 1.0


def test_named_streams_are_repeatable_and_apart() -> None:
    def draw(seed: int, *names: str | int) -> list[float]:
        return torch.rand(4, generator=generator(seed, *names)).tolist()

    assert draw(1, "order") == draw(1, "order")
    streams = [draw(1, "order"), draw(2, "order"), draw(1, "kl"), draw(1, "kl", 0), draw(1, "kl", 1), draw(1)]
    assert len({tuple(s) for s in streams}) == len(streams)
