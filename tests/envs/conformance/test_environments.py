"""The conformance suite: every environment that has a file in config/envs passes it, and broken batches do not."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from oamarl.envs.build import is_native
from oamarl.envs.conformance import suite
from oamarl.envs.conformance.examples import ARGUMENTS, Example, examples, not_installed
from oamarl.envs.conformance.report import Report, Stop
from oamarl.envs.conformance.suite import Conformance
from oamarl.utils.errors import UserError
from oamarl.utils.schema.layers import shipped

#: compiled when they are first played, which takes longer than a test may
SLOW = {"smax"}


def conform(env: str, args: dict[str, Any]) -> Report:
    """Play the suite without its measurement of speed; returns what it found."""
    report = Report()
    with contextlib.suppress(Stop):
        Conformance(env, args, seed=0, episodes=3, report=report, speed=False).run()
    return report


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "OPPOSED_SECONDS", 0.01)


@pytest.mark.parametrize(
    "example",
    [pytest.param(e, id=e.name, marks=[pytest.mark.slow] if e.name in SLOW else []) for e in examples()],
)
def test_every_environment_conforms(example: Example) -> None:
    try:
        report = conform(example.env, example.args())
    except UserError as error:
        if not not_installed(example, error):
            raise
        pytest.skip(str(error))
    assert report.findings == []


def test_every_file_has_an_example() -> None:
    assert {e.config for e in examples()} == set(shipped("envs"))
    assert set(ARGUMENTS) <= set(shipped("envs"))
    names = [e.name for e in examples()]
    assert len(set(names)) == len(names)


# -- the batched form --------------------------------------------------------------------------------------------

BATCHED = "broken_envs:BrokenBatch"


def test_a_sound_batch() -> None:
    assert is_native(BATCHED)
    assert conform(BATCHED, {"fault": ""}).findings == []


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("reset", "backend=native: reset of slot 1 changes rows of other slots."),
        ("idle", "backend=native: a step changes rows of slots that are not active."),
        ("clock", "backend=native gives other numbers than one instance alone: obs differs after step 1 (seed 2)."),
        ("order", "backend=native gives other numbers than one instance alone: obs differs at reset (seed 1)."),
        ("extra", "backend=native gives other numbers than one instance alone: wind differs at reset (seed 1)."),
        ("rebinds", "backend=native: out.obs is bound to another array: write into it."),
    ],
)
def test_faults_of_a_batch(fault: str, says: str) -> None:
    """None of them can be seen with one slot."""
    assert conform(BATCHED, {"fault": fault}).findings == [says]


def test_extra_fields_are_read() -> None:
    found = conform(BATCHED, {"fault": "unwritten"}).findings
    assert found == ["at reset (seed 0) out.extra['wind'][0] is nan, or was not written."]
