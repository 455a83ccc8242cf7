"""Updates of several runs computed at once: every number is that of the run's own update, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from oamarl.components.updates.optimisers import Adam, step_together
from oamarl.components.updates.parallel import use_threads
from oamarl.learners.together import common
from oamarl.learners.together import families as together
from oamarl.training.building import build

from run_tools import CPU, assert_same, settings

#: a maze of three agents' size whose rows do not fill the processor's vectors
MAZE = {"map": ["######", "#S..G#", "#.RB.#", "######"], "time_limit": 11}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("mappo", {"num_minibatches": 3, "lr_schedule": "linear", "entropy_schedule": "linear"}),
    ("mappo", {"sharing": "separate", "standardise_obs": True, "value_clip": 0.2, "learner_threads": 2}),
    ("ippo", {"use_rnn": True, "critic_use_rnn": True, "num_minibatches": 2}),
    ("ippo", {"runner": "rollout", "rollout_length": 9, "standardise_returns": True, "common_reward": False}),
    ("happo", {"num_minibatches": 2, "entropy_schedule": "linear", "factor_clip": 2.0}),
    ("happo", {"use_rnn": True, "critic_sharing": "separate"}),
    ("oappo", {"num_minibatches": 2, "lr_schedule": "linear"}),
    ("oappo", {"reuse_mode": "frequency", "factor_clip": 2.0, "use_rnn": True}),
    ("oappo", {"reuse_mode": "sample", "reuse_factor": "own", "critic_sharing": "separate"}),
    ("oappo_paper", {"reuse_sigma": 10.0, "batch_size_run": 40, "learner_threads": 2}),  # a shard of more rows
    ("oappo_paper", {"reuse_sigma": 10.0, "reuse_max_rows": 64}),  # each learner's rows in several pieces
    ("mappo", {"batch_size_run": 96, "epochs": 1, "learner_threads": 2}),  # large enough to be cut into shards
]


@pytest.mark.parametrize(("algorithm", "more"), CASES, ids=range(len(CASES)))
def test_updates_are_those_of_each_run(algorithm: str, more: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    alone, common = [], []
    for seed in (1, 2, 3):
        for runs in (alone, common):
            runs.append(build(settings(algorithm, "maze", MAZE, seed=seed, **{"t_max": 400, **more}), CPU))
    use_threads(more.get("learner_threads") or 1)
    try:
        for _ in range(3):
            batches = [(runner.run()[0], runner.t_env) for runner, _, _ in alone]
            assert together.possible(common[0][2])
            found = together.train([(run[2], *given) for run, given in zip(common, batches, strict=True)])
            for (_, mac, learner), other, given, mine in zip(alone, common, batches, found, strict=True):
                scalars, arrays = learner.train(*given)
                assert_same(dict(sorted(scalars.items())), dict(sorted(mine[0].items())))
                assert_same(arrays, mine[1])
                for a, b in ((mac, other[1]), (learner, other[2])):
                    a.observe(given[0]) if a is mac else None
                    b.observe(given[0]) if a is mac else None
                    assert_same(a.state_dict(), b.state_dict())
    finally:
        use_threads(1)
        for runner, *_ in (*alone, *common):
            runner.close()


@pytest.mark.parametrize(
    "more",
    [{"reuse_clip": "learner"}, {"reuse_pull": 0.1}, {"reuse_scheme": "adaptive_kl", "reuse_check": "candidate"}],
)
def test_other_off_agent_updates_are_computed_one_after_another(more: dict[str, Any]) -> None:
    runner, _, learner = build(settings("oappo", "maze", MAZE, seed=1, **more), CPU)
    runner.close()
    assert not together.possible(learner)


def test_one_run_may_have_fewer_minibatches() -> None:
    """Runs whose epochs have fewer mini-batches leave the last steps to the others."""
    from oamarl.components.updates.descent import MiniBatch

    parts = [MiniBatch(torch.arange(2))] * 3
    found = list(common.mini_batches([lambda: iter(parts), lambda: iter(parts[:2])], 2))
    assert [[part.run for part in several] for several in found] == [[0, 1], [0, 1], [0]] * 2


def test_optimisers_step_together_as_each_would() -> None:
    """Different learning rates and step counts; the first step, which begins their state, is each one's own."""
    random = torch.Generator().manual_seed(1)
    start = [torch.randn(2, 37, generator=random) for _ in range(3)]
    sides: list[tuple[list[torch.Tensor], list[Adam]]] = []
    for _ in range(2):
        params = [x.clone().requires_grad_() for x in start]
        sides.append((params, [Adam([x], lr=0.1 * (k + 1), eps=1e-5) for k, x in enumerate(params)]))
    for step in range(4):
        gradients = [torch.randn(2, 37, generator=random) for _ in range(3)]
        for params, _ in sides:
            for x, gradient in zip(params, gradients, strict=True):
                x.grad = gradient.clone()
        few = slice(1, None) if step == 2 else slice(None)  # their counts differ from here on
        for optimiser in sides[0][1][few]:
            optimiser.step()
        step_together(sides[1][1][few])
        assert_same([x.detach() for x in sides[0][0]], [x.detach() for x in sides[1][0]])
        assert_same([o.state_dict() for o in sides[0][1]], [o.state_dict() for o in sides[1][1]])
