"""Recurrent networks compute what is real: rows that they evaluate in an update, against the steps that there are."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
from torch import Tensor

from oamarl.run import build

from run_tools import CPU, settings

smax = pytest.mark.skipif(
    not (importlib.util.find_spec("jax") and importlib.util.find_spec("jaxmarl")), reason="needs the extra smax"
)
GAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "lbf": ("gymma", {"key": "lbforaging:Foraging-8x8-2p-2f-v3", "time_limit": 50}),
    "rware": ("gymma", {"key": "rware:rware-tiny-2ag-v2", "time_limit": 100}),
    "3m": ("smax", {"map_name": "3m"}),
}


@pytest.mark.parametrize("runner", ["parallel", "rollout"])
@pytest.mark.parametrize("game", ["lbf", "rware", pytest.param("3m", marks=smax)])
@pytest.mark.parametrize("algorithm", ["mappo", "mappo_ns", "happo", "oatrpo"])
def test_at_most_a_tenth_of_the_rows_are_none_of_an_agent_s_decisions(
    algorithm: str, game: str, runner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    env, args = GAMES[game]
    more: dict[str, Any] = {"reuse_scheme": "none"} if algorithm == "oatrpo" else {"epochs": 2, "num_minibatches": 2}
    size = {"runner": "rollout", "rollout_length": 64} if runner == "rollout" else {"runner": "parallel"}
    asked = settings(algorithm, env, args, use_rnn=True, critic_use_rnn=True, batch_size_run=8, backend="auto",
                     workers=1, **size, **more)  # fmt: skip
    collects, mac, learner = build(asked, CPU)
    try:
        batch, _ = collects.run()
    finally:
        collects.close()
    rows = {"policies": 0, "critic": 0}
    largest = 0

    def count(who: str, network: Any) -> None:
        single = network.single

        def spy(params: Tensor, x: Tensor, *rest: Any, **options: Any) -> Tensor:
            nonlocal largest
            rows[who] += len(x)
            largest = max(largest, len(x) if who == "policies" else 0)
            return single(params, x, *rest, **options)

        monkeypatch.setattr(network, "single", spy)

    count("policies", mac.network)
    count("critic", learner.value.network)
    learner.train(batch, 0)
    decisions = int(batch.valid.sum())
    if algorithm == "oatrpo":  # a call reads one agent's experience, or for distances that of all others
        each = batch.valid.sum((0, 1))
        assert largest <= 1.1 * int((decisions - each).max().maximum(each.max()))
    else:  # all of it: two epochs, HAPPO also for the sequential factor
        passes = 3 if algorithm == "happo" else 2
        assert decisions * passes <= rows["policies"] <= 1.1 * decisions * passes
    if algorithm != "oatrpo":
        values = int(batch.filled.sum()) * learner.value.n_values * 2
        assert values <= rows["critic"] <= 1.1 * values
