"""Resuming from a checkpoint: which one, whether it may be, and what is taken from it."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..components.experience import EnvInfo
from ..controllers.contract import Controller
from ..learners.contract import Learner
from ..settings import NEW_KEYS, NON_LEARNING_KEYS, Settings, without_non_learning
from ..storage import checkpoints, sacred_run, snapshots
from ..storage.liveness import alive
from ..storage.log import RunLog
from ..storage.tested_actions import carried_misnamed, measure, renamed_lines, renamed_pending, with_names_of_now
from ..utils.errors import UserError, reason, shown_value
from .payload_check import unfit
from .run_config import RunConfig

#: value of `checkpoint_path`: the newest run of the same configuration that was begun and is not over
LATEST = "latest"

#: Keys that a resumed run may change.
MAY_DIFFER = NON_LEARNING_KEYS | {"t_max", "init_from"}


def differences(values: Mapping[str, Any], saved: Mapping[str, Any], ignored: frozenset[str]) -> list[str]:
    """Return the keys that two configurations disagree about; an older version's lacks what was added since."""
    mine, theirs = without_non_learning(values, ignored), without_non_learning(saved, ignored)
    return sorted(k for k in {*mine, *theirs} if mine.get(k, NEW_KEYS.get(k)) != theirs.get(k, NEW_KEYS.get(k)))


def check_same(values: Mapping[str, Any], saved: Mapping[str, Any], path: Path) -> None:
    """Refuse to resume under another configuration.

    Raises:
        UserError: naming the keys that differ.
    """
    differ = differences(values, saved, MAY_DIFFER)
    if differ:
        shown = ", ".join(f"{k}={shown_value(values.get(k))} (was {shown_value(saved.get(k))})" for k in differ[:4])
        more = f" and {len(differ) - 4} more" if len(differ) > 4 else ""
        raise UserError(
            f"Cannot resume from {path} under another configuration: {shown}{more}; init_from takes weights alone."
        )


def check_step(load_step: int, checkpoint_path: str, init_from: str) -> None:
    """Refuse a `load_step` that has nothing to choose from.

    Raises:
        UserError: there is no `checkpoint_path`, or one that is not a place.
    """
    if not load_step or checkpoint_path not in ("", LATEST):
        return
    if checkpoint_path == LATEST:
        raise UserError(
            f"load_step={load_step} chooses among a run's checkpoints, and checkpoint_path=latest resumes from the "
            "newest one: name the run's folder, or leave load_step out."
        )
    if init_from:
        file = snapshots.at_step(init_from, load_step, lambda text: None)
        raise UserError(
            f"load_step={load_step} chooses among the checkpoints of checkpoint_path: name the file to start from, "
            f"init_from={file}."
        )
    raise UserError(
        f"load_step={load_step} chooses among the checkpoints of checkpoint_path, which is not set: give "
        "checkpoint_path=RUN, or leave load_step out."
    )


def resumption(
    settings: Settings, config: RunConfig, notices: list[str]
) -> tuple[Path, dict[str, Any]] | tuple[None, None]:
    """Return the checkpoint file to resume from and its payload, if the settings name one.

    A run that was started without a seed continues with its own, which is set in ``settings``.

    Raises:
        UserError: there is none of use, or it is another configuration's.
    """
    check_step(config.load_step, config.checkpoint_path, config.init_from)
    asked, any_seed = config.checkpoint_path, settings.source["seed"] == "worked out"
    if asked == LATEST:
        found = find_unfinished(sacred_run.run_parent(settings.values), settings.values, any_seed, notices.append)
        if found is None:
            notices.append("checkpoint_path=latest: no run of this configuration is there to resume; a new one.")
        asked = "" if found is None else str(found)
    if not asked:
        return None, None
    path, saved = open_run(snapshots.at_step(asked, config.load_step, notices.append), notices.append)
    if any_seed:
        settings.values["seed"] = saved["config"]["seed"]
    check_same(settings.values, saved["config"], path)
    notices.append(f"Resumed from {path}, step {saved['runner']['t_env']:,}.")
    return path, saved


def open_run(path: str | Path, say: Callable[[str], None]) -> tuple[Path, dict[str, Any]]:
    """Return the newest checkpoint of use at ``path`` and its payload, whose ``folder`` is where its records are.

    Raises:
        UserError: there is none.
    """
    file, payload = checkpoints.load_newest(path, say, unfit)
    payload["folder"] = str(_records(file.absolute(), payload))
    return file.absolute(), payload


def _records(file: Path, payload: Mapping[str, Any]) -> Path:
    """The folder with the curve up to a checkpoint: the run's folder, also where it was moved."""
    if file.parent.name in (checkpoints.FOLDER, checkpoints.MODELS, checkpoints.BEST):
        return file.parent.parent
    # a file that lies somewhere else names its run itself: that must be a run of this configuration
    named = Path(payload["folder"])
    return file.parent if differences(_json(named / "config.json"), payload["config"], MAY_DIFFER) else named


