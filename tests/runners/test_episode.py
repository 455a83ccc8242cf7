"""The episode runner: it stores what happened, for every backend and however often it tested."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oamarl.components.batch import Batch
from oamarl.components.seeding import action_noise, episode_seed
from oamarl.components.updates.samples import Samples
from oamarl.envs.base import Arrays
from oamarl.envs.build import make_env
from oamarl.envs.vector.episode_store import Job
from oamarl.envs.vector.playing import ActionNoise
from oamarl.modules.kernels.numpy_policy import Inference
from oamarl.training.building import build
from oamarl.utils.errors import UserError

from run_tools import CPU, assert_same, assert_same_batch, settings, train, untimed

MIXED = "toy_envs:MixedLength"
EARLY = "toy_envs:EarlyEnd"
RAGGED = "toy_envs:Ragged"
PLAIN = "toy_envs:Truncating"


@contextmanager
def make_runner(
    env: str, env_args: Mapping[str, Any] | None = None, config: str = "mappo", **overrides: Any
) -> Iterator[Any]:
    """A runner with an untrained team; heads of gain 1, so that its policies are far from uniform."""
    runner, _, _ = build(settings(config, env, env_args, **{"t_max": 1000, "head_gain": 1.0, **overrides}), CPU)
    try:
        yield runner
    finally:
        runner.close()


def clone(batch: Batch) -> Batch:
    """A batch of its own: a runner's next one is written over the last."""
    return Batch.of({name: x.clone() for name, x in batch.named().items()})


def lengths(batch: Batch) -> list[int]:
    return batch.filled.sum(1).tolist()


# -- a batch holds what happened -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "args"), [(MIXED, {"limit": 7}), (EARLY, {"limit": 9}), (RAGGED, {"limit": 5}), (PLAIN, {"end": 3})]
)
def test_every_row_is_its_episode_played_again(env: str, args: dict[str, Any]) -> None:
    """Two batches of two episodes a slot; each row is replayed alone from its seed and its stored actions."""
    with make_runner(env, args, batch_size_run=3, batch_size=6, reward_scalarisation="sum") as runner:
        alone, out = make_env(env, args), Arrays.allocate(runner.info, 1).slot(0)
        for part in range(2):
            batch, played = runner.run()
            batch = clone(batch)
            assert len(batch.actions) == 6
            for row in range(6):
                slot, number = row // 2, 2 * part + row % 2
                alone.reset(episode_seed(3, "train", slot, number), out)
                total, t = np.zeros(runner.info.n_agents), 0
                while True:
                    for name in ("obs", "state", "avail"):
                        assert_same(getattr(batch, name)[row, t].numpy(), getattr(out, name), f"{name} {row} {t}")
                    if t and (out.terminated or out.truncated):
                        break
                    assert batch.filled[row, t]
                    assert_same(batch.alive[row, t].numpy(), out.alive)
                    alone.step(batch.actions[row, t].numpy(), out)
                    team = np.float32(out.reward.sum())
                    assert batch.reward[row, t].tolist() == [team] * runner.info.n_agents
                    for name in ("terminated", "truncated", "agent_terminated"):
                        assert_same(getattr(batch, name)[row, t].numpy(), getattr(out, name)[...], f"{name} {row} {t}")
                    total += team
                    t += 1
                assert played.lengths[row] == t
                assert_same(played.returns[row], total)
                assert_same(played.metrics[row], out.metrics.astype(np.float64))
                # nothing of an earlier batch is left behind the episode
                rest = {k: v[row, t:] for k, v in vars(batch).items() if k in (
                    "actions", "log_prob", "reward", "terminated", "truncated", "agent_terminated", "filled", "alive"
                )}  # fmt: skip
                assert not any(v.any() for v in rest.values())
                assert not any(getattr(batch, name)[row, t + 1 :].any() for name in ("obs", "state", "avail"))
            assert batch.actions.shape[1] == max(played.lengths)
            assert batch.obs.shape[1] == max(played.lengths) + 1


