"""The actors of several runs as one: the numbers of each, whatever slots a process has."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from oamarl.modules.acting import Actor, NetworkActor
from oamarl.modules.action_selectors import EpsilonConfig, EpsilonGreedy, Multinomial
from oamarl.modules.grouped import GroupedActor, Groups
from oamarl.modules.kernels.numpy_policy import Form, Inference
from oamarl.modules.selector_contract import Context, Selector

OBS, H, A, B, G = 5, 8, 3, 2, 3


def actor(form: Form, agents: int, random: np.random.Generator, selector: Selector) -> NetworkActor:
    lead = () if form.shared else (agents,)
    shapes = {"first": (OBS, H), "last": (A + 1, H), "head.w": (H, A), "head.b": (A,)}
    shapes |= (
        {"w_ih": (H, 3 * H), "w_hh": (H, 3 * H), "b_ih": (3 * H,), "b_hh": (3 * H,)}
        if form.recurrent
        else {"fc2.w": (H, H), "fc2.b": (H,), "norm2.scale": (H,), "norm2.shift": (H,)}
    )
    arrays = {name: random.standard_normal((*lead, *shape), np.float32) for name, shape in shapes.items()}
    arrays |= {name: random.standard_normal((agents, n), np.float32) for name, n in (("bias", H), ("mean", OBS))}
    arrays["std"] = np.full((agents, OBS), 2.0, np.float32)
    return NetworkActor(Inference(form, arrays), selector, A)


@pytest.mark.parametrize(
    ("shared", "recurrent", "agents"), list(itertools.product((True, False), (True, False), (2, 6)))
)
def test_groups_have_the_numbers_of_each(shared: bool, recurrent: bool, agents: int) -> None:
    random = np.random.default_rng(agents)
    selector = Multinomial() if shared else EpsilonGreedy(EpsilonConfig(1.0, 0.0, 100, 0.0))
    each = [actor(Form(shared, recurrent, "tanh"), agents, random, selector) for _ in range(G)]
    contexts = tuple(Context(t_env=40 * g) for g in range(G))
    s = G * B
    obs, hidden = (
        random.standard_normal((s, agents, OBS), np.float32),
        random.standard_normal((s, agents, H), np.float32),
    )
    avail = np.ones((s, agents, A), bool)
    avail[::2, :, 1] = False
    last = random.integers(-1, A, (s, agents))
    noise = random.random((s, agents, each[0].width), np.float32)
    wanted = [
        each[g](*(x[g * B : g * B + B] for x in (obs, avail, last, hidden, noise)), contexts[g])  # type: ignore[arg-type]
        for g in range(G)
    ]
    grouped = GroupedActor(Groups(B, contexts), each)
    assert grouped.arrays is not None
    assert grouped.recipe is not None
    # all slots; those of a worker that begins and ends within a group; the same in another process
    for first, last_slot in ((0, s), (1, 5), (3, s)):
        for one in (grouped, grouped.recipe(grouped.arrays)):
            assert isinstance(one, GroupedActor)
            cut = slice(first, last_slot)
            placed: Actor = one.placed(first, last_slot - first)
            found = placed(obs[cut], avail[cut], last[cut], hidden[cut], noise[cut], Context())
            for got, parts in zip(found, zip(*wanted, strict=True), strict=True):
                np.testing.assert_array_equal(got, np.concatenate(parts)[cut])


def test_a_group_that_does_not_play_keeps_its_memory() -> None:
    random = np.random.default_rng(0)
    each = [actor(Form(True, True, "relu"), 2, random, Multinomial()) for _ in range(2)]
    grouped = GroupedActor(Groups(B, (None, Context())), [None, each[1]])
    obs, hidden = random.standard_normal((4, 2, OBS), np.float32), random.standard_normal((4, 2, H), np.float32)
    avail, last, noise = np.ones((4, 2, A), bool), np.zeros((4, 2), np.int64), np.zeros((4, 2, A), np.float32)
    *_, following = grouped(obs, avail, last, hidden, noise, Context())
    np.testing.assert_array_equal(following[:2], hidden[:2])
    assert (following[2:] != hidden[2:]).any()


def test_pieces_of_a_process() -> None:
    """Whole neighbouring groups are one piece, cut ones and those beside a group that does not play are not."""
    groups = Groups(4, (Context(),) * 4)
    assert groups.pieces(0, 16) == [([0, 1, 2, 3], slice(0, 16))]
    assert groups.pieces(2, 12) == [([0], slice(0, 2)), ([1, 2], slice(2, 10)), ([3], slice(10, 12))]
    some = Groups(4, (Context(), None, Context(), Context()))
    assert some.pieces(0, 16) == [([0], slice(0, 4)), ([2, 3], slice(8, 16))]
