"""What tests of evaluation share: a team that always does the same, and episodes compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from oamarl.envs.build import make_info
from oamarl.envs.vector.base import VecConfig
from oamarl.evaluation.play import Episode
from oamarl.evaluation.team import Memory


class Constant:
    """A team whose agent i always takes action ``actions[i]``."""

    def __init__(self, env: str, env_args: dict[str, Any], actions: list[int]) -> None:
        self.info, self.actions = make_info(env, env_args), torch.tensor([actions])

    def begin(self, n: int) -> Memory:
        return Memory(torch.zeros(n, self.info.n_agents, 1), torch.full((n, self.info.n_agents), -1))

    def decide(self, obs: Any, avail: Any, memory: Memory, uniform: Any) -> torch.Tensor:
        assert obs.shape[0] == 1
        return self.actions


def stepping(backend: str = "serial", **more: Any) -> VecConfig:
    values = {"workers": None, "step_timeout": None, "reset_timeout": None, "on_worker_death": "fail"}
    return VecConfig(backend=backend, **{**values, "worker_affinity": "auto", **more})


def same(a: list[Episode], b: list[Episode]) -> None:
    assert [(e.number, e.seed, e.length, e.terminated) for e in a] == [
        (e.number, e.seed, e.length, e.terminated) for e in b
    ]
    np.testing.assert_array_equal([e.returns for e in a], [e.returns for e in b])
    np.testing.assert_array_equal([e.metrics for e in a], [e.metrics for e in b])
