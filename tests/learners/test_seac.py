"""SEAC: eq. 4-5 by hand and by autograd, what it is without sharing, who shares with whom, and that it learns."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from oamarl.components.batch import Batch
from oamarl.learners import seac
from oamarl.learners.value import state_values
from oamarl.training.building import build
from oamarl.utils.errors import UserError

from learner_tools import (
    assert_same,
    assert_same_scalars,
    constant_policy,
    double,
    make_batch,
    make_info,
    make_learner,
    parameters,
    permuted,
    policy_on,
    samples_of,
    set_policies,
    with_garbage,
)
from run_tools import CPU, settings, train

both_networks = pytest.mark.parametrize("rnn", [False, True], ids=["ff", "gru"])
both_rewards = pytest.mark.parametrize("common_reward", [False, True], ids=["individual", "common"])


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    with double():
        yield


# -- the loss --------------------------------------------------------------------------------------------------


def constant_values(learner: Any, constants: list[float]) -> None:
    """Make critic i return constants[i] everywhere."""
    with torch.no_grad():
        learner.value.network.params.zero_()
        for k, x in enumerate(constants):
            learner.value.network.layers(learner.value.network.params.data[k])["head.b"].fill_(x)


def two_agents(**overrides: Any) -> tuple[Any, Batch]:
    """Two agents and one step: agent 0 takes action 1 for a reward of 1, agent 1 takes action 3 for 3."""
    learner = make_learner("seac", make_info(2), common_reward=False, entropy_coef=0.0, **overrides)
    for i, p in enumerate([[1 / 2, 1 / 4, 1 / 8, 1 / 8], [1 / 8, 1 / 8, 1 / 4, 1 / 2]]):
        constant_policy(learner.mac, i, [math.log(x) for x in p])
    constant_values(learner, [0.5, -1.0])
    batch = make_batch(learner.mac, lengths=(1,), dead=False)
    return learner, replace(
        batch, avail=torch.ones_like(batch.avail), actions=torch.tensor([[[1, 3]]]),
        log_prob=torch.tensor([[[1 / 4, 1 / 2]]]).log(), reward=torch.tensor([[[1.0, 3.0]]]),
    )  # fmt: skip


def test_the_loss_of_two_agents_by_hand() -> None:
    """A_00 = 1 - 0.5, A_01 = 3 - 0.5, A_11 = 3 + 1, A_10 = 1 + 1; r_01 = (1/8)/(1/2), r_10 = (1/8)/(1/4)."""
    learner, batch = two_agents(seac_coef=0.5)
    scalars, _ = learner.train(batch, 0)
    first = math.log(1 / 4) * 0.5 + 0.5 * (1 / 4) * math.log(1 / 8) * 2.5
    second = math.log(1 / 2) * 4 + 0.5 * (1 / 2) * math.log(1 / 8) * 2
    assert scalars["pg_loss"] == pytest.approx(-(first + second) / 2)
    critics = (0.5**2 + 0.5 * (1 / 4) * 2.5**2) + (4**2 + 0.5 * (1 / 2) * 2**2)
    assert scalars["critic_loss"] == pytest.approx(critics / 2)
    assert scalars["ratio_mean"] == pytest.approx(3 / 8)
    assert scalars["ratio_max"] == pytest.approx(1 / 2)
    h = sum(-p * math.log(p) for p in (1 / 2, 1 / 4, 1 / 8, 1 / 8))
    assert scalars["entropy"] == pytest.approx(h)
    assert learner.processed == 4


def test_the_gradient_of_two_agents_by_hand() -> None:
    """Of a softmax's logits, log pi(a) has the gradient 1[a] - pi; of a critic's bias, (V - y)^2 has 2 (V - y)."""
    learner, batch = two_agents(seac_coef=0.5, grad_norm_clip=1e9, value_loss_coef=0.25)
    learner.train(batch, 0)
    net, p = learner.mac.network, torch.tensor([1 / 2, 1 / 4, 1 / 8, 1 / 8])
    own, other = torch.tensor([0.0, 1, 0, 0]) - p, torch.tensor([0.0, 0, 0, 1]) - p
    expected = -0.5 * own - 0.5 * (1 / 4) * 2.5 * other
    torch.testing.assert_close(net.layers(net.params.grad[0])["head.b"], expected)
    critic = learner.value.network
    expected = 0.25 * 2 * torch.tensor([-0.5 - 0.5 * (1 / 4) * 2.5, -4 - 0.5 * (1 / 2) * 2])
    torch.testing.assert_close(critic.layers(critic.params.grad)["head.b"][:, 0], expected)


def written_targets(learner: Any, batch: Batch, i: int, k: int) -> Tensor:
    """[B, T] n-step returns of agent k's rewards with agent i's critic, or `source` agent k's, one step at a time."""
    i = k if learner.config.seac_targets == "source" else i
    c, found = learner.config, torch.zeros_like(batch.reward[..., 0])

    def v(obs: Tensor) -> float:
        return float(learner.value.network.single(learner.value.network.params[i], obs.unsqueeze(0)).detach())

    finals = {(int(b), int(t)): batch.final_obs[n] for n, (b, t) in enumerate(batch.final_index)}
    for b, t in batch.filled.nonzero().tolist():
        total, factor = 0.0, 1.0
        for step in range(t, t + c.q_nstep):
            total += factor * float(batch.reward[b, step, k])
            factor *= c.gamma
            if bool(batch.terminated[b, step]) or (
                not learner.value.common_reward and bool(batch.agent_terminated[b, step, k])
            ):
                factor = 0.0
            last = step + 1 == batch.filled.shape[1] or not batch.filled[b, step + 1]
            if factor == 0 or bool(batch.truncated[b, step]) or last:
                break
        after = finals.get((b, step), batch.obs[b, step + 1])[k]
        found[b, t] = total + (factor * v(after) if factor else 0.0)
    return found


