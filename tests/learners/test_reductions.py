"""What one method must be when it is reduced to another, or to a sum that can be written out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from oamarl.components.batch import Batch
from oamarl.components.updates import descent, trust_region
from oamarl.controllers.reuse_distances import Measured
from oamarl.controllers.reuse_mac import ReuseMapping
from oamarl.envs.base import EnvInfo
from oamarl.learners import losses, oappo, oatrpo
from oamarl.learners.losses import ClipStats, Rows, clipped_loss, targets_with_factor
from oamarl.learners.off_agent import MappingRow, draw_sources, reuse_rows

from learner_tools import (
    assert_same,
    assert_same_scalars,
    double,
    fix_order,
    make_batch,
    make_info,
    make_learner,
    parameters,
    permuted,
    policy_on,
    samples_of,
    set_policies,
)

both_networks = pytest.mark.parametrize("rnn", [False, True], ids=["ff", "gru"])


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    with double():
        yield


def train_both(a: Any, b: Any, iterations: int = 3, **batch: Any) -> None:
    """Train both on batches that ``a`` plays; every iteration must leave them equal."""
    start = parameters(a)["policies"]
    for k in range(iterations):
        experience = make_batch(a.mac, seed=k, **batch)
        found, _ = a.train(experience, 100 * k)
        expected, _ = b.train(experience, 100 * k)
        assert_same(a, b)
        assert_same_scalars(found, expected)
    assert (parameters(a)["policies"] - start).abs().max() > 1e-4, "nothing was learned, so nothing was compared"


# -- one method is another ------------------------------------------------------------------------------------


@both_networks
@pytest.mark.parametrize("reuse", [{}, {"reuse_mode": "frequency"}, {"reuse_mode": "sample"}], ids=str)
def test_oappo_without_reuse_is_happo(rnn: bool, reuse: dict[str, Any]) -> None:
    common = {"use_rnn": rnn, "num_minibatches": 2}
    a = make_learner("oappo", make_info(), reuse_scheme="none", **reuse, **common)
    train_both(a, make_learner("happo", make_info(), **common))


@both_networks
@pytest.mark.parametrize("reuse", [{}, {"reuse_mode": "frequency"}, {"reuse_mode": "sample"}], ids=str)
def test_oatrpo_without_reuse_is_hatrpo(rnn: bool, reuse: dict[str, Any]) -> None:
    a = make_learner("oatrpo", make_info(), reuse_scheme="none", use_rnn=rnn, **reuse)
    train_both(a, make_learner("hatrpo", make_info(), use_rnn=rnn))


@both_networks
@pytest.mark.parametrize("pair", [("oappo", "happo"), ("oatrpo", "hatrpo")], ids="=".join)
def test_agents_far_from_all_others_learn_as_without_reuse(rnn: bool, pair: tuple[str, str]) -> None:
    a = make_learner(pair[0], make_info(), use_rnn=rnn, reuse_sigma=1e-6)
    train_both(a, make_learner(pair[1], make_info(), use_rnn=rnn))


@both_networks
def test_happo_of_one_agent_is_ppo(rnn: bool) -> None:
    common = {"use_rnn": rnn, "num_minibatches": 3, "obs_agent_id": False}
    a = make_learner("happo", make_info(1), **common)
    train_both(a, make_learner("mappo", make_info(1), **common))


@both_networks
@pytest.mark.parametrize("algorithm", ["oappo", "oatrpo"])
def test_one_lonely_agent_far_from_two_close_ones_learns_as_without_reuse(rnn: bool, algorithm: str) -> None:
    info = make_info()
    a = make_learner(algorithm, info, use_rnn=rnn, reuse_sigma=0.02, num_minibatches=2)
    b = make_learner({"oappo": "happo", "oatrpo": "hatrpo"}[algorithm], info, use_rnn=rnn, num_minibatches=2)
    params = parameters(a)["policies"]
    params[2] = params[1] + 1e-3 * torch.randn_like(params[1])
    for learner in (a, b):
        set_policies(learner.mac, params)
        # first in the order: its factor is 1, whatever the others do later
        fix_order(learner, [0, 1, 2])
    batch = make_batch(a.mac)
    _, arrays = a.train(batch, 0)
    b.train(batch, 0)
    m = arrays["reuse"]["M"]
    assert m[0].tolist() == [1.0, 0.0, 0.0]
    assert m[1, 2] > 0, "the close pair must reuse, or the test says nothing"
    new, plain = parameters(a)["policies"], parameters(b)["policies"]
    torch.testing.assert_close(new[0], plain[0], rtol=0, atol=1e-9)
    assert (new[1] - plain[1]).abs().max() > 1e-6


# -- trust-region steps, written out --------------------------------------------------------------------------


def written_step(learner: Any, batch: Batch, i: int, shares: list[float]) -> tuple[Tensor, int]:
    """The first agent's TRPO step with an explicit Fisher matrix and a direct solver.

    Args:
        shares: row i of the mapping; surrogate, metric and region are the mixture of these sources.

    Returns:
        the new parameters, and the backtracks (-1: rejected).
    """
    mac, c = learner.mac, learner.config
    samples = samples_of(learner, batch)
    old = mac.network.params.data[i].clone()

    def log_probs(params: Tensor, j: int) -> Tensor:
        return policy_on(mac, params, samples, j).log_probs[samples.valid[:, j]]

    def surrogate(params: Tensor) -> Tensor:
        total = torch.zeros(())
        for j, share in enumerate(shares):
            v = samples.valid[:, j]
            taken = log_probs(params, j).gather(-1, samples.actions[:, j][v].unsqueeze(-1)).squeeze(-1)
            entropy = -(log_probs(params, j).exp() * log_probs(params, j)).sum(-1)
            gain = torch.exp(taken - samples.log_prob[:, j][v]) * samples.advantage[:, j][v]
            total = total + share * (gain + c.entropy_coef * entropy).mean()
        return total

    def distance(params: Tensor) -> float:
        kls = [(before[j].exp() * (before[j] - log_probs(params, j))).sum(-1).mean() for j in range(len(shares))]
        return sum(share * float(x) for share, x in zip(shares, kls, strict=True))

    before = [log_probs(old, j).detach() for j in range(len(shares))]
    gradient = torch.autograd.functional.jacobian(surrogate, old)
    fisher = torch.zeros(len(old), len(old))
    for j, share in enumerate(shares):
        score = torch.autograd.functional.jacobian(lambda params, j=j: log_probs(params, j), old)
        fisher += share * torch.einsum("la,lap,laq->pq", before[j].exp(), score, score) / len(score)
    direction = torch.linalg.solve(fisher + c.cg_damping * torch.eye(len(old)), gradient)
    size = 2 * c.kl_threshold * (1 - trust_region.ROOM) / float(direction @ fisher @ direction)
    full = direction * math.sqrt(size)
    with torch.no_grad():
        for k in range(c.line_search_steps):
            candidate = old + full / 2**k
            if distance(candidate) <= c.kl_threshold and surrogate(candidate) > surrogate(old):
                return candidate, k
    return old, -1


SOLVED = {"cg_iters": 300, "cg_damping": 1e-3, "hidden_dim": 4, "normalise_advantage": False}


@pytest.fixture
def solved(monkeypatch: pytest.MonkeyPatch) -> None:
    """The conjugate gradient does not stop before the solution is exact."""
    monkeypatch.setattr(trust_region, "conjugate_gradient", partial(trust_region.conjugate_gradient, tol=1e-26))


@pytest.mark.usefixtures("solved")
@both_networks
@pytest.mark.parametrize("entropy_coef", [0.0, 0.3])
def test_oatrpos_step_is_the_mixtures_written_out(rnn: bool, entropy_coef: float) -> None:
    """Gradient, metric and region are those of the M-weighted mixture of sources."""
    for seed in range(3):
        more = {"reuse_scheme": "all", "reuse_lambda": 0.8, "entropy_coef": entropy_coef, **SOLVED}
        learner = make_learner("oatrpo", make_info(2), use_rnn=rnn, **more)
        fix_order(learner, [0, 1])
        batch = make_batch(learner.mac, seed=seed)
        assert len(set(samples_of(learner, batch).counts().tolist())) == 2, "sources of one size would hide the weights"
        before = parameters(learner)["policies"][0]
        expected, backtracks = written_step(learner, batch, 0, [0.8, 0.2])
        learner.train(batch, 0)
        assert backtracks >= 0
        torch.testing.assert_close(parameters(learner)["policies"][0], expected, rtol=0, atol=1e-6)
        assert (expected - before).abs().max() > 1e-3


@pytest.mark.usefixtures("solved")
@both_networks
@pytest.mark.parametrize(("delta", "entropy_coef"), [(0.01, 0.0), (0.5, 0.0), (0.5, 0.3)])
def test_hatrpo_of_one_agent_is_trpo_written_out(rnn: bool, delta: float, entropy_coef: float) -> None:
    tried = []
    for seed in range(4):
        more = {"kl_threshold": delta, "entropy_coef": entropy_coef, **SOLVED}
        learner = make_learner("hatrpo", make_info(1), use_rnn=rnn, **more)
        batch = make_batch(learner.mac, seed=seed)
        before = parameters(learner)["policies"][0]
        expected, backtracks = written_step(learner, batch, 0, [1.0])
        scalars, _ = learner.train(batch, 0)
        torch.testing.assert_close(parameters(learner)["policies"][0], expected, rtol=0, atol=1e-6)
        assert (expected - before).abs().max() > 1e-3
        assert scalars["steps_accepted"] == 1.0
        assert scalars["line_search_backtracks"] == backtracks
        assert 0 < scalars["approx_kl"] <= delta
        tried.append(backtracks)
    assert max(tried) > 0, "some step must need backtracking, or the line search was not compared"


@pytest.mark.usefixtures("solved")
def test_a_rejected_step_leaves_the_policy_bit_for_bit() -> None:
    # the third try of the case above would be accepted; here there is only one
    learner = make_learner("hatrpo", make_info(1), kl_threshold=0.5, line_search_steps=1, **SOLVED)
    batch = make_batch(learner.mac, seed=1)
    before = parameters(learner)
    scalars, _ = learner.train(batch, 0)
    assert scalars["steps_accepted"] == 0.0
    assert scalars["approx_kl"] == scalars["surrogate_improvement"] == 0.0
    assert torch.equal(parameters(learner)["policies"], before["policies"])
    assert not torch.equal(parameters(learner)["critic"], before["critic"])


# -- modes that must agree ------------------------------------------------------------------------------------

CYCLE = [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]


@both_networks
@pytest.mark.parametrize("algorithm", ["oappo", "oatrpo"])
@pytest.mark.parametrize(
    "other", [{"reuse_mode": "sample", "reuse_factor": "own"}, {"reuse_mode": "frequency"}], ids=str
)
def test_a_permutation_is_the_same_in_every_mode(rnn: bool, algorithm: str, other: dict[str, Any]) -> None:
    common = {"use_rnn": rnn, "reuse_scheme": "matrix", "reuse_matrix": CYCLE}
    a = make_learner(algorithm, make_info(), reuse_mode="weights", **common)
    train_both(a, make_learner(algorithm, make_info(), **other, **common))


def test_the_bound_factor_is_another_one() -> None:
    """Otherwise the test above would also pass with the two factors confused."""
    common = {"reuse_scheme": "matrix", "reuse_matrix": CYCLE, "reuse_mode": "sample"}
    a = make_learner("oappo", make_info(), reuse_factor="own", **common)
    b = make_learner("oappo", make_info(), **common)
    assert b.mac.factor == "bound"
    batch = make_batch(a.mac)
    a.train(batch, 0)
    b.train(batch, 0)
    assert (parameters(a)["policies"] - parameters(b)["policies"]).abs().max() > 1e-6


@both_networks
@pytest.mark.parametrize(
    "scheme", [{"reuse_scheme": "adaptive_kl"}, {"reuse_scheme": "all", "reuse_lambda": 0.4}], ids=str
)
def test_frequency_agrees_with_weights_in_the_mean(rnn: bool, scheme: dict[str, Any]) -> None:
    """An entry's part of the objective depends on its own draw alone: the mean over draws is a sum over sources."""
    learner = make_learner("oappo", make_info(), use_rnn=rnn, reuse_mode="frequency", **scheme)
    mac = learner.mac
    batch = make_batch(mac)
    samples = samples_of(learner, batch)
    mapping = mac.mapping(samples, 6, learner.generators["kl"], learner.generators["mapping"])
    weights = make_learner("oappo", make_info(), use_rnn=rnn, **scheme).mac
    assert (mapping.matrix > 0).sum() > 3
    updated = torch.where(samples.valid, 0.3 * torch.randn(samples.valid.shape), 0.0)
    part = torch.arange(samples.n_entries)
    for i in range(3):
        params = (mac.network.params.data[i] + 0.1 * torch.randn_like(mac.network.params.data[i])).requires_grad_()
        target, _ = targets_with_factor(samples, updated, [0, 1, 2], own_slot=True)
        row = MappingRow.of(mapping, i, samples)

        def loss(
            who: Any, drawn: Tensor | None, *, row: MappingRow = row, params: Tensor = params, target: Tensor = target
        ) -> Tensor:
            stats = ClipStats(0.2, 3, torch.device("cpu"))
            parts = reuse_rows(who, row, samples, target, samples.counts(), part, drawn)
            # a large entropy weight: a wrong entropy term must not hide behind the surrogate
            return torch.stack([clipped_loss(who, params, rows, 0.2, 0.5, stats) for rows in parts]).sum()

        full = loss(weights, None)
        each = [loss(mac, torch.full((samples.n_entries,), j)) for j in range(3)]
        mean = sum(float(mapping.matrix[i, j]) * each[j] for j in range(3))
        torch.testing.assert_close(mean, full, rtol=0, atol=1e-6)
        (g_mean,) = torch.autograd.grad(mean, params)
        (g_full,) = torch.autograd.grad(full, params)
        torch.testing.assert_close(g_mean, g_full, rtol=0, atol=1e-6)


