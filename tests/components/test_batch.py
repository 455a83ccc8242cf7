"""The batch's shapes and masks, the layout that learners iterate over, and minibatches."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from oamarl.components.batch import Batch
from oamarl.components.updates.samples import Samples, minibatches

B, T, N, A, WIDTH, STATE, K = 2, 3, 2, 4, 5, 6, 1


def batch() -> Batch:
    """Row 0: an episode ends at step 0 and another begins; row 1: two steps, then padding.

    actions[b, t, n] = 100 b + 10 t + n, so that a number says where it came from.
    """
    b, t, n = torch.meshgrid(torch.arange(B), torch.arange(T), torch.arange(N), indexing="ij")
    place = 100 * b + 10 * t + n
    flags = torch.zeros(B, T, dtype=torch.bool)
    terminated = flags.clone()
    terminated[0, 0] = terminated[1, 1] = True
    filled = torch.tensor([[True, True, True], [True, True, False]])
    alive = torch.ones(B, T, N, dtype=torch.bool)
    alive[0, 2, 1] = False
    avail = torch.zeros(B, T + 1, N, A, dtype=torch.bool)
    avail[..., 0] = True
    avail[0, 1, 1, 2] = True
    return Batch(
        obs=torch.zeros(B, T + 1, N, WIDTH), state=torch.zeros(B, T + 1, STATE), avail=avail, actions=place,
        log_prob=-place.float(), reward=torch.zeros(B, T, N), terminated=terminated, truncated=flags,
        agent_terminated=torch.zeros(B, T, N, dtype=torch.bool), filled=filled, alive=alive,
        final_obs=torch.zeros(K, N, WIDTH), final_state=torch.zeros(K, STATE),
        final_avail=torch.ones(K, N, A, dtype=torch.bool), final_index=torch.tensor([[0, 0]]),
    )  # fmt: skip


# log_prob and final_obs are what the other shapes are measured by; the state's own size is the environment's
CHECKED = [
    (f.name, dim)
    for f in fields(Batch)
    for dim in (0, 1)
    if f.name not in ("log_prob", "final_obs", "extra") and (f.name, dim) != ("final_state", 1)
]


@pytest.mark.parametrize(("field", "dim"), CHECKED)
def test_a_wrong_shape_is_told_by_the_field_s_name(field: str, dim: int) -> None:
    good = segments()
    x: Tensor = getattr(good, field)
    wrong = torch.cat([x, x.narrow(dim, 0, 1)], dim=dim)
    with pytest.raises(ValueError, match=rf"Batch\.{field} starts with shape .*, expected "):
        replace(good, **{field: wrong})


def test_observations_without_the_step_after_the_last_are_refused() -> None:
    good = batch()
    with pytest.raises(ValueError) as caught:
        replace(good, obs=good.obs[:, :T])
    assert str(caught.value) == "Batch.obs starts with shape (2, 3, 2), expected (2, 4, 2)."
    with pytest.raises(ValueError, match=r"Batch\.reward starts with shape \(2, 3\), expected \(2, 3, 2\)"):
        replace(good, reward=good.reward[..., 0])
    with pytest.raises(ValueError, match=r"Batch\.final_index starts with shape \(1, 2\), expected \(2, 2\)"):
        replace(good, final_obs=torch.zeros(2, N, WIDTH))


def test_valid_is_a_real_step_of_a_living_agent() -> None:
    assert batch().valid.tolist() == [
        [[True, True], [True, True], [True, False]],
        [[True, True], [True, True], [False, False]],
    ]


def segments() -> Batch:
    """The same experience as segments: row 0 begins with an episode, row 1 in the middle of one (after 7, 8)."""
    carried = torch.arange(1.0, B * N * 3 + 1).view(B, N, 3)
    return replace(
        batch(), hidden=carried, before=torch.tensor([[-1, -1], [7, 8]]), left=torch.zeros(2, 2, dtype=torch.bool)
    )


def test_last_actions_start_anew_where_an_episode_begins_inside_the_row() -> None:
    s = segments()
    assert s.begins.tolist() == [[True, True, False, False], [False, False, True, True]]
    assert s.last_actions.tolist() == [
        [[-1, -1], [-1, -1], [10, 11], [20, 21]],
        [[7, 8], [100, 101], [110, 111], [-1, -1]],  # its last observations are in the row
    ]
    # an episode that is cut with the row: the observation after it is the next one's first
    truncated = s.truncated.clone()
    truncated[0, 2] = True
    at_the_end = replace(
        s, truncated=truncated, final_index=torch.tensor([[0, 0], [0, 2]]), final_obs=torch.zeros(2, N, WIDTH),
        final_state=torch.zeros(2, STATE), final_avail=torch.ones(2, N, A, dtype=torch.bool),
    )  # fmt: skip
    assert at_the_end.last_actions[0].tolist() == [[-1, -1], [-1, -1], [10, 11], [-1, -1]]
    assert at_the_end.actions[0, 2].tolist() == [20, 21]  # the batch itself is as it was


def test_last_actions_of_whole_episodes() -> None:
    good = batch()
    whole = replace(
        good, final_obs=good.final_obs[:0], final_state=good.final_state[:0], final_avail=good.final_avail[:0],
        final_index=good.final_index[:0],
    )  # fmt: skip
    assert whole.last_actions[0].tolist() == [[-1, -1], [0, 1], [10, 11], [20, 21]]


def test_a_batch_that_is_there_already_is_not_copied() -> None:
    good = batch()
    assert good.to("cpu") is good


# -- samples ---------------------------------------------------------------------------------------------------


def samples(recurrent: bool) -> Samples:
    b = batch()
    inputs = torch.stack([b.actions.float(), 0.5 * b.actions], dim=-1)
    return Samples.make(b, inputs, 1000.0 + b.actions, recurrent)


def test_feed_forward_samples_are_the_filled_steps() -> None:
    s = samples(recurrent=False)
    assert s.n_entries == 5
    assert s.actions.tolist() == [[0, 1], [10, 11], [20, 21], [100, 101], [110, 111]]
    assert torch.equal(s.log_prob, -s.actions.float())
    assert torch.equal(s.advantage, 1000.0 + s.actions)
    assert torch.equal(s.inputs, torch.stack([s.actions.float(), 0.5 * s.actions], dim=-1))
    assert s.valid.tolist() == [[True, True], [True, True], [True, False], [True, True], [True, True]]
    assert s.avail.shape == (5, N, A)
    assert s.avail[:, :, 2].nonzero().tolist() == [[1, 1]]
    assert s.counts().tolist() == [5.0, 4.0]


def test_samples_of_recurrent_policies_are_the_same_steps_and_know_their_sequences() -> None:
    s, flat = samples(recurrent=True), samples(recurrent=False)
    assert torch.equal(s.actions, flat.actions)
    assert torch.equal(s.valid, flat.valid)
    assert s.counts().tolist() == [5.0, 4.0]
    assert s.n_entries == 3
    assert s.steps_each() == 2
    assert s.sequences is not None
    assert s.sequences.start.tolist() == [0, 1, 3]
    # agent 1 takes its last decision one step before the second episode's end
    assert s.sequences.lengths.tolist() == [[1, 1], [2, 1], [2, 2]]
    assert s.sequences.hidden is None


def test_sequences_of_segments_are_cut_where_episodes_begin() -> None:
    b = segments()
    inputs = torch.stack([b.actions.float(), 0.5 * b.actions], dim=-1)
    s = Samples.make(b, inputs, 1000.0 + b.actions, True)
    # sequences: row 0's first step; its other two; row 1's two real steps
    assert s.sequences is not None
    assert s.sequences.start.tolist() == [0, 1, 3]
    assert s.sequences.lengths.tolist() == [[1, 1], [2, 1], [2, 2]]
    assert s.sequences.hidden is not None
    assert b.hidden is not None
    # what begins inside a row starts from zeros, what continues starts from what was carried over
    assert torch.equal(s.sequences.hidden, torch.stack([b.hidden[0], torch.zeros(N, 3), b.hidden[1]]))
    assert s.counts().tolist() == samples(True).counts().tolist()


def test_a_step_that_was_lost_cuts_the_sequence_around_it() -> None:
    b = segments()
    filled = torch.tensor([[True, False, True], [True, True, True]])
    s = Samples.make(replace(b, filled=filled, terminated=b.terminated & False), b.obs[:, :T], b.reward, True)
    assert s.actions[:, 0].tolist() == [0, 20, 100, 110, 120]
    assert s.sequences is not None
    assert s.sequences.start.tolist() == [0, 1, 2]
    assert s.sequences.lengths[:, 0].tolist() == [1, 1, 3]
    assert s.sequences.hidden is not None
    assert not s.sequences.hidden[1].any()


def test_entries_of_any_agents_are_found_in_both_layouts() -> None:
    entry, source = torch.tensor([1, 0]), torch.tensor([0, 1])
    steps, sequences = samples(False), samples(True)
    rows = steps.rows(entry, source)
    assert steps.actions[rows.at].tolist() == [10, 1]
    assert rows.chosen.tolist() == [0, 1]
    assert rows.packing is None
    rows = sequences.rows(entry, source)
    assert rows.packing is not None
    assert rows.packing.batch_sizes.tolist() == [2, 1]
    assert sequences.actions[rows.at].tolist() == [10, 1, 20]  # step by step
    assert rows.chosen.tolist() == [0, 1, 0]
    rows = sequences.rows(torch.tensor([0, 2]), torch.tensor([0, 1]))
    assert sequences.actions[rows.at].tolist() == [101, 0, 111], "the longest comes first"
    assert rows.chosen.tolist() == [1, 0, 1]


def test_rows_of_segments_carry_hidden_states_in_their_own_order() -> None:
    b = segments()
    s = Samples.make(b, b.obs[:, :T], b.reward, True)
    rows = s.rows(torch.tensor([0, 1, 2]), torch.tensor([0, 1, 1]))
    assert s.actions[rows.at].tolist() == [101, 0, 11, 111]
    assert b.hidden is not None
    assert rows.hidden is not None
    assert torch.equal(rows.hidden, torch.stack([b.hidden[1, 1], b.hidden[0, 0], torch.zeros(3)]))


@pytest.mark.parametrize("recurrent", [False, True])
def test_a_part_of_the_samples_are_samples(recurrent: bool) -> None:
    b = segments()
    s = Samples.make(b, b.obs[:, :T], b.reward, recurrent)
    entries = torch.tensor([2, 0])
    part = s.part(entries)
    assert part.n_entries == 2
    assert part.actions[:, 0].tolist() == ([100, 110, 0] if recurrent else [20, 0])
    for agent in (0, 1):
        mine, theirs = part.rows(part.entries, torch.full((2,), agent)), s.rows(entries, torch.full((2,), agent))
        assert torch.equal(part.inputs[mine.at], s.inputs[theirs.at])
        if recurrent:
            assert mine.hidden is not None
            assert theirs.hidden is not None
            assert torch.equal(mine.hidden, theirs.hidden)


def test_a_source_without_a_valid_step_counts_as_one() -> None:
    b = batch()
    alive = b.alive.clone()
    alive[..., 0] = False
    s = Samples.make(replace(b, alive=alive), torch.zeros(B, T, N, 1), torch.zeros(B, T, N), False)
    assert s.counts().tolist() == [1.0, 4.0]


# -- minibatches -----------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 3))
def test_minibatches_are_a_partition_of_nearly_equal_parts(entries: int, n: int, seed: int) -> None:
    parts = minibatches(entries, n, torch.Generator().manual_seed(seed))
    assert sorted(torch.cat(parts).tolist()) == list(range(entries))
    assert len(parts) == min(n, entries)
    sizes = [len(p) for p in parts]
    assert max(sizes) - min(sizes) <= 1
    again = minibatches(entries, n, torch.Generator().manual_seed(seed))
    assert [p.tolist() for p in again] == [p.tolist() for p in parts]


def test_minibatches_are_shuffled_and_afresh_each_time() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.cat(minibatches(50, 5, generator)).tolist() for _ in range(2))
    assert first != second
    assert list(range(50)) not in (first, second)


def test_one_minibatch_draws_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert [p.tolist() for p in minibatches(4, 1, generator)] == [[0, 1, 2, 3]]
    assert torch.equal(generator.get_state(), before)


def test_the_observation_after_a_step_is_an_episode_s_last_one_where_it_ends() -> None:
    b = replace(batch(), final_obs=torch.full_like(batch().final_obs, 9.0))
    ((row, step),) = b.final_index.tolist()
    expected = b.obs[:, 1:].clone()
    assert not (expected == 9.0).any()
    expected[row, step] = 9.0
    assert torch.equal(b.next_obs, expected)


def test_a_part_has_its_own_rows_alone() -> None:
    whole = batch()
    with pytest.raises(ValueError, match="endings inside its rows"):
        whole.part(slice(1, 2))
    finals = {name: getattr(whole, name)[:0] for name in ("final_obs", "final_state", "final_avail", "final_index")}
    extra = {"heat": torch.arange(B * T).view(B, T), "final_heat": torch.zeros(0)}
    whole = replace(whole, **finals, before=torch.arange(B * N).view(B, N), extra=extra)
    part = whole.part(slice(1, 2))
    assert torch.equal(part.actions, whole.actions[1:])
    assert torch.equal(part.obs, whole.obs[1:])
    assert part.before is not None
    assert part.before.tolist() == [[2, 3]]
    assert part.hidden is None
    assert part.extra["heat"].tolist() == [[3, 4, 5]]
    assert len(part.extra["final_heat"]) == len(part.final_obs) == 0
