"""Selective parameter sharing (SEPS): which agents share a network is found before training.

Christianos, Papoudakis, Rahman and Albrecht 2021, "Scaling Multi-Agent Reinforcement Learning with Selective Parameter
Sharing".

    play uniformly drawn legal actions
    fit an encoder (agent -> z) and a decoder (z, observation, action -> next observation, reward)
    cluster the agents' z: one network for each cluster
    train as usual

The environment steps played for it count as the run's first ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..components import clusters
from ..components.generators import generator
from ..envs.base import EnvInfo
from ..modules.seps import FitOptions, Latents, Transitions, fit
from ..utils.errors import UserError
from ..utils.schema.keys import key, read
from .contract import RandomPlay

#: value of `sharing` that asks for it
SELECTIVE = "selective"


@dataclass(frozen=True)
class SelectiveConfig:
    """Configuration of selective parameter sharing."""

    seps_clusters: int | None = key(
        "K: groups of agents that share a network; null: chosen by the Davies-Bouldin index.", low=1
    )
    seps_index: str = key(
        "Davies-Bouldin index that chooses K: of the agents' latent distributions (which may choose 1), or of their "
        "means alone, as the paper's code does (which never chooses 1).",
        choices=("distributions", "means"),
    )
    seps_steps: int = key(
        "Environment steps of random play from which the groups are found; they count in t_env.", low=1
    )
    seps_epochs: int = key("Passes over these steps by encoder and decoder.", low=1)
    seps_batch_size: int = key("Steps of single agents in a minibatch of encoder and decoder.", low=1)
    seps_lr: float = key("Learning rate of encoder and decoder (Adam).", above=0, high=1e6)
    seps_latent_dim: int = key("Size of the latent z.", low=1, high=65536)
    seps_hidden_dim: int = key("Width of the hidden layers of encoder and decoder.", low=1, high=65536)
    seps_kl_weight: float = key("Weight of the KL divergence in the ELBO.", low=0)

    @property
    def fitting(self) -> FitOptions:
        """The options of fitting encoder and decoder."""
        return FitOptions(
            self.seps_latent_dim, self.seps_hidden_dim, self.seps_epochs, self.seps_batch_size, self.seps_lr,
            self.seps_kl_weight,
        )  # fmt: skip

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse what cannot be found in this environment.

        Raises:
            UserError: a number of groups that these agents cannot make, or too few steps to train.
        """
        k, sizes = values["seps_clusters"], np.bincount(classes(info)).tolist()
        if k is not None and k > info.n_agents:
            raise UserError(f"seps_clusters={k} is out of range: '{info.name}' has {info.n_agents} agents.")
        if k is not None and k < len(sizes):
            raise UserError(
                f"seps_clusters={k} is out of range: '{info.name}' has agents of {len(sizes)} shapes (of observations "
                f"and actions), which cannot share a network; at least {len(sizes)} is allowed."
            )
        if k is None and values["seps_index"] == "means" and 2 in sizes:
            raise UserError(
                "seps_index=means cannot tell whether two agents are alike: set seps_clusters, or use "
                "seps_index=distributions."
            )
        if obvious(values, info) is None and values["seps_steps"] >= values["t_max"]:
            raise UserError(
                f"seps_steps={values['seps_steps']} leaves nothing of t_max={values['t_max']} to train: the steps of "
                "random play count in t_env."
            )


def classes(info: EnvInfo) -> np.ndarray:
    """Return the class of each agent, [N]: agents of one class have the same observation and action sizes."""
    return clusters.renumbered(info.agents_match().argmax(1))


def obvious(values: Mapping[str, Any], info: EnvInfo) -> list[int] | None:
    """Return each agent's group where it is known without random play, else None."""
    own, k = classes(info), values["seps_clusters"]
    if int(own.max()) + 1 == info.n_agents or k == info.n_agents:
        return list(range(info.n_agents))
    return own.tolist() if k == int(own.max()) + 1 else None


