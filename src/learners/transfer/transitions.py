"""The steps that options are learned from, and what a batch says of options."""

from __future__ import annotations

from dataclasses import dataclass, fields

from torch import Tensor

from ...components.batch import Batch

#: the batch's extra fields: the option that each agent follows [B, T, N], and those that agree with its action
#: [B, T, N, K]
HELD, AGREE = "option", "option_agrees"


@dataclass(frozen=True)
class Transitions:
    """Steps that options are learned from.

    | field | shape | meaning |
    |---|---|---|
    | obs, following | [S, N, O] | observations before and after, as networks read them |
    | reward | [S, N] | |
    | ended | [S, N] bool | nothing follows for the agent |
    | valid | [S, N] bool | the agent took a decision |
    | held | [S, N] int64 | the option that it followed |
    | agree | [S, N, K] bool | the options that agree with its action |
    """

    obs: Tensor
    following: Tensor
    reward: Tensor
    ended: Tensor
    valid: Tensor
    held: Tensor
    agree: Tensor

    def first(self, n: int) -> Transitions:
        """Return the first ``n`` of them."""
        return Transitions(*(getattr(self, f.name)[:n] for f in fields(self)))

    @classmethod
    def of(cls, batch: Batch, reward: Tensor, steps: int) -> Transitions:
        """The first ``steps`` steps of each row of a batch drawn from a replay, with the options in its extra fields.

        Args:
            batch: standardised, rows that are cut where an episode ends.
            reward: [B, T, N] on the scale that is learned from.
            steps: of each row.
        """
        at = batch.filled[:, :steps].nonzero(as_tuple=True)
        ended = batch.terminated.unsqueeze(-1) | batch.agent_terminated
        held, agree = batch.extra[HELD], batch.extra[AGREE]
        return cls(
            batch.obs[at], batch.obs[at[0], at[1] + 1], reward[at], ended[at], batch.valid[at], held[at], agree[at]
        )
