"""The base of off-policy learners, with independent Q-learning as its learner."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_docs import blocks

from oamarl.components.batch import Batch
from oamarl.components.generators import generator
from oamarl.components.replay import Replay
from oamarl.envs.build import make_info
from oamarl.learners import off_policy
from oamarl.main import main
from oamarl.parts import resolve
from oamarl.run import build
from oamarl.settings import Settings
from oamarl.storage import checkpoints
from oamarl.training.resume import load_weights
from oamarl.utils.errors import UserError
from oamarl.utils.schema.command_line import Request

from conftest import ROOT
from learner_tools import double, make_batch, make_learner, through_a_file, with_garbage
from learner_tools import make_info as sizes
from run_tools import CPU, settings, train

HYSTERETIC = ROOT / "examples" / "hysteretic"
CONFIG = "iql"
LIMITED: dict[str, Any] = {"limit": 5}
SMALL: dict[str, Any] = {
    "seed": 3, "use_cuda": False, "hidden_dim": 8, "batch_size_run": 2, "backend": "serial", "batch_size": 4,
    "buffer_size": 20, "replay_steps": None, "updates_per_step": None, "target_update_interval_or_tau": 200,
    "td_lambda": None, "standardise_rewards": False,
}  # fmt: skip


def asked(**more: Any) -> Settings:
    return resolve(Request(CONFIG, None, {**SMALL, "env": "toy_envs:Truncating", "env_args": LIMITED, **more}))


def learner_of(**more: Any) -> Any:
    runner, _, learner = build(asked(**more), CPU)
    runner.close()
    return learner


def whole(learner: Any, n: int, seed: int = 0) -> Batch:
    """``n`` whole episodes of five steps."""
    return make_batch(learner.mac, seed=seed, lengths=[5] * n, dead=False)


def test_it_learns_a_matrix_game_in_seconds(tmp_path: Path) -> None:
    """The penalty game without penalty: both agents find one of the two best cells, and know its worth."""
    run = train(
        tmp_path, CONFIG, "matrix", {"key": "penalty", "k": 0}, t_max=1600, epsilon_anneal_time=600, epochs=...,
        batch_size=32, buffer_size=500, target_update_interval_or_tau=20, lr=0.01, hidden_dim=16, test_interval=1600,
        save_best=False, updates_per_step=None, standardise_rewards=False, epsilon_finish=0.05,
    )  # fmt: skip
    assert run.last("test_greedy_return_mean") == 10.0
    assert abs(run.last("q_taken_mean") - 9.5) < 1.5, "0.95 of the actions are greedy at the end"


# -- how much is learned ------------------------------------------------------------------------------------


def test_one_update_a_batch_as_epymarl_once_there_is_enough() -> None:
    learner = learner_of()
    for n in range(5):
        learner.train(whole(learner, 2, n), 0)
        assert learner.updates == max(n, 0), "four episodes have to be there"
    (said,) = learner.notices()
    assert said.startswith("One update after each batch of batch_size_run episodes (updates_per_step=null, as in EPy")
    assert said.endswith("an update learns from 4 episodes out of the last 20 episodes.")


@pytest.mark.parametrize(("rate", "slots", "count"), [(0.05, 2, 4), (0.05, 4, 9), (1 / 3, 1, 28), (2, 2, 180)])
def test_updates_per_step_whatever_the_number_of_slots(rate: float, slots: int, count: int) -> None:
    """Fractions are carried over; what was played before learning could begin is not made up for."""
    learner = learner_of(updates_per_step=rate, batch_size=slots)
    learner._update = lambda t_env: {}
    made = []
    for _ in range(90 // 5 if slots > 1 else 17):
        before = learner.owed
        due = learner._due(0)
        assert due == 0, before
        learner.replay.add(whole(learner, slots))
        made.append(learner._due(5 * slots))
    steps = 5 * slots * len(made)
    assert abs(sum(made) - rate * steps) < 1
    assert max(made) - min(made) <= 1
    assert learner.notices()[0].startswith(f"{rate:g} updates per environment step (updates_per_step); an update")
    assert count > 0


def test_batch_size_is_the_replays_and_runners_collect_one_episode_a_slot() -> None:
    """On-policy, `batch_size` counts what a runner collects."""
    settings = asked(batch_size=7, batch_size_run=2)
    settings.check(make_info("toy_envs:Truncating", LIMITED))
    runner, _, learner = build(settings, CPU)
    try:
        assert runner.per_slot == 1
        assert learner.config.batch_size == 7
        assert settings.values["batch_size"] == 7
    finally:
        runner.close()
    plain = resolve(
        Request("mappo", None, {"seed": 1, "env": "toy_envs:Truncating", "env_args": LIMITED, "batch_size": 20})
    )
    assert plain.part(plain.runner.Config).batch_size == 20
    with pytest.raises(UserError, match="multiple of batch_size_run"):
        resolve(Request("mappo", None, {"env": "matrix", "batch_size": 7})).check(make_info("matrix", {}))


# -- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"runner": "rollout"}, "replay_steps=null draws whole episodes, and runner=rollout collects segments: use"),
        ({"use_rnn": True, "replay_steps": 1}, "use_rnn=True needs whole episodes: replay_steps=1 is refused"),
        ({"buffer_size": 3}, "buffer_size=3 is less than batch_size=4"),
    ],
)
def test_what_cannot_be_drawn_is_refused(more: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        asked(**more).check(make_info("toy_envs:Truncating", LIMITED))


def test_a_replay_that_memory_cannot_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(off_policy, "free_memory", lambda: 2_000_000_000)
    info = make_info("toy_envs:Truncating", LIMITED)
    asked(buffer_size=100).check(info)
    with pytest.raises(UserError, match=r"The replay may need [\d.,]+ GB, and 2.0 GB of memory are free: ") as error:
        asked(buffer_size=10_000_000).check(info)
    said = re.search(r"lower buffer_size to ([\d,]+) or less", str(error.value))
    assert said is not None
    asked(buffer_size=int(said[1].replace(",", ""))).check(info)
    monkeypatch.setattr(off_policy, "free_memory", lambda: None)
    asked(buffer_size=10_000_000).check(info)  # a system that does not say


# -- what is learned from -----------------------------------------------------------------------------------


@pytest.mark.parametrize("use_rnn", [False, True])
@pytest.mark.parametrize("sharing", ["shared", "separate", [0, 1, 0]])
def test_outputs_at_all_steps_are_those_that_acting_has(use_rnn: bool, sharing: Any) -> None:
    """Step by step with the memory that an episode has; what is behind its end is neither read nor given."""
    mac = make_learner("mappo", sizes(3), use_rnn=use_rnn, sharing=sharing, obs_last_action=True).mac
    batch = make_batch(mac, dead=False)
    found = mac.all_outputs(batch)
    assert found.shape == (*batch.obs.shape[:3], mac.info.n_actions)
    network = mac.actor().network
    last, hidden = batch.last_actions.numpy(), mac.initial_hidden(len(batch.obs)).numpy()
    for t in range(batch.obs.shape[1]):
        want, hidden = network(batch.obs[:, t].numpy(), last[:, t], hidden)
        there = torch.ones(len(batch.obs)).bool() if t == 0 else batch.filled[:, t - 1]
        torch.testing.assert_close(found[there, t], torch.from_numpy(want)[there], rtol=1e-4, atol=1e-5)
        assert not found[~there, t].any()
    other = mac.all_outputs(with_garbage(batch, mac), 1.5 * mac.network.params)
    torch.testing.assert_close(other, mac.all_outputs(batch, 1.5 * mac.network.params))
    assert not torch.equal(other, found)


@pytest.mark.parametrize("use_rnn", [False, True])
@pytest.mark.parametrize("sharing", ["shared", [0, 1, 0]])
def test_rows_that_are_laid_out_once_serve_all_parameters(use_rnn: bool, sharing: Any) -> None:
    """Also where no row is padding, which needs no places: as among other rows that are."""
    mac = make_learner("mappo", sizes(3), use_rnn=use_rnn, sharing=sharing).mac
    batch = make_batch(mac, lengths=[3, 3, 2], dead=False)
    full = batch.part(slice(0, 2))
    assert full.filled.all()
    rows = mac.rows(full)
    assert (rows.place is None) == (not use_rnn and sharing == "shared")
    for params in (None, 1.5 * mac.network.params):
        found = mac.all_outputs(rows, params)
        assert torch.equal(found, mac.all_outputs(full, params))
        assert torch.equal(found, mac.all_outputs(batch, params)[:2])
    assert torch.equal(mac.all_outputs_and_features(rows)[0], mac.all_outputs_and_features(full)[0])


def test_targets_by_hand() -> None:
    """r + gamma Q'(o', argmax Q(o', .)) among the legal actions; nothing follows a termination."""
    learner = learner_of(gamma=0.5, target_update_interval_or_tau=100)
    learner.target_params[0].mul_(2.0)
    batch = make_batch(learner.mac, lengths=(3, 2, 3), dead=False)  # terminated, truncated, both
    q = learner.mac.all_outputs(batch).detach()
    slow = learner.mac.all_outputs(batch, learner.target_params[0])
    goal = learner.targets(batch, q)
    for b, t, i in ((0, 0, 0), (0, 1, 1), (1, 1, 0), (1, 0, 1)):
        legal = [a for a in range(q.shape[-1]) if batch.avail[b, t + 1, i, a]]
        best = max(legal, key=lambda a: float(q[b, t + 1, i, a]))
        torch.testing.assert_close(goal[b, t, i], batch.reward[b, t, i] + 0.5 * slow[b, t + 1, i, best])
    assert torch.equal(goal[0, 2], batch.reward[0, 2]), "terminated"
    assert torch.equal(goal[2, 2], batch.reward[2, 2]), "terminated and truncated is terminated"


@pytest.mark.parametrize("double_q", [True, False])
@pytest.mark.parametrize("common_reward", [True, False])
def test_the_loss_step_by_step_in_float64(double_q: bool, common_reward: bool) -> None:
    """One number after another, from the rows of one agent at one step: what is padded has no part in it."""
    with double():
        learner = learner_of(double_q=double_q, common_reward=common_reward, gamma=0.9)
        learner.target_params[0].mul_(-1.5)
        plain = make_batch(learner.mac, lengths=(3, 2, 3), dead=False, common_reward=common_reward)
        left = plain.agent_terminated.clone()
        left[0, 1:, 1] = True  # an agent that leaves before the others
        batch, weight = with_garbage(replace(plain, agent_terminated=left), learner.mac), torch.tensor([1.0, 0.5, 0.2])
        seen: list[Any] = []
        learner.gradient_step = lambda loss, k=0: seen.append(loss) or 0.0
        _, priority = learner.update(batch, weight)
        network, ids = learner.mac.network, torch.eye(2)

        def values(b: int, t: int, i: int, params: Any) -> Any:
            return network.single(params[0], torch.cat([plain.obs[b, t, i], ids[i]]).unsqueeze(0))[0]

        errors: dict[int, list[Any]] = {}
        for b, t, i in torch.cartesian_prod(torch.arange(3), torch.arange(3), torch.arange(2)).tolist():
            if not plain.filled[b, t] or (not common_reward and t and left[b, t - 1, i]):
                continue
            goal = plain.reward[b, t, i]
            over = plain.terminated[b, t] or (not common_reward and left[b, t, i])
            if not over:
                now, slow = (values(b, t + 1, i, x).detach() for x in (network.params, learner.target_params[0]))
                legal = plain.avail[b, t + 1, i].nonzero().flatten().tolist()
                goal = goal + 0.9 * slow[max(legal, key=lambda a: float((now if double_q else slow)[a]))]
            errors.setdefault(b, []).append(values(b, t, i, network.params)[plain.actions[b, t, i]] - goal)
        want = sum(weight[b] * x**2 for b, row in errors.items() for x in row) / sum(map(len, errors.values()))
        torch.testing.assert_close(seen[0], want, rtol=1e-12, atol=0)
        slopes = [torch.autograd.grad(x, network.params)[0] for x in (seen[0], want)]
        torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-12)
        mean = torch.stack([torch.stack(errors[b]).abs().mean() for b in range(3)])
        torch.testing.assert_close(priority, mean.detach(), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("value", "hard"), [(3, True), (2.5, True), (0.25, False), (1, None)])
