"""Action selectors: epsilon-greedy among legal actions, what each is for, and how configurations name them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from oamarl.components.experience import Field
from oamarl.envs.base import EnvInfo
from oamarl.modules.acting import NetworkActor, UniformActor, one_by_one, random_actions
from oamarl.modules.action_selectors import EpsilonConfig, EpsilonGreedy, Multinomial, NoisyLogits, make_selector
from oamarl.modules.continuous_selectors import Gaussian, NoisyActions, NoisyConfig
from oamarl.modules.selector_contract import DRAW, Context  # fmt: skip
from oamarl.utils.errors import UserError

from run_tools import settings

DISCRETE = EnvInfo("toy", 2, 3, 4, 4, 5, (3, 3), (4, 4))
BOX = EnvInfo("box", 2, 3, 4, 2, 5, (3, 3), (2, 2), action_low=((-1.0,) * 2,) * 2, action_high=((1.0,) * 2,) * 2)
EPSILON = {"epsilon_start": 1.0, "epsilon_finish": 0.1, "epsilon_anneal_time": 100, "evaluation_epsilon": 0.25}
CONFIG = EpsilonConfig(**EPSILON)  # type: ignore[arg-type]
N = 40_000
VALUES = np.tile(np.array([[[1.0, 5.0, 3.0, 9.0]]], np.float32), (N, 1, 1))
LEGAL = np.tile(np.array([[[True, True, True, False]]]), (N, 1, 1))


def uniform(seed: int = 0) -> np.ndarray:
    selector = EpsilonGreedy(CONFIG)
    return DRAW[selector.noise](np.random.default_rng(seed), (N, 1, selector.width(4)))


@pytest.mark.parametrize(
    ("context", "epsilon"),
    [(Context(0), 1.0), (Context(50), 0.55), (Context(100), 0.1), (Context(10**9), 0.1), (Context(0, test=True), 0.25),
     (Context(0, test=True, greedy=True), 0.0)],
)  # fmt: skip
def test_epsilon_greedy_chooses_legal_actions_with_the_probability_that_it_tells(
    context: Context, epsilon: float
) -> None:
    selector = EpsilonGreedy(CONFIG)
    assert selector.epsilon(context) == pytest.approx(epsilon)
    actions, log_prob = selector.select(VALUES, LEGAL, None if context.greedy else uniform(), context)
    shares = np.bincount(actions.ravel(), minlength=4) / N
    expected = np.array([epsilon / 3, 1 - epsilon + epsilon / 3, epsilon / 3, 0])
    np.testing.assert_allclose(shares, expected, atol=0.01)
    assert shares[3] == 0, "an illegal action"
    np.testing.assert_allclose(np.exp(log_prob), expected[actions], rtol=1e-5)


def test_epsilon_greedy_tells_the_log_probability_of_each_choice_by_its_formula() -> None:
    """log(epsilon / L + (1 - epsilon) [a is the best]) as epsilon goes down, with any number of legal actions."""
    random = np.random.default_rng(3)
    selector = EpsilonGreedy(EpsilonConfig(**EPSILON))
    for t_env in (0, 30, 30, 100, 200):
        outputs, avail = random.normal(size=(50, 3, 4)).astype(np.float32), random.random((50, 3, 4)) < 0.5
        noise, context = random.random((50, 3, 5)).astype(np.float32), Context(t_env=t_env)
        actions, log_prob = selector.select(outputs, avail, noise, context)
        epsilon = selector.epsilon(context)
        best = np.where(avail, outputs, -np.inf).argmax(-1)
        legal = np.maximum(avail.sum(-1), 1)
        with np.errstate(divide="ignore"):
            expected = np.log(epsilon / legal + (1 - epsilon) * (actions == best))
        assert (actions != best).any()
        assert log_prob.dtype == np.float32
        np.testing.assert_allclose(log_prob, expected, rtol=1e-6)


def test_epsilon_greedy_shows_values_that_are_not_numbers() -> None:
    values = np.full((1, 2, 4), np.nan, np.float32)
    legal = np.array([[[False, True, True, False], [True] * 4]])
    actions, log_prob = EpsilonGreedy(CONFIG).select(values, legal, None, Context(greedy=True))
    assert actions.tolist() == [[1, 0]]
    assert np.isnan(log_prob).all()


def test_noise_around_a_deterministic_action() -> None:
    """tanh(1) = 0.76 with noise of 0.3 is beyond 1 in one of five draws, where it is 1; bounds are -1 and 5."""
    info = EnvInfo("box", 2, 3, 4, 2, 5, (3, 3), (2, 1), action_low=((-1.0,) * 2, (-1.0,)),
                   action_high=((5.0,) * 2, (5.0,)))  # fmt: skip
    selector = make_selector({"action_selector": "noisy", "act_noise": 0.3, "warmup_steps": 10}, info)
    assert isinstance(selector, NoisyActions)
    avail = np.tile(np.array([[[True, True], [True, False]]]), (N, 1, 1))
    outputs = np.ones((N, 2, 2), np.float32)
    drawn = DRAW[selector.noise](np.random.default_rng(0), (N, 2, selector.width(2)))

    def chosen(noise: Any, **context: Any) -> np.ndarray:
        actions, log_prob = selector.select(outputs, avail, noise, Context(**context))
        assert actions.dtype == np.float32
        assert not log_prob.any()
        assert not actions[:, 1, 1].any(), "a dimension that the agent lacks"
        return (actions[avail].astype(np.float64) - 2) / 3  # between -1 and 1 again

    mean = math.tanh(1.0)
    for quiet in (chosen(None, t_env=99, greedy=True), chosen(drawn, t_env=99, test=True), chosen(drawn, test=True)):
        np.testing.assert_allclose(quiet, mean, rtol=1e-6)
    noisy = chosen(drawn, t_env=10)
    assert noisy.max() == 1.0
    assert abs((noisy == 1.0).mean() - 0.5 * math.erfc((1 - mean) / 0.3 / 2**0.5)) < 0.01
    inner = noisy[noisy < mean]
    assert abs(((inner - mean) ** 2).mean() ** 0.5 - 0.3) < 0.01
    warm = chosen(drawn, t_env=9)
    assert (np.abs(np.histogram(warm, 10, (-1, 1))[0] / warm.size - 0.1) < 0.01).all()
    outputs[:, 0, 0] = np.nan
    actions, log_prob = selector.select(outputs, avail, drawn, Context(t_env=10))
    assert np.isfinite(actions).all()
    assert np.isnan(log_prob[:, 0]).all()
    assert not log_prob[:, 1].any()


def test_noise_on_logits_is_a_draw_of_the_softmax_and_uniform_at_first() -> None:
    selector = make_selector({"action_selector": "noisy", "act_noise": 0.3, "warmup_steps": 10}, DISCRETE)
    assert isinstance(selector, NoisyLogits)
    noise = DRAW[selector.noise](np.random.default_rng(0), (N, 1, 4))
    plain = Multinomial().select(VALUES, LEGAL, noise, Context())
    for context in (Context(10), Context(0, test=True)):
        for a, b in zip(selector.select(VALUES, LEGAL, noise, context), plain, strict=True):
            np.testing.assert_array_equal(a, b)
    actions, log_prob = selector.select(VALUES, LEGAL, noise, Context(9))
    np.testing.assert_allclose(np.bincount(actions.ravel(), minlength=4) / N, [1 / 3] * 3 + [0], atol=0.01)
    np.testing.assert_allclose(log_prob, -math.log(3), rtol=1e-6)


def test_the_scale_of_actions() -> None:
    """Bounds, of which some are infinite: centre and half the range."""
    inf = math.inf
    info = EnvInfo("box", 2, 3, 4, 4, 5, (3, 3), (4, 1), action_low=((-2.0, 3.0, -inf, -inf), (0.0,)),
                   action_high=((4.0, inf, 5.0, inf), (1.0,)))  # fmt: skip
    centre, half = info.action_scale()
    assert centre.tolist() == [[1.0, 4.0, 4.0, 0.0], [0.5, 0.0, 0.0, 0.0]]
    assert half.tolist() == [[3.0, 1.0, 1.0, 1.0], [0.5, 0.0, 0.0, 0.0]]
    has, rng = np.array([[True] * 4, [True, False, False, False]]), np.random.default_rng(0)
    drawn = np.stack([random_actions(info, has, rng) for _ in range(300)])
    np.testing.assert_allclose(drawn.min(0), centre - half, atol=0.1)
    np.testing.assert_allclose(drawn.max(0), centre + half, atol=0.1)
    with pytest.raises(UserError, match="act_noise"):
        settings("maddpg", "matrix", act_noise=-1)
    assert NoisyConfig(0.1, 0) == NoisyConfig(act_noise=0.1, warmup_steps=0)


@pytest.mark.parametrize(("key", "kind"), [("target_noise", "continuous"), ("gumbel_temperature", "discrete")])
def test_keys_of_the_other_kind_of_actions_are_said(key: str, kind: str) -> None:
    """Those of the command line; what the YAML has suits every environment."""
    given, plain = settings("maddpg", "matrix", **{key: 0.5}), settings("maddpg", "matrix")
    own, other = (BOX, DISCRETE) if kind == "continuous" else (DISCRETE, BOX)
    (said,) = given.of_other_actions(other)
    assert said.startswith(f"'{key}' has no effect in ")
    assert said.endswith(f"it is for {kind} ones.")
    assert given.of_other_actions(own) == plain.of_other_actions(other) == []


def test_null_is_chosen_by_the_action_space() -> None:
    assert isinstance(make_selector({"action_selector": None}, DISCRETE), Multinomial)
    form = {"action_std_form": "exp", "std_x_coef": 1.0, "std_y_coef": 0.5}
    assert isinstance(make_selector({"action_selector": None, **form}, BOX), Gaussian)
    assert isinstance(make_selector({"action_selector": "epsilon_greedy", **EPSILON}, DISCRETE), EpsilonGreedy)


@pytest.mark.parametrize(
    ("name", "info", "words"),
    [("gaussian", DISCRETE, "use action_selector=multinomial"), ("multinomial", BOX, "use action_selector=gaussian"),
     ("epsilon_gready", DISCRETE, "epsilon_greedy"), ("math:pi", DISCRETE, "has no width or noise or select")],
)  # fmt: skip
def test_wrong_selectors_get_a_sentence(name: str, info: EnvInfo, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_selector({"action_selector": name}, info)


def check(*asked: Any, **overrides: Any) -> None:
    settings(*asked, **overrides).check(DISCRETE)


def test_epymarls_word_and_keys() -> None:
    assert settings("mappo", "matrix", action_selector="soft_policies").values["action_selector"] == "multinomial"
    with pytest.raises(UserError, match="'epsilon_start' is not read"):
        settings("mappo", "matrix", epsilon_start=0.5)
    assert (
        settings("mappo", "matrix", action_selector="epsilon_greedy", epsilon_start=0.5).values["epsilon_start"] == 0.5
    )


@pytest.mark.parametrize("algorithm", ["mappo", "happo", "oappo"])
def test_learners_of_policies_refuse_epsilon_greedy_actions(algorithm: str) -> None:
    with pytest.raises(UserError, match="for learners of action values"):
        check(algorithm, "matrix", action_selector="epsilon_greedy")
    with pytest.raises(UserError, match="those of 'toy' are numbered"):
        check("mappo", "matrix", action_selector="gaussian")


def test_noise_has_the_distribution_that_its_name_says() -> None:
    rng = np.random.default_rng(0)
    means = {kind: float(draw(rng, (N, 2)).mean()) for kind, draw in DRAW.items()}
    assert means == pytest.approx({"gumbel": 0.5772, "normal": 0.0, "uniform": 0.5}, abs=0.02)
    assert math.isclose(float(DRAW["normal"](rng, (N, 2)).std()), 1.0, abs_tol=0.02)


# -- actors ------------------------------------------------------------------------------------------------------


class Leaky:
    """A network whose outputs depend on how many slots are evaluated together, as large products of torch do."""

    def __call__(self, obs: np.ndarray, last: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.repeat(obs.sum(-1, keepdims=True), 4, -1) * len(obs) + np.arange(4, dtype=np.float32), hidden


class Recording(Multinomial):
    """Keeps the logits."""

    fields = (Field("logits", ("N", "A"), "float32", "actor"),)

    def record(self, outputs: np.ndarray, avail: np.ndarray, actions: np.ndarray) -> dict[str, np.ndarray]:
        return {"logits": outputs}


def test_one_slot_at_a_time_no_number_depends_on_the_slots() -> None:
    rng = np.random.default_rng(0)
    obs, avail = rng.standard_normal((5, 2, 3), np.float32), np.ones((5, 2, 4), bool)
    last, hidden, noise = np.full((5, 2), -1), np.zeros((5, 2, 1), np.float32), rng.gumbel(size=(5, 2, 4))
    actor = one_by_one(NetworkActor(Leaky(), Recording(), 4))
    together = actor(obs, avail, last, hidden, noise, Context())
    extras = actor.extras["logits"]
    for b in range(5):
        one = slice(b, b + 1)
        alone = actor(obs[one], avail[one], last[one], hidden[one], noise[one], Context())
        for x, y in zip(alone, together, strict=True):
            np.testing.assert_array_equal(x, y[one])
        np.testing.assert_array_equal(actor.extras["logits"], extras[one])


def test_uniform_actions_are_legal_and_their_probabilities_true() -> None:
    shape = (N, 2, 4)
    legal = np.broadcast_to(np.array([[True, True, False, True], [True, False, False, False]]), shape)
    given = np.zeros(shape, np.float32), legal, np.full((N, 2), -1), np.zeros((N, 2, 1), np.float32)
    actor = UniformActor(DISCRETE)
    actions, log_prob, _ = actor(*given, DRAW["gumbel"](np.random.default_rng(0), shape), Context())
    shares = np.bincount(actions[:, 0], minlength=4) / N
    np.testing.assert_allclose(shares, [1 / 3, 1 / 3, 0, 1 / 3], atol=0.01)
    np.testing.assert_allclose(np.exp(log_prob[0]), [1 / 3, 1], rtol=1e-6)
    box = UniformActor(BOX)
    actions, log_prob, _ = box(
        np.zeros((N, 2, 3), np.float32), np.ones((N, 2, 2), bool), np.zeros((N, 2, 2)), given[3],
        DRAW["uniform"](np.random.default_rng(0), (N, 2, 2)), Context(),
    )  # fmt: skip
    assert -1 <= actions.min() < -0.99
    assert 0.99 < actions.max() <= 1
    np.testing.assert_allclose(log_prob, 2 * np.log(0.5), rtol=1e-6)
