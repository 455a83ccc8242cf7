"""The standard set of ``oamarl bench``: a few configurations on what is installed, each in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ...utils.errors import RunError, UserError
from ...utils.schema.command_line import Request, parse
from .request import Options, settings_of, words_of

_LBF = {
    "env_args": {"key": "lbforaging:Foraging-8x8-2p-3f-v3", "time_limit": 50},
    "hidden_dim": 128, "epochs": 4, "batch_size_run": 10,
}  # fmt: skip
_RWARE = {
    "env_args": {"key": "rware:rware-tiny-4ag-v2", "time_limit": 500},
    "hidden_dim": 128, "epochs": 4, "batch_size_run": 10,
}  # fmt: skip
#: The standard set: name -> its request.
STANDARD = {
    "maze oappo": Request("oappo", "maze"),
    "maze mappo": Request("mappo", "maze"),
    "lbf mappo mlp": Request("mappo", "gymma", _LBF),
    "lbf mappo gru": Request("mappo", "gymma", {**_LBF, "use_rnn": True}),
    "lbf oappo mlp": Request("oappo", "gymma", _LBF),
    "rware mappo mlp": Request("mappo", "gymma", _RWARE),
    "rware mappo gru": Request("mappo", "gymma", {**_RWARE, "use_rnn": True}),
}


def measure_apart(name: str, request: Request, options: Options, folder: Path) -> dict[str, Any] | str:
    """Measure one case of the standard set in a process of its own (so that its memory is its own).

    Returns:
        the case, or the sentence that says why it could not be measured.

    Raises:
        RunError: the process failed.
    """
    result = folder / "result.json"
    program = [sys.executable, str(Path(__file__).resolve().parents[2] / "main.py"), "bench"]
    flags = ["--seconds", str(options.seconds), "--rounds", str(options.rounds), "--json", str(result)]
    done = subprocess.run(
        [*program, *flags, *words_of(request)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        env={**os.environ, "TMPDIR": str(folder)},  # what is left there if it is killed is taken away with the folder
    )  # fmt: skip
    if done.returncode == 2:
        return done.stderr.strip()
    if done.returncode:
        raise RunError(f"The measurement of '{name}' failed (exit status {done.returncode}):\n{done.stderr}")
    case = json.loads(result.read_text(encoding="utf-8"))["cases"][0]
    return {**case, "name": name}


def standard(overrides: dict[str, Any], options: Options, folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Measure the standard set; returns the cases and a sentence for each that was left out.

    Raises:
        UserError: ``overrides`` are wrong, or nothing could be measured.
    """
    from rich.console import Console

    more = words_of(Request(overrides=overrides))[1:]  # what comes later replaces what came before
    asked = {name: parse([*words_of(r), *more])[0] for name, r in STANDARD.items()}
    settings_of(next(iter(asked.values())))  # a user error in the arguments is reported before anything is measured
    cases, missing = [], []
    err = Console(stderr=True)
    for number, (name, request) in enumerate(asked.items(), 1):
        own = folder / str(number)
        own.mkdir()
        if err.is_terminal:
            err.print(f"{number} of {len(asked)}: {name}", highlight=False)
        found = measure_apart(name, request, options, own)
        if isinstance(found, str):
            missing.append(f"{name}: {found}")
        else:
            cases.append(found)
        shutil.rmtree(own, ignore_errors=True)
    if not cases:
        raise UserError(missing[0])
    return cases, missing
