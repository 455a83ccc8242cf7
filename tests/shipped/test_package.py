"""The package as a stranger gets it: built from its sdist, checked, installed away from any checkout, used there."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from oamarl.utils import project

from conftest import PATIENCE, ROOT, SRC
from printed import copy_files

PYTHONS = re.findall(r"Python :: (3\.\d+)", (ROOT / "setup.py").read_text(encoding="utf-8"))
#: builds as a front end such as `pip wheel` does, with the setuptools that is installed
BUILD = "import sys; from setuptools import build_meta as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"
#: of each module's `from STANDARD_LIBRARY import NAME`: what this Python lacks
STANDARD = """
import ast, pathlib, sys
for path in sorted(pathlib.Path(sys.argv[1]).rglob("*.py")):
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level and node.module.split(".")[0] in sys.stdlib_module_names:
            exec(compile(ast.Module([node], []), str(path), "exec"))
"""


@dataclass(frozen=True)
class Built:
    """The two files of a release, and the names in them, without the leading folder of the sdist."""

    sdist: Path
    wheel: Path
    in_sdist: frozenset[str]
    in_wheel: frozenset[str]


def _build(what: str, source: Path, target: Path) -> Path:
    target.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", BUILD, what, str(target)], cwd=source, capture_output=True, text=True, timeout=PATIENCE,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return target / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """An sdist of what git keeps, and a wheel built from the sdist alone."""
    folder = tmp_path_factory.mktemp("package")
    sdist = _build("build_sdist", copy_files(folder / "checkout"), folder / "dist")
    with tarfile.open(sdist) as archive:
        names = [member.name for member in archive.getmembers() if member.isfile()]
        archive.extractall(folder / "unpacked", filter="data")
    (source,) = (folder / "unpacked").iterdir()
    wheel = _build("build_wheel", source, folder / "dist")
    with zipfile.ZipFile(wheel) as archive:
        inside = frozenset(archive.namelist())
    return Built(sdist, wheel, frozenset(name.partition("/")[2] for name in names), inside)


def _kept(*folders: str) -> set[str]:
    """Return the files that git keeps, or would, below folders of the checkout."""
    return set(
        subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", *folders], cwd=ROOT, capture_output=True,
            text=True, check=True,
        ).stdout.splitlines()
    )  # fmt: skip


@pytest.mark.slow
def test_the_wheel_has_the_whole_source_and_every_page(built: Built) -> None:
    source = {f"oamarl/{name.removeprefix('src/')}" for name in _kept("src") if (ROOT / name).is_file()}
    pages = {
        f"oamarl/{name}"
        for name in _kept("docs")
        if re.fullmatch(r"docs/(methods/|tutorials/)?[\w-]+\.(md|ipynb)", name)
    }
    pages |= {f"oamarl/{name}" for name in _kept("docs/images") if (ROOT / name).is_file()}
    teams = {f"oamarl/{name}" for name in _kept("zoo") if (ROOT / name).is_file()}
    assert source | pages | teams == {name for name in built.in_wheel if ".dist-info/" not in name}
    kinds = {Path(name).suffix or Path(name).name for name in source}
    assert {".py", ".yaml", ".c", ".h", ".typed"} <= kinds | {Path(name).suffix for name in source}


@pytest.mark.slow
def test_the_sdist_is_what_a_build_needs(built: Built) -> None:
    assert {"setup.py", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"} <= built.in_sdist
    tops = {name.partition("/")[0] for name in built.in_sdist}
    assert not tops & {"tests", "results", "benchmarks", "experiments", ".venv"}
    assert not any("/results/" in name for name in built.in_sdist), "curves of experiments are not part of the package"


@pytest.mark.slow
def test_an_index_would_take_it(built: Built) -> None:
    pytest.importorskip("twine", reason="twine is not installed: pip install -e '.[dev]'")
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", str(built.sdist), str(built.wheel)], capture_output=True,
        text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


# -- installed -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel, and an empty folder to work in."""

    folder: Path
    work: Path

    def call(self, *words: str) -> str:
        """Run a program of the environment; return what it printed."""
        done = self.attempt(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def attempt(self, *words: str) -> subprocess.CompletedProcess[str]:
        env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
        return subprocess.run(
            [str(self.folder / "bin" / words[0]), *words[1:]], cwd=self.work, capture_output=True, text=True,
            env=env, stdin=subprocess.DEVNULL, timeout=PATIENCE, check=False,
        )  # fmt: skip


def required(name: str) -> frozenset[str]:
    """The distributions that pip installs with one, itself among them, by their normalised names."""
    found, waiting = set(), [(canonicalize_name(name), frozenset({""}))]
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in found:
            continue
        found.add((name, extras))
        for line in importlib.metadata.requires(name) or ():
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append((canonicalize_name(needed.name), frozenset({"", *needed.extras})))
    return frozenset(name for name, _ in found)


#: in the environment of the wheel: modules that it would not have are not found
ABSENT = """
import sys
from importlib.machinery import PathFinder
class Absent:
    names = frozenset({names!r})
    def find_spec(self, name, path=None, target=None):
        if name in self.names:  # another package may bring one of the same name
            found = PathFinder.find_spec(name, [x for x in sys.path if x != {folder!r}])
            if found is None:
                raise ModuleNotFoundError(f"No module named {{name!r}}: no dependency of oamarl brings it", name=name)
            return found
sys.meta_path.insert(0, Absent())
"""


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel in an environment of its own, with those packages of the tests' environment that it depends on."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True, timeout=PATIENCE)
    one = Installed(folder / "venv", folder / "work")
    one.work.mkdir()
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "venv" / "bin" / "python"), "install", "-q"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(built.wheel)], check=True, timeout=PATIENCE)
    # a path file of a path file is not read: the editable install of this checkout stays out
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    there, needed = importlib.metadata.packages_distributions(), required("oamarl")
    absent = sorted(name for name, of in there.items() if needed.isdisjoint(map(canonicalize_name, of)))
    assert {"pytest", "vmas", "mujoco"} & set(there) <= set(absent)
    assert {"torch", "numpy", "sacred"}.isdisjoint(absent)
    packages = sysconfig.get_path("purelib")
    (site / "_absent.py").write_text(ABSENT.format(names=absent, folder=packages))
    (site / "dependencies.pth").write_text(f"{packages}\nimport _absent\n")
    return one