def test_episodes_of_unequal_length_end_as_their_seeds_say() -> None:
    with make_runner(MIXED, {"limit": 6}, batch_size_run=5, batch_size=10) as runner:
        batch, _ = runner.run()
        seeds = [episode_seed(3, "train", slot, k) for slot in range(5) for k in range(2)]
        assert lengths(batch) == [1 + s % 6 for s in seeds]
        assert len(set(lengths(batch))) > 2, "the seed makes too dull a test"
        for row, s in enumerate(seeds):
            last = s % 6
            assert batch.terminated[row].tolist() == [s % 2 == 0 and t == last for t in range(batch.actions.shape[1])]
            assert batch.truncated[row].tolist() == [s % 2 == 1 and t == last for t in range(batch.actions.shape[1])]


def test_a_step_that_terminates_at_the_limit_has_both_flags() -> None:
    with make_runner(PLAIN, {"limit": 4, "end": 4}) as runner:
        batch, _ = runner.run()
        assert batch.terminated[:, 3].all()
        assert batch.truncated[:, 3].all()


@pytest.mark.parametrize("size", [4, 8, 12])
def test_each_slot_plays_as_many_episodes(size: int) -> None:
    with make_runner(MIXED, batch_size=size) as runner:
        batch, played = runner.run()
        assert len(batch.actions) == len(played.lengths) == size
        assert runner.episodes == size


def test_null_batch_size_is_one_episode_from_each_slot() -> None:
    with make_runner(MIXED, batch_size_run=3, batch_size=None) as runner:
        assert len(runner.run()[0].actions) == 3


def test_a_batch_that_slots_cannot_share_is_refused() -> None:
    with (
        pytest.raises(UserError, match=r"batch_size=6 must be a multiple of batch_size_run=4"),
        make_runner(MIXED, batch_size=6),
    ):
        pass


def test_runner_episode_has_one_slot() -> None:
    with pytest.raises(UserError, match="batch_size_run=4 needs runner=parallel"), make_runner(MIXED, runner="episode"):
        pass
    with make_runner(MIXED, runner="episode", batch_size_run=1, batch_size=3) as runner:
        seeds = [episode_seed(3, "train", 0, k) for k in range(3)]
        assert lengths(runner.run()[0]) == [1 + s % 6 for s in seeds]


# -- acting ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("use_rnn", "within"), [(False, 1e-6), (True, 1e-5)])
@pytest.mark.parametrize("config", ["mappo", "happo"])
@pytest.mark.parametrize("last_action", [False, True])
@pytest.mark.parametrize(("env", "args"), [(MIXED, {"limit": 20}), (EARLY, {"limit": 9}), (RAGGED, {"limit": 12})])
def test_stored_log_prob_is_that_of_re_evaluation(
    env: str, args: dict[str, Any], last_action: bool, config: str, use_rnn: bool, within: float
) -> None:
    """Also for a slot's second and third episode: hidden state and last action begin afresh."""
    more = {"use_rnn": use_rnn, "obs_last_action": last_action, "hidden_dim": 32}
    with make_runner(env, args, config, batch_size_run=2, batch_size=6, **more) as runner, torch.no_grad():
        batch, _ = runner.run()
        mac = runner.mac
        samples = Samples.make(batch, mac.inputs(batch), torch.zeros_like(batch.log_prob), use_rnn)
        policy, at, _ = mac.policies(samples, samples.entries)
        gap = (policy.log_prob(samples.actions[at]) - samples.log_prob[at])[samples.valid[at]].abs()
        assert len(gap) == int(batch.valid.sum()) > 20
        assert float(gap.max()) <= within
        # far from uniform, otherwise a wrong hidden state would not show
        assert float(samples.log_prob[samples.valid].std()) > 0.05


