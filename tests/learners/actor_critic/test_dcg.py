"""Coordination graphs: values by hand, the search against enumeration, and Pareto actor-critic with them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from oamarl.learners.actor_critic import graph
from oamarl.learners.actor_critic.play import legal_actions, play_of
from oamarl.modules.critics.dcg import CoordinationGraph, best_joint_action, edges_of, joint_value
from oamarl.utils.errors import UserError

from learner_tools import assert_same, double, make_batch, make_info, make_learner, parameters, through_a_file


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    with double():
        yield


# -- the graph ---------------------------------------------------------------------------------------------------


def test_edges() -> None:
    assert edges_of("line", 4) == [(0, 1), (1, 2), (2, 3)]
    assert edges_of("cycle", 4) == [(0, 1), (1, 2), (2, 3), (3, 0)]
    assert edges_of("cycle", 2) == edges_of("full", 2) == [(0, 1)]
    assert edges_of("star", 4) == [(0, 1), (0, 2), (0, 3)]
    assert edges_of("full", 3) == [(0, 1), (0, 2), (1, 2)]
    assert edges_of("vdn", 3) == edges_of("full", 1) == []
    assert edges_of([[2, 0]], 3) == [(2, 0)]


@pytest.mark.parametrize(
    ("edges", "said"),
    [
        ([[0, 3]], r"cg_edges has \[0, 3\], which is no pair of two of the 3 agents, numbered from 0"),
        ([[1, 1]], r"cg_edges has \[1, 1\], which is no pair"),
        ([[0, 1, 2]], r"cg_edges has \[0, 1, 2\], which is no pair"),
        ([[0, 1], [1, 0]], "has a pair twice"),
    ],
)
def test_edges_that_there_are_not(edges: list[list[int]], said: str) -> None:
    with pytest.raises(UserError, match=said):
        make_learner("pac_dcg_ns", make_info(), cg_edges=edges)


def test_a_joint_value_by_hand() -> None:
    """(1 + 4) / 2 + 7: the mean of utilities and the mean of payoffs."""
    f = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    g = torch.tensor([[[[5.0, 7.0], [6.0, 8.0]]]])
    assert joint_value(f, g, [(0, 1)], torch.tensor([[0, 1]])).tolist() == [9.5]
    assert joint_value(f, g, [(1, 0)], torch.tensor([[0, 1]])).tolist() == [8.5]
    assert joint_value(f, g[:, :0], [], torch.tensor([[0, 1]])).tolist() == [2.5]


def drawn(edges: list[tuple[int, int]], n: int, seed: int, rows: int = 40, a: int = 3) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    avail = torch.rand(rows, n, a, generator=g) < 0.6
    avail[..., 1] = True
    return (
        torch.randn(rows, n, a, generator=g), torch.randn(rows, len(edges), a, a, generator=g), avail,
    )  # fmt: skip


def best_of_all(f: Tensor, g: Tensor, edges: list[tuple[int, int]], avail: Tensor) -> Tensor:
    """[R] the largest value of all legal joint actions, one after another."""
    found = torch.full(f.shape[:1], -torch.inf)
    n = f.shape[1]
    for joint in itertools.product(range(f.shape[-1]), repeat=n):
        actions = torch.tensor(joint).expand(len(f), n)
        legal = avail.gather(-1, actions.unsqueeze(-1)).all(1).squeeze(-1)
        found = torch.where(legal, torch.maximum(found, joint_value(f, g, edges, actions)), found)
    return found


@pytest.mark.parametrize("edges", ["line", "star", "vdn", [[3, 1], [1, 0]]], ids=str)
@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("anytime", [False, True])
def test_without_cycles_the_search_is_exact(edges: Any, normalised: bool, anytime: bool) -> None:
    pairs = edges_of(edges, 4)
    f, g, avail = drawn(pairs, 4, 1)
    found = best_joint_action(f, g, pairs, avail, iterations=6, normalised=normalised, anytime=anytime)
    assert avail.gather(-1, found.unsqueeze(-1)).all()
    torch.testing.assert_close(joint_value(f, g, pairs, found), best_of_all(f, g, pairs, avail))


def test_in_cycles_it_is_good() -> None:
    """Messages go round; keeping the best of all rounds loses little."""
    pairs = edges_of("full", 4)
    f, g, avail = drawn(pairs, 4, 2)
    best, alone = best_of_all(f, g, pairs, avail), f.masked_fill(~avail, -torch.inf).argmax(-1)
    values = {}
    for anytime in (False, True):
        found = best_joint_action(f, g, pairs, avail, iterations=8, normalised=True, anytime=anytime)
        assert avail.gather(-1, found.unsqueeze(-1)).all()
        values[anytime] = joint_value(f, g, pairs, found)
    assert (values[True] >= values[False] - 1e-9).all()
    share = (best - values[True]).mean() / (best - joint_value(f, g, pairs, alone)).mean()
    assert 0 <= share < 0.1


def test_both_ways_round_an_edge_is_one() -> None:
    """An edge named the other way round has the same payoffs, turned."""
    learner = make_learner("pac_dcg_ns", make_info(), cg_edges=[[0, 2]])
    turned = make_learner("pac_dcg_ns", make_info(), cg_edges=[[2, 0]])
    state = torch.randn(5, 4)
    (f, g), (f2, g2) = (x.value.network(x.value.network.params, state) for x in (learner, turned))
    assert torch.equal(f, f2)
    torch.testing.assert_close(g, g2.transpose(-1, -2))


def test_payoffs_of_a_low_rank() -> None:
    learner = make_learner("pac_dcg_ns", make_info(), cg_payoff_rank=1, cg_payoffs_hidden_dim=5)
    network = learner.value.network
    module = CoordinationGraph(3, 4, 4, learner.value.net)
    with torch.no_grad():
        _, g = module(torch.randn(6, 4))
    assert torch.linalg.matrix_rank(g).max() == 2  # one for each way round
    assert network(network.params, torch.randn(6, 4))[1].shape == (6, 3, 4, 4)


# -- Pareto actor-critic with it ---------------------------------------------------------------------------------


def test_values_are_of_the_others_part_of_the_best_joint_action(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = make_learner("pac_dcg_ns", make_info(), cg_edges="line")
    batch = make_batch(learner.mac)
    actions = play_of(learner.mac, batch, learner.generators["last actions"]).actions
    critic, pairs = learner.value, edges_of("line", 3)
    there = torch.cat([torch.ones_like(batch.filled[:, :1]), batch.filled], dim=1)
    found = learner.best(critic, critic.network, batch, actions)
    avail = legal_actions(batch)
    for b, t in there.nonzero().tolist():
        with torch.no_grad():
            f, g = critic.network(critic.network.params, batch.state[b, t].unsqueeze(0))
        legal = [[a for a in range(4) if avail[b, t, i, a]] for i in range(3)]
        best = max(itertools.product(*legal), key=lambda x: float(joint_value(f, g, pairs, torch.tensor([x]))))
        for i in range(3):
            joint = torch.tensor([best])
            joint[0, i] = actions[b, t, i]
            torch.testing.assert_close(found[b, t, i], joint_value(f, g, pairs, joint)[0])
    assert (found[~there] == 0).all()
    monkeypatch.setattr(graph, "MAX_ROWS", 5)
    torch.testing.assert_close(learner.best(critic, critic.network, batch, actions), found)


@pytest.mark.parametrize(
    "given",
    [
        {"use_rnn": True}, {"standardise_returns": True}, {"obs_individual_obs": True, "obs_last_action": True},
        {"cg_edges": "vdn"}, {"cg_edges": "cycle", "cg_payoff_rank": 2}, {"q_nstep": None, "gae_lambda": 0.8},
        {"target_update_interval_or_tau": 1.0}, {"msg_iterations": 0}, {"cg_utilities_hidden_dim": 3},
        {"critic_sharing": "shared", "sharing": "shared"},
    ],
    ids=str,
)  # fmt: skip
def test_all_options_train(given: dict[str, Any]) -> None:
    learner = make_learner("pac_dcg_ns", make_info(), **given)
    before = parameters(learner)
    for step in range(3):
        scalars, _ = learner.train(make_batch(learner.mac, seed=step), 0)
        assert all(math.isfinite(x) for x in scalars.values()), scalars
    for name in ("policies", "critic"):
        assert (parameters(learner)[name] != before[name]).any(1).all()


def test_it_is_the_critic_of_pac() -> None:
    """`critic: dcg` is all that is not PAC's."""
    a, b = make_learner("pac_dcg_ns", make_info()), make_learner("pac_ns", make_info(), critic="dcg", lr=0.0005)
    for step in range(2):
        batch = make_batch(a.mac, seed=step)
        a.train(batch, 1000)
        b.train(batch, 1000)
        assert_same(a, b, 0)