def no_steps(learner: Any) -> Measured:
    """Measured on nothing."""
    samples = samples_of(learner, make_batch(learner.mac))
    return learner.mac.measured(samples, samples.entries[:0])


def test_sources_are_drawn_as_the_mapping_says_afresh_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    m = np.array([[0.5, 0.3, 0.2], [0.0, 1.0, 0.0], [0.25, 0.0, 0.75]])
    learner = make_learner(
        "oappo", make_info(), reuse_mode="frequency", reuse_scheme="matrix", reuse_matrix=m.tolist(), epochs=3
    )
    none = np.zeros((3, 3))
    mapping = ReuseMapping(none, none, none, m, no_steps(learner), None, 0.0)
    n = 40_000
    many: Any = SimpleNamespace(n_entries=n, choice=torch.device("cpu"))
    for i in range(3):
        (drawn,) = draw_sources(learner.mac, mapping, i, many, 1, learner.generators["draws"])
        assert drawn is not None
        share = drawn.bincount(minlength=3).numpy() / n
        assert (share[m[i] == 0] == 0).all()
        assert (np.abs(share - m[i]) <= 4.5 * np.sqrt(m[i] * (1 - m[i]) / n)).all()
    seen: list[tuple[int, Tensor]] = []
    real = oappo.draw_sources

    def spy(mac: Any, mapping: ReuseMapping, i: int, *rest: Any) -> Any:
        found = real(mac, mapping, i, *rest)
        seen.extend((i, drawn) for drawn in found if drawn is not None)
        return found

    monkeypatch.setattr(oappo, "draw_sources", spy)
    # agent 0 is dead in most of the batch: its entries draw sources all the same
    batch = make_batch(learner.mac, never=0)
    learner.train(batch, 0)
    assert len(seen) == 9
    first = [drawn for i, drawn in seen if i == 0]
    assert all(len(drawn) == int(batch.filled.sum()) for drawn in first)
    assert not torch.equal(first[0], first[1])