def written_losses(learner: Any, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Eq. 4-5 pair by pair: the losses, and the parameters [N, P] of policies and critics that they depend on."""
    c, mac, n = learner.config, learner.mac, learner.info.n_agents
    policies = mac.network.params.detach().clone().requires_grad_()
    critics = learner.value.network.params.detach().clone().requires_grad_()
    steps, samples = batch.actions.shape[1], samples_of(learner, batch)
    match = learner.info.agents_match()
    pg, vf = torch.zeros(()), torch.zeros(())
    for i in range(n):
        for k in range(n):
            if not match[i, k]:
                continue
            weight = 1.0 if i == k else c.seac_coef
            policy = policy_on(mac, policies[i], samples, k)
            valid = batch.valid[:, :, k]
            log_prob, entropy = batch.log_prob.new_zeros(2, *valid.shape).unbind()
            log_prob = log_prob.masked_scatter(batch.filled, policy.log_prob(samples.actions[:, k]))
            entropy = entropy.masked_scatter(batch.filled, policy.entropy())
            ratio = torch.where(valid, log_prob - batch.log_prob[:, :, k], 0.0).exp().detach()
            y = written_targets(learner, batch, i, k)
            v = learner.value.network.single(critics[i], batch.obs[:, :steps, k].flatten(0, 1)).view_as(y)
            terms = ratio * log_prob * (y - v.detach())
            pg = pg - weight * terms[valid].sum() / max(int(valid.sum()), 1)
            if i == k:
                pg = pg - c.entropy_coef * entropy[valid].sum() / max(int(valid.sum()), 1)
            vf = vf + weight * (ratio * (y - v) ** 2)[batch.filled].mean()
    return pg, vf, policies, critics


@both_networks
@both_rewards
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("algorithm", ["seac own", "seac source", "ia2c own"])
def test_gradients_are_those_of_the_equations(rnn: bool, common_reward: bool, ragged: bool, algorithm: str) -> None:
    algorithm, _, targets = algorithm.partition(" ")
    more = {"seac_coef": 0.7, "seac_targets": targets} if algorithm == "seac" else {}
    learner = make_learner(
        algorithm, make_info(ragged=ragged), use_rnn=rnn, common_reward=common_reward, grad_norm_clip=1e9, q_nstep=3,
        entropy_coef=0.3, value_loss_coef=0.25, **more,
    )  # fmt: skip
    batch = make_batch(learner.mac, common_reward=common_reward)
    pg, vf, policies, critics = written_losses(learner, batch)
    pg.backward()
    (0.25 * vf).backward()
    scalars, _ = learner.train(batch, 0)
    torch.testing.assert_close(learner.mac.network.params.grad, policies.grad)
    torch.testing.assert_close(learner.value.network.params.grad, critics.grad)
    assert scalars["pg_loss"] == pytest.approx(float(pg.detach()) / 3)
    assert scalars["critic_loss"] == pytest.approx(float(vf.detach()) / 3)


@pytest.mark.parametrize("targets", ["own", "source"])
def test_segments_with_episodes_inside_them(targets: str, tmp_path: Path) -> None:
    """The batches of a run as shipped, with final observations in the middle of rows."""
    asked = settings("seac", "toy_envs:MixedLength", {"limit": 4}, runner="rollout", common_reward=False,
                     grad_norm_clip=1e9, head_gain=1.0, seac_targets=targets)  # fmt: skip
    runner, mac, learner = build(asked, CPU)
    try:
        batch, _ = runner.run()
        assert batch.actions.shape[:2] == (4, 5)
        assert 0 < len(batch.final_index) < 20
        batch = Batch(**{
            k: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x for k, x in vars(batch).items()
        })  # fmt: skip
        mac.network.double()
        learner.value.network.double()
        pg, vf, policies, critics = written_losses(learner, batch)
        pg.backward()
        (0.5 * vf).backward()
        learner.train(batch, 0)
        torch.testing.assert_close(mac.network.params.grad, policies.grad, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(learner.value.network.params.grad, critics.grad, rtol=1e-5, atol=1e-7)
    finally:
        runner.close()


# -- one method is another ---------------------------------------------------------------------------------------


@both_networks
@both_rewards
def test_without_sharing_it_is_one_a2c_for_each_agent(rnn: bool, common_reward: bool) -> None:
    """Agents that learn alone, each with a learner of its own, from the same experience."""
    common = {"use_rnn": rnn, "common_reward": common_reward, "seac_coef": 0.0, "lr": 0.01}
    team = make_learner("seac", make_info(), **common)
    alone = [make_learner("seac", make_info(1), **common) for _ in range(3)]
    for i, one in enumerate(alone):
        set_policies(one.mac, team.mac.network.params.detach()[i : i + 1])
        one.value.network.params.data.copy_(team.value.network.params.detach()[i : i + 1])
    for step in range(3):
        batch = make_batch(team.mac, seed=step, common_reward=common_reward)
        for i, one in enumerate(alone):
            one.train(permuted(batch, [i]), 0)
        team.train(batch, 0)
    together = parameters(team)
    for i, one in enumerate(alone):
        for name, params in parameters(one).items():
            torch.testing.assert_close(params[0], together[name][i], rtol=0, atol=1e-12)


@both_networks
def test_seac_without_sharing_is_ia2c_bit_for_bit(rnn: bool) -> None:
    common = {"use_rnn": rnn, "standardise_returns": True, "lr": 0.01}
    a, b = make_learner("seac", make_info(), seac_coef=0.0, **common), make_learner("ia2c", make_info(), **common)
    near = make_learner("seac", make_info(), seac_coef=1e-12, **common)
    for step in range(3):
        batch = make_batch(a.mac, seed=step)
        found, expected, close = (x.train(batch, 0)[0] for x in (a, b, near))
        assert found == expected
        assert_same(a, b, 0)
        assert_same(near, b, 1e-7)
        assert close["pg_loss"] == pytest.approx(found["pg_loss"])


@both_networks
@both_rewards
def test_ia2c_is_one_step_of_independent_ppo(rnn: bool, common_reward: bool) -> None:
    common: dict[str, Any] = {
        "use_rnn": rnn, "q_nstep": 4, "gae_lambda": None, "common_reward": common_reward, "lr": 0.01, "optim_eps": 1e-5,
        "activation": "tanh", "lr_schedule": "linear", "normalise_advantage": True, "standardise_returns": True,
    }  # fmt: skip
    # PPO's critics are fitted to the mean over agents
    a = make_learner("ia2c", make_info(), value_loss_coef=1 / 3, **common)
    b = make_learner("ippo_ns", make_info(), epochs=1, **common)
    start = parameters(a)["policies"]
    for step in range(3):
        batch = make_batch(a.mac, seed=step, common_reward=common_reward)
        found, expected = a.train(batch, 100 * step)[0], b.train(batch, 100 * step)[0]
        assert_same(a, b)
        # means over agents there, over steps here
        differ = {"entropy"}
        assert_same_scalars({k: x for k, x in found.items() if k not in differ}, expected)
    assert (parameters(a)["policies"] - start).abs().max() > 1e-3


@both_networks
def test_equal_policies_and_critics_pool_their_data(rnn: bool) -> None:
    """With lambda 1 each agent learns what one network for all would: the importance weights are 1."""
    common = {"use_rnn": rnn, "common_reward": False, "entropy_coef": 0.0, "grad_norm_clip": 1e9}
    apart, together = make_learner("seac", make_info(), **common), make_learner("snac", make_info(), **common)
    set_policies(apart.mac, together.mac.network.params.detach().expand(3, -1))
    apart.value.network.params.data.copy_(together.value.network.params.detach().expand(3, -1))
    batch = make_batch(together.mac, common_reward=False)
    assert apart.train(batch, 0)[0]["ratio_max"] == pytest.approx(1.0)
    together.train(batch, 0)
    for a, b in ((apart.mac, together.mac), (apart.value, together.value)):
        torch.testing.assert_close(a.network.params.grad, b.network.params.grad.expand(3, -1))


@both_rewards
@pytest.mark.parametrize("scaled", [False, True])
def test_equal_critics_make_equal_targets(common_reward: bool, scaled: bool) -> None:
    """Whose critic bootstraps does not matter then, nor without sharing."""
    more = {"common_reward": common_reward, "standardise_returns": scaled, "lr": 0.01}
    own, source = (make_learner("seac", make_info(), seac_targets=x, **more) for x in ("own", "source"))
    for learner in (own, source):
        learner.value.network.params.data.copy_(own.value.network.params.detach()[:1].clone().expand(3, -1))
    batch = make_batch(own.mac, common_reward=common_reward)
    for learner in (own, source):
        learner.train(batch, 0)
    assert_same(own, source, 1e-9)
    batch = make_batch(own.mac, seed=1, common_reward=common_reward)  # critics have parted
    for learner in (own, source):
        learner.train(batch, 0)
    assert (parameters(own)["critic"] - parameters(source)["critic"]).abs().max() > 1e-6
    own, source = (make_learner("seac", make_info(), seac_targets=x, seac_coef=0.0, **more) for x in ("own", "source"))
    assert own.train(batch, 0)[0] == source.train(batch, 0)[0]
    assert_same(own, source, 0)


@pytest.mark.parametrize("targets", ["own", "source"])
def test_gae_is_of_that_critic_too(targets: str) -> None:
    """lambda = 1 to the end of whole episodes is the n-step return with n as long as they are."""
    common = {"common_reward": False, "lr": 0.01, "seac_targets": targets}
    a = make_learner("seac", make_info(), q_nstep=50, **common)
    b = make_learner("seac", make_info(), q_nstep=None, gae_lambda=1.0, **common)
    for step in range(3):
        batch = make_batch(a.mac, seed=step, common_reward=False)
        a.train(batch, 0)
        b.train(batch, 0)
        assert_same(a, b, 1e-9)


@both_networks
@both_rewards
@pytest.mark.parametrize("scaled", [False, True])
def test_renaming_the_agents_renames_the_result(rnn: bool, common_reward: bool, scaled: bool) -> None:
    perm = [2, 0, 1]
    more = {"normalise_advantage": scaled, "standardise_returns": scaled, "standardise_rewards": scaled}
    a, b = (
        make_learner("seac", make_info(), use_rnn=rnn, lr=0.01, common_reward=common_reward, **more) for _ in range(2)
    )
    set_policies(b.mac, a.mac.network.params.detach()[perm])
    b.value.network.params.data.copy_(a.value.network.params.detach()[perm])
    for step in range(2):
        batch = make_batch(a.mac, seed=step, common_reward=common_reward)
        found, expected = b.train(permuted(batch, perm), 0)[0], a.train(batch, 0)[0]
        assert found == pytest.approx(expected, abs=1e-9)
    for name, params in parameters(b).items():
        torch.testing.assert_close(params, parameters(a)[name][perm], rtol=0, atol=1e-9)


# -- who shares with whom ------------------------------------------------------------------------------------------


def test_agents_of_unlike_spaces_do_not_share() -> None:
    a, b = (make_learner(name, make_info(ragged=True)) for name in ("seac", "ia2c"))
    batch = make_batch(a.mac)
    before = parameters(a)["policies"]
    a.train(batch, 0)
    b.train(batch, 0)
    for name, params in parameters(a).items():
        alone = parameters(b)[name]
        torch.testing.assert_close(params[2], alone[2], rtol=0, atol=1e-12)
        assert (params[:2] - alone[:2]).abs().amax(1).min() > 1e-6
    assert (parameters(a)["policies"] - before).abs().amax(1).min() > 0
    alone = make_learner("seac", make_info(2, ragged=True))
    scalars, _ = alone.train(make_batch(alone.mac), 0)
    assert scalars["ratio_mean"] == scalars["ratio_max"] == 1.0
    assert all(math.isfinite(x) for x in scalars.values())


@both_networks
def test_dead_agents_and_padding_add_nothing(rnn: bool) -> None:
    """What agents see when they are dead stays as it is: critics on own observations are fitted there too."""
    a, b = (make_learner("seac", make_info(), use_rnn=rnn, lr=0.01) for _ in range(2))
    for step in range(2):
        batch = make_batch(a.mac, seed=step)
        spoilt = replace(with_garbage(batch, a.mac, seed=step))
        seen = torch.cat([batch.filled, torch.zeros_like(batch.filled[:, :1])], dim=1)
        spoilt = replace(spoilt, obs=torch.where(seen[..., None, None], batch.obs, spoilt.obs))
        ends = batch.filled.sum(1)
        rows = torch.arange(len(ends))
        spoilt.obs[rows, ends] = batch.obs[rows, ends]
        assert not torch.equal(spoilt.obs, batch.obs)
        assert b.train(spoilt, 0)[0] == pytest.approx(a.train(batch, 0)[0], abs=1e-9)
        assert_same(b, a, 1e-12)


@both_networks
def test_an_agent_that_is_never_alive_learns_from_the_others(rnn: bool) -> None:
    learner = make_learner("seac", make_info(), use_rnn=rnn)
    before = parameters(learner)["policies"]
    scalars, _ = learner.train(make_batch(learner.mac, never=1), 0)
    assert all(math.isfinite(x) for x in scalars.values()), scalars
    assert (parameters(learner)["policies"] != before).any(1).all()


def test_pieces_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows beyond the limit go through the networks one piece after another, to the same gradient."""
    found, largest = [], 0
    for limit in (10**6, 20):
        monkeypatch.setattr(seac, "MAX_ROWS", limit)
        monkeypatch.setattr(state_values, "MAX_ROWS", limit)
        learner = make_learner("seac", make_info(), lr=0.01)
        batch, stacked = make_batch(learner.mac), learner.mac.network.stacked

        def spy(params: Tensor, x: Tensor, stacked: Any = stacked) -> Tensor:
            nonlocal largest
            largest = max(largest, x[..., 0].numel())
            return stacked(params, x)

        monkeypatch.setattr(learner.mac.network, "stacked", spy)
        largest = 0
        learner.train(batch, 0)
        found.append(learner)
    assert largest <= 20
    assert_same(found[0], found[1], 1e-12)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"sharing": "shared"}, "networks of their own: sharing=shared with critic_sharing=separate is refused"),
        ({"sharing": [0, 1, 1]}, r"sharing=\[0, 1, 1\]"),
        ({"critic_sharing": "shared"}, "critic_sharing=shared is refused"),
        ({"obs_agent_id": True}, "without agent ids: use obs_agent_id=False"),
        ({"critic_type": "cv_critic"}, "critic_type=cv_critic is refused, use critic_type=ac_critic"),
        ({"mac": "reuse_mac"}, "mac=reuse_mac is refused"),
        ({"use_rnn": True, "runner": "rollout"}, "runner=rollout is refused, use runner=parallel"),
    ],
    ids=str,
)
def test_what_cannot_be_shared_is_refused_and_works_without_sharing(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_learner("seac", make_info(), **overrides)
    if "mac" not in overrides:
        learner = make_learner("ia2c", make_info(), **overrides)
        scalars, _ = learner.train(make_batch(learner.mac), 0)
        assert "ratio_mean" not in scalars
        assert all(math.isfinite(x) for x in scalars.values())
    # one agent has nobody to share with
    make_learner("seac", make_info(1), **{k: v for k, v in overrides.items() if k not in ("mac", "sharing")})


def test_passes_over_a_batch_are_not_read() -> None:
    from oamarl.parts import resolve
    from oamarl.utils.schema.command_line import Request

    for name in ("epochs", "critic_epochs", "num_minibatches", "value_clip"):
        with pytest.raises(UserError, match=f"'{name}' is not read by 'seac'"):
            resolve(Request("seac", "maze", {name: 1}))


def test_epymarls_actor_critic_is_read(tmp_path: Path) -> None:
    """Its keys in its spelling; the learner is known by its name."""
    path = tmp_path / "theirs.yaml"
    path.write_text(
        "action_selector: soft_policies\nmask_before_softmax: True\nrunner: parallel\nbuffer_size: 10\n"
        "batch_size_run: 10\nbatch_size: 10\ntarget_update_interval_or_tau: 0.01\nlr: 0.0005\nhidden_dim: 128\n"
        "obs_agent_id: True\nobs_last_action: False\nobs_individual_obs: False\nagent_output_type: pi_logits\n"
        "learner: actor_critic_learner\nentropy_coef: 0.001\nstandardise_returns: False\nstandardise_rewards: True\n"
        "use_rnn: True\nq_nstep: 5\ncritic_type: ac_critic\nname: theirs\n"
    )
    from oamarl.parts import resolve
    from oamarl.utils.schema.command_line import Request

    asked = resolve(Request(str(path), "matrix", {}))
    assert asked.learner is seac.SEACLearner
    assert (asked.values["seac_coef"], asked.values["value_loss_coef"]) == (0.0, 1.0)


# -- it learns -------------------------------------------------------------------------------------------------------


def paid(learner: Any, iterations: int) -> np.ndarray:
    """[N] probabilities of action 1 after training where action 1 pays agent 0, and nothing pays any other agent."""
    info = learner.info
    for seed in range(iterations):
        batch = make_batch(learner.mac, seed=seed, lengths=[4] * 8, dead=False)
        reward = torch.zeros_like(batch.reward)
        reward[..., 0] = (batch.actions[..., 0] == 1).to(reward.dtype)
        learner.train(replace(batch, reward=reward), 0)
    obs = torch.randn(256, info.n_agents, info.obs_size, generator=torch.Generator().manual_seed(9))
    avail = torch.zeros(256, info.n_actions, dtype=torch.bool)
    avail[:, :2] = True
    net = learner.mac.network
    with torch.no_grad():
        return np.array([
            float(learner.mac.policy(net.params[i], obs[:, i], avail).log_probs.exp()[:, 1].mean())
            for i in range(info.n_agents)
        ])  # fmt: skip


def test_an_agent_learns_from_what_only_another_is_paid_for() -> None:
    def learn(coef: float) -> np.ndarray:
        more = {"seac_coef": coef, "lr": 0.003, "head_gain": 0.01, "common_reward": False, "gamma": 0.0, "q_nstep": 1}
        return paid(make_learner("seac", make_info(2), **more), 120)

    shared, alone = learn(1.0), learn(0.0)
    assert shared.min() > 0.9, shared
    assert alone[0] > 0.9, alone
    assert abs(alone[1] - 0.5) < 0.2, alone


@pytest.mark.parametrize("runner", ["parallel", "rollout"])
@pytest.mark.parametrize("algorithm", ["seac", "ia2c", "snac"])
def test_penalty_without_penalty_reaches_the_joint_optimum(algorithm: str, runner: str, tmp_path: Path) -> None:
    """k = 0: 10 for (0, 0) and (2, 2), 2 for (1, 1), else 0."""
    torch.set_default_dtype(torch.float32)
    run = train(
        tmp_path, algorithm, "matrix", {"key": "penalty", "k": 0}, backend="auto", t_max=9600, batch_size_run=32,
        hidden_dim=32, lr=0.003, log_interval=3200, test_interval=10**6, test_nepisode=1, seed=1, runner=runner,
    )  # fmt: skip
    assert run.result["test_greedy_return_mean"] == 10.0
    assert run.last("return_mean") > 7.0


@pytest.mark.parametrize("common_reward", [False, True])
@pytest.mark.parametrize("algorithm", ["seac", "ia2c", "snac"])
def test_trains_on_foraging_as_shipped(algorithm: str, common_reward: bool, tmp_path: Path) -> None:
    """Segments of five steps of episodes of six."""
    pytest.importorskip("lbforaging")
    torch.set_default_dtype(torch.float32)
    run = train(
        tmp_path, algorithm, "gymma", {"key": "lbforaging:Foraging-5x5-2p-1f-v3", "time_limit": 6}, t_max=200,
        runner="rollout", common_reward=common_reward,
    )  # fmt: skip
    assert run.last("updates") == 10
    numbers = [x for p in run.points for x in p["metrics"].values()]
    assert all(math.isfinite(x) for x in numbers)
    assert math.isfinite(run.last("return_mean" if common_reward else "agent_1_return_mean"))
