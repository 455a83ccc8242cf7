"""What the documents show is what the examples and the results say; that it runs is `test_docs_run.py`'s."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oamarl.main import main
from oamarl.settings import learned
from oamarl.tools.sweep.file import load as read_sweep

ROOT = Path(__file__).resolve().parent.parent
GUIDE = (ROOT / "docs" / "adding-an-algorithm.md").read_text(encoding="utf-8")


def blocks(language: str, text: str = GUIDE) -> list[str]:
    """The code blocks of one language in a guide, in order."""
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.parametrize(
    ("page", "package", "module"),
    [("algorithm", "kl-ppo/oamarl_kl_ppo", "kl_ppo.py"), ("environment", "rendezvous/oamarl_rendezvous", "game.py")],
)
def test_the_guides_show_the_examples(page: str, package: str, module: str) -> None:
    text = (ROOT / "docs" / f"adding-an-{page}.md").read_text(encoding="utf-8")
    assert (ROOT / "examples" / package / module).read_text(encoding="utf-8") in blocks("python", text)
    project = (ROOT / "examples" / package).parent / "pyproject.toml"
    told = project.read_text(encoding="utf-8")
    for block in blocks("toml", text):
        assert all(line in told for line in block.splitlines())


def test_the_worked_example_of_an_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs" / "adding-an-environment.md").read_text(encoding="utf-8")
    (tmp_path / "my_module.py").write_text(blocks("python", text)[0])
    (tmp_path / "rendezvous.yaml").write_text(blocks("yaml", text)[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["check-env", "./rendezvous.yaml", "with", "env_args.n_agents=3"]) == 0
    assert "0 wrong, 0 to note." in capsys.readouterr().out


def test_links_between_documents_lead_somewhere() -> None:
    for page in [
        ROOT / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "docs/methods").glob("*.md")),
    ]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"


def test_the_architecture_names_what_is_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+\.(?:py|c))`(?:: `([\w.]+)`)?", text)
    assert len(named) > 25
    for path, name in named:
        file = (ROOT if path.startswith("tests/") else ROOT / "src") / path
        content = file.read_text(encoding="utf-8")
        for part in filter(None, name.split(".")):
            assert re.search(rf"^ *(def|class) {part}\b", content, flags=re.MULTILINE), f"{path} has no {part}"
    for folder in re.findall(r"`([\w/]+/)`", text):
        assert (ROOT / "src" / folder).is_dir() or (ROOT / folder).is_dir(), folder


# -- the results that are stated -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seeds() -> Any:
    spec = importlib.util.spec_from_file_location("seeds", ROOT / "benchmarks" / "seeds.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_of_battles_are_those_of_the_curves(seeds: Any) -> None:
    page = (ROOT / "docs" / "smax.md").read_text(encoding="utf-8")
    for environment, methods in zip(seeds.BATTLES, (4, 4), strict=True):
        lines = seeds.battles(environment).splitlines()
        assert len(lines) == 2 + methods, environment
        for line in lines:
            assert line in page


def test_the_front_page_s_battles_are_those_of_the_curves(seeds: Any) -> None:
    """The mean of each seed's last five greedy tests, lowest and highest."""
    front = (ROOT / "README.md").read_text(encoding="utf-8")
    for method, curves in seeds.of_methods("smax-3s5z_vs_3s6z").items():
        if method != "oappo-gru":
            won = [100 * np.mean([v for _, v in c["metrics"][seeds.TESTS][-5:]]) for c in curves]
            assert re.search(rf"\b{method.upper()} (wins )?{min(won):.0f} to {max(won):.0f} %", front), method


def test_the_keys_named_for_users_of_harl_are_there() -> None:
    page = (ROOT / "docs" / "coming-from-harl.md").read_text(encoding="utf-8")
    keys = set(
        re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    section = page.split("## Every key")[1].split("## ")[0]
    named = [row.split("|")[2] for row in section.splitlines() if row.startswith("| ")][1:]
    words = {word.partition("=")[0] for cell in named for word in re.findall(r"`([^`]+)`", cell)}
    assert len(words) > 40
    assert words - keys == {"separate", "ac_critic", "happo", "hatrpo"}, "values and methods; the rest are keys"


SWEEPS = ["smax-3m", "smax-3s5z_vs_3s6z"]


@pytest.mark.parametrize("sweep", SWEEPS)
def test_curves_are_of_the_shipped_configuration(seeds: Any, sweep: str) -> None:
    """A configuration that changes must be trained again before its results can stand."""
    for cell in read_sweep(ROOT / "experiments" / f"{sweep}.yaml").cells:
        curve = json.loads((seeds.DATA / f"{cell.name}.json").read_text())
        assert learned(curve["config"]) == cell.config, cell.name


@pytest.mark.parametrize("method", ["oappo", "oatrpo"])
def test_off_agent_methods_did_not_collapse(seeds: Any, method: str) -> None:
    curves = [json.loads(path.read_text()) for path in seeds.DATA.glob(f"maze-black-red-{method}-seed*.json")]
    assert len(curves) == 20
    assert all(c["tenths"][-1] >= 0.95 * c["best_tenth"] > 0 for c in curves)
