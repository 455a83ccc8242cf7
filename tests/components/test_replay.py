"""The replay gives back what was put in: compact, in a ring, at any length, uniform or by priority, resumed or not."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from oamarl.components.batch import FIRST, Batch
from oamarl.components.generators import generator
from oamarl.components.replay import Replay
from oamarl.components.replay.sum_tree import SumTree
from oamarl.components.returns import nstep
from oamarl.utils.errors import UserError

from learner_tools import through_a_file
from run_tools import assert_same, assert_same_batch

N, O, S, A, LIMIT = 2, 3, 2, 4, 9  # noqa: E741


def episodes(lengths: list[int], first: int = 0, terminated: bool = True) -> Batch:
    """Whole episodes whose numbers say which episode and step they are of: obs is 100 episode + step."""
    b, t = len(lengths), max(lengths)
    n = torch.tensor(lengths).unsqueeze(1)
    filled, shown = torch.arange(t) < n, torch.arange(t + 1) <= n
    number = 100.0 * torch.arange(first, first + b).unsqueeze(1)
    at = (number + torch.arange(t + 1)) * shown
    over = torch.arange(t) == n - 1
    steps = at[:, :t] * filled
    return Batch(
        obs=at.view(b, t + 1, 1, 1).repeat(1, 1, N, O), state=at.unsqueeze(-1).repeat(1, 1, S),
        avail=shown.view(b, t + 1, 1, 1).repeat(1, 1, N, A), actions=(steps.long() % A).unsqueeze(-1).repeat(1, 1, N),
        log_prob=-steps.unsqueeze(-1).repeat(1, 1, N), reward=(steps + 0.5 * filled).unsqueeze(-1).repeat(1, 1, N),
        terminated=over & terminated, truncated=over & (not terminated), filled=filled,
        agent_terminated=(over & terminated).unsqueeze(-1).repeat(1, 1, N), alive=filled.unsqueeze(-1).repeat(1, 1, N),
        final_obs=torch.zeros(0, N, O), final_state=torch.zeros(0, S), final_avail=torch.zeros(0, N, A).bool(),
        final_index=torch.zeros(0, 2, dtype=torch.int64),
    )  # fmt: skip


def segments() -> Batch:
    """Two rows of four steps: an episode of three steps that ends and another that begins; one that continues.

    The first row continues an episode (its last actions were 3); the second begins one.
    """
    obs = torch.tensor([[5.0, 6, 7, 100, 101], [200.0, 201, 202, 203, 204]])
    over = torch.tensor([[False, False, True, False], [False] * 4])
    b, t = over.shape
    steps = obs[:, :t]
    return Batch(
        obs=obs.view(b, t + 1, 1, 1).repeat(1, 1, N, O), state=obs.unsqueeze(-1).repeat(1, 1, S),
        avail=torch.ones(b, t + 1, N, A).bool(), actions=(steps.long() % A).unsqueeze(-1).repeat(1, 1, N),
        log_prob=-steps.unsqueeze(-1).repeat(1, 1, N), reward=steps.unsqueeze(-1).repeat(1, 1, N),
        terminated=torch.zeros(b, t).bool(), truncated=over, filled=torch.ones(b, t).bool(),
        agent_terminated=torch.zeros(b, t, N).bool(), alive=torch.ones(b, t, N).bool(),
        final_obs=torch.full((1, N, O), 8.0), final_state=torch.full((1, S), 8.0),
        final_avail=torch.zeros(1, N, A).bool(), final_index=torch.tensor([[0, 2]]),
        hidden=torch.zeros(b, N, 1), before=torch.tensor([[3, 3], [-1, -1]]),
    )  # fmt: skip


def replay(capacity: int, **more: Any) -> Replay:
    return Replay(capacity, LIMIT, generator(1, "replay"), **more)


def numbers(batch: Batch) -> list[int]:
    """The episodes that the rows are of."""
    return (batch.obs[:, 0, 0, 0] // 100).long().tolist()


def rows(batch: Batch, index: list[int]) -> Batch:
    """Whole episodes of a batch, cut to the longest."""
    t = int(batch.filled[index].sum(1).max())
    cut = {"obs": t + 1, "state": t + 1, "avail": t + 1}
    other = {*FIRST, "extra"} | {f"final_{k}" for k in (*cut, "index")}
    over_steps = {f.name for f in fields(Batch)} - other
    return replace(batch, **{k: getattr(batch, k)[index][:, : cut.get(k, t)] for k in over_steps})


def test_episodes_come_back_as_they_were() -> None:
    given = episodes([3, 9, 1, 5])
    kept = replay(10)
    kept.add(given)
    assert kept.n_steps == 18
    assert kept.ring.end == 18 + 4, "no padding: a row for each step, and one for each last observation"
    drawn = kept.draw_episodes(3)
    assert sorted(set(numbers(drawn.batch))) == sorted(numbers(drawn.batch)), "without repetition"
    assert_same_batch(drawn.batch, rows(given, numbers(drawn.batch)))
    assert torch.equal(drawn.weight, torch.ones(3))
    assert drawn.index.tolist() == numbers(drawn.batch)


def test_the_ring_wraps_and_the_oldest_go_first() -> None:
    kept, all_there = replay(7), []
    dice = np.random.default_rng(3)
    for first in range(0, 300, 3):
        given = episodes(dice.integers(1, LIMIT + 1, 3).tolist(), first)
        all_there += [rows(given, [k]) for k in range(3)]
        kept.add(given)
        newest = all_there[-7:]
        assert len(kept) == len(newest)
        drawn = kept.draw_episodes(len(newest)).batch
        assert sorted(numbers(drawn)) == list(range(kept.oldest, kept.newest))
        for k, number in enumerate(numbers(drawn)):
            assert_same_batch(rows(drawn, [k]), all_there[number])
    assert kept.ring.begin > kept.ring.size, "it went round"
    assert kept.ring.size <= 256, "and grew no further than needed"


def test_the_ring_grows_and_keeps_what_is_in_it() -> None:
    kept = replay(1000, transitions=True, alpha=1.0)
    for first in range(0, 100, 5):
        kept.add(episodes([9] * 5, first))
    assert kept.ring.size >= kept.ring.end == 1000
    assert sorted(numbers(kept.draw_episodes(100).batch)) == list(range(100))
    assert kept.priorities is not None
    assert kept.priorities.tree.total == 900, "one for each step, none for last observations"


def test_more_episodes_than_the_replay_holds() -> None:
    kept = replay(2)
    kept.add(episodes([2, 3, 4, 5]))
    assert sorted(numbers(kept.draw_episodes(2).batch)) == [2, 3]


def test_uniform_draws_are_uniform() -> None:
    kept = replay(6)
    for first in range(0, 12, 2):
        kept.add(episodes([1, 5], first))
    seen = np.bincount([i for _ in range(3000) for i in numbers(kept.draw_episodes(2).batch)], minlength=12)[6:]
    assert abs(seen - 1000).max() < 100, "each in a third of the draws of two among six"
    k = kept.draw_transitions(18000)
    steps = np.unique(k.batch.obs[:, 0, 0, 0].numpy(), return_counts=True)[1]
    assert len(steps) == 18, "3 * (1 + 5) steps"
    assert abs(steps - 1000).max() < 150, "steps, not episodes, are drawn alike"


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("terminated", [True, False])
def test_transitions_are_cut_where_episodes_end(n_step: int, terminated: bool) -> None:
    kept = replay(10)
    kept.add(episodes([2, 5], terminated=terminated))
    batch = kept.draw_transitions(200, n_step).batch
    assert batch.actions.shape == (200, n_step, N)
    for b in range(200):
        number, step = divmod(int(batch.obs[b, 0, 0, 0]), 100)
        length = (2, 5)[number]
        count = min(n_step, length - step)
        assert batch.filled[b].tolist() == [t < count for t in range(n_step)]
        want = [100.0 * number + step + t if t <= count else 0.0 for t in range(n_step + 1)]
        assert batch.obs[b, :, 0, 0].tolist() == want, "the observation after the last step too, and then nothing"
        ended = [step + t == length - 1 and t < count for t in range(n_step)]
        assert batch.terminated[b].tolist() == [e and terminated for e in ended]
        assert batch.truncated[b].tolist() == [e and not terminated for e in ended]
        assert batch.before is not None
        assert batch.before[b].tolist() == [-1 if step == 0 else (100 * number + step - 1) % A] * N


def test_n_step_returns_of_a_cut_row_by_hand() -> None:
    """Three-step returns from step 3 of 5: r3 + g r4, and g^2 V(final) only where the episode was truncated."""
    for terminated, bootstrap in ((True, 0.0), (False, 0.25 * 105.0)):
        kept = replay(10)
        kept.add(episodes([5], first=1, terminated=terminated))
        batch = kept.draw_transitions(100, 3).batch
        row = batch.obs[:, 0, 0, 0].tolist().index(103.0)
        ended = (batch.terminated | batch.truncated | ~batch.filled).unsqueeze(-1)
        following = batch.obs[:, 1:, 0, :1]  # V(o) is the number that is seen
        reward, mask = batch.reward[..., :1], batch.filled.unsqueeze(-1)
        found = nstep(reward, following, batch.terminated.unsqueeze(-1), ended, mask, 0.5, 3)
        assert found[row, 0, 0].item() == 103.5 + 0.5 * 104.5 + bootstrap


def test_segments_are_cut_into_the_pieces_of_episodes() -> None:
    kept = replay(10)
    kept.add(segments())
    assert kept.episodes.length.tolist() == [3, 1, 4]
    batch = kept.draw_transitions(100, 2).batch
    found = {
        int(batch.obs[b, 0, 0, 0]): (
            batch.obs[b, :, 0, 0].tolist(), batch.filled[b].tolist(), batch.before[b, 0].item(),  # type: ignore[index]
            batch.truncated[b].tolist(),
        )
        for b in range(100)
    }  # fmt: skip
    assert found[5] == ([5, 6, 7], [True, True], 3, [False, False]), "it continues from the last segment"
    assert found[6] == ([6, 7, 8], [True, True], 5 % A, [False, True]), "8 is what the episode ended with"
    assert found[7] == ([7, 8, 0], [True, False], 6 % A, [True, False])
    assert found[100] == ([100, 101, 0], [True, False], -1, [False, False]), "cut where the segment ends"
    assert found[203] == ([203, 204, 0], [True, False], 202 % A, [False, False])
    with pytest.raises(UserError, match=r"whole episodes cannot be drawn from segments \(runner=rollout\)"):
        kept.draw_episodes(1)


def test_priorities_by_hand() -> None:
    """Priorities 1, 2, 3, 4 with alpha 0.5; weights (N P)^-beta over their largest."""
    kept = replay(4, alpha=0.5)
    kept.add(episodes([1, 2, 3, 4]))
    kept.set_priorities(np.arange(4), torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert kept.priorities is not None
    np.testing.assert_allclose(kept.priorities[np.arange(4)], [1.0, 2**0.5, 3**0.5, 2.0])
    share = np.array([1.0, 2**0.5, 3**0.5, 2.0]) / (3 + 2**0.5 + 3**0.5)
    draws = [kept.draw_episodes(8, beta=0.4) for _ in range(1000)]
    seen = np.bincount(np.concatenate([d.index for d in draws]), minlength=4) / 8000
    np.testing.assert_allclose(seen, share, atol=0.01)
    first = np.bincount([int(d.index[0]) for d in draws], minlength=4) / 1000
    np.testing.assert_allclose(first, share, atol=0.06)  # a draw is in random order
    for d in draws[:20]:
        want = (4 * share[d.index]) ** -0.4
        np.testing.assert_allclose(d.weight.numpy(), want / want.max(), rtol=1e-6)
    kept.add(episodes([1], first=4))
    assert kept.priorities[np.array([0])] == 2.0, "a new one has the largest priority, in the place of the oldest"
    kept.set_priorities(np.array([0, 4]), torch.tensor([100.0, 9.0]))
    assert kept.priorities[np.array([0])] == 3.0, "number 0 is no longer there"


def test_priorities_of_steps_stay_with_their_steps() -> None:
    kept = replay(3, transitions=True, alpha=1.0)
    for first in range(60):
        kept.add(episodes([2 + first % 5], first))
        drawn = kept.draw_transitions(64)
        seen = drawn.batch.obs[:, 0, 0, 0]
        assert bool((seen >= 100 * kept.oldest).all())
        kept.set_priorities(drawn.index, 0.5 + seen % 100)
        again = kept.draw_transitions(64)
        at = dict(zip(drawn.index.tolist(), seen.tolist(), strict=True))
        for index, found in zip(again.index.tolist(), again.batch.obs[:, 0, 0, 0].tolist(), strict=True):
            assert at.get(index, found) == found
    assert kept.ring.begin > kept.ring.size - 20


def test_the_sum_tree_finds_every_share() -> None:
    tree = SumTree(5)
    tree[np.array([0, 2, 4])] = np.array([1.0, 2.0, 3.0])
    assert tree.total == 6.0
    assert tree.find(np.array([0.0, 0.99, 1.0, 2.99, 3.0, 5.99, 6.0])).tolist() == [0, 0, 2, 2, 4, 4, 4]
    tree[np.array([2, 2])] = np.array([7.0, 5.0])
    assert tree.total == 9.0
    tree[np.arange(5)] = 0.0
    assert tree.total == 0.0


@pytest.mark.parametrize("more", [{}, {"alpha": 0.6}, {"transitions": True, "alpha": 0.6}, {"transitions": True}])
def test_a_restored_replay_draws_the_same(more: dict[str, Any]) -> None:
    kept, parts, written = replay(8, **more), [], 0
    draw = Replay.draw_transitions if more.get("transitions") else Replay.draw_episodes

    def go_on(one: Replay, first: int) -> list[Any]:
        found = []
        for number in range(first, first + 10):
            one.add(episodes([1 + number % LIMIT, 1 + number * 5 % LIMIT], 2 * number))
            drawn = draw(one, 4)
            one.set_priorities(drawn.index, drawn.batch.reward.abs().mean((1, 2)))
            found.append((drawn.index, drawn.weight, drawn.batch.obs))
        return found

    for first in (0, 10, 20):
        go_on(kept, first)
        since = max(written, kept.oldest)
        parts.append(
            (since, through_a_file({k: torch.from_numpy(x) for k, x in kept.entries(since, kept.newest).items()}))
        )
        written = kept.newest
    state = through_a_file(
        {k: torch.as_tensor(v) if isinstance(v, np.ndarray) else v for k, v in kept.state_dict().items()}
    )
    other = replay(8, **more)
    other.restore(state, parts[-1:])
    assert_same(go_on(other, 30), go_on(kept, 30))
    with pytest.raises(ValueError, match="episodes"):
        replay(8, **more).restore(state, parts[:1])


def test_every_type_and_shape_is_kept() -> None:
    """Continuous actions, and none before the first step."""
    given = episodes([3, 2])
    actions = torch.rand(2, 3, N, 5) * given.filled[..., None, None]
    kept = replay(4)
    kept.add(replace(given, actions=actions))
    batch = kept.draw_episodes(2).batch
    assert batch.actions.dtype == torch.float32
    order = numbers(batch)
    assert torch.equal(batch.actions, actions[order])
    step = kept.draw_transitions(50).batch
    first = step.obs[:, 0, 0, 0] % 100 == 0
    assert step.before is not None
    assert bool(step.before[first].isnan().all())
    assert not bool(step.before[~first].isnan().any())
    assert isinstance(step.before, Tensor)
