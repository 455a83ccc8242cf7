"""Imports point down only, and what environment workers load never imports torch."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parent.parent / "src"

#: each floor may import itself and what is below it; parts of one floor do not know each other
FLOORS = [
    {"main", "tools", "__main__"},
    {
        "run",
        "resume",
        "training",
        "curve",
        "settings",
        "experiment",
        "team",
        "evaluation",
        "evaluation_run",
        "selective",
    },
    {"learners", "runners"},
    {"controllers", "envs"},
    {"modules", "analysis"},
    {"components"},
]
LEVEL = {part: height for height, parts in enumerate(reversed(FLOORS)) for part in parts}
#: which neighbours on one floor may be imported
NEIGHBOURS = {
    ("controllers", "envs"),  # EnvInfo
    ("run", "settings"), ("run", "experiment"), ("settings", "run"), ("run", "resume"), ("run", "training"),
    ("run", "selective"), ("team", "selective"), ("training", "resume"), ("training", "curve"), ("resume", "settings"),
    ("evaluation", "team"), ("evaluation_run", "evaluation"), ("evaluation_run", "team"),
    ("evaluation_run", "settings"), ("evaluation_run", "experiment"),
    ("main", "tools"), ("tools", "main"), ("__main__", "main"),
}  # fmt: skip
#: loaded by environment workers, or by every start of the program
LIGHT = ["main.py", "__main__.py", "utils/errors.py", "utils/schema/keys.py", "components/seeding.py",
         "utils/schema/registry.py", "utils/schema/command_line.py", "utils/schema/layers.py", "utils/schema/vocabulary.py",
         "utils/schema/yamls.py", "settings.py"]  # fmt: skip


def modules() -> list[Path]:
    return sorted(SRC.rglob("*.py"))


def part_of(path: Path) -> str:
    top = path.relative_to(SRC).parts[0]
    return top.removesuffix(".py")


def imports(path: Path, tree: ast.AST) -> list[tuple[str, int]]:
    """Return (dotted module from the package's root, line) of all imports of the package's own modules."""
    here = list(path.relative_to(SRC).with_suffix("").parts)
    package = here[:-1]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(a.name.removeprefix("oamarl."), node.lineno) for a in node.names if a.name.startswith("oamarl.")]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                base = package[: len(package) - (node.level - 1)]
                names = [module] if module else [a.name for a in node.names]
                found += [(".".join([*base, name]), node.lineno) for name in names]
            elif module == "oamarl" or module.startswith("oamarl."):
                found.append((module.removeprefix("oamarl").lstrip("."), node.lineno))
    return found


def top_level_imports(tree: ast.Module) -> list[str]:
    """Return the outside modules imported when the file is loaded (functions and TYPE_CHECKING left out)."""
    found: list[str] = []

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                continue
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                found.extend(a.name.split(".")[0] for a in child.names)
            elif isinstance(child, ast.ImportFrom) and not child.level and child.module:
                found.append(child.module.split(".")[0])
            visit(child)

    visit(tree)
    return found


def test_there_is_something_to_check():
    assert len(modules()) > 10


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SRC)))
def test_imports_point_down(path: Path):
    mine = part_of(path)
    if mine == "__init__":
        return
    assert mine in LEVEL, f"{path.name} stands on no floor"
    for name, line in imports(path, ast.parse(path.read_text(encoding="utf-8"))):
        theirs = name.split(".")[0]
        if theirs in ("", "__version__", mine):
            continue
        assert theirs in LEVEL, f"{path}:{line} imports {name}, which stands on no floor"
        fine = LEVEL[theirs] < LEVEL[mine] or (mine, theirs) in NEIGHBOURS
        assert fine, f"{path}:{line}: {mine} imports {name} ({theirs} does not lie below)"


def light_files() -> list[Path]:
    inits = [p for p in modules() if p.name == "__init__.py"]
    return sorted({*(SRC / name for name in LIGHT), *SRC.glob("envs/*.py"), *inits})


@pytest.mark.parametrize("path", light_files(), ids=lambda p: str(p.relative_to(SRC)))
def test_light_modules_import_no_torch(path: Path):
    heavy = {"torch", "sacred", "matplotlib", "pandas"}
    assert not heavy & set(top_level_imports(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("module", ["oamarl.envs.vector.base", "oamarl.main", "oamarl.settings", "oamarl.tools.list"])
def test_importing_leaves_torch_out(module: str):
    code = f"import {module}, sys; sys.exit('torch' in sys.modules or 'sacred' in sys.modules)"
    script = (
        "import importlib.util as u, sys\n"
        f"s = u.spec_from_file_location('entry', {str(SRC / 'main.py')!r}); m = u.module_from_spec(s)\n"
        "s.loader.exec_module(m); m.as_package()\n" + code
    )
    done = subprocess.run([sys.executable, "-c", script], env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr or "torch or sacred was loaded"


def test_the_check_sees_a_wrong_import():
    tree = ast.parse("from ..learners.ppo import PPO\nfrom oamarl.run import run\n")
    assert imports(SRC / "components/x.py", tree) == [("learners.ppo", 1), ("run", 2)]
    assert top_level_imports(ast.parse("if 1:\n    import torch.nn\ndef f():\n    import sacred\n")) == ["torch"]
