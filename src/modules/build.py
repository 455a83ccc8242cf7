"""The networks that a class stands for: the built-in ones, copies of any ``nn.Module``, and mixers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..components.experience import EnvInfo
from ..utils.errors import UserError, first_line
from ..utils.schema.registry import resolve
from . import REGISTRY, critics
from .agents.module import ModuleStack
from .agents.rnn import Network
from .flat import FlatModule
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
    outputs: int = 1,
) -> Any:
    """Return the critics' :class:`~oamarl.modules.stack.Stack`; arguments as above.

    ``recurrent``: whether the built-in critic carries a GRU; a module says so itself. ``outputs``: of each, one value,
    or one for each action.

    Raises:
        UserError: a module that does not keep the contract, or a graph of joint actions, which is no network of rows.
    """
    if getattr(critic, "joint", False):
        raise UserError(
            "critic=dcg values joint actions of the team, which Pareto actor-critic alone reads: use critic=v, or "
            "--config=pac_ns."
        )
    if isinstance(critic, type) and issubclass(critic, Network):
        return critic(
            n_networks, int(inputs), outputs, hidden_dim=config.hidden_dim, recurrent=recurrent,
            activation=config.activation, head_gain=1.0, generator=generator, init=config.init,
            layer_norm=config.layer_norm,
        )  # fmt: skip
    return ModuleStack(critic, n_networks, inputs, outputs, config, generator, kind="critic")


def mixer_network(
    mixer: Any, name: str, info: EnvInfo, config: Any, generator: torch.Generator, *more: int
) -> FlatModule:
    """Return the network that joins the agents' action values to the team's.

    Args:
        mixer: the class: built as ``(n_agents, state_size, config)``, called as ``forward(qs, state)`` of [..., N] and
            [..., S], which returns the team's value [..., 1].
        name: the value of ``mixer``, for messages.
        info: the environment's sizes.
        config: what the learner reads.
        generator: source of the initial parameters.
        more: further arguments of the constructor of a mixer that reads actions and features (``joint = True``).

    Raises:
        UserError: a user-supplied class that cannot be built or called so.
    """
    n, s = info.n_agents, info.state_size
    try:
        built = FlatModule(lambda: mixer(n, s, config, *more), generator)
        if more:
            return built
        state = torch.zeros(2, s, dtype=built.params.dtype)
        found = built(built.params.detach(), torch.zeros(2, n, dtype=built.params.dtype), state)
    except UserError:
        raise
    except Exception as error:  # a user's own code
        raise UserError(
            f"mixer={name} cannot be built as {name.rpartition(':')[2]}(n_agents, state_size, config) and called as "
            f"forward(qs, state): {type(error).__name__}: {first_line(error)}."
        ) from error
    if not isinstance(found, torch.Tensor) or found.shape != (2, 1):
        got = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise UserError(
            f"mixer={name} returns {got} for qs (2, {n}) and state (2, {s}): the team's value, (2, 1), is expected."
        )
    return built


def load_mixer(mixer: FlatModule | None, state: Mapping[str, Any]) -> list[str]:
    """Take the weights [1, P] of ``mixer`` from another learner's state; return ``["mixer"]`` where none there fit.

    A learner without a mixer, or whose mixer has no weights (a sum), takes nothing and lacks nothing.
    """
    if mixer is None or not mixer.params.numel():
        return []
    stored = state.get("mixer")
    if stored is None or stored.shape != mixer.params.shape:
        return ["mixer"]
    mixer.params.data.copy_(stored)
    return []
