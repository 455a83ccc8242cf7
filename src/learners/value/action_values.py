"""Action values Q_i(s, a_-i, .) of each agent's actions beside those of the others: networks and targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...components.batch import Batch
from ...components.returns import lambda_returns, nstep
from ...controllers.actor import one_hot
from ...envs.base import EnvInfo
from ...modules.critics.v import CriticInputs, outputs
from ...modules.stack import Stack
from .config import CriticConfig, EpochConfig
from .state_values import ValueLearner
from .targets import Targets, ends, normalised_advantage


@dataclass(frozen=True)
class ActionInputs(CriticInputs):
    """What action values see, the others' actions among it, and the action [..., V] that each value is of."""

    taken: Tensor

    def __getitem__(self, index: Any) -> ActionInputs:
        return replace(self, shared=self.shared[index], own=self.own[index], taken=self.taken[index])


class ActionValueLearner(ValueLearner):
    """Q_i(s, a_-i, a_i) of each agent i, by networks that read s and a_-i and put out a value for each a_i.

    Regression, normalisers, the target network and the state are those of :class:`~.state_values.ValueLearner`, whose
    values [..., V] are those of the actions taken here, V = N.

    Args:
        config, net, info, common_reward, policies, device, generator, minibatch_generator: as of ``ValueLearner``.
    """

    def __init__(
        self, config: CriticConfig, net: Any, info: EnvInfo, *, common_reward: bool, policies: Sequence[int],
        device: torch.device, generator: torch.Generator, minibatch_generator: torch.Generator,
    ) -> None:  # fmt: skip
        super().__init__(
            config, net, info, common_reward=common_reward, joint=False, epochs=EpochConfig(), each=True,
            policies=policies, device=device, generator=generator, minibatch_generator=minibatch_generator,
        )  # fmt: skip

    def _sizes(self) -> tuple[int, int]:
        """The state's inputs and the others' actions; a value for each action."""
        n, a = self.info.n_agents, self.info.n_actions
        width, _ = super()._sizes()
        return width + n * a - (0 if self._numbered else self.n_values * self.config.obs_agent_id), a

    @property
    def _numbered(self) -> bool:
        """Whether inputs say whose value is asked for: networks of one agent alone need not be told."""
        return self.config.obs_agent_id and self.n_networks < self.n_values

    def action_inputs(self, batch: Batch, actions: Tensor) -> ActionInputs:
        """Return the inputs of the values of joint ``actions`` [B, T+1, N] at the observations of ``batch``."""
        seen = self.inputs(batch.obs, batch.state, batch.last_actions)
        return self.beside(seen, others_codes(actions, self.info.n_actions), actions)

    def beside(self, seen: CriticInputs, codes: Tensor, actions: Tensor) -> ActionInputs:
        """Return what is ``seen`` beside the others' actions, one-hot codes [..., N, N A] with zeros for one's own.

        Args:
            actions: [..., N] the agents' own.
        """
        own = torch.cat([seen.own.expand(*codes.shape[:-1], -1), codes.to(seen.own.dtype)], dim=-1)
        return ActionInputs(seen.shared, own, self.n_values if self._numbered else 0, self.n_values, actions)

    def params_of(self, network: Stack) -> Tensor:
        """[N, P] of each agent's network among those of ``network``, or [1, P] where all have one."""
        return self._params(network.params)

    def of_all(self, network: Stack, inputs: CriticInputs, params: Tensor | None = None) -> Tensor:
        """Values [..., N, A] of all actions of each agent by ``network`` (or its parameters ``params``)."""
        return outputs(network, inputs, self._params(network.params if params is None else params))

    def _values(self, network: Stack, inputs: CriticInputs, params: Tensor | None = None) -> Tensor:
        assert isinstance(inputs, ActionInputs)
        return taken_of(self.of_all(network, inputs, params), inputs.taken)

    def values(self, network: Stack, inputs: ActionInputs) -> Tensor:
        """Values [..., N] of the actions taken, by ``network`` as it is."""
        return self._values(network, inputs)

    # -- targets -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def returns(self, batch: Batch, following: Tensor) -> Tensor:
        """TD(lambda) or n-step targets [B, T, N] (`gae_lambda`, `q_nstep`) of values of what follows each step.

        The statistics of rewards and, with `standardise_returns`, of targets take the batch in.

        Args:
            batch: rows of one episode each.
            following: [B, T+1, N] values of the target network, on the critic's scale.
        """
        c, following = self.config, self._denormalise(following)[:, 1:]
        reward = self._reward(batch)
        terminated, ended = ends(batch, self.n_values, c.add_value_last_step, not self.common_reward)
        if c.gae_lambda is not None:
            found = lambda_returns(reward, following, terminated, ended, c.gamma, c.gae_lambda)
        else:
            assert c.q_nstep is not None
            filled = batch.filled.unsqueeze(-1).expand_as(reward)
            found = nstep(reward, following, terminated, ended, filled, c.gamma, c.q_nstep)
        if self.return_stats is not None:
            self.return_stats.update(self._statistics(found[batch.filled]))
        return found

    def fixed(self, batch: Batch, advantage: Tensor, returns: Tensor, inputs: CriticInputs, raw: Tensor) -> Targets:
        """What the iteration learns from, of ``advantage`` [B, T, N] on the critic's scale.

        Args:
            returns: [B, T, N].
            inputs, raw: of [B, T+1, N] values, and the values of the critic as it is.
        """
        steps, common = returns.shape[1], self.common_reward
        advantage = normalised_advantage(
            advantage, batch, self.info, normalise=self.config.normalise_advantage, joint=False, common_reward=common
        )
        raw = raw[:, :steps]
        return Targets(advantage, returns, inputs[:, :steps], raw, self._denormalise(raw))


def taken_of(q: Tensor, actions: Tensor) -> Tensor:
    """[...]: the values q [..., A] of the actions [...]."""
    return q.gather(-1, actions.unsqueeze(-1)).squeeze(-1)


def others_codes(actions: Tensor, n_actions: int) -> Tensor:
    """One-hot codes [..., N, N A] of joint actions [..., N] as each agent sees them: its own is zeros."""
    n = actions.shape[-1]
    codes = one_hot(actions, n_actions, torch.empty(0, device=actions.device)).flatten(-2)
    other = 1.0 - torch.eye(n, dtype=codes.dtype, device=codes.device)
    return codes.unsqueeze(-2) * other.repeat_interleave(n_actions, dim=1)
