"""What tests of evaluation share: a team that always does the same, and episodes compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from oamarl.envs.build import make_info
from oamarl.envs.vector.base import VecConfig
from oamarl.evaluation.play import Episode


class Constant:
    """A team whose agent i always takes action ``actions[i]``: its own controller and actor."""

    noise, width, fields, arrays, recipe = None, 0, (), {}, None

    def __init__(self, env: str, env_args: dict[str, Any], actions: list[int]) -> None:
        self.extras: dict[str, Any] = {}
        self.info, self.actions = make_info(env, env_args), np.array([actions])
        self.mac = self.actor = self

    def initial_hidden(self, n: int) -> torch.Tensor:
        return torch.zeros(n, self.info.n_agents, 1)

    def __call__(self, obs: Any, avail: Any, last: Any, hidden: Any, noise: Any, context: Any) -> Any:
        assert noise is None
        assert context.test
        return self.actions.repeat(len(obs), 0), np.zeros(obs.shape[:2], np.float32), hidden


def stepping(backend: str = "serial", **more: Any) -> VecConfig:
    values = {"workers": None, "step_timeout": None, "reset_timeout": None, "on_worker_death": "fail"}
    return VecConfig(backend=backend, **{**values, "worker_affinity": "auto", "ray_address": None, **more})


def same(a: list[Episode], b: list[Episode]) -> None:
    assert [(e.number, e.seed, e.length, e.terminated) for e in a] == [
        (e.number, e.seed, e.length, e.terminated) for e in b
    ]
    np.testing.assert_array_equal([e.returns for e in a], [e.returns for e in b])
    np.testing.assert_array_equal([e.metrics for e in a], [e.metrics for e in b])
