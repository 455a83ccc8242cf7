"""The check before a sweep that each of its environments can be built."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

from ...utils.errors import UserError

if TYPE_CHECKING:
    from .file import Cell

#: Seconds that making one environment may take, and that the process may take to end after that.
BUILD_SECONDS, CLOSE_SECONDS = 300.0, 5.0


def refuse_missing(cells: Iterable[Cell], shown: str) -> None:
    """Build each environment of ``cells`` once; no episode is begun.

    In a process of its own: an environment may load a library that takes a GPU, or that would stay in the sweep's
    memory. Other errors are left to the run, which can report them in more detail.

    Raises:
        UserError: a package that an environment needs is missing, or it refuses its arguments.
    """
    found: dict[str, Cell] = {}
    for cell in cells:
        found.setdefault(json.dumps([cell.config["env"], cell.config["env_args"]], sort_keys=True), cell)
    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    try:
        for cell in found.values():
            try:
                mistake = pool.submit(_mistake, cell.config["env"], cell.config["env_args"]).result(BUILD_SECONDS)
            except Exception:  # it has ended its process, or takes too long
                return
            if mistake is not None:
                raise UserError(f"{shown}, runs {cell.group}: {mistake}")
    finally:
        # not waited for without a limit: an environment may have left a thread behind in it that never ends
        processes = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.join(CLOSE_SECONDS)
            process.kill()


def _mistake(env: str, env_args: Mapping[str, Any]) -> str | None:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from ...envs.build import make_info

    try:
        make_info(env, env_args)
    except UserError as error:
        return str(error)
    except Exception:
        return None
    return None
