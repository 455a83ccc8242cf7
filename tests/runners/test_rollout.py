"""The segment runner: its rows are the slots' episodes, its batches train as whole episodes do, it resumes exactly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oamarl.components.batch import Batch
from oamarl.components.seeding import episode_seed
from oamarl.components.updates.samples import Samples
from oamarl.envs.base import Arrays
from oamarl.envs.build import make_env
from oamarl.main import main
from oamarl.storage import checkpoints
from oamarl.training.building import build
from oamarl.utils.errors import UserError

from run_tools import ALGORITHMS, CPU, assert_same, assert_same_batch, assert_same_run, settings, train, untimed
from toy_envs import MixedLength

MIXED = "toy_envs:MixedLength"
EARLY = "toy_envs:EarlyEnd"
RAGGED = "toy_envs:Ragged"
PLAIN = "toy_envs:Truncating"
GRU = {"use_rnn": True, "obs_last_action": True, "num_minibatches": 2}


@contextmanager
def parts(
    env: str, env_args: Mapping[str, Any] | None = None, config: str = "mappo", **overrides: Any
) -> Iterator[tuple[Any, Any, Any]]:
    """Runner, controller and learner; heads of gain 1, so that policies are far from uniform."""
    values = {"runner": "rollout", "rollout_length": 5, "t_max": 1000, "head_gain": 1.0, **overrides}
    made = build(settings(config, env, env_args, **values), CPU)
    try:
        yield made
    finally:
        made[0].close()


def clone(batch: Batch) -> Batch:
    """A batch of its own: a runner's next one is written over the last."""
    return Batch.of({name: x.clone() for name, x in batch.named().items()})


# -- a batch holds what happened -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "args"), [(MIXED, {"limit": 7}), (EARLY, {"limit": 9}), (RAGGED, {"limit": 5}), (PLAIN, {"end": 3})]
)
def test_rows_put_end_to_end_are_the_slots_episodes_played_again(env: str, args: dict[str, Any]) -> None:
    with parts(env, args, batch_size_run=3, rollout_length=4, reward_scalarisation="sum") as (runner, _, _):
        alone, out = make_env(env, args), Arrays.allocate(runner.info, 1).slot(0)
        collected = []
        for _ in range(5):
            batch, played = runner.run()
            collected.append((clone(batch), played))
        assert runner.t_env == 5 * 3 * 4
        assert runner.agent_steps == sum(int(b.alive.sum()) for b, _ in collected)
        assert runner.episodes == sum(len(p.lengths) for _, p in collected) > 5
        for slot in range(3):
            number, t, total, last = 0, 0, np.zeros(runner.info.n_agents), None
            alone.reset(episode_seed(3, "train", slot, 0), out)
            for batch, played in collected:
                at = {(b, s): k for k, (b, s) in enumerate(batch.final_index.tolist())}
                assert batch.filled.all()
                for s in range(4):
                    for name in ("obs", "state", "avail"):
                        assert_same(getattr(batch, name)[slot, s].numpy(), getattr(out, name), f"{name} {slot} {s}")
                    assert_same(batch.alive[slot, s].numpy(), out.alive)
                    expected = [-1] * runner.info.n_agents if last is None else last.tolist()
                    assert batch.last_actions[slot, s].tolist() == expected
                    last = batch.actions[slot, s].numpy()
                    alone.step(last, out)
                    team = np.float32(out.reward.sum())
                    total += team
                    t += 1
                    assert batch.reward[slot, s].tolist() == [team] * runner.info.n_agents
                    for name in ("terminated", "truncated", "agent_terminated"):
                        assert_same(getattr(batch, name)[slot, s].numpy(), getattr(out, name)[...], f"{name} {s}")
                    over = bool(out.terminated or out.truncated)
                    assert over == ((slot, s) in at)
                    if over:
                        k = at[slot, s]
                        for name in ("obs", "state", "avail"):
                            assert_same(getattr(batch, f"final_{name}")[k].numpy(), getattr(out, name))
                        assert played.lengths[k] == t
                        assert_same(played.returns[k], total)
                        assert_same(played.metrics[k], out.metrics.astype(np.float64))
                        number, t, total, last = number + 1, 0, np.zeros(runner.info.n_agents), None
                        alone.reset(episode_seed(3, "train", slot, number), out)
                for name in ("obs", "state", "avail"):
                    assert_same(getattr(batch, name)[slot, 4].numpy(), getattr(out, name), f"{name} after {slot}")


