"""OAPPO and OATRPO under the rules that set themselves: reductions, what must not matter, memory, and a game whose
gradients can be enumerated."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from oamarl.components.generators import generator
from oamarl.components.updates.samples import Samples
from oamarl.envs.base import EnvInfo
from oamarl.learners.oappo import OAPPOLearner
from oamarl.utils.errors import UserError

from learner_tools import (
    assert_same,
    constant_policy,
    double,
    make_batch,
    make_info,
    make_learner,
    parameters,
    through_a_file,
    values,
)
from run_tools import assert_same as assert_equal
from run_tools import settings, train

both_networks = pytest.mark.parametrize("rnn", [False, True], ids=["ff", "gru"])
both_schemes = pytest.mark.parametrize("scheme", ["adaptive_bound", "adaptive_roles"])
every_mode = pytest.mark.parametrize("mode", ["weights", "frequency", "sample"])
both_methods = pytest.mark.parametrize("pair", [("oappo", "happo"), ("oatrpo", "hatrpo")], ids="=".join)

DIFFERENT = EnvInfo(
    name="different", n_agents=3, obs_size=5, state_size=4, n_actions=4, episode_limit=6, obs_sizes=(5, 4, 5),
    action_sizes=(4, 4, 3),
)  # fmt: skip


@pytest.fixture
def float64() -> Iterator[None]:
    with double():
        yield


# -- reductions --------------------------------------------------------------------------------------------------


@both_networks
@both_schemes
@both_methods
@every_mode
@pytest.mark.usefixtures("float64")
def test_with_every_source_barred_it_is_the_method_without_reuse(
    pair: tuple[str, str], scheme: str, rnn: bool, mode: str
) -> None:
    """Agents of different spaces: bit for bit."""
    common = {"use_rnn": rnn, "num_minibatches": 2}
    a = make_learner(pair[0], DIFFERENT, reuse_scheme=scheme, reuse_mode=mode, **common)
    b = make_learner(pair[1], DIFFERENT, **common)
    start = parameters(a)["policies"]
    for k in range(3):
        batch = make_batch(a.mac, seed=k)
        _, arrays = a.train(batch, 100 * k)
        b.train(batch, 100 * k)
        assert arrays["reuse"]["M"].tolist() == np.eye(3).tolist()
        assert_same(a, b, 0)
    assert (parameters(a)["policies"] - start).abs().max() > 1e-4


@both_schemes
@both_methods
@pytest.mark.usefixtures("float64")
def test_policies_without_a_common_action_learn_as_without_reuse(pair: tuple[str, str], scheme: str) -> None:
    a, b = make_learner(pair[0], make_info(), reuse_scheme=scheme), make_learner(pair[1], make_info())
    for learner in (a, b):
        for i in range(3):
            constant_policy(learner.mac, i, [60.0 * (k % 3 == i) for k in range(4)])
    batch = make_batch(a.mac, dead=False)
    batch = replace(batch, avail=torch.ones_like(batch.avail))
    _, arrays = a.train(batch, 0)
    b.train(batch, 0)
    assert arrays["reuse"]["M"].tolist() == np.eye(3).tolist()
    assert_same(a, b, 0)


@both_networks
@both_schemes
@pytest.mark.usefixtures("float64")
def test_one_agent_is_ppo(rnn: bool, scheme: str) -> None:
    common = {"use_rnn": rnn, "num_minibatches": 3, "obs_agent_id": False}
    a = make_learner("oappo", make_info(1), reuse_scheme=scheme, **common)
    b = make_learner("mappo", make_info(1), **common)
    for k in range(3):
        batch = make_batch(a.mac, seed=k)
        scalars, _ = a.train(batch, 100 * k)
        b.train(batch, 100 * k)
        assert_same(a, b)
        assert scalars["reuse_off_diagonal"] == 0.0


# -- what must not matter ------------------------------------------------------------------------------------------


@both_networks
@both_schemes
@pytest.mark.parametrize("algorithm", ["oappo", "oatrpo"])
@pytest.mark.usefixtures("float64")
def test_rewards_in_other_units_change_nothing(algorithm: str, scheme: str, rnn: bool) -> None:
    """A critic that is 0 at first: advantages are the returns, and standardised ones have no unit."""
    found = []
    for scale in (1.0, 8.0):
        learner = make_learner(
            algorithm, make_info(), reuse_scheme=scheme, use_rnn=rnn, critic_lr=1e-12, normalise_advantage=True
        )
        for network in (learner.value.network, learner.value.target):
            network.params.data.zero_()
        maps = []
        for k in range(3):
            batch = make_batch(learner.mac, seed=k)
            maps.append(learner.train(replace(batch, reward=scale * batch.reward), 0)[1]["reuse"]["M"])
        found.append((np.stack(maps), parameters(learner)["policies"]))
    np.testing.assert_allclose(found[0][0], found[1][0], atol=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=0, atol=1e-4)
    assert found[0][0][0, 0, 1:].max() > 0


# -- memory ----------------------------------------------------------------------------------------------------------


@both_networks
@pytest.mark.parametrize("algorithm", ["oappo", "oatrpo"])
def test_a_resumed_learner_remembers(rnn: bool, algorithm: str) -> None:
    a, b = (make_learner(algorithm, make_info(), reuse_scheme="adaptive_roles", use_rnn=rnn) for _ in range(2))
    for k in range(3):
        a.train(make_batch(a.mac, seed=k), 0)
    b.mac.load_state_dict(through_a_file(a.mac.state_dict()))
    b.load_state_dict(through_a_file(a.state_dict()))
    for k in range(3, 6):
        batch = make_batch(a.mac, seed=k)
        expected, found = a.train(batch, 0), b.train(batch, 0)
        assert expected[0] == found[0]
        for name, x in expected[1]["reuse"].items():
            np.testing.assert_array_equal(found[1]["reuse"][name], x)
        assert_same(a, b, 0)
    assert a.mac.roles.evidence.iterations == 6


def test_states_without_evidence_still_load() -> None:
    """Of runs from before there was any, and of other schemes."""
    for scheme in ("adaptive_kl", "adaptive_bound", "none"):
        a = make_learner("oappo", make_info(), reuse_scheme=scheme)
        a.train(make_batch(a.mac), 0)
        state = through_a_file(a.state_dict())
        assert state["reuse"] == {}
        for old in (state, {name: x for name, x in state.items() if name != "reuse"}):
            for later in (scheme, "adaptive_roles"):
                b = make_learner("oappo", make_info(), reuse_scheme=later)
                b.load_state_dict(old)
                if later == "adaptive_roles":
                    assert b.mac.roles.evidence.iterations == 0
    roles = make_learner("oappo", make_info(), reuse_scheme="adaptive_roles")
    roles.train(make_batch(roles.mac), 0)
    make_learner("oappo", make_info(), reuse_scheme="adaptive_kl").load_state_dict(roles.state_dict())


@pytest.mark.parametrize("more", [{}, {"use_rnn": True, "reuse_mode": "frequency"}], ids=str)
def test_workers_do_not_matter(more: dict[str, Any], tmp_path: Path) -> None:
    keys = {"t_max": 120, "test_nepisode": 0, "reuse_scheme": "adaptive_roles", **more}
    a = train(tmp_path / "a", "oappo", "toy_envs:EarlyEnd", {"limit": 7}, **keys)
    b = train(tmp_path / "b", "oappo", "toy_envs:EarlyEnd", {"limit": 7}, backend="process", workers=2, **keys)
    assert_equal(a.arrays("reuse"), b.arrays("reuse"))
    assert_equal(a.loop.mac.state_dict(), b.loop.mac.state_dict())
    assert_equal(a.loop.learner.state_dict(), b.loop.learner.state_dict())
    assert a.loop.mac.roles.evidence.iterations == 5


# -- every kind of policy and mapping ---------------------------------------------------------------------------------


@both_networks
@both_schemes
@every_mode
@pytest.mark.parametrize("algorithm", ["oappo", "oatrpo"])
@pytest.mark.parametrize("n_agents", [2, 8])
def test_what_is_logged(algorithm: str, mode: str, scheme: str, rnn: bool, n_agents: int) -> None:
    learner = make_learner(algorithm, make_info(n_agents), reuse_scheme=scheme, reuse_mode=mode, use_rnn=rnn)
    for k in range(2):
        scalars, arrays = learner.train(make_batch(learner.mac, seed=k), 0)
    found = arrays["reuse"]
    assert all(np.isfinite(x) for x in scalars.values())
    np.testing.assert_allclose(found["M"].sum(1), 1.0, rtol=1e-6)
    off = ~np.eye(n_agents, dtype=bool)
    assert scalars["reuse_own_share"] == pytest.approx(float(np.diag(found["M"]).mean()))
    assert scalars["reuse_bias_limit"] > 0
    if scheme == "adaptive_roles":
        assert scalars["reuse_role_mean"] == pytest.approx(float(found["role"][off].mean()), rel=1e-5)
        assert scalars["reuse_role_max"] == pytest.approx(float(found["role"][off].max()), rel=1e-5)
    else:
        assert "role" not in found
        assert "reuse_role_mean" not in scalars


@both_schemes
@pytest.mark.parametrize("env", ["toy_envs:EarlyEnd", "toy_envs:Ragged", "toy_envs:Target"])
@pytest.mark.parametrize(
    "more",
    [
        {"runner": "rollout", "rollout_length": 7},
        {"runner": "episode", "batch_size_run": 1, "batch_size": 1},
        {"runner": "episode", "batch_size_run": 1, "batch_size": 1, "use_rnn": True},
    ],
    ids=["segments", "one episode", "one episode, gru"],
)
def test_segments_and_single_episodes(scheme: str, env: str, more: dict[str, Any], tmp_path: Path) -> None:
    """Agents that leave, agents of different spaces, continuous actions."""
    run = train(tmp_path, "oappo", env, t_max=60, test_nepisode=0, reuse_scheme=scheme, **more)
    assert run.last("updates") >= 2
    for _, arrays in run.arrays("reuse"):
        np.testing.assert_allclose(arrays["M"].sum(1), 1.0, rtol=1e-6)
        if "role" in arrays:
            assert np.isfinite(arrays["role"]).all()
    assert all(np.isfinite(x) for p in run.points for x in p["metrics"].values())


def test_gaussian_policies() -> None:
    info = replace(
        make_info(n_actions=2), action_low=((-1.0, -1.0),) * 3, action_high=((1.0, 1.0),) * 3
    )  # fmt: skip
    learner = make_learner("oappo", info, reuse_scheme="adaptive_roles")
    mac, s = learner.mac, 60
    g = torch.Generator().manual_seed(1)
    obs, avail = torch.randn(s, 3, 5, generator=g), torch.ones(s, 3, 2, dtype=torch.bool)
    actions, log_prob = torch.zeros(s, 3, 2), torch.zeros(s, 3)
    with torch.no_grad():
        for j in range(3):
            policy = mac.policy(mac.network.params[j], obs[:, j], avail[:, j])
            actions[:, j] = policy.sample(torch.randn(s, 2, generator=g))
            log_prob[:, j] = policy.log_prob(actions[:, j])
    valid = torch.rand(s, 3, generator=g) < 0.8
    samples = Samples(obs, avail, actions, log_prob, valid, torch.randn(s, 3, generator=g), torch.arange(s) // 5)
    mapping = mac.mapping(samples, 5, generator(1, "kl"), generator(1, "mapping"))
    assert mapping.bound is not None
    assert mapping.bound.roles is not None
    assert np.isfinite(mapping.bound.roles).all()
    assert mac.roles.evidence.mean.shape == (3, 3, 9 * 4), "a hidden layer of 8 and 1, means and deviations"
    np.testing.assert_allclose(mapping.matrix.sum(1), 1.0)
    # a deviation for which every importance weight overflows says nothing, and nothing breaks
    mac.network.params.data[0, -2:] = -10.0
    far = replace(samples, log_prob=torch.where(torch.arange(3) == 1, -3e38, samples.log_prob))
    mapping = mac.mapping(far, 5, generator(1, "kl"), generator(1, "mapping"))
    assert np.isfinite(mac.roles.evidence.ratios()).all()
    assert np.isfinite(mapping.matrix).all()


@pytest.mark.parametrize("scheme", ["adaptive_bound", "adaptive_roles"])
def test_condition_1_is_eq_9s_alone(scheme: str) -> None:
    with pytest.raises(UserError, match=f"which reuse_scheme={scheme} does not have: use reuse_scheme=adaptive_kl"):
        OAPPOLearner.check(values("oappo", reuse_scheme=scheme, reuse_check="candidate"), make_info())


def test_a_scheme_that_there_is_not_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'adaptive_roles'"):
        settings("oappo", "maze", reuse_scheme="adaptive_role")


def test_the_default_is_adaptive_roles() -> None:
    for name in ("oappo", "oatrpo"):
        assert settings(name, "maze").values["reuse_scheme"] == "adaptive_roles"


# -- a game small enough to enumerate -------------------------------------------------------------------------

CONTEXTS, ACTIONS, EPISODES = 12, 3, 128


class RoleGame:
    """One step: all agents see the same of twelve contexts, the payoff is the sum of what each agent's action is worth
    to its role. All policies are equal and held still.

    Args:
        roles: each agent's role.
    """

    def __init__(self, roles: Sequence[int]) -> None:
        self.n = len(roles)
        info = EnvInfo(
            name="roles", n_agents=self.n, obs_size=CONTEXTS, state_size=CONTEXTS, n_actions=ACTIONS, episode_limit=1,
            obs_sizes=(CONTEXTS,) * self.n, action_sizes=(ACTIONS,) * self.n,
        )  # fmt: skip
        self.mac = make_learner("oappo", info, reuse_scheme="adaptive_roles", hidden_dim=16).mac
        self.mac.network.params.data[:] = self.mac.network.params.data[0].clone()
        self.g = torch.Generator().manual_seed(3)
        worth = torch.randn(max(roles) + 1, CONTEXTS, ACTIONS, generator=self.g)
        self.worth = (worth - worth.mean(-1, keepdim=True))[list(roles)]  # [N, C, A]
        with torch.no_grad():
            every = torch.ones(CONTEXTS, ACTIONS, dtype=torch.bool)
            self.probabilities = self.mac.policy(self.mac.network.params[0], torch.eye(CONTEXTS), every).log_probs.exp()

    def exact(self) -> Tensor:
        """[N, C, A] gradient of the mean standardised payoff by each agent's logits: every joint action, weighted."""
        found, chance, payoffs = torch.zeros(self.n, CONTEXTS, ACTIONS), [], []
        for c in range(CONTEXTS):
            for joint in itertools.product(range(ACTIONS), repeat=self.n):
                p = float(self.probabilities[c, list(joint)].prod()) / CONTEXTS
                payoff = float(sum(self.worth[i, c, a] for i, a in enumerate(joint)))
                chance.append(p)
                payoffs.append(payoff)
                for i, a in enumerate(joint):
                    found[i, c] += p * payoff * (torch.eye(ACTIONS)[a] - self.probabilities[c])
        p, x = np.array(chance), np.array(payoffs)
        return found / float(np.sqrt((p * x**2).sum() - (p * x).sum() ** 2))

    def play(self) -> tuple[Samples, Tensor]:
        """A batch, and the gradient [N, C, A] of each agent's experience."""
        context = torch.randint(CONTEXTS, (EPISODES,), generator=self.g)
        p = self.probabilities[context]
        actions = torch.multinomial(p, self.n, replacement=True, generator=self.g)
        payoff = sum(self.worth[i, context, actions[:, i]] for i in range(self.n))
        assert isinstance(payoff, Tensor)
        advantage = (payoff - payoff.mean()) / payoff.std()
        samples = Samples(
            torch.eye(CONTEXTS)[context].unsqueeze(1).expand(-1, self.n, -1), torch.ones(EPISODES, self.n, ACTIONS) > 0,
            actions, p.gather(1, actions).log(), torch.ones(EPISODES, self.n) > 0,
            advantage.unsqueeze(1).expand(-1, self.n), torch.arange(EPISODES),
        )  # fmt: skip
        scores = torch.eye(ACTIONS)[actions] - p.unsqueeze(1)  # [E, N, A]
        each = advantage.view(-1, 1, 1) * scores / EPISODES
        gradient = torch.zeros(CONTEXTS, self.n, ACTIONS).index_add_(0, context, each)
        return samples, gradient.transpose(0, 1)

    def follow(self, iterations: int) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
        """M and F over the iterations [iterations, N, N], and the mean squared error of the gradients by the last half
        of the mappings, by own experience and by all alike."""
        exact, maps, ratios = self.exact(), [], []
        errors: dict[str, list[float]] = {"rule": [], "own": [], "uniform": []}
        for k in range(iterations):
            samples, found = self.play()
            mapping = self.mac.mapping(samples, 1, generator(k, "kl"), generator(k, "mapping"))
            maps.append(mapping.matrix)
            assert mapping.bound is not None
            ratios.append(mapping.bound.roles)
            if k < iterations // 2:
                continue
            rows = {"rule": mapping.matrix, "own": np.eye(self.n), "uniform": np.full((self.n, self.n), 1 / self.n)}
            for name, m in rows.items():
                shared = torch.einsum("ij,jca->ica", torch.from_numpy(m).float(), found)
                errors[name].append(float((shared - exact).square().sum()))
        return np.stack(maps), np.stack(ratios), {name: float(np.mean(x)) for name, x in errors.items()}


