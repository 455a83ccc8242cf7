"""ROMA: its losses by hand, its network by loops, what it reduces to, resume, and whole runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from oamarl.learners.roles.losses import divergence, entropy, identifiability, log_densities, specialisation
from oamarl.main import main
from oamarl.modules.agents.roles import RoleConfig, RoleNetwork
from oamarl.modules.stack import Inputs
from oamarl.utils.errors import UserError

from learner_tools import double, make_batch, make_info, make_learner, through_a_file, with_garbage
from run_tools import assert_same, assert_same_run, train, untimed

SMALL: dict[str, Any] = {
    "batch_size": 4, "buffer_size": 20, "standardise_rewards": False, "updates_per_step": None, "grad_norm_clip": 1e9,
}  # fmt: skip
NONE = {"role_entropy_coef": 0.0, "role_kl_coef": 0.0, "role_dis_coef": 0.0}


def learner_of(**more: Any) -> Any:
    return make_learner("roma", make_info(3), **{**SMALL, **more})


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# -- losses ----------------------------------------------------------------------------------------------------------


def test_entropy_and_divergence_are_those_of_gaussians() -> None:
    mean, other = normal(5, 2), normal(5, 2, seed=1)
    var, other_var = normal(5, 2, seed=2).exp(), normal(5, 2, seed=3).exp()
    p, q = Normal(mean, var.sqrt()), Normal(other, other_var.sqrt())
    torch.testing.assert_close(entropy(var), p.entropy().sum(-1))
    torch.testing.assert_close(divergence(mean, var, other, other_var), kl_divergence(p, q).sum(-1))
    # one number, by hand: variances 1 and 4, means 2 apart
    one = torch.ones(1, 1)
    assert float(divergence(0 * one, one, 2 * one, 4 * one)) == pytest.approx(0.5 * (0.25 + 1.0 - 1.0 + math.log(4.0)))


def test_identifiability_by_hand() -> None:
    """Two agents, one of which decides nothing; then the largest value that counts."""
    mean, var = torch.zeros(2, 1), torch.tensor([[1.0], [7.0]])
    guess, guess_var = torch.tensor([[2.0], [9.0]]), torch.tensor([[4.0], [1.0]])
    h, kl = 0.5 * math.log(2 * math.pi * math.e), 0.5 * (0.25 + math.log(4.0))
    valid = torch.tensor([True, False])
    found = identifiability((mean, var), (guess, guess_var), valid, 0.3, 2.0)
    assert float(found) == pytest.approx(math.log(1 + math.exp(0.3 * h + 2.0 * kl)))
    largest = identifiability((mean, var), (guess, guess_var), valid, 1e9, 0.0)
    assert float(largest) == pytest.approx(2000.0)


def test_log_densities_by_loops() -> None:
    mean, var, roles = normal(3, 2), normal(3, 2, seed=1).exp(), normal(3, 2, seed=2) * 3
    roles[2] = 100.0  # so far away that the least value counts
    found = log_densities(mean, var, roles)
    for i in range(3):
        for j in range(3):
            log_p = Normal(mean[i], var[i].sqrt()).log_prob(roles[j]) + 13.9
            assert float(found[i, j]) == pytest.approx(float(log_p.clamp(min=-13.9).mean()), rel=1e-5)
    assert float(found[0, 2]) == pytest.approx(-13.9)


def test_specialisation_by_loops() -> None:
    information, unlike = normal(4, 3, 3), normal(4, 3, 3, seed=1).abs()
    valid = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 1], [0, 0, 0]], dtype=torch.bool)
    found = specialisation(information, unlike, valid, 0.7)
    for s in range(4):
        there = [i for i in range(3) if valid[s, i]]
        total = 0.0
        for i in there:
            m, d = ([float(x[s, i, j]) for j in there] for x in (information, unlike))
            m, d = ([(y - min(x)) / (max(x) - min(x) + 1e-12) for y in x] for x in (m, d))
            total += sum(d) - 0.7 * sum(min(a + b, 1.0) for a, b in zip(m, d, strict=True))
        assert float(found[s]) == pytest.approx(total / max(len(there), 1) / 3, abs=1e-5)


def test_agents_that_share_a_role_and_those_that_are_unlike_cost_least() -> None:
    """Two agents: the best is that of each pair exactly one of the two scaled numbers is 1."""
    valid = torch.ones(2, dtype=torch.bool)
    near, far = torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    best = specialisation(near, far, valid, 1.0)
    for information, unlike in ((near, near), (far, far)):
        assert float(best) < float(specialisation(information, unlike, valid, 1.0))


# -- the network -----------------------------------------------------------------------------------------------------


def test_values_and_roles_by_loops() -> None:
    with double(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = RoleNetwork(Inputs(4), 3, RoleConfig(hidden_dim=5, role_dim=2, role_hidden_dim=6))
        x, hidden = torch.randn(3, 2, 4), torch.zeros(2, 5)
        out, _ = net(x, hidden)
        found, _ = net.features(x, hidden)
        for r in range(2):
            h = hidden[r : r + 1]
            for t in range(3):
                p, q = net.encoder(x[t, r]), net.inference(torch.cat([h[0], x[t, r]]))
                h = net.rnn(torch.relu(net.fc1(x[t, r]))[None, None], h[None])[1][0]
                layer = net.decoder(p[:2]).view(6, 3)
                torch.testing.assert_close(out[t, r], h[0] @ layer[:5] + layer[5])
                torch.testing.assert_close(found[t, r], torch.cat([p, q, h[0]]))
        told, _ = net.features(x, hidden)
        told[..., 4:8].sum().backward()
        assert not net.rnn.weight_hh_l0.grad.any(), "what behaviour tells of roles does not change the memory"
        assert net.inference[0].weight.grad is not None
        roles = torch.randn(7, 4)
        assert torch.equal(net.unlike(roles, hidden)[0], net.dissimilarity(roles).abs())


# -- the learner -----------------------------------------------------------------------------------------------------


def test_drawn_roles_and_pairs_by_hand() -> None:
    learner = learner_of()
    batch = make_batch(learner.mac)
    learner._noise = normal(4, 7, 3, 3)
    q, features = learner.outputs(batch, learner.learned[0])
    mean, var, _, _, role = features.chunk(5, dim=-1)
    there = batch.filled
    assert float(var[:, :-1][there].min()) >= 0.002
    torch.testing.assert_close(role, mean + var.sqrt() * learner._noise)
    own = learner.mac.network.module
    w = {k: v[0] for k, v in learner.mac.network.layers(learner.learned[0].detach()).items()}
    own.load_state_dict(w)
    at = learner.mac.inputs(batch)[1, 0]  # the first step: the memory before it is 0
    h = own.rnn(torch.relu(own.fc1(at)).unsqueeze(0))[0][0]
    expected = own.values(torch.cat([role[1, 0], h], dim=-1), h)[0]
    torch.testing.assert_close(q[1, 0], expected.detach(), atol=1e-5, rtol=1e-4)
    found = learner.unlike(learner.learned[0], role)
    for i in range(3):
        for j in range(3):
            pair = torch.cat([role[1, 0, i], role[1, 0, j]])
            torch.testing.assert_close(found[1, 0, i, j], own.dissimilarity(pair).abs()[0], atol=1e-5, rtol=1e-4)


def test_further_losses_are_those_of_the_draw() -> None:
    learner = learner_of(role_kl_coef=0.5, role_dis_coef=2.0)
    batch = make_batch(learner.mac)
    learner._noise = normal(4, 7, 3, 3)
    params, mask = learner.learned, learner.mask(batch)
    q, features = learner.outputs(batch, params[0])
    found = learner.further_losses(batch, params, q, features, q, mask)
    mean, var, guess, guess_var, role = (x[1, 0] for x in features.chunk(5, dim=-1))
    valid = batch.valid[1, 0]
    told = identifiability((mean, var), (guess, guess_var), valid, 1e-4, 0.5)
    apart = specialisation(log_densities(mean, var, role), learner.unlike(params[0], role), valid, 1.0)
    torch.testing.assert_close(found["role_info_loss"][1, 0, 0], told)
    torch.testing.assert_close(found["role_dis_loss"][1, 0, 0], 2.0 * apart)
    assert not found["role_info_loss"][~batch.filled].any()


def test_with_a_constant_role_and_no_further_losses_it_is_qmix() -> None:
    """The same values, loss and gradients as QMIX with a network whose last layer is its own."""
    with double():
        roma = learner_of(**NONE, obs_last_action=True)
        qmix = make_learner("qmix", make_info(3), **SMALL, agent="plain_network:Plain", obs_last_action=True)
        batch = make_batch(qmix.mac)
        batch = type(batch).of({n: x.double() if x.is_floating_point() else x for n, x in batch.named().items()})
        with torch.no_grad():
            mine, other = (x.mac.network.layers(x.mac.network.params.data) for x in (roma, qmix))
            for name in ("fc1.weight", "fc1.bias", *(n for n in other if n.startswith("rnn"))):
                mine[name].copy_(other[name])
            mine["decoder.2.weight"].zero_()
            layer = torch.cat([other["head.weight"][0].T, other["head.bias"]])
            mine["decoder.2.bias"].copy_(layer.flatten())
        for x in (roma, qmix):
            x.target_params[0].copy_(x.mac.network.params.detach())
        roma.mixer.params.data.copy_(qmix.mixer.params.data)
        roma.target_params[1].copy_(qmix.target_params[1])
        (a, _), (b, _) = (x.update(batch, torch.ones(4)) for x in (roma, qmix))
        constant = math.log(2.0)  # log(1 + exp(0)), which has no gradient
        assert a["td_error_abs"] == pytest.approx(b["td_error_abs"], rel=1e-9)
        assert a["loss"] == pytest.approx(b["loss"] + constant, rel=1e-9)
        mine, other = (x.mac.network.layers(x.mac.network.params.grad) for x in (roma, qmix))
        for name in ("fc1.weight", "rnn.weight_hh_l0", "rnn.bias_ih_l0"):
            torch.testing.assert_close(mine[name], other[name])
        layer = torch.cat([other["head.weight"][0].T, other["head.bias"]])
        torch.testing.assert_close(mine["decoder.2.bias"][0], layer.flatten())


def test_what_may_not_be_read_is_not() -> None:
    found = []
    for spoil in (False, True):
        learner = learner_of(role_dis_coef=0.5, role_kl_coef=0.1)
        for k in range(2):
            batch = make_batch(learner.mac, seed=k, dead=False)
            learner.train(with_garbage(batch, learner.mac) if spoil else batch, k)
        found.append(dict(learner.parameters()))
    for name, x in found[0].items():
        torch.testing.assert_close(x, found[1][name], msg=name)


def test_a_resumed_learner_goes_on_with_the_same_numbers() -> None:
    whole, again = learner_of(), learner_of(seed=5)
    for k in range(2):
        whole.train(make_batch(whole.mac, seed=k), 10 * k)
    again.mac.load_state_dict(through_a_file(whole.mac.state_dict()))
    again.load_state_dict(through_a_file(whole.state_dict()))
    kept = [(0, whole.replay.entries(0, whole.replay.newest))]
    again.replay.restore(through_a_file(whole.replay.state_dict()), kept)
    batch = make_batch(whole.mac, seed=9)
    first, second = whole.train(batch, 30), again.train(batch, 30)
    assert first[0] == second[0]
    assert_same(first[1], second[1])
    assert_same(whole.state_dict(), again.state_dict())


def test_roles_are_kept_a_hundred_times_a_run() -> None:
    learner = learner_of(t_max=1000)
    kept = [bool(learner.train(make_batch(learner.mac, seed=k), t)[1]) for k, t in enumerate((0, 4, 9, 10, 15, 21))]
    assert kept == [True, False, False, True, False, True]
    mean, deviation = learner._shown["mean"], learner._shown["deviation"]
    assert mean.shape == deviation.shape
    assert mean.shape[1:] == (3, 3)
    assert bool(mean.isnan().any()), "agents that have left have no role"
    assert bool((deviation[~deviation.isnan()] > 0).all())


def test_what_is_refused() -> None:
    with pytest.raises(UserError, match="use sharing=shared"):
        learner_of(sharing="separate")
    with pytest.raises(UserError, match="use agent=roma"):
        learner_of(agent="rnn")


# -- whole runs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{"mixer": None, "common_reward": False}, {"pr_beta": 0.3, "obs_last_action": True}])
def test_trains(more: dict[str, Any], tmp_path: Path) -> None:
    run = train(tmp_path, "roma", "toy_envs:EarlyEnd", {"limit": 7}, t_max=72, **more)
    points = [p["metrics"] for p in run.points]
    assert all(math.isfinite(v) for p in points for v in p.values())
    assert {"role_info_loss", "role_dis_loss"} <= set().union(*points)
    (_, arrays), *_ = run.arrays("roles")
    assert arrays["mean"].shape[1:] == (3, 3)


def test_twice_is_the_same(tmp_path: Path) -> None:
    a, b = (train(tmp_path / name, "roma", "toy_envs:EarlyEnd", {"limit": 7}, t_max=48, seed=5) for name in "ab")
    assert_same(untimed(a.points), untimed(b.points))
    assert_same(a.loop.learner.state_dict(), b.loop.learner.state_dict())


def test_the_two_step_game_is_learned(tmp_path: Path) -> None:
    """As QMIX does: 8 where a sum of values stays at 7."""
    run = train(
        tmp_path, "roma", "matrix", {"key": "two_step"}, t_max=3000, seed=1, backend="auto", batch_size_run=8,
        batch_size=32, buffer_size=2000, updates_per_step=0.1, hidden_dim=32, lr=0.005, standardise_rewards=False,
        target_update_interval_or_tau=20, epsilon_finish=1.0, td_lambda=None, gamma=1.0, test_interval=3000,
        test_nepisode=1, log_interval=3000,
    )  # fmt: skip
    assert run.result["test_greedy_return_mean"] == 8.0


def test_a_resumed_run_goes_on_with_the_same_numbers(tmp_path: Path) -> None:
    words = [
        "--config=roma", "with", "env=toy_envs:EarlyEnd", "env_args.limit=7", "seed=7", "use_cuda=False",
        "backend=serial", "batch_size_run=4", "hidden_dim=8", "log_interval=1", "test_interval=20",
        "test_nepisode=2", "checkpoint_interval=40", "buffer_size=30", "batch_size=8",
    ]  # fmt: skip
    assert main([*words, "t_max=200", f"local_results_path={tmp_path / 'whole'}"]) == 0
    assert main([*words, "t_max=100", f"local_results_path={tmp_path / 'parts'}"]) == 0
    (whole,), (first,) = (list((tmp_path / x).glob("sacred/*/*/1")) for x in ("whole", "parts"))
    second = f"local_results_path={tmp_path / 'parts'}"
    assert main([*words, "t_max=200", second, f"checkpoint_path={first}"]) == 0
    assert_same_run(whole, first.parent / "2")
