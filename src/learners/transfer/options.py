"""Options of MAPTF: an agent follows one agent's policy for a while, and learns whose is worth it.

An efficient transfer learning framework for multi-agent reinforcement learning (Yang et al. 2021), whose options are
learned by successor representations; what the paper leaves open is as in its authors' program.

| symbol | shape | meaning |
|---|---|---|
| o | 1 .. N | option: the number of the agent whose policy is followed, one's own included |
| phi(s) | [D] | features of an observation s, one encoder for all agents |
| w_i | [D] | agent i's weights: its reward is about phi(s) . w_i |
| m_i(phi, o) | [D] | agent i's successor features of option o |
| Q_i(s, o) | | option values m_i(phi(s), o) . w_i |
| beta_i(s, o) | | probability that option o ends on arriving at s |

    features:     minimise  (r_i - phi(s) . w_i)^2 + recon |decode(phi(s)) - s|^2
    successors:   m_i(phi(s), o) -> phi(s) + gamma U_i(s', o)        the options that agree with the action taken
                  U_i(s, o) = (1 - beta_i(s, o)) m'_i(phi(s), o) + beta_i(s, o) m'_i(phi(s), o*),
                  o* = argmax_o Q_i(s, o);  0 where the episode terminates
    termination:  minimise  beta_i(s', o) (Q_i(s', o) - max Q_i(s', .) + xi)     of the option o that is followed

m' is m's target network. An option agrees with an action if it is the one that is followed, or if the policy that it
stands for would have chosen that action. phi and Q are held fixed in the last two lines.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...components.batch import Batch
from ...components.experience import EnvInfo
from ...components.generators import generator
from ...components.schedules import scheduled
from ...components.updates.descent import clip_rows, follow
from ...components.updates.optimisers import Adam
from ...modules.build import memory_of
from ...modules.flat import FlatModule
from ...utils.errors import UserError
from ...utils.schema.keys import key
from .networks import Features, Successors
from .transitions import Transitions


@dataclass(frozen=True)
class OptionConfig:
    """Configuration of MAPTF's options and of what they transfer."""

    transfer_coef: float = key("MAPTF: weight of the loss towards the policy that an agent follows; 0: none.", low=0)
    transfer_steps: int = key(
        "Environment steps after which half of transfer_coef is left: its share is 1/2 + tanh(3 - 3 t / steps) / 2.",
        low=1,
    )  # fmt: skip
    option_epsilon_finish: float = key("Share of options that are chosen at random, in the end.", low=0, high=1)
    option_epsilon_anneal: int = key("Environment steps over which that share falls linearly from 1.", low=1)
    option_xi: float = key("What the best option is better by than itself where terminations are learned.", low=0)
    option_lr: float = key("Learning rate of successor features and terminations.", above=0, high=1e6)
    option_feature_lr: float = key("Learning rate of the features of observations.", above=0, high=1e6)
    option_recon_coef: float = key("Weight of observations' reconstruction from their features.", low=0)
    option_features: int = key("Number of features of an observation.", low=1, high=65536)
    option_hidden_dim: int = key("Width of the layers of successor features.", low=1, high=65536)
    option_batch_size: int = key(
        "Steps that an update of the options learns from: on PPO drawn from their own replay, on MADDPG the first of "
        "those that it draws.",
        low=1,
    )
    option_target_interval: int = key("Updates of the options between copies of their target network.", low=1)


