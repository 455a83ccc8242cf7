"""Several seeds of one configuration in one process (`seeds_at_once`), each with the numbers of a run of its own.

Every seed is an ordinary run, with its folder, curve and checkpoints. Their programs take turns
(:mod:`oamarl.utils.turns`) and meet where work is shared:

play, test     all seeds' slots are stepped, and all their policies evaluated, together (:mod:`~.envs.vector.shared`)
learn          updates are computed together, where the learner's family can (:mod:`oamarl.learners.together.families`)

A seed that has ended leaves; the others continue without it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from ..components.batch import Batch
from ..components.updates.parallel import default_threads, use_threads
from ..envs.vector.base import VecEnv, usable_cpus
from ..envs.vector.make import make_vec
from ..envs.vector.shared import Play, SharedSlots, SharedVec
from ..learners.contract import Learner
from ..learners.together import families as together
from ..settings import Settings
from ..storage import provenance, sacred_run
from ..storage.log import RunLog
from ..storage.trackers import TrackersConfig
from ..utils.console import Screen
from ..utils.errors import UserError
from ..utils.schema import yamls
from ..utils.signals import Follower, Stop
from ..utils.turns import Request, Turns
from ..utils.waiting import say, will_exit
from .faults import in_one_sentence
from .run_config import RunConfig
from .seeds import seeds_of

#: stands for a seed in `label`
SEED = "{seed}"


class OneRun(Protocol):
    """A run, as :class:`oamarl.run.Run` has it."""

    notices: list[str]
    stop: Stop

    @property
    def has_to_play(self) -> bool:
        """Whether something is played before the networks are built."""

    def build(self) -> None:
        """Build the parts."""

    def train(self, log: RunLog) -> dict[str, float]:
        """Train to the end, or until a stop; returns the last numbers that were logged."""

    def facts(self) -> dict[str, Any]:
        """Return what is recorded about the run beside its configuration."""

    def close(self) -> None:
        """Release resources; calling it again does nothing."""


def run(settings: Settings, one: Callable[[Settings, Seat], OneRun]) -> int:
    """Train all seeds of ``settings``; returns the exit status: the highest of theirs.

    Args:
        one: builds a run from its settings and its seat.

    Raises:
        UserError: a mistake of the request, found before any run begins or, of all runs, in it.
    """
    seeds, config = seeds_of(settings), settings.part(RunConfig)
    leader = Stop(config.stop_seconds, config.max_seconds)
    leader.say = say
    company = Company(len(seeds), leader, config)
    runs: list[OneRun] = []
    try:
        for k, own in enumerate(each(settings, seeds)):
            with in_one_sentence(own.values):
                runs.append(one(own, company.seats[k]))
                if not runs[-1].has_to_play:
                    runs[-1].build()
        with leader.listening(), company.output(seeds):
            bodies = [partial(company.one, seat, each_run) for seat, each_run in zip(company.seats, runs, strict=True)]
            ended = company.turns.run(bodies)
    finally:
        for each_run in runs:
            each_run.close()
    return _status(ended)


def each(settings: Settings, seeds: Sequence[int]) -> Iterator[Settings]:
    """Yield the settings of each seed's run: those that it would have alone.

    Raises:
        UserError: `checkpoint_path` names runs, but not one for each seed.
    """
    given = str(settings.values["checkpoint_path"])
    places = [x.strip() for x in given.split(",")] if "," in given else [given] * len(seeds)
    alike = given in ("", "latest") or len(seeds) == 1
    if len(places) != len(seeds) or not (alike or "," in given):
        raise UserError(
            f"checkpoint_path={given} is not one run for each of {len(seeds)} seeds: give as many, separated by commas "
            "(nothing between two commas: that seed begins anew), or `latest`."
        )
    for seed, place in zip(seeds, places, strict=True):
        values = settings.values | {
            "seed": seed, "seeds_at_once": None, "checkpoint_path": place,
            "label": str(settings.values["label"]).replace(SEED, str(seed)),
        }  # fmt: skip
        # a seed of many is not any seed: `latest` must find its own run
        source = settings.source | {"seed": "seeds_at_once"}
        yield dataclasses.replace(settings, values=values, source=source)


class Seat:
    """A seed's place among those that are trained at once.

    Attributes:
        number: of the place, from 0 on.
        values: the configuration of its run.
        stop: asks it to end early.
        waited: seconds that it has waited for the others so far, or shared with them.
    """

    def __init__(self, company: Company, number: int, stop: Stop) -> None:
        self.company, self.number, self.stop = company, number, stop
        self.waited = 0.0
        self._made = 0
        self.screen: Screen | None = None

    def make_vec(self, env: str, env_args: Mapping[str, Any], n_slots: int, **options: Any) -> VecEnv:
        """Return this seed's slots of an environment that all seeds share; arguments as of ``make_vec``."""
        self._made += 1
        shared = self.company.environments(self._made - 1, partial(make_vec, env, env_args, **options), n_slots)
        return SharedSlots(shared, self.number, self)

    def play(self, request: Play) -> None:
        """Have a request played together with those of the other seeds."""
        began = time.perf_counter()
        self.company.turns.meet("test" if request.job.context.test else "play", request)
        self.waited += time.perf_counter() - began - request.view.played

    def learn(self, learner: Learner, batch: Batch, t_env: int) -> Any:
        """Return what ``learner.train(batch, t_env)`` returns, computed together with the other seeds' if possible."""
        if not together.possible(learner):
            return learner.train(batch, t_env)
        began = time.perf_counter()
        found, share = self.company.turns.meet("learn", (learner, batch, t_env))
        self.waited += time.perf_counter() - began - share
        return found


