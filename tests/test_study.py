"""The study's tables are those of its curves, the curves those of the shipped configurations and of today's code."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from oamarl.analysis import reliable
from oamarl.analysis.runs import find
from oamarl.settings import learned

from many_runs import make_run

ROOT = Path(__file__).resolve().parent.parent


def script(name: str) -> ModuleType:
    """A module of benchmarks/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


study, fingerprints = script("study"), script("fingerprints")
_P = reliable.difference([np.full((2, 1), 10.0)], [np.full((2, 1), 5.5)]).p or 0.0
FAST = f"+4.50 [+4.50, +4.50], p {f'{_P:.3f}'.lstrip('0')}"
PAGES = study.pages()
TRIALS = [name for page in PAGES for name in re.findall(r"<!-- settings (\S+) -->", page.read_text(encoding="utf-8"))]
SHOWN = [name for page in PAGES for name in study.shown(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_have_the_tables_of_the_curves(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert study.written(text) == text, "run benchmarks/study.py --write"


def test_a_study_stands_on_one_page() -> None:
    assert len(SHOWN) == len(set(SHOWN))


@pytest.mark.parametrize("name", study.STUDIES)
def test_curves_are_of_the_shipped_configuration(name: str) -> None:
    """A configuration that changes must be trained again before its results can stand; a table is of whole studies."""
    data = ROOT / "docs" / "results" / "data"
    for members in study.cells(study.STUDIES[name]).values():
        for cell in members:
            path = data / f"{cell.name}.json"
            if path.is_file():
                assert learned(json.loads(path.read_text())["config"]) == cell.config, cell.name
            else:
                assert name not in SHOWN, cell.name


@pytest.mark.parametrize("sweep", TRIALS)
def test_trials_are_of_the_sweep_that_is_shipped(sweep: str) -> None:
    for cell in study.read_sweep(study.ROOT / "experiments" / f"{sweep}.yaml").cells:
        assert learned(json.loads((study.DATA / f"{cell.name}.json").read_text())["config"]) == cell.config, cell.name


def test_a_table_is_of_one_state_of_the_code() -> None:
    for name in SHOWN:
        assert len(study.states(study.runs(study.STUDIES[name]))) == 1, name


def test_a_table_that_is_new_takes_nothing_of_what_follows() -> None:
    place = "<!-- study batches-8x8-2p-2f-coop -->\n<!-- end -->\n"
    text = f"{place}\nBetween them.\n\n{place}"
    filled = study.written(text)
    assert filled.count("| oatrpo (5) |") == 2
    assert "<!-- end -->\n\nBetween them.\n\n<!-- study" in filled
    assert study.written(filled) == filled


def test_a_table_by_hand(tmp_path: Path) -> None:
    """Two runs each, returns rising from 1 to 10 (20 samples a step), or always 10, of an optimum of 10."""
    groups = {
        name: find([str(make_run(tmp_path, name, seed, value)) for seed in (1, 2)], tmp_path)[0]
        for name, value in (("slow", lambda t: t / 100), ("fast", lambda t: 10.0))
    }
    table = study.table(study.Study("none", "none", "slow", 10.0), groups).splitlines()[2:]
    assert table == [
        "| slow (2) | 1.000 ± 0.000 | 2/2 | 5.50 [5.50, 5.50] |  | 900 (2) | 0.0 | - |",
        f"| fast (2) | 1.000 ± 0.000 | 2/2, p 1.000 | 10.00 [10.00, 10.00] | {FAST} | 100 (2) | 0.0 | 10.00; {FAST} |",
    ]


def test_seeds_at_the_optimum_are_compared_by_the_exact_test() -> None:
    """3 of 3 against 0 of 3: one of the 20 ways to lay 3 successes out, and its mirror image; Fisher's example."""
    assert reliable.exact(3, 3, 0, 3) == pytest.approx(2 / 20)
    assert reliable.exact(2, 4, 2, 4) == 1.0
    assert reliable.exact(3, 4, 1, 4) == pytest.approx(34 / 70), "Fisher's lady tasting tea, two-sided"
    ends = {"a": np.array([1.0, 1.0, 0.995]), "b": np.array([0.98, 0.5, 0.0])}
    assert study.reached(ends, "a", "b", True) == "3/3 against 0/3, p .100"
    assert study.reached(ends, "b", "b") == "0/3"


def test_the_front_page_has_the_table_of_the_curves() -> None:
    """Of equal seeds."""
    groups = {m: some for m, some in study.runs(study.STUDIES["maze-black-red"]).items() if m in study.FRONT}
    assert study.front() in (ROOT / "README.md").read_text(encoding="utf-8")
    assert [sorted(run.seed for run in some) for some in groups.values()] == [list(range(1, 21))] * len(study.FRONT)


@pytest.mark.slow
@pytest.mark.parametrize("sweep", fingerprints.SWEEPS)
def test_the_code_computes_what_made_the_curves(sweep: str) -> None:
    """Otherwise: train the curves of these configurations again, and then run benchmarks/fingerprints.py --write."""
    if any(cell.config["env"] == "smax" for cell in fingerprints.groups(sweep).values()):
        pytest.importorskip("jaxmarl")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        known, changed = fingerprints.stored(), {}
        for name, cell in fingerprints.groups(sweep).items():
            if found := fingerprints.differences(known.get(name, {}), fingerprints.fingerprint(cell), cell):
                changed[name] = found
    finally:
        torch.set_num_threads(threads)
    assert not changed
