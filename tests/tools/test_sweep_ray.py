"""A sweep on a real Ray cluster of two nodes: Ctrl-C, a restart, and a node that dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from oamarl.storage.run_files import read_json
from oamarl.tools.sweep.attempt import status

from child_signals import usual_signals
from conftest import PATIENCE
from sweep_tools import MAIN, prepare, runs, with_checkpoints

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head and a second node, with room for one run each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    module = pytest.importorskip("ray.cluster_utils", reason="ray is not installed: pip install -e '.[ray]'")
    small = {"num_cpus": 1, "object_store_memory": 80_000_000}
    made = module.Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    try:
        made.second = made.add_node(**small)
        yield made
    finally:
        made.shutdown()


def sweep(folder: Path, address: str, until: Callable[[], bool], then: Callable[[Any], object]) -> tuple[int, str]:
    """Run the sweep; do ``then`` as soon as ``until`` is true; return its exit status and what it said."""
    words = [sys.executable, str(MAIN), "sweep", "two.yaml", "--ray", address, "--results", "results"]
    log = folder / "out.txt"
    with log.open("w") as out:
        process = subprocess.Popen(words, cwd=folder, stdout=out, stderr=out, preexec_fn=usual_signals)
    try:
        while not until():
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        then(process)
        code = process.wait(timeout=PATIENCE)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return code, log.read_text()


def statuses(folder: Path) -> list[str]:
    return sorted(read_json(run / "run.json")["status"] for run in runs(folder))


def test_a_node_dies_and_every_run_completes_once(cluster: Any, tmp_path: Path) -> None:
    prepare(tmp_path, "Slow", 6000, seeds="1-3")

    # one run on each node; Ctrl-C saves both
    code, said = sweep(
        tmp_path, cluster.address, lambda: with_checkpoints(tmp_path) == 2, lambda p: p.send_signal(signal.SIGINT)
    )
    assert code == 130, said
    assert "0 of 3 done" in said
    assert statuses(tmp_path) == ["INTERRUPTED"] * 2

    # they go on, and one node dies under its run
    def node_dies(_: Any) -> None:
        cluster.remove_node(cluster.second, allow_graceful=False)
        # told to go before its process is gone too, the run could end well, and there would be nothing to begin again
        limit = time.monotonic() + PATIENCE
        while sum(status(run) == "RUNNING" for run in runs(tmp_path)[:4]) == 2:
            assert time.monotonic() < limit, "the run outlives its node"
            time.sleep(0.05)
        (tmp_path / "go").touch()

    code, said = sweep(tmp_path, cluster.address, lambda: with_checkpoints(tmp_path) == 4, node_dies)
    assert code == 0, said
    record = read_json(tmp_path / "results" / "sweeps" / "two" / "sweep.json")["runs"]
    assert {name: run["status"] for name, run in record.items()} == {f"tiny-ours-seed{s}": "done" for s in (1, 2, 3)}
    assert sorted(path.name for path in (tmp_path / "curves").iterdir()) == [f"{name}.json" for name in sorted(record)]
    # the one that was on the node was begun again, once, and no other
    ways = sorted([a["status"] for a in run["attempts"]] for run in record.values())
    assert ways == [["done"], ["done"], ["lost", "done"]]
    assert len(runs(tmp_path)) == 6
    completed = [run for run in runs(tmp_path) if read_json(run / "run.json")["status"] == "COMPLETED"]
    assert sorted(read_json(run / "config.json")["seed"] for run in completed) == [1, 2, 3]
    assert sum("resumed_from" in read_json(run / "info.json") for run in completed) == 2