def use(one: Installed) -> None:
    """Train, look, plot, evaluate and load, as a user of the wheel does."""
    assert one.call("oamarl", "--version").startswith("oamarl ")
    words = ["seed=1", "t_max=640", "test_interval=320", "test_nepisode=2"]
    one.call("oamarl", "--config=oappo", "--env-config=maze", "with", *words)
    run = one.work / "results" / "sacred" / "oappo" / "black_red" / "1"
    assert run.is_dir(), "results of an installed package go to ./results"
    assert "oappo" in one.call("oamarl", "showcase", "latest").lower()
    one.call("oamarl", "plot", "results", "--out", "curves.png")
    assert (one.work / "curves.png").stat().st_size > 1000
    assert "episode length" in one.call("oamarl", "evaluate", str(run), "--episodes", "2")
    assert one.call("python", "-c", USE).startswith("Team ")


USE = """
import oamarl
from pathlib import Path
folder = Path(oamarl.__file__).parent
assert folder.name == "oamarl" and folder.parent.name == "site-packages", folder
run = next(Path("results/sacred").glob("*/*/[0-9]*"))
team = oamarl.load(run)
print(type(team).__name__, folder)
"""


@pytest.mark.slow
def test_a_user_of_the_wheel_trains_looks_and_loads(installed: Installed) -> None:
    use(installed)
    shown = installed.call("oamarl", "config", "--config=oappo", "--env-config=maze", "with", "t_max=640")
    assert re.search(r"^t_max +640 +command line$", shown, re.MULTILINE)
    assert "equal" in installed.call("oamarl", "zoo", "evaluate", "maze-black-red-oappo", "--episodes", "2")


@pytest.mark.slow
def test_what_a_wheel_says_can_be_opened_there(installed: Installed) -> None:
    """Pages are named by where they lie, and extras by a command that asks no index for oamarl."""
    said = [installed.call("oamarl", *words) for words in (("train", "--help"), ("sweep", "--help"), ("list",))]
    said.append(installed.attempt("oamarl", "config", "zzzzz").stderr)
    of_checkout = [installed.call("oamarl", "--help"), installed.attempt("oamarl", "sweep").stderr, *said]
    assert not [name for name in ("experiments/", "src/main.py") if name in " ".join(of_checkout)]
    pages = re.findall(r"/\S+/oamarl/docs/\S+?\.md", " ".join(said))
    assert {Path(page).name for page in pages} == {"configuration.md", "sweeps.md"}
    for page in pages:
        assert Path(page).is_file(), page
    assert f"{installed.folder}/lib" in said[2].splitlines()[-1], "`list` says where the pages lie that it names"
    assert "pip install 'oamarl[smax]'" in said[2]
    assert "-e '." not in " ".join(said)


# -- how pages and extras are named --------------------------------------------------------------------------------


def test_pages_and_extras_in_a_checkout_and_in_a_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert project.page("smax.md", "what-differs-from-smac") == "docs/smax.md#what-differs-from-smac"
    assert project.extra("smax") == "pip install -e '.[smax]'"
    assert project.pages_note() == ""
    monkeypatch.setattr(project, "PACKAGE", tmp_path / "oamarl")
    assert project.page("smax.md") == f"{tmp_path}/oamarl/docs/smax.md"
    assert project.as_here("SMAX (pip install -e '.[smax]')") == "SMAX (pip install 'oamarl[smax]')"
    assert project.pages_note() == f"The pages docs/... are in {tmp_path}/oamarl/docs"
    monkeypatch.setattr(project, "SITE", "https://example.org/oamarl/")
    assert project.page("smax.md", "a") == "https://example.org/oamarl/smax.html#a"


