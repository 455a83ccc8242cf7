"""The controller: one call acts for all agents and slots, one call evaluates whole sequences.

Sharing is an index from agents to networks: [0, 0, 0] shared, [0, 1, 2] separate, [0, 0, 1] grouped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..components.batch import Batch, Samples
from ..components.distributions import gumbel
from ..components.experience import Field, action_shape, no_action
from ..components.normalisation import ObservationNormaliser
from ..envs.base import EnvInfo
from ..modules import heads
from ..modules.acting import Actor, NetworkActor
from ..modules.action_selectors import Context, Selector, make_selector, selector_class
from ..modules.agents.rnn import Network, NetworkConfig
from ..modules.heads import HeadConfig, Policy
from ..utils.errors import UserError
from ..utils.schema.keys import key
from .actor import TorchNetwork, inference, one_hot


@dataclass(frozen=True)
class MACConfig(HeadConfig):
    """Configuration of the controller."""

    action_selector: str | None = key(
        "How actions are chosen: multinomial (EPyMARL's soft_policies), epsilon_greedy, gaussian or "
        "`package.module:Class`; null: multinomial or, of continuous actions, gaussian."
    )

    sharing: str | list[int] = key(
        "Which agents share a policy network: shared, separate, one network number per agent such as [0, 0, 1], or "
        "selective: found before training (SEPS, keys seps_*).",
        choices=("shared", "separate", "selective"),
        low=0,
    )
    obs_agent_id: bool = key("Append the agent's one-hot id to policy (and critic) inputs.")
    obs_last_action: bool = key(
        "Append the last action (one-hot; continuous ones as they are) to policy (and critic) inputs."
    )
    standardise_obs: bool = key("Observations and states are shifted and scaled by running statistics.")


def sharing_index(sharing: str | list[int], n_agents: int, name: str = "sharing") -> list[int]:
    """Return the network of each agent, numbered from 0 without gaps.

    Raises:
        UserError: a list of the wrong length, or groups that are still to be found.
    """
    if sharing == "selective":
        raise UserError(f"{name}=selective: the groups of agents are found by a run before it builds its networks.")
    if sharing == "shared":
        return [0] * n_agents
    if sharing == "separate":
        return list(range(n_agents))
    if len(sharing) != n_agents:
        raise UserError(f"{name}={sharing} names {len(sharing)} networks, but the environment has {n_agents} agents.")
    numbers = {old: new for new, old in enumerate(dict.fromkeys(sharing))}
    return [numbers[k] for k in sharing]


def _groups(alike: np.ndarray) -> list[int]:
    """The group of each agent: the number of distinct spaces before the first agent like it."""
    first = alike.argmax(1).tolist()
    return [sorted(set(first)).index(f) for f in first]


def with_extras(obs: Tensor, last_actions: Tensor | None, agent_id: bool, n_actions: int) -> Tensor:
    """Append the last action's one-hot (zeros for -1) and the agent's one-hot id, where asked for.

    Args:
        obs: [..., N, O].
        last_actions: [..., N] int64, -1 where there is none, or [..., N, D], NaN there; None leaves it out.
        agent_id: append the id.

    Returns:
        [..., N, O (+ n_actions) (+ N)].
    """
    parts = [obs]
    if last_actions is not None:
        parts.append(one_hot(last_actions, n_actions, obs))
    if agent_id:
        n = obs.shape[-2]
        parts.append(torch.eye(n, dtype=obs.dtype, device=obs.device).expand(*obs.shape[:-1], n))
    return torch.cat(parts, dim=-1) if len(parts) > 1 else obs


class BasicMAC:
    """Policies of all agents.

    Args:
        config: sharing and inputs.
        agent: the class of the stacked policy networks.
        net: its architecture.
        info: the environment's sizes.
        generator: source of the initial parameters.
    """

    Config = MACConfig

    def __init__(
        self, config: MACConfig, agent: type[Network], net: NetworkConfig, info: EnvInfo, generator: torch.Generator
    ) -> None:
        self.config, self.info = config, info
        self.index = sharing_index(config.sharing, info.n_agents)
        self.n_networks = max(self.index) + 1
        self.separate = self.n_networks == info.n_agents
        self.recurrent = net.use_rnn
        n_inputs = (
            info.obs_size
            + (info.n_actions if config.obs_last_action else 0)
            + (info.n_agents if config.obs_agent_id else 0)
        )
        head = heads.head(info, config)
        free: dict[str, Any] = {"n_free": head.free, "free_start": head.start} if head.free else {}
        self.network = agent(
            self.n_networks, n_inputs, head.outputs, hidden_dim=net.hidden_dim, recurrent=net.use_rnn,
            activation=net.activation, head_gain=net.head_gain, generator=generator, **free,
        )  # fmt: skip
        self._selector: Selector | None = None
        if getattr(selector_class(config.action_selector, info.continuous), "Config", None) is None:
            self.select_by({"action_selector": config.action_selector})
        self._index = torch.tensor(self.index)
        # agents of one space share their statistics, whichever agent reads the observation
        alike = info.agents_match()
        self.normaliser = (
            ObservationNormaliser(_groups(alike), info.obs_size, info.state_size) if config.standardise_obs else None
        )

    def to(self, device: torch.device | str) -> None:
        """Move the networks."""
        self.network.to(device)
        self._index = self._index.to(device)
        if self.normaliser is not None:
            self.normaliser.to(device)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.network.params.device

    # -- rows: agents gathered to the networks that play them ------------------------------------

    def agent_params(self, params: Tensor | None = None) -> Tensor:
        """Return each agent's parameters: [N, P], one row an agent, or [1, P] where all share one network.

        Args:
            params: [K, P] of the networks; None: as they are.
        """
        params = self.network.params if params is None else params
        return params if self.separate or self.n_networks == 1 else params[self._index]

    def _to_rows(self, x: Tensor) -> Tensor:
        """[E, N, ...] -> [1, E*N, ...] for one shared network, otherwise [N, E, ...]."""
        return x.flatten(0, 1).unsqueeze(0) if self.n_networks == 1 else x.transpose(0, 1)

    def _from_rows(self, x: Tensor, n_entries: int) -> Tensor:
        """Undo :meth:`_to_rows`."""
        return x.squeeze(0).unflatten(0, (n_entries, -1)) if self.n_networks == 1 else x.transpose(0, 1)

    # -- acting --------------------------------------------------------------------------------------

    def initial_hidden(self, n_slots: int) -> Tensor:
        """Return the hidden state of all agents in ``n_slots`` slots before their first step, [B, N, H]."""
        return self.network.initial_hidden(n_slots, self.info.n_agents)

    def initial_last(self, n_slots: int) -> Tensor:
        """Return the last actions before the first step, [B, N] int64 of -1 or [B, N, D] of NaN."""
        shape, dtype = action_shape(self.info)
        return torch.full((n_slots, *shape), no_action(self.info), dtype=getattr(torch, dtype))

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse an action selector that is not for this environment's actions.

        Raises:
            UserError: naming the key.
        """
        make_selector(values, info)

    def select_by(self, values: Mapping[str, Any]) -> None:
        """Choose actions from here on by the selector of a configuration, with the keys that it reads.

        Raises:
            UserError: there is none such for this environment's actions.
        """
        self._selector = make_selector(values, self.info)

    @property
    def selector(self) -> Selector:
        """How actions are chosen."""
        if self._selector is None:
            raise ValueError(f"action_selector={self.config.action_selector} needs select_by(values) with its own keys")
        return self._selector

    @property
    def fields(self) -> tuple[Field, ...]:
        """What its actors record of each step beside actions and log_prob."""
        return self.selector.fields

    def actor(self) -> Actor:
        """Return the policies as they are now, prepared for many steps: what runners act with."""
        network = inference(self) if type(self.network) is Network else TorchNetwork(self)
        return NetworkActor(network, self.selector, self.info.n_actions)

    def act(
        self,
        obs: Tensor,
        avail: Tensor,
        last_actions: Tensor,
        hidden: Tensor,
        uniform: Tensor | None,
        actor: Actor | None = None,
        context: Context | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Choose actions for all agents of all slots in one call, on the CPU.

        Args:
            obs: [B, N, O].
            avail: [B, N, A] bool.
            last_actions: [B, N] int64, -1 at an episode's first step, or [B, N, D], NaN there.
            hidden: [B, N, H].
            uniform: [B, N, W] noise in [0, 1), of the width W of :attr:`selector` (A or D as a rule), or None for
                greedy (argmax) actions.
            actor: from :meth:`actor`, where many steps are acted.
            context: step count and test; None: a test, greedy where there is no noise.

        Returns:
            actions [B, N] (or [B, N, D]), their log-probabilities [B, N], the next hidden state [B, N, H].
        """
        seen, legal, last, state = (x.detach().cpu().numpy() for x in (obs, avail, last_actions, hidden))
        noise = None if uniform is None else self._noise(uniform).cpu().numpy()
        context = Context(test=True, greedy=uniform is None) if context is None else context
        with np.errstate(over="ignore"):
            chosen = (self.actor() if actor is None else actor)(seen, legal, last, state, noise, context)
        actions, log_prob, following = (torch.from_numpy(np.asarray(x)) for x in chosen)
        return actions, log_prob, following

    def _noise(self, uniform: Tensor) -> Tensor:
        """The selector's kind of noise from ``uniform`` noise in [0, 1)."""
        if self.selector.noise == "gumbel":
            return gumbel(uniform)
        if self.selector.noise == "normal":
            return torch.special.ndtri(uniform.clamp(1e-7, 1.0 - 1e-7))
        return uniform

    def with_extras(self, obs: Tensor, last_actions: Tensor | None) -> Tensor:
        """Return the policies' inputs [..., N, I] of observations [..., N, O] and the last actions [..., N]."""
        last = last_actions if self.config.obs_last_action else None
        return with_extras(obs, last, self.config.obs_agent_id, self.info.n_actions)

    # -- learning ------------------------------------------------------------------------------------

    def standardised(self, batch: Batch) -> Batch:
        """Return ``batch`` as policies and critics see it, by the statistics that its actions were chosen with."""
        if self.normaliser is None:
            return batch
        obs, state = self.normaliser.obs, self.normaliser.state
        return replace(
            batch, obs=obs(batch.obs), state=state(batch.state), final_obs=obs(batch.final_obs),
            final_state=state(batch.final_state),
        )  # fmt: skip

    def observe(self, batch: Batch) -> None:
        """Take a batch into the running statistics; the training loop does it, after each update.

        Earlier, and the batch's ratios would not start at 1.
        """
        if self.normaliser is not None:
            steps = batch.actions.shape[1]
            self.normaliser.update(batch.obs[:, :steps], batch.valid, batch.state[:, :steps], batch.filled)

    def inputs(self, batch: Batch) -> Tensor:
        """Return the policies' inputs at the steps of ``batch``, [B, T, N, I]."""
        steps = batch.actions.shape[1]
        return self.with_extras(batch.obs[:, :steps], batch.last_actions[:, :steps])

    def distribution(self, outputs: Tensor, avail: Tensor) -> Policy:
        """The distribution that the networks' ``outputs`` [..., P] stand for, where ``avail`` [..., A] is legal: THE
        place where policies are built, whatever the action space."""
        return heads.distribution(self.info, outputs, avail)

    def distribution_from(self, params: Tensor, avail: Tensor) -> Policy:
        """The distribution that had ``params`` [..., P] (see ``components.distributions``)."""
        return heads.distribution_from(self.info, params, avail)

    def policies(self, samples: Samples, entries: Tensor, params: Tensor | None = None) -> Policy:
        """Each agent's own policy on its own experience: a distribution over [E', N, *T]; ``params``: the networks
        [K, P], None: as they are."""
        x = self._to_rows(samples.inputs[entries])
        hidden = None if samples.hidden is None else self._to_rows(samples.hidden[entries])
        logits = self.network.stacked(self.agent_params(params), x, hidden)
        return self.distribution(self._from_rows(logits, len(entries)), samples.avail[entries])

    def policies_on_all(self, samples: Samples, entries: Tensor, params: Tensor | None = None) -> Policy:
        """Each agent's policy on the experience of every agent, all in one product: a distribution over
        [N, E', N, *T], those whose policies they are first, those who acted third.

        ``params`` [K, P] as in :meth:`policies`. Recurrent policies read whole episodes, from zeros: an agent's hidden
        state is no other agent's.

        Raises:
            ValueError: sequences that continue from hidden states of the agents that acted.
        """
        if samples.hidden is not None:
            raise ValueError("recurrent policies can read others' experience from an episode's beginning only")
        n = self.info.n_agents
        x = samples.inputs[entries].flatten(0, 1)
        logits = self.network.stacked(self.agent_params(params).expand(n, -1), x.expand(n, *x.shape))
        return self.distribution(logits.unflatten(1, (len(entries), n)), samples.avail[entries])

    def policy(self, params: Tensor, inputs: Tensor, avail: Tensor, hidden: Tensor | None = None) -> Policy:
        """The policy with flat parameters ``params`` [P] on samples [L, *T, I] from any source agent.

        ``hidden`` [L, H]: its hidden state before each sequence; None: zeros.
        """
        return self.distribution(self.network.single(params, inputs, hidden), avail)

    def own_log_ratio(self, samples: Samples, agent: int, source: int) -> Tensor:
        """[E, *T] log pi_agent(a_source|o_source) - log mu_source as the agent's policy is now; 0 where not valid."""
        with torch.no_grad():
            hidden = None if samples.hidden is None else samples.hidden[:, source]
            policy = self.policy(
                self.network.params[self.index[agent]], samples.inputs[:, source], samples.avail[:, source], hidden
            )
            log_ratio = policy.log_prob(samples.actions[:, source]) - samples.log_prob[:, source]
            return torch.where(samples.valid[:, source], log_ratio, 0.0)

    def mean_entropy(self, samples: Samples) -> float:
        """Mean entropy (nats) of the policies as they are now, over the valid steps."""
        with torch.no_grad():
            entropy = self.policies(samples, torch.arange(samples.n_entries, device=samples.valid.device)).entropy()
            return float(entropy[samples.valid].mean()) if samples.valid.any() else 0.0

    # -- state -----------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the parameters, each agent's network, and the observations' statistics."""
        state: dict[str, Any] = {"theta": self.network.params.detach().clone(), "index": list(self.index)}
        return state if self.normaliser is None else state | {"normaliser": self.normaliser.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take parameters back; leaves made by ``Network.row`` keep pointing at them.

        Raises:
            UserError: the policies read standardised observations, and the configuration says otherwise.
        """
        if (self.normaliser is not None) != ("normaliser" in state):
            raise UserError(
                f"standardise_obs={self.normaliser is not None} does not fit these policies: they were trained with "
                f"standardise_obs={self.normaliser is None}."
            )
        if self.normaliser is not None:
            self.normaliser.load_state_dict(state["normaliser"])
        with torch.no_grad():
            self.network.params.data.copy_(state["theta"])