@pytest.mark.parametrize(
    "overrides",
    [{}, GRU, {**GRU, "standardise_obs": True}, {**GRU, "feature_norm": True}],
    ids=["ff", "gru", "standardised", "feature_norm"],
)
@pytest.mark.parametrize("config", ["mappo", "mappo_ns", "happo"])
def test_policies_find_the_probabilities_that_actions_were_taken_with(config: str, overrides: dict[str, Any]) -> None:
    """Through sequences cut anywhere, padded, and begun with a hidden state that was carried over."""
    with parts(MIXED, {"limit": 7}, config, batch_size_run=3, rollout_length=4, **overrides) as (runner, mac, learner):
        for k in range(3):
            batch, _ = runner.run()
            samples, _ = learner.samples(batch)
            policy, at, _ = mac.policies(samples, samples.entries)
            found, valid = policy.log_prob(samples.actions[at]), samples.valid[at]
            torch.testing.assert_close(found[valid], samples.log_prob[at][valid], rtol=1e-5, atol=1e-6)
            assert int(valid.sum()) == int(samples.valid.sum()), "every decision's row is computed"
            assert int(samples.valid.sum()) == int(batch.alive.sum())
            own = torch.stack([mac.own_log_ratio(samples, i, i) for i in range(2)])
            assert float(own.abs().max()) < 1e-5
            if overrides and k:
                assert samples.sequences is not None
                assert samples.sequences.hidden is not None
                assert samples.sequences.hidden.abs().amax((1, 2)).bool().any(), (
                    "no sequence continues an episode: the test would show nothing"
                )
            learner.train(batch, 0)


# -- it trains as whole episodes do ------------------------------------------------------------------------


@pytest.mark.parametrize("rnn", [False, True], ids=["ff", "gru"])
@pytest.mark.parametrize("end", [None, 4, 5], ids=["truncated", "both", "one step is padding"])
@pytest.mark.parametrize("config", ALGORITHMS)
def test_segments_of_an_episode_s_length_train_as_whole_episodes(config: str, end: int | None, rnn: bool) -> None:
    if rnn and config == "seac":
        pytest.skip("refused")
    states = []
    for runner_name in ("parallel", "rollout"):
        overrides: dict[str, Any] = {
            "runner": runner_name,
            "use_rnn": rnn,
            "standardise_obs": True,
            "feature_norm": True,
        }
        if runner_name == "rollout":
            overrides["rollout_length"] = 4
        else:
            overrides.pop("rollout_length", None)
        made = build(settings(config, PLAIN, {"limit": 4, "end": end}, t_max=1000, head_gain=1.0, **overrides), CPU)
        runner, mac, learner = made
        for _ in range(3):
            t = runner.t_env
            learner.train(runner.run()[0], t)
        states.append((mac.state_dict(), learner.value.state_dict(), runner.t_env, runner.episodes))
        runner.close()
    torch.testing.assert_close(states[0], states[1], rtol=1e-5, atol=1e-6)


