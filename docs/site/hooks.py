"""What the site adds to docs/: navigation by docs/index.md, the rest of the checkout, the reference, equations.

The pages are written to be read as they lie in the checkout. On the site README.md is the first page and docs/index.md
the list of all; links out of docs/ lead to the reference (modules), or to a page that shows the file.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import posixpath
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
#: file of the checkout -> page of the site, where that has another name
NAMES = {
    "README.md": "index.md",
    "docs/index.md": "pages.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
}
#: a link that is not code: text, target, anchor
LINK = re.compile(r"(\]\()([^)\s#]*)(#[^)\s]*)?(\))")
_FENCE = re.compile(r"^( *)(```+)(\w*)\n(.*?)^\1\2 *$", re.M | re.S)
#: GitHub's two ways to write an equation: a fenced block, and $`...`$ in a line
_INLINE = re.compile(r"\$`([^`]+)`\$")
#: bytes of a file that a page shows
MOST = 60_000


# -- navigation ----------------------------------------------------------------------------------------------------


def sections() -> dict[str, list[str]]:
    """Return the tables of docs/index.md: title -> files of the checkout, in order."""
    found: dict[str, list[str]] = {}
    title = ""
    for line in (ROOT / "docs" / "index.md").read_text(encoding="utf-8").splitlines():
        if head := re.fullmatch(r"\| *([^|\]]+?) *\| *\|", line):
            title = head[1].capitalize()
            found[title] = []
        elif row := re.match(r"\| *\[[^\]]*\]\(([^)#]+)\)", line):
            found[title].append(posixpath.normpath(posixpath.join("docs", row[1])))
    return found


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Make the navigation, and show mkdocstrings the package."""
    config.nav = [{title: [page_of(file) for file in files]} for title, files in sections().items()]
    source = {"Source": [{name: f"api/{name}.md"} for name in packages()]}
    config.nav[-1]["Reference"] += ["help.md", source, "pages.md", "changelog.md", "contributing.md"]
    folder = Path(tempfile.mkdtemp(prefix="oamarl-docs-"))
    (folder / "oamarl").symlink_to(ROOT / "src")  # the folder `src` is the package
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [str(folder)]
    return config


def page_of(file: str) -> str:
    """Return the page of the site that shows a file of the checkout."""
    if file in NAMES:
        return NAMES[file]
    return re.sub(r"\.ipynb$", ".md", file.removeprefix("docs/")) if file.startswith("docs/") else f"files/{file}.md"


# -- the reference -------------------------------------------------------------------------------------------------


def packages() -> dict[str, list[str]]:
    """Return dotted package -> its modules, from the source; the packages' own docstrings count as a module."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "src").rglob("*.py")):
        parts = ("oamarl", *path.relative_to(ROOT / "src").with_suffix("").parts)
        if parts[-1] not in ("__init__", "__main__"):
            found.setdefault(".".join(parts[:-1]), []).append(".".join(parts))
    return dict(sorted(found.items()))


def _package_page(package: str, modules: list[str]) -> str:
    """Return the page about a package: what its `__init__.py` says, then each module."""
    init = ROOT / "src" / "/".join(package.split(".")[1:]) / "__init__.py"
    own = f"::: {package}\n    options: {{members: [], show_root_heading: false, show_root_toc_entry: false}}\n\n"
    return f"# {package}\n\n{own if init.is_file() else ''}" + "".join(f"::: {name}\n\n" for name in modules)


def _commands_page() -> str:
    """Return the help texts of all commands."""
    sys.path.insert(0, str(Path(tempfile.mkdtemp(prefix="oamarl-docs-"))))
    Path(sys.path[0], "oamarl").symlink_to(ROOT / "src")
    os.environ["COLUMNS"] = "100"
    from oamarl import main
    from oamarl.tools import COMMANDS

    text = "# Commands, as `--help` has them\n\n"
    for words in ([], ["train"], *([name] for name in COMMANDS)):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            main.dispatch([*words, "--help"])
        text += f"## {' '.join(['oamarl', *words])}\n\n```text\n{said.getvalue().rstrip()}\n```\n\n"
    return text


# -- pages of the checkout that lie outside docs/ --------------------------------------------------------------------


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add README and other pages of the checkout, notebooks, the reference, and every file that a page links to."""
    notebooks = {}
    for path in sorted((ROOT / "docs").glob("*/*.ipynb")):
        page, pictures = _notebook_page(path)
        notebooks[path.relative_to(ROOT).as_posix()] = page
        for name, picture in pictures.items():
            files.append(File.generated(config, f"{path.parent.name}/{name}", content=picture))
    pages = {name: (ROOT / file).read_text(encoding="utf-8") for file, name in NAMES.items()}
    pages |= {f"api/{package}.md": _package_page(package, modules) for package, modules in packages().items()}
    pages["help.md"] = _commands_page()
    pages |= {page_of(file): text for file, text in notebooks.items()}
    for file, text in [*((f, pages[n]) for f, n in NAMES.items()), *_written(files), *notebooks.items()]:
        for target in targets(text):
            shown = posixpath.normpath(posixpath.join(posixpath.dirname(file), target))
            if shown not in NAMES and _outside(shown):
                pages[page_of(shown)] = _file_page(shown)
    for name, text in pages.items():
        if (old := files.get_file_from_path(name)) is not None:
            files.remove(old)
        files.append(File.generated(config, name, content=text))
    return files


