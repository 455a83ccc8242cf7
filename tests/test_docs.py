"""What the documents tell a user to type works as it stands there."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
GUIDE = (ROOT / "docs" / "adding-an-algorithm.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The guide's code blocks of one language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, flags=re.DOTALL)


def train(main: Path, config: str, folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    words = [f"--config={config}", "--env-config=maze", "with", "seed=1", "t_max=1280", "test_nepisode=2"]
    return subprocess.run(
        [sys.executable, str(main), *words, f"local_results_path={folder / 'results'}", *overrides],
        capture_output=True, text=True, cwd=folder, timeout=240,
    )  # fmt: skip


@pytest.mark.slow
def test_a_variant_by_yaml_alone(tmp_path: Path) -> None:
    (tmp_path / "mappo_grouped.yaml").write_text(blocks("yaml")[0])
    done = train(ROOT / "src" / "main.py", "./mappo_grouped.yaml", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results/sacred/mappo_grouped/black_red/1/metrics.jsonl").is_file()


@pytest.mark.slow
def test_the_worked_example_of_a_learner(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    learner, entry = blocks("python")
    (tmp_path / "src/learners/kl_ppo.py").write_text(learner)
    registry = tmp_path / "src/learners/__init__.py"
    registry.write_text(registry.read_text().replace("REGISTRY = {\n", "REGISTRY = {\n" + entry))
    (tmp_path / "src/config/algs/mappo_kl.yaml").write_text(blocks("yaml")[1])
    done = train(tmp_path / "src" / "main.py", "mappo_kl", tmp_path, "kl_coef=0.5")
    assert done.returncode == 0, done.stderr
    metrics = (tmp_path / "results/sacred/mappo_kl/black_red/1/metrics.jsonl").read_text()
    assert '"kl":' in metrics
    assert '"explained_variance":' in metrics


def test_links_between_documents_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"


# -- the results that are stated -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seeds() -> Any:
    spec = importlib.util.spec_from_file_location("maze_seeds", ROOT / "benchmarks" / "maze_seeds.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_results_is_that_of_the_curves(seeds: Any) -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for line in seeds.table().splitlines():
        assert line in page


@pytest.mark.parametrize("method", ["oappo", "oatrpo", "happo", "hatrpo", "mappo", "ippo"])
def test_curves_are_of_the_shipped_configuration(seeds: Any, method: str) -> None:
    """A configuration that changes must be trained again before its results can stand."""
    curve = json.loads((seeds.DATA / f"maze-{method}-seed1.json").read_text())
    assert curve["config"] == seeds.configuration(seeds.words(method, 1, []))


@pytest.mark.parametrize("method", ["oappo", "oatrpo"])
def test_off_agent_methods_did_not_collapse(seeds: Any, method: str) -> None:
    curves = [json.loads(path.read_text()) for path in seeds.DATA.glob(f"maze-{method}-seed*.json")]
    assert len(curves) == 10
    assert sum(c["tenths"][-1] >= 0.95 * c["best_tenth"] > 0 for c in curves) >= 9
