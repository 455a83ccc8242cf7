"""MAPTF on MADDPG: the distance to the policies that agents follow, by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_maddpg import box_batch, box_info

from oamarl.learners.deterministic.steps import Steps

from learner_tools import make_batch, make_info, make_learner

REPLAY: dict[str, Any] = {"batch_size": 8, "buffer_size": 40, "replay_steps": 1}


@pytest.mark.parametrize("continuous", [False, True])
def test_the_loss_of_maddpg_by_hand(continuous: bool) -> None:
    if continuous:
        learner = make_learner("maptf_maddpg", box_info(), **REPLAY)
        batch = box_batch(learner.info)
    else:
        learner = make_learner("maptf_maddpg", make_info(3), **REPLAY)
        batch = make_batch(learner.mac)
    n = learner.info.n_agents
    steps = Steps.of(
        batch, learner.info, learner.critics.n_values, 0.9, 1, first=None, bootstrap_truncated=True, by_agent=False
    )
    held = torch.randint(n, steps.valid.shape, generator=torch.Generator().manual_seed(2))
    params = learner.policy.detach() + 0.1
    found = learner.distance(steps, learner.outputs(batch, steps.now, params), held)
    x = learner.mac.with_extras(steps.now.obs, steps.now.last)
    for s in range(len(found)):
        for i in range(n):
            o, row, avail = int(held[s, i]), x[s, i].unsqueeze(0), steps.now.avail[s, i]
            towards = learner.mac.network.single(learner.policy.detach()[o], row)[0]
            mine = learner.mac.network.single(params[i], row)[0]
            if continuous:
                expected = (torch.tanh(towards) - torch.tanh(mine)).square().sum()
            else:
                p, q = (torch.softmax(y[avail], -1) for y in (towards, mine))
                expected = (p * (p.log() - q.log())).sum()
            torch.testing.assert_close(found[s, i], expected if o != i else torch.zeros(()), atol=1e-6, rtol=1e-4)
