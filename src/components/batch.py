"""The one container that runners fill and learners read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from ..utils import moved
from .experience import TABLE

#: fields of what was before a row's first step
FIRST = ("before", "hidden", "left")


@dataclass(frozen=True)
class Batch:
    """Experience of B rows (whole episodes, or segments of slots) of at most T steps by N agents.

    | field | shape | meaning |
    |---|---|---|
    | obs | [B, T+1, N, O] | observations, the last one after the last action |
    | state | [B, T+1, S] | global states |
    | avail | [B, T+1, N, A] bool | legal actions |
    | actions | [B, T, N] int64, or [B, T, N, D] | actions taken; continuous ones as they were drawn |
    | log_prob | [B, T, N] | their log-probability under the policy that acted, mu |
    | reward | [B, T, N] | rewards; all N entries equal with a common reward |
    | terminated, truncated | [B, T] bool | how the step ended; both set means terminated |
    | agent_terminated | [B, T, N] bool | the agent has ended at this step or earlier |
    | filled | [B, T] bool | the step is real |
    | alive | [B, T, N] bool | the agent took a decision at this step |
    | final_obs, final_state, final_avail | [K, ...] | true last observations of episodes that end inside a row |
    | final_index | [K, 2] int64 | their (row, step) |
    | hidden | [B, N, H] | the policies' hidden state before the first step; None: zeros (whole episodes) |
    | before | [B, N] int64, or [B, N, D] | actions before the first step, -1 (NaN) where an episode begins there; None: all so |
    | left | [B, N] bool | agents that had ended before the first step; None: those that end at it and take no decision there |
    | extra | name -> [B, T, ...] | extra fields of the environment and the actor; one with a final value [B, T+1, ...] |

    The fields of a step are those of :data:`~oamarl.components.experience.TABLE`. Extra fields with a final value have
    ``final_<name>`` [K, ...] too where episodes end inside a row.
    """  # noqa: E501

    obs: Tensor
    state: Tensor
    avail: Tensor
    actions: Tensor
    log_prob: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    agent_terminated: Tensor
    filled: Tensor
    alive: Tensor
    final_obs: Tensor
    final_state: Tensor
    final_avail: Tensor
    final_index: Tensor
    hidden: Tensor | None = None
    before: Tensor | None = None
    left: Tensor | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        b, t, n = self.log_prob.shape
        k = len(self.final_obs)
        expected = {
            f.name: (b, t + f.final, *((n,) if f.axes[:1] == ("N",) else ())) for f in TABLE if f.known != "ending"
        }
        expected |= {"final_index": (k, 2), "final_state": (k,), "final_avail": (k, n)}
        expected |= {"hidden": (b, n), "before": (b, n), "left": (b, n)}
        for name, shape in expected.items():
            if getattr(self, name) is None:
                continue
            got = tuple(getattr(self, name).shape[: len(shape)])
            if got != shape:
                raise ValueError(f"Batch.{name} starts with shape {got}, expected {shape}.")
        for name, x in self.extra.items():
            final = name.startswith("final_")
            if len(x) != (k if final else b) or not (final or x.shape[1] in (t, t + 1)):
                raise ValueError(f"Batch.extra['{name}'] has shape {tuple(x.shape)}, expected {(b, t)} at its start.")

    @classmethod
    def of(cls, arrays: Mapping[str, Tensor], **more: Tensor) -> Batch:
        """Make a batch of tensors by name; those that are no field of it become ``extra``."""
        own = {f.name for f in fields(cls)} - {"extra"}
        given = {**arrays, **more}
        extra = {name: x for name, x in given.items() if name not in own}
        return cls(**{name: x for name, x in given.items() if name in own}, extra=extra)

    def named(self) -> dict[str, Tensor]:
        """Return the tensors by name, the extra ones among them, those that are None left out."""
        own = {f.name: x for f in fields(self) if f.name != "extra" and (x := getattr(self, f.name)) is not None}
        return {**own, **self.extra}

    @property
    def valid(self) -> Tensor:
        """[B, T, N] bool: THE loss mask of policies: the step is real and the agent took a decision."""
        return self.filled.unsqueeze(-1) & self.alive

    @property
    def next_obs(self) -> Tensor:
        """[B, T, N, O]: the observations after each step, where an episode ends its last ones."""
        following = self.obs[:, 1:].clone()
        following[self.final_index.unbind(1)] = self.final_obs
        return following

    @property
    def begins(self) -> Tensor:
        """[B, T+1] bool: an episode begins after the step before: it ended one, or was not real."""
        over = self.terminated | self.truncated | ~self.filled
        if self.before is None:
            first = torch.ones_like(over[:, :1])
        else:
            none = self.before.isnan() if self.continuous else self.before < 0
            first = none.flatten(1).all(1, keepdim=True)
        return torch.cat([first, over], dim=1)

    @property
    def continuous(self) -> bool:
        """Whether actions are vectors of numbers."""
        return self.actions.dim() == 4

    @property
    def last_actions(self) -> Tensor:
        """[B, T+1, N] int64 (or [B, T+1, N, D]): the action before each step, -1 (or NaN) where there is none (an
        episode's first step)."""
        none = math.nan if self.continuous else -1
        first = torch.full_like(self.actions[:, :1], none) if self.before is None else self.before.unsqueeze(1)
        previous = torch.cat([first, self.actions], dim=1)
        if self.before is None:
            return previous  # whole episodes: the last column follows the step that ended one
        # what follows an ending whose last observations are in the row, not in `final_*`, is no other episode
        begins = torch.cat([self.begins[:, :1], ~self.filled], dim=1)
        row, step = self.final_index.unbind(1)
        begins[row, step + 1] = True
        return torch.where(begins.view(*begins.shape, *[1] * (previous.dim() - 2)), none, previous)

    def seen_by_all(self, source: Tensor) -> Batch:
        """Return rows in which every agent has the experience of one agent, ``source`` [B], as if it were its own.

        Extra fields, whose agents are not known, are left out.

        Raises:
            ValueError: episodes end inside rows.
        """
        if len(self.final_index):
            raise ValueError("a batch with endings inside its rows has no single agent's rows")
        found = {name: x for name, x in self.named().items() if name not in self.extra}
        rows = torch.arange(len(source), device=source.device)
        per_agent = [f.name for f in TABLE if f.axes[:1] == ("N",)] + list(FIRST)
        for name in (n for n in per_agent if n in found):
            x, of_step = found[name], name not in FIRST
            one = x[rows, :, source].unsqueeze(2) if of_step else x[rows, source].unsqueeze(1)
            found[name] = one.expand_as(x)
        return Batch.of(found)

    def part(self, rows: slice) -> Batch:
        """Return the rows ``rows`` alone.

        Raises:
            ValueError: episodes end inside rows, whose final values are of the whole batch.
        """
        if len(self.final_index):
            raise ValueError("a batch with endings inside its rows cannot be cut")
        return Batch.of({n: x if n.startswith("final_") else x[rows] for n, x in self.named().items()})

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on ``device`` (itself when it is there already)."""
        if self.obs.device == torch.device(device):
            return self
        return Batch.of({name: x.to(device, non_blocking=True) for name, x in self.named().items()})


def __getattr__(name: str) -> object:
    return moved.attribute(__name__, name)
