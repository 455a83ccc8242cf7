"""What must hold of an environment's sizes, and of everything that it shows at every step."""

from __future__ import annotations

import numpy as np

from ..base import EnvInfo
from ..build import faulty_size
from ..vector.slots import FOR_GOOD, beyond_limit
from .player import Step, in_out
from .report import Report, Stop


def check_info(info: EnvInfo, report: Report) -> None:
    """Validate an environment's sizes."""
    fault = faulty_size(info)
    if fault:
        report.find("info", fault)
        raise Stop


def check_step(steps: list[Step], seed: int, info: EnvInfo, report: Report) -> None:
    """Validate the newest of ``steps``: everything that must hold at every step."""
    t, now = len(steps) - 1, steps[-1]
    at = f"at reset (seed {seed})" if t == 0 else f"after step {t} (seed {seed})"
    over = bool(now["terminated"] or now["truncated"])
    _check_finite(now, at, t == 0, info, report)
    for i in range(info.n_agents):
        legal, alive, size = now["avail"][i], bool(now["alive"][i]), info.action_sizes[i]
        if alive and not legal.any() and not over:
            report.find("no action", f"{at} agent {i} is alive and has no legal action.")
        if not alive and legal.sum() != 1 and not over and not info.continuous:
            report.find(
                "dead actions",
                f"{at} agent {i} is not alive and has {legal.sum()} legal actions: it needs exactly one.",
            )
        if legal[size:].any():
            report.find(
                "padded actions", f"{at} agent {i} may take action {size + int(legal[size:].argmax())}: it has {size}."
            )
        if (now["obs"][i, info.obs_sizes[i] :] != 0).any():
            report.find(
                "padded obs", f"{at} agent {i} sees more than its {info.obs_sizes[i]} numbers: padding must be 0."
            )
        if now["agent_terminated"][i] and alive and not over:
            report.find("dead and alive", f"{at} agent {i} is agent_terminated and alive at once.")
        if t and steps[-2]["agent_terminated"][i]:
            if not now["agent_terminated"][i]:
                report.find("back", f"{at} agent {i} is no longer agent_terminated: {FOR_GOOD}.")
            if now["reward"][i] != 0 and not info.team_reward:
                report.warn(
                    "late reward", f"{at} agent {i} is rewarded after its end: individual rewards do not count that."
                )
    if t == 0 and over:
        report.find("over at reset", f"{at} the episode is over already.")
    if not now["alive"].any() and not over:
        report.find(
            "nobody",
            f"{at} no agent is alive{' (reset writes out.alive)' if t == 0 else ' and the episode continues'}.",
        )
    if t >= info.episode_limit and not over:
        report.find("endless", f"{at} {beyond_limit(info)}.")


def _check_finite(now: Step, at: str, first: bool, info: EnvInfo, report: Report) -> None:
    """Report numbers that are none; ``first``: at a reset, before which observations were made NaN."""
    poisoned = {"obs", "state", *(f.name for f in info.extra if f.known == "before")}
    for name, array in now.items():
        if array.dtype.kind != "f":
            continue
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            what = f"{in_out(name)}{bad[0].tolist()} is {array[tuple(bad[0])]}"
            why = ", or was not written" if first and name in poisoned else ""
            report.find(f"finite {name}", f"{at} {what}{why}.")
