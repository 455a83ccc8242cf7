"""Lines and tasks under the names with which pictures and reports show them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...analysis.methods import Style, styles
from ...analysis.names import task_name
from ...analysis.runs import Run
from ...analysis.select import label
from ...utils.errors import UserError
from .data import Groups, Selection
from .view import relabelled


@dataclass(frozen=True)
class Names:
    """How labels and tasks are shown.

    | field | meaning |
    |---|---|
    | labels, tasks | key -> text |
    | methods | text of a label -> key of its method, which decides its look |
    """

    labels: Mapping[str, str]
    tasks: Mapping[str, str]
    methods: Mapping[str, str]

    def label(self, key: str) -> str:
        """Return the text of a label."""
        return self.labels.get(key, key)

    def task(self, key: str) -> str:
        """Return the text of a task."""
        return self.tasks.get(key, key)

    def styles(self) -> dict[str, Style]:
        """Return the look of every label, by its text."""
        return styles(self.methods)

    def groups(self, groups: Groups) -> dict[str, dict[str, Sequence[Run]]]:
        """Return runs sorted by the texts of labels and tasks."""
        found = {self.label(x): {self.task(t): runs for t, runs in tasks.items()} for x, tasks in groups.items()}
        return {x: dict(sorted(found[x].items())) for x in sorted(found, key=str.casefold)}


def names(selection: Selection, changed: Sequence[str] = ()) -> Names:
    """Return how the labels and tasks of a selection are shown.

    Args:
        changed: ``--labels`` of the command line.

    Raises:
        UserError: it names no label and no task, or calls two of them the same.
    """
    labels = _apart({key: _shown(key, _runs(tasks), selection.keys) for key, tasks in selection.groups.items()})
    tasks: dict[str, str] = {}
    for task in selection.tasks:
        found = {task_name(task, run.config) for own in selection.groups.values() for run in own.get(task, ())}
        tasks[task] = found.pop() if len(found) == 1 else task
    tasks = _apart(tasks)
    new = relabelled(changed, {**tasks, **labels})
    for shown in (labels, tasks):
        after = {key: new.get(key, text) for key, text in shown.items()}
        for text, number in Counter(after.values()).items():
            if number > 1:
                both = " and ".join(shown[key] for key in after if after[key] == text)
                raise UserError(f"--labels calls {both} by one name, '{text}'.")
        shown.update(after)
    methods = {labels[key]: _method(key, _runs(own)) for key, own in selection.groups.items()}
    return Names(labels, tasks, methods)


def _runs(tasks: Mapping[str, Sequence[Run]]) -> list[Run]:
    return [run for runs in tasks.values() for run in runs]


def _shown(key: str, runs: Sequence[Run], keys: Sequence[str]) -> str:
    """Return the text of a label: its method's and its task's name in it, and whatever else it has."""
    found = {label(run, keys, as_written=True) + key.removeprefix(label(run, keys)) for run in runs}
    return found.pop() if len(found) == 1 else key


def _method(key: str, runs: Sequence[Run]) -> str:
    found = {run.name for run in runs}
    return found.pop() if len(found) == 1 else key


def _apart(shown: Mapping[str, str]) -> dict[str, str]:
    """Return texts of which no two are alike: where they would be, keys stay as they are."""
    counts = Counter(shown.values())
    return {key: text if counts[text] == 1 else key for key, text in shown.items()}
