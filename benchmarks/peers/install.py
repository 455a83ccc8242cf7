"""The other frameworks, each in a venv of its own under a cache folder, made when first needed."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

#: first and by this very line, which gets the small build for the CPU
TORCH = "torch==2.13.0"
#: what EPyMARL's own training with MAPPO on Gymnasium environments imports, out of its requirements
EPYMARL = (
    "setuptools<81",
    "sacred",
    "PyYAML",
    "numpy",
    "gymnasium>=1.1,<1.4",
    "lbforaging>=2",
    "rware>=2",
    "pettingzoo",
)
#: its requirements ask for box2d-py and atari (through pettingzoo[all]) and more that training never imports
PYMARLZOOPLUS = (
    "setuptools<81", "numpy<2", "sacred", "PyYAML", "gymnasium", "rware>1.0.3", "lbforaging>1.1.1",
    "pettingzoo==1.24.3", "rich", "pandas", "matplotlib", "seaborn", "scipy", "scikit-learn", "tqdm", "networkx",
    "dill", "six", "tensorboard-logger", "opencv-python-headless", "pygame", "click",
)  # fmt: skip
#: pettingzoo 1.24 is the last with pettingzoo.mpe that torchrl's wrapper finds; torchrl refuses gymnasium 1.0
BENCHMARL = ("benchmarl==1.5.2", "pettingzoo==1.24.3", "pygame", "gymnasium==1.1.1", "vmas==1.5.2")
#: what HARL's training imports, and Gymnasium's tasks; MuJoCo and Gymnasium are added in this project's own versions
HARL = ("numpy", "PyYAML", "absl-py", "cloudpickle", "setproctitle", "tensorboardX", "imageio")
#: the rest are other games, and models of robots that no comparison here needs
HARL_PATHS = ("examples", "harl", "tuned_configs/mamujoco", ":(exclude)harl/envs/dexhands/DexterousHands")


class SetupError(Exception):
    """A framework cannot be had: one sentence that says why."""


@dataclass(frozen=True)
class Program:
    """An interpreter that has a framework, and where the framework stands if that must be said."""

    python: str
    folder: Path | None = None


def own() -> Program:
    """Return this project, in the interpreter that runs this."""
    return Program(sys.executable)


def epymarl(checkout: Path | None, cache: Path) -> Program:
    """Return EPyMARL from a checkout, repaired on a copy.

    Raises:
        SetupError: no checkout was given, it is none, or its packages cannot be installed.
    """
    if checkout is None:
        raise SetupError("needs a checkout of EPyMARL: give its path with --epymarl")
    folder = cache / "epymarl-source"
    shutil.rmtree(folder, ignore_errors=True)
    copy_tree(checkout, folder)
    repair(folder)
    return Program(venv(cache / "epymarl", EPYMARL), folder)


def harl(checkout: Path | None, cache: Path) -> Program:
    """Return HARL from a checkout, unchanged; its environment is this project's, with this project's MuJoCo.

    Raises:
        SetupError: no checkout was given, it is none, or packages are missing here or cannot be installed.
    """
    if checkout is None:
        raise SetupError("needs a checkout of HARL: give its path with --harl")
    try:
        same = tuple(f"{name}=={importlib.metadata.version(name)}" for name in ("gymnasium", "mujoco"))
    except importlib.metadata.PackageNotFoundError as error:
        raise SetupError(f"needs {error.name} here as well: pip install -e '.[mamujoco]'") from None
    folder = cache / "harl-source"
    shutil.rmtree(folder, ignore_errors=True)
    copy_tree(checkout, folder, "HARL", "examples/train.py", HARL_PATHS)
    return Program(venv(cache / "harl", (*HARL, *same)), folder)


def pymarlzooplus(cache: Path) -> Program:
    """Return pymarlzooplus of PyPI; raises :class:`SetupError`."""
    return Program(venv(cache / "pymarlzooplus", PYMARLZOOPLUS, ("pymarlzooplus==1.1.0",)))


def benchmarl(cache: Path) -> Program:
    """Return BenchMARL of PyPI; raises :class:`SetupError`."""
    return Program(venv(cache / "benchmarl", BENCHMARL))


# -- sources -------------------------------------------------------------------------------------------------------


def copy_tree(
    checkout: Path, folder: Path, name: str = "EPyMARL", program: str = "src/main.py", paths: tuple[str, ...] = ()
) -> None:
    """Copy the source: a checkout, or a bare git directory's newest commit.

    Args:
        checkout, folder: from where, and where to.
        name, program: of the framework, and of a file that tells that it is this one.
        paths: git's names of the parts that are needed of a bare git directory; none: all.

    Raises:
        SetupError: it is another.
    """
    if (checkout / program).is_file():
        ignore = shutil.ignore_patterns("results", "__pycache__", ".git", "3rdparty")
        shutil.copytree(checkout, folder, ignore=ignore)
        return
    folder.mkdir(parents=True)
    archive = folder / "source.tar"
    command = ["git", f"--git-dir={checkout}", "archive", f"--output={archive}", "HEAD", *paths]
    _run(command, f"{checkout} is no checkout of {name}")
    with tarfile.open(archive) as files:
        if sys.version_info >= (3, 12):
            files.extractall(folder, filter="data")
        else:
            files.extractall(folder)
    archive.unlink()
    if not (folder / program).is_file():
        raise SetupError(f"{checkout} is not {name}: it has no {program}")


# -- EPyMARL's repairs ---------------------------------------------------------------------------------------------


def repair(folder: Path) -> None:
    """Make EPyMARL run on today's packages: the two repairs that are in files (the third is setuptools < 81).

    1. ``envs/__init__.py`` imports smaclite, which is not on PyPI, whatever is played: the import may fail now.
    2. ``requirements.txt`` pins PyYAML 5.3.1, which cannot be built any more: any version does.

    Raises:
        SetupError: the files are not as expected.
    """
    envs, wanted = folder / "src" / "envs" / "__init__.py", folder / "requirements.txt"
    try:
        source, requirements = envs.read_text(), wanted.read_text()
    except OSError as error:
        raise SetupError(f"{folder} is not EPyMARL: {error.filename} is missing") from None
    envs.write_text(optional(source, "from .smaclite_wrapper import SMACliteWrapper"))
    wanted.write_text(
        "".join("PyYAML\n" if line.startswith("PyYAML==") else line for line in requirements.splitlines(True))
    )


def optional(source: str, line: str) -> str:
    """Return ``source`` with the import ``line`` made optional; unchanged where it does not stand at the margin."""
    name = line.rpartition(" ")[2]
    lines = source.splitlines(keepends=True)
    repaired = f"try:\n    {line}\nexcept ImportError:\n    {name} = None\n"
    return "".join(repaired if text.rstrip("\n") == line else text for text in lines)


# -- venvs ---------------------------------------------------------------------------------------------------------


def venv(folder: Path, packages: tuple[str, ...], alone: tuple[str, ...] = ()) -> str:
    """Return the interpreter of a venv with torch and ``packages``, and ``alone`` without their requirements.

    It is made again when the list has changed or an earlier attempt did not come to its end.

    Raises:
        SetupError: pip's last lines.
    """
    python, stamp = str(folder / "bin" / "python"), folder / "complete"
    content = "\n".join((TORCH, *packages, "--no-deps", *alone)) + "\n"
    if stamp.is_file() and stamp.read_text() == content:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    what = f"the packages of {folder.name} cannot be installed"
    _run([sys.executable, "-m", "venv", str(folder)], what)
    constraint = folder / "constraint.txt"
    constraint.write_text(TORCH + "\n")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, TORCH], what)
    # held to that build: packages that ask for torchvision would replace it by one of several gigabytes
    _run([*pip, "--constraint", str(constraint), *packages], what)
    if alone:
        _run([*pip, "--no-deps", *alone], what)
    stamp.write_text(content)
    return python


def _run(command: list[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})
    if done.returncode:
        raise SetupError(f"{what}: {' '.join((done.stderr or done.stdout).strip().splitlines()[-3:])}")