def _written(files: Files) -> Iterator[tuple[str, str]]:
    """Yield the pages of docs/: file of the checkout, text."""
    for file in files.documentation_pages():
        if file.src_uri != "index.md":
            yield f"docs/{file.src_uri}", file.content_string


def _outside(shown: str) -> bool:
    """Return whether a link's target is a file or folder that no page of docs/ is, and no module."""
    page = shown.startswith("docs/") and not shown.startswith("docs/results/data")
    return (ROOT / shown).exists() and not page and not _module(shown)


def _module(shown: str) -> str:
    """Return the dotted name of a module in the reference, "" for another file."""
    path = Path(shown)
    if path.parts[0] != "src" or path.suffix != ".py" or path.stem.startswith("__"):
        return ""
    return ".".join(("oamarl", *path.with_suffix("").parts[1:]))


def _file_page(shown: str) -> str:
    """Return a page that shows a file of the checkout, or the files of a folder."""
    path = ROOT / shown
    names = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file() and ".egg" not in str(p))
    text = f"# {shown}\n\n"
    if len(names) > 20:
        return text + "".join(f"- {p.relative_to(path)}\n" for p in names)
    for p in names:
        head = f"## {p.relative_to(path)}\n\n" if path.is_dir() else ""
        content = p.read_text(encoding="utf-8") if p.stat().st_size < MOST else "(too long to be shown here)"
        language = {".py": "python", ".yaml": "yaml", ".toml": "toml", ".cff": "yaml"}.get(p.suffix, "text")
        text += f"{head}~~~~~~{language}\n{content}\n~~~~~~\n\n"
    return text


def _notebook_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return the page that shows a notebook with its stored outputs, and its pictures by file name."""
    pages, pictures = [], {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            pages.append(re.sub(r"\$\$(.*?)\$\$", r"```math\n\1\n```", source, flags=re.S))
            continue
        pages.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{path.stem}-{len(pictures)}.png"
                pictures[name] = base64.b64decode("".join(data["image/png"]))
                pages.append(f"![What the cell draws]({name})")
            elif "text/markdown" in data:
                pages.append("".join(data["text/markdown"]))
            else:
                pages.append("```text\n" + "".join(output.get("text") or data["text/plain"]).rstrip() + "\n```")
    link = f'<a href="{path.name}" download>This page as a notebook</a>'
    pages.insert(1, link)
    return "\n\n".join(pages) + "\n", pictures


# -- links and equations -----------------------------------------------------------------------------------------------


def targets(text: str) -> Iterator[str]:
    """Yield the targets of a page's links into the checkout."""
    # a link's text may be code, its target is not
    for link in LINK.finditer(_FENCE.sub("", text)):
        if link[2] and "://" not in link[2] and not link[2].startswith("mailto:"):
            yield link[2]


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite links out of docs/, and keep equations from Markdown."""
    here = page.file.src_uri
    if here == "configuration.md":
        page.meta["search"] = {"boost": 4}  # who looks for a key wants its row
    if here.startswith(("api/", "files/")):
        return markdown
    file = next((f for f, name in NAMES.items() if name == here), f"docs/{here}")

    def rewritten(link: re.Match[str]) -> str:
        target = link[2]
        drawn = here.startswith("tutorials/") and target.endswith(".png")  # a notebook's picture lies beside its page
        if not target or "://" in target or target.startswith("mailto:") or drawn:
            return link[0]
        shown = posixpath.normpath(posixpath.join(posixpath.dirname(file), target))
        anchor = link[3] or ""
        if module := _module(shown):
            shown, anchor = f"api/{module.rpartition('.')[0]}.md", f"#{module}"
        elif not (ROOT / shown).exists():
            raise PluginError(f"{file} links to {target}, which is not there.")
        else:
            shown = page_of(shown)
        return f"{link[1]}{posixpath.relpath(shown, posixpath.dirname(here) or '.')}{anchor}{link[4]}"

    equations: list[str] = []
    page.meta["equations"] = equations

    def kept(tex: str, display: str) -> str:
        equations.append(convert(tex.strip(), display=display))
        return f"EQUATION{len(equations) - 1}N"

    blocks = _FENCE.sub(lambda f: f"{kept(f[4], 'block')}\n" if f[3] == "math" else f[0], markdown)
    text = _INLINE.sub(lambda f: kept(f[1], "inline"), blocks)
    pieces, parts = [], re.split(r"(^ *```.*?^ *```+ *$)", text, flags=re.M | re.S)
    for part in parts:
        pieces.append(part if part.lstrip().startswith("```") else LINK.sub(rewritten, part))
    return "".join(pieces)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put equations in, and leave the source out of the search."""
    for number, equation in enumerate(page.meta.get("equations", [])):
        html = html.replace(f"EQUATION{number}N", equation)
    return html.replace(
        '<details class="mkdocstrings-source">', '<details class="mkdocstrings-source" data-search-exclude>'
    )


def on_post_build(config: MkDocsConfig) -> None:
    """Write the search's index as a script, for pages opened without a server; remove what the build needed."""
    index = Path(config.site_dir, "search", "search_index.json")
    index.with_suffix(".js").write_text(f"var __index = {index.read_text(encoding='utf-8')}", encoding="utf-8")
    for path in config.plugins["mkdocstrings"].config.handlers["python"]["paths"]:
        Path(path, "oamarl").unlink(missing_ok=True)
        Path(path).rmdir()
