"""What the steps of one batch share where slots live on a device: as a CUDA graph needs it, in fixed places."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..controllers.actor import DeviceActor
from ..envs.on_device import DeviceStep, Tensors
from ..modules.selector_contract import Context


class Playing:
    """The batch that is being collected, and the step that it is at.

    Args:
        actor: the policies.
        context: of the batch.
        seeds: [B, T] int64 of the episodes that can begin.
        begun: [B] int64, how many did.
        shown: what all slots show.
        fixed: whether what environments give is copied to the same places at each step.

    Attributes:
        column: the step in the batch; where places are fixed, [1] int64 on the device.
        after, final: see :class:`~oamarl.envs.on_device.DeviceStep`.
        actions, hidden: what was chosen last, and the hidden state after it.
    """

    after: Any = None
    final: Any = None
    actions: Tensor
    hidden: Tensor

    def __init__(
        self, actor: DeviceActor, context: Context, seeds: Tensor, begun: Tensor, shown: Tensors, fixed: bool
    ) -> None:  # fmt: skip
        self.actor, self.context, self.seeds, self.begun, self._fixed = actor, context, seeds, begun, fixed
        self.shown = {name: x.clone() for name, x in shown.items()} if fixed else shown
        self.column: Any = begun.new_zeros(1) if fixed else 0

    def put(self, store: Tensor, x: Tensor) -> None:
        """Write ``x`` [B, ...] to this step's column of ``store`` [B, T, ...]."""
        if self._fixed:
            store.index_copy_(1, self.column, x.unsqueeze(1).to(store.dtype))
        else:
            store[:, self.column] = x

    def take(self, result: DeviceStep) -> None:
        """Take in what a step gave."""
        if not self._fixed:
            self.after, self.final, self.shown = result
            return
        if self.after is None:
            self.after, self.final = ({name: x.clone() for name, x in part.items()} for part in result[:2])
        places = self.after, self.final, self.shown
        fixed = [mine[name] for mine, part in zip(places, result, strict=True) for name in part]
        torch._foreach_copy_(fixed, [x for part in result for x in part.values()])