# -- names of agents mean nothing ------------------------------------------------------------------------------


def given_mapping(mac: Any, source: list[int]) -> Any:
    """A stand-in for ``mac.mapping`` that always maps learner i to ``source[i]``."""
    entries = torch.arange(3)

    def mapping(samples: Any, *_: Any) -> ReuseMapping:
        measured = mac.measured(samples, entries)
        none = np.zeros((3, 3))
        return ReuseMapping(none, none, none, np.eye(3)[source], measured, np.array(source), 0.0)

    return mapping


def train_permuted(algorithm: str, perm: list[int], order: list[int], **overrides: Any) -> tuple[Any, Any]:
    """The same iteration under two namings of the agents; returns both learners after it."""
    info = make_info()
    a, b = (make_learner(algorithm, info, num_minibatches=2, **overrides) for _ in range(2))
    set_policies(b.mac, parameters(a)["policies"][perm])
    new_name = [perm.index(i) for i in range(3)]
    fix_order(a, order)
    fix_order(b, [new_name[i] for i in order])
    batch = make_batch(a.mac)
    if overrides.get("reuse_mode") == "sample":
        e = [1, 2, 0]
        for learner, source in ((a, e), (b, [new_name[e[perm[k]]] for k in range(3)])):
            learner.mac.mapping = given_mapping(learner.mac, source)
    _, found = a.train(batch, 0)
    _, other = b.train(permuted(batch, perm), 0)
    if "reuse" in found and overrides.get("reuse_mode") != "sample":
        for name in {"M", "D", "ess", "role"} & set(found["reuse"]):
            np.testing.assert_allclose(other["reuse"][name], found["reuse"][name][np.ix_(perm, perm)], atol=1e-9)
    return a, b


