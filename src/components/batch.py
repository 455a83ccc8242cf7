"""The one container that runners fill and learners read, and the rows that learners iterate over."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from .experience import TABLE
from .packing import Packing, sent

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


@dataclass(frozen=True)
class RowIndex:
    """Where rows are among :class:`Samples`: L steps of some agents, packed where they are sequences.

    | field | shape | meaning |
    |---|---|---|
    | step, agent | [L] int64 | the row's place in the samples |
    | chosen | [L] int64 | which of the entries asked for the row belongs to |
    | packing | | recurrent: how the rows are sequences; None: every row is by itself |
    | hidden | [R, H] | recurrent: hidden state before each sequence, in the packing's order; None: zeros |
    """

    step: Tensor
    agent: Tensor
    chosen: Tensor
    packing: Packing | None = None
    hidden: Tensor | None = None

    def __len__(self) -> int:
        return len(self.step)

    @property
    def at(self) -> tuple[Tensor, Tensor]:
        """The index of the rows into samples' tensors."""
        return self.step, self.agent


@dataclass(frozen=True)
class Sequences:
    """The sequences that recurrent policies read: the batch's real steps, cut where episodes begin.

    How long they are says how rows are laid out, and is read from the device once, not for each mini-batch.

    | field | shape | meaning |
    |---|---|---|
    | start | [E] int64 | each sequence's first step among the samples; its others follow |
    | whole | [E] int64, on the CPU | its steps |
    | lengths | [E, N] int64, on the CPU | each agent's steps in it, up to the last one that it took a decision at |
    | hidden | [E, N, H] | hidden state before each sequence, of the agents themselves; None: zeros |
    | carried | [E] bool, on the CPU | it began in an earlier batch: only its own agents know what it began with |
    """

    start: Tensor
    whole: Tensor
    lengths: Tensor
    hidden: Tensor | None
    carried: Tensor