def test_pages_that_the_source_names_are_there() -> None:
    """Pages in messages are named by `page`; those in comments and docstrings are files, in the package too."""
    for path in sorted((*SRC.rglob("*.py"), *SRC.rglob("*.yaml"))):
        text = path.read_text(encoding="utf-8")
        for name in [*re.findall(r"\bdocs/([\w-]+\.md)", text), *re.findall(r"\bpage\([\"']([\w-]+\.md)", text)]:
            assert (ROOT / "docs" / name).is_file(), f"{path} names docs/{name}"
        if path.suffix == ".py" and path.name != "project.py":
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.JoinedStr) or (
                    isinstance(node, ast.Call) and "Error" in ast.unparse(node.func)
                ):
                    assert "docs/" not in ast.unparse(node).replace("docs/...", ""), f"{path}, line {node.lineno}"


# -- containers ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe", sorted(path.name for path in (ROOT / "containers").iterdir() if path.suffix != ".sh")
)
def test_containers_copy_what_the_build_needs(recipe: str, built: Built, tmp_path: Path) -> None:
    """The files that a recipe copies are there, and a wheel can be built from them alone, with all its files."""
    text = (ROOT / "containers" / recipe).read_text(encoding="utf-8")
    if recipe.endswith(".def"):
        section = text.partition("%files\n")[2].partition("\n\n")[0]
        pairs = [line.split() for line in section.splitlines()]
        names = [source for source, target in pairs if target == f"/opt/oamarl/{source}"]
        assert len(names) == len(pairs), section
        assert set(re.findall(r"{{ (\w+) }}", text)) == set(
            re.findall(r"^    (\w+)=", text.partition("%post")[0], re.M)
        )
    else:
        names = [name for line in re.findall(r"^COPY (.*)$", text, re.M) for name in line.split()[:-1]]
        assert set(re.findall(r"\$(\w+)", "\n".join(re.findall(r"^RUN (?:.*\\\n)*.*", text, re.M)))) == set(
            re.findall(r"^ARG (\w+)=", text, re.M)
        )
    for name in names:
        assert (ROOT / name).exists(), f"{recipe} copies {name}, which is not there"
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, tmp_path / name)
    with zipfile.ZipFile(_build("build_wheel", tmp_path, tmp_path / "dist")) as archive:
        assert {n for n in archive.namelist() if "__pycache__" not in n} == built.in_wheel


# -- each Python ---------------------------------------------------------------------------------------------------


def _interpreter(version: str) -> str | None:
    """Return a Python of this version, on the path or among pyenv's, None where there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found: Sequence[str | None] = [shutil.which(f"python{version}"), *map(str, pyenv.glob(f"{version}.*/bin/python"))]
    for path in filter(None, found):
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=PATIENCE)
        if said.returncode == 0 and said.stdout.startswith(f"Python {version}."):
            return path
    return None


@pytest.mark.slow
@pytest.mark.parametrize("version", PYTHONS)
def test_each_python_compiles_the_source_and_has_its_standard_library(version: str, tmp_path: Path) -> None:
    python = _interpreter(version)
    if python is None:
        pytest.skip(f"there is no Python {version} here")
    (tmp_path / "oamarl").symlink_to(SRC)
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONPYCACHEPREFIX": str(tmp_path / "cache")}
    calls = (
        ["-W", "error::SyntaxWarning", "-m", "compileall", "-q", str(SRC)],
        ["-c", STANDARD, str(SRC)],
        ["-c", "import oamarl; from oamarl import main; print(oamarl.__version__)"],
    )
    for words in calls:
        done = subprocess.run(
            [python, *words], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.skipif("OAMARL_PYTHONS" not in os.environ, reason="set OAMARL_PYTHONS=1: it takes minutes and an index")
@pytest.mark.parametrize("version", PYTHONS)
def test_each_python_installs_the_wheel_and_trains(version: str, built: Built, tmp_path: Path) -> None:
    """With all that it depends on, from the index that pip asks; torch first, by the README's line."""
    python = _interpreter(version)
    if python is None:
        pytest.skip(f"there is no Python {version} here")
    one = Installed(tmp_path / "venv", tmp_path / "work")
    one.work.mkdir()
    subprocess.run([python, "-m", "venv", str(one.folder)], check=True, timeout=PATIENCE)
    for words in (["torch==2.13.0"], [str(built.wheel)]):
        one.call("python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *words)
    use(one)