@both_networks
@pytest.mark.parametrize(
    ("algorithm", "overrides"),
    [
        ("happo", {}),
        ("hatrpo", {}),
        ("oappo", {}),
        ("oappo", {"reuse_mode": "sample"}),
        ("oappo", {"reuse_mode": "sample", "reuse_factor": "own"}),
        ("oappo", {"reuse_scheme": "adaptive_bound"}),
        ("oappo", {"reuse_scheme": "adaptive_roles"}),
        ("oatrpo", {}),
        ("oatrpo", {"reuse_scheme": "adaptive_roles"}),
        ("oatrpo", {"reuse_mode": "sample"}),
    ],
    ids=str,
)
def test_renaming_the_agents_renames_the_result(rnn: bool, algorithm: str, overrides: dict[str, Any]) -> None:
    perm = [2, 0, 1]
    a, b = train_permuted(algorithm, perm, [1, 0, 2], use_rnn=rnn, reuse_kl_samples=7, **overrides)
    torch.testing.assert_close(parameters(b)["policies"], parameters(a)["policies"][perm], rtol=0, atol=1e-9)
    torch.testing.assert_close(parameters(b)["critic"], parameters(a)["critic"], rtol=0, atol=1e-9)


# -- a game small enough to enumerate ---------------------------------------------------------------------------

