"""MAPTF's options: which are followed by hand, their targets by loops, and where terminations go."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from oamarl.components.generators import generator
from oamarl.learners.transfer.options import OptionConfig, Options
from oamarl.learners.transfer.transitions import Transitions

from learner_tools import make_batch, make_info, make_learner, through_a_file

CONFIG = OptionConfig(
    transfer_coef=2.0, transfer_steps=100, option_epsilon_finish=0.1, option_epsilon_anneal=10, option_xi=0.01,
    option_lr=0.01, option_feature_lr=0.01, option_recon_coef=0.5, option_features=4, option_hidden_dim=8,
    option_batch_size=8, option_target_interval=2,
)  # fmt: skip


def make_options(n: int = 3, *, seed: int = 1, **more: Any) -> Options:
    return Options(
        replace(CONFIG, **more), make_info(n), gamma=0.9, clip=1e9, eps=1e-8, device=torch.device("cpu"), seed=seed
    )


def transitions(n: int = 3, s: int = 7, seed: int = 0) -> Transitions:
    g = torch.Generator().manual_seed(seed)
    obs = torch.randn(2, s, n, 5, generator=g)
    held = torch.randint(n, (s, n), generator=g)
    agree = (torch.rand(s, n, n, generator=g) < 0.4) | (held.unsqueeze(-1) == torch.arange(n))
    ended = torch.rand(s, 1, generator=g).expand(s, n) < 0.3
    valid = torch.rand(s, n, generator=g) < 0.8
    return Transitions(obs[0], obs[1], torch.randn(s, n, generator=g), ended, valid, held, agree)


def test_weights_and_shares_by_hand() -> None:
    options = make_options()
    assert options.weight(100) == pytest.approx(1.0)
    assert options.weight(0) == pytest.approx(2.0 * (0.5 + math.tanh(3.0) / 2))
    assert options.weight(150) == pytest.approx(2.0 * (0.5 + math.tanh(-1.5) / 2))
    assert [options.epsilon(t) for t in (0, 5, 10, 99)] == pytest.approx([1.0, 0.55, 0.1, 0.1])


def test_values_are_successor_features_times_weights() -> None:
    options, obs = make_options(), transitions().obs
    q, beta = options.values(obs)
    phi, _, w = options.features(options.features.params, obs)
    m, ends = options.successors(options.successors.params, phi)
    assert q.shape == beta.shape == (7, 3, 3)
    for i in range(3):
        for o in range(3):
            torch.testing.assert_close(q[:, i, o], m[:, i, o] @ w[i])
    assert torch.equal(beta, ends)
    other = options.successors(options.successors.params, phi.flip(1))[0]
    assert not torch.allclose(other.flip(1), m), "agents have successor features of their own"


def test_targets_by_loops() -> None:
    """phi(s) + gamma U(s', o), the best option by the network, its worth by the target one; nothing after the end."""
    options, seen = make_options(), transitions()
    options.target_params.add_(
        0.3 * torch.randn(options.target_params.shape, generator=torch.Generator().manual_seed(5))
    )
    with torch.no_grad():
        phi, _, w = options.features(options.features.params, seen.obs)
        then = options.features(options.features.params, seen.following)[0]
        m, beta = options.successors(options.successors.params, then)
        slow, _ = options.successors(options.target_params, then)
        found = options.targets(phi, then, w, m, beta, seen.ended)
    for s in range(7):
        for i in range(3):
            best = int((m[s, i] @ w[i]).argmax())
            for o in range(3):
                b = beta[s, i, o]
                follows = (1 - b) * slow[s, i, o] + b * slow[s, i, best]
                expected = phi[s, i] + (0.0 if seen.ended[s, i] else 0.9) * follows
                torch.testing.assert_close(found[s, i, o], expected)


def test_losses_by_loops() -> None:
    options, seen = make_options(), transitions()
    phi, back, w = options.features(options.features.params, seen.obs)
    then = options.features(options.features.params, seen.following)[0]
    m = options.successors(options.successors.params, phi)[0]
    following, beta = options.successors(options.successors.params, then)
    target = options.targets(phi, then, w, following, beta, seen.ended)
    feature, (error, ends, shown) = options.feature_error(seen), options.option_errors(seen)
    for s in range(7):
        for i in range(3):
            missed = (seen.reward[s, i] - phi[s, i] @ w[i]) ** 2
            missed = missed + 0.5 * (back[s, i] - seen.obs[s, i]).square().mean()
            torch.testing.assert_close(feature[s, i], missed)
            each = [(target[s, i, o] - m[s, i, o]).square().mean() for o in range(3) if seen.agree[s, i, o]]
            torch.testing.assert_close(error[s, i], torch.stack(each).sum())
            o, q = int(seen.held[s, i]), following[s, i] @ w[i]
            torch.testing.assert_close(shown[s, i], beta[s, i, o])
            expected = torch.zeros(()) if seen.ended[s, i] else beta[s, i, o] * (q[o] - q.max() + 0.01)
            torch.testing.assert_close(ends[s, i], expected)


def test_a_worse_option_ends_more_often_and_the_best_one_less() -> None:
    options, seen = make_options(option_lr=0.003), transitions(s=64)
    seen = replace(seen, ended=torch.zeros_like(seen.ended), valid=torch.ones_like(seen.valid))
    q, before = options.values(seen.following)
    best = q.argmax(-1)
    for held, way in ((best, -1), (q.argmin(-1), 1)):
        options = make_options(option_lr=0.003)
        for _ in range(5):
            _, ends, _ = options.option_errors(replace(seen, held=held))
            options._step(1, options.successors, ends.sum())
        after = options.values(seen.following)[1]
        moved = (after - before).gather(-1, held.unsqueeze(-1)).mean()
        assert float(moved) * way > 0


def test_options_by_hand() -> None:
    """Where an episode begins or the option ends, the best one or any; from row to row of segments it continues."""
    options, info = make_options(option_epsilon_anneal=20), make_info(3)
    mac = make_learner("mappo_ns", info).mac
    batch = make_batch(mac, dead=False)
    drawn = generator(1, "options")
    q, beta = options.values(batch.obs[:, :-1])
    last: Tensor | None = None
    for begins in (True, False):
        if not begins:  # the same rows as segments that continue
            batch = replace(batch, before=torch.zeros_like(batch.actions[:, 0]))
        found = options.held(batch, 10)
        uniform, anyone = torch.rand(2, 4, 6, 3, generator=drawn), torch.randint(3, (4, 6, 3), generator=drawn)
        assert options.epsilon(10) == pytest.approx(0.55)
        for b in range(4):
            for i in range(3):
                now = None if last is None else int(last[b, i])
                for t in range(6):
                    fresh = bool(batch.begins[b, t]) or now is None or uniform[1, b, t, i] < beta[b, t, i, now]
                    if fresh:
                        now = int(anyone[b, t, i] if uniform[0, b, t, i] < 0.55 else q[b, t, i].argmax())
                    assert found[b, t, i] == now
        last = found[:, -1]


def test_updates_move_the_target_network_in_time_and_resume() -> None:
    options, again = make_options(), make_options(seed=7)
    options.update(transitions(seed=1))
    assert not torch.equal(options.target_params, options.successors.params)
    options.update(transitions(seed=2))
    assert torch.equal(options.target_params, options.successors.params)
    batch = make_batch(make_learner("mappo_ns", make_info(3)).mac, dead=False)
    options.held(batch, 3)
    again.load_state_dict(through_a_file(options.state_dict()))
    for one in (options, again):
        one.update(transitions(seed=3))
    assert torch.equal(options.held(batch, 5), again.held(batch, 5))
    assert options.update(transitions(seed=4)) == again.update(transitions(seed=4))
    new = make_options(seed=9)
    assert new.load_weights(through_a_file(options.state_dict())) == []
    assert torch.equal(new.target_params, options.successors.params)
    assert new.load_weights({}) == ["options"]
    assert new.load_weights(make_options(2).state_dict()) == ["options"]


def test_options_that_earn_more_are_found() -> None:
    """Observations say which option was followed; one option is rewarded: its value becomes the largest."""
    options = make_options(option_lr=0.02, option_feature_lr=0.02, option_target_interval=10)
    g = torch.Generator().manual_seed(0)
    for _ in range(150):
        held = torch.randint(3, (32, 3), generator=g)
        obs = torch.nn.functional.one_hot(held, 5).float()
        reward = (held == 1).float()
        agree = held.unsqueeze(-1) == torch.arange(3)
        none = torch.zeros(32, 3, dtype=torch.bool)
        following = torch.nn.functional.one_hot(held, 5).float()
        options.update(Transitions(obs, following, reward, none, ~none, held, agree))
    q, _ = options.values(torch.nn.functional.one_hot(torch.tensor([[1, 1, 1]]), 5).float())
    assert (q[0].argmax(-1) == 1).all()
    assert (q[0, :, 1] > 2.0).all(), "reward 1 again and again at gamma 0.9"


def test_the_first_of_some_transitions() -> None:
    seen = transitions()
    part = seen.first(3)
    assert [len(x) for x in (part.obs, part.following, part.reward, part.ended, part.valid, part.held)] == [3] * 6
    assert torch.equal(part.agree, seen.agree[:3])
    assert len(seen.first(100).obs) == 7
