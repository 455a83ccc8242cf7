"""The `ray` backend: slots stepped by workers on the machines of a Ray cluster.

Policies go out and experience comes back once a batch, where workers choose the actions; otherwise (policies without a
numpy form) actions and observations travel at every step. A worker that fails on its node is reported, or started again
there, as by the `process` backend. A node that is lost takes its workers with it: under ``on_worker_death: restart``
they are started elsewhere, and play from the beginning of the batch what has not come back.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any, NoReturn

import numpy as np

from ....components.experience import Layout
from ....modules.acting import Actor
from ....utils.errors import UserError
from ....utils.waiting import say as report
from ....utils.warn_once import warn_once
from ...base import Arrays, EnvInfo
from ...build import EnvError
from ...info_metrics import InfoMetrics
from ..base import VecEnv
from ..episode_store import EpisodeStore, Job
from ..process import MOST_RESTARTS, Share
from .actors import Actors, Give, Lost, Node
from .host import Order, Task

#: what a worker that was lost was doing, for messages
_DOING = {
    "build": "built its environments",
    "reset": "reset",
    "step": "stepped",
    "play": "played",
    "measure": "measured",
}


class RayVec(VecEnv):
    """The `ray` backend; see the module's docstring."""

    def __init__(
        self,
        env: str,
        env_args: Mapping[str, Any],
        info: EnvInfo,
        n_slots: int,
        workers: int | None,
        *,
        address: str | None = None,
        step_timeout: float | None = None,
        reset_timeout: float | None = None,
        restart: bool = False,
    ) -> None:
        """Start ``workers`` actors for ``n_slots`` slots and wait until all have built theirs.

        Args:
            workers: None: one for each processor core of the cluster.
            address: of the cluster, ``host:port`` or ``auto``; None: the one that RAY_ADDRESS names, else a new one on
                this machine.
            step_timeout, reset_timeout: seconds that one environment may take; None waits for ever.
            restart: replace a worker that fails or is lost, rather than raise.

        Raises:
            UserError: Ray is not installed; the cluster cannot be reached, has too few cores, or other versions.
            UserError, EnvError: a worker could not build its environments.
        """
        seeds, steps = np.zeros((2, n_slots), np.int64)
        super().__init__(info, Arrays.allocate(info, n_slots), seeds, steps, InfoMetrics.allocate(n_slots))
        share = Share()
        self._task = Task(env, dict(env_args), info, n_slots, share, step_timeout, reset_timeout, restart)
        self._restart = restart
        self._warned: list[tuple[int, str, str]] = []
        self._actors = Actors(address, workers, n_slots)
        self.workers = self._actors.count
        self._nodes = self._actors.nodes
        self._finalizer = weakref.finalize(self, self._actors.close)
        edges = np.linspace(0, n_slots, self.workers + 1).astype(int).tolist()
        try:
            self._nodes.extend(self._actors.start(k, *ends) for k, ends in enumerate(pairwise(edges)))
            lost = self._actors.settle(self._nodes)
            for node, found in lost:
                self._replace(node, found)  # which builds its slots
            again = {node.number for node, _ in lost}
            with self._under_way():
                self._command("build", self._task_of, [n for n in self._nodes if n.number not in again])
        except BaseException:
            self.close()
            raise

    def _task_of(self, node: Node, again: bool = False) -> Task:
        share = Share(slot=node.first, worker=node.number, where=node.where, again=again)
        return replace(self._task, n_slots=node.last - node.first, share=share)

    def _reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        concerned = np.zeros(self.n_slots, bool)
        concerned[slots] = True
        self.seeds[slots], self.steps[slots] = seeds, 0

        def part(node: Node) -> tuple[np.ndarray, np.ndarray]:
            own = (slots >= node.first) & (slots < node.last)
            return slots[own] - node.first, seeds[own]

        self._all("reset", part, concerned)

    def _step(self, actions: np.ndarray, active: np.ndarray) -> None:
        self._all("step", lambda n: (actions[n.first : n.last], active[n.first : n.last]), active)

    def _all(self, command: str, give: Give, concerned: np.ndarray) -> None:
        """Give a command to the workers of the ``concerned`` slots."""

        def lose(node: Node) -> bool:
            own = np.zeros(self.n_slots, bool)
            own[node.first : node.last] = True
            over = (self.arrays.terminated | self.arrays.truncated) & ~concerned
            self._lose(own & (self.seeds >= 0) & ~over)
            return False

        with self._under_way():
            self._command(command, give, [n for n in self._nodes if concerned[n.first : n.last].any()], lost=lose)

    def play(self, store: EpisodeStore, job: Job, actor: Actor) -> None:
        """Play ``job`` on the nodes, whose actors act there; one that has no arrays acts in this process."""
        if actor.arrays is None or actor.recipe is None:
            return super().play(store, job, actor)
        recipe, replaced = actor.recipe, set[int]()

        def lost(node: Node) -> bool:
            replaced.add(node.number)
            return True

        def order(node: Node) -> Order:
            return self._order(node, store, job, recipe, node.number in replaced)

        with self._under_way():
            policies = self._actors.ray.put(dict(actor.arrays))
            self._command("play", order, self._nodes, policies, lost, lambda n, answer: _record(n, answer, store, job))
        return None

    def _order(self, node: Node, store: EpisodeStore, job: Job, recipe: Any, replaced: bool) -> Order:
        """Return the part of ``job`` that a node plays; ``replaced``: it takes the place of one that was lost."""
        own, rows = slice(node.first, node.last), _rows(node, store, job)
        cursor = {name: x[own] for name, x in store.cursor.items()}
        cursor["row"] = cursor["row"] - rows.start
        kept = {n: x[rows] for n, x in store.steps.items()} if job.keep else {}
        plan = None if job.plan is None else job.plan[own]
        found = Order(
            replace(job, plan=plan), recipe, cursor, _layout({n: x[own] for n, x in store.endings.items()}),
            _layout(kept),
        )  # fmt: skip
        if not replaced or plan is not None:
            return found
        seen = {name: x[own] for name, x in self.arrays.named().items()}
        return replace(found, seeds=self.seeds[own], seen=seen)

    def random_throughput(self, seconds: float, seed: int) -> tuple[int, float]:
        """Measure random play on all nodes at once for ``seconds``; returns steps, and seconds."""
        measured: list[tuple[int, float]] = []
        with self._under_way():
            self._command(
                "measure", lambda n: (seconds, seed + n.number), self._nodes, lost=lambda n: True,
                take=lambda n, answer: measured.append(answer["measured"]),
            )  # fmt: skip
        took = max(each for _, each in measured)
        return round(sum(steps / each for steps, each in measured) * took), took

    # -- answers -----------------------------------------------------------------------------------------------------

    def _command(
        self,
        command: str,
        give: Give,
        nodes: list[Node],
        policies: Any = None,
        lost: Callable[[Node], bool] = lambda node: False,
        take: Callable[[Node, dict[str, Any]], Any] = lambda node, answer: None,
    ) -> None:
        """Give a command to ``nodes`` and take all their answers.

        Args:
            give: what comes with the command.
            policies: arrays that all of them get.
            lost: called when a worker was lost and replaced; returns whether it gets the command again.
            take: takes a command's own results.
        """
        actors = self._actors
        waiting = {actors.ask(n, command, give(n), policies): n for n in nodes}
        while waiting:
            for ref in actors.ready(list(waiting)):
                node, answer = waiting.pop(ref), actors.answer(ref)
                if not isinstance(answer, Lost):
                    self._take(node, answer)
                    take(node, answer)
                    continue
                self._replace(node, answer)
                if lost(node):
                    waiting[actors.ask(node, command, give(node), policies)] = node
        for _, kind, text in sorted(self._warned):
            warn_once(kind, text)
        self._warned.clear()

    def _take(self, node: Node, answer: dict[str, Any]) -> None:
        """Take what a node's slots show, and what was said there."""
        for text in answer["said"]:
            report(text)
        self._warned += [(node.number, kind, text) for kind, text in answer["warned"].items()]
        self.worker_restarts += answer.get("restarts", 0)
        if "failed" in answer:
            kind, text = answer["failed"]
            self._fail(text, UserError if kind == "user" else EnvError)
        node.losses = 0
        shown = answer["shown"]
        held = np.flatnonzero(shown["seeds"] >= 0)  # of the others, a worker that was lost has shown the last
        rows = held + node.first
        for name, array in self.arrays.named().items():
            array[rows] = shown["arrays"][name][held]
        self.seeds[rows], self.steps[rows] = shown["seeds"][held], shown["steps"][held]
        self.lost[node.first : node.last] |= shown["lost"]
        self.info_metrics.receive(node.first, shown["info_metrics"])

    def _fail(self, text: str, kind: type[Exception] = EnvError) -> NoReturn:
        self._finalizer()
        self._broken = text
        raise kind(text)

    def _replace(self, node: Node, lost: Lost) -> None:
        """Start a new worker for one that was lost with its node or its process.

        Raises:
            EnvError: it is not to be replaced, or was lost too often without an answer in between.
        """
        again: Lost | None = lost
        while again is not None:
            doing = f"while it {_DOING[node.doing]}" if node.doing in _DOING else "while it started"
            text = (
                f"Environment worker {node.number}{node.where} was lost {doing} (slots {node.first} to "
                f"{node.last - 1}): {again.why}"
            )
            node.losses += 1
            if not self._restart:
                self._fail(text)
            if node.losses > MOST_RESTARTS:
                self._fail(f"{text}\nIt was lost {node.losses} times without an answer in between.")
            self.worker_restarts += 1
            report(f"{text}\nEnvironment worker {node.number} is started again, and its episodes are played anew.")
            self._actors.kill(node)
            fresh = self._actors.start(node.number, node.first, node.last)
            node.actor, node.where, node.doing = fresh.actor, "", "starting"
            again = next((found for _, found in self._actors.settle([node])), None)
            if again is None:
                answer = self._actors.answer(self._actors.ask(node, "build", self._task_of(node, again=True)))
                if isinstance(answer, Lost):
                    again = answer
                else:
                    losses = node.losses
                    self._take(node, answer)
                    node.losses = losses

    def close(self) -> None:
        """End the nodes; calling it again does nothing."""
        self._finalizer()
        self._broken = self._broken or "The environments are closed."


def _rows(node: Node, store: EpisodeStore, job: Job) -> slice:
    """Return the rows of ``EpisodeStore.steps`` that a node's slots fill."""
    slots = node.last - node.first
    begin = int(store.cursor["row"][node.first])
    count = slots if job.plan is None else sum(len(numbers) for numbers in job.plan[node.first : node.last])
    return slice(begin, begin + count)


def _layout(arrays: Mapping[str, np.ndarray]) -> Layout:
    return {name: (x.shape, str(x.dtype)) for name, x in arrays.items()}


def _record(node: Node, answer: dict[str, Any], store: EpisodeStore, job: Job) -> None:
    """Write what a node played into the store."""
    own, rows = slice(node.first, node.last), _rows(node, store, job)
    for name, x in answer["steps"].items():
        store.steps[name][rows, : x.shape[1]] = x
    for name, x in answer["endings"].items():
        store.endings[name][own, : x.shape[1]] = x + rows.start if name == "row" else x
    for name, x in answer["cursor"].items():
        store.cursor[name][own] = x + rows.start if name == "row" else x