def test_a_learner_goes_on_where_its_state_was_taken() -> None:
    a, b = (make_learner("pac_dcg_ns", make_info(), seed=seed, lr=0.01) for seed in (1, 2))
    a.train(make_batch(a.mac), 0)
    b.mac.load_state_dict(through_a_file(a.mac.state_dict()))
    b.load_state_dict(through_a_file(a.state_dict()))
    batch = make_batch(a.mac, seed=1)
    assert a.train(batch, 0)[0] == b.train(batch, 0)[0]
    assert_same(a, b, 0)


def test_many_agents_are_no_hindrance() -> None:
    learner = make_learner("pac_dcg_ns", make_info(12))
    scalars, _ = learner.train(make_batch(learner.mac, lengths=(2,)), 0)
    assert all(math.isfinite(x) for x in scalars.values())


@pytest.mark.parametrize(
    ("algorithm", "given", "said"),
    [
        ("pac_dcg_ns", {"common_reward": False}, "one value of the team, which needs one reward"),
        ("pac_dcg_ns", {"critic_type": "ac_critic"}, "critic=dcg reads the state: use critic_type=cv_critic"),
        ("coma", {"critic": "dcg"}, "which Pareto actor-critic alone reads: use critic=v, or --config=pac_ns"),
        ("mappo", {"critic": "dcg"}, "which Pareto actor-critic alone reads"),
        ("maddpg", {"critic": "dcg"}, "which Pareto actor-critic alone reads"),
    ],
)
def test_what_is_refused(algorithm: str, given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        make_learner(algorithm, make_info(), **given)