class Company:
    """The seeds that are trained at once, and the work that they share.

    Args:
        count: of the seeds.
        leader: asks all of them to end early.
        config: of all of them.
    """

    #: what is served first where seeds wait for different things: tests, until all seeds wait for the same again
    ORDER = ("test", "learn", "play")

    def __init__(self, count: int, leader: Stop, config: RunConfig) -> None:
        self.turns = Turns(self.serve)
        self.seats = [Seat(self, k, Follower(leader)) for k in range(count)]
        self._config = config
        self._environments: list[SharedVec] = []
        self._notes: dict[int, Callable[[str], None]] = {}

    def environments(self, number: int, make: Callable[[int], VecEnv], n_slots: int) -> SharedVec:
        """Return the environments that each seed asks for as its ``number``-th, built when the first one does."""
        if number == len(self._environments):
            self._environments.append(SharedVec(make, len(self.seats), n_slots))
        return self._environments[number]

    def serve(self, waiting: Mapping[int, Request]) -> None:
        """Do the work of one kind that seeds wait for."""
        kind = next(kind for kind in self.ORDER if any(request.kind == kind for request in waiting.values()))
        asked = [waiting[k] for k in sorted(waiting) if waiting[k].kind == kind]
        try:
            if kind == "learn":
                self._learn(asked)
                return
            by_vec: dict[int, list[Request]] = {}
            for request in asked:
                by_vec.setdefault(id(request.content.view.shared), []).append(request)
            for requests in by_vec.values():
                requests[0].content.view.shared.play_together([request.content for request in requests])
        except Exception as error:  # what is done together fails together
            for request in asked:
                request.answer(error=error)
            return
        for request in asked:
            request.answer()

    def _learn(self, asked: Sequence[Request]) -> None:
        began = time.perf_counter()
        c = self._config
        use_threads(c.learner_threads or max(c.torch_threads, default_threads(usable_cpus())))
        found = together.train([request.content for request in asked])
        share = (time.perf_counter() - began) / len(asked)
        for request, one in zip(asked, found, strict=True):
            request.answer((one, share))

    def one(self, seat: Seat, run: OneRun) -> int:
        """Have one seed's run to its end; returns its exit status."""
        settings = run.settings  # type: ignore[attr-defined]
        provenance.own_words.set(tuple(words_of(provenance.words(), settings.values)))
        return sacred_run.execute(
            settings.values, run.notices, run.train, info=run.facts(), stop=run.stop,
            trackers=settings.part(TrackersConfig), close=run.close, screen=seat.screen,
        ).exit_code  # fmt: skip

    @contextlib.contextmanager
    def output(self, seeds: Sequence[int]) -> Iterator[None]:
        """Give each seed a screen whose lines begin with it; what else is printed is in all of their logs."""
        for seat, seed in zip(self.seats, seeds, strict=True):
            seat.screen = _SeedScreen(seed, partial(self._notes.__setitem__, seat.number), self._notes, seat.number)

        def note(text: str) -> None:
            for one in list(self._notes.values()):
                one(text)

        with Screen(live=False).capture(note):
            yield


class _SeedScreen(Screen):
    """The screen of one seed among several.

    Args:
        seed: shown before each line.
        begin: takes the function that notes what is printed, while there is a log.
        notes: all such functions; ``number`` is this seed's.
    """

    def __init__(
        self, seed: int, begin: Callable[[Callable[[str], None]], None], notes: dict[int, Callable[[str], None]],
        number: int,
    ) -> None:  # fmt: skip
        super().__init__(sys.stdout, sys.stderr, live=False)
        self._seed, self._begin, self._notes, self._number = seed, begin, notes, number

    def line(self, text: str, *, error: bool = False, style: str = "") -> None:
        super().line(f"seed {self._seed}: {text}", error=error, style=style)

    @contextlib.contextmanager
    def capture(self, seen: Callable[[str], None]) -> Iterator[None]:
        self._begin(seen)
        try:
            yield
        finally:
            self._notes.pop(self._number, None)


def words_of(words: Sequence[str], values: Mapping[str, Any]) -> list[str]:
    """Return the command line of one seed's run alone, from that of all."""
    names = ("seeds_at_once", "seed", "label", "checkpoint_path")
    given = {name for word in words if (name := word.partition("=")[0]) in names}
    kept = [word for word in words if word.partition("=")[0] not in names]
    if "with" not in kept:
        kept.append("with")
    at = kept.index("with") + 1
    own = [yamls.word(name, values[name]) for name in ("label", "checkpoint_path") if name in given and values[name]]
    return [*kept[:at], f"seed={values['seed']}", *kept[at:], *own]


def _status(ended: Sequence[Any]) -> int:
    """Return the exit status of all runs.

    Raises:
        UserError: the mistake of all runs, or the last one's; the others' are shown.
    """
    mistakes = list(dict.fromkeys(str(x) for x in ended if isinstance(x, UserError)))
    for other in (x for x in ended if isinstance(x, BaseException) and not isinstance(x, UserError)):
        raise other
    codes = [x for x in ended if isinstance(x, int)]
    status = max(codes, default=0)
    if mistakes:
        for text in mistakes[:-1]:
            say(" ".join(text.split()))
        raise UserError(mistakes[-1])
    will_exit(status)
    return status