def find_unfinished(parent: Path, values: Mapping[str, Any], any_seed: bool, say: Callable[[str], None]) -> Path | None:
    """Return the newest run below ``parent`` that the configuration ``values`` can resume, or None.

    That is a run that is neither over nor still running nor continued by another run, and has a checkpoint.

    Args:
        any_seed: no seed was asked for, so the run may have any.
        say: called with a sentence for each run that is passed over because it may still be running.
    """
    ignored = MAY_DIFFER | ({"seed"} if any_seed else set())
    continued: set[Path] = set()
    for folder in sorted(parent.glob("[0-9]*"), key=_number, reverse=True):
        config = _json(folder / "config.json")
        if not checkpoints.listed(folder / checkpoints.FOLDER) or differences(values, config, frozenset(ignored)):
            continue
        info, record = _json(folder / "info.json"), _json(folder / "run.json")
        before = info.get("resumed_from")
        if isinstance(before, str):
            continued.add(Path(before).parent.parent)
        if record.get("status") == "COMPLETED" or folder in continued:
            continue
        if record.get("status") == "RUNNING" and _still_running(info, record, config):
            say(f"Passed over {folder}: it seems to be at work.")
            continue
        return folder
    return None


def _still_running(info: Mapping[str, Any], record: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    try:
        heard = dt.datetime.fromisoformat(str(record.get("heartbeat")))
    except ValueError:
        heard = None
    process = info.get("process")
    beat = config.get("beat_interval")
    return bool(alive(process if isinstance(process, dict) else None, heard, beat if isinstance(beat, float) else 30.0))


def _number(folder: Path) -> int:
    return int(folder.name) if folder.name.isdecimal() else -1


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def carry_curve(saved: Mapping[str, Any], log: RunLog) -> Mapping[str, Any]:
    """Begin a run's records with those up to a checkpoint; returns the checkpoint's ``loop``, pending records with it.

    Greedy tests that a run of before logged as ``test_*`` continue as ``test_greedy_*``: one curve is of one kind.
    """
    misnamed = carried_misnamed(saved)
    log.carry_over(saved["folder"], saved["position"], renamed_lines if misnamed else None)
    loop: Mapping[str, Any] = saved["loop"]
    if not misnamed:
        return loop
    log.info("The tests up to here were of greedy actions: in this run they are test_greedy_*, and test_* are sampled.")
    return renamed_pending(loop)


def carry_best(saved: Mapping[str, Any], log: RunLog, measured: str) -> dict[str, Any] | None:
    """Copy the best checkpoint so far, unless a later one has taken its place: then the tests to come find that again.

    Returns of greedy and of sampled actions do not compare: what was the best by the other kind is left behind.

    Args:
        measured: the metric by which the resumed run chooses.
    """
    best, asked = saved["loop"]["best"], saved["config"]
    if best is None:
        return None
    before = best.get("metric") or measure(asked["test_greedy"], asked["common_reward"])
    if before != measured:
        log.info(f"The best checkpoint so far was chosen by {before}, and this run chooses by {measured}: left behind.")
        return None
    file = Path(saved["folder"]) / checkpoints.BEST / checkpoints.name_of(int(best["t_env"]))
    if not checkpoints.copy(file, log.folder / checkpoints.BEST):
        return None
    best = {**best, "metric": measured}
    if carried_misnamed(saved):
        # the records beside the copy are no longer those, byte for byte, that it says its place in
        kept = with_names_of_now(checkpoints.load(file), Path(saved["folder"]))
        checkpoints.save(
            log.folder / checkpoints.BEST, int(best["t_env"]), {**kept, "loop": {**kept["loop"], "best": best}}, keep=1
        )
    return best


def _other_sizes(trained: Any, info: EnvInfo) -> str:
    """Return by which sizes the environment that a checkpoint is of differs from ``info``; "" by none that is known."""
    words = {"n_agents": "agents", "obs_size": "numbers that an agent sees", "n_actions": "actions"}
    if not isinstance(trained, Mapping) or not words.keys() <= trained.keys():
        return ""
    differ = [f"{trained[k]} {word} there and {getattr(info, k)} here" for k, word in words.items()
              if trained[k] != getattr(info, k)]  # fmt: skip
    return ", ".join(differ)


def load_weights(
    mac: Controller, learner: Learner, saved: Mapping[str, Any], where: str, info: EnvInfo | None = None
) -> list[str]:
    """Take policies and what else fits from a checkpoint, nothing else; returns notices about what does not fit.

    Args:
        info: the environment's sizes, for the message.

    Raises:
        UserError: the policies do not fit this configuration, or there are none.
    """
    try:
        mac.load_state_dict(saved["mac"])
    except (LookupError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        sizes = "" if info is None else _other_sizes(saved.get("info"), info)
        raise UserError(
            f"init_from={where} holds policies of another shape or kind than this configuration's: "
            f"{sizes or reason(error)}."
        ) from None
    try:
        unlike = learner.load_weights(saved["learner"])
    except (LookupError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        raise UserError(f"init_from={where} holds nothing that this learner can start from: {reason(error)}.") from None
    return [
        f"init_from={where}: the policies were taken; its {name} does not fit and starts anew." for name in unlike or ()
    ]