class Options:
    """All agents' options: which are followed, and how they are learned.

    Args:
        config: what it reads.
        gamma: discount factor.
        clip: largest norm of each network's gradient.
        eps: epsilon of Adam.
        info: the environment's sizes.
        device: where everything lives.
        seed: the run's seed.
    """

    def __init__(
        self, config: OptionConfig, info: EnvInfo, *, gamma: float, clip: float, eps: float, device: torch.device,
        seed: int,
    ) -> None:  # fmt: skip
        self.config, self.gamma, self.clip, self.n = config, gamma, clip, info.n_agents
        made, n, d = generator(seed, "init options"), info.n_agents, config.option_features
        self.features = FlatModule(lambda: Features(info.obs_size, n, d), made).to(device)
        self.successors = FlatModule(lambda: Successors(n, n, d, config.option_hidden_dim), made).to(device)
        self.target_params = self.successors.params.detach().clone()
        self.generator = generator(seed, "options")
        self.optimisers = [
            Adam([self.features.params], lr=config.option_feature_lr, eps=eps),
            Adam([self.successors.params], lr=config.option_lr, eps=eps),
        ]
        self.updates = 0
        self._last: Tensor | None = None  # [B, N] the options at the end of the last batch's rows

    # -- which are followed --------------------------------------------------------------------------------------

    def weight(self, t_env: int) -> float:
        """What the loss towards followed policies counts at step ``t_env`` (1 at first, 1/2 at `transfer_steps`)."""
        c = self.config
        return c.transfer_coef * (0.5 + math.tanh(3.0 - 3.0 * t_env / c.transfer_steps) / 2.0)

    def epsilon(self, t_env: int) -> float:
        """The share of options that are chosen at random at step ``t_env``."""
        c = self.config
        return scheduled("linear", 1.0, c.option_epsilon_finish, t_env, c.option_epsilon_anneal)

    @torch.no_grad()
    def values(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Q_i(s, o) and beta_i(s, o), [..., N, K] each, of observations ``obs`` [..., N, O]."""
        phi, _, w = self.features(self.features.params, obs)
        m, beta = self.successors(self.successors.params, phi)
        return self._worth(m, w), beta

    @torch.no_grad()
    def held(self, batch: Batch, t_env: int) -> Tensor:
        """The options [B, T, N] that agents follow in a batch, which continue from row to row of the batch before.

        An option is chosen where an episode begins and where the one before ends: the best one or, with probability
        epsilon, any. An agent that takes no decision keeps its own.

        Args:
            batch: standardised.
            t_env: environment steps before it.
        """
        (b, steps, n), device = batch.alive.shape, batch.obs.device
        q, beta = self.values(batch.obs[:, :steps])
        uniform = torch.rand(2, b, steps, n, generator=self.generator).to(device)
        chosen = torch.randint(self.n, (b, steps, n), generator=self.generator).to(device)
        chosen = torch.where(uniform[0] < self.epsilon(t_env), chosen, q.argmax(-1))
        begins = batch.begins.clone()
        if self._last is None or len(self._last) != b:
            begins[:, 0] = True
            now = chosen[:, 0]
        else:
            now = self._last
        found = []
        for t in range(steps):
            ends = uniform[1, :, t] < beta[:, t].gather(-1, now.unsqueeze(-1)).squeeze(-1)
            now = torch.where(begins[:, t : t + 1] | (ends & batch.alive[:, t]), chosen[:, t], now)
            found.append(now)
        self._last = now
        return torch.stack(found, dim=1)

    # -- learning ------------------------------------------------------------------------------------------------

    def update(self, seen: Transitions) -> dict[str, float]:
        """Learn from transitions; returns the losses, and how often options end."""
        count = seen.valid.sum().clamp(min=1)

        def mean(x: Tensor) -> Tensor:
            return torch.where(seen.valid, x, 0.0).sum() / count

        fitted = mean(self.feature_error(seen))
        self._step(0, self.features, fitted)
        error, ends, beta = self.option_errors(seen)
        error, ends = mean(error), mean(ends)
        self._step(1, self.successors, error + ends)
        self.updates += 1
        follow(self.target_params, self.successors.params.detach(), self.config.option_target_interval, self.updates)
        losses = {
            "option_feature_loss": fitted,
            "option_loss": error,
            "option_end_loss": ends,
            "option_end": mean(beta),
        }
        return {name: x.item() for name, x in losses.items()}

    def feature_error(self, seen: Transitions) -> Tensor:
        """(r_i - phi(s) . w_i)^2 + recon |decode(phi(s)) - s|^2, the latter a mean over O: [S, N]."""
        phi, back, w = self.features(self.features.params, seen.obs)
        rewards = (seen.reward - (phi * w).sum(-1)).square()
        return rewards + self.config.option_recon_coef * (back - seen.obs).square().mean(-1)

    def option_errors(self, seen: Transitions) -> tuple[Tensor, Tensor, Tensor]:
        """What successor features and terminations minimise, and the terminations beta_i(s', o) themselves: [S, N]
        each."""
        with torch.no_grad():
            phi, _, w = self.features(self.features.params, torch.stack([seen.obs, seen.following]))
        now, then = self.successors(self.successors.params, phi)
        target = self.targets(phi[0], phi[1], w, now[1].detach(), then[1].detach(), seen.ended)
        error = ((target - now[0]).square().mean(-1) * seen.agree).sum(-1)
        q = self._worth(now[1].detach(), w)
        at = seen.held.unsqueeze(-1)
        beta = then[1].gather(-1, at).squeeze(-1)
        worse = q.gather(-1, at).squeeze(-1) - q.amax(-1) + self.config.option_xi
        return error, torch.where(seen.ended, 0.0, beta * worse), beta

    @torch.no_grad()
    def targets(self, phi: Tensor, then: Tensor, w: Tensor, m: Tensor, beta: Tensor, ended: Tensor) -> Tensor:
        """phi(s) + gamma U_i(s', o) [S, N, K, D].

        Args:
            phi, then: [S, N, D] of s and s'.
            w: [N, D].
            m, beta: [S, N, K, D] and [S, N, K] of s'.
            ended: [S, N] bool.
        """
        target_u, _ = self.successors(self.target_params, then)
        best = self._worth(m, w).argmax(-1)[..., None, None].expand(*m.shape[:2], 1, m.shape[-1])
        ends = beta.unsqueeze(-1)
        follows = (1.0 - ends) * target_u + ends * target_u.gather(2, best)
        return phi.unsqueeze(2) + self.gamma * torch.where(ended[..., None, None], 0.0, follows)

    @staticmethod
    def _worth(m: Tensor, w: Tensor) -> Tensor:
        """m_i . w_i [..., N, K] of m [..., N, K, D] and w [N, D]."""
        return (m * w.unsqueeze(-2)).sum(-1)

    def _step(self, k: int, network: FlatModule, loss: Tensor) -> None:
        self.optimisers[k].zero_grad()
        loss.backward()
        clip_rows(network.params.grad, self.clip)
        self.optimisers[k].step()

    # -- state ---------------------------------------------------------------------------------------------------

    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Yield ("features", [1, P]) and ("options", [1, P])."""
        yield "features", self.features.params
        yield "options", self.successors.params

    def load_weights(self, state: Mapping[str, Any]) -> list[str]:
        """Take both networks of another learner's state; return ``["options"]`` where they are not there or do not
        fit."""
        stored = [state.get(name) for name in ("features", "successors")]
        mine = [self.features.params, self.successors.params]
        if not all(isinstance(x, Tensor) and x.shape == y.shape for x, y in zip(stored, mine, strict=True)):
            return ["options"]
        for x, y in zip(stored, mine, strict=True):
            y.data.copy_(x)  # type: ignore[arg-type]
        self.target_params.copy_(self.successors.params.detach())
        return []

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimisers, the options that are followed, the random stream and the count of updates."""
        return {
            "features": self.features.params.detach().clone(), "successors": self.successors.params.detach().clone(),
            "slow": self.target_params.clone(), "optimisers": [o.state_dict() for o in self.optimisers],
            "last": None if self._last is None else self._last.tolist(), "generator": self.generator.get_state(),
            "updates": self.updates,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state back."""
        self.features.params.data.copy_(state["features"])
        self.successors.params.data.copy_(state["successors"])
        self.target_params.copy_(state["slow"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        last = state["last"]
        self._last = None if last is None else torch.tensor(last, device=self.target_params.device)
        self.generator.set_state(state["generator"])
        self.updates = state["updates"]


def check(values: Mapping[str, Any], info: EnvInfo) -> None:
    """Refuse agents whose policies cannot be followed by one another.

    Raises:
        UserError: naming the keys.
    """
    if values["sharing"] != "separate" or values["obs_agent_id"]:
        raise UserError("MAPTF transfers between policies of the agents' own: use sharing=separate obs_agent_id=False.")
    remembering = memory_of("agent", values)
    if remembering:
        raise UserError(
            f"MAPTF reads what another agent's policy would do at single steps, which {remembering} does not tell: use "
            "feed-forward policies (use_rnn=False)."
        )
    if not info.agents_match().all():
        raise UserError(
            f"MAPTF's agents follow one another's policies, and those of '{info.name}' differ in observations or "
            "actions: use the base method, mappo_ns or maddpg_ns."
        )
