"""Tests' metrics by how their actions were chosen.

Sampled tests have EPyMARL's names (``test_return_mean``), greedy ones their own (``test_greedy_return_mean``). Older
runs, and some of EPyMARL's, have greedy tests under the plain names: they are renamed when they are read, here alone,
so that all readers of runs see one vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from .records import METRICS_FILE, metrics_line, parse_metrics, read_metrics
from .run_files import CONFIG_FILE, INFO_FILE, read_json

T = TypeVar("T")

#: prefixes of the names of test metrics
TEST, GREEDY = "test_", "test_greedy_"
#: descriptions of a metric's actions in messages
GREEDILY, SAMPLED = "greedy (argmax) actions", "sampled actions"
#: the entry of info.json, curve files and checkpoints since plain names are of sampled actions
MARK = {"test_actions": "sampled"}
#: metrics of episodes, which depend on how actions were chosen
_PLAYED = ("return_", "ep_length", "won")
#: EPyMARL's selectors of policies that are distributions
_OF_POLICIES = (None, "soft_policies", "multinomial", "gaussian")


def measure(test_greedy: bool, common_reward: bool) -> str:
    """Return the metric by which a run's best checkpoint is chosen."""
    return f"{GREEDY if test_greedy else TEST}{'' if common_reward else 'total_'}return_mean"


def is_plain(name: str) -> bool:
    """Whether a metric is a test's under EPyMARL's name."""
    return name.startswith(TEST) and not name.startswith(GREEDY)


def greedy_name(name: str) -> str:
    """Return the name of the same metric of greedy tests; metrics of training keep their name."""
    return GREEDY + name.removeprefix(TEST) if is_plain(name) else name


def misnamed(config: Mapping[str, Any], facts: Mapping[str, Any], names: Iterable[str]) -> bool:
    """Return whether a run's plain names are of greedy tests.

    Args:
        config: of the run, ours or EPyMARL's, as far as it is known.
        facts: info.json, or the head of a curve file.
        names: of all its metrics.
    """
    if facts.get("test_actions") == MARK["test_actions"] or any(name.startswith(GREEDY) for name in names):
        return False
    selector = config.get("action_selector")
    if selector is not None:
        # EPyMARL: soft_policies samples in tests too; epsilon_greedy has no other tests than greedy ones
        return selector == "multinomial" and config.get("test_greedy") is not False
    if config.get("test_greedy") is False:
        return False
    # a curve file's configuration lacks test_greedy, and its command has it
    asked = str(facts.get("command") or "").split()
    return "test_greedy=False" not in asked


def renamed(values: Mapping[str, T]) -> dict[str, T]:
    """Return metrics with the names of greedy tests in place of plain ones."""
    return {greedy_name(name): value for name, value in values.items()}


def named(values: Mapping[str, T], config: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, T]:
    """Return a run's metrics, by name, with each under the name that it has now (see :func:`misnamed`)."""
    return renamed(values) if misnamed(config, facts, values) else dict(values)


def run_records(folder: Path) -> list[dict[str, Any]]:
    """Return the records of a run's folder (:func:`records.read_metrics`), each metric under the name it has now."""
    records = read_metrics(folder)
    names = {name for record in records for name in record["metrics"]}
    if misnamed(read_json(folder / CONFIG_FILE), read_json(folder / INFO_FILE), names):
        return [{**record, "metrics": renamed(record["metrics"])} for record in records]
    return records


def actions(name: str, config: Mapping[str, Any]) -> str:
    """Return how the actions behind a metric were chosen, in words; "" where it counts no episodes.

    Args:
        name: as it was read, see :func:`named`.
        config: of the run.
    """
    if not name.startswith(TEST) and not any(part in name for part in _PLAYED):
        return ""
    if name.startswith(GREEDY):
        return GREEDILY
    selector = config.get("action_selector")
    if selector == "epsilon_greedy":
        return GREEDILY if name.startswith(TEST) else "epsilon-greedy actions"
    return SAMPLED if selector in _OF_POLICIES else f"actions of action_selector={selector}"


# -- resumed runs ------------------------------------------------------------------------------------------------


def carried_misnamed(saved: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint's tests, in files or still pending, are greedy ones under the plain names."""
    if MARK.items() <= saved.items():
        return False
    path, size = Path(saved["folder"]) / METRICS_FILE, int(saved["position"].get(METRICS_FILE, 0))
    records = parse_metrics(path.read_bytes()[:size]) if path.is_file() else []
    names = {name for record in records for name in record["metrics"]}
    names |= {name for file, _, values in saved["loop"]["pending"] if not file for name in values}
    return any(is_plain(name) for name in names) and misnamed(saved["config"], {}, names)


def renamed_lines(data: bytes) -> bytes:
    """Return lines of ``metrics.jsonl`` with the names of greedy tests in place of plain ones."""
    records = parse_metrics(data)
    return b"".join(metrics_line(renamed(record["metrics"]), record["t"], record.get("time")) for record in records)


def with_names_of_now(payload: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a checkpoint of a run in ``folder`` as one beside records that went through :func:`renamed_lines`."""
    position, path = dict(payload["position"]), folder / METRICS_FILE
    if METRICS_FILE in position and path.is_file():
        position[METRICS_FILE] = len(renamed_lines(path.read_bytes()[: position[METRICS_FILE]]))
    return {**payload, "position": position, "loop": renamed_pending(payload["loop"]), **MARK}


def renamed_pending(loop: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's ``loop`` whose pending scalars have the names of greedy tests in place of plain ones."""
    pending = [(file, t, values if file else renamed(values)) for file, t, values in loop["pending"]]
    return {**loop, "pending": pending}
