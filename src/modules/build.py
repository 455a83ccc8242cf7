"""The networks that a class stands for: the built-in ones, or copies of any ``nn.Module``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..utils.schema.registry import resolve
from . import REGISTRY, critics
from .agents.module import ModuleStack
from .agents.rnn import Network
from .heads import Head
from .stack import Inputs


def memory_of(kind: str, values: Mapping[str, Any]) -> str:
    """Return what gives the networks of ``kind`` (agent or critic) a memory, as ``key=value``; empty: they have none.

    Args:
        values: the configuration.
    """
    package, registry, switch = {
        "agent": (__package__, REGISTRY, "use_rnn"),
        "critic": (critics.__name__, critics.REGISTRY, "critic_use_rnn"),
    }[kind]
    network = resolve(str(package), registry, values[kind], kind)
    if isinstance(network, type) and issubclass(network, Network):
        return f"{switch}=True" if values[switch] else ""
    return f"{kind}={values[kind]}" if callable(getattr(network, "initial_hidden", None)) else ""


def policy_networks(
    agent: Any, n_networks: int, inputs: Inputs, head: Head, config: Any, generator: torch.Generator
) -> Any:
    """Return the policies' :class:`~oamarl.modules.stack.Stack`.

    Args:
        agent: a subclass of the built-in network, or any ``nn.Module`` that keeps the contract of
            :mod:`oamarl.modules.agents.module`.
        n_networks: K.
        inputs: the inputs of a row.
        head: the outputs of a row.
        config: what the class reads.
        generator: source of the initial parameters.

    Raises:
        UserError: a module that does not keep the contract.
    """
    if isinstance(agent, type) and issubclass(agent, Network):
        return agent(
            n_networks, int(inputs), head.outputs, hidden_dim=config.hidden_dim, recurrent=config.use_rnn,
            activation=config.activation, head_gain=config.head_gain, generator=generator, init=config.init,
            n_free=head.free, free_start=head.start, layer_norm=config.layer_norm,
        )  # fmt: skip
    return ModuleStack(
        agent, n_networks, inputs, head.outputs, config, generator, n_free=head.free, free_start=head.start
    )


def critic_networks(
    critic: Any,
    n_networks: int,
    inputs: Inputs,
    config: Any,
    recurrent: bool,
    generator: torch.Generator,
) -> Any:
    """Return the critics' :class:`~oamarl.modules.stack.Stack`, of one output each; arguments as above.

    ``recurrent``: whether the built-in critic carries a GRU; a module says so itself.
    """
    if isinstance(critic, type) and issubclass(critic, Network):
        return critic(
            n_networks, int(inputs), 1, hidden_dim=config.hidden_dim, recurrent=recurrent,
            activation=config.activation, head_gain=1.0, generator=generator, init=config.init,
            layer_norm=config.layer_norm,
        )  # fmt: skip
    return ModuleStack(critic, n_networks, inputs, 1, config, generator, kind="critic")
