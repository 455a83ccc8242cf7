"""Continuous actions end to end: learned by every policy method, in workers, resumed, evaluated and loaded."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

import oamarl
from oamarl.components.batch import Batch
from oamarl.components.experience import EnvInfo, Field
from oamarl.components.updates.samples import Samples
from oamarl.envs.build import make_info
from oamarl.envs.vector.base import VecConfig
from oamarl.evaluation.play import Plan, evaluate
from oamarl.modules.action_selectors import Multinomial
from oamarl.run import build
from oamarl.utils.errors import UserError

from learner_tools import make_learner
from run_tools import CPU, assert_same, assert_same_batch, settings, train

TARGET = "toy_envs:Target"
QUICK = {"batch_size_run": 32, "lr": 0.003, "hidden_dim": 32, "gamma": 0.5, "t_max": 4000, "test_nepisode": 0}


@pytest.mark.parametrize(
    ("algorithm", "more"),
    [(name, {}) for name in ("mappo", "happo", "hatrpo", "oappo", "oatrpo")]
    + [("mappo", {"use_rnn": True}), ("oatrpo", {"use_rnn": True}), ("hatrpo", {"action_std": "state"}),
       ("happo", {"action_std_form": "sigmoid"}),
       ("mappo", {"obs_last_action": True, "sharing": "separate", "obs_agent_id": False})],
)  # fmt: skip
def test_a_target_is_learned(algorithm: str, more: dict[str, Any], tmp_path: Path) -> None:
    """Untrained policies lose about 2.5 an episode by their means."""
    run = train(tmp_path, algorithm, TARGET, {"ragged": False}, **{**QUICK, **more, "test_nepisode": 16})
    assert run.last("test_greedy_return_mean") > -1.0


def collected(backend: str, **more: Any) -> list[Batch]:
    asked = settings(
        "mappo", TARGET, {"ragged": True}, backend=backend, workers=2, batch_size_run=3, head_gain=1.0, **more
    )
    runner, _, _ = build(asked, CPU)
    try:
        return [Batch.of({k: x.clone() for k, x in runner.run()[0].named().items()}) for _ in range(3)]
    finally:
        runner.close()


@pytest.mark.parametrize(
    "more", [{}, {"use_rnn": True, "obs_last_action": True}, {"runner": "rollout", "rollout_length": 7}]
)
def test_workers_draw_the_same_actions(more: dict[str, Any]) -> None:
    serial, process = collected("serial", **more), collected("process", **more)
    for a, b in zip(serial, process, strict=True):
        assert_same_batch(a, b)
        assert a.actions.shape[2:] == (2, 2)
        assert a.actions.dtype == torch.float32
        assert (a.actions[:, :, 1, 1] == 0).all(), "the second agent has one dimension"
        assert (a.actions.abs() > 1).any(), "stored as drawn, and clipped for the environment alone"


def test_last_actions_end_with_an_episode() -> None:
    for batch in collected("serial", runner="rollout", rollout_length=7):
        last = batch.last_actions
        assert torch.equal(last.isnan().flatten(2).all(-1), batch.begins)
        going = ~batch.begins[:, 1:]
        assert torch.equal(last[:, 1:][going], batch.actions[going])


@pytest.mark.parametrize("form", ["exp", "sigmoid"])
def test_acting_and_learning_agree_on_probabilities(form: str) -> None:
    """Ratios of the first update are 1: workers' numpy and the learner's torch compute one distribution."""
    asked = settings("mappo", TARGET, {"ragged": True}, head_gain=1.0, obs_last_action=True, sharing="separate",
                     use_rnn=True, action_std_form=form)  # fmt: skip
    runner, mac, learner = build(asked, CPU)
    batch, _ = runner.run()
    samples, _ = learner.samples(batch)
    policy, at, _ = mac.policies(samples, samples.entries)
    torch.testing.assert_close(policy.log_prob(samples.actions[at]), samples.log_prob[at], rtol=1e-4, atol=1e-4)
    runner.close()


def test_distances_are_exact_divergences() -> None:
    """D[i, j] = KL(pi_j || pi_i) by torch's own formula, largest over j's steps; b and c are means."""
    info = make_info(TARGET, {})
    learner = make_learner("oappo", info, reuse_kl_reduction="max")
    mac = learner.mac
    obs = torch.randn(20, 2, info.obs_size)
    with torch.no_grad():
        mac.network.params += 0.1 * torch.randn(mac.network.params.shape)
        outputs = [[mac.network.single(mac.network.params[i], obs[:, j]) for j in range(2)] for i in range(2)]
    samples = Samples(
        obs, torch.ones(20, 2, 2, dtype=torch.bool), torch.zeros(20, 2, 2), torch.zeros(20, 2),
        torch.ones(20, 2, dtype=torch.bool), torch.zeros(20, 2), torch.arange(20),
    )  # fmt: skip
    found = mac.distances(mac.measured(samples, torch.arange(20)))

    def gaussian(x: torch.Tensor) -> Independent:
        return Independent(Normal(x[:, :2], x[:, 2:].exp()), 1)

    for i, j in ((0, 1), (1, 0)):
        source, learned = gaussian(outputs[j][j]), gaussian(outputs[i][j])
        expected = kl_divergence(source, learned)
        assert found.kl[i, j] == pytest.approx(float(expected.max()), rel=1e-4)
        assert found.bias[i, j] == pytest.approx(float((expected / 2).sqrt().clamp(max=1).mean()), rel=1e-3)
        s, t = learned.base_dist, source.base_dist
        left = 2 - (s.scale / t.scale) ** 2  # above 0 here: deviations differ by less than a third
        factors = t.scale / s.scale / left.sqrt() * ((s.loc - t.loc) ** 2 / (t.scale**2 * left)).exp()
        assert found.chi_square[i, j] == pytest.approx(float((factors.prod(1) - 1).double().mean()), rel=1e-3)


def test_free_deviations_are_the_last_parameters_of_a_row() -> None:
    mac = make_learner("hatrpo", make_info(TARGET, {})).mac
    assert mac.network.params[:, -2:].tolist() == [[-0.5, -0.5]] * 2
    mac.network.params.data[1, -2:] = torch.tensor([0.25, 0.75])
    policy = mac.policy(mac.network.params[1], torch.randn(5, 2), torch.ones(5, 2, dtype=torch.bool))
    assert policy.log_std.tolist() == [[0.25, 0.75]] * 5


def test_the_bounded_form_begins_as_harls() -> None:
    mac = make_learner("oappo", make_info(TARGET, {}), action_std_form="sigmoid", std_x_coef=2.0, std_y_coef=0.8).mac
    assert mac.network.params[:, -2:].tolist() == [[2.0, 2.0]] * 2
    policy = mac.policy(mac.network.params[1], torch.randn(5, 2), torch.ones(5, 2, dtype=torch.bool))
    assert policy.log_std.exp()[0].tolist() == pytest.approx([0.8 / (1 + math.exp(-1))] * 2)


@pytest.mark.parametrize("backend", ["serial", "process"])
def test_evaluated_and_loaded(backend: str, tmp_path: Path) -> None:
    keys = {"batch_size_run": 3, "t_max": 150, "runner": "rollout", "rollout_length": 7, "test_nepisode": 2,
            "backend": backend, "workers": 2, "checkpoint_interval": 42, "save_model": True,
            "save_model_interval": 42}  # fmt: skip
    team = oamarl.load(train(tmp_path, "oappo", TARGET, **keys).folder)
    plan = Plan(TARGET, {}, 5, 1, greedy=False, slots=2, stepping=stepping(backend))
    one = evaluate(team, replace(plan, slots=1, stepping=stepping("serial")))
    assert [e.returns.tolist() for e in evaluate(team, plan)] == [e.returns.tolist() for e in one]
    actions = team.act(np.full((4, 2, 2), 50.0, np.float32))
    assert actions.dtype == np.float32
    assert actions.shape == (4, 2, 2)
    assert (np.abs(actions) <= 1).all(), "within the bounds"


def stepping(backend: str) -> VecConfig:
    values = {"workers": 2, "step_timeout": None, "reset_timeout": None, "on_worker_death": "fail"}
    return VecConfig(backend=backend, **values, worker_affinity="auto", ray_address=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ["serial", "process"])
def test_a_segment_continues_where_a_checkpoint_left_it(backend: str) -> None:
    """Actions of unfinished episodes are kept as drawn and replayed within the bounds: the next batch is the same."""
    asked = settings("mappo", TARGET, {"limit": 9}, backend=backend, workers=2, batch_size_run=3, head_gain=1.0,
                     runner="rollout", rollout_length=7, obs_last_action=True, use_rnn=True)  # fmt: skip
    left, _, _ = build(asked, CPU)
    again, _, _ = build(asked, CPU)
    left.run()
    assert again.load_state_dict(left.state_dict()) == []
    assert_same_batch(left.run()[0], again.run()[0])
    left.close()
    again.close()


# -- extra fields ------------------------------------------------------------------------------------------------


class Remembering(Multinomial):
    """Records the behaviour policy's logits: one more field from the actor."""

    fields = (Field("logits", ("N", "A"), "float32", "actor"),)

    def record(self, outputs: np.ndarray, avail: np.ndarray, actions: np.ndarray) -> dict[str, np.ndarray]:
        return {"logits": outputs}