@dataclass(frozen=True)
class AgentGroups:
    """The agents' networks under selective sharing, and how they were found.

    | field | meaning |
    |---|---|
    | index | each agent's network, [N], numbered from 0 without gaps |
    | t_env, agent_steps | what was played to find it: environment steps, and steps of single agents |
    | environment, inference, learning | seconds that it took |
    | latents | what the groups were found in; None: nothing was played |
    | indices | of every number of groups that was tried its Davies-Bouldin index, shape class by shape class |
    """

    name: ClassVar[str] = "seps"

    index: list[int]
    t_env: int = 0
    agent_steps: int = 0
    environment: float = 0.0
    inference: float = 0.0
    learning: float = 0.0
    latents: Latents | None = None
    indices: list[dict[int, float]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """All the time that it took."""
        return self.environment + self.inference + self.learning

    @property
    def n_networks(self) -> int:
        """The number of groups."""
        return max(self.index) + 1

    def groups(self) -> str:
        """The agents of each group, ``[0, 1] [2, 3]``."""
        return " ".join(str([i for i, g in enumerate(self.index) if g == k]) for k in range(self.n_networks))

    def __str__(self) -> str:
        k, n = self.n_networks, len(self.index)
        said = f"Selective sharing: {k} network{'s' * (k > 1)} for {n} agents, {self.groups()}."
        if self.latents is None:
            return f"{said} Nothing had to be played to know it."
        tried = "; ".join(
            ", ".join(f"{value:.3g} for {k}" for k, value in some.items()) for some in self.indices if some
        )
        said += f" Davies-Bouldin index: {tried}." if tried else ""
        return f"{said} Found in {self.t_env:,} steps of random play and {self.seconds:.1f} seconds."

    def changes(self) -> dict[str, Any]:
        """The controller's `sharing`: each agent's network."""
        return {"sharing": self.index}

    def scalars(self) -> dict[str, float]:
        """Scalars about the groups."""
        found = {"seps_networks": float(self.n_networks), "seps_steps": float(self.t_env)}
        return found if self.latents is None else found | {"seps_error": self.latents.error}

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays about the groups in ``seps.arrays``: index [N], mean and std of z [N, Z]."""
        found = {"index": np.array(self.index)}
        if self.latents is not None:
            found |= {"mean": self.latents.mean, "std": self.latents.std}
        return found


def find(
    values: Mapping[str, Any],
    info: EnvInfo,
    play: Callable[[], RandomPlay],
    check_stop: Callable[[], None] = lambda: None,
) -> AgentGroups:
    """Find the groups of agents that share a network: the same for the same seed, in any number of processes.

    Args:
        values: the run's configuration.
        info: the environment's sizes.
        play: starts random play; not called where nothing has to be played.
        check_stop: called at intervals; what it raises ends the work early.

    Raises:
        UserError, RunError: an environment failed, or gave numbers that are not finite.
    """
    known = obvious(values, info)
    if known is not None:
        return AgentGroups(known)
    config, seed = read(SelectiveConfig, values), values["seed"]
    runner = play()
    try:
        parts = []
        while runner.t_env < config.seps_steps:
            check_stop()
            parts.append(Transitions.of(runner.batch()))
    finally:
        runner.close()
    began = time.perf_counter()
    data = Transitions.joined(parts)
    latents = fit(data, info.obs_sizes, info.n_actions, config.fitting, generator(seed, "seps"), check_stop)
    index, indices = group(latents, classes(info), config, np.random.default_rng([seed, 1]))
    return AgentGroups(
        index, runner.t_env, runner.agent_steps, runner.time_env, runner.time_act, time.perf_counter() - began,
        latents, indices,
    )  # fmt: skip


def group(
    latents: Latents, own: np.ndarray, config: SelectiveConfig, rng: np.random.Generator
) -> tuple[list[int], list[dict[int, float]]]:
    """Cluster the agents' latents, within the classes ``own`` [N] alone.

    Returns:
        each agent's group, and the Davies-Bouldin indices of each class (none where the number is given).
    """
    if config.seps_clusters is not None:
        return clusters.split_classes(latents.mean, own, config.seps_clusters, rng).tolist(), []
    variances = latents.std**2 if config.seps_index == "distributions" else None
    members = [np.flatnonzero(own == c) for c in range(int(own.max()) + 1)]
    found = [
        clusters.best_split(latents.mean[some], None if variances is None else variances[some], rng) for some in members
    ]
    return clusters.joined(members, [labels for labels, _ in found]).tolist(), [indices for _, indices in found]


class SelectiveSharing:
    """Preparation of a run with sharing=selective; see :class:`~oamarl.controllers.contract.Preparation`.

    Args:
        values: the run's configuration.
        info: the environment's sizes.
    """

    def __init__(self, values: Mapping[str, Any], info: EnvInfo) -> None:
        self.values, self.info = values, info

    @property
    def announcement(self) -> str:
        """What is said when random play begins."""
        steps = self.values["seps_steps"]
        return f"Selective sharing: {steps:,} steps of random play, to find out which agents are alike."

    def known(
        self, saved: Mapping[str, Any] | None, weights: Mapping[str, Any] | None, say: Callable[[str], None]
    ) -> AgentGroups | None:
        """Return the groups, if known without random play.

        A resumed run has the groups that it had; one that starts from the weights of another such run (``init_from``)
        takes its groups too, for the networks are theirs.

        Raises:
            UserError: the groups do not fit the configuration.
        """
        values = self.values
        if saved is not None:
            return self.stored(saved["mac"], f"The checkpoint of {saved['folder']}")
        if weights is not None and weights["config"].get("sharing") == SELECTIVE:
            source, k = f"init_from={values['init_from']}", values["seps_clusters"]
            found = self.stored(weights["mac"], source)
            if k not in (None, found.n_networks):
                raise UserError(f"{source} has {found.n_networks} groups of agents, not {k}.")
            say(f"{source}: its groups of agents were taken, {found.groups()}.")
            return found
        index = obvious(values, self.info)
        if index is None:
            return None
        say(str(AgentGroups(index)))
        return AgentGroups(index)

    def find(self, play: Callable[[], RandomPlay], check_stop: Callable[[], None] = lambda: None) -> AgentGroups:
        """Find the groups: :func:`find`."""
        return find(self.values, self.info, play, check_stop)

    def stored(self, state: Mapping[str, Any], where: str) -> AgentGroups:
        """Return the groups that policies were trained with: :func:`stored`."""
        return stored(state, self.info, where)


def stored(state: Mapping[str, Any], info: EnvInfo, where: str) -> AgentGroups:
    """Return the groups of agents of a controller's ``state_dict``.

    Raises:
        UserError: it does not say, or says it of other agents.
    """
    index = state.get("index")
    if not isinstance(index, list) or not all(type(k) is int and k >= 0 for k in index):
        raise UserError(f"{where} does not say which agents share networks: sharing={SELECTIVE} cannot resume with it.")
    if len(index) != info.n_agents:
        raise UserError(f"{where} is of {len(index)} agents, and '{info.name}' has {info.n_agents}.")
    return AgentGroups(clusters.renumbered(index).tolist())
