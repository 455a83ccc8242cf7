"""Whole episodes of uniformly drawn legal actions: experience for what is learned before there is a policy (SEPS)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from ..components.batch import Batch
from ..components.finite import first_fault
from ..components.seeding import Purpose
from ..envs.base import EnvInfo
from ..modules.acting import UniformActor
from ..utils.errors import RunError
from ..utils.schema.keys import read
from .episode import EpisodeConfig, EpisodeRunner


class RandomPolicies:
    """Uniform policies, in place of a controller.

    They act where policies act (in environment workers too), with an episode's own action noise: the same play for any
    backend and number of workers.
    """

    fields = ()

    def __init__(self, info: EnvInfo) -> None:
        self._info = info

    def initial_hidden(self, n_slots: int) -> torch.Tensor:
        """Return [B, N, 1]: there is nothing to remember."""
        return torch.zeros(n_slots, self._info.n_agents, 1)

    def actor(self) -> UniformActor:
        """Return what runners act with."""
        return UniformActor(self._info)


class RandomRunner(EpisodeRunner):
    """Runner of uniformly random play; a batch is one whole episode from each slot.

    Rewards are each agent's own, where it has one.

    Args:
        config: slots and backend of the run.
        env, env_args: the environment.
        info: its sizes.
        seed: the run's seed; these episodes are none of its training's or tests'.
    """

    purpose: Purpose = "random"

    def __init__(
        self, config: EpisodeConfig, env: str, env_args: Mapping[str, Any], info: EnvInfo, seed: int
    ) -> None:  # fmt: skip
        own = replace(config, common_reward=False, batch_size=None)
        policies: Any = RandomPolicies(info)
        super().__init__(own, env, env_args, policies, torch.device("cpu"), seed)

    def batch(self) -> Batch:
        """Collect one episode from each slot.

        Raises:
            RunError: a number that is not finite.
        """
        batch, _ = self.run()
        fault = first_fault(batch)
        if fault is not None:
            slot, seed = self.origin(batch, fault.row, fault.step)
            raise RunError(
                "Stopped while random actions were played: the environment gave a number that is not finite: "
                f"{fault} (row {fault.row}, step {fault.step}, slot {slot}, episode seed {seed})."
            )
        return batch


def random_play(values: Mapping[str, Any], info: EnvInfo) -> RandomRunner:
    """Return a runner of random play for a run with the configuration ``values``."""
    return RandomRunner(read(EpisodeConfig, values), values["env"], values["env_args"], info, values["seed"])
