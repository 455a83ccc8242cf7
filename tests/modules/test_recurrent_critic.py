"""Critics with a memory: values and targets worked out step by step, and reductions to feed-forward critics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from oamarl.components.batch import Batch
from oamarl.modules.critics.recurrent import Sequences, packed_values

from learner_tools import double, make_batch, make_info, make_learner, through_a_file

LENGTHS = (6, 4, 1, 5)


def segments(mac: Any, seed: int = 0) -> Batch:
    """Two rows of six steps: episodes of three, of two and of more steps; one that began before."""
    batch = make_batch(mac, seed=seed, lengths=(6, 6), dead=False)
    terminated, truncated = torch.zeros(2, 6, dtype=torch.bool), torch.zeros(2, 6, dtype=torch.bool)
    terminated[0, 2], truncated[0, 4], terminated[1, 5] = True, True, True
    g = torch.Generator().manual_seed(seed + 1)
    before = torch.tensor([[-1] * mac.info.n_agents, [0] * mac.info.n_agents])
    return replace(
        batch, terminated=terminated, truncated=truncated, final_index=torch.tensor([[0, 2], [0, 4], [1, 5]]),
        final_obs=torch.randn(3, mac.info.n_agents, mac.info.obs_size, generator=g),
        final_state=torch.randn(3, mac.info.state_size, generator=g),
        final_avail=batch.avail[:1, 0].expand(3, -1, -1), before=before,
    )  # fmt: skip


def by_hand(learner: Any, rows: Tensor, hidden: Tensor) -> tuple[list[Tensor], Tensor]:
    """Values of a joint critic along inputs [T, I] from the memory [H], and the memory after them."""
    net, found = learner.value.network, []
    w, state = net.layers(net.params[0]), hidden.unsqueeze(0)
    for x in rows:
        out, state = net.step(w, x.unsqueeze(0), state)
        found.append(out[0, 0])
    return found, state[0]


@pytest.mark.parametrize("critic", [{"critic_use_rnn": True}, {"critic": "networks:GatedCell"}], ids=["v", "own"])
def test_targets_of_segments(critic: dict[str, Any], networks: Any) -> None:
    """Values start from zeros where an episode begins, and from the memory kept where one continues; a terminated step
    is followed by nothing, a truncated one by the value of its own last observation, a segment's end by the next."""
    with double(), torch.no_grad():
        learner = make_learner(
            "happo", make_info(), **critic, gamma=0.9, gae_lambda=0.0, standardise_returns=False,
            normalise_advantage=False,
        )  # fmt: skip
        value = learner.value
        assert (value.n_values, value.recurrent) == (1, True)
        first = segments(learner.mac)
        size = value.network.initial_hidden(1).shape[-1]
        value.targets(first)  # from zeros
        kept = value._hidden["network"][1, 0]
        _, expected = by_hand(learner, first.state[1, :6], torch.zeros(size))
        torch.testing.assert_close(kept, expected)
        second = segments(learner.mac, seed=7)
        assert through_a_file(learner.state_dict())["value"]["hidden"]["network"].shape == (2, 1, size)
        targets = value.targets(second)
        zero = torch.zeros(size)
        a, _ = by_hand(learner, second.state[0, :3], zero)
        b, after_b = by_hand(learner, second.state[0, 3:5], zero)
        c, _ = by_hand(learner, second.state[0, 5:7], zero)
        d, _ = by_hand(learner, second.state[1, :6], kept)
        values = torch.stack([*a, *b, c[0], *d]).view(2, 6)
        torch.testing.assert_close(targets.values[..., 0], values)
        (cut,), _ = by_hand(learner, second.final_state[1:2], after_b)
        following = torch.stack([a[1], a[2], zero[0], b[1], cut, c[1], *d[1:], zero[0]]).view(2, 6)
        torch.testing.assert_close(targets.returns[..., 0], second.reward[..., 0] + 0.9 * following)


