"""The house: imports point down only and never in a circle, rooms stay small, and what must be light imports no torch.

docs/architecture.md draws the floors. Names of parts that are given as text (``".training.run_config:RunConfig"``)
count as imports of the module that they stand in, in the package that looks them up.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"

#: from the ground up: a part may import what stands below it; parts of one floor are strangers to each other
FLOORS = [
    {"utils"},
    {"components"},
    {"storage"},
    {"modules", "analysis"},
    {"envs"},
    {"controllers"},
    {"learners", "runners"},
    {"selection"},
    {"settings"},
    {"training"},
    {"evaluation", "tabular"},
    {"run", "parts"},
    {"tools", "main", "__main__"},
]
HEIGHT = {part: height for height, parts in enumerate(FLOORS) for part in parts}
#: the program and its tools are one: each starts the other
TOGETHER = {("main", "tools"), ("tools", "main"), ("__main__", "main")}
#: modules of a folder; `config/algs` and the tests' helpers are lists, not rooms
MOST = 15
#: what these load when they are imported must not bring torch: workers and every start of the program wait for it
LIGHT = ["", "main", "__main__", "selection", "settings", "parts", "tools.list", "envs.build", "envs.vector.make",
         "envs.vector.process", "envs.vector.worker", "envs.vector.remote.vec", "envs.vector.remote.host",
         "modules.kernels.numpy_policy", "components.seeding", "tabular.tables", "tabular.player",
         "tabular.measures"]  # fmt: skip
HEAVY = {"torch", "sacred", "matplotlib", "pandas", "jax", "ray"}
#: a part given as text
_PART = re.compile(r"(\.[\w.]+):[A-Za-z_]\w*")


def modules() -> dict[str, Path]:
    """Return dotted name below the package ("" is the package itself) -> file."""
    found = {}
    for path in sorted(SRC.rglob("*.py")):
        parts = path.relative_to(SRC).with_suffix("").parts
        found[".".join(p for p in parts if p != "__init__")] = path
    return found


MODULES = modules()


def part_of(name: str) -> str:
    return name.partition(".")[0]


def absolute(module: str, path: Path, node: ast.ImportFrom) -> str | None:
    """Return the package's module that ``from ... import`` names, or None for one of another package."""
    named = node.module or ""
    if not node.level:
        return named.removeprefix("oamarl").lstrip(".") if named.partition(".")[0] == "oamarl" else None
    here = module.split(".") if module else []
    here = here if path.name == "__init__.py" else here[:-1]
    here = here[: len(here) - (node.level - 1)]
    return ".".join([*here, *([named] if named else [])])


def imports(module: str, path: Path, tree: ast.AST, known: dict[str, Path] = MODULES) -> Iterator[tuple[str, int]]:
    """Yield (module, line) of every import of the package's own modules, wherever in the file it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "oamarl":
                    yield alias.name.removeprefix("oamarl").lstrip("."), node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = absolute(module, path, node)
            if base is None:
                continue
            for alias in node.names:
                inner = f"{base}.{alias.name}".lstrip(".")
                yield (inner if inner in known else base), node.lineno


def named_parts(module: str, path: Path, tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield (module, line) of the parts that a file names in text."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _PART.fullmatch(node.value):
            yield f"{package}.{node.value.partition(':')[0][1:]}".lstrip("."), node.lineno


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def loaded(tree: ast.Module) -> ast.Module:
    """Return what runs when a file is imported: no bodies of functions, nothing for type checkers alone."""

    class Cut(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None: ...

        def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None: ...

        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if "TYPE_CHECKING" in ast.unparse(node.test) else self.generic_visit(node)

    return ast.fix_missing_locations(Cut().visit(tree))


def outside(tree: ast.AST) -> set[str]:
    """Return the other packages that a file imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.name.partition(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.partition(".")[0])
    return found - {"oamarl"}


def parents(name: str) -> Iterator[str]:
    """Yield a module, and the packages that are imported before it."""
    while True:
        yield name
        if not name:
            return
        name = name.rpartition(".")[0]


