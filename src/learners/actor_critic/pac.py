"""Pareto actor-critic (PAC): each agent learns what its action is worth if the others do what is best for it.

Christianos, Papoudakis and Albrecht 2023 ("Pareto actor-critic for equilibrium selection in multi-agent reinforcement
learning"), for games without conflict: what is best for one agent is best for all. An agent that averages over what the
others happen to do avoids actions whose best joint outcome needs all of them; this one does not.

    collect a batch with the policies pi_i
    q_t = max over a_-i of Q'_i(s_t, a_-i, a_i,t) by the target network of the critic
    y_t = n-step (or TD(lambda)) returns of the rewards and q_{t+1}
    A_i = max over a_-i of Q_i(s, a_-i, a_i) - V_i(s)
    policies:     one step up   sum_i mean( log pi_i(a_i|o_i) A_i ) + c mean( H(pi_i) ),   c from large to small
    critic:       one step down mean( (Q_i(s, a) - y_i)^2 )
    state values: one step down mean( (V_i(s) - y_i)^2 )

| symbol | shape | meaning |
|---|---|---|
| Q_i(s, a_-i, .) | [B, T+1, N, A] | a value for each own action, of the state and the others' actions |
| a_-i | [E, N - 1] | the others' joint actions, E = A^(N-1), of which the legal ones are tried |
| V_i(s) | [B, T, N] | the baseline |

The others' actions are enumerated: work and memory grow with A^(N-1), of which at most MOST are allowed. With
`critic: dcg` (PAC-DCG) Q is one of the team, a coordination graph, in which message passing looks for the best joint
action in their place (:mod:`.graph`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...components.batch import Batch
from ...components.generators import generator
from ...components.pieces import one_episode_a_row
from ...components.updates.samples import Samples
from ...controllers.basic_mac import BasicMAC
from ...envs.base import EnvInfo
from ...modules import critics
from ...modules.agents.rnn import NetworkConfig
from ...utils.errors import UserError
from ...utils.schema.registry import resolve
from ..on_policy import EntropyConfig, OnePassConfig, PolicyLearner
from ..value.action_values import ActionValueLearner
from ..value.config import EpochConfig
from ..value.state_values import ValueLearner
from ..value.targets import Targets
from .coma import action_values, check_action_critic
from .enumeration import best_for
from .graph import GraphValueLearner, best_by_graph
from .play import play_of
from .policy_gradient import climb

#: most joint actions of the others that are tried at each step
MOST = 4096


@dataclass(frozen=True)
class PACConfig(OnePassConfig, EntropyConfig):
    """Configuration of Pareto actor-critic."""


class PACLearner(PolicyLearner):
    """Pareto actor-critic, with shared, separate or grouped policies and critics."""

    Config = PACConfig
    value: ActionValueLearner

    def __init__(
        self, config: PACConfig, net: NetworkConfig, mac: BasicMAC, info: EnvInfo, *, common_reward: bool,
        device: torch.device, seed: int,
    ) -> None:  # fmt: skip
        graph = is_graph(config.critic)
        kind: type[ActionValueLearner] = GraphValueLearner if graph else ActionValueLearner
        #: the values of the agents' own actions where the others do what is best
        self.best: Callable[[Any, Any, Batch, Tensor], Tensor] = best_by_graph if graph else best_for
        value = action_values(kind, config, net, mac, info, common_reward=common_reward, device=device, seed=seed)
        super().__init__(
            config, net, mac, info, common_reward=common_reward, joint=False, device=device, seed=seed, value=value
        )
        # no target network of its own, and one scale of rewards and returns for both: targets are the critic's
        plain = replace(config, target_update_interval_or_tau=1.0, standardise_rewards=False)
        plain = replace(plain, critic="v") if graph else plain
        self.state_value = ValueLearner(
            plain, net, info, common_reward=common_reward, joint=False, epochs=EpochConfig(), each=True,
            policies=mac.index, device=device, generator=generator(seed, "init state value"),
            minibatch_generator=generator(seed, "state value minibatches"),
        )  # fmt: skip
        self.state_value.return_stats = value.return_stats
        self.optimisers = [self.adam(list(mac.network.parameters()))]
        self.generators["last actions"] = generator(seed, "last actions")

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse what PAC cannot learn from, or not in a reasonable time.

        Raises:
            UserError: a reuse mapping, continuous actions, a critic with a memory, or too many joint actions; of a
                coordination graph rewards of their own, or inputs of single agents.
        """
        super().check(values, info)
        check_action_critic(values, info, "PAC")
        if is_graph(values["critic"]):
            _check_graph(values)
            return
        joint = info.n_actions ** (info.n_agents - 1)
        if joint > MOST:
            raise UserError(
                f"PAC tries all joint actions of the other agents at each step, {info.n_actions}^{info.n_agents - 1} = "
                f"{joint:,} in '{info.name}', and at most {MOST:,} are allowed: use critic=dcg (message passing), "
                "maa2c or coma."
            )

    def samples(self, batch: Batch) -> tuple[Samples, Targets]:
        """Fix targets and advantages, and lay the batch, a row an episode, out for the policies."""
        batch = self.mac.standardised(batch)
        targets = self.targets(batch)
        return Samples.make(batch, self.mac.inputs(batch), targets.advantage, self.mac.recurrent), targets

    @torch.no_grad()
    def targets(self, batch: Batch) -> Targets:
        """Targets and advantages [B, T, N] of rows of one episode each; see the module."""
        critic, actions = self.value, play_of(self.mac, batch, self.generators["last actions"]).actions
        inputs = critic.action_inputs(batch, actions)
        raw = critic.values(critic.network, inputs)
        best = self.best(critic, critic.network, batch, actions)
        following = best if critic.target is critic.network else self.best(critic, critic.target, batch, actions)
        advantage = best[:, : batch.filled.shape[1]] - self.state_value.towards(batch).raw
        return critic.fixed(batch, advantage, critic.returns(batch, following), inputs, raw)

    def train(self, batch: Batch, t_env: int) -> tuple[dict[str, float], dict[str, Any]]:
        """One step of policies, critics and state values on ``batch``; returns scalars to log, and arrays (none)."""
        it = self.begin_iteration(one_episode_a_row(batch), t_env)
        scalars = climb(self, it)
        critic = self.value.update(it.batch, it.targets, it.lr_scale)
        fitted = self.state_value.towards(self.mac.standardised(it.batch), it.targets.returns)
        state = self.state_value.update(it.batch, fitted, it.lr_scale)
        scalars |= {f"state_{k}": v for k, v in state.items() if k in ("critic_loss", "critic_grad_norm", "value_mean")}
        return self.end_iteration(it, critic) | scalars, {}

    # -- state ---------------------------------------------------------------------------------------------------

    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Yield ("policies", [K, P]), ("critic", [V, P]) and ("state value", [V, P])."""
        yield from super().parameters()
        yield "state value", self.state_value.network.params

    def load_weights(self, state: Mapping[str, Any]) -> list[str]:
        """Take the critic and the state values of another learner's state; returns the names of those that lack."""
        lacking = super().load_weights(state)
        fits = "state_value" in state and self.state_value.load_weights(state["state_value"])
        return lacking if fits else [*lacking, "state value"]

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs to continue with the same numbers."""
        return super().state_dict() | {"state_value": self.state_value.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state back."""
        super().load_state_dict(state)
        self.state_value.load_state_dict(state["state_value"])


def is_graph(critic: str) -> bool:
    """Whether the key ``critic`` names a network of joint actions."""
    return bool(getattr(resolve(critics.__name__, critics.REGISTRY, critic, "critic"), "joint", False))


def _check_graph(values: Mapping[str, Any]) -> None:
    """Refuse what a coordination graph of the team's values cannot be.

    Raises:
        UserError: individual rewards, inputs of single agents, or a memory.
    """
    if values["critic_use_rnn"]:
        raise UserError(
            "PAC's critics see the state and the actions of one step: critic_use_rnn=True is refused, also with "
            f"critic={values['critic']}."
        )
    if not values["common_reward"]:
        raise UserError(
            f"critic={values['critic']} has one value of the team, which needs one reward: use common_reward=True, or "
            "critic=v for agents with rewards of their own."
        )
    if values["critic_agent_obs"] or values["critic_type"] != "cv_critic":
        raise UserError(f"critic={values['critic']} reads the state: use critic_type=cv_critic critic_agent_obs=False.")
