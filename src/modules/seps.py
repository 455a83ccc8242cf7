"""Latent identities of agents, from what their actions lead to: encoder and decoder of selective sharing (SEPS).

Christianos, Papoudakis, Rahman and Albrecht 2021. The encoder turns an agent's number into a Gaussian of a latent
z; the decoder predicts the next observation and the reward from z, observation and action. Agents whose actions lead
to the same get the same z, for z is all that the decoder knows of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..components.batch import Batch
from ..components.normalisation import RunningMeanStd
from ..components.updates.optimisers import Adam
from ..components.updates.samples import minibatches

#: Standardised numbers are clipped there: rewards that nearly never come must not outweigh everything else.
_MOST = 10.0
#: Minibatches between two checks of whether training continues.
_CHECK_EVERY = 256


@dataclass(frozen=True)
class Transitions:
    """M steps of single agents.

    | field | shape | meaning |
    |---|---|---|
    | agent | [M] int64 | who |
    | obs, next_obs | [M, O] | what it saw before and after, zero-padded |
    | action | [M] int64, or [M, D] float32 | what it did |
    | reward | [M] | what it got |
    """

    agent: Tensor
    obs: Tensor
    action: Tensor
    next_obs: Tensor
    reward: Tensor

    @classmethod
    def of(cls, batch: Batch) -> Transitions:
        """Return the steps of a batch of whole episodes at which an agent took a decision."""
        row, step, agent = batch.valid.nonzero(as_tuple=True)
        where = row, step, agent
        return cls(agent, batch.obs[where], batch.actions[where], batch.obs[row, step + 1, agent], batch.reward[where])

    @classmethod
    def joined(cls, parts: Sequence[Transitions]) -> Transitions:
        """Return all steps of several collections."""
        return cls(**{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(cls)})

    def __len__(self) -> int:
        return len(self.agent)


@dataclass(frozen=True)
class FitOptions:
    """Options of fitting encoder and decoder: z's size, hidden width, epochs, minibatch, learning rate, KL's weight."""

    latent_dim: int
    hidden_dim: int
    epochs: int
    batch_size: int
    lr: float
    kl_weight: float


@dataclass(frozen=True)
class Latents:
    """The encoder's Gaussians of N agents: mean and std [N, Z]; ``error``: the decoder's squared error of a step."""

    mean: np.ndarray
    std: np.ndarray
    error: float


class TransitionModel(nn.Module):
    """Encoder (agent -> Gaussian of z) and decoder (z, obs, action -> next obs, reward), fully connected, ReLU.

    Args:
        n_agents, obs_size, n_actions: sizes of the environment.
        latent_dim, hidden_dim: Z, and the width of hidden layers (one in the encoder, two in the decoder).
        generator: source of the initial parameters.
    """

    def __init__(
        self, n_agents: int, obs_size: int, n_actions: int, latent_dim: int, hidden_dim: int,
        generator: torch.Generator,
    ) -> None:  # fmt: skip
        super().__init__()
        h, self.n_agents = hidden_dim, n_agents
        self.encoder = nn.Sequential(nn.Linear(n_agents, h), nn.ReLU(), nn.Linear(h, 2 * latent_dim))
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim + obs_size + n_actions, h), nn.ReLU(), nn.Linear(h, h), nn.ReLU(),
            nn.Linear(h, obs_size + 1),
        )  # fmt: skip
        for layer in self.modules():
            if isinstance(layer, nn.Linear):  # torch's own distribution, from this run's stream
                bound = layer.in_features**-0.5
                nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
                nn.init.uniform_(layer.bias, -bound, bound, generator=generator)

    def latents(self) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of every agent's z, [N, Z] each."""
        mean, log_var = self.encoder(torch.eye(self.n_agents)).chunk(2, dim=1)
        return mean, log_var

    def forward(self, agent: Tensor, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Predict, with z drawn by ``noise``.

        Args:
            agent: [M].
            x: [M, O + A], observation and one-hot action (a continuous one: its D numbers).
            noise: [M, Z] from N(0, 1).

        Returns:
            next observation and reward [M, O + 1]; KL(q(z | agent) || N(0, 1)) of every agent [N], nats.
        """
        mean, log_var = self.latents()
        z = mean[agent] + (0.5 * log_var).exp()[agent] * noise
        kl = 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(1)
        return self.decoder(torch.cat([z, x], dim=1)), kl


def fit(
    data: Transitions, obs_sizes: Sequence[int], n_actions: int, options: FitOptions, generator: torch.Generator,
    check_stop: Callable[[], None] = lambda: None,
) -> Latents:  # fmt: skip
    """Fit encoder and decoder to ``data`` by the ELBO with a Gaussian decoder, KL weighted by ``kl_weight``.

    Departing from the paper's code, observations, rewards and continuous actions are standardised (and clipped to
    [-10, 10]), so that no one of them outweighs the others by its scale; what is padding in an agent's observation has
    no part.

    Args:
        obs_sizes: the agents' own sizes, [N].
        n_actions: A, or D.
        generator: of initial parameters, minibatches and z's noise.
        check_stop: called at intervals; what it raises ends the work early.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the same clusters for any number of threads
    try:
        return _fit(data, obs_sizes, n_actions, options, generator, check_stop)
    finally:
        torch.set_num_threads(threads)


def _fit(
    data: Transitions, obs_sizes: Sequence[int], n_actions: int, options: FitOptions, generator: torch.Generator,
    check_stop: Callable[[], None],
) -> Latents:  # fmt: skip
    size = data.obs.shape[1]
    own = torch.arange(size) < torch.tensor(obs_sizes).unsqueeze(1)  # [N, O]
    if data.action.is_floating_point():  # on one scale: bounds may be large
        action = _standardised(data.action, data.agent, own.new_ones(len(own), n_actions))
    else:
        action = F.one_hot(data.action, n_actions).float()
    x = torch.cat([_standardised(data.obs, data.agent, own), action], dim=1)
    counted = F.pad(own, (0, 1), value=True)  # the reward is every agent's
    goal = _standardised(torch.cat([data.next_obs, data.reward.unsqueeze(1)], dim=1), data.agent, counted)
    weight = counted.float()
    model = TransitionModel(len(own), size, n_actions, options.latent_dim, options.hidden_dim, generator)
    optimiser = Adam(model.parameters(), lr=options.lr, fused=True)
    error = 0.0
    for _ in range(options.epochs):
        error, parts = 0.0, minibatches(len(data), max(1, round(len(data) / options.batch_size)), generator)
        for number, part in enumerate(parts):
            if number % _CHECK_EVERY == 0:
                check_stop()
            agent = data.agent[part]
            noise = torch.randn(len(part), options.latent_dim, generator=generator)
            predicted, kl = model(agent, x[part], noise)
            errors = ((predicted - goal[part]) ** 2 * weight[agent]).sum(1)
            loss = (errors + options.kl_weight * kl[agent]).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            error += float(errors.detach().sum()) / len(data)
    with torch.no_grad():
        mean, log_var = model.latents()
    return Latents(mean.numpy().astype(np.float64), (0.5 * log_var).exp().numpy().astype(np.float64), error)


def _standardised(x: Tensor, agent: Tensor, own: Tensor) -> Tensor:
    """Return x [M, D] on the scale of each column's deviation, over the agents that have it (``own`` [N, D]); 0 where
    an agent has not."""
    scaled = torch.zeros_like(x)
    for column in range(x.shape[1]):
        has = own[agent, column]
        values, stats = x[has, column], RunningMeanStd()
        stats.update(values)
        scaled[has, column] = stats.normalise(values).clamp(-_MOST, _MOST)
    return scaled
