"""Programs of other projects, run as they are in this process."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any


def file_of(checkout: Path, path: str, whose: str) -> str:
    """Return the text of a file of a checkout, or of a bare git directory, of ``whose`` project; ends the program where
    it has none."""
    if (checkout / path).is_file():
        return (checkout / path).read_text(encoding="utf-8")
    done = subprocess.run(["git", f"--git-dir={checkout}", "show", f"HEAD:{path}"], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{checkout} is no checkout of {whose}: it has no {path}.")
    return done.stdout


def stand_in(name: str, **content: Any) -> None:
    """Make a module of that name importable."""
    module = types.ModuleType(name)
    vars(module).update(content)
    sys.modules[name] = module