def test_a_longer_segment_gives_the_targets_of_its_halves() -> None:
    """n-step targets with n = 1 know nothing of where a row is cut: two short segments and one long agree."""
    found = []
    for length in (8, 4):
        values = {"q_nstep": 1, "gae_lambda": None, "standardise_returns": False, "normalise_advantage": False}
        with parts(MIXED, {"limit": 7}, "ippo", rollout_length=length, **values) as (runner, _, learner):
            targets = [learner.value.targets(clone(runner.run()[0])) for _ in range(8 // length)]
            found.append([torch.cat([getattr(t, k) for t in targets], 1) for k in ("advantage", "returns")])
    torch.testing.assert_close(found[0], found[1])


def test_gae_over_a_segment_with_episodes_that_end_and_begin_in_it() -> None:
    """Rewards and ends by hand; a critic that says V = 10 everywhere; gamma 0.5, lambda 0.5."""
    values = {"gamma": 0.5, "gae_lambda": 0.5, "standardise_returns": False, "normalise_advantage": False}
    with parts(MIXED, {"limit": 3}, "ippo", rollout_length=6, batch_size_run=2, **values) as (runner, _, learner):
        batch = clone(runner.run()[0])
        with torch.no_grad():
            learner.value.network.params.zero_()
            learner.value.network.layers(learner.value.network.params)["head.b"].fill_(10.0)
        got = learner.value.targets(batch).advantage
    checked = 0
    for b in range(2):
        trace = 0.0
        for t in reversed(range(6)):
            ended = bool(batch.terminated[b, t] or batch.truncated[b, t])
            delta = float(batch.reward[b, t, 0]) + (0.0 if batch.terminated[b, t] else 0.5 * 10.0) - 10.0
            trace = delta + (0.0 if ended else 0.25 * trace)
            assert got[b, t].tolist() == pytest.approx([trace, trace])
            checked += ended
    assert checked >= 3


# -- backends, tests and stops -------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_backends_and_worker_counts_are_equal(workers: int) -> None:
    batches = []
    for more in ({"backend": "serial"}, {"backend": "process", "workers": workers}):
        with parts(MIXED, {"limit": 7}, use_rnn=True, feature_norm=True, **more) as (runner, _, _):
            runner.run()
            batches.append(clone(runner.run()[0]))
    assert_same_batch(*batches)


def test_a_test_disturbs_nothing_and_is_that_of_whole_episode_runners() -> None:
    batches, tests = [], []
    for tested in (False, True):
        with parts(MIXED, {"limit": 7}, use_rnn=True) as (runner, _, _):
            runner.run()
            if tested:
                tests.append(runner.test(5, greedy=False))
                tests.append(runner.test(5, greedy=False))
            batches.append(clone(runner.run()[0]))
    assert_same_batch(*batches)
    assert_same(vars(tests[0]), vars(tests[1]))
    with parts(MIXED, {"limit": 7}, use_rnn=True) as (runner, mac, _):
        runner.run()
        segments = runner.test(5, greedy=True)
        whole = build(settings("mappo", MIXED, {"limit": 7}, t_max=1000, use_rnn=True), CPU)[0]
        whole.mac = mac
        assert_same(vars(segments), vars(whole.test(5, greedy=True)))
        whole.close()


@pytest.mark.parametrize(
    "overrides", [{}, {**GRU, "standardise_obs": True, "feature_norm": True, "init": "torch"}], ids=["ff", "gru"]
)
def test_a_run_stopped_in_the_middle_of_episodes_goes_on_exactly(tmp_path: Path, overrides: dict[str, Any]) -> None:
    def words(t_max: int, *more: str) -> list[str]:
        given = {
            "env_args.limit": 23, "seed": 5, "use_cuda": False, "runner": "rollout", "rollout_length": 5,
            "batch_size_run": 3, "hidden_dim": 8, "t_max": t_max, "log_interval": 30, "test_interval": 60,
            "test_nepisode": 2, "checkpoint_interval": 45, "backend": "serial", "lr_schedule": "constant",
            "local_results_path": tmp_path, **overrides,
        }  # fmt: skip
        return ["--config=mappo", "with", f"env={MIXED}", *(f"{k}={v}" for k, v in given.items()), *more]

    assert main(words(300)) == 0
    assert main(words(150)) == 0
    whole, half = sorted((p.parent for p in tmp_path.glob("sacred/*/*/*/run.json")), key=lambda p: int(p.name))
    saved = checkpoints.load(checkpoints.find(half))
    assert max(saved["runner"]["slots"]["step"].tolist()) > 0, "no episode is under way: too dull a test"
    assert main(words(300, f"checkpoint_path={half}")) == 0
    resumed = whole.parent / "3"
    assert "could not be brought back" not in (resumed / "run.log").read_text()
    assert_same_run(whole, resumed)


class Unrepeatable(MixedLength):
    """Its observations depend on how many instances were ever made."""

    made = 0

    def __init__(self, limit: int = 6) -> None:
        super().__init__(limit)
        Unrepeatable.made += 1
        self.mark = float(Unrepeatable.made)

    def look(self, out: Arrays) -> None:
        super().look(out)
        out.obs[...] = self.mark


def test_an_environment_that_cannot_be_repeated_begins_new_episodes_and_says_so(tmp_path: Path) -> None:
    env = f"{__name__}:Unrepeatable"
    with parts(env, {"limit": 23}, rollout_length=7) as (runner, _, _):
        runner.run()
        state, numbers = runner.state_dict(), runner.store.cursor["number"].copy()
    with parts(env, {"limit": 23}, rollout_length=7) as (again, _, _):
        (notice,) = again.load_state_dict(state)
        assert notice.startswith("4 of 4 environments could not be brought back")
        batch, _ = again.run()
        assert batch.begins[:, 0].all()
        assert (again.store.cursor["number"] == numbers + 1 + again.store.cursor["done"]).all()


def test_a_checkpoint_before_the_first_segment_is_a_beginning() -> None:
    with parts(MIXED) as (runner, _, _):
        state = runner.state_dict()
        first = clone(runner.run()[0])
    with parts(MIXED) as (runner, _, _):
        runner.load_state_dict(state)
        assert_same_batch(first, runner.run()[0])


# -- what is refused ---------------------------------------------------------------------------------------


def test_a_batch_counted_in_episodes_is_refused() -> None:
    with pytest.raises(UserError, match=r"batch_size=8 counts whole episodes: runner=rollout trains on"):
        build(settings("mappo", MIXED, runner="rollout", batch_size=8), CPU)


def test_recurrent_seac_on_segments_is_refused() -> None:
    with pytest.raises(UserError, match=r"with use_rnn=True needs whole episodes to reuse: runner=rollout is refused"):
        build(settings("seac", PLAIN, runner="rollout", use_rnn=True), CPU)


def test_the_segment_s_length_without_the_segment_runner_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config=mappo", "--env-config=maze", "with", "rollout_length=64"]) == 2
    assert "rollout_length" in capsys.readouterr().err


# -- it learns ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", ["mappo", "oappo", "hatrpo"])
def test_learns_a_matrix_game_from_segments(config: str, tmp_path: Path) -> None:
    run = train(
        tmp_path, config, "matrix", {"key": "penalty", "k": 0.0, "steps": 3}, runner="rollout", rollout_length=16,
        t_max=8000, batch_size_run=8, epochs=4, hidden_dim=16, lr=0.01, standardise_obs=True,
    )  # fmt: skip
    # the best joint action pays 10 at each of 3 steps, uniform play (10 + 10 + 2) / 9
    assert run.last("test_return_mean") == pytest.approx(30.0)
    returns = [m["return_mean"] for _, m in untimed(run.points) if "return_mean" in m]
    assert returns[0] < 15 < 25 < returns[-1]


def test_samples_keep_every_real_step_once() -> None:
    with parts(EARLY, {"limit": 9}, "mappo", rollout_length=11, use_rnn=True) as (runner, _, _):
        runner.run()
        batch, _ = runner.run()
        marked = torch.arange(batch.actions.numel()).view(batch.actions.shape)
        samples = Samples.make(batch, marked.unsqueeze(-1).float(), batch.reward, True)
        kept = samples.inputs[..., 0][samples.valid].long()
        assert sorted(kept.tolist()) == marked[batch.valid].tolist()
