"""Units that overlap push one another apart: SMAX's rule with as little arithmetic as it takes.

The rule is JaxMARL's (`SMAX._push_units_away`), where it takes from a third to half of a step: it works on [U, U, 2].
Here each coordinate is a matrix of its own. tests/envs/test_smax.py compares the two.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp


def push(positions: Any, alive: Any, radii: Any, firmness: float = 1.0) -> Any:
    """Return where units stand after each was moved away from every other that it overlaps.

    | argument | shape | meaning |
    |---|---|---|
    | positions | [U, 2] | in the map's units |
    | alive | [U] bool | the dead neither push nor are pushed |
    | radii | [U] | a pair overlaps where its distance is below the sum of its radii |
    | firmness | | 1: a pair alone parts entirely |

    Two units at the very same place stay there: there is no direction to part in.
    """
    x, y = positions[:, 0], positions[:, 1]
    # jaxmarl adds 1 on the diagonal, which hides a unit from itself; its difference is 0 all the same
    dx, dy = x[:, None] - x[None, :], y[:, None] - y[None, :]
    distance = jnp.sqrt(dx * dx + dy * dy) + 1e-6
    # the radii of the dead are so small that they overlap with no unit: one vector in place of a matrix of pairs
    reach = jnp.where(alive, radii, -1e6)
    overlap = jnp.maximum((reach[:, None] + reach[None, :]) / distance - 1.0, 0.0) * (0.5 * firmness)
    return positions + jnp.stack([(dx * overlap).sum(1), (dy * overlap).sum(1)], axis=1)
