"""The `rollout` runner with `backend: device`: acting, stepping and the batch stay on the networks' device.

Episodes, seeds, noise and rewards are those of the other backends; only who computes them differs, and so the last
digits. Nothing is read from the device during a rollout: what is counted and logged is gathered once, at its end.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..components.batch import Batch
from ..components.experience import action_shape, fields_of, no_action, steps_layout
from ..components.streams.hashing import episode_seeds
from ..components.updates import graphs
from ..envs.base import EnvInfo
from ..envs.build import Unsound
from ..envs.on_device import Tensors, make_on_device
from ..modules.agents.rnn import Network
from ..modules.selector_contract import Context
from ..utils.errors import UserError
from ..utils.hints import Use
from .device_noise import DeviceNoise, device_noise
from .device_playing import Playing
from .episode import EpisodeRunner
from .episodes import Episodes
from .rollout import KEPT, RolloutRunner, digest

#: what every slot shows, in the order of a digest
_SEEN = ("obs", "state", "avail", "alive")


class DeviceRolloutRunner(RolloutRunner):
    """Runner of segments on a device; its arguments are :class:`~.episode.EpisodeRunner`'s.

    Attributes:
        number, step: [B] int64: of each slot's present episode, and the steps made in it.
        returns: [B, N] float64, of the episode so far, as learners see rewards.
        last: [B, N] int64 (or [B, N, D]): the last actions, -1 (NaN) before an episode's first step.
        hidden: [B, N, H], the policies' hidden state.
        played: [B, L, N] (or [B, L, N, D]): the episode's actions so far, for resuming.
    """

    def _open(self, env: str, env_args: Mapping[str, Any]) -> EnvInfo:
        self.slots = make_on_device(env, env_args, self.n_slots, self.device)
        return self.slots.info

    def _allocate(self) -> None:
        info, b, t = self.info, self.n_slots, self.config.rollout_length
        actor = self.mac.device_actor()
        if info.continuous and info.clip_actions:
            self._bounds: tuple[Tensor, Tensor] | None = tuple(self._on(x) for x in info.bounds())  # type: ignore[assignment]
        else:
            self._bounds = None
        self.fields = ()
        table = fields_of(info)
        self._before = [f.name for f in table if f.known == "before"]
        self._after = [f.name for f in table if f.known == "after" and f.name != "reward"]
        self.store: dict[str, Tensor] = self._zeros(steps_layout(info, b, t))  # type: ignore[assignment]
        self.store["filled"].fill_(True)
        self._finals = {n: torch.zeros_like(self.store[n][:, 1:]) for n in self._final}
        shape, dtype = action_shape(info)
        self._none = no_action(info)
        self._notes = self._zeros({
            "length": ((b, t), "int64"), "returns": ((b, t, info.n_agents), "float64"),
            "metrics": ((b, t, len(info.metrics)), "float32"),
        })  # fmt: skip
        state = self._zeros({
            "number": ((b,), "int64"), "step": ((b,), "int64"), "returns": ((b, info.n_agents), "float64"),
            "last": ((b, *shape), dtype), "played": ((b, info.episode_limit, *shape), dtype),
        })  # fmt: skip
        self.number, self.step, self.returns, self.last, self.played = state.values()
        self.last.fill_(self._none)
        self.hidden = self.mac.initial_hidden(b).detach().clone()
        self._numbers = torch.arange(b, device=self.device)
        self.noise: DeviceNoise = device_noise(self.seed, (b, info.n_agents, actor.width), actor.noise, self.device)
        self.graphs = graphs.Graphs(self.device, isinstance(self.mac.network, Network))
        self.shown: Tensors | None = None

    def _on(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    def _zeros(self, layout: Mapping[str, tuple[tuple[int, ...], str]]) -> dict[str, Tensor]:
        return {n: torch.zeros(s, dtype=getattr(torch, d), device=self.device) for n, (s, d) in layout.items()}

    # -- training ----------------------------------------------------------------------------------------------

    def run(self) -> tuple[Batch, Episodes]:
        """Collect one batch: `rollout_length` steps of every slot; returns it and the episodes that ended in it."""
        began = time.perf_counter()
        if self.shown is None:
            self._begin_all()
        hidden, before = self.hidden.clone(), self.last.clone()
        acting = self._collect()
        found = self._gathered(hidden, before)
        took = time.perf_counter() - began
        self.time_act += acting
        self.time_env += took - acting
        return found

    def _begin_all(self) -> None:
        """Begin the present episode of every slot."""
        seeds = episode_seeds(self.seed, "train", self._numbers, self.number)
        with torch.inference_mode():
            self.shown = self.slots.reset(torch.ones_like(seeds, dtype=torch.bool), seeds)

    @torch.inference_mode()
    def _collect(self) -> float:
        """Play `rollout_length` steps of all slots into the store; returns the seconds that acting took.

        The seeds of all episodes that can begin are worked out before: no step asks which ones do. On a GPU what comes
        before an environment's step and what comes after it are a CUDA graph each, so that a few launches make a step.
        """
        assert self.shown is not None
        length = self.config.rollout_length
        numbers = self.number.unsqueeze(1) + torch.arange(1, length + 1, device=self.device)
        seeds = episode_seeds(self.seed, "train", self._numbers.unsqueeze(1), numbers)
        self.noise.begin(self.number, self.step, length)
        self.graphs.renew()
        actor, context = self.mac.device_actor(), Context(self.t_env)
        actor.prepare(context)
        playing = Playing(actor, context, seeds, torch.zeros_like(self.number), self.shown, self.graphs.active)
        act = self.graphs.repeated("act", partial(self._act, playing))
        record = self.graphs.repeated("record", partial(self._record, playing))
        acting = 0.0
        for _ in range(length):
            clock = time.perf_counter()
            given, following = act()
            acting += time.perf_counter() - clock
            playing.take(self.slots.step(given, following))
            record()
        self.shown = playing.shown
        for name in self._final:
            self.store[name][:, length] = self.shown[name]
        return acting

    def _act(self, now: Playing) -> tuple[Tensor, Tensor]:
        """Choose all slots' actions, and store what they were chosen by; returns what the environment is given:
        actions, and the seeds [B] of the episodes that begin where one ends."""
        store, shown = self.store, now.shown
        drawn = self.noise.draw(self.number, self.step)
        actions, log_prob, hidden = now.actor(
            shown["obs"], shown["avail"], self.last, self.hidden, drawn, now.context
        )  # fmt: skip
        now.actions, now.hidden = actions, hidden
        for name in self._before:
            now.put(store[name], shown[name])
        now.put(store["actions"], actions)
        now.put(store["log_prob"], log_prob)
        given = actions if self._bounds is None else torch.clamp(actions, *self._bounds)
        return given, now.seeds.gather(1, now.begun.unsqueeze(1)).squeeze(1)

    def _record(self, now: Playing) -> None:
        """Store what a step gave, and advance every slot's episode."""
        after, notes, store, actions = now.after, self._notes, self.store, now.actions
        for name in self._after:
            now.put(store[name], after[name])
        for name, kept in self._finals.items():
            now.put(kept, now.final[name])
        reward = self._learners(after["reward"])
        now.put(store["reward"], reward)
        # an episode that outlives its limit is reported when the batch is gathered
        self.played[self._numbers, self.step.clamp(max=self.info.episode_limit - 1)] = actions
        self.step += 1
        self.returns += reward
        for name, x in (("length", self.step), ("returns", self.returns), ("metrics", after["metrics"])):
            now.put(notes[name], x)
        over = after["terminated"] | after["truncated"]
        self.number += over
        self.step.masked_fill_(over, 0)
        column = over.unsqueeze(1)
        self.returns.masked_fill_(column, 0.0)
        self.last.copy_(actions)
        self.last.masked_fill_(column if actions.dim() == 2 else column.unsqueeze(2), self._none)
        if self.mac.recurrent:
            self.hidden.copy_(now.hidden)
            self.hidden.masked_fill_(column.unsqueeze(2), 0.0)
        self.noise.advance(over)
        now.begun += over
        now.column += 1

    def _learners(self, reward: Tensor) -> Tensor:
        """Return rewards [B, N] as learners see them."""
        if self._rewards == "own":
            return reward
        team = reward.sum(1, keepdim=True) if self._rewards == "sum" else reward.mean(1, keepdim=True)
        return team.expand_as(reward)

    def _gathered(self, hidden: Tensor, before: Tensor) -> tuple[Batch, Episodes]:
        """Return the batch and its ended episodes, and count; here the device is read, once a batch."""
        store, notes = self.store, self._notes
        column, row = (store["terminated"] | store["truncated"]).t().nonzero(as_tuple=True)
        self.noise.check()
        self._check()
        finals = {f"final_{name}": kept[row, column] for name, kept in self._finals.items()}
        batch = Batch.of(
            store, **finals, final_index=torch.stack([row, column], 1), hidden=hidden, before=before
        )  # fmt: skip
        ended = (notes[name][row, column].cpu().numpy() for name in ("returns", "length", "metrics"))
        returns, lengths, metrics = ended
        self.t_env += self.n_slots * self.config.rollout_length
        self.agent_steps += int(store["alive"].sum())
        self.episodes += len(lengths)
        played = Episodes(list(returns), lengths.tolist(), list(metrics.astype(np.float64)), [{} for _ in lengths])
        return batch, played

    def _check(self) -> None:
        """Raise where an agent has no legal action, or an episode outlives the environment's limit.

        Raises:
            UserError, Unsound: naming the slot.
        """
        longest, legal = self._notes["length"].amax(1), self.store["avail"].any(-1).all(-1)
        bad = torch.stack([(longest > self.info.episode_limit).any(), ~legal.all()]).tolist()
        name = self.info.name
        if bad[0]:
            slot = int((longest > self.info.episode_limit).nonzero()[0, 0])
            raise Unsound(f"The environment '{name}' outlives its limit of {self.info.episode_limit} in slot {slot}.")
        if bad[1]:
            slot, step = (~legal).nonzero()[0].tolist()
            raise UserError(
                f"The environment '{name}' leaves an agent without a legal action (slot {slot}, step {step} of the "
                "batch): also an agent that has ended needs one."
            )

    # -- testing -----------------------------------------------------------------------------------------------

    def _new_tester(self, n_episodes: int) -> EpisodeRunner:
        """Tests are whole episodes: they are played by the environment's native form, with the same numbers, and in no
        more slots than there are episodes."""
        slots = min(self.n_slots, n_episodes)
        return EpisodeRunner(
            replace(self.config, backend="native", batch_size_run=slots), *self.task, self.mac, self.device, self.seed
        )

    def use(self) -> Use:
        """Return how collecting uses the machine."""
        return replace(self._use(0, native=True), waiting=0.0)

    # -- state -------------------------------------------------------------------------------------------------

    @property
    def _restarts(self) -> int:
        return 0

    def _number_of(self, row: int) -> int:
        return int(self.number[row])

    def _slots_state(self) -> dict[str, Any]:
        if self.shown is None:
            self._begin_all()
        assert self.shown is not None
        fresh = torch.zeros_like(self.step, dtype=torch.bool)
        kept = (self.number, self.step, self.returns, self.last, self.hidden, fresh)
        return {name: x.cpu().numpy().copy() for name, x in zip(KEPT, kept, strict=True)} | {
            "played": self.played[:, : int(self.step.max())].cpu().numpy().copy(),
            "seen": self._digests(self.shown),
        }

    def _digests(self, shown: Tensors) -> list[str]:
        arrays = [shown[name].cpu().numpy() for name in _SEEN]
        return [digest(x[b] for x in arrays) for b in range(self.n_slots)]

    def _load_slots(self, slots: Mapping[str, Any]) -> list[int]:
        """Bring every slot's episode to where it was; returns the slots where that failed."""
        number, step, returns, last, hidden, fresh = (torch.as_tensor(slots[name]).cpu() for name in KEPT)
        number, step = number + fresh, torch.where(fresh, 0, step)
        self._take(number, step, returns, last, hidden, fresh)
        played = torch.as_tensor(slots["played"]).cpu()
        self.played[:, : played.shape[1]] = played.to(self.device)
        astray = torch.zeros_like(fresh)
        with torch.inference_mode():
            for over in self._replayed(step, played):
                astray |= over.cpu()
            assert self.shown is not None
            seen = self._digests(self.shown)
            astray |= torch.tensor([seen[b] != slots["seen"][b] for b in range(self.n_slots)])
            astray &= ~fresh
            if astray.any():
                self._take(number + astray, torch.where(astray, 0, step), returns, last, hidden, fresh | astray)
                seeds = episode_seeds(self.seed, "train", self._numbers, self.number)
                self.shown = self.slots.reset(astray.to(self.device), seeds)
        return astray.nonzero().squeeze(1).tolist()

    def _take(
        self, number: Tensor, step: Tensor, returns: Tensor, last: Tensor, hidden: Tensor, fresh: Tensor
    ) -> None:  # fmt: skip
        """Set where every slot is; those ``fresh`` [B] are before their episode's first step."""
        begin = fresh.view(-1, 1)
        deep = begin if last.dim() == 2 else begin.unsqueeze(2)
        for mine, given in (
            (self.number, number), (self.step, step), (self.returns, torch.where(begin, 0.0, returns)),
            (self.last, last.masked_fill(deep, self._none)), (self.hidden, hidden.masked_fill(begin.unsqueeze(2), 0.0)),
        ):  # fmt: skip
            mine.copy_(given)
        self.noise.forget()

    def _replayed(self, step: Tensor, played: Tensor) -> Iterator[Tensor]:
        """Play all slots' episodes again so that they end at the same time; yields which of them ended too early.

        A slot with fewer steps begins later: until then it plays something that nobody sees.
        """
        seeds = episode_seeds(self.seed, "train", self._numbers, self.number)
        everywhere, most = torch.ones_like(step, dtype=torch.bool), int(step.max())
        self.shown, rows = self.slots.reset(everywhere.to(self.device), seeds), torch.arange(self.n_slots)
        for t in range(most):
            late = most - step
            if t:
                self.shown = self.slots.reset((late == t).to(self.device), seeds)
            actions = played[rows, (t - late).clamp(min=0)].nan_to_num(0.0).to(self.device)
            given = actions if self._bounds is None else torch.clamp(actions, *self._bounds)
            after, _, self.shown = self.slots.step(given, seeds)
            yield (after["terminated"] | after["truncated"]) & (late <= t).to(self.device)
        if most:
            self.shown = self.slots.reset((step == 0).to(self.device), seeds)

    def close(self) -> None:
        """Release the environments."""
        self.slots.close()
        self._close_tester()
