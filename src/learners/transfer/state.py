"""What learners with options store beside their own state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from .options import Options


class WithOptions:
    """Parameters, weights and state of a learner, which is the next class of its bases, and of its ``options``."""

    options: Options

    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the learner's, ("features", [1, P]) and ("options", [1, P])."""
        yield from super().parameters()  # type: ignore[misc]
        yield from self.options.parameters()

    def load_weights(self, state: Mapping[str, Any]) -> list[str]:
        """Take critics and options of another learner's state, where they fit."""
        found: list[str] = super().load_weights(state)  # type: ignore[misc]
        return found + self.options.load_weights(state.get("options", {}))

    def state_dict(self) -> dict[str, Any]:
        """Return the learner's and the options'; replays have files of their own."""
        found: dict[str, Any] = super().state_dict()  # type: ignore[misc]
        return found | {"options": self.options.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state back."""
        super().load_state_dict(state)  # type: ignore[misc]
        self.options.load_state_dict(state["options"])
