"""The scripts for SLURM, with stand-ins of its commands."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from conftest import PATIENCE, ROOT

SCRIPTS = ROOT / "containers"
#: says its words, and ends as a run that got SIGUSR1 does
RUN = """#!/bin/bash
trap 'kill $!; exit 138' USR1
echo "$@" > words
sleep 600 & wait
"""


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_whole(path: Path) -> None:
    subprocess.run(["bash", "-n", path], check=True)


@pytest.mark.parametrize("given", ["--config=ippo with lr=1e-3", "--config=ippo"])
def test_a_seeds_job_is_queued_again_at_the_time_limit(given: str, tmp_path: Path) -> None:
    for name, text in {"oamarl": RUN, "scontrol": '#!/bin/bash\necho "$@" > queued\n'}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    job = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_CPUS_PER_TASK": "2", "SLURM_JOB_ID": "7"}
    env = {**os.environ, **job, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    process = subprocess.Popen(["bash", SCRIPTS / "slurm-seeds.sh", *given.split()], cwd=tmp_path, env=env)
    limit = time.monotonic() + PATIENCE
    while not (words := tmp_path / "words").exists() or not words.read_text():
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.02)
    while process.poll() is None:  # the script may not yet know whom to pass it on to
        process.send_signal(signal.SIGUSR1)
        time.sleep(0.1)
        assert time.monotonic() < limit
    assert process.returncode == 138
    assert (tmp_path / "queued").read_text() == "requeue 7\n"
    plain = given if " with" in given else f"{given} with"
    assert words.read_text() == f"{plain} seed=3 workers=2 checkpoint_path=latest stop_seconds=200\n"
