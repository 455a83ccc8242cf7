"""What a network class reads of the configuration: its own dataclass ``Config``, or the width and activation alone."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from ..utils.schema.keys import key


@dataclass(frozen=True)
class ModuleConfig:
    """Configuration of a network class that has no ``Config`` of its own."""

    hidden_dim: int = key("Width of the hidden layers (and of the GRU) of policies and critics.", low=1, high=65536)
    activation: str = key("Non-linearity of the feed-forward layers.", choices=("relu", "tanh"))


def network_config(network: Any) -> type:
    """Return the dataclass with the keys that a network class reads."""
    own = getattr(network, "Config", None)
    return own if isinstance(own, type) and dataclasses.is_dataclass(own) else ModuleConfig
