"""Parts of all on-policy learners: their configuration, the two ends of an iteration, and refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..components.batch import Batch
from ..components.generators import generator
from ..components.schedules import scheduled
from ..components.updates.descent import NO_TALLIES, Descents, Loss, MiniBatch, descend, epoch
from ..components.updates.optimisers import Adam
from ..components.updates.parallel import in_background
from ..components.updates.samples import Samples
from ..controllers.basic_mac import BasicMAC
from ..envs.base import EnvInfo
from ..modules.agents.module import ModuleStack
from ..modules.agents.rnn import Network, NetworkConfig
from ..utils.errors import UserError
from ..utils.schema.keys import key
from .value.config import CriticConfig, EpochConfig, ValueConfig
from .value.reciprocity import Reciprocity
from .value.state_values import Targets, ValueLearner


@dataclass(frozen=True)
class ScheduleConfig:
    """Configuration of every on-policy learner beside its critic's keys."""

    lr_schedule: str = key("Learning rates: constant, or linear to zero at t_max.", choices=("constant", "linear"))
    t_max: int = key("Environment steps to train for.", low=1)


@dataclass(frozen=True)
class OnePassConfig(CriticConfig, ScheduleConfig):
    """Configuration of learners that use a batch once, as one mini-batch."""


@dataclass(frozen=True)
class LearnerConfig(ValueConfig, ScheduleConfig):
    """Configuration of learners with several epochs a batch."""

    epochs: int = key("Passes over each batch by the policies (trust-region learners: by the critic alone).", low=1)


@dataclass(frozen=True)
class EntropyConfig:
    """Configuration of learners with an entropy bonus."""

    entropy_coef: float = key("Weight of the entropy bonus.", low=0)
    entropy_schedule: str = key(
        "Entropy weight: constant, or linear to entropy_coef_final.", choices=("constant", "linear")
    )
    entropy_coef_final: float = key("Entropy weight at the end of entropy_schedule=linear.", low=0)
    entropy_end_ratio: float = key("Share of t_max at which entropy_schedule=linear is at its end.", above=0, high=1)


@dataclass(frozen=True)
class ClipConfig(LearnerConfig, EntropyConfig):
    """Configuration of learners with PPO's clipped objective."""

    eps_clip: float = key("Clipping range epsilon of the probability ratio.", above=0)


@dataclass(frozen=True)
class TrustRegionConfig(LearnerConfig, EntropyConfig):
    """Configuration of learners with a natural-gradient step."""

    kl_threshold: float = key("delta: radius of the trust region (mean KL, nats).", above=0)
    cg_iters: int = key("Iterations of conjugate gradient.", low=1)
    cg_damping: float = key(
        "Damping added to the Fisher matrix in solving for a step's direction, not in its length.", low=0
    )
    line_search_steps: int = key("Halvings tried by the backtracking line search.", low=1)


@dataclass(frozen=True)
class Iteration:
    """Batch, advantages, targets and schedules of one iteration, fixed before its first update.

    | field | meaning |
    |---|---|
    | batch | the experience that the acting policies collected |
    | samples | the same as rows for the policies, with their advantages |
    | targets | the critic's value targets |
    | counts | [N] valid steps of each agent |
    | lr_scale | the share of the learning rates that the schedule leaves |
    | entropy_coef | the weight of the entropy bonus (0 for learners that have none) |
    | norms | the gradients' norms, in the order of the policies' updates |
    """

    batch: Batch
    samples: Samples
    targets: Targets
    counts: Tensor
    lr_scale: float
    entropy_coef: float
    norms: list[Tensor] = field(default_factory=list)


