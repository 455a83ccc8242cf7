"""OAPPO's clip around the learner's own old policy, and Condition 1 checked between epochs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from oamarl.components.updates.samples import Samples
from oamarl.envs.base import EnvInfo
from oamarl.learners import oappo
from oamarl.learners.losses import ClipStats, Rows, clipped_loss
from oamarl.learners.oappo import OAPPOLearner
from oamarl.learners.off_agent import MappingRow, old_ratios, reuse_rows
from oamarl.utils.errors import UserError

from learner_tools import (
    assert_same,
    constant_policy,
    double,
    fix_order,
    make_batch,
    make_info,
    make_learner,
    parameters,
    samples_of,
    set_policies,
    values,
)

CPU = torch.device("cpu")
both_networks = pytest.mark.parametrize("rnn", [False, True], ids=["ff", "gru"])
every_mode = pytest.mark.parametrize("mode", ["weights", "frequency", "sample"])


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    with double():
        yield


def box_info() -> EnvInfo:
    """Three agents with two continuous actions each."""
    bounds = ((-1.0, -1.0),) * 3, ((1.0, 1.0),) * 3
    return replace(make_info(n_actions=2), action_low=bounds[0], action_high=bounds[1])


def box_samples(learner: Any) -> Samples:
    """Twelve steps of Gaussian policies that act at random observations."""
    mac, s = learner.mac, 12
    obs, avail = torch.randn(s, 3, 5), torch.ones(s, 3, 2, dtype=torch.bool)
    actions, log_prob = torch.zeros(s, 3, 2), torch.zeros(s, 3)
    with torch.no_grad():
        for j in range(3):
            policy = mac.policy(mac.network.params[j], obs[:, j], avail[:, j])
            actions[:, j] = policy.sample(torch.randn(s, 2))
            log_prob[:, j] = policy.log_prob(actions[:, j])
    valid = torch.rand(s, 3) < 0.8
    return Samples(obs, avail, actions, log_prob, valid, torch.randn(s, 3), torch.arange(s) // 3)


# -- reductions --------------------------------------------------------------------------------------------------


@both_networks
@every_mode
@pytest.mark.parametrize("more", [{}, {"reuse_rho_clip": 1.0}], ids=["whole", "truncated"])
def test_on_own_experience_it_is_happo_bit_for_bit(rnn: bool, mode: str, more: dict[str, Any]) -> None:
    common = {"use_rnn": rnn, "num_minibatches": 2}
    a = make_learner("oappo", make_info(), reuse_scheme="none", reuse_mode=mode, reuse_clip="learner", **common, **more)
    b = make_learner("happo", make_info(), **common)
    for k in range(2):
        batch = make_batch(a.mac, seed=k)
        a.train(batch, 0)
        b.train(batch, 0)
        assert_same(a, b, 0)


@both_networks
@pytest.mark.parametrize(
    "other", [{"reuse_mode": "sample", "reuse_factor": "own"}, {"reuse_mode": "frequency"}], ids=str
)
def test_a_permutation_is_the_same_in_every_mode(rnn: bool, other: dict[str, Any]) -> None:
    cycle = [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    common = {"use_rnn": rnn, "reuse_scheme": "matrix", "reuse_matrix": cycle, "reuse_clip": "learner"}
    common |= {"reuse_rho_clip": 1.5, "num_minibatches": 2}
    a, b = make_learner("oappo", make_info(), **common), make_learner("oappo", make_info(), **other, **common)
    around_source = make_learner("oappo", make_info(), **{**common, "reuse_clip": "source", "reuse_rho_clip": None})
    for k in range(2):
        batch = make_batch(a.mac, seed=k)
        for learner in (a, b, around_source):
            learner.train(batch, 0)
        assert_same(a, b, 1e-9)
    assert (parameters(a)["policies"] - parameters(around_source)["policies"]).abs().max() > 1e-6


def test_equal_policies_are_clipped_alike() -> None:
    """Where all agents have one policy, rho is 1 for the first learner and both clips are one."""
    found = []
    for clip in ("source", "learner"):
        learner = make_learner("oappo", make_info(), reuse_clip=clip)
        set_policies(learner.mac, parameters(learner)["policies"][:1].expand(3, -1))
        fix_order(learner, [0, 1, 2])
        learner.train(make_batch(learner.mac), 0)
        found.append(parameters(learner)["policies"][0])
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-9)


# -- the objective -----------------------------------------------------------------------------------------------


def gradients(learner: Any, samples: Samples, i: int, rho_clip: float | None) -> tuple[Tensor, Tensor, Tensor]:
    """Of learner i at its old policy: the objective with its clip, without a clip, and with the source's."""
    mac, x, part = learner.mac, torch.randn(samples.log_prob.shape), samples.entries
    mapping = mac.mapping(samples, 6, learner.generators["kl"], learner.generators["mapping"])
    sources, counts = mapping.sources(i), samples.counts()
    drawn = None
    if mac.config.reuse_mode == "frequency":
        drawn = torch.tensor(sources)[torch.randint(len(sources), part.shape)]
    elif mac.config.reuse_mode == "sample":
        drawn = torch.full_like(part, sources[0])
    params = mac.network.params.data[i].clone().requires_grad_()
    log_rho, rho, _ = old_ratios(mac, samples, i, sources, rho_clip)
    cap = math.inf if rho_clip is None else rho_clip

    def unclipped(rows: Rows) -> Tensor:
        """min(rho, c) q X, with q = r / rho written out."""
        with torch.no_grad():
            log_old = rows.policy(mac, params).log_prob(rows.actions)
        q = (rows.policy(mac, params).log_prob(rows.actions) - log_old).exp()
        return -rows.weighted(q * (log_old - rows.log_prob).exp().clamp(max=cap) * rows.target).sum()

    def clipped(rows: Rows) -> Tensor:
        return clipped_loss(mac, params, rows, 0.2, 0.0, ClipStats(0.2, 3, CPU))

    def gradient(objective: Any, target: Tensor, log_rho: Tensor | None) -> Tensor:
        rows = reuse_rows(mac, MappingRow.of(mapping, i, samples), samples, target, counts, part, drawn, log_rho)
        return torch.autograd.grad(torch.stack([objective(r) for r in rows]).sum(), params)[0]

    return gradient(clipped, x * rho, log_rho), gradient(unclipped, x, None), gradient(clipped, x, None)