def test_hidden_state_and_last_action_begin_afresh_with_each_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the policies are given at every step of two slots with episodes of unequal length."""
    with make_runner(MIXED, {"limit": 5}, batch_size_run=2, batch_size=6, use_rnn=True, obs_last_action=True) as runner:
        seen, act = [], Inference.__call__

        def spy(policies: Inference, obs: Any, last: Any, hidden: Any) -> Any:
            seen.append((torch.from_numpy(last.copy()), torch.from_numpy(hidden.copy())))
            return act(policies, obs, last, hidden)

        monkeypatch.setattr(Inference, "__call__", spy)
        batch, _ = runner.run()
    want = lengths(batch)
    assert len(set(want)) > 1
    for slot in range(2):
        call = 0
        for row in range(3 * slot, 3 * slot + 3):
            for t in range(want[row]):
                last, hidden = seen[call][0][slot], seen[call][1][slot]
                call += 1
                if t == 0:
                    assert last.tolist() == [-1, -1]
                    assert not hidden.any()
                else:
                    assert_same(last, batch.actions[row, t - 1])
                    assert hidden.any()


def test_greedy_tests_take_the_most_probable_actions() -> None:
    with make_runner(RAGGED, {"limit": 4}) as runner:
        assert_same(runner.test(4, True).returns, runner.test(4, True).returns)
        assert_same(runner.test(4, False).returns, runner.test(4, False).returns)
        different = {float(np.sum(runner.test(k, False).returns[-1])) for k in range(1, 8)}
        assert len(different) > 1


# -- who steps the environments ----------------------------------------------------------------------------

BACKENDS = [("serial", None), ("process", 1), ("process", 2), ("process", 3)]


@pytest.mark.parametrize(
    ("env", "args", "backends"),
    [
        (MIXED, {"limit": 6}, BACKENDS),
        ("maze", {"time_limit": 9}, [*BACKENDS[:3], ("native", None)]),
        ("matrix", {"steps": 3}, [BACKENDS[0], ("native", None), ("auto", None)]),
    ],
)
def test_batches_and_tests_are_equal_for_all_backends(
    env: str, args: dict[str, Any], backends: list[tuple[str, int | None]]
) -> None:
    found: list[Any] = []
    for backend, workers in backends:
        with make_runner(env, args, batch_size=8, backend=backend, workers=workers) as runner:
            first = clone(runner.run()[0])
            tested = runner.test(5, False)
            found.append((first, vars(tested), clone(runner.run()[0]), runner.state_dict()))
    for other in found[1:]:
        assert_same_batch(found[0][0], other[0])
        assert_same(found[0][1], other[1])
        assert_same_batch(found[0][2], other[2])
        assert_same(found[0][3], other[3])
    assert not torch.equal(found[0][0].actions, found[0][2].actions[:, : found[0][0].actions.shape[1]])


@pytest.mark.parametrize(
    ("env", "args", "backends"),
    [
        (MIXED, {"limit": 6}, [("serial", None), ("process", 2)]),
        ("maze", {"time_limit": 9}, [("native", None), ("serial", None), ("process", 2)]),
    ],
)
@pytest.mark.parametrize("more", [{}, {"use_rnn": True}, {"feature_norm": True, "init": "torch"}], ids=str)
def test_whole_training_is_equal_for_all_backends(
    env: str, args: dict[str, Any], backends: list[tuple[str, int | None]], more: dict[str, Any], tmp_path: Path
) -> None:
    runs = [
        train(tmp_path / f"{k}", "oappo", env, args, t_max=150, backend=backend, workers=workers, **more)
        for k, (backend, workers) in enumerate(backends)
    ]
    for other in runs[1:]:
        assert_same(untimed(runs[0].points), untimed(other.points))
        assert_same(runs[0].arrays("reuse"), other.arrays("reuse"))
        assert_same(runs[0].loop.mac.state_dict(), other.loop.mac.state_dict())
        assert_same(runs[0].loop.learner.state_dict(), other.loop.learner.state_dict())


# -- tests -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 3, 4, 7, 9])
def test_exactly_as_many_test_episodes_as_asked(n: int) -> None:
    """Also below and beside a multiple of the slots; slot b plays b, b + 4, ... of them."""
    with make_runner(MIXED, {"limit": 6}) as runner:
        want = sorted(1 + episode_seed(3, "test", k % 4, k // 4) % 6 for k in range(n))
        for _ in range(2):  # the same episodes at every test
            played = runner.test(n, True)
            assert len(played.returns) == len(played.metrics) == n
            assert sorted(played.lengths) == want
            runner.run()


def test_testing_changes_nothing_of_training(tmp_path: Path) -> None:
    """Sampled tests at every iteration against none at all, with a GRU: bit for bit."""
    common: dict[str, Any] = {"t_max": 200, "use_rnn": True, "test_greedy": False, "test_interval": 1}
    with_tests = train(tmp_path / "a", "oappo", MIXED, {"limit": 6}, **common, test_nepisode=5)
    without = train(tmp_path / "b", "oappo", MIXED, {"limit": 6}, **common, test_nepisode=0)
    points = [(t, {k: v for k, v in m.items() if not k.startswith("test_")}) for t, m in untimed(with_tests.points)]
    assert_same([p for p in points if p[1]], untimed(without.points))
    assert sum("test_return_mean" in p["metrics"] for p in with_tests.points) > 5
    assert not any(k.startswith("test_") for p in without.points for k in p["metrics"])
    assert_same(with_tests.loop.mac.state_dict(), without.loop.mac.state_dict())
    assert_same(with_tests.loop.runner.state_dict(), without.loop.runner.state_dict())


def test_testing_leaves_counters_and_clocks_alone() -> None:
    with make_runner(MIXED) as runner:
        runner.run()
        before, clocks = runner.state_dict(), (runner.time_env, runner.time_act)
        runner.test(6, False)
        assert_same(runner.state_dict(), before)
        assert (runner.time_env, runner.time_act) == clocks


# -- counters and state ------------------------------------------------------------------------------------


def test_steps_episodes_and_agent_steps_are_counted() -> None:
    with make_runner(MIXED, batch_size=8) as runner:
        steps = 0
        for k in range(3):
            batch, played = runner.run()
            steps += sum(played.lengths)
            assert (runner.t_env, runner.episodes) == (steps, 8 * (k + 1))
            assert steps >= int(batch.filled.sum())
        assert runner.agent_steps == 2 * steps
    with make_runner(EARLY, {"limit": 9}) as runner:
        runner.run()
        # agents leave after 2, 4 and 6 steps
        assert (runner.t_env, runner.agent_steps) == (4 * 6, 4 * (2 + 4 + 6))


def test_a_runner_goes_on_from_its_state() -> None:
    with make_runner(MIXED) as runner, make_runner(MIXED) as fresh:
        runner.run()
        runner.run()
        state = runner.state_dict()
        third = clone(runner.run()[0])
        fresh.load_state_dict(state)
        assert (fresh.t_env, fresh.episodes, fresh.agent_steps) == (
            state["t_env"], state["episodes"], state["agent_steps"],
        )  # fmt: skip
        assert_same_batch(fresh.run()[0], third)


def test_the_seed_decides() -> None:
    with make_runner(PLAIN, seed=3) as a, make_runner(PLAIN, seed=3) as b, make_runner(PLAIN, seed=4) as c:
        first = clone(a.run()[0])
        assert_same_batch(first, b.run()[0])
        assert not torch.equal(first.obs, c.run()[0].obs)


# -- rewards -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("common", "scalarisation"), [(True, "sum"), (True, "mean"), (False, "sum"), (False, "mean")])
def test_common_and_individual_rewards(common: bool, scalarisation: str) -> None:
    """Agent i has t * (i + 1) + action / 10 at step t (from 1)."""
    with make_runner(PLAIN, {"limit": 3}, "ippo", common_reward=common, reward_scalarisation=scalarisation) as runner:
        batch, played = runner.run()
        t = torch.arange(1, 4).view(1, 3, 1)
        own = t * torch.tensor([1, 2]) + batch.actions / 10
        team = (own.sum(-1, keepdim=True) if scalarisation == "sum" else own.mean(-1, keepdim=True)).expand(4, 3, 2)
        want = team if common else own
        torch.testing.assert_close(batch.reward, want.float(), rtol=1e-6, atol=0)
        np.testing.assert_allclose(np.stack(played.returns), want.sum(1).numpy(), rtol=1e-6)


@pytest.mark.parametrize("scalarisation", ["sum", "mean"])
def test_a_team_reward_is_not_added_up(scalarisation: str) -> None:
    """Climbing: every agent's entry is the one payoff."""
    payoffs = np.array([[11, -30, 0], [-30, 7, 6], [0, 0, 5]], np.float32)
    with make_runner("matrix", {"key": "climbing"}, batch_size_run=16, reward_scalarisation=scalarisation) as runner:
        batch, played = runner.run()
        a, b = batch.actions[:, 0].T.numpy()
        want = payoffs[a, b]
        assert batch.reward[:, 0].tolist() == [[x, x] for x in want.tolist()]
        assert np.stack(played.returns)[:, 0].tolist() == want.tolist()
        assert len(set(want.tolist())) > 3