def test_whole_episodes_bootstrap_from_their_last_observation() -> None:
    with double(), torch.no_grad():
        learner = make_learner(
            "happo", make_info(), critic_use_rnn=True, gamma=1.0, gae_lambda=0.0, standardise_returns=False
        )
        batch = make_batch(learner.mac, lengths=(3, 2))  # terminated; truncated
        targets = learner.value.targets(batch)
        zero = torch.zeros(8)
        a, _ = by_hand(learner, batch.state[0, :3], zero)
        b, _ = by_hand(learner, batch.state[1, :3], zero)
        expected = torch.stack([a[1], a[2], zero[0]]) + batch.reward[0, :, 0]
        torch.testing.assert_close(targets.returns[0, :, 0], expected)
        torch.testing.assert_close(targets.returns[1, :2, 0], torch.stack(b[1:]) + batch.reward[1, :2, 0])
        assert learner.value._hidden == {}


KINDS = {
    "shared": ("mappo", {"critic_agent_obs": True}),
    "joint": ("mappo", {"obs_agent_id": False}),
    "separate": ("mappo_ns", {"critic_sharing": "separate"}),
    "grouped": ("mappo", {"sharing": [0, 1, 0], "critic_sharing": "policies"}),
    "individual": ("ippo_ns", {"common_reward": False}),
    "across": ("seac", {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_packed_values_are_those_of_the_targets(kind: str) -> None:
    algorithm, keys = KINDS[kind]
    with double(), torch.no_grad():
        learner = make_learner(algorithm, make_info(), **keys, critic_use_rnn=True)
        value, batch = learner.value, make_batch(learner.mac, lengths=LENGTHS)
        targets = value.targets(batch)
        sequences = targets.sequences
        assert isinstance(sequences, Sequences)
        assert sorted(sequences.lengths.tolist()) == sorted(LENGTHS)
        at, packing, hidden = sequences.pack(torch.tensor([3, 0, 2, 1]))
        assert len(at) == sum(LENGTHS)  # no row is computed that is not real
        where = batch.filled.nonzero(as_tuple=True)
        found = packed_values(
            value.network, value._params(value.network.params), targets.inputs[where][at], packing, hidden
        )
        torch.testing.assert_close(found, targets.raw[where][at])


@pytest.mark.parametrize("kind", KINDS)
def test_a_memory_that_is_not_read_changes_nothing(kind: str) -> None:
    """A module that passes its memory on unread is the feed-forward critic, targets and update included."""
    algorithm, keys = KINDS[kind]
    states = []
    with double():
        for critic in ("own_networks:Plain", "own_networks:Forgetful"):
            learner = make_learner(algorithm, make_info(), **keys, critic=critic)
            assert learner.value.recurrent is (critic == "own_networks:Forgetful")
            batch = make_batch(learner.mac, lengths=LENGTHS)
            targets = learner.value.targets(batch)
            scalars = learner.value.update(batch, targets, 1.0)
            states.append(
                (learner.value.state_dict()["theta"], targets.advantage, targets.returns[batch.filled], scalars)
            )
    torch.testing.assert_close(states[0], states[1])


def test_the_built_in_critic_is_the_module_of_the_same_parameters() -> None:
    """critic=v by its own parts of the first layer, and the same network called row by row."""
    with double(), torch.no_grad():
        learner = make_learner("mappo", make_info(), critic_agent_obs=True)
        value, batch = learner.value, make_batch(learner.mac)
        inputs = value.inputs(batch.obs, batch.state, batch.last_actions)
        rows = inputs.assembled()
        assert rows.shape[-1] == inputs.width
        found = value.network.single(value.network.params[0], rows.flatten(0, -2)).view(rows.shape[:-1])
        torch.testing.assert_close(found, value._values(value.network, inputs))


def test_mini_batches_of_sequences_add_up() -> None:
    """With a learning rate near 0 the losses of two mini-batches average to that of the whole batch."""
    losses = []
    with double():
        for n in (1, 2):
            learner = make_learner("mappo", make_info(), critic_use_rnn=True, num_minibatches=n, critic_lr=1e-12)
            scalars, _ = learner.train(make_batch(learner.mac, lengths=LENGTHS), 0)
            losses.append(scalars["critic_loss"])
    assert losses[0] == pytest.approx(losses[1])
