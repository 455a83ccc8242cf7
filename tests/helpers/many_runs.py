"""Many small runs for tests of plots and reports: folders and curve files with curves that are known exactly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from oamarl.storage.records import array_record, metrics_line

CONFIG = {"env": "maze", "common_reward": True, "lr": 0.001, "gamma": 0.99, "t_max": 1000}


def make_run(
    results: Path,
    name: str,
    seed: int,
    value: Callable[[int], float],
    *,
    task: str = "black_red",
    number: int | None = None,
    points: int = 10,
    status: str = "COMPLETED",
    reuse: bool = False,
    arrays: dict[str, np.ndarray] | None = None,
    info: dict[str, Any] | None = None,
    **config: Any,
) -> Path:
    """A run's folder with points at steps 100, 200, ..., whose return at step t is ``value(t)``.

    ``reuse``: arrays M and D of three agents at each step, and what ``arrays`` adds.
    """
    folder = results / "sacred" / name / task / str(number if number is not None else seed)
    folder.mkdir(parents=True)
    values = {**CONFIG, "name": name, "seed": seed, "env_args": {"map_name": task}, **config}
    (folder / "config.json").write_text(json.dumps(values))
    entry = {"status": status, "start_time": f"2026-01-0{1 + seed % 9}T00:00:00", "heartbeat": "2026-01-01T01:00:00"}
    (folder / "run.json").write_text(json.dumps(entry))
    facts = {"command_line": f"oamarl --config={name} with seed={seed}", "commit": "abc", "versions": {"torch": "2.13"}}
    (folder / "info.json").write_text(json.dumps({**facts, **(info or {})}))
    with open(folder / "metrics.jsonl", "wb") as file:
        for k in range(1, points + 1):
            t = 100 * k
            metrics = {
                "return_mean": value(t),
                "updates": float(k),
                "processed_samples": 20.0 * t,
                "wall_clock": t / 50,
            }
            file.write(metrics_line(metrics, t, 1000.0 + t))
    if reuse:
        n = 3
        records = [
            (100 * k, {"M": np.eye(n) * 0.7 + 0.1, "D": np.full((n, n), 0.05 * k), **(arrays or {})})
            for k in range(1, points + 1)
        ]
        (folder / "reuse.arrays").write_bytes(b"".join(array_record(t, found) for t, found in records))
    return folder


def make_epymarl_run(
    results: Path, name: str, seed: int, task: str = "lbforaging:Foraging-8x8-2p-3f-v3", **config: Any
) -> Path:
    """A run's folder as EPyMARL's sacred leaves it: returns 0.1, 0.2, ... at steps 1000, 2000, ..."""
    folder = results / "sacred" / name / task / str(seed)
    folder.mkdir(parents=True)
    config = {
        "name": name,
        "seed": seed,
        "env": "gymma",
        "env_args": {"key": task, "seed": seed},
        "unique_token": f"u{seed}",
        "test_greedy": True,
        "action_selector": "soft_policies",
        **config,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "run.json").write_text(json.dumps({"status": "COMPLETED", "start_time": "2026-01-01T00:00:00.5"}))
    number = {"dtype": "float64", "py/object": "numpy.float64"}
    curve = {
        "steps": [1000, 2000, 3000],
        "values": [0.1, {**number, "value": 0.2}, 0.3],
        "timestamps": [f"2026-01-01T00:0{m}:00.000000" for m in range(3)],
    }
    (folder / "metrics.json").write_text(json.dumps({"return_mean": curve, "test_return_mean": curve}))
    return folder


def make_curve_file(folder: Path, name: str, seed: int, points: list[list[float]], **more: Any) -> Path:
    """A curve file as a sweep leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {**CONFIG, "name": name, "seed": seed, "env_args": {"map_name": "black_red"}}
    head = {"command": f"oamarl --config={name}", "config": config, "commit": "abc", "versions": {}}
    totals = {"wall_clock": 20.0, "processed_samples": 4000.0, "updates": 40.0, "tenths": [1.0], "best_tenth": 1.0}
    content = {**head, **totals, "return_mean": points}
    path = folder / f"maze-{name}-seed{seed}.json"
    path.write_text(json.dumps({**content, **more}))
    return path


def damage(folder: Path) -> None:
    """Every kind of damage in one results folder, beside one run that is whole."""
    for k, (file, data) in enumerate(
        [
            ("config.json", b'{"name": "oap'),
            ("config.json", b"[1, 2]"),
            ("run.json", b"\xff\xfe\x00"),
            ("run.json", b'{"status": 3, "start_time": 5, "host": "x", "heartbeat": []}'),
            ("info.json", b'{"versions": [], "process": 4, "resumed_from": 7, "command_line": null}'),
            ("metrics.jsonl", b'{"t": 100, "metrics": {"return_mean"'),
            (
                "metrics.jsonl",
                b'{"t": "x", "metrics": {}}\n{"metrics": []}\n{"t": 1, "metrics": {"return_mean": []}}\n\x00\n',
            ),
            ("metrics.jsonl", b""),
            ("reuse.arrays", b"OAR1" + bytes(40)),
        ]
    ):
        run = make_run(folder, "oappo", 20 + k, lambda t: float(t), reuse=True, task="damaged")
        (run / file).write_bytes(data)
    (folder / "sacred" / "oappo" / "damaged" / "90").mkdir()
    sacred = folder / "sacred" / "oappo" / "damaged" / "91"
    sacred.mkdir()
    (sacred / "config.json").write_text("{}")
    (sacred / "metrics.json").write_text(
        '{"a": 3, "return_mean": {"steps": [1, null], "values": ["x", 2]}, "b": {"values": 1}}'
    )