def test_names_and_numbers_of_what_is_logged() -> None:
    with make_runner(PLAIN, {"limit": 3}, "ippo", common_reward=False) as runner:
        _, played = runner.run()
        returns = np.stack(played.returns)
        found = played.scalars(runner.info, False, "test_")
        assert found == pytest.approx(
            {
                "test_ep_length_mean": 3.0,
                "test_agent_0_return_mean": returns[:, 0].mean(), "test_agent_0_return_std": returns[:, 0].std(),
                "test_agent_1_return_mean": returns[:, 1].mean(), "test_agent_1_return_std": returns[:, 1].std(),
                "test_total_return_mean": returns.sum(1).mean(), "test_total_return_std": returns.sum(1).std(),
                "test_reward_sum_mean": returns.sum(1).mean(),
            }
        )  # fmt: skip
        assert found["test_agent_1_return_mean"] > found["test_agent_0_return_mean"]
    with make_runner(PLAIN, {"limit": 3}, "ippo") as runner:
        _, played = runner.run()
        found = played.scalars(runner.info, True)
        assert sorted(found) == ["ep_length_mean", "return_mean", "return_std", "reward_sum_mean"]
        assert found["return_mean"] == pytest.approx(found["reward_sum_mean"])


# -- noise -------------------------------------------------------------------------------------------------