@both_networks
@every_mode
@pytest.mark.parametrize("rho_clip", [None, 1.1])
def test_at_the_old_policy_the_gradient_is_the_unclipped_one(rnn: bool, mode: str, rho_clip: float | None) -> None:
    common = {"reuse_scheme": "all", "reuse_lambda": 0.2, "reuse_mode": mode, "reuse_clip": "learner"}
    learner = make_learner("oappo", make_info(), use_rnn=rnn, reuse_rho_clip=rho_clip, **common)
    samples = samples_of(learner, make_batch(learner.mac))
    differ = 0.0
    for i in range(3):
        own, free, source = gradients(learner, samples, i, rho_clip)
        torch.testing.assert_close(own, free, rtol=0, atol=1e-10)
        differ = max(differ, float((source - free).abs().max()))
    assert differ > 1e-4, "the source's clip must bind somewhere, or the test says nothing"


@pytest.mark.parametrize("mode", ["weights", "frequency"])
def test_at_the_old_policy_the_gradient_is_the_unclipped_one_of_gaussians(mode: str) -> None:
    learner = make_learner("oappo", box_info(), reuse_scheme="all", reuse_mode=mode, reuse_clip="learner")
    samples = box_samples(learner)
    for i in range(3):
        own, free, _ = gradients(learner, samples, i, None)
        assert own.abs().max() > 1e-3
        torch.testing.assert_close(own, free, rtol=0, atol=1e-10)


def test_the_objective_by_hand() -> None:
    """Four rows of a uniform policy over two actions that the learner now takes with 0.6: q = 1.2 or 0.8."""
    learner = make_learner("oappo", make_info(1, n_actions=2), reuse_scheme="none")
    constant_policy(learner.mac, 0, [math.log(0.7), math.log(0.3)])
    # pi_old 1/2; mu 1/4 and 3/4 -> rho 2 and 2/3; q 1.4 and 0.6
    log_rho = torch.tensor([2.0, 2.0, 2 / 3, 2 / 3]).log()
    rows = Rows(
        inputs=torch.zeros(4, 5), avail=torch.ones(4, 2, dtype=torch.bool), actions=torch.tensor([0, 0, 1, 1]),
        log_prob=torch.tensor([0.25, 0.25, 0.75, 0.75]).log(), valid=torch.ones(4, dtype=torch.bool),
        target=log_rho.exp() * torch.tensor([1.0, -1.0, 1.0, -1.0]), weight=torch.ones(4),
        source=torch.zeros(4, dtype=torch.int64), log_rho=log_rho,
    )  # fmt: skip
    stats = ClipStats(0.2, 1, CPU)
    loss = clipped_loss(learner.mac, learner.mac.network.params[0], rows, 0.2, 0.0, stats)
    # X = 1: min(1.4, 1.2) 2; X = -1: min(-1.4, -1.2) 2; then min(0.6, 0.8) 2/3 and min(-0.6, -0.8) 2/3
    assert loss.item() == pytest.approx(-(1.2 * 2 - 1.4 * 2 + 0.6 * 2 / 3 - 0.8 * 2 / 3))
    found = stats.scalars()
    # the share clipped is of q; the ratio is of r = 0.7 / 0.25 and 0.3 / 0.75
    assert found["clip_frac"] == 1.0
    assert found["ratio_mean"] == pytest.approx((2.8 + 0.4) / 2)
    assert found["ratio_max"] == pytest.approx(2.8)


