"""How the documents are written: short sentences where readers begin, and the words of docs/architecture.md."""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT

#: words of a sentence on the pages where readers begin
LONGEST = 30
PYTHON = [p for folder in ("src", "benchmarks", "examples", "docs") for p in sorted((ROOT / folder).rglob("*.py"))]
SETTINGS = [p for folder in ("src", "experiments", "examples") for p in sorted((ROOT / folder).rglob("*.yaml"))]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "docs" / "tutorials").glob("*.ipynb")),
    *sorted((ROOT / "benchmarks").glob("*.md")),
]


def first_pages() -> list[Path]:
    """README, and the first page of each section of docs/index.md, which is the site's navigation."""
    found = [ROOT / "README.md"]
    for section in re.split(r"^\| *[^|\]]+ *\| *\|$", (ROOT / "docs" / "index.md").read_text("utf-8"), flags=re.M)[1:]:
        page = re.search(r"\]\(([^)#]+)\)", section)
        assert page is not None
        found.append((ROOT / "docs" / page[1]).resolve())
    return list(dict.fromkeys(found))


def prose(path: Path) -> str:
    """A page's text: of a notebook the cells with text."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    return "\n\n".join("".join(c["source"]) for c in json.loads(text)["cells"] if c["cell_type"] == "markdown")


def sentences(text: str) -> Iterator[str]:
    """The sentences of a Markdown page, without code, tables, equations, pictures and links' targets.

    A heading and a list's item end a sentence. Code in a line counts as one word, and so does a list of such.
    """
    text = re.sub(r"^( *)(```+|~~~+).*?^\1\2 *$|\$\$.*?\$\$|<!--.*?-->", "\n\n", text, flags=re.M | re.S)
    text = re.sub(r"!\[[^]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    text = re.sub(r"(\n\n)(?: {4,}.*\n)+(?=\n)", r"\1", text)  # indented code
    text = re.sub(r"\$`[^`]+`\$|`[^`]+`(?:, `[^`]+`)*", "code", text)
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("|")]
    text = "\n".join(re.sub(r"^ *([-*]|\d+\.|#+|>) +", "\n\n", line) for line in lines)
    for block in re.split(r"\n\s*\n", text):
        flat = " ".join(block.split())
        flat = re.sub(r"\b(e\.g|i\.e|et al|vs|eq|fig|p|No)\.", r"\1", flat)
        yield from (s for s in re.split(r"(?<=[.!?])[)\"*]* +(?=[\"(*\[]*[A-Z0-9a-z])", flat) if s)


def words(sentence: str) -> list[str]:
    return re.findall(r"[A-Za-z0-9](?:[\w'’.,%/-]*[\w'’%])?", sentence)


@pytest.mark.parametrize("page", first_pages(), ids=lambda page: page.name)
def test_sentences_are_short_where_readers_begin(page: Path) -> None:
    long = [s for s in sentences(prose(page)) if len(words(s)) > LONGEST]
    assert not long, "\n".join(f"{len(words(s))} words: {s}" for s in long)


# -- words ---------------------------------------------------------------------------------------------------------


def house_words() -> list[str]:
    """The left column of the table of words in docs/architecture.md."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r'^\| ("[^|]*") \|', page[page.index("## Words") :], flags=re.M)
    return [word for row in rows for word in re.findall(r'"([^"]+)"', row)]


def python_prose(path: Path) -> str:
    """Docstrings and comments of a module."""
    text = path.read_text(encoding="utf-8")
    comments = [t.string for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type == tokenize.COMMENT]
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
    return "\n".join([*comments, *docs])


def test_words_that_the_house_avoids_occur_nowhere() -> None:
    avoided = house_words()
    assert {"somebody", "anybody", "whoever", "is told", "goes on"} <= set(avoided)
    either = "|".join(word.replace(" ", r"\s+") for word in avoided)
    pattern = re.compile(rf"\b({either})\b", re.I)
    # few modules have such a word anywhere, and only those are parsed
    texts = {path: python_prose(path) for path in PYTHON if pattern.search(path.read_text(encoding="utf-8"))}
    texts |= {path: "\n".join(re.findall(r"#.*", path.read_text(encoding="utf-8"))) for path in SETTINGS}
    texts |= {path: prose(path) for path in PAGES}
    house = ROOT / "docs" / "architecture.md"
    texts[house] = texts[house].partition("## Words")[0]
    found = [f"{path.relative_to(ROOT)}: {m[0]}" for path, text in texts.items() for m in pattern.finditer(text)]
    assert not found, "\n".join(found)


def test_what_counts_as_a_sentence() -> None:
    page = "# A title\n\nOne `a b`, `c` two. Three\nfour: five!\n\n- Six.\n- Seven [eight](nine.md) (e.g. ten).\n\n"
    page += "    code of a block\n\n```sh\nmore code\n```\n\n| a | table |\n\n![a picture](p.png)\n\nLast."
    assert [" ".join(words(s)) for s in sentences(page)] == [
        "A title", "One code two", "Three four five", "Six", "Seven eight e.g ten", "Last",
    ]  # fmt: skip
