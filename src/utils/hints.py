"""Hints on settings that waste the machine, from a run's time split: one sentence each, with the key to set."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .intervals import interval

#: The time split of a run shorter than this (seconds) is not representative.
SHORTEST = 5.0
#: The largest number of hints, those with the largest savings.
MOST = 2

#: Phases of a run whose time is measured.
PARTS = ("environment", "inference", "learning", "logging", "testing", "other")

#: Shares of the time above which something is worth a sentence.
_ENVIRONMENT, _INFERENCE, _LEARNING, _LOGGING, _TESTING = 0.6, 0.3, 0.6, 0.1, 0.3
#: Environments at once below which one network call has next to nothing to do, by device.
_FEW_SLOTS = {"cpu": 8, "cuda": 32}
#: Slots that wait for longer episodes for more than this share of the collection.
_WAITING = 0.35


@dataclass(frozen=True)
class Use:
    """The use of the machine by a run.

    | field | meaning |
    |---|---|
    | cores | processor cores that this process may use |
    | busy | share of the machine's cores in use lately, 0 to 1 (with this run) |
    | workers | processes that step the environments; 0: the main process does |
    | native | the environment steps all its slots itself, in one call |
    | gpu, device | torch finds a GPU; where the networks are, ``cpu`` or ``cuda`` |
    | compiled | networks are evaluated by compiled code, or could be |
    | waiting | share of the slots' steps in which a slot waited for longer episodes, 0 to 1 |
    """

    cores: int
    busy: float = 0.0
    workers: int = 0
    native: bool = False
    gpu: bool = False
    device: str = "cpu"
    compiled: bool = True
    waiting: float = 0.0

    @property
    def idle(self) -> bool:
        """Whether at least about one more core is free."""
        return self.cores > 1 and self.cores * (1.0 - self.busy) >= 0.5


#: (share of the run's time that may be saved, sentence), or None
_Found = tuple[float, str] | None


def hints(seconds: Mapping[str, float], values: Mapping[str, Any], use: Use) -> list[str]:
    """Return at most :data:`MOST` hints, largest savings first; none for a run of less than :data:`SHORTEST`.

    Args:
        seconds: the time split, by :data:`PARTS` (one that is missing took none).
        values: the configuration. Rules about keys that it lacks (parts of the user's own) are left out.
        use: the machine.
    """
    total = sum(seconds.values())
    if total < SHORTEST:
        return []
    share = dict.fromkeys(PARTS, 0.0) | {name: value / total for name, value in seconds.items()}
    found = [rule(share, values, use) for keys, rule in _RULES if all(key in values for key in keys)]
    best = sorted((x for x in found if x is not None), key=lambda x: -x[0])
    return [sentence for _, sentence in best[:MOST]]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _more(interval: int, factor: float) -> int:
    """Return a longer interval, rounded up to one digit."""
    longer = interval * factor
    unit = 10 ** math.floor(math.log10(longer))
    return math.ceil(longer / unit) * unit


def _workers(share: Mapping[str, float], values: Mapping[str, Any], use: Use) -> _Found:
    """Environments on fewer cores than there are."""
    time, slots, have = share["environment"], values["batch_size_run"], max(use.workers, 1)
    on_this = values["backend"] != "ray" and not use.native
    if not on_this or time <= _ENVIRONMENT or have >= use.cores or not use.idle:
        return None
    said = f"Environments take {_percent(time)} of the time and run on {have} of {use.cores} cores"
    if slots <= have:
        runner = "runner=parallel " if values["runner"] == "episode" else ""
        more = max(2 * use.cores, 8)
        return time * (1 - have / use.cores), (
            f"{said}, since there are only {slots} at once: set {runner}batch_size_run={more} (batches grow with it)."
        )
    possible = min(use.cores, slots)
    setting = "backend=process" if values["backend"] == "serial" else f"workers={possible}"
    return time * (1 - have / possible), f"{said}: set {setting}."


def _crowd(share: Mapping[str, float], values: Mapping[str, Any], use: Use) -> _Found:
    """More workers than cores."""
    if values["backend"] == "ray" or use.workers <= use.cores or share["environment"] <= _INFERENCE:
        return None
    return share["environment"] * 0.2, (
        f"{use.workers} environment workers share {use.cores} cores and wait for one another: set workers={use.cores}."
    )


def _slots(share: Mapping[str, float], values: Mapping[str, Any], use: Use) -> _Found:
    """Few environments for one network call (and, batched by themselves, for one step)."""
    time = share["inference"] + (share["environment"] if use.native else 0.0)
    slots = values["batch_size_run"]
    if time <= _INFERENCE or slots >= _FEW_SLOTS.get(use.device, _FEW_SLOTS["cpu"]):
        return None
    runner = "runner=parallel " if values["runner"] == "episode" else ""
    more = 2 * _FEW_SLOTS.get(use.device, _FEW_SLOTS["cpu"])
    what = "Stepping and acting take" if use.native else "Acting takes"
    return time * (1 - slots / more), (
        f"{what} {_percent(time)} of the time, and one call serves any number of environments: set "
        f"{runner}batch_size_run={more} (now {slots}; batches grow with it)."
    )


def _threads(share: Mapping[str, float], values: Mapping[str, Any], use: Use) -> _Found:
    """More threads than cores that are free for them: a thread without a core holds up all others at every step."""
    threads = values["torch_threads"]
    if threads > use.cores:
        return 0.5, (
            f"torch_threads={threads} on {use.cores} core{'s' * (use.cores > 1)}: threads wait for one another, set "
            "torch_threads=1."
        )
    if threads > 1 and not use.idle and share["learning"] + share["inference"] > _INFERENCE:
        return 0.5, (
            f"torch_threads={threads} while all {use.cores} cores are in use: threads wait for one another, set "
            "torch_threads=1."
        )
    return None


def _gpu(share: Mapping[str, float], values: Mapping[str, Any], use: Use) -> _Found:
    """A GPU that is not used."""
    if not use.gpu or use.device != "cpu" or share["learning"] <= _LEARNING:
        return None
    return share["learning"] * 0.4, (
        f"Learning takes {_percent(share['learning'])} of the time on the CPU, and there is a GPU: try use_cuda=True."
    )


def _compiler(share: Mapping[str, float], values: Mapping[str, Any], use: Use) -> _Found:
    """No C compiler."""
    if use.compiled or use.device != "cpu" or share["learning"] <= _INFERENCE:
        return None
    return share["learning"] * 0.5, (
        f"Learning takes {_percent(share['learning'])} of the time, and about half of that with a C compiler: "
        "install gcc (Debian's build-essential) or clang."
    )


def _logging(share: Mapping[str, float], values: Mapping[str, Any], use: Use) -> _Found:
    """Points, tables and checkpoints at too short intervals."""
    time = share["logging"]
    if time <= _LOGGING:
        return None
    names = ["checkpoint_interval", "log_interval", *(["save_model_interval"] if values["save_model"] else [])]
    names += [name for name in ("runner_log_interval", "learner_log_interval") if values[name] is not None]
    name = min(names, key=lambda n: int(values[n]))
    return time, (
        f"Logging and checkpoints take {_percent(time)} of the time: set {name}={_more(values[name], 30 * time)} "
        f"(now {values[name]})."
    )


def _testing(share: Mapping[str, float], values: Mapping[str, Any], use: Use) -> _Found:
    """Tests that take too much of the time."""
    time = share["testing"]
    if time <= _TESTING:
        return None
    now, t_max = values["test_interval"], values["t_max"]
    rarer = _more(now, 9 * time / max(1 - time, 0.01))  # leaves a tenth of the time
    longer = f"test_interval={rarer} (now {now}) or "
    if interval(rarer, t_max) <= interval(now, t_max):  # the run is too short for it to change anything
        longer = ""
    return time - 0.1, (
        f"Tests take {_percent(time)} of the time: set {longer}fewer test_nepisode (now {values['test_nepisode']})"
        f"{', or test_greedy=False for half of the episodes' if values['test_greedy'] else ''}."
    )


def _waiting(share: Mapping[str, float], values: Mapping[str, Any], use: Use) -> _Found:
    """Whole episodes of unequal length."""
    time = share["environment"] + share["inference"]
    if values["runner"] != "parallel" or use.waiting <= _WAITING or time <= _INFERENCE:
        return None
    if "buffer_size" in values:  # off-policy learners, most of which draw whole episodes from their replay
        return None
    batch = " batch_size=null" if values["batch_size"] is not None else ""
    # workers and the network call continue for the other slots: about half of the waiting is lost
    return time * use.waiting / 2, (
        f"Environments wait for the longest episode of their batch for {_percent(use.waiting)} of the steps: set "
        f"runner=rollout{batch} (segments, without waiting)."
    )


_INTERVALS = (
    "checkpoint_interval", "log_interval", "runner_log_interval", "learner_log_interval", "save_model",
    "save_model_interval",
)  # fmt: skip
_RULES: tuple[tuple[tuple[str, ...], Callable[[Mapping[str, float], Mapping[str, Any], Use], _Found]], ...] = (
    (("batch_size_run", "backend", "runner"), _workers),
    (("workers", "backend"), _crowd),
    (("batch_size_run", "runner"), _slots),
    (("torch_threads",), _threads),
    (("use_cuda",), _gpu),
    (("hidden_dim",), _compiler),
    (_INTERVALS, _logging),
    (("test_greedy", "test_interval", "test_nepisode", "t_max"), _testing),
    (("runner", "batch_size"), _waiting),
)
