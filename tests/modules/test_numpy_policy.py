"""Policies in numpy against the same policies in torch, alone and in any company."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from oamarl.components.distributions import MaskedCategorical
from oamarl.controllers.actor import TorchNetwork
from oamarl.controllers.basic_mac import BasicMAC, MACConfig
from oamarl.envs.base import EnvInfo
from oamarl.modules.agents.rnn import Network, NetworkConfig
from oamarl.modules.kernels.numpy_policy import Inference, choose


class Other(Network):
    """A class of its own: torch evaluates it."""


def controller(sharing: Any, use_rnn: bool, n: int, agent: type[Network] = Network, **keys: Any) -> BasicMAC:
    own = keys.pop("own", 5)  # numbers that the last agent sees
    info = EnvInfo("toy", n, 5, 3, 4, 10, (*(5,) * (n - 1), own), (4,) * n)
    given = {"obs_agent_id": True, "obs_last_action": True, "standardise_obs": False, "feature_norm": False, **keys}
    given |= {"action_selector": None, "action_std": "free", "log_std_init": 0.0}
    given |= {"action_std_form": "exp", "std_x_coef": 1.0, "std_y_coef": 0.5}
    activation, layer_norm = given.pop("activation", "relu"), given.pop("layer_norm", False)
    net = NetworkConfig(16, use_rnn, activation, 1.0, "orthogonal", layer_norm)
    mac = BasicMAC(MACConfig(sharing=sharing, **given), agent, net, info, torch.Generator().manual_seed(3))
    with torch.no_grad():  # biases begin at zero, and would hide mistakes
        mac.network.params += 0.1 * torch.randn(mac.network.params.shape, generator=torch.Generator().manual_seed(4))
    return mac


def moment(slots: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    obs = rng.standard_normal((slots, n, 5), np.float32)
    return obs, rng.integers(-1, 4, (slots, n)), rng.standard_normal((slots, n, 16), np.float32)


@pytest.mark.parametrize("sharing", ["shared", "separate", "grouped"])
@pytest.mark.parametrize("use_rnn", [False, True])
@pytest.mark.parametrize(
    "keys",
    [
        {}, {"activation": "tanh"}, {"obs_agent_id": False}, {"obs_last_action": False}, {"standardise_obs": True},
        {"feature_norm": True}, {"feature_norm": True, "own": 3}, {"feature_norm": True, "standardise_obs": True},
        {"layer_norm": True}, {"layer_norm": True, "activation": "tanh"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("n", [1, 3, 6])
def test_numpy_and_torch_agree(sharing: Any, use_rnn: bool, keys: dict[str, Any], n: int) -> None:
    if sharing == "grouped":
        sharing = [0] * (n - n // 2) + [1] * (n // 2)
    mac = controller(sharing, use_rnn, n, **keys)
    if mac.normaliser is not None and "own" not in keys:
        mac.normaliser.obs_stats[0].update(3.0 + 2.0 * torch.randn(50, 5))
        mac.normaliser._refresh()
    actor = mac.actor().network
    assert isinstance(actor, Inference)
    obs, last, hidden = moment(3, n)
    obs[:, -1, keys.get("own", 5) :] = 0.0
    found, expected = actor(obs, last, hidden), TorchNetwork(mac)(obs, last, hidden)
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=2e-5)
    assert np.abs(found[0]).std() > 0.05
    assert (found[1] is hidden) is not use_rnn


@pytest.mark.parametrize("sharing", ["shared", "separate"])
@pytest.mark.parametrize("use_rnn", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize(
    "keys", [{}, {"feature_norm": True, "own": 4}, {"layer_norm": True}], ids=["plain", "feature_norm", "layer_norm"]
)
def test_a_slots_numbers_do_not_depend_on_the_others(sharing: str, use_rnn: bool, n: int, keys: dict[str, Any]) -> None:
    actor = controller(sharing, use_rnn, n, **keys).actor().network
    obs, last, hidden = moment(37, n)
    together = actor(obs, last, hidden)
    noise, avail = np.random.default_rng(0).gumbel(size=(37, n, 4)).astype(np.float32), np.ones((37, n, 4), bool)
    all_chosen = choose(together[0], avail, noise)
    for cut in (slice(0, 1), slice(5, 7), slice(1, 37), slice(36, 37)):
        alone = actor(obs[cut].copy(), last[cut].copy(), hidden[cut].copy())
        for x, y in zip(alone, together, strict=True):
            np.testing.assert_array_equal(x, y[cut])
        for x, y in zip(choose(alone[0], avail[cut], noise[cut]), all_chosen, strict=True):
            np.testing.assert_array_equal(x, y[cut])


def test_choosing_is_what_the_distribution_does() -> None:
    rng = np.random.default_rng(1)
    logits, noise = rng.standard_normal((2, 200, 3, 6), np.float32)
    avail = rng.random((200, 3, 6)) < 0.6
    avail[..., 2] = True
    policy = MaskedCategorical(torch.from_numpy(logits), torch.from_numpy(avail))
    for given, expected in ((noise, policy.sample(torch.from_numpy(noise))), (None, policy.mode())):
        actions, log_prob = choose(logits, avail, given)
        np.testing.assert_array_equal(actions, expected.numpy())
        np.testing.assert_allclose(log_prob, policy.log_prob(expected).numpy(), rtol=1e-5, atol=1e-6)
        assert np.take_along_axis(avail, actions[..., None], -1).all()


def test_numbers_by_hand() -> None:
    """Logits 0, ln 3 and an illegal one: probabilities 1/4, 3/4."""
    logits = np.array([[0.0, np.log(3.0), 9.0]], np.float32)
    actions, log_prob = choose(logits, np.array([[True, True, False]]), None)
    assert actions.tolist() == [1]
    np.testing.assert_allclose(np.exp(log_prob), [0.75], rtol=1e-6)
    noise = np.array([[2.0, 0.0, 50.0]], np.float32)  # 2 > ln 3
    actions, log_prob = choose(logits, np.array([[True, True, False]]), noise)
    assert actions.tolist() == [0]
    np.testing.assert_allclose(np.exp(log_prob), [0.25], rtol=1e-6)


def test_actions_are_legal_where_logits_are_not_numbers() -> None:
    logits = np.full((2, 4), np.nan, np.float32)
    avail = np.array([[False, True, True, False], [False, False, False, True]])
    with np.errstate(invalid="ignore"):
        actions, log_prob = choose(logits, avail, np.zeros((2, 4), np.float32))
    assert avail[[0, 1], actions].all()
    assert np.isnan(log_prob).all()


def test_large_gates_are_closed_without_a_word() -> None:
    mac = controller("shared", True, 2)
    with torch.no_grad():
        mac.network.params *= 1e4
    with np.errstate(over="ignore"):
        logits, hidden = mac.actor().network(*moment(2, 2))
    assert np.isfinite(logits).all()
    assert np.isfinite(hidden).all()


def test_networks_of_another_class_act_by_torch_with_the_same_policies() -> None:
    ours, theirs = controller("shared", True, 3), controller("shared", True, 3, agent=Other)
    assert isinstance(theirs.actor().network, TorchNetwork)
    for x, y in zip(ours.actor().network(*moment(2, 3)), theirs.actor().network(*moment(2, 3)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("own", [5, 3])
def test_constant_observations_are_zeros_and_the_caller_s_array_is_left_alone(own: int) -> None:
    actor = controller("shared", False, 2, feature_norm=True, own=own).actor().network
    obs, last, hidden = np.full((2, 2, 5), 0.7, np.float32), np.full((2, 2), -1), np.zeros((2, 2, 16), np.float32)
    obs[:, 1, own:] = 0.0
    before = obs.copy()
    np.testing.assert_array_equal(actor(obs, last, hidden)[0], actor(np.zeros_like(obs), last, hidden)[0])
    np.testing.assert_array_equal(obs, before)
