"""The check before a sweep that each of its environments can be built, and that its methods can learn there."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

from ...utils.errors import UserError

if TYPE_CHECKING:
    from .file import Cell

#: Seconds that making one environment may take, and that the process may take to end after that.
BUILD_SECONDS, CLOSE_SECONDS = 300.0, 5.0


def refuse_missing(cells: Iterable[Cell], shown: str) -> None:
    """Build each environment of ``cells`` once, and have each configuration's parts look at it; no episode is begun.

    In a process of its own: an environment may load a library that takes a GPU, or that would stay in the sweep's
    memory. Other errors are left to the run, which can report them in more detail.

    Raises:
        UserError: a package that an environment needs is missing, it refuses its arguments, or a method refuses the
            configuration.
    """
    found: dict[str, dict[str, Cell]] = {}
    for cell in cells:
        key = json.dumps([cell.config["env"], cell.config["env_args"]], sort_keys=True)
        found.setdefault(key, {}).setdefault(cell.group, cell)
    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    try:
        for groups in found.values():
            env = next(iter(groups.values())).config
            words = {group: cell.words for group, cell in groups.items()}
            try:
                mistake = pool.submit(_mistake, env["env"], env["env_args"], words).result(BUILD_SECONDS)
            except Exception:  # it has ended its process, or takes too long
                return
            if mistake is not None:
                raise UserError(f"{shown}, runs {mistake}")
    finally:
        # not waited for without a limit: an environment may have left a thread behind in it that never ends
        processes = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.join(CLOSE_SECONDS)
            process.kill()


def _mistake(env: str, env_args: Mapping[str, Any], groups: Mapping[str, Sequence[str]]) -> str | None:
    """Return the first group of runs that is refused, and the sentence.

    Args:
        env, env_args: the environment.
        groups: name of the runs of one configuration -> the command line of one of them.
    """
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from ...envs.build import make_info
    from ...parts import resolve
    from ...utils.schema.command_line import parse

    at = next(iter(groups))
    try:
        info = make_info(env, env_args)
        for group, words in groups.items():
            at = group
            resolve(parse(words)[0]).check(info)
    except UserError as error:
        return f"{at}: {error}"
    except Exception:
        return None
    return None