#: how often of four times an agent takes each action
TIMES = [(1, 1, 2), (2, 1, 1), (1, 2, 1)]


class Game:
    """One step, three actions each, a random payoff; the batch holds every joint action as often as it is played."""

    def __init__(self, n_agents: int, learner: Any) -> None:
        self.n, self.mac = n_agents, learner.mac
        g = torch.Generator().manual_seed(5)
        self.payoff = torch.randn([3] * n_agents, generator=g)
        self.obs = torch.randn(n_agents, 5, generator=g)
        self.mu = torch.tensor([TIMES[i] for i in range(n_agents)]) / 4.0
        with torch.no_grad():
            for i in range(n_agents):
                layers = self.mac.network.layers(self.mac.network.params.data[i])
                layers["head.w"].zero_()
                layers["head.b"].copy_(self.mu[i].log())
            learner.value.network.params.zero_()  # so that the advantage is the payoff

    def batch(self) -> Batch:
        joint = [
            a
            for a in itertools.product(range(3), repeat=self.n)
            for _ in range(math.prod(TIMES[i][a[i]] for i in range(self.n)))
        ]
        actions = torch.tensor(joint)
        b = len(joint)
        agents = torch.arange(self.n)
        true, false = torch.ones(b, 1, dtype=torch.bool), torch.zeros(b, 1, dtype=torch.bool)
        return Batch(
            obs=self.obs.expand(b, 2, -1, -1), state=torch.zeros(b, 2, 4),
            avail=torch.ones(b, 2, self.n, 3, dtype=torch.bool), actions=actions.unsqueeze(1),
            log_prob=self.mu[agents, actions].log().unsqueeze(1),
            reward=self.payoff[actions.unbind(1)].view(b, 1, 1).expand(b, 1, self.n),
            terminated=true, truncated=false, agent_terminated=false.unsqueeze(-1).expand(b, 1, self.n),
            filled=true, alive=true.unsqueeze(-1).expand(b, 1, self.n), final_obs=torch.zeros(0, self.n, 5),
            final_state=torch.zeros(0, 4), final_avail=torch.zeros(0, self.n, 3, dtype=torch.bool),
            final_index=torch.zeros(0, 2, dtype=torch.int64),
        )  # fmt: skip

    def plays(self, params: Tensor, slot: int) -> Tensor:
        """[3] how a policy plays in a slot: on that agent's observation."""
        avail = torch.ones(1, 3, dtype=torch.bool)
        return self.mac.policy(params, self.obs[slot].unsqueeze(0), avail).log_probs[0].exp()

    def expectation(self, players: list[Tensor]) -> Tensor:
        """The exact expected payoff when slot k is played by ``players[k]`` [3]."""
        value = self.payoff
        for p in players:
            value = torch.tensordot(p, value, dims=([0], [0]))
        return value


