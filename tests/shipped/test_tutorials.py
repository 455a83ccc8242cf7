"""The tutorials: each notebook runs from its first cell to its last, and is stored as it can be published."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from conftest import ROOT

TUTORIALS = ROOT / "docs" / "tutorials"
NOTEBOOKS = sorted(TUTORIALS.glob("*.ipynb"))
#: what is set in the first cell of every notebook, and of one
SHORT = {"T_MAX": 600}
ALSO = {"first-comparison": {"SEEDS": "1-1"}}


def cells(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return found


@pytest.fixture(scope="module")
def execute() -> ModuleType:
    for package in ("nbclient", "nbformat", "ipykernel"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install -e '.[dev]'")
    spec = importlib.util.spec_from_file_location("execute_tutorials", TUTORIALS / "execute.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _of_tests(path: str) -> bool:
    """Whether tests put it on the path: modules there may have the names of a notebook's own."""
    return Path(path).is_relative_to(ROOT) and "site-packages" not in path


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, execute: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a shell's command starts a Python for each line: all find the package, and write below the test's folder
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p and not _of_tests(p)))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    (tmp_path / "tutorials").mkdir()
    (tmp_path / "results").symlink_to(ROOT / "docs" / "results")
    copy = shutil.copy(path, tmp_path / "tutorials")
    done = execute.executed(Path(copy), tmp_path / "tutorials", SHORT | ALSO.get(path.stem, {}), 300)
    execute.stored(done)
    shown = json.dumps(done)
    assert str(tmp_path) not in shown, "stored outputs have paths of the machine"
    assert "image/png" in shown
    assert (tmp_path / "tutorials").is_dir()
    assert [p.name for p in (tmp_path / "tutorials").iterdir()] == [path.name], "a notebook leaves nothing beside it"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_as_it_can_be_published(path: Path) -> None:
    """Parameters in the first cell, outputs without paths, links that lead somewhere, figures of a few kB."""
    text = path.read_text(encoding="utf-8")
    code = [cell for cell in cells(path) if cell["cell_type"] == "code"]
    assert code[0]["metadata"] == {"tags": ["parameters"]}
    assert re.search(r"^T_MAX = [\d_]+  # ", "".join(code[0]["source"]))
    assert not re.search(r"/(tmp|home|root|Users|work|opt)/|\.venv|[A-Z]:\\\\", text)
    assert all(cell["execution_count"] is None for cell in code)
    outputs = [output for cell in code for output in cell["outputs"]]
    assert outputs, "stored without outputs: python docs/tutorials/execute.py"
    assert not [o for o in outputs if o["output_type"] == "error"]
    assert any("image/png" in o.get("data", {}) for o in outputs)
    assert len(text) < 500_000
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        assert "://" in target or (path.parent / target).exists(), f"{path.name} links to {target}, which is not there"


def test_every_notebook_is_in_the_list() -> None:
    listed = re.findall(r"\]\(tutorials/([\w-]+\.ipynb)\)", (ROOT / "docs" / "index.md").read_text(encoding="utf-8"))
    assert sorted(listed) == [path.name for path in NOTEBOOKS]


def test_parameters_are_set_by_name(execute: ModuleType) -> None:
    source = 'T_MAX = 64_000  # steps\nSEEDS = "1-3"  # runs'
    assert execute.parameters(source, {"T_MAX": 5, "SEEDS": "1"}) == "T_MAX = 5  # steps\nSEEDS = '1'  # runs"
    with pytest.raises(ValueError, match="EPOCHS"):
        execute.parameters(source, {"EPOCHS": 1})


def test_printed_text_is_stored_without_colours_progress_and_paths(execute: ModuleType) -> None:
    here = f"{tempfile.gettempdir()}/oamarl-a1b_"
    text = f"\x1b[1mRun\x1b[0m {here}/results/x\r\n   \n 10%\r━━━ 3\r\ndone\r\n{ROOT}/docs/a.md\n"
    assert execute.plain(text) == "Run results/x\ndone\ndocs/a.md\n"
