"""What README.md and docs/ print: their code blocks, a fresh copy of the checkout, and a shell in it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from conftest import PATIENCE, ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: languages of blocks that a reader runs or stores as a file; `text` is what a program or a picture shows
FILES = ("yaml", "python", "toml")
SHELL = ("sh", "bash")

#: keeps what a shell exports for the next block, and notes each command that ends with a status other than 0
_SCRIPT = """
[ -f "$PAGE_STATE" ] && . "$PAGE_STATE"
trap 'printf "%s\\t%s\\n" "$?" "$BASH_COMMAND" >> "$PAGE_FAILED"' ERR
{block}
trap - ERR
export -p > "$PAGE_STATE"
"""

#: runs the pages' Python blocks in one namespace: reads names of files, answers a line for each
_PYTHON = """
import sys, traceback
space = {"__name__": "__main__"}
for line in sys.stdin:
    path = line.strip()
    try:
        exec(compile(open(path, encoding="utf-8").read(), path, "exec"), space)
        print("<done>", flush=True)
    except BaseException:
        print(traceback.format_exc(), "<failed>", sep="\\n", flush=True)
"""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its number among those of this language on the page (from 0), what it holds."""

    language: str
    number: int
    text: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    counts: dict[str, int] = {}
    found = []
    for language, text in re.findall(r"^```(\S*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S):
        counts[language] = counts.get(language, -1) + 1
        found.append(Block(language, counts[language], text))
    return found


def bare(line: str) -> str:
    """A line of a shell block without the remark at its end."""
    return re.sub(r"(^|\s+)#( .*|$)", "", line).strip()


def copy_files(folder: Path) -> Path:
    """Copy what git keeps (and what is new) to ``folder``."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True,
        text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():  # not one that has been deleted
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def copy_checkout(folder: Path) -> Path:
    """Copy the checkout to ``folder``, with the virtual environment of the tests as `.venv`."""
    copy_files(folder)
    # of the environment's own files everything but `activate`, which names the folder that it was made in
    own, shared = folder / ".venv", Path(sys.prefix)
    (own / "bin").mkdir(parents=True)
    for path in (p for p in shared.iterdir() if p.name != "bin"):
        (own / path.name).symlink_to(path)
    for path in (p for p in (shared / "bin").iterdir() if p.name != "activate"):
        (own / "bin" / path.name).symlink_to(path)
    (own / "bin" / "activate").write_text(f'export VIRTUAL_ENV="{own}" PATH="{own}/bin:$PATH"\n')
    return folder


@dataclass
class Shell:
    """One reader's terminal, in a fresh copy of the checkout: variables stay from block to block.

    | field | meaning |
    |---|---|
    | folder | the copy |
    | said | everything that was printed so far |
    """

    folder: Path
    env: dict[str, str]
    said: str = ""
    _python: subprocess.Popen[str] | None = None
    _blocks: list[Path] = field(default_factory=list)

    def run(self, block: str) -> list[tuple[int, str]]:
        """Run a shell block; return the statuses other than 0, each with its command."""
        failed = self._beside("failed")
        failed.unlink(missing_ok=True)
        done = subprocess.run(
            ["bash", "-c", _SCRIPT.format(block=block)], cwd=self.folder, stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE, check=False,
            env={**self.env, "PAGE_STATE": str(self._beside("state")), "PAGE_FAILED": str(failed)},
        )  # fmt: skip
        self.said += done.stdout
        # a command may be of several lines, such as a here-document
        lines = re.findall(r"^(\d+)\t(.*)$", failed.read_text(), flags=re.MULTILINE) if failed.exists() else []
        found = [(int(status), command) for status, command in lines]
        return found + ([] if done.returncode == 0 or found else [(done.returncode, "the block")])

    def python(self, block: str) -> bool:
        """Run a Python block where the page's earlier ones ran; return whether it came to its end."""
        if self._python is None:
            self._python = subprocess.Popen(
                [str(self.folder / ".venv/bin/python"), "-c", _PYTHON], cwd=self.folder, env=self.env, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
        assert self._python.stdin is not None
        assert self._python.stdout is not None
        path = self._beside(f"block{len(self._blocks)}.py")
        path.write_text(block)
        self._blocks.append(path)
        print(path, file=self._python.stdin, flush=True)
        for line in self._python.stdout:
            if line in ("<done>\n", "<failed>\n"):
                return line == "<done>\n"
            self.said += line
        return False

    def close(self) -> None:
        """End the page's Python."""
        if self._python is not None:
            self._python.communicate(timeout=PATIENCE)

    def _beside(self, name: str) -> Path:
        return self.folder.parent / f"page-{name}"


def open_shell(folder: Path) -> Shell:
    """Return a shell in a fresh copy below ``folder``, where runs are short (``short_runs``) and few things are set."""
    copy = copy_checkout(folder / "checkout")
    site, home = folder / "site", folder / "home"
    site.mkdir()
    home.mkdir()
    (site / "oamarl").symlink_to(copy / "src")  # before the checkout that the environment was made for
    shutil.copy2(ROOT / "tests" / "helpers" / "short_runs" / "sitecustomize.py", site)
    env = {k: v for k, v in os.environ.items() if k not in ("MONGO_URL", "SC2PATH", "RAY_ADDRESS", "VIRTUAL_ENV")}
    env["JAX_COMPILATION_CACHE_DIR"] = str(folder.parent / "jax")  # two pages play the same map
    env |= {"PATH": f"{copy / '.venv/bin'}:{env['PATH']}", "PYTHONPATH": str(site), "HOME": str(home)}
    return Shell(copy, env | {"XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))})