def test_what_is_logged_is_of_the_same_ratios() -> None:
    """Before any step the learner's own ratio is 1 everywhere; ratios of importance are those of the other clip."""
    logged = {}
    for clip in ("source", "learner"):
        learner = make_learner("oappo", make_info(), reuse_scheme="all", reuse_clip=clip, epochs=1)
        fix_order(learner, [0, 1, 2])
        logged[clip] = learner.train(make_batch(learner.mac), 0)
    (source, a), (own, b) = logged["source"], logged["learner"]
    for name in ("ratio_mean", "ratio_max", "approx_kl", "entropy"):
        assert own[name] == pytest.approx(source[name], abs=1e-9), name
    for name in ("ess", "ratio_mean", "ratio_max"):
        np.testing.assert_allclose(b["reuse"][name], a["reuse"][name], rtol=1e-6)
    assert source["clip_frac"] > 0.05
    assert own["clip_frac"] == 0.0
    assert "reuse_rho_clip_frac" not in own


def test_truncation_is_counted() -> None:
    """The learner takes action 0 three times as often as the source: of its steps those with action 0 are cut."""
    learner = make_learner("oappo", make_info(2, n_actions=2), reuse_scheme="all", reuse_clip="learner",
                           reuse_rho_clip=1.2)  # fmt: skip
    constant_policy(learner.mac, 0, [math.log(0.75), math.log(0.25)])
    constant_policy(learner.mac, 1, [math.log(0.25), math.log(0.75)])
    batch = make_batch(learner.mac)
    samples = samples_of(learner, batch)
    first = (samples.actions == 0) & samples.valid
    # learner 0 on agent 1's actions 0, learner 1 on agent 0's actions 1: rho = 3
    cut = first[:, 1].sum() + (samples.valid & ~first)[:, 0].sum()
    scalars, _ = learner.train(batch, 0)
    assert scalars["reuse_rho_clip_frac"] == pytest.approx(float(cut / samples.valid.sum()))
    log_rho, rho, counts = old_ratios(learner.mac, samples, 0, [0, 1], 1.2)
    assert (log_rho[:, 0] == 0).all()
    assert rho.max().item() == 1.2
    assert counts[1].item() == samples.valid[:, 1].sum()


# -- Condition 1 between epochs ----------------------------------------------------------------------------------


def spied(learner: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, list[float], set[int]]]:
    """Learner, row of M and sources in use at each epoch of an update."""
    seen: list[tuple[int, list[float], set[int]]] = []
    known: list[tuple[Rows, MappingRow]] = []  # rows of a whole batch are gathered once for several epochs

    def gathered(mac: Any, row: MappingRow, *rest: Any) -> Iterator[Rows]:
        for rows in reuse_rows(mac, row, *rest):
            known.append((rows, row))
            yield rows

    def evaluated(mac: Any, params: Tensor, rows: Rows, *rest: Any) -> Tensor:
        (row,) = (row for one, row in known if one is rows)
        seen.append((row.learner, row.share.tolist(), set(rows.source.tolist())))
        return clipped_loss(mac, params, rows, *rest)

    monkeypatch.setattr(oappo, "reuse_rows", gathered)
    monkeypatch.setattr(oappo, "clipped_loss", evaluated)
    return seen


def alike(**overrides: Any) -> Any:
    """Three agents of one policy, updated in their order: every distance is 0."""
    learner = make_learner("oappo", make_info(), reuse_check="candidate", **overrides)
    set_policies(learner.mac, parameters(learner)["policies"][:1].expand(3, -1))
    fix_order(learner, [0, 1, 2])
    return learner