def exact_objective(
    game: Game, i: int, done: list[int], now: Tensor, candidate: Tensor, m: np.ndarray, e: list[int] | None
) -> Tensor:
    """Learner i's objective, slot by slot: sources re-drawn by ``candidate``, the rest as the factor has it.

    Args:
        done: agents updated before i; now: [N, P] all policies at this moment.
        e: the permutation under the factor of Proposition 1; None for the product over slots.
    """
    total = torch.zeros(())
    for j in np.flatnonzero(m[i]):
        players = list(game.mu)
        for k in done:
            slot = k if e is None else e[k]
            players[slot] = game.plays(now[k], slot)
        players[j] = game.plays(candidate, int(j))
        total = total + float(m[i, j]) * game.expectation(players)
    return total


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize(
    ("overrides", "e"),
    [
        ({"reuse_scheme": "all", "reuse_lambda": 0.6}, None),
        ({"reuse_scheme": "none"}, None),
        ({"reuse_scheme": "matrix", "reuse_mode": "sample", "reuse_factor": "own"}, None),
        ({"reuse_scheme": "matrix", "reuse_mode": "sample"}, "cycle"),
    ],
    ids=["weights", "none", "sample-own", "sample-bound"],
)
@pytest.mark.parametrize("algorithm", ["oappo", "oatrpo"])
def test_the_objective_is_the_exact_expectation_in_an_enumerable_game(
    monkeypatch: pytest.MonkeyPatch, algorithm: str, n: int, overrides: dict[str, Any], e: Any
) -> None:
    cycle = [(i + 1) % n for i in range(n)]
    if overrides["reuse_scheme"] == "matrix":
        overrides = overrides | {"reuse_matrix": np.eye(n)[cycle].tolist()}
    exact = {"normalise_advantage": False, "standardise_returns": False, "epochs": 1, "lr": 0.05, "kl_threshold": 0.1}
    exact |= {
        "eps_clip": 1e9,
        "entropy_coef": 0.0,
        "grad_norm_clip": 1e9,
        "activation": "tanh",
        "lr_schedule": "constant",
    }
    learner = make_learner(algorithm, make_info(n, n_actions=3, limit=1), **exact, **overrides)
    game = Game(n, learner)
    order = list(range(n))[::-1]
    fix_order(learner, order)
    m = learner.mac.fixed
    calls: list[tuple[float, float, float]] = []

    def compare(objective: Callable[[Tensor], Tensor]) -> None:
        """Judge learner i's objective at other parameters than its own, against the sum written out."""
        k = len(calls)
        i, now = order[k], learner.mac.network.params.detach().clone()
        g = torch.Generator().manual_seed(k)
        candidate = now[i] + 0.5 * torch.randn(now[i].shape, generator=g)
        expected = exact_objective(game, i, order[:k], now, candidate, m, cycle if e else None)
        plain = exact_objective(game, i, [], now, candidate, m, None)
        with torch.no_grad():
            calls.append((float(objective(candidate)), float(expected), float(plain)))

    def spy_step(surrogate: Any, kl: Any, params: Tensor, **options: Any) -> Any:
        compare(lambda candidate: torch.stack([part(candidate) for part in surrogate]).sum())
        return real_step(surrogate, kl, params, **options)

    def spy_loss(
        mac: Any, params: Tensor, rows: Rows, eps: float, entropy: float, stats: ClipStats, pull: None
    ) -> Tensor:
        compare(
            lambda candidate: -real_loss(mac, candidate, rows, eps, entropy, ClipStats(eps, n, torch.device("cpu")))
        )
        return real_loss(mac, params, rows, eps, entropy, stats)

    real_step, real_loss = oatrpo.trust_region_step, oappo.clipped_loss
    monkeypatch.setattr(oatrpo, "trust_region_step", spy_step)
    monkeypatch.setattr(oappo, "clipped_loss", spy_loss)
    learner.train(game.batch(), 0)
    assert len(calls) == n
    for found, expected, _ in calls:
        assert abs(found - expected) < 1e-7  # weights are float32
    if not (n == 2 and overrides.get("reuse_factor") == "own"):  # there the one slot updated is the one re-drawn
        assert abs(calls[-1][1] - calls[-1][2]) > 1e-4, "earlier agents' updates must matter, or no factor was tested"


# -- minibatches -------------------------------------------------------------------------------------------------