def test_agents_of_one_role_come_to_share_alike() -> None:
    maps, ratios, error = RoleGame([0, 0, 0, 0]).follow(120)
    off = ~np.eye(4, dtype=bool)
    assert ratios[20:, off].mean() == pytest.approx(1.0, abs=0.2)
    assert maps[60:, off].mean() == pytest.approx(0.25, abs=0.04)
    assert maps[60:].mean(0).min() > 0.15
    assert np.diagonal(maps[0]).min() > np.diagonal(maps[-1]).max(), "unlike roles are presumed at first"
    assert error["rule"] < 0.5 * error["own"]
    assert error["rule"] < 1.5 * error["uniform"]


def test_agents_of_two_roles_part() -> None:
    maps, ratios, error = RoleGame([0, 0, 1, 1]).follow(60)
    role = np.array([0, 0, 1, 1])
    unlike = role[:, None] != role
    mates = ~unlike & ~np.eye(4, dtype=bool)
    assert ratios[20:, unlike].min() > 5.0
    assert ratios[20:, mates].mean() == pytest.approx(1.0, abs=0.3)
    own = np.diagonal(maps, axis1=1, axis2=2)[:, :, None]
    assert (maps / own)[20:, unlike].max() < 0.01
    assert maps[30:, mates].mean() > 0.25, "those of one role stay"
    assert error["rule"] < 0.75 * error["own"]
    assert error["rule"] < 0.75 * error["uniform"]


def test_three_agents_of_three_roles_learn_by_themselves() -> None:
    maps, _, error = RoleGame([0, 1, 2]).follow(60)
    off = ~np.eye(3, dtype=bool)
    assert maps[30:, off].max() < 0.05
    assert error["rule"] < 1.05 * error["own"]
    assert error["rule"] < 0.9 * error["uniform"]