@both_networks
@pytest.mark.parametrize("mode", ["weights", "frequency"])
@pytest.mark.parametrize("reuse_lambda", [0.7, 0.0])
def test_sources_that_a_candidate_leaves_behind_are_dropped(
    rnn: bool, mode: str, reuse_lambda: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = alike(use_rnn=rnn, reuse_mode=mode, reuse_lambda=reuse_lambda, reuse_sigma=1e-13, epochs=3)
    seen = spied(learner, monkeypatch)
    scalars, arrays = learner.train(make_batch(learner.mac), 0)
    for i in range(3):
        rows = [(row, sources) for k, row, sources in seen if k == i]
        before = arrays["reuse"]["M"][i].tolist()
        assert len(rows) == 3
        assert rows[0][0] == pytest.approx(before)
        # after its first step a learner is on its own
        for row, sources in rows[1:]:
            assert row == np.eye(3)[i].tolist()
            assert sources == {i}
    assert (arrays["reuse"]["M"] > 0).sum() >= 6
    np.testing.assert_array_equal(arrays["reuse"]["M_used"], np.eye(3))
    assert scalars["reuse_dropped"] == 1.0
    assert torch.isfinite(parameters(learner)["policies"]).all()


def test_the_share_of_a_dropped_source_goes_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Agent 2 leaves reach after the first epoch, agent 1 after the third."""
    learner, broken = alike(epochs=5, reuse_sigma=1.0), iter([[2], [], [1], [], *[[]] * 8])
    monkeypatch.setattr(learner.mac, "violators", lambda *_: next(broken))
    seen = spied(learner, monkeypatch)
    scalars, arrays = learner.train(make_batch(learner.mac, dead=False), 0)
    rows = [row for i, row, _ in seen if i == 0]
    expected = [[0.7, 0.15, 0.15], [0.7, 0.3, 0.0], [0.7, 0.3, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    np.testing.assert_allclose(rows, expected)
    np.testing.assert_allclose(arrays["reuse"]["M"][0], [0.7, 0.15, 0.15], rtol=1e-6)
    np.testing.assert_allclose(arrays["reuse"]["M_used"], [[1, 0, 0], [0.15, 0.7, 0.15], [0.15, 0.15, 0.7]], rtol=1e-6)
    assert scalars["reuse_dropped"] == pytest.approx(2 / 6)


def test_after_a_drop_the_update_goes_on_as_with_that_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same optimiser: two epochs with the whole row and one with own experience, written out."""
    learner = alike(epochs=3, reuse_sigma=1.0)
    broken = iter([[], [1, 2], *[[]] * 4])
    monkeypatch.setattr(learner.mac, "violators", lambda *_: next(broken))
    batch = make_batch(learner.mac)
    start, samples = parameters(learner)["policies"][0], samples_of(learner, batch)
    learner.train(batch, 0)
    params = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([params], lr=learner.config.lr, eps=learner.config.optim_eps)
    for row in ([0.7, 0.15, 0.15], [0.7, 0.15, 0.15], [1.0, 0.0, 0.0]):
        loss = torch.zeros(())
        for j, share in enumerate(row):
            v = samples.valid[:, j]
            policy = learner.mac.policy(params, samples.inputs[v, j], samples.avail[v, j])
            r, x = (policy.log_prob(samples.actions[v, j]) - samples.log_prob[v, j]).exp(), samples.advantage[v, j]
            gain = torch.minimum(r * x, r.clamp(0.8, 1.2) * x) + learner.config.entropy_coef * policy.entropy()
            loss = loss - share * gain.mean()
        optimiser.zero_grad()
        loss.backward()
        assert params.grad is not None
        params.grad.mul_((learner.config.grad_norm_clip / (params.grad.norm() + 1e-6)).clamp(max=1.0))
        optimiser.step()
    torch.testing.assert_close(parameters(learner)["policies"][0], params.detach(), rtol=0, atol=1e-8)


def test_in_sample_mode_the_learners_update_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = alike(reuse_mode="sample", reuse_lambda=0.01, reuse_sigma=1e-13, epochs=3)
    seen = spied(learner, monkeypatch)
    scalars, arrays = learner.train(make_batch(learner.mac), 0)
    others = [i for i in range(3) if arrays["reuse"]["e"][i] != i]
    assert others
    for i in range(3):
        assert len([k for k, *_ in seen if k == i]) == (1 if i in others else 3)
    assert scalars["reuse_dropped"] == 1.0


@every_mode
@pytest.mark.parametrize("more", [{"reuse_sigma": 1e9, "epochs": 3}, {"reuse_sigma": 0.5, "epochs": 1}], ids=str)
def test_nothing_dropped_is_the_check_before(mode: str, more: dict[str, Any]) -> None:
    """Within any sigma, and with one epoch, after which nothing is checked: bit for bit."""
    a = make_learner("oappo", make_info(), reuse_mode=mode, reuse_check="candidate", **more)
    b = make_learner("oappo", make_info(), reuse_mode=mode, **more)
    for k in range(2):
        batch = make_batch(a.mac, seed=k)
        scalars, _ = a.train(batch, 0)
        b.train(batch, 0)
        assert_same(a, b, 0)
        assert scalars["reuse_dropped"] == 0.0


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"reuse_rho_clip": 2.0},
         "reuse_rho_clip=2 truncates the weights of reuse_clip=learner; with reuse_clip=source leave it null."),
        ({"reuse_check": "candidate", "reuse_scheme": "all"},
         "reuse_check=candidate drops sources by Condition 1, which reuse_scheme=all does not have: use "
         "reuse_scheme=adaptive_kl or reuse_check=before."),
    ],
)  # fmt: skip
def test_keys_without_an_effect_are_refused(more: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        OAPPOLearner.check(values("oappo", **more), make_info())
    assert str(caught.value) == sentence