def gradients(monkeypatch: pytest.MonkeyPatch, learner: Any, batch: Batch) -> list[Tensor]:
    """The policy gradients of one iteration, in order, before they are clipped."""
    found: list[Tensor] = []
    real, size = descent.clip_rows, learner.mac.network.params.shape[-1]

    def spy(gradient: Tensor, limit: float) -> Tensor:
        if gradient.shape[-1] == size:  # not the critic's
            found.append(gradient.clone())
        return real(gradient, limit)

    with monkeypatch.context() as patch:
        patch.setattr(descent, "clip_rows", spy)
        learner.train(batch, 0)
    return found


@both_networks
@pytest.mark.parametrize(
    ("algorithm", "overrides"),
    [
        ("mappo", {}),
        ("mappo_ns", {}),
        ("ippo", {"sharing": [0, 0, 1]}),
        ("happo", {}),
        ("oappo", {"reuse_scheme": "all"}),
        ("oappo", {"reuse_scheme": "all", "reuse_mode": "frequency"}),
        ("oappo", {"reuse_scheme": "all", "reuse_mode": "sample"}),
    ],
    ids=str,
)
def test_minibatch_gradients_add_up(
    monkeypatch: pytest.MonkeyPatch, rnn: bool, algorithm: str, overrides: dict[str, Any]
) -> None:
    # a step too small to move anything: all minibatches see the same policies, and every factor is 1
    common = {"use_rnn": rnn, "epochs": 1, "lr": 1e-13, "entropy_coef": 0.3, **overrides}
    whole = make_learner(algorithm, make_info(), num_minibatches=1, **common)
    parts = make_learner(algorithm, make_info(), num_minibatches=3, **common)
    batch = make_batch(whole.mac, lengths=(6, 4, 1, 5, 3))
    for learner in (whole, parts):
        fix_order(learner, [2, 0, 1])
    full = gradients(monkeypatch, whole, batch)
    pieces = gradients(monkeypatch, parts, batch)
    assert len(pieces) == 3 * len(full)
    for k, gradient in enumerate(full):
        own = torch.stack(pieces[3 * k : 3 * k + 3])
        assert gradient.abs().max() > 1e-3
        assert (own[0] - own[1]).abs().max() > 1e-3
        torch.testing.assert_close(own.mean(0), gradient, rtol=0, atol=1e-8)


@both_networks
def test_shared_networks_average_over_the_steps_of_those_who_were_alive(
    monkeypatch: pytest.MonkeyPatch, rnn: bool
) -> None:
    """PPO's gradient written out; the agent that is dead throughout must not count in the mean."""
    learner = make_learner("mappo", make_info(), use_rnn=rnn, epochs=1, entropy_coef=0.3)
    mac = learner.mac
    batch = make_batch(mac, never=1)
    samples = samples_of(learner, batch)
    params = mac.network.params.detach().clone().requires_grad_()
    total = torch.zeros(())
    for i in range(3):
        policy = policy_on(mac, params[0], samples, i)
        ratio = (policy.log_prob(samples.actions[:, i]) - samples.log_prob[:, i]).exp()
        # at ratio 1 nothing is clipped
        total = total + (ratio * samples.advantage[:, i] + 0.3 * policy.entropy())[samples.valid[:, i]].sum()
    (expected,) = torch.autograd.grad(-total / samples.valid.sum(), params)
    (found,) = gradients(monkeypatch, learner, batch)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)


