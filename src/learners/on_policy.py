"""What the policy learners share: configuration, weighted rows of experience, and the two objectives on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..components.batch import Batch, Samples
from ..components.generators import generator
from ..components.parallel import alongside, halves
from ..components.schedules import scheduled
from ..controllers.basic_mac import BasicMAC
from ..envs.base import EnvInfo
from ..modules.agents.rnn import NetworkConfig
from ..utils.errors import UserError
from ..utils.schema.keys import key
from .value import Targets, ValueLearner
from .value_config import CriticConfig, Passes, ValueConfig


@dataclass(frozen=True)
class ScheduleConfig:
    """What every on-policy learner reads beside its critic's keys."""

    lr_schedule: str = key("Learning rates: constant, or linear to zero at t_max.", choices=("constant", "linear"))
    t_max: int = key("Environment steps to train for.", low=1)


@dataclass(frozen=True)
class OnePassConfig(CriticConfig, ScheduleConfig):
    """What learners that use a batch once and whole read."""


@dataclass(frozen=True)
class LearnerConfig(ValueConfig, ScheduleConfig):
    """What learners that go over a batch several times read."""

    epochs: int = key("Passes over each batch by the policies (trust-region learners: by the critic alone).", low=1)


@dataclass(frozen=True)
class EntropyConfig:
    """What learners with an entropy bonus read."""

    entropy_coef: float = key("Weight of the entropy bonus.", low=0)
    entropy_schedule: str = key(
        "Entropy weight: constant, or linear to entropy_coef_final.", choices=("constant", "linear")
    )
    entropy_coef_final: float = key("Entropy weight at t_max under entropy_schedule=linear.", low=0)


@dataclass(frozen=True)
class ClipConfig(LearnerConfig, EntropyConfig):
    """What learners with PPO's clipped objective read."""

    eps_clip: float = key("Clipping range epsilon of the probability ratio.", above=0)


@dataclass(frozen=True)
class TrustRegionConfig(LearnerConfig, EntropyConfig):
    """What learners with a natural-gradient step read."""

    kl_threshold: float = key("delta: radius of the trust region (mean KL, nats).", above=0)
    cg_iters: int = key("Iterations of conjugate gradient.", low=1)
    cg_damping: float = key("Damping added to the Fisher matrix.", low=0)
    line_search_steps: int = key("Halvings tried by the backtracking line search.", low=1)


