"""pip, of the Python that runs this program."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys

from ...utils.errors import UserError


def pip(*words: str) -> None:
    """Run pip in this Python.

    Raises:
        UserError: it is not there, or fails.
    """
    command = [sys.executable, "-m", "pip", *words]
    if importlib.util.find_spec("pip") is None and shutil.which("uv"):  # uv's environments have no pip
        command = ["uv", "pip", words[0], "--python", sys.executable, *words[1:]]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise UserError(f"`{' '.join(command)}` failed with exit status {done.returncode}: see above.")