@both_networks
@pytest.mark.parametrize("algorithm", ["mappo_ns", "happo", "oappo"])
def test_the_clipped_gradient_is_the_one_written_out(
    monkeypatch: pytest.MonkeyPatch, rnn: bool, algorithm: str
) -> None:
    """In the second epoch, where ratios have left the clipping range on both sides."""
    info, eps = make_info(2), 0.05
    shares = [0.7, 0.3] if algorithm == "oappo" else [1.0, 0.0]
    reuse = {"reuse_scheme": "all", "reuse_lambda": 0.7} if algorithm == "oappo" else {}
    learner = make_learner(algorithm, info, use_rnn=rnn, epochs=2, lr=0.02, eps_clip=eps, entropy_coef=0.3, **reuse)
    mac = learner.mac
    fix_order(learner, [0, 1])
    batch = make_batch(mac)
    samples = samples_of(learner, batch)
    agent_params: list[Tensor] = []
    real, size = descent.clip_rows, mac.network.params.shape[-1]

    def spy(gradient: Tensor, limit: float) -> Tensor:
        if gradient.shape[-1] == size:
            agent_params.append(parameters(learner)["policies"][0])
        return real(gradient, limit)

    monkeypatch.setattr(descent, "clip_rows", spy)
    found = gradients(monkeypatch, learner, batch)[1]
    params = agent_params[1].requires_grad_()
    total, sides = torch.zeros(()), 0
    for j, share in enumerate(shares):
        policy = policy_on(mac, params, samples, j)
        r = (policy.log_prob(samples.actions[:, j]) - samples.log_prob[:, j]).exp()
        a, valid = samples.advantage[:, j], samples.valid[:, j]
        surrogate = torch.where(a >= 0, r.clamp(max=1 + eps), r.clamp(min=1 - eps)) * a
        total = total - share * (surrogate + 0.3 * policy.entropy())[valid].mean()
        sides |= int(((r > 1 + eps) & (a > 0) & valid).any()) | 2 * int(((r < 1 - eps) & (a < 0) & valid).any())
    (expected,) = torch.autograd.grad(total, params)
    assert sides == 3
    torch.testing.assert_close(found[0] if found.dim() == 2 else found, expected, rtol=0, atol=1e-6)


# -- memory limits change nothing -------------------------------------------------------------------------------


@both_networks
@pytest.mark.parametrize("algorithm", ["oappo", "oatrpo"])
@pytest.mark.parametrize("reuse_max_rows", [1, 35])
def test_cutting_calls_into_pieces_changes_nothing(rnn: bool, algorithm: str, reuse_max_rows: int) -> None:
    common = {"use_rnn": rnn, "reuse_scheme": "adaptive_kl", "reuse_sigma": 2.0, "num_minibatches": 2}
    info = make_info(4)
    a = make_learner(algorithm, info, reuse_max_rows=reuse_max_rows, **common)
    b = make_learner(algorithm, info, **common)
    for k in range(2):
        batch = make_batch(b.mac, seed=k)
        _, found = a.train(batch, 0)
        _, expected = b.train(batch, 0)
        assert (expected["reuse"]["M"] > 0).sum() > 6
        for name in {"M", "D", "ess", "role"} & set(found["reuse"]):
            np.testing.assert_allclose(found["reuse"][name], expected["reuse"][name], rtol=1e-9)
        assert_same(a, b, 1e-8)


def test_orders_are_random_and_the_same_for_the_same_seed() -> None:
    info: EnvInfo = make_info(5)
    a, b, c = (make_learner("happo", info, seed=s) for s in (1, 1, 2))
    orders = [[x.order() for _ in range(20)] for x in (a, b, c)]
    assert orders[0] == orders[1] != orders[2]
    assert all(sorted(o) == list(range(5)) for o in orders[0])
    assert len({tuple(o) for o in orders[0]}) > 10


@pytest.mark.parametrize("algorithm", ["happo", "hatrpo"])
def test_sequential_updates_see_the_factor(monkeypatch: pytest.MonkeyPatch, algorithm: str) -> None:
    """HAPPO's and HATRPO's targets are A times the product of the earlier agents' ratios, 1 where they are dead."""
    learner = make_learner(algorithm, make_info(), lr=0.02)
    fix_order(learner, [0, 1, 2])
    batch = make_batch(learner.mac)
    samples = samples_of(learner, batch)
    seen: list[tuple[int, Tensor, Tensor]] = []

    def spy(samples: Any, updated: Tensor, sources: Any, *args: Any, **options: Any) -> Any:
        found = targets_with_factor(samples, updated, sources, *args, **options)
        seen.append((sources[0], found[0].clone(), parameters(learner)["policies"]))
        return found

    monkeypatch.setattr(losses, "targets_with_factor", spy)
    learner.train(batch, 0)
    assert [i for i, _, _ in seen] == [0, 1, 2]
    for i, x, agent_params in seen:
        factor = torch.ones(samples.n_steps)
        for k in range(i):
            new = policy_on(learner.mac, agent_params[k], samples, k)
            ratio = (new.log_prob(samples.actions[:, k]) - samples.log_prob[:, k]).exp()
            factor *= torch.where(samples.valid[:, k], ratio, 1.0)
        torch.testing.assert_close(x[:, i], factor * samples.advantage[:, i], rtol=0, atol=1e-9)
        if i:
            assert (factor - 1).abs().max() > 1e-3