class PolicyLearner:
    """Base of every on-policy learner: the controller, the critic, optimisers, random streams, and their state.

    A learner's `train` is :meth:`begin_iteration`, the updates of its method, and :meth:`end_iteration`. Observations
    are standardised at the beginning; the training loop takes the batch into their statistics after the update.

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
        source_targets: across: an agent's experience has the targets of its own critic, for all that learn from it.
        value: the critic; None: state values, as configured.
    """

    #: `batch_size` counts the episodes that a runner collects for one update
    on_policy = True

    config: LearnerConfig | OnePassConfig
    #: whether policies are differentiated twice (Fisher products): networks need second derivatives then
    twice = False
    #: whether losses are fixed for a batch and read nothing from the device: then their steps are repeated as graphs
    repeats = False

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
        source_targets: bool = False,
        value: ValueLearner | None = None,
    ) -> None:
        self.config, self.mac, self.info, self.device = config, mac, info, device
        if self.twice and isinstance(mac.network, ModuleStack):
            mac.network.check_twice(type(self).__name__.removesuffix("Learner"))
        epochs, self.n_epochs, self.n_minibatches = EpochConfig(), 1, 1
        if isinstance(config, LearnerConfig):
            self.n_epochs, self.n_minibatches = config.epochs, config.num_minibatches
            epochs = EpochConfig(config.critic_epochs or config.epochs, config.num_minibatches, config.value_clip)
        self.value = value or ValueLearner(
            config, net, info, common_reward=common_reward, joint=joint, epochs=epochs, across=across, device=device,
            source_targets=source_targets, policies=mac.index, reciprocity=Reciprocity.of(config, info, device),
            generator=generator(seed, "init critic"), minibatch_generator=generator(seed, "critic minibatches"),
        )  # fmt: skip
        self.generators = {name: generator(seed, name) for name in ("minibatches", "order", "mapping", "kl", "draws")}
        self.optimisers: list[Adam] = []
        # the sequences of each mini-batch are laid out otherwise, which no graph can hold
        self.descents = Descents(device, self.repeats and isinstance(mac.network, Network) and not mac.recurrent)
        self.updates = 0
        self.processed = 0

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse what the learner cannot do: here the reuse mapping; those that follow it have a check of their own.

        Raises:
            UserError: naming the key.
        """
        name = cls.__name__.removesuffix("Learner") or cls.__name__
        refuse_unsampled(values, name)
        refuse_reuse(values, name)

    def samples(self, batch: Batch) -> tuple[Samples, Targets]:
        """Fix the advantages and lay the batch out for the policies."""
        batch = self.mac.standardised(batch)
        targets = self.value.targets(batch)
        return Samples.make(batch, self.mac.inputs(batch), targets.advantage, self.mac.recurrent), targets

    def begin_iteration(self, batch: Batch, t_env: int) -> Iteration:
        """Set the learning rates and the entropy weight of step ``t_env``, and fix advantages and value targets."""
        c, entropy_coef = self.config, 0.0
        lr_scale = self.lr_scale(t_env)
        if isinstance(c, EntropyConfig):
            end = c.t_max * c.entropy_end_ratio
            entropy_coef = scheduled(c.entropy_schedule, c.entropy_coef, c.entropy_coef_final, t_env, end)
        samples, targets = self.samples(batch)
        return Iteration(batch, samples, targets, samples.counts(), lr_scale, entropy_coef)

    def critic_update(self, it: Iteration) -> AbstractContextManager[Callable[[], dict[str, float]]]:
        """Fit the critic beside the policies' updates; its scalars are there when they are asked for."""
        work = partial(self.value.update, it.batch, it.targets, it.lr_scale)
        # a GPU works on the policies' steps while the critic's are launched: a second thread would only be in the way
        return in_background(work) if self.device.type == "cpu" else nullcontext(work)

    def end_iteration(self, it: Iteration, critic: Mapping[str, float]) -> dict[str, float]:
        """Count the update; returns the scalars that all learners log: the critic's, and what schedules gave."""
        self.updates += 1
        self.descents.renew()
        scalars = {**critic, "lr": self.config.lr * it.lr_scale}
        return scalars | {"entropy_coef": it.entropy_coef} if isinstance(self.config, EntropyConfig) else scalars

    def epochs(self, it: Iteration) -> Iterator[MiniBatch]:
        """Yield the mini-batches of all `epochs` over an iteration's entries."""
        for _ in range(self.n_epochs):
            yield from self.epoch(it)

    def epoch(self, it: Iteration) -> Iterator[MiniBatch]:
        """Yield the mini-batches of one epoch over an iteration's entries."""
        return epoch(it.samples.n_entries, self.n_minibatches, self.generators["minibatches"], it.samples.choice)

    def descend(
        self, it: Iteration, k: int, params: Tensor | Sequence[Tensor], part: MiniBatch, loss: Loss,
        tallies: Sequence[Any] = NO_TALLIES, rows: int = 1, times: int | None = None,
    ) -> Tensor:  # fmt: skip
        """Step optimiser ``k`` once on ``loss`` of a mini-batch; see :func:`oamarl.components.updates.descent.descend`.

        Args:
            params: the leaf that the optimiser changes, [K, P] or [P], or several.
            rows: network rows that an entry takes.
            times: how many steps are taken on this loss; None: one for each mini-batch of all epochs.

        Returns:
            the loss; the gradient's norm is added to ``it.norms``.
        """

        def step(part: MiniBatch) -> tuple[Tensor, Tensor]:
            return descend(
                self.optimisers[k], params, part, loss, tallies, rows=rows, recurrent=self.mac.recurrent,
                clip=self.config.grad_norm_clip,
            )  # fmt: skip

        times = self.n_epochs * self.n_minibatches if times is None else times
        value, norm = self.descents(k, loss, part, step, times)
        it.norms.append(norm)
        return value

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

    def adam(self, parameters: list[Tensor]) -> Adam:
        """An optimiser of policy parameters."""
        return Adam(parameters, lr=self.config.lr, eps=self.config.optim_eps)

    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Yield ("policies", [K, P]) and ("critic", [V, P])."""
        yield from self.mac.parameters()
        yield "critic", self.value.network.params

    def load_weights(self, state: Mapping[str, Any]) -> list[str]:
        """Take the critic of another learner's state; returns ``["critic"]`` where there is none that fits."""
        return [] if "value" in state and self.value.load_weights(state["value"]) else ["critic"]

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs to continue with the same numbers."""
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
    """Whether any two agents share a policy network."""
    sharing = values["sharing"]
    grouped = isinstance(sharing, list) and len(set(sharing)) < len(sharing)
    return info.n_agents > 1 and (sharing in ("shared", "selective") or grouped)


def refuse_for_sequential(values: Mapping[str, Any], info: EnvInfo, method: str) -> None:
    """Refuse what the sequential and off-agent methods cannot do, each in one sentence.

    Raises:
        UserError: individual rewards, shared networks, agent ids, or an agent-specific critic.
    """
    refuse_unsampled(values, method)
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
    if values["critic_agent_obs"] or values["critic_type"] != "cv_critic" or values["critic_sharing"] == "policies":
        raise UserError(
            f"{method} has critics of the state, one or one for each agent: use critic_type=cv_critic, "
            "critic_sharing=shared or separate, critic_agent_obs=False."
        )


def refuse_reuse(values: Mapping[str, Any], method: str) -> None:
    """Refuse the reuse mapping for a learner that does not follow it: its keys would have no effect.

    Raises:
        UserError: the mapping's controller is configured.
    """
    if values["mac"] == "reuse_mac":
        raise UserError(
            f"{method} does not reuse other agents' experience: mac=reuse_mac is refused, use mac=basic_mac."
        )


def refuse_unsampled(values: Mapping[str, Any], method: str) -> None:
    """Refuse actions that are not drawn from the policy: its log-probability would not be the behaviour's.

    Raises:
        UserError: epsilon-greedy actions, or those of deterministic policies.
    """
    others = {"epsilon_greedy": "learners of action values", "noisy": "MADDPG and MATD3"}
    name = values.get("action_selector")
    if name in others:
        raise UserError(
            f"action_selector={name} is for {others[name]}, and {method} learns policies, which are sampled: use "
            "multinomial or null."
        )
