"""The steps of a drawn batch that are learned from, each with its n-step return and what it is bootstrapped from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...components.batch import Batch
from ...components.experience import EnvInfo, no_action
from ...components.returns import nstep_parts
from ..value.targets import ends, learned_steps


@dataclass(frozen=True)
class View:
    """What is there at S moments.

    | field | shape | meaning |
    |---|---|---|
    | obs | [S, N, O] | observations |
    | state | [S, X] | states |
    | avail | [S, N, A] bool | legal actions (of continuous ones: the dimensions that an agent has) |
    | last | [S, N] or [S, N, D] | the actions before, -1 (NaN) where there is none |
    | at | [S], [S] | row and moment in the batch, [B, T+1] |
    """

    obs: Tensor
    state: Tensor
    avail: Tensor
    last: Tensor
    at: tuple[Tensor, Tensor]

    def part(self, cut: slice) -> View:
        """Return some of the moments."""
        at = self.at[0][cut], self.at[1][cut]
        return View(self.obs[cut], self.state[cut], self.avail[cut], self.last[cut], at)


@dataclass(frozen=True)
class Steps:
    """The S steps that are learned from.

    | field | shape | meaning |
    |---|---|---|
    | now, then | | before the step, and where its n-step return ends |
    | actions | [S, N] or [S, N, D] | actions taken |
    | valid | [S, N] bool | the agent took a decision |
    | mask | [S, V] bool | what values are learned from |
    | rewards | [S, V] | discounted sum of up to n rewards |
    | discount | [S, V] | of the value that follows; 0 where the episode (or the agent) terminates before |
    | row | [S] int64 | the batch's row |
    """

    now: View
    then: View
    actions: Tensor
    valid: Tensor
    mask: Tensor
    rewards: Tensor
    discount: Tensor
    row: Tensor

    def part(self, cut: slice) -> Steps:
        """Return some of the steps."""
        return Steps(
            self.now.part(cut), self.then.part(cut), self.actions[cut], self.valid[cut], self.mask[cut],
            self.rewards[cut], self.discount[cut], self.row[cut],
        )  # fmt: skip

    @classmethod
    def of(cls, batch: Batch, info: EnvInfo, n_values: int, gamma: float, n: int, *, first: int | None,
           bootstrap_truncated: bool, by_agent: bool) -> Steps:  # fmt: skip
        """Lay a batch of whole episodes, or of rows that are cut where one ends, out by steps.

        Args:
            batch: B rows.
            info: the environment's sizes.
            n_values: V.
            gamma, n: of the returns.
            first: the steps of each row that are learned from, the others being what follows them; None: all.
            bootstrap_truncated, by_agent: as of :func:`~..value.targets.ends`.
        """
        steps = batch.actions.shape[1] if first is None else first
        terminated, ended = ends(batch, n_values, bootstrap_truncated, by_agent)
        reward = batch.reward[..., :n_values]
        rewards, discount, ahead = nstep_parts(reward, terminated, ended, batch.filled, gamma, n, steps)
        row, step = batch.filled[:, :steps].nonzero(as_tuple=True)
        none = torch.full_like(batch.actions[:, :1], no_action(info))
        before = none if batch.before is None else batch.before.unsqueeze(1)
        last = torch.cat([before, batch.actions], dim=1)

        def view(moment: Tensor) -> View:
            at = row, moment
            return View(batch.obs[at], batch.state[at], batch.avail[at], last[at], at)

        mask = learned_steps(batch, n_values, by_agent)
        return cls(
            view(step), view(step + ahead[row, step]), batch.actions[row, step], batch.valid[row, step],
            mask[row, step], rewards[row, step], discount[row, step], row,
        )  # fmt: skip


def network_shares(mask: Tensor, index: Sequence[int]) -> Tensor:
    """The share [V] of each column's entries in the mean of its network: 1 / (entries of ``mask`` [S, V] whose network,
    ``index`` [V], it is)."""
    counts = mask.sum(0).to(torch.get_default_dtype())
    of = torch.tensor(index, device=mask.device)
    total = counts.new_zeros(max(index) + 1).index_add(0, of, counts)
    return 1.0 / total.clamp(min=1.0)[of]


def mean_by_row(errors: Tensor, steps: Steps, rows: int) -> Tensor:
    """Means [B] of errors [S, V], 0 where ``steps.mask`` is not set, over what is learned from in each of the rows."""
    zeros = errors.new_zeros(rows)
    total = zeros.index_add(0, steps.row, errors.sum(1))
    count = zeros.index_add(0, steps.row, steps.mask.sum(1).to(errors.dtype))
    return total / count.clamp(min=1.0)
