"""COMA: policy gradients with a counterfactual baseline, from a centralised critic of action values.

Foerster et al. 2018 ("Counterfactual multi-agent policy gradients"), eq. 4 and Algorithm 1; settings as in Papoudakis
et al. 2021.

    collect a batch with the policies pi_i
    q_t = Q'_i(s_t, a_t) by the target network of the critic
    y_t = TD(lambda) (or n-step) returns of the rewards and q_{t+1}
    A_i = Q_i(s, a) - sum_u pi_i(u|o_i) Q_i(s, a_-i, u)                             eq. 4
    policies: one step up   sum_i mean( log pi_i(a_i|o_i) A_i ) + c mean( H(pi_i) )
    critic:   one step down mean( (Q_i(s, a) - y_i)^2 )

| symbol | shape | meaning |
|---|---|---|
| Q_i(s, a_-i, .) | [B, T+1, N, A] | a value for each own action, of the state and the others' actions |
| Q_i(s, a) | [B, T+1, N] | that of the action taken |
| pi_i | [B, T+1, N, A] | the policies as they acted |
| A_i, y_i | [B, T, N] | advantages, held fixed, and targets |

The baseline does not depend on agent i's action: it changes the gradient's variance and not its mean, and what remains
is what agent i's action was worth beside the others' ones. Where an episode is cut (a truncation, a segment's end) the
action that q is of is drawn from the policies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...components.batch import Batch
from ...components.generators import generator
from ...components.pieces import one_episode_a_row
from ...components.updates.samples import Samples
from ...controllers.basic_mac import BasicMAC
from ...envs.base import EnvInfo
from ...modules.agents.rnn import NetworkConfig
from ...modules.build import memory_of
from ...utils.errors import UserError
from ..on_policy import EntropyConfig, OnePassConfig, PolicyLearner
from ..value.action_values import ActionValueLearner, taken_of
from ..value.targets import Targets
from .play import Play, play_of
from .policy_gradient import climb


@dataclass(frozen=True)
class COMAConfig(OnePassConfig, EntropyConfig):
    """Configuration of COMA."""


class COMALearner(PolicyLearner):
    """COMA, with shared, separate or grouped policies and critics."""

    Config = COMAConfig
    value: ActionValueLearner

    def __init__(
        self, config: COMAConfig, net: NetworkConfig, mac: BasicMAC, info: EnvInfo, *, common_reward: bool,
        device: torch.device, seed: int,
    ) -> None:  # fmt: skip
        value = action_values(
            ActionValueLearner, config, net, mac, info, common_reward=common_reward, device=device, seed=seed
        )
        super().__init__(
            config, net, mac, info, common_reward=common_reward, joint=False, device=device, seed=seed, value=value
        )
        self.optimisers = [self.adam(list(mac.network.parameters()))]
        self.generators["last actions"] = generator(seed, "last actions")

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse what COMA cannot learn from.

        Raises:
            UserError: a reuse mapping, continuous actions, individual rewards, or a critic with a memory.
        """
        super().check(values, info)
        check_action_critic(values, info, "COMA")
        if not values["common_reward"]:
            raise UserError(
                "COMA asks what an agent's action was worth to the team, which needs one reward: use "
                "common_reward=True, or ia2c or maa2c for agents with rewards of their own."
            )

    def samples(self, batch: Batch) -> tuple[Samples, Targets]:
        """Fix targets and counterfactual advantages, and lay the batch, a row an episode, out for the policies."""
        batch = self.mac.standardised(batch)
        targets = counterfactual(self.value, batch, play_of(self.mac, batch, self.generators["last actions"]))
        return Samples.make(batch, self.mac.inputs(batch), targets.advantage, self.mac.recurrent), targets

    def train(self, batch: Batch, t_env: int) -> tuple[dict[str, float], dict[str, Any]]:
        """One step of all policies and critics on ``batch``; returns scalars to log, and arrays (none)."""
        it = self.begin_iteration(one_episode_a_row(batch), t_env)
        scalars = climb(self, it)
        return self.end_iteration(it, self.value.update(it.batch, it.targets, it.lr_scale)) | scalars, {}


def action_values(
    kind: type[ActionValueLearner], config: OnePassConfig, net: NetworkConfig, mac: BasicMAC, info: EnvInfo, *,
    common_reward: bool, device: torch.device, seed: int,
) -> ActionValueLearner:  # fmt: skip
    """Return the critics of a run's agents, of the class ``kind``."""
    return kind(
        config, net, info, common_reward=common_reward, policies=mac.index, device=device,
        generator=generator(seed, "init critic"), minibatch_generator=generator(seed, "critic minibatches"),
    )  # fmt: skip


def check_action_critic(values: Mapping[str, Any], info: EnvInfo, method: str) -> None:
    """Refuse what a critic of the agents' actions cannot be.

    Raises:
        UserError: continuous actions, or a critic with a memory.
    """
    if info.continuous:
        raise UserError(
            f"{method}'s critic has a value for each action, and the actions of '{info.name}' are vectors of numbers "
            "(Box): use a method for continuous actions, such as mappo, happo, oappo or maddpg."
        )
    if memory := memory_of("critic", values):
        raise UserError(
            f"{method}'s critic sees the state and the others' actions of one step: {memory} is refused, use critic=v "
            "with critic_use_rnn=False, or a module without `initial_hidden`."
        )


@torch.no_grad()
def counterfactual(critic: ActionValueLearner, batch: Batch, play: Play) -> Targets:
    """Fix targets y_i and counterfactual advantages A_i (eq. 4) [B, T, N]; see the module.

    With `standardise_returns` advantages are on the critic's scale.
    """
    inputs = critic.action_inputs(batch, play.actions)
    q: Tensor = critic.of_all(critic.network, inputs)
    raw = taken_of(q, play.actions)
    following = raw if critic.target is critic.network else critic.values(critic.target, inputs)
    baseline = (play.policy.params.exp() * q).sum(-1)
    advantage = (raw - baseline)[:, : batch.filled.shape[1]]
    return critic.fixed(batch, advantage, critic.returns(batch, following), inputs, raw)
