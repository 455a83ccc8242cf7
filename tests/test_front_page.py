"""What a stranger meets first: README.md, the list of pages, CITATION.cff and the package's metadata agree."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

import oamarl

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_front_page_is_short() -> None:
    """One screen and a half of a wide window, code and tables included."""
    assert len(README.splitlines()) <= 120


def test_every_page_is_in_the_list() -> None:
    listed = set(re.findall(r"\]\(([\w-]+\.md)\)", (ROOT / "docs" / "index.md").read_text(encoding="utf-8")))
    assert listed == {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}


def test_the_front_page_has_every_method_and_environment() -> None:
    folder = ROOT / "src" / "config"
    shipped = {path.stem for path in (folder / "algs").glob("*.yaml") if "learner" in yaml.safe_load(path.read_text())}
    names = set(re.findall(r"`(\w+)`", README[README.index("## Methods") : README.index("## Results")]))
    assert {name.removesuffix("_ns") for name in shipped} <= names
    assert {path.stem for path in (folder / "envs").glob("*.yaml")} <= names


def test_every_method_has_a_page() -> None:
    """A page of docs/methods names the algorithms that it is about in the line above its generated part."""
    shipped = [path.stem for path in (ROOT / "src" / "config" / "algs").glob("*.yaml")]
    said = [
        name
        for page in (ROOT / "docs" / "methods").glob("*.md")
        for names in re.findall(r"<!-- settings and curves of ([\w ]+):", page.read_text(encoding="utf-8"))
        for name in names.split()
    ]
    assert sorted(said) == sorted(shipped), "each algorithm stands on one page"


def test_the_citation_is_of_this_version_and_has_the_four_papers() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == oamarl.__version__
    assert citation["cff-version"] == "1.2.0"
    assert {"title", "message", "authors", "license"} <= set(citation)
    assert [paper["year"] for paper in citation["references"]] == [2024, 2022, 2020, 2023]
    for paper in citation["references"]:
        assert paper["authors"]
        assert "doi" in paper or paper["url"].startswith("https://arxiv.org/abs/")
    first = citation["references"][0]
    assert first["title"] in README, "the README's BibTeX names another paper"
    assert first["doi"] in README


def test_types_are_for_users_too() -> None:
    """PEP 561: the marker is there, and is packaged."""
    assert (ROOT / "src" / "py.typed").is_file()
    assert '"py.typed"' in (ROOT / "setup.py").read_text(encoding="utf-8")


def test_the_python_versions_are_said_once() -> None:
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    versions = re.findall(r"Programming Language :: Python :: (3\.\d+)", text)
    assert f'python_requires=">={versions[0]}"' in text
    assert f"Python {versions[0]} to {versions[-1]}" in README


def test_messages_that_troubleshooting_quotes_are_those_of_the_program() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    source = (ROOT / "Makefile").read_text(encoding="utf-8")
    source += "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    for quoted in (
        *("cannot create a virtual environment", "needs the package", "did you mean", "which is not installed"),
        *("asks for more memory than there is", "left numbers that are not finite", "does not answer"),
    ):
        assert quoted in page
        assert quoted in source, f"no message of the program says '{quoted}' any more"