class PolicyLearner:
    """What every on-policy learner is made of: the controller, the value function, streams, and its state.

    What all learners have in common is not left to `train`: the loop gives the batch to the observations' statistics
    after the update, `samples` standardises it by them, and the value function follows its keys by itself.

    Args:
        config: what the learner reads.
        net: the architecture (of the critic too).
        mac: the policies, on ``device`` already.
        info: the environment's sizes.
        common_reward: whether all agents have the same reward.
        joint: one value function for the joint advantage.
        across: each agent's critic also values the other agents' observations.
        device: where everything lives.
        seed: the run's seed.
    """

    config: LearnerConfig | OnePassConfig

    def __init__(
        self,
        config: LearnerConfig | OnePassConfig,
        net: NetworkConfig,
        mac: BasicMAC,
        info: EnvInfo,
        *,
        common_reward: bool,
        joint: bool,
        across: bool = False,
        device: torch.device,
        seed: int,
    ) -> None:
        self.config, self.mac, self.info, self.device = config, mac, info, device
        passes = Passes()
        if isinstance(config, LearnerConfig):
            passes = Passes(config.critic_epochs or config.epochs, config.num_minibatches, config.value_clip)
        self.value = ValueLearner(
            config, net, info, common_reward=common_reward, joint=joint, passes=passes, across=across, device=device,
            policies=mac.index, generator=generator(seed, "init critic"),
            minibatch_generator=generator(seed, "critic minibatches"),
        )  # fmt: skip
        self.generators = {name: generator(seed, name) for name in ("minibatches", "order", "mapping", "kl", "draws")}
        self.optimisers: list[torch.optim.Adam] = []
        self.updates = 0
        self.processed = 0

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse what the learner cannot do: here the reuse mapping; those that follow it have a check of their own.

        Raises:
            UserError: naming the key.
        """
        refuse_reuse(values, cls.__name__.removesuffix("Learner") or cls.__name__)

    def samples(self, batch: Batch) -> tuple[Samples, Targets]:
        """Fix the advantages and lay the batch out for the policies."""
        batch = self.mac.standardised(batch)
        targets = self.value.targets(batch)
        return Samples.make(batch, self.mac.inputs(batch), targets.advantage, self.mac.recurrent), targets

    def halves(self, n: int, rows: int = 1) -> list[slice]:
        """The shards (:func:`oamarl.components.parallel.halves`) of ``n`` entries, ``rows`` rows each."""
        return halves(n, rows, self.mac.recurrent, self.device)

    def critic_update(
        self, batch: Batch, targets: Targets, scale: float
    ) -> AbstractContextManager[Callable[[], dict[str, float]]]:
        """Fit the critic in the background, beside what the caller does; see :mod:`oamarl.components.parallel`."""
        return alongside(partial(self.value.update, batch, targets, scale))

    def lr_scale(self, t_env: int) -> float:
        """The share of the learning rates that the schedule leaves at ``t_env``; set into every optimiser."""
        scale = scheduled(self.config.lr_schedule, 1.0, 0.0, t_env, self.config.t_max)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.config.lr * scale
        return scale

    def order(self) -> list[int]:
        """A random order of the agents (Algorithm 1, line 6)."""
        return torch.randperm(self.info.n_agents, generator=self.generators["order"]).tolist()

    def adam(self, parameters: list[Tensor]) -> torch.optim.Adam:
        """An optimiser of policy parameters."""
        return torch.optim.Adam(parameters, lr=self.config.lr, eps=self.config.optim_eps)

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs to go on with the same numbers."""
        return {
            "value": self.value.state_dict(),
            "optimisers": [o.state_dict() for o in self.optimisers],
            "generators": {name: g.get_state() for name, g in self.generators.items()},
            "updates": self.updates,
            "processed": self.processed,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state back; the controller's parameters are loaded by its own method."""
        self.value.load_state_dict(state["value"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        for name, saved in state["generators"].items():
            self.generators[name].set_state(saved)
        self.updates, self.processed = state["updates"], state["processed"]


def shares_networks(values: Mapping[str, Any], info: EnvInfo) -> bool:
    """Whether two agents act by one network."""
    sharing = values["sharing"]
    grouped = isinstance(sharing, list) and len(set(sharing)) < len(sharing)
    return info.n_agents > 1 and (sharing in ("shared", "selective") or grouped)


def refuse_for_sequential(values: Mapping[str, Any], info: EnvInfo, method: str) -> None:
    """What the sequential and off-agent methods cannot do, each refused in one sentence.

    Raises:
        UserError: individual rewards, shared networks, agent ids, or an agent-specific critic.
    """
    if not values["common_reward"]:
        raise UserError(
            f"{method} needs common_reward=True: its joint advantage has no meaning for individual rewards."
        )
    if shares_networks(values, info):
        raise UserError(
            f"{method} updates agents one after another: sharing={values['sharing']} is refused, use sharing=separate."
        )
    if values["obs_agent_id"]:
        raise UserError(f"{method} has separate networks without agent ids: use obs_agent_id=False.")
    if values["critic_agent_obs"] or values["critic_type"] != "cv_critic" or values["critic_sharing"] != "shared":
        raise UserError(
            f"{method} has one joint critic: use critic_type=cv_critic, critic_sharing=shared, critic_agent_obs=False."
        )


def refuse_recurrent_segments(values: Mapping[str, Any], method: str) -> None:
    """An agent's own hidden state on another's experience has to begin somewhere.

    Raises:
        UserError: recurrent policies and segments.
    """
    if values["use_rnn"] and values["runner"] == "rollout":
        raise UserError(
            f"{method} with use_rnn=True needs whole episodes to reuse: runner=rollout is refused, use runner=parallel."
        )


def refuse_reuse(values: Mapping[str, Any], method: str) -> None:
    """A learner that does not follow the reuse mapping would ignore its keys without a word.

    Raises:
        UserError: the mapping's controller is configured.
    """
    if values["mac"] == "reuse_mac":
        raise UserError(
            f"{method} does not reuse other agents' experience: mac=reuse_mac is refused, use mac=basic_mac."
        )