@pytest.mark.parametrize("runner", ["parallel", "rollout"])
def test_one_more_field_of_the_environment(runner: str) -> None:
    found = []
    for backend in ("serial", "process"):
        asked = settings("mappo", "toy_envs:Counting", {"limit": 4}, backend=backend, workers=2, batch_size_run=3,
                         runner=runner, **({"rollout_length": 6} if runner == "rollout" else {}))  # fmt: skip
        built, _, _ = build(asked, CPU)
        batch, _ = built.run()
        clock, odd = batch.extra["clock"], batch.extra["odd"]
        t = batch.actions.shape[1]
        assert clock.shape == (3, t + 1, 2, 2)
        assert clock.dtype == torch.int64
        assert (clock[:, :4, 0, 0] == torch.arange(4)).all()
        assert torch.equal(odd, clock[:, :t, :, 0] % 2 == 0)
        if runner == "rollout":
            assert (batch.extra["final_clock"] == 4).all()
            assert len(batch.extra["final_clock"]) == 3
        else:
            assert (clock[:, -1] == 4).all()
        assert sorted(batch.to("cpu").extra) == sorted(batch.extra)
        found.append({k: x.clone() for k, x in batch.named().items()})
        built.close()
    assert_same(*found)


@pytest.mark.parametrize("backend", ["serial", "process"])
def test_one_more_field_of_the_actor(backend: str) -> None:
    asked = settings("mappo", "toy_envs:Ragged", {"limit": 4}, backend=backend, workers=2, batch_size_run=3,
                     action_selector=f"{__name__}:Remembering", head_gain=1.0)  # fmt: skip
    built, mac, learner = build(asked, CPU)
    batch, _ = built.run()
    samples, _ = learner.samples(batch)
    outputs = mac.network.stacked(mac.network.params, samples.inputs.flatten(0, 1).unsqueeze(0))[0]
    recorded = batch.extra["logits"][batch.filled].flatten(0, 1)
    torch.testing.assert_close(recorded, outputs.detach(), rtol=1e-4, atol=1e-5)
    built.close()


@pytest.mark.parametrize(
    ("field", "words"),
    [(Field("obs", ("N",), "float32", "after"), "needs a name of its own"),
     (Field("x", ("Q",), "float32", "after"), "has the axis 'Q'"),
     (Field("x", ("N",), "floaty", "after"), "has the type 'floaty'"),
     (Field("x", ("N",), "float32", "actor"), "is known 'actor'")],
)  # fmt: skip
def test_wrong_fields_get_a_sentence(field: Field, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import toy_envs

    def info(self: Any, limit: int = 6, end: int | None = None) -> None:
        plain = EnvInfo("toy", 2, 3, 6, 2, 6, (3, 3), (2, 2))
        self.info = replace(plain, extra=(field,))

    monkeypatch.setattr(toy_envs.Toy, "__init__", info)
    with pytest.raises(UserError, match=words):
        make_info("toy_envs:Truncating", {})
