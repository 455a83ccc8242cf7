"""Actions of VMAS's agents: their sizes and bounds, and what discrete ones stand for.

VMAS decodes discrete actions in some forty calls of torch an agent. They are looked up in a table here, and reach VMAS
as the forces and messages that they stand for.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def levels(count: int, reach: np.float32) -> np.ndarray:
    """Return the forces [count] float32 of a discrete action's choices: evenly spaced over [-reach, reach].

    Of an odd number of choices the first is no force, and the others follow from the lowest.
    """
    places = np.arange(count)
    if count % 2:
        places = np.array([count // 2, *(i for i in range(count) if i != count // 2)])
    shares = places.astype(np.float32) / np.float32(count - 1)
    return np.asarray(shares * (np.float32(2) * reach) - reach, np.float32)


def table(agent: Any, n_symbols: int) -> np.ndarray:
    """Return what each discrete action of an agent stands for, [A, D] float32: forces, then a message, one-hot.

    An action is the number of a combination of choices, of which the last changes first; VMAS's ``Discrete`` space.

    Args:
        agent: VMAS's agent.
        n_symbols: symbols of a message, 0 where the agent does not speak.
    """
    counts = (*agent.discrete_action_nvec, *([n_symbols] if n_symbols else []))
    choices = np.stack(np.unravel_index(np.arange(int(np.prod(counts))), counts), 1)
    reach = agent.action.u_range_tensor.cpu().numpy()
    columns = [levels(int(n), reach[j])[choices[:, j], None] for j, n in enumerate(agent.discrete_action_nvec)]
    if n_symbols:
        columns.append(np.eye(n_symbols, dtype=np.float32)[choices[:, -1]])
    return np.concatenate(columns, 1)


def tables(env: Any) -> list[np.ndarray]:
    """Return :func:`table` of each agent of VMAS's environment."""
    return [table(agent, 0 if agent.silent else env.world.dim_c) for agent in env.agents]


def bounds(env: Any) -> tuple[tuple[tuple[float, ...], ...], tuple[tuple[float, ...], ...]]:
    """Return the lowest and highest continuous actions of each agent."""
    spaces = [env.get_agent_action_space(agent) for agent in env.agents]
    low = tuple(tuple(float(x) for x in space.low) for space in spaces)
    return low, tuple(tuple(float(x) for x in space.high) for space in spaces)
