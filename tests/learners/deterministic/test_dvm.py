"""DVM: what a distillation comes to, that the agents then are the student, and what lies between."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_maddpg import box_batch, box_info

from oamarl.learners.deterministic.steps import Steps
from oamarl.utils.errors import UserError

from learner_tools import make_batch, make_info, make_learner, through_a_file

SMALL: dict[str, Any] = {
    "batch_size": 8, "buffer_size": 40, "standardise_rewards": False, "warmup_steps": 0, "replay_steps": 1,
    "q_nstep": None, "updates_per_step": None, "grad_norm_clip": 1e9, "distill_updates": 1,
}  # fmt: skip


def discrete(**more: Any) -> Any:
    return make_learner("dvm", make_info(2), **{**SMALL, **more})


def steps_of(learner: Any, batch: Any) -> Steps:
    return Steps.of(
        batch, learner.info, learner.critics.n_values, 0.9, 1, first=None, bootstrap_truncated=True, by_agent=False
    )


@pytest.mark.parametrize("continuous", [False, True])
def test_distances_by_hand(continuous: bool) -> None:
    """The agents' distances to the student, one after another: KL or squares of actions, and squares of values."""
    if continuous:
        learner = make_learner("dvm", box_info(), **{**SMALL, "twin_critic": True})
        batch = box_batch(learner.info)
    else:
        learner, batch = discrete(twin_critic=True), None
        batch = make_batch(learner.mac, dead=False)
    steps = steps_of(learner, batch)
    policy, critic = learner.student
    policy.add_(0.1)
    critic.sub_(0.05)
    view, found = steps.now, torch.zeros(())
    for i in range(2):
        row = learner.mac.with_extras(view.obs, view.last)[:, i]
        teacher, student = (learner.mac.network.single(x, row) for x in (learner.policy.detach()[i], policy[0]))
        if continuous:
            found = found + (torch.tanh(teacher) - torch.tanh(student)).square().sum()
        else:
            p, q = (torch.softmax(x.masked_fill(~view.avail[:, i], -1e9), -1) for x in (teacher, student))
            found = found + (p * ((p + 1e-30).log() - (q + 1e-30).log())).sum()
    expected = found / steps.valid.sum()
    torch.testing.assert_close(learner._policy_distance(batch, steps, policy), expected, atol=1e-5, rtol=1e-5)
    seen, taken = learner.critics.seen(view.obs, view.state), learner.taken(steps.actions, view.avail)
    own = torch.stack([learner.critics(learner.critic.detach(), seen, taken, k) for k in (0, 1)])
    rows = torch.cat([seen, taken.flatten(1)], dim=-1)
    one = torch.stack([learner.critics.network.single(x, rows) for x in critic])  # [twin, S, 1]
    values = (own - one).square().sum() / steps.mask.sum()
    torch.testing.assert_close(learner._critic_distance(steps, critic), values, atol=1e-5, rtol=1e-5)


def test_a_distillation_makes_all_agents_the_student() -> None:
    learner = discrete(distill_interval=10, distill_updates=300, lr=0.01)
    batch = make_batch(learner.mac, dead=False)
    learner.train(batch, 5)
    assert not torch.equal(learner.policy[0], learner.policy[1])
    before = float(learner._policy_distance(batch, steps_of(learner, batch), learner.student[0]))
    found, _ = learner.train(make_batch(learner.mac, dead=False, seed=1), 12)
    for params in (learner.policy, learner.critic, learner.target_policy, learner.target_critic):
        assert torch.equal(params[0], params[1])
    assert found["distill_policy_loss"] < 0.2 * before
    learner.train(make_batch(learner.mac, dead=False, seed=2), 21)
    assert not torch.equal(learner.policy[0], learner.policy[1]), "not due before step 22, and they part"


def test_between_distillations_it_is_maddpg() -> None:
    base = make_learner("maddpg_ns", make_info(2), **{k: v for k, v in SMALL.items() if k != "distill_updates"})
    learner = discrete(distill_interval=1000)
    for k in range(3):
        for one in (base, learner):
            one.train(make_batch(one.mac, dead=False, seed=k), 10 * k)
    assert torch.equal(base.policy, learner.policy)
    assert torch.equal(base.critic, learner.critic)


def test_a_resumed_learner_distils_to_the_same_numbers() -> None:
    whole = discrete(distill_interval=10)
    whole.train(make_batch(whole.mac, dead=False), 12)
    again = discrete(distill_interval=10, seed=5)
    again.mac.load_state_dict(through_a_file(whole.mac.state_dict()))
    again.load_state_dict(through_a_file(whole.state_dict()))
    again.replay = whole.replay  # which has files of its own
    drawn = whole.replay.generator.get_state()
    expected = whole.distil()
    again.replay.generator.set_state(drawn)
    assert again._distilled_at == 12
    assert again.distil() == expected
    assert torch.equal(again.policy, whole.policy)
    assert torch.equal(again.critic, whole.critic)


@pytest.mark.parametrize(
    ("more", "message"),
    [({"sharing": "shared"}, "sharing=separate"), ({"critic_sharing": "shared"}, "critic_sharing=separate")],
)
def test_what_is_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        discrete(**more)
    with pytest.raises(UserError, match="differ in observations or actions"):
        make_learner("dvm", make_info(2, ragged=True), **SMALL)