def circle(edges: dict[str, set[str]]) -> list[str]:
    """Return modules that import one another in a ring, or nothing."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for other in sorted(edges.get(name, ())):
            found = visit(other, [*path, name])
            if found:
                return found
        done.add(name)
        return []

    return next((found for name in sorted(edges) if (found := visit(name, []))), [])


def test_every_module_stands_on_a_floor() -> None:
    strays = {part_of(name) for name in MODULES if name} - set(HEIGHT)
    assert not strays, f"on no floor: {', '.join(sorted(strays))}"
    assert len(MODULES) > 150


@pytest.mark.parametrize("name", [n for n in MODULES if n], ids=str)
def test_imports_point_down(name: str) -> None:
    path, mine = MODULES[name], part_of(name)
    tree = parsed(path)
    for other, line in [*imports(name, path, tree), *named_parts(name, path, tree)]:
        theirs = part_of(other)
        if theirs in ("", mine) or (mine, theirs) in TOGETHER:
            continue
        where = f"{path.relative_to(ROOT)}:{line}: {name} -> {other}"
        assert theirs in HEIGHT, f"{where}: there is no such part"
        assert HEIGHT[theirs] != HEIGHT[mine], f"{where}: {mine} and {theirs} are strangers on one floor"
        assert HEIGHT[theirs] < HEIGHT[mine], f"{where}: {theirs} stands above {mine}"


def test_no_modules_import_one_another_in_a_circle() -> None:
    edges = {
        name: {other for other, _ in imports(name, path, parsed(path)) if other and other != name}
        for name, path in MODULES.items()
        if name
    }
    found = circle(edges)
    assert not found, " -> ".join(found)


def test_the_parts_of_every_run_are_there() -> None:
    found = [other for other, _ in named_parts("parts", MODULES["parts"], parsed(MODULES["parts"]))]
    assert "training.run_config" in found
    assert set(found) <= set(MODULES)


def test_the_run_knows_no_learner_and_no_network() -> None:
    """What trains, resumes, evaluates and loads a team works through the contracts: for parts of any kind."""
    own = re.compile(
        r"\b(theta|hidden_dim|first_order|seps|selective|AgentGroups)\b|learner\.value\b|network\.params\b", re.I
    )
    for name, path in MODULES.items():
        if part_of(name) in ("run", "parts", "settings", "training", "evaluation"):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                assert not own.search(line), f"{path.relative_to(ROOT)}:{number} names a part's own: {line.strip()}"


def test_rooms_are_small() -> None:
    rooms: dict[str, int] = {}
    for top in (SRC, ROOT / "tests"):
        for path in top.rglob("*.py"):
            if path.name != "__init__.py" and "standins" not in path.parts:
                room = str(path.parent.relative_to(ROOT))
                rooms[room] = rooms.get(room, 0) + 1
    full = {room: n for room, n in rooms.items() if n > MOST}
    assert not full, f"more than {MOST} modules: {full}"


@pytest.mark.parametrize("name", LIGHT, ids=lambda n: n or "oamarl")
def test_what_must_be_light_loads_no_torch(name: str) -> None:
    reached: dict[str, list[str]] = {}
    waiting = [(name, [name])]
    while waiting:
        module, way = waiting.pop()
        for each in parents(module):
            if each in reached or each not in MODULES:
                continue
            reached[each] = way
            tree = loaded(parsed(MODULES[each]))
            heavy = outside(tree) & HEAVY
            assert not heavy, f"{' -> '.join([*way, each])} imports {', '.join(sorted(heavy))}"
            waiting += [(other, [*way, other]) for other, _ in imports(each, MODULES[each], tree)]


@pytest.mark.parametrize(
    "module", ["oamarl.envs.vector.make", "oamarl.main", "oamarl.settings", "oamarl.parts", "oamarl.tools.list"]
)
def test_importing_leaves_torch_out(module: str) -> None:
    code = f"import {module}, sys; sys.exit('torch' in sys.modules or 'sacred' in sys.modules)"
    script = (
        "import importlib.util as u, sys\n"
        f"s = u.spec_from_file_location('entry', {str(SRC / 'main.py')!r}); m = u.module_from_spec(s)\n"
        "s.loader.exec_module(m); m.as_package()\n" + code
    )
    done = subprocess.run([sys.executable, "-c", script], env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr or "torch or sacred was loaded"


def test_the_checks_see_what_they_look_for() -> None:
    tree = ast.parse(
        "from ..learners.ppo import PPO\nfrom oamarl.run import run\nfrom . import batch\n"
        "if TYPE_CHECKING:\n    from ..envs import base\nREGISTRY = {'a': '.other:Class', 'b': 'not.ours:X'}\n"
    )
    where = SRC / "components/x.py"
    assert [m for m, _ in imports("components.x", where, tree)] == [
        "learners.ppo",
        "run",
        "components.batch",
        "envs.base",
    ]
    assert [m for m, _ in named_parts("components.x", where, tree)] == ["components.other"]
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    light = loaded(ast.parse("if 1:\n    import torch.nn\ndef f():\n    import sacred\n"))
    assert outside(light) == {"torch"}