def test_slow_copies(value: float, hard: bool | None) -> None:
    learner = learner_of(target_update_interval_or_tau=value)
    params, before = learner.mac.network.params.data, learner.target_params[0].clone()
    for n in range(1, 7):
        params.add_(1.0)
        learner.updates += 1
        learner._move_copies()
        if hard is None:
            assert torch.equal(learner.target_params[0], params)
        elif hard:
            torch.testing.assert_close(learner.target_params[0], before + 3 * (n // 3))
        else:
            before = before + 0.25 * (params - before)
            torch.testing.assert_close(learner.target_params[0], before)


@pytest.mark.parametrize(
    "more",
    [
        {"runner": "rollout", "replay_steps": 1, "rollout_length": 4}, {"replay_steps": 3, "replay": "prioritised"},
        {"use_rnn": True, "obs_last_action": True}, {"replay": "prioritised", "common_reward": False},
        {"sharing": "separate", "obs_agent_id": False, "standardise_obs": True, "standardise_rewards": True},
    ],
    ids=["segments", "steps-prioritised", "recurrent", "individual", "separate"],
)  # fmt: skip
def test_every_kind_of_draw_trains(more: dict[str, Any], tmp_path: Path) -> None:
    run = train(
        tmp_path, CONFIG, "toy_envs:Truncating", LIMITED, **{**SMALL, "epochs": ..., "t_max": 100, **more},
        test_nepisode=2,
    )  # fmt: skip
    assert run.last("updates") > 3
    assert run.last("loss") >= 0
    saved = checkpoints.load(checkpoints.find(tmp_path))
    assert saved["learner"]["updates"] == run.last("updates")
    assert saved["replay"]["chunks"]


def test_importance_weights_scale_what_is_learned() -> None:
    """A row of weight 0 has no part in the gradient."""
    learner = learner_of()
    batch = learner.prepared(whole(learner, 2))
    seen = []
    learner.gradient_step = lambda loss, k=0: seen.append(loss) or 0.0
    for weight in ([1.0, 0.0], [0.0, 1.0], [1.0, 1.0]):
        _, priority = learner.update(batch, torch.tensor(weight))
    torch.testing.assert_close(seen[0] + seen[1], seen[2])
    assert priority.shape == (2,)
    assert bool((priority > 0).all())


@pytest.mark.parametrize("backend", ["serial", "process"])
@pytest.mark.parametrize("runner", ["parallel", "rollout"])
def test_box_actions_and_extra_fields_come_back_from_the_replay(backend: str, runner: str) -> None:
    """Of an environment in workers: its field with a final value, and continuous actions, through chunks as well."""
    cut = {"rollout_length": 6} if runner == "rollout" else {}
    own = settings("mappo", "toy_envs:Counting", {"limit": 4}, backend=backend, workers=2, batch_size_run=3,
                   runner=runner, **cut)  # fmt: skip
    collecting, _, _ = build(own, CPU)
    kept, restored = (Replay(7, 4, generator(1, "replay")) for _ in range(2))
    played = set()
    try:
        for _ in range(2):  # a runner's next batch takes the memory of the last
            batch, _ = collecting.run()
            kept.add(batch)
            played |= {tuple(x.flatten().tolist()) for x in batch.actions[batch.filled]}
    finally:
        collecting.close()
    part = through_a_file({k: torch.from_numpy(x) for k, x in kept.entries(kept.oldest, kept.newest).items()})
    restored.restore(kept.state_dict(), [(kept.oldest, part)])
    for replay in (kept, restored):
        batch = replay.draw_transitions(40, 2).batch
        clock, odd, filled = batch.extra["clock"][..., 0], batch.extra["odd"], batch.filled
        assert batch.extra["clock"].dtype == torch.int64
        assert batch.extra["clock"].shape == (40, 3, 2, 2)
        assert torch.equal(clock[:, 1:][filled], clock[:, :-1][filled] + 1), "at an episode's end too"
        assert torch.equal(odd[filled], clock[:, :-1][filled] % 2 == 0)
        assert bool((clock[:, 1:][batch.truncated] == 4).all())
        assert batch.actions.dtype == torch.float32
        assert batch.before is not None
        assert torch.equal(batch.before.isnan().flatten(1).all(1), clock[:, 0, 0] == 0)
        assert {tuple(x.flatten().tolist()) for x in batch.actions[filled]} <= played
        continued = batch.before[~batch.before.isnan().flatten(1).any(1)]
        assert {tuple(x.flatten().tolist()) for x in continued} <= played
    if runner == "parallel":
        drawn = kept.draw_episodes(6).batch
        assert bool((drawn.extra["clock"][..., 0] == torch.arange(5).view(1, 5, 1)).all())


# -- weights of another run ---------------------------------------------------------------------------------


def test_weights_alone_are_taken_and_the_slow_copies_follow_them() -> None:
    """The replay, the optimiser and the count of updates begin anew."""
    trained, fresh = learner_of(seed=4), learner_of()
    for n in range(3):
        trained.train(whole(trained, 2, n), 0)
    assert trained.updates > 0
    saved = {"mac": trained.mac.state_dict(), "learner": trained.state_dict()}
    assert load_weights(fresh.mac, fresh, saved, "there") == []
    assert torch.equal(fresh.mac.network.params, trained.mac.network.params)
    assert torch.equal(fresh.target_params[0], trained.mac.network.params)
    assert not torch.equal(fresh.target_params[0], trained.target_params[0]), "a target network is the learner's own"
    assert (len(fresh.replay), fresh.updates) == (0, 0)
    other = make_learner("mappo", learner_of().info, hidden_dim=8)
    saved = {"mac": other.mac.state_dict(), "learner": other.state_dict()}
    assert load_weights(fresh.mac, fresh, saved, "there") == [], "an actor's policies too"
    assert torch.equal(fresh.target_params[0], other.mac.network.params)
    narrow = learner_of(hidden_dim=16)
    with pytest.raises(UserError, match=r"init_from=there holds policies of another shape"):
        load_weights(narrow.mac, narrow, saved, "there")


def test_a_run_begins_with_the_weights_of_another(tmp_path: Path) -> None:
    words = [f"--config={CONFIG}", "with", "env=toy_envs:Truncating", "env_args.limit=5", "test_nepisode=0"]
    words += [f"{k}={v}" for k, v in SMALL.items()] + [f"local_results_path={tmp_path}"]
    assert main([*words, "t_max=60"]) == 0
    first = next(p.parent for p in tmp_path.glob("sacred/*/*/1/run.json"))
    assert main([*words, "t_max=10", f"init_from={first}"]) == 0
    states = [checkpoints.load(checkpoints.find(first.parent / n)) for n in ("1", "2")]
    assert states[0]["learner"]["updates"] > 0
    assert states[1]["learner"]["updates"] == 0
    want = states[0]["mac"]["theta"]
    assert torch.equal(states[1]["mac"]["theta"], want)
    assert torch.equal(states[1]["learner"]["targets"][0], want)


# -- the guide ----------------------------------------------------------------------------------------------


def test_the_guide_prints_the_example_and_its_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files as the page prints them, in a folder of one's own."""
    page = (ROOT / "docs" / "adding-an-algorithm.md").read_text(encoding="utf-8")
    page = page[page.index("## 4. An off-policy learner") : page.index("## 5. A continuous policy")]
    (code,), (values,) = blocks("python", page), blocks("yaml", page)
    assert code == (HYSTERETIC / "hysteretic.py").read_text(encoding="utf-8")
    stored = (HYSTERETIC / "hysteretic_iql.yaml").read_text(encoding="utf-8")
    assert values == stored
    (tmp_path / "hysteretic.py").write_text(code, encoding="utf-8")
    (tmp_path / "hysteretic_iql.yaml").write_text(stored, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    command = re.search(r"`oamarl (--config=\./hysteretic_iql\.yaml [^`]*)`", page)
    assert command is not None
    short = ["with", "t_max=1", "test_nepisode=0", "use_cuda=False", "backend=serial", f"local_results_path={tmp_path}"]
    assert main([*command[1].split(), *short]) == 0


def test_hysteresis_1_is_q_learning_and_less_keeps_values_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HYSTERETIC))
    own = str(HYSTERETIC / "hysteretic_iql.yaml")
    seen: dict[Any, list[Any]] = {}
    for name, more in (("plain", {}), (1.0, {"hysteresis": 1.0}), (0.25, {"hysteresis": 0.25})):
        request = Request(
            own if more else CONFIG, None, {**SMALL, "env": "toy_envs:Truncating", "env_args": LIMITED, **more}
        )
        runner, _, learner = build(resolve(request), CPU)
        runner.close()
        monkeypatch.setattr(
            learner, "gradient_step", lambda loss, k=0, name=name: seen.setdefault(name, []).append(loss) or 0.0
        )
        learner.update(whole(learner, 3), torch.ones(3))
        below = torch.tensor([-2.0, 0.0, 2.0])
        if more:
            torch.testing.assert_close(learner.error(below), torch.tensor([4.0, 0.0, 4.0 * more["hysteresis"]]))
    assert torch.equal(seen["plain"][0], seen[1.0][0])
    assert seen[0.25][0] < seen[1.0][0]
