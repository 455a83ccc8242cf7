"""The rows that learners iterate over: a batch's real steps, and the sequences that a recurrent network reads."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..batch import Batch
from ..packing import Packing, sent


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
