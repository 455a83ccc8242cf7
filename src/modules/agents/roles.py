"""Role-conditioned action values: a GRU whose last layer is drawn from a role, a random number of the observation.

ROMA (Wang et al. 2020), section 3, with the sizes of its authors' program.

| symbol | shape | meaning |
|---|---|---|
| x | [I] | what an agent observes (its id and last action, where they are configured) |
| rho | [D] | role, of p(rho | x), a Gaussian of independent numbers |
| h | [H] | memory of the GRU |
| W(rho), b(rho) | [H, A], [A] | last layer: action values h W + b |
| q(rho | h, x) | | what the role is guessed to be by x and the memory before it, where roles last |

Layer normalisation takes the place of the program's batch normalisation, so that a row's values do not depend on the
other rows of a batch. Actions are chosen by the mean of the role; the learner draws roles.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...utils.schema.keys import key
from ..stack import Inputs


@dataclass(frozen=True)
class RoleConfig:
    """Configuration of role-conditioned networks."""

    hidden_dim: int = key("Width of the hidden layers (and of the GRU) of policies and critics.", low=1, high=65536)
    role_dim: int = key("ROMA: numbers of a role.", low=1, high=65536)
    role_hidden_dim: int = key("ROMA: width of the layers that roles are made by and read by.", low=1, high=65536)


class RoleNetwork(nn.Module):
    """An agent's action values by its role.

    Args:
        inputs: I.
        outputs: A.
        config: sizes.
    """

    Config = RoleConfig
    sequences = True

    def __init__(self, inputs: Inputs, outputs: int, config: RoleConfig) -> None:
        super().__init__()
        h, d, e = config.hidden_dim, config.role_dim, config.role_hidden_dim
        self.hidden_dim, self.role_dim, self.n_actions = h, d, outputs
        self.encoder, self.inference = _gaussian(int(inputs), d, e), _gaussian(h + int(inputs), d, e)
        self.fc1, self.rnn = nn.Linear(int(inputs), h), nn.GRU(h, h)
        self.decoder = nn.Sequential(nn.Linear(d, e), nn.LeakyReLU(), nn.Linear(e, (h + 1) * outputs))
        self.dissimilarity = nn.Sequential(nn.Linear(2 * d, e), nn.LeakyReLU(), nn.Linear(e, 1))

    def initial_hidden(self, rows: int) -> Tensor:
        """Return zeros [rows, H]."""
        return self.fc1.weight.new_zeros(rows, self.hidden_dim)

    def _states(self, x: Tensor, hidden: Tensor) -> Tensor:
        """The memory after each step, [T, R, H]."""
        states, _ = self.rnn(torch.relu(self.fc1(x)), hidden.unsqueeze(0))
        return states

    def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """x [T, R, I], hidden [R, H] -> action values [T, R, A] by the roles' means, memory after the last step."""
        states = self._states(x, hidden)
        role = self.encoder(x)[..., : self.role_dim]
        return self.values(torch.cat([role, states], dim=-1), hidden)[0], states[-1]

    def features(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log-variances of p and of q, and the memory after each step: [T, R, 4 D + H]; q does not change the
        memory that it reads."""
        states = self._states(x, hidden)
        before = torch.cat([hidden.unsqueeze(0), states[:-1]]).detach()
        guessed = self.inference(torch.cat([before, x], dim=-1))
        return torch.cat([self.encoder(x), guessed, states], dim=-1), states[-1]

    def values(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Action values [..., A] of roles and memories side by side, x [..., D + H]."""
        role, state = x[..., : self.role_dim], x[..., self.role_dim :]
        drawn = self.decoder(role).unflatten(-1, (self.hidden_dim + 1, self.n_actions))
        out = (state.unsqueeze(-2) @ drawn[..., :-1, :]).squeeze(-2) + drawn[..., -1, :]
        return out, hidden

    def unlike(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """How unlike two roles side by side, x [..., 2 D], are by a learned measure: [..., 1], 0 or more."""
        return self.dissimilarity(x).abs(), hidden


def _gaussian(inputs: int, size: int, hidden: int) -> nn.Sequential:
    """A network of means and log-variances, [2 * size]."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.LeakyReLU(), nn.Linear(hidden, 2 * size)
    )  # fmt: skip
