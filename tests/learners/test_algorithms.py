"""Every shipped algorithm, whole: it trains on everything, logs what it promises, and learns what it can learn."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oamarl.controllers.sharing import with_extras
from oamarl.envs.base import Arrays, EnvInfo
from oamarl.envs.matrix.matrix import payoff
from oamarl.training.building import build
from oamarl.utils.errors import UserError
from oamarl.utils.schema.layers import shipped

from learner_tools import one_step
from run_tools import (
    A2C,
    ALGORITHMS,
    CLIPPED,
    CPU,
    DETERMINISTIC,
    OFF_AGENT,
    ONE_PASS,
    PPO,
    PQN,
    Q_LEARNING,
    ROLES,
    TABULAR,
    TRANSFER,
    Trained,
    assert_same,
    settings,
    train,
    untimed,
)

EARLY = "toy_envs:EarlyEnd"  # three like agents that leave one after another
MIXED = "toy_envs:MixedLength"
RAGGED = "toy_envs:Ragged"

ENVS: dict[str, dict[str, Any]] = {
    EARLY: {"limit": 7},
    RAGGED: {"limit": 4},
    "matrix": {"key": "prop1", "n_agents": 4, "steps": 3},
    "maze": {"time_limit": 8},
}

ALWAYS = {
    "ep_length_mean", "return_mean", "return_std", "episode", "agent_steps", "updates", "processed_samples",
    "entropy", "agent_grad_norm", "lr",
    "critic_loss", "critic_grad_norm", "explained_variance", "td_error_abs", "target_mean", "value_mean",
    "wall_clock", "time_environment", "time_inference", "time_learning", "time_logging", "time_testing",
    "time_other",
}  # fmt: skip
OF_STEPS = {"approx_kl", "clip_frac"}
OF_CLIPPED = {"ratio_mean", "ratio_max", "entropy_coef"}
OF_A2C = {"pg_loss", "entropy_coef"}
OF_SEQUENTIAL = {"factor_min", "factor_max"}
OF_TRUST_REGIONS = {"surrogate_improvement", "steps_accepted", "line_search_backtracks", "rejected_kl"}
OF_REUSE = {"reuse_off_diagonal", "reuse_pairs", "reuse_distance_mean", "reuse_distance_max", "reuse_kl_entries"}
OF_TESTS = {f"test_{how}{name}" for how in ("", "greedy_") for name in ("return_mean", "return_std", "ep_length_mean")}


def promised(algorithm: str) -> set[str]:
    """The names of what an algorithm logs with a common reward."""
    if algorithm in ONE_PASS:
        return ALWAYS | OF_A2C | ({"ratio_mean", "ratio_max"} if algorithm == "seac" else set())
    names = ALWAYS | OF_STEPS | (OF_CLIPPED if algorithm in CLIPPED else OF_TRUST_REGIONS)
    names |= set() if algorithm in PPO else OF_SEQUENTIAL
    names |= OF_REUSE if algorithm in OFF_AGENT else set()
    return names | ({"condition_retries"} if algorithm == "oatrpo" else set())


def check_sound(run: Trained, names: set[str], updates: int) -> None:
    """All numbers are finite, the promised ones are there at every point, and every network has moved."""
    trained = [p["metrics"] for p in run.points if "updates" in p["metrics"]]
    assert [m["updates"] for m in trained] == [k + 1 for k in range(updates)]
    for metrics in trained:
        assert not names - set(metrics)
    for point in run.points:
        bad = {k: v for k, v in point["metrics"].items() if not math.isfinite(v)}
        assert not bad, f"at step {point['t']}"
    runner, mac, learner = build(run.asked, CPU)
    runner.close()
    moved = (run.loop.mac.network.params - mac.network.params).abs().amax(1)
    assert len(moved) == mac.n_networks
    assert (moved > 0).all(), "a policy was never updated"
    assert (run.loop.learner.value.network.params != learner.value.network.params).any(1).all()


def test_all_shipped_algorithms_are_tested() -> None:
    # `_paper`: the same learner, as its paper reads
    assert sorted(ALGORITHMS + Q_LEARNING + PQN + DETERMINISTIC + TABULAR + TRANSFER + ROLES) == sorted(
        name for name in shipped("algs") if not name.endswith("_paper")
    )


# -- they train ------------------------------------------------------------------------------------------


VARIANTS: dict[str, tuple[bool, dict[str, Any], int]] = {
    "ff-gae-1": (False, {}, 1),
    "gru-nstep-3": (True, {"gae_lambda": None, "q_nstep": 3}, 3),
    "gru-gae-1": (True, {}, 1),
    "ff-nstep-3": (False, {"gae_lambda": None, "q_nstep": 2}, 3),
}
#: (environment, variant): each of both is met among the quick ones
CASES = [
    pytest.param(
        env, *values, id=f"{env.rpartition(':')[2]}-{name}", marks=[] if v % 4 == e % 4 else [pytest.mark.slow]
    )
    for e, env in enumerate(ENVS)
    for v, (name, values) in enumerate(VARIANTS.items())
]


def slow_but(names: tuple[str, ...], quick: str) -> list[Any]:
    """The names as parameters, all but some marked slow."""
    return [pytest.param(n, marks=[] if n in quick.split() else [pytest.mark.slow]) for n in names]


@pytest.mark.parametrize(("env", "use_rnn", "returns", "num_minibatches"), CASES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_trains(
    algorithm: str, env: str, use_rnn: bool, returns: dict[str, Any], num_minibatches: int, tmp_path: Path
) -> None:
    per_batch = 4 * {EARLY: 6, RAGGED: 4, "matrix": 3, "maze": 8}[env]
    # the batch that SEPS plays at random counts; of unlike agents nothing has to be found out
    before = per_batch if algorithm == "seps" and env != RAGGED else 0
    run = train(
        tmp_path, algorithm, env, ENVS[env], t_max=before + 3 * per_batch, use_rnn=use_rnn,
        num_minibatches=num_minibatches, test_interval=per_batch, lr_schedule="constant", **returns,
    )  # fmt: skip
    check_sound(run, promised(algorithm), 3)
    tests = [p for p in run.points if "test_return_mean" in p["metrics"]]
    assert [p["t"] for p in tests] == [before + k * per_batch for k in range(4)]
    assert all(set(p["metrics"]) >= OF_TESTS for p in tests)
    assert set(run.result) >= {"t_env", "return_mean", *OF_TESTS}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_trains_on_episodes_of_unequal_length(algorithm: str, tmp_path: Path) -> None:
    run = train(tmp_path, algorithm, MIXED, {"limit": 6}, t_max=40, batch_size=8, use_rnn=True, obs_last_action=True)
    check_sound(run, promised(algorithm), int(run.last("updates")))


SCHEMES: dict[str, dict[str, Any]] = {
    "adaptive_roles": {},
    "adaptive_bound": {},
    "adaptive_kl": {"reuse_sigma": 1.0},
    "none": {},
    "all": {"reuse_lambda": 0.5},
    "groups": {"reuse_groups": [[0, 2], [1]]},
    "matrix": {"reuse_matrix": [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.2, 0.3, 0.5]]},
}


@pytest.mark.parametrize("use_rnn", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["ff", "gru"])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("mode", ["weights", "frequency", "sample"])
@pytest.mark.parametrize("algorithm", OFF_AGENT)
def test_trains_under_every_reuse(algorithm: str, mode: str, scheme: str, use_rnn: bool, tmp_path: Path) -> None:
    run = train(
        tmp_path, algorithm, EARLY, ENVS[EARLY], t_max=72, test_nepisode=0, use_rnn=use_rnn, lr_schedule="constant",
        reuse_mode=mode, reuse_scheme=scheme, num_minibatches=2, **SCHEMES[scheme],
    )  # fmt: skip
    check_sound(run, promised(algorithm) | ({"reuse_balance_deviation"} if mode == "sample" else set()), 3)
    records = run.arrays("reuse")
    assert [t for t, _ in records] == [24, 48, 72]
    for _, arrays in records:
        m, d = arrays["M"], arrays["D"]
        assert m.shape == d.shape == (3, 3)
        np.testing.assert_allclose(m.sum(1), 1.0, atol=1e-12)
        assert (m >= 0).all()
        assert (d >= 0).all()
        assert (np.diag(d) == 0).all()
    m = records[0][1]["M"]
    if scheme in ("adaptive_roles", "adaptive_bound"):
        assert (np.diag(m) > 0).all()
        assert m[~np.eye(3, dtype=bool)].max() > 0.01, "untrained policies are all near"
        assert all(("role" in arrays) == (scheme == "adaptive_roles") for _, arrays in records)
        assert 0 < run.last("reuse_own_share") <= 1.0
        return
    own, other = 0.7, 0.15
    want = {
        "adaptive_kl": np.full((3, 3), other) + (own - other) * np.eye(3),  # untrained policies are all near
        "none": np.eye(3),
        "all": np.full((3, 3), 0.25) + 0.25 * np.eye(3),
        "groups": np.array([[0.7, 0.0, 0.3], [0.0, 1.0, 0.0], [0.3, 0.0, 0.7]]),
        "matrix": np.array(SCHEMES["matrix"].get("reuse_matrix")),
    }[scheme]
    np.testing.assert_allclose(m, want, atol=1e-12)
    off = want[~np.eye(3, dtype=bool)]
    first = next(p["metrics"] for p in run.points if "reuse_pairs" in p["metrics"])
    assert first["reuse_pairs"] == pytest.approx((off > 0).mean())
    assert first["reuse_off_diagonal"] == pytest.approx(off.mean())


# -- the same command gives the same numbers ---------------------------------------------------------------


@pytest.mark.parametrize("use_rnn", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["ff", "gru"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_twice_is_the_same(algorithm: str, use_rnn: bool, tmp_path: Path) -> None:
    def once(name: str, seed: int) -> Trained:
        more: dict[str, Any] = {"reuse_mode": "frequency"} if algorithm in OFF_AGENT else {}
        return train(
            tmp_path / name, algorithm, EARLY, ENVS[EARLY], t_max=72, seed=seed, use_rnn=use_rnn, test_greedy=False,
            num_minibatches=2, **more,
        )  # fmt: skip

    a, b, other = once("a", 5), once("b", 5), once("c", 6)
    assert_same(untimed(a.points), untimed(b.points))
    assert_same(a.arrays("reuse"), b.arrays("reuse"))
    assert_same(a.loop.mac.state_dict(), b.loop.mac.state_dict())
    assert_same(a.loop.learner.state_dict(), b.loop.learner.state_dict())
    assert untimed(a.points) != untimed(other.points)


# -- individual rewards --------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", [*PPO, *A2C, "pac", "pac_ns"])
def test_individual_rewards_have_their_own_names(algorithm: str, tmp_path: Path) -> None:
    """Truncating: agent i has t * (i + 1) + action / 10 at step t; 2 steps make 3 * (i + 1) + [0, 0.2]."""
    steps = 24 + 8 * (algorithm == "seps")  # which plays one batch at random
    run = train(
        tmp_path, algorithm, "toy_envs:Truncating", {"limit": 2}, t_max=steps, common_reward=False, test_nepisode=2
    )
    own = {f"{agent}_return_{x}" for agent in ("agent_0", "agent_1", "total") for x in ("mean", "std")}
    check_sound(run, (promised(algorithm) - {"return_mean", "return_std"}) | own, 3)
    for point in run.points:
        assert "return_mean" not in point["metrics"]
        prefix = "" if "updates" in point["metrics"] else "test_"
        got = {name: point["metrics"][prefix + name] for name in own}
        assert 3 <= got["agent_0_return_mean"] <= 3.2001
        assert 6 <= got["agent_1_return_mean"] <= 6.2001
        assert got["total_return_mean"] == pytest.approx(got["agent_0_return_mean"] + got["agent_1_return_mean"])


@pytest.mark.parametrize("algorithm", [a for a in ALGORITHMS if a not in (*PPO, *A2C, "pac", "pac_ns")])
def test_methods_of_one_reward_refuse_individual_rewards(algorithm: str) -> None:
    with pytest.raises(UserError, match="common_reward=True"):
        build(settings(algorithm, MIXED, common_reward=False), CPU)


# -- they learn ------------------------------------------------------------------------------------------------


def policies(run: Trained) -> np.ndarray:
    """[N, A] probabilities in a one-state game."""
    mac = run.loop.mac
    x = with_extras(torch.ones(1, mac.info.n_agents, 1), None, mac.config.obs_agent_id, mac.info.n_actions)
    hidden = mac.initial_hidden(1)
    with torch.no_grad():
        logits, _ = one_step(mac.network, mac._to_rows(x), mac._to_rows(hidden))
    return torch.softmax(mac._from_rows(logits, 1)[0].double(), -1).numpy()


def expected_return(run: Trained) -> float:
    """The exact expectation of one round under the policies as they are."""
    args = run.loop.values["env_args"]
    value = payoff(args["key"], args["k"], run.loop.mac.info.n_agents)
    for p in policies(run):
        value = np.tensordot(p, value, axes=(0, 0))
    return float(value)


def play(folder: Path, algorithm: str, t_max: int, **more: Any) -> Trained:
    args = {"key": more.pop("key"), **more.pop("args", {})}
    return train(
        folder, algorithm, "matrix", args, backend="auto", t_max=t_max, batch_size_run=64, hidden_dim=32, epochs=5,
        lr=0.003, log_interval=640, test_interval=10**6, test_nepisode=1, seed=1, **more,
    )  # fmt: skip


@pytest.mark.parametrize(
    "algorithm",
    slow_but(("mappo_ns", "ippo_ns", "happo", "hatrpo", "oappo", "oatrpo", "mappo"), "mappo_ns happo hatrpo oappo"),
)
def test_policies_that_can_differ_solve_proposition_1(algorithm: str, tmp_path: Path) -> None:
    """HATRPO paper, Proposition 1: 1 for (0, 0, 1, 1) and (1, 1, 0, 0), else 0. Uniform play has 2/16."""
    run = play(tmp_path, algorithm, 4480, key="prop1", args={"n_agents": 4})
    assert expected_return(run) > 0.95
    assert run.result["test_greedy_return_mean"] == 1.0
    assert run.last("return_mean") > 0.9


def test_one_shared_policy_cannot_solve_proposition_1(tmp_path: Path) -> None:
    """It stays at or below 2 / 2^n = 0.125, which it does reach; sampled points may pass it by their noise."""
    run = play(tmp_path, "mappo", 6400, key="prop1", args={"n_agents": 4}, obs_agent_id=False)
    p = policies(run)
    assert (p == p[0]).all(), "this is one policy"
    assert 0.1 < expected_return(run) <= 2 / 2**4 + 1e-9
    sampled = [q["metrics"]["return_mean"] for q in run.points if "return_mean" in q["metrics"]]
    assert len(sampled) == 10
    deviation = math.sqrt(0.125 * 0.875 / 640)  # of a point, which is the mean of 640 episodes
    assert max(sampled) < 0.125 + 5 * deviation
    assert run.result["test_greedy_return_mean"] == 0.0  # four equal actions


@pytest.mark.parametrize("algorithm", slow_but(("mappo_ns", "happo", "hatrpo", "oappo", "oatrpo"), "hatrpo"))
def test_climbing_ends_away_from_the_cliffs(algorithm: str, tmp_path: Path) -> None:
    """Uniform play has -3.4, and 11 lies between two cells of -30: on-policy methods settle on 5, 6 or 7."""
    run = play(tmp_path, algorithm, 6400, key="climbing")
    assert expected_return(run) > 4.8
    assert run.result["test_greedy_return_mean"] in (5.0, 6.0, 7.0, 11.0)


@pytest.mark.parametrize("algorithm", slow_but(("ippo", "mappo", "happo", "hatrpo", "oappo", "oatrpo"), "oatrpo"))
def test_penalty_without_penalty_reaches_the_joint_optimum(algorithm: str, tmp_path: Path) -> None:
    """k = 0: 10 for (0, 0) and (2, 2), 2 for (1, 1), else 0."""
    run = play(tmp_path, algorithm, 6400, key="penalty", args={"k": 0})
    assert expected_return(run) > 9.0
    assert run.result["test_greedy_return_mean"] == 10.0


class Recall:
    """Each of two agents sees its own bit at the first step and nothing else; 1 for naming it at the third."""

    def __init__(self) -> None:
        self.info = EnvInfo("recall", 2, 3, 3, 2, 3, (3, 3), (2, 2))

    def reset(self, seed: int, out: Arrays) -> None:
        self.bits, self.time = np.random.default_rng(seed).integers(2, size=2), 0
        out.alive[...] = out.avail[...] = True
        self.look(out)

    def look(self, out: Arrays) -> None:
        out.obs[...] = out.state[...] = 0
        if self.time == 0:
            out.obs[np.arange(2), self.bits] = 1
        out.obs[:, 2] = out.state[self.time % 3] = self.time / 3

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        self.time += 1
        out.reward[...] = (actions == self.bits) / 2 if self.time == 3 else 0
        out.terminated[...] = out.agent_terminated[...] = self.time == 3
        self.look(out)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("algorithm", slow_but(("mappo", "happo", "hatrpo", "oappo", "oatrpo"), "mappo"))
def test_a_gru_remembers_what_a_feed_forward_policy_cannot(algorithm: str, tmp_path: Path) -> None:
    def learn(use_rnn: bool) -> float:
        run = train(
            tmp_path / str(use_rnn), algorithm, "test_algorithms:Recall", t_max=7680, batch_size_run=64,
            hidden_dim=16, epochs=6, lr=0.01, use_rnn=use_rnn, log_interval=640, test_interval=10**6,
            test_nepisode=256,
        )  # fmt: skip
        return run.result["test_greedy_return_mean"]

    assert learn(True) > 0.95
    # an agent that cannot remember is right half of the time: 1/2 with a deviation of 0.02 over 256 episodes
    assert learn(False) < 0.62