@dataclass(frozen=True)
class Samples:
    """Training samples of the policies: the S real steps of a batch first, agents second.

    Learners choose among ENTRIES: of feed-forward policies the steps, of recurrent ones the sequences (on the CPU:
    :attr:`choice`). One entry of one agent is a row, or a sequence of rows (:meth:`rows`), whichever agent's policy
    reads it.

    | field | shape | meaning |
    |---|---|---|
    | inputs | [S, N, I] | policy inputs (observation, last action, agent id as configured) |
    | avail | [S, N, A] bool | legal actions |
    | actions | [S, N] or [S, N, D] | actions |
    | log_prob | [S, N] | their acting log-probabilities mu |
    | valid | [S, N] bool | the loss mask (the agent took a decision) |
    | advantage | [S, N] | advantages; equal for all agents under a joint advantage |
    | episode | [S] int64 | which of the batch's episodes (or parts of them) the step is of |
    | sequences | | of recurrent policies; None: every step is an entry by itself |

    Where each agent has an advantage of its own for all agents' experience, there is one more dimension of these last.
    """

    inputs: Tensor
    avail: Tensor
    actions: Tensor
    log_prob: Tensor
    valid: Tensor
    advantage: Tensor
    episode: Tensor
    sequences: Sequences | None = None

    @classmethod
    def make(cls, batch: Batch, inputs: Tensor, advantage: Tensor, recurrent: bool) -> Samples:
        """Lay a batch out for training.

        Args:
            batch: the experience.
            inputs: [B, T, N, I] policy inputs.
            advantage: [B, T, N].
            recurrent: note the sequences.
        """
        where, steps = batch.filled.nonzero(as_tuple=True), batch.actions.shape[1]
        per_agent = (inputs, batch.avail[:, :steps], batch.actions, batch.log_prob, batch.valid, advantage)
        inputs, avail, actions, log_prob, valid, advantage = (x[where] for x in per_agent)
        flat = cls(inputs, avail, actions, log_prob, valid, advantage, _episodes(batch, *where))
        return replace(flat, sequences=_sequences(batch, flat)) if recurrent else flat

    @property
    def n_steps(self) -> int:
        """Number of steps S."""
        return len(self.actions)

    @property
    def n_entries(self) -> int:
        """Number of entries E."""
        return self.n_steps if self.sequences is None else len(self.sequences.start)

    @property
    def choice(self) -> torch.device:
        """Where numbers of entries, and of agents beside them, are: on the samples' device, of sequences on the CPU."""
        return self.valid.device if self.sequences is None else torch.device("cpu")

    @property
    def entries(self) -> Tensor:
        """All entries [E]."""
        return torch.arange(self.n_entries, device=self.choice)

    def steps_each(self) -> int:
        """Steps of an entry, on average, rounded up."""
        return -(-self.n_steps // max(self.n_entries, 1))

    def rows(self, entry: Tensor, agent: Tensor) -> RowIndex:
        """Return where the entries ``entry`` [m] of the agents ``agent`` [m] are.

        A sequence ends with its agent's last decision: what comes after it is not computed.
        """
        if self.sequences is None:
            return RowIndex(entry, agent, torch.arange(len(entry), device=entry.device))
        start, device, hidden = self.sequences.start, self.valid.device, self.sequences.hidden
        packing = Packing.of(self.sequences.lengths[entry, agent], device)
        entry, agent = sent(entry, device), sent(agent, device)
        chosen, first = packing.sequence, packing.order
        before = None if hidden is None else hidden[entry[first], agent[first]]
        return RowIndex(start[entry[chosen]] + packing.step, agent[chosen], chosen, packing, before)

    def steps(self, entries: Tensor) -> Tensor:
        """Return all steps [S'] of the entries ``entries`` [m], those after agents' last decisions included."""
        if self.sequences is None:
            return entries
        device, whole = self.valid.device, self.sequences.whole[entries]
        steps = torch.arange(int(whole.sum()), device=device)
        begins, whole = self.sequences.start[sent(entries, device)], sent(whole, device)
        return steps + (begins - whole.cumsum(0) + whole).repeat_interleave(whole, output_size=len(steps))

    def part(self, entries: Tensor) -> Samples:
        """Return the entries ``entries`` [m] alone."""
        steps, sequences = self.steps(entries), None
        if self.sequences is not None:
            device, whole, hidden = self.valid.device, self.sequences.whole[entries], self.sequences.hidden
            start, hidden = whole.cumsum(0) - whole, None if hidden is None else hidden[sent(entries, device)]
            lengths, carried = self.sequences.lengths[entries], self.sequences.carried[entries]
            sequences = Sequences(sent(start, device), whole, lengths, hidden, carried)
        return Samples(
            self.inputs[steps], self.avail[steps], self.actions[steps], self.log_prob[steps], self.valid[steps],
            self.advantage[steps], self.episode[steps], sequences,
        )  # fmt: skip

    @property
    def carried(self) -> Tensor | None:
        """[E] bool where entries are chosen: those that other agents cannot learn from, since their networks would not
        begin where an episode does; None: there are none."""
        if self.sequences is None or not self.sequences.carried.any():
            return None
        return self.sequences.carried

    def shared(self) -> Samples:
        """Return the entries that agents can learn from each other."""
        if self.carried is None:
            return self
        part = self.part((~self.carried).nonzero().squeeze(1))
        assert part.sequences is not None
        return replace(part, sequences=replace(part.sequences, hidden=None))

    def counts(self) -> Tensor:
        """[N]: valid steps of each agent in the whole batch, at least 1 (a source without any has only zero rows)."""
        return self.valid.sum(0).clamp(min=1).float()

    def shared_counts(self) -> Tensor:
        """[N]: :meth:`counts` of :meth:`shared`."""
        if self.carried is None:
            return self.counts()
        return self.valid[self.steps((~self.carried).nonzero().squeeze(1))].sum(0).clamp(min=1).float()


def _episodes(batch: Batch, row: Tensor, step: Tensor) -> Tensor:
    """[S] the episode of each real step (``row``, ``step``) [S], cut where the batch's rows are."""
    # the first real step of a row starts one, whether or not an episode begins there
    starts = batch.begins[row, step] | torch.cat([torch.ones_like(row[:1]), row.diff()]).bool()
    return starts.long().cumsum(0) - 1


def _sequences(batch: Batch, samples: Samples) -> Sequences:
    """Cut a batch's real steps into sequences, one for each episode."""
    row, step = batch.filled.nonzero(as_tuple=True)
    valid, sequence = samples.valid, samples.episode
    start = torch.cat([torch.ones_like(row[:1]), sequence.diff()]).nonzero().squeeze(1)
    place = torch.arange(len(row), device=row.device) - start[sequence] + 1
    lengths = place.new_zeros(len(start), valid.shape[1])
    last = torch.where(valid, place.unsqueeze(1), 0)
    lengths.scatter_reduce_(0, sequence.unsqueeze(1).expand_as(last), last, "amax")
    whole = torch.cat([start[1:], start.new_full((1,), len(row))]) - start
    carried = ~batch.begins[row[start], step[start]]
    found = torch.cat([whole.unsqueeze(1), carried.unsqueeze(1), lengths], dim=1).cpu()  # one read
    hidden: Tensor | None = None
    if batch.hidden is not None:
        hidden = torch.where((step[start] == 0).view(-1, 1, 1), batch.hidden[row[start]], 0.0)
    return Sequences(start, found[:, 0], found[:, 2:], hidden, found[:, 1].bool())


def minibatches(
    n_entries: int, n_minibatches: int, generator: torch.Generator, device: torch.device | str = "cpu"
) -> list[Tensor]:
    """Cut ``n_entries`` into at most ``n_minibatches`` random index sets of nearly equal size, on ``device``.

    One set of entries serves every agent and source. With one minibatch there is nothing to shuffle
    and no draw is made.
    """
    if n_minibatches == 1:
        return [torch.arange(n_entries, device=device)]
    order = sent(torch.randperm(n_entries, generator=generator), torch.device(device))
    return [part for part in order.tensor_split(min(n_minibatches, max(n_entries, 1))) if len(part)]
