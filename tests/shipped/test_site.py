"""The documentation site: built strictly, navigation from docs/index.md, nothing from elsewhere, every page linked."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from conftest import PATIENCE, ROOT, SRC

WHY = "the site's packages are not installed: pip install -e '.[docs]'"


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    for package in ("mkdocs", "material", "mkdocstrings", "latex2mathml"):
        pytest.importorskip(package, reason=WHY)
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs" / "site" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(hooks: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(folder)], cwd=ROOT, capture_output=True,
        text=True, timeout=PATIENCE, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_navigation_is_the_list_of_pages(hooks: ModuleType) -> None:
    sections = hooks.sections()
    titles = "Start Learn Train Environments Compare Add Understand Methods Reference"
    assert list(sections) == titles.split()
    listed = [file for files in sections.values() for file in files]
    assert len(listed) == len(set(listed)), "a page stands in docs/index.md twice"
    pages = {p.relative_to(ROOT).as_posix() for kind in ("md", "ipynb") for p in (ROOT / "docs").rglob(f"*.{kind}")}
    missing = pages - set(listed) - {"docs/index.md"}
    assert not missing, f"not in docs/index.md, and so not in the site's navigation: {sorted(missing)}"
    for file in listed:
        assert (ROOT / file).is_file(), f"docs/index.md links to {file}, which is not there"


def test_links_out_of_the_pages_lead_to_the_reference_or_to_the_file(hooks: ModuleType) -> None:
    assert hooks.page_of("README.md") == "index.md"
    assert hooks.page_of("docs/smax.md") == "smax.md"
    assert hooks.page_of("docs/tutorials/paper.ipynb") == "tutorials/paper.md"
    assert hooks.page_of("examples/kl-ppo") == "files/examples/kl-ppo.md"
    assert hooks._module("src/learners/happo.py") == "oamarl.learners.happo"
    assert hooks._module("src/config/algs/happo.yaml") == ""
    text = "[a](../src/run.py) \n```md\n[d](e.md)\n```\n[`f`](smax.md#g) [h](https://i.org) [j](#k)"
    assert list(hooks.targets(text)) == ["../src/run.py", "smax.md"]


def test_docstrings_have_one_entry_for_each_argument(hooks: ModuleType) -> None:
    spec = importlib.util.spec_from_file_location("site_docstrings", ROOT / "docs" / "site" / "docstrings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = "Of :func:`~a.b`.\n\nArgs:\n    x, y: both,\n        [B].\n    z: one.\n\nReturns:\n    p, q: r."
    expected = "Of `a.b`.\n\nArgs:\n    x: both,\n        [B].\n    y: both,\n        [B].\n    z: one.\n\n"
    assert module.plain(text) == f"{expected}Returns:\n    p, q: r."


@pytest.mark.slow
def test_the_site_is_complete_and_fetches_nothing(site: Path) -> None:
    home = (site / "index.html").read_text(encoding="utf-8")
    assert "OAPPO" in home
    assert "docs/index.md" not in re.findall(r'href="([^"]*)"', home)
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=\"(https?:)?//([^\"]+)", text)
        assert not fetched, f"{page.name} fetches {fetched}"
    modules = {path.relative_to(SRC).with_suffix("").as_posix().replace("/", ".") for path in SRC.rglob("*.py")}
    reference = "".join(page.read_text(encoding="utf-8") for page in (site / "api").glob("*.html"))
    shown = set(re.findall(r'id="oamarl\.([\w.]+)"', reference))
    assert {name for name in modules if "__" not in name} <= shown
    paper = (site / "tutorials" / "paper.html").read_text(encoding="utf-8")
    for picture in re.findall(r'src="(paper-\d+.png)"', paper):
        assert (site / "tutorials" / picture).is_file()
    assert "paper-0.png" in paper
    assert "interquartile mean" in paper
    assert (site / "tutorials" / "paper.ipynb").is_file(), "the notebook can be had from its page"
    assert not list(site.rglob("*.py")), "the hooks are not part of the site"
    assert "--env-config" in (site / "help.html").read_text(encoding="utf-8")
