"""A trained team as a library: ``load_team(run_folder).act(obs, avail)``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .components import checkpoints
from .components.config import read
from .components.generators import generator
from .components.registry import resolve
from .controllers import REGISTRY as MACS
from .envs.vec import make_info
from .modules import REGISTRY as AGENTS


def load_team(folder: str | Path) -> Team:
    """Return the trained team of a run (its newest intact checkpoint).

    Raises:
        UserError: there is none.
    """
    saved = checkpoints.load(checkpoints.find(folder))
    return Team(saved)


class Team:
    """Trained policies: ``info`` and ``act(obs, avail)``; ``config`` is the run's configuration."""

    def __init__(self, saved: Mapping[str, Any]) -> None:
        self.config: dict[str, Any] = dict(saved["config"])
        values = self.config
        self.info = make_info(values["env"], values["env_args"])
        mac = resolve(f"{__package__}.controllers", MACS, values["mac"], "mac")
        agent = resolve(f"{__package__}.modules", AGENTS, values["agent"], "agent")
        self.mac = mac(
            read(mac.Config, values), agent, read(agent.Config, values), self.info, generator(0, "weights follow")
        )
        self.mac.load_state_dict(saved["mac"])
        self.reset(1)

    def reset(self, n_slots: int = 1) -> None:
        """Start new episodes: no last action, zero hidden state."""
        self._hidden = self.mac.initial_hidden(n_slots)
        self._last = torch.full((n_slots, self.info.n_agents), -1)

    def act(self, obs: np.ndarray, avail: np.ndarray) -> np.ndarray:
        """Greedy actions [B, N] for observations [B, N, O] and legal actions [B, N, A] bool."""
        actions, _, self._hidden = self.mac.act(
            torch.as_tensor(obs), torch.as_tensor(avail), self._last, self._hidden, None
        )
        self._last = actions
        return actions.numpy()