def job(seed: int = 3, purpose: Any = "train") -> Job:
    return Job(seed, purpose, greedy=False, rewards="own", keep=False, plan=None)


def episode_noise(seed: int, purpose: Any, slot: int, number: int, steps: int) -> np.ndarray:
    """Gumbel noise [T, 2, 5] of a whole episode, drawn at once."""
    drawn = action_noise(seed, purpose, slot, number).standard_exponential((steps, 2, 5), np.float32)
    return -np.log(np.maximum(drawn, np.float32(1e-30)))


def test_noise_is_that_of_slot_episode_and_step_whenever_it_is_asked_for() -> None:
    want = {(b, k): episode_noise(3, "train", 7 + b, k, 100) for b in range(3) for k in range(3)}
    noise = ActionNoise(7, (3, 2, 5))
    asked = [([0, 0, 0], [0, 0, 0]), ([0, 1, 0], [1, 0, 31]), ([0, 1, 0], [32, 1, 32]), ([2, 1, 0], [70, 99, 5])]
    for number, step in asked:
        found = noise(job(), np.array(number), np.array(step))
        np.testing.assert_array_equal(found, [want[b, k][t] for b, (k, t) in enumerate(zip(number, step, strict=True))])


def test_noise_differs_by_seed_purpose_slot_and_episode() -> None:
    keys = [(3, "train", 0, 0), (4, "train", 0, 0), (3, "test", 0, 0), (3, "train", 1, 0), (3, "train", 0, 1)]
    assert len({episode_noise(*who, 1).tobytes() for who in keys}) == len(keys)
    noise, zero = ActionNoise(0, (1, 2, 5)), np.zeros(1, np.int64)
    for seed, purpose in ((3, "train"), (4, "train"), (4, "test")):
        found = noise(job(seed, purpose), zero, zero)[0]
        np.testing.assert_array_equal(found, episode_noise(seed, purpose, 0, 0, 1)[0])


def test_noise_is_gumbels() -> None:
    """Mean 0.5772, variance pi^2 / 6."""
    x = episode_noise(0, "train", 0, 0, 40_000).astype(np.float64)
    assert x.mean() == pytest.approx(0.5772, abs=0.01)
    assert x.var() == pytest.approx(np.pi**2 / 6, abs=0.03)
