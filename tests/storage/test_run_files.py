"""What a run's folder and its pictures call the task."""

from __future__ import annotations

from typing import Any

import pytest

from oamarl.storage.run_files import task_of


@pytest.mark.parametrize(
    ("values", "task"),
    [
        ({"env": "maze", "env_args": {"map_name": "black_red", "key": "x"}}, "black_red"),
        ({"env": "gymma", "env_args": {"key": "rware:rware-tiny-2ag-v2", "map_name": None}}, "rware:rware-tiny-2ag-v2"),
        ({"env": "mamujoco", "env_args": {"scenario": "Hopper", "agent_conf": "3x1"}}, "Hopper-3x1"),
        ({"env": "mamujoco", "env_args": {"scenario": "Hopper", "agent_conf": None}}, "Hopper"),
        ({"env": "mine", "env_args": None}, "mine"),
        ({}, None),
    ],
)
def test_task(values: dict[str, Any], task: str | None) -> None:
    assert task_of(values) == task
