"""VMAS on a torch device: its worlds are tensors there already, and what they show is not copied.

On a CPU nothing waits. On a GPU three things still do: a scenario's own draws, whose streams are worked out in numpy;
which worlds ended, one look a step; and VMAS's own look at which entities are near one another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ..base import EnvInfo
from ..on_device import DeviceStep, same_device
from .worlds import Worlds


class VmasOnDevice:
    """B worlds; see :class:`~oamarl.envs.on_device.DeviceEnv`.

    Args:
        info: sizes.
        worlds: the worlds.
        meanings: what each agent's discrete actions stand for, [A, D] each; None: actions are continuous.
        given: the argument ``device`` of the worlds.
        device: torch's device, where networks are too.

    Raises:
        UserError: the two are different.
    """

    def __init__(
        self, info: EnvInfo, worlds: Worlds, meanings: Sequence[np.ndarray] | None, given: str, device: torch.device
    ) -> None:
        same_device(given, device)
        self.info, self.device, self._worlds = info, device, worlds
        self._meanings = None if meanings is None else [torch.from_numpy(x).to(device) for x in meanings]
        b, n = worlds.n_slots, info.n_agents
        sizes = torch.tensor(info.action_sizes).unsqueeze(1)
        legal = (torch.arange(info.n_actions) < sizes).to(device)
        self._always = {"avail": legal.expand(b, -1, -1), "alive": torch.ones(b, n, dtype=torch.bool, device=device)}
        self._seeds, self._time = np.zeros((2, b), np.int64)
        self._obs = torch.zeros(b, info.state_size, device=device)
        self._nobody = np.zeros(b, bool)

    def reset(self, where: Tensor, seeds: Tensor) -> Mapping[str, Tensor]:
        """Start episodes of ``seeds`` [B] in the slots ``where`` [B]."""
        self._start(where, seeds)
        return {**self._show(), **self._always}

    @torch.inference_mode()
    def step(self, actions: Tensor, seeds: Tensor) -> DeviceStep:
        """Step all worlds, and start episodes of ``seeds`` [B] where one ended."""
        found = self._worlds.step(self._forces(actions), self._seeds, self._time, self._nobody)
        self._time += 1
        self._obs, over = found.obs, found.over
        late = torch.from_numpy(self._time >= self.info.episode_limit).to(self.device) & ~over
        ended, metrics = over | late, found.reward.new_zeros(len(over), len(self.info.metrics))
        if self.info.metrics:
            rows = ended.nonzero().squeeze(1)
            metrics[rows] = torch.from_numpy(self._worlds.numbers(rows.cpu().numpy())).to(self.device)
        after = {
            "reward": found.reward, "terminated": over, "truncated": late,
            "agent_terminated": over.unsqueeze(1).expand(-1, self.info.n_agents), "metrics": metrics,
        }  # fmt: skip
        final = {**self._show(), "avail": self._always["avail"]}
        shown = {**(self._show() if self._start(ended, seeds) else final), **self._always}
        return DeviceStep(after, final, shown)

    def _start(self, where: Tensor, seeds: Tensor) -> bool:
        """Start episodes in the slots ``where``; returns whether there was any."""
        slots = where.cpu().numpy().nonzero()[0]
        if not len(slots):
            return False
        self._seeds[slots] = seeds.cpu().numpy()[slots]
        self._time[slots] = 0
        # tensors that were handed out are not written again
        self._obs = self._obs.clone()
        self._obs[torch.from_numpy(slots).to(self.device)] = self._worlds.start(slots, self._seeds[slots])
        return True

    def _forces(self, actions: Tensor) -> list[Tensor]:
        """Return each agent's forces and message [B, D]."""
        if self._meanings is not None:
            return [each[actions[:, i]] for i, each in enumerate(self._meanings)]
        return [actions[:, i, :size].contiguous() for i, size in enumerate(self.info.action_sizes)]

    def _show(self) -> dict[str, Tensor]:
        """Return what the agents see [B, N, O], padded with zeros, and the state, all of it side by side."""
        sizes, width = self.info.obs_sizes, self.info.obs_size
        if min(sizes) == width:
            return {"obs": self._obs.unflatten(1, (-1, width)), "state": self._obs}
        parts = self._obs.split(sizes, 1)
        padded = [torch.nn.functional.pad(x, (0, width - x.shape[1])) for x in parts]
        return {"obs": torch.stack(padded, 1), "state": self._obs}

    def close(self) -> None:
        """Release the worlds."""
        self._worlds.close()
