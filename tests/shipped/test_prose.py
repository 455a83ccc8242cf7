"""How the documents are written: short sentences where readers begin, and the words of docs/architecture.md."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT

#: words of a sentence on the pages where readers begin
LONGEST = 30
#: what people write, by its suffix
WRITTEN = (".c", ".cfg", ".css", ".h", ".ipynb", ".js", ".md", ".py", ".sh", ".toml", ".yaml", ".yml", "")


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


def written() -> list[Path]:
    """Every file of the checkout that people write, but this one."""
    told = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [ROOT / name for name in told.splitlines() if not name.startswith(("docs/results/data/", "zoo/"))]
    return [path for path in files if path.suffix in WRITTEN and path.is_file() and path != Path(__file__).resolve()]


def house_words() -> list[str]:
    """The left column of the table of words in docs/architecture.md."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r'^\| ("[^|]*") \|', page[page.index("## Words") :], flags=re.M)
    return [word for row in rows for word in re.findall(r'"([^"]+)"', row)]


def test_words_that_the_house_avoids_occur_nowhere() -> None:
    avoided = house_words()
    assert {"somebody", "anybody", "whoever", "is told", "goes on"} <= set(avoided)
    pattern = re.compile(rf"\b({'|'.join(word.replace(' ', chr(92) + 's+') for word in avoided)})\b", re.I)
    house = ROOT / "docs" / "architecture.md"
    found = []
    for path in written():
        text = prose(path)
        if path == house:
            text = text.partition("## Words")[0]
        found += [f"{path.relative_to(ROOT)}: {m[0]}" for m in pattern.finditer(text)]
    assert not found, "\n".join(found)


def test_equations_are_written_as_the_site_reads_them() -> None:
    """In a fence with `math`, or as $`...`$: what stands elsewhere is shown as it is."""
    for page in sorted((ROOT / "docs").rglob("*.md")):
        text = re.sub(r"^( *)(```+).*?^\1\2 *$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        text = re.sub(r"\$`[^`]+`\$|`[^`]+`", "", text)
        found = re.findall(r"\$\$|\\[a-z]+(?:\{|\b)", text)
        assert not found, f"{page.relative_to(ROOT)}: {found}"


def test_what_counts_as_a_sentence() -> None:
    page = "# A title\n\nOne `a b`, `c` two. Three\nfour: five!\n\n- Six.\n- Seven [eight](nine.md) (e.g. ten).\n\n"
    page += "    code of a block\n\n```sh\nmore code\n```\n\n| a | table |\n\n![a picture](p.png)\n\nLast."
    assert [" ".join(words(s)) for s in sentences(page)] == [
        "A title", "One code two", "Three four five", "Six", "Seven eight e.g ten", "Last",
    ]  # fmt: skip
