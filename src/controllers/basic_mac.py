"""The controller: one call acts for all agents and slots, one call evaluates whole sequences.

Sharing is an index from agents to networks: [0, 0, 0] shared, [0, 1, 2] separate, [0, 0, 1] grouped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..components.batch import Batch
from ..components.normalisation import FeatureNormaliser, ObservationNormaliser
from ..components.packing import Packing
from ..components.updates.samples import RowIndex, Samples
from ..envs.base import EnvInfo
from ..modules import heads
from ..modules.acting import Actor, NetworkActor
from ..modules.action_selectors import EpsilonConfig, make_selector, selector_class
from ..modules.agents.rnn import Network, NetworkConfig
from ..modules.build import policy_networks
from ..modules.continuous_selectors import NoisyConfig
from ..modules.heads import HeadConfig, Policy
from ..modules.kernels.torch_policy import TorchInference
from ..modules.selector_contract import Selector
from ..modules.stack import Inputs
from ..utils.errors import UserError
from ..utils.schema.keys import key
from .actor import DeviceActor, TorchNetwork, act, inference, policy_arrays
from .contract import Preparation
from .outputs import Rows, all_outputs, all_outputs_and_features, rows_of
from .seps import SELECTIVE, SelectiveConfig, SelectiveSharing
from .sharing import groups_of, sharing_index, with_extras


@dataclass(frozen=True)
class MACConfig(HeadConfig):
    """Configuration of the controller."""

    action_selector: str | None = key(
        "How actions are chosen: multinomial (EPyMARL's soft_policies), epsilon_greedy, gaussian, noisy (MADDPG: drawn "
        "from the logits or, of continuous actions, deterministic ones with noise) or `package.module:Class`; null: "
        "multinomial or, of continuous actions, gaussian.",
        adds={"epsilon_greedy": EpsilonConfig, "noisy": NoisyConfig},
    )
    sharing: str | list[int] = key(
        "Which agents share a policy network: shared, separate, one network number per agent such as [0, 0, 1], or "
        "selective: found before training (SEPS, keys seps_*).",
        choices=("shared", "separate", SELECTIVE),
        low=0,
        adds={SELECTIVE: SelectiveConfig},
    )
    obs_agent_id: bool = key("Append the agent's one-hot id to policy (and critic) inputs.")
    obs_last_action: bool = key(
        "Append the last action (one-hot; continuous ones as they are) to policy (and critic) inputs."
    )
    standardise_obs: bool = key("Observations and states are shifted and scaled by running statistics.")
    feature_norm: bool = key(
        "Each observation and state is shifted and scaled by the mean and deviation of its own numbers (layer "
        "normalisation of the inputs of policies and critics), after standardise_obs."
    )


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
        n_inputs = (
            info.obs_size
            + (info.n_actions if config.obs_last_action else 0)
            + (info.n_agents if config.obs_agent_id else 0)
        )
        chosen_by = selector_class(config.action_selector, info.continuous)
        head = heads.head(info, config, getattr(chosen_by, "deterministic", False))
        self._std_form = config.std_form
        self.network = policy_networks(agent, self.n_networks, Inputs.of(n_inputs, info), head, net, generator)
        self.recurrent = self.network.recurrent
        self._selector: Selector | None = None
        if getattr(chosen_by, "Config", None) is None:
            self.select_by({"action_selector": config.action_selector})
        self._index = torch.tensor(self.index)
        #: the agents of each network
        self._members = [(self._index == k).nonzero().squeeze(1) for k in range(self.n_networks)]
        # agents of one space share their statistics, whichever agent reads the observation
        alike = info.agents_match()
        self.normaliser = (
            ObservationNormaliser(groups_of(alike), info.obs_size, info.state_size) if config.standardise_obs else None
        )
        self.feature_normaliser = FeatureNormaliser(info.obs_sizes, info.obs_size) if config.feature_norm else None

    @classmethod
    def prepare(cls, values: Mapping[str, Any], info: EnvInfo) -> Preparation | None:
        """Return how the groups of agents that share a network are found, where they have to be."""
        return SelectiveSharing(values, info) if values["sharing"] == SELECTIVE else None

    @staticmethod
    def kernel(agent: Any, net: Any, device: torch.device) -> str:
        """Return what first-order networks run in, for their numbers' last digits depend on it: ``C`` or ``torch``."""
        return str(agent.kernel(net, device)) if hasattr(agent, "kernel") else "torch"

    def to(self, device: torch.device | str) -> None:
        """Move the networks."""
        self.network.to(device)
        self._index = self._index.to(device)
        if not self.recurrent:  # entries of recurrent policies are chosen on the CPU
            self._members = [x.to(device) for x in self._members]
        for scales in (self.normaliser, self.feature_normaliser):
            if scales is not None:
                scales.to(device)

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

    def actor(self) -> Actor:
        """Return the policies as they are now, prepared for many steps: what runners act with."""
        network = inference(self) if type(self.network) is Network else TorchNetwork(self)
        return NetworkActor(network, self.selector, self.info.n_actions)

    def device_actor(self) -> DeviceActor:
        """Return the policies as they are now as functions of tensors, where the networks are (`backend: device`).

        Raises:
            UserError: the action selector is written in numpy.
        """
        plain = type(self.network) is Network
        network = TorchInference(*policy_arrays(self)) if plain else TorchNetwork(self).evaluate
        return DeviceActor(self, network, self.selector)

    def act(
        self, obs: Tensor, avail: Tensor, last_actions: Tensor, hidden: Tensor, uniform: Tensor | None,
        actor: Actor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Choose actions for all agents of all slots in one call, on the CPU; see :func:`~.actor.act`.

        ``actor``: from :meth:`actor`, where many steps are acted.
        """
        return act(actor or self.actor(), obs, avail, last_actions, hidden, uniform)

    def with_extras(self, obs: Tensor, last_actions: Tensor | None) -> Tensor:
        """Return the policies' inputs [..., N, I] of observations [..., N, O] and the last actions [..., N]."""
        last = last_actions if self.config.obs_last_action else None
        return with_extras(obs, last, self.config.obs_agent_id, self.info.n_actions)

    # -- learning ------------------------------------------------------------------------------------

    def seen(self, obs: Tensor) -> Tensor:
        """Return observations [..., N, O] on the scales that policies and critics read them on."""
        for scales in (self.normaliser, self.feature_normaliser):
            obs = obs if scales is None else scales.obs(obs)
        return obs

    def _seen_state(self, state: Tensor) -> Tensor:
        """States [..., S] on the scales that critics read them on."""
        for scales in (self.normaliser, self.feature_normaliser):
            state = state if scales is None else scales.state(state)
        return state

    def standardised(self, batch: Batch) -> Batch:
        """Return ``batch`` as policies and critics see it, by the statistics that its actions were chosen with."""
        if self.normaliser is None and self.feature_normaliser is None:
            return batch
        obs, state = self.seen, self._seen_state
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

    def rows(self, batch: Batch) -> Rows:
        """Lay out what the networks read at all steps of ``batch``, where they are evaluated more than once; see
        :func:`~.outputs.rows_of`."""
        return rows_of(self, batch)

    def all_outputs(self, batch: Batch | Rows, params: Tensor | None = None) -> Tensor:
        """The networks' raw outputs (such as Q-values) at all steps and after the last one, [B, T+1, N, A];
        see :func:`~.outputs.all_outputs`."""
        return all_outputs(self, batch, params)

    def all_outputs_and_features(self, batch: Batch | Rows, params: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The same, and what the networks' heads read, [B, T+1, N, F]."""
        return all_outputs_and_features(self, batch, params)

    def distribution(self, outputs: Tensor, avail: Tensor) -> Policy:
        """The distribution that the networks' ``outputs`` [..., P] stand for, where ``avail`` [..., A] is legal: THE
        place where policies are built, whatever the action space."""
        return heads.distribution(self.info, outputs, avail, self._std_form)

    def distribution_from(self, params: Tensor, avail: Tensor) -> Policy:
        """The distribution that had ``params`` [..., P] (see ``components.distributions``)."""
        return heads.distribution_from(self.info, params, avail)

    def policies(self, samples: Samples, entries: Tensor, params: Tensor | None = None) -> tuple[Policy, Any, Tensor]:
        """Each agent's own policy on its own experience of ``entries`` [m]; ``params``: the networks [K, P], None: as
        they are.

        Returns:
            a distribution, the index of its steps into the samples' tensors, and the agent of each: feed-forward
            [m, N] with the agents [N], recurrent rows [L] with an agent each.
        """
        outputs, at, agents = self.outputs(samples, entries, params)
        return self.distribution(outputs, samples.avail[at]), at, agents

    def outputs(self, samples: Samples, entries: Tensor, params: Tensor | None = None) -> tuple[Tensor, Any, Tensor]:
        """Each agent's own network's raw outputs (such as Q-values) on its own experience: [m, N, A], or [L, A] of
        recurrent rows; the rest as of :meth:`policies`."""
        if not self.recurrent:
            found = self.evaluate(samples.inputs[entries], params)
            return found, entries, torch.arange(self.info.n_agents, device=entries.device)
        found, at = self._by_network(samples, entries, params, self.network.single)
        return found, at, at[1]

    def evaluate(self, inputs: Tensor, params: Tensor | None = None) -> Tensor:
        """Each agent's own feed-forward network's raw outputs [E, N, P] on its rows of ``inputs`` [E, N, I]; ``params``
        as of :meth:`policies`."""
        found = self.network.stacked(self.agent_params(params), self._to_rows(inputs))
        return self._from_rows(found, len(inputs))

    def features(self, samples: Samples, entries: Tensor, params: Tensor | None = None) -> tuple[Tensor, Any, Tensor]:
        """What the heads of all agents' own policies read on ``entries`` [m]: [L, F], where these rows are among the
        samples, and the agent of each; arguments as of :meth:`policies`."""
        found, at = self._by_network(samples, entries, params, self.network.features)
        return found, at, at[1]

    def _by_network(
        self, samples: Samples, entries: Tensor, params: Tensor | None, evaluate: Callable[..., Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """``evaluate`` of each network on its agents' own rows [L], and the rows' step and agent."""
        params, parts, found = self.network.params if params is None else params, [], []
        for k, members in enumerate(self._members):
            rows = samples.rows(entries.repeat_interleave(len(members)), members.repeat(len(entries)))
            parts.append(evaluate(params[k], samples.inputs[rows.at], rows.packing, rows.hidden))
            found.append(rows)
        if len(parts) == 1:
            return parts[0], found[0].at
        return torch.cat(parts), (torch.cat([x.step for x in found]), torch.cat([x.agent for x in found]))

    def policies_on_all(
        self, samples: Samples, entries: Tensor, params: Tensor | None = None
    ) -> tuple[Policy, RowIndex]:
        """Each agent's policy on the experience of every agent: a distribution over [N, L], those whose policies they
        are first, and the rows of those who acted.

        ``params`` [K, P] as in :meth:`policies`. Recurrent policies read whole episodes, from zeros: an agent's hidden
        state is no other agent's.

        Raises:
            ValueError: sequences that continue from hidden states of the agents that acted.
        """
        n, device = self.info.n_agents, entries.device
        rows = samples.rows(entries.repeat_interleave(n), torch.arange(n, device=device).repeat(len(entries)))
        if rows.hidden is not None:
            raise ValueError("recurrent policies can read others' experience from an episode's beginning only")
        x, networks = samples.inputs[rows.at], self.agent_params(params).expand(n, -1)
        if self.recurrent:
            outputs = torch.stack([self.network.single(one, x, rows.packing) for one in networks])
        else:
            outputs = self.network.stacked(networks, x.expand(n, *x.shape))
        return self.distribution(outputs, samples.avail[rows.at]), rows

    def policy(
        self, params: Tensor, inputs: Tensor, avail: Tensor, packing: Packing | None = None,
        hidden: Tensor | None = None, *, twice: bool = False,
    ) -> Policy:  # fmt: skip
        """The policy with flat parameters ``params`` [P] on rows [L, I] of any source agents' experience.

        Args:
            inputs, avail: [L, I] and [L, A] of the rows.
            packing, hidden: recurrent: how the rows are sequences, and the hidden state [R, H] before each.
            twice: the result is differentiated twice (Fisher products are).
        """
        return self.distribution(self.network.single(params, inputs, packing, hidden, twice=twice), avail)

    @torch.no_grad()
    def own_log_ratio(self, samples: Samples, agent: int, source: int) -> Tensor:
        """[S] log pi_agent(a_source|o_source) - log mu_source as the agent's policy is now; 0 where not valid, and of
        another agent's entries that were under way when the batch began."""
        entries = samples.entries
        rows = samples.rows(entries, torch.full_like(entries, source))
        params = self.network.params[self.index[agent]]
        policy = self.policy(params, samples.inputs[rows.at], samples.avail[rows.at], rows.packing, rows.hidden)
        log_ratio = policy.log_prob(samples.actions[rows.at]) - samples.log_prob[rows.at]
        found = samples.log_prob.new_zeros(samples.n_steps)
        found[rows.step] = torch.where(samples.valid[rows.at], log_ratio, 0.0)
        if agent != source and samples.carried is not None:
            found[samples.steps(samples.carried.nonzero().squeeze(1))] = 0.0
        return found

    @torch.no_grad()
    def mean_entropy(self, samples: Samples) -> float:
        """Mean entropy (nats) of the policies as they are now, over the valid steps."""
        policy, at, _ = self.policies(samples, samples.entries)
        valid = samples.valid[at]
        return float(policy.entropy()[valid].mean()) if valid.any() else 0.0

    # -- state -----------------------------------------------------------------------------------------

    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Yield ("policies", the networks' parameters [K, P])."""
        yield "policies", self.network.params

    def state_dict(self) -> dict[str, Any]:
        """Return the parameters, each agent's network, and the observations' statistics."""
        state: dict[str, Any] = {"theta": self.network.params.detach().clone(), "index": list(self.index)}
        if self.feature_normaliser is not None:
            state["feature_norm"] = True
        return state if self.normaliser is None else state | {"normaliser": self.normaliser.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take parameters back; leaves made by ``Network.row`` keep pointing at them.

        Raises:
            ValueError: they have another shape.
            UserError: the policies read observations on other scales than the configuration says.
        """
        params = state["theta"]
        if params.shape != self.network.params.shape:
            theirs, ours = list(params.shape), list(self.network.params.shape)
            raise ValueError(f"parameters (networks, numbers of each) are {theirs}, and {ours} are needed")
        if not params.is_floating_point():
            raise ValueError("parameters are whole numbers")
        for name, stored, own in (
            ("standardise_obs", "normaliser", self.normaliser is not None),
            ("feature_norm", "feature_norm", self.feature_normaliser is not None),
        ):
            if own != (stored in state):
                raise UserError(f"{name}={own} does not fit these policies: they were trained with {name}={not own}.")
        if self.normaliser is not None:
            self.normaliser.load_state_dict(state["normaliser"])
        with torch.no_grad():
            self.network.params.data.copy_(params)
