"""VMAS (Bettini et al. 2022), two-dimensional tasks of many agents in physics that is batched in torch.

The package is imported when an environment is built. docs/vmas.md has the scenarios and says what is reproducible.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from ...utils.errors import UserError
from ..base import Arrays, EnvInfo
from .actions import bounds, tables
from .start import build, check_arguments, check_device, find_scenario, load

if TYPE_CHECKING:
    import torch

    from .on_device import VmasOnDevice
    from .worlds import Nature

#: the number at the end of an agent's name
_NUMBER = re.compile(r"[ _-]*\d+$")


class Vmas:
    """B worlds, stepped together; each agent has its own reward."""

    native = True

    def __init__(
        self,
        n_slots: int,
        scenario: str = "balance",
        continuous_actions: bool = False,
        max_steps: int = 100,
        device: str = "cpu",
        **scenario_args: Any,
    ) -> None:
        """Prepare ``n_slots`` worlds.

        Args:
            n_slots: B.
            scenario: VMAS's name, or ``package.module:Class`` for a scenario of the user's own.
            continuous_actions: forces (and messages) are numbers; False: VMAS's discrete actions.
            max_steps: steps until an episode is cut.
            device: torch's name of the device on which worlds are stepped.
            scenario_args: the scenario's own arguments.

        Raises:
            UserError: an unknown scenario, argument or device, a scenario that cannot be made with these arguments, or
                a package missing.
        """
        if max_steps < 1:
            raise UserError(f"env_args.max_steps={max_steps} is out of range: at least 1 is allowed.")
        package, utils = load()
        task = find_scenario(package, scenario)
        check_arguments(task, scenario, scenario_args)
        check_device(device)
        self._device = device
        from .worlds import Worlds, probe

        def make(n: int) -> Any:
            return build(package, task, scenario, n, device, scenario_args)

        nature = probe(make, utils)
        self._worlds = Worlds(make, n_slots, nature, utils)
        self._meanings = None if continuous_actions else tables(self._worlds.env)
        self.info = _info(self._worlds.env, scenario, nature, max_steps, self._meanings)
        self._legal = np.arange(self.info.n_actions) < np.array(self.info.action_sizes)[:, None]
        self._ends = np.cumsum(nature.obs_sizes)
        self._seeds, self._time = np.zeros((2, n_slots), np.int64)
        self._under_way = np.zeros(n_slots, bool)

    def reset(self, slots: np.ndarray, seeds: np.ndarray, out: Arrays) -> None:
        """Start episodes in ``slots`` [k] from ``seeds`` [k]."""
        self._seeds[slots], self._time[slots], self._under_way[slots] = seeds, 0, True
        self._show(slots, self._worlds.start(slots, seeds).cpu().numpy(), out)
        out.avail[slots], out.alive[slots] = self._legal, True
        for field in (out.reward, out.terminated, out.truncated, out.agent_terminated, out.metrics):
            field[slots] = 0

    def step(self, actions: np.ndarray, active: np.ndarray, out: Arrays) -> None:
        """Step the worlds of the active slots; see :class:`Arrays`."""
        if not active.any():
            return
        held = self._under_way & ~active
        found = self._worlds.step(self._actions(actions, active), self._seeds, self._time, held)
        obs, reward, ended = (x.cpu().numpy() for x in found)
        rows: np.ndarray | slice = slice(None) if active.all() else np.flatnonzero(active)
        self._time[rows] += 1
        self._show(rows, obs[rows], out)
        over, late = ended[rows], self._time[rows] >= self.info.episode_limit
        out.reward[rows], out.terminated[rows], out.truncated[rows] = reward[rows], over, late & ~over
        out.agent_terminated[rows] = over[:, None]
        ended = active & (out.terminated | out.truncated)
        if ended.any():
            self._under_way[ended] = False
            out.metrics[ended] = self._worlds.numbers(np.flatnonzero(ended))

    def _actions(self, actions: np.ndarray, active: np.ndarray) -> list[torch.Tensor]:
        """Return each agent's forces and message [B, D]; those of waiting slots are 0, or of action 0."""
        import torch

        if not active.all():
            actions = np.where(active.reshape(-1, *[1] * (actions.ndim - 1)), actions, 0)
        if self._meanings is not None:
            return [torch.from_numpy(each[actions[:, i]]) for i, each in enumerate(self._meanings)]
        given = torch.from_numpy(np.ascontiguousarray(actions))
        return [given[:, i, :size] for i, size in enumerate(self.info.action_sizes)]

    def _show(self, rows: np.ndarray | slice, obs: np.ndarray, out: Arrays) -> None:
        """Write observations [k, sum of O]; the state is all of them."""
        out.state[rows] = obs
        first = 0
        for i, last in enumerate(self._ends.tolist()):
            out.obs[rows, i, : last - first] = obs[:, first:last]
            first = last

    def on_device(self, device: torch.device) -> VmasOnDevice:
        """Return these worlds on a torch device (`backend: device`).

        Raises:
            UserError: the argument ``device`` names another one.
        """
        from .on_device import VmasOnDevice

        return VmasOnDevice(self.info, self._worlds, self._meanings, self._device, device)

    def close(self) -> None:
        """Release the worlds."""
        self._worlds.close()

    def render(self, slot: int) -> np.ndarray:
        """Return a picture of one slot's world, uint8 [H, W, 3]; see :mod:`oamarl.envs.vmas.picture`."""
        from .picture import rgb_picture

        return rgb_picture(self._worlds.env, slot)


def _info(env: Any, scenario: str, nature: Nature, max_steps: int, meanings: list[np.ndarray] | None) -> EnvInfo:
    """Return the sizes of VMAS's environment; ``meanings`` are those of discrete actions."""
    obs_sizes, (low, high) = nature.obs_sizes, ((), ()) if meanings is not None else bounds(env)
    sizes = tuple(map(len, low if meanings is None else meanings))
    return EnvInfo(
        name=f"vmas {scenario}",
        n_agents=len(sizes),
        obs_size=max(obs_sizes),
        state_size=sum(obs_sizes),
        n_actions=max(sizes),
        episode_limit=max_steps,
        obs_sizes=obs_sizes,
        action_sizes=sizes,
        metrics=nature.metrics,
        action_low=low,
        action_high=high,
        agent_types=tuple(_NUMBER.sub("", agent.name) or agent.name for agent in env.agents),
    )
