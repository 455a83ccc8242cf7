"""The standard set of ``oamarl bench``: a few configurations of installed environments, each in its own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...utils.errors import RunError, UserError
from ...utils.schema.command_line import Request
from ...utils.schema.layers import Layer, merge
from .request import Options, settings_of, words_of

_LBF = {
    "env_args": {"key": "lbforaging:Foraging-8x8-2p-3f-v3", "time_limit": 50},
    "hidden_dim": 128, "epochs": 4, "batch_size_run": 10,
}  # fmt: skip
_RWARE = {**_LBF, "env_args": {"key": "rware:rware-tiny-4ag-v2", "time_limit": 500}}
#: The cases: name -> configuration.
STANDARD = {
    "maze oappo": Request("oappo", "maze"),
    "maze mappo": Request("mappo", "maze"),
    "lbf mappo mlp": Request("mappo", "gymma", _LBF),
    "lbf mappo gru": Request("mappo", "gymma", {**_LBF, "use_rnn": True}),
    "lbf oappo mlp": Request("oappo", "gymma", _LBF),
    "rware mappo mlp": Request("mappo", "gymma", _RWARE),
    "rware mappo gru": Request("mappo", "gymma", {**_RWARE, "use_rnn": True}),
}


def measure_apart(name: str, request: Request, options: Options, folder: Path) -> dict[str, Any]:
    """Measure one case in a process of its own, so that its memory includes no other case.

    Raises:
        UserError: it cannot be measured here, such as for a missing package.
        RunError: the process failed.
    """
    result = folder / "result.json"
    program = [sys.executable, str(Path(__file__).resolve().parents[2] / "main.py"), "bench"]
    flags = [f"--seconds={options.seconds}", f"--rounds={options.rounds}", f"--json={result}"]
    done = subprocess.run(
        [*program, *flags, *words_of(request)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        env={**os.environ, "TMPDIR": str(folder)},  # if it is killed, its files are removed with the folder
    )  # fmt: skip
    if done.returncode == 2:
        raise UserError(done.stderr.strip())
    if done.returncode:
        raise RunError(f"The measurement of '{name}' failed (exit status {done.returncode}):\n{done.stderr}")
    (case,) = json.loads(result.read_text(encoding="utf-8"))["cases"]
    return {**case, "name": name}


def measure_standard(given: Request, options: Options, folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Measure the standard set.

    Args:
        given: settings of every case, over its own.
        options: the values of the flags, for each case.
        folder: an empty folder that the caller removes.

    Returns:
        The cases, and a sentence for each that cannot be measured here.

    Raises:
        UserError: the settings are wrong, or no case can be measured.
        RunError: the process of a case failed.
    """
    from rich.console import Console

    requests = {
        name: replace(
            request,
            overrides=merge([Layer(name, "", request.overrides), Layer("", "", given.overrides)])[0],
            typed=given.typed,
        )
        for name, request in STANDARD.items()
    }
    settings_of(next(iter(requests.values())))  # wrong overrides are reported before any case is measured
    cases, missing = [], []
    err = Console(stderr=True)
    for number, (name, request) in enumerate(requests.items(), 1):
        if err.is_terminal:
            err.print(f"{number} of {len(requests)}: {name}", highlight=False)
        try:
            cases.append(measure_apart(name, request, options, folder))
        except UserError as error:
            missing.append(f"{name}: {error}")
    if not cases:
        raise UserError(missing[0])
    return cases, missing
