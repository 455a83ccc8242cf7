"""The one container that runners fill and learners read, and the rows that learners iterate over."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from .experience import TABLE


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
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        b, t, n = self.log_prob.shape
        k = len(self.final_obs)
        expected = {
            f.name: (b, t + f.final, *((n,) if f.axes[:1] == ("N",) else ())) for f in TABLE if f.known != "ending"
        }
        expected |= {"final_index": (k, 2), "final_state": (k,), "final_avail": (k, n)}
        expected |= {"hidden": (b, n), "before": (b, n)}
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
        begins = self.begins.view(*self.begins.shape, *[1] * (previous.dim() - 2))
        return torch.where(begins, none, previous)

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on ``device`` (itself when it is there already)."""
        if self.obs.device == torch.device(device):
            return self
        return Batch.of({name: x.to(device, non_blocking=True) for name, x in self.named().items()})


@dataclass(frozen=True)
class Samples:
    """Training samples of the policies: ENTRIES first, agents second, time last.

    Feed-forward policies: the E entries are the batch's filled steps and ``*T`` is empty.
    Recurrent policies: the entries are sequences and ``*T`` is ``(T,)``: the batch's rows where they are whole
    episodes, otherwise its rows cut where episodes begin and padded to the longest. So ``x[entry, source]`` gathers
    experience of any agents alike in both cases.

    | field | shape | meaning |
    |---|---|---|
    | inputs | [E, N, *T, I] | policy inputs (observation, last action, agent id as configured) |
    | avail | [E, N, *T, A] bool | legal actions |
    | actions, log_prob | [E, N, *T] | actions and their acting log-probabilities mu |
    | valid | [E, N, *T] bool | the loss mask (real step, living agent) |
    | advantage | [E, N, *T] | advantages; equal for all agents under a joint advantage |
    | hidden | [E, N, H] | hidden state before each sequence, of the agents themselves; None: zeros |

    Where each agent has an advantage of its own for all agents' experience, there is one more dimension of these last.
    """

    inputs: Tensor
    avail: Tensor
    actions: Tensor
    log_prob: Tensor
    valid: Tensor
    advantage: Tensor
    hidden: Tensor | None = None

    @classmethod
    def make(cls, batch: Batch, inputs: Tensor, advantage: Tensor, recurrent: bool) -> Samples:
        """Lay a batch out for training.

        Args:
            batch: the experience.
            inputs: [B, T, N, I] policy inputs.
            advantage: [B, T, N].
            recurrent: keep sequences whole.
        """
        steps = batch.actions.shape[1]
        per_agent = (inputs, batch.avail[:, :steps], batch.actions, batch.log_prob, batch.valid, advantage)
        if recurrent and batch.hidden is not None:
            return cls._cut(batch, batch.hidden, per_agent)
        if recurrent:
            return cls(*(x.transpose(1, 2).contiguous() for x in per_agent))
        where = batch.filled.nonzero(as_tuple=True)
        return cls(*(x[where] for x in per_agent))

    @classmethod
    def _cut(cls, batch: Batch, hidden: Tensor, per_agent: tuple[Tensor, ...]) -> Samples:
        """Sequences cut where episodes begin, from [B, T, N, ...] of segments whose first hidden state is given."""
        sequence, position, row, step = _sequences(batch)
        shape = (int(sequence[-1]) + 1, int(position.max()) + 1)
        cut = []
        for x in per_agent:
            padded = x.new_zeros(*shape, *x.shape[2:])
            padded[sequence, position] = x[row, step]
            cut.append(padded.transpose(1, 2).contiguous())
        first = position == 0
        carried = (step[first] == 0).view(-1, 1, 1)
        return cls(*cut, hidden=torch.where(carried, hidden[row[first]], 0.0))  # type: ignore[misc]

    @property
    def n_entries(self) -> int:
        """Number of entries E."""
        return len(self.actions)

    def counts(self) -> Tensor:
        """[N]: valid steps of each agent in the whole batch, at least 1 (a source without any has only zero rows)."""
        return self.valid.transpose(0, 1).flatten(1).sum(1).clamp(min=1).float()


def _sequences(batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Number the sequences that a batch of segments consists of, cut where an episode begins.

    Returns:
        for each real step, [S]: its sequence, its position in it, its row, and its place in the row.
    """
    row, step = batch.filled.nonzero(as_tuple=True)
    # the first real step of a row starts a sequence, whether or not an episode begins there
    starts = batch.begins[row, step] | torch.cat([torch.ones_like(row[:1]), row.diff()]).bool()
    sequence = starts.long().cumsum(0) - 1
    return sequence, step - step[starts][sequence], row, step


def minibatches(
    n_entries: int, n_minibatches: int, generator: torch.Generator, device: torch.device | str = "cpu"
) -> list[Tensor]:
    """Cut ``n_entries`` into at most ``n_minibatches`` random index sets of nearly equal size, on ``device``.

    One set of entries serves every agent and source. With one minibatch there is nothing to shuffle
    and no draw is made.
    """
    if n_minibatches == 1:
        return [torch.arange(n_entries, device=device)]
    order = torch.randperm(n_entries, generator=generator).to(device)
    return [part for part in order.tensor_split(min(n_minibatches, max(n_entries, 1))) if len(part)]
