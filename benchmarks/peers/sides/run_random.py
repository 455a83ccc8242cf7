"""Random play of the stock environment, nothing else: ``python run_random.py SPEC.json``.

``processes`` processes step one instance each, through Gymnasium and without a wrapper (``wrapped``: with those that
``gymnasium.make`` puts around it): the most that any program could collect on as many cores. ``football`` in place of
``key``: arguments of Google Research Football's ``create_environment``; ``vmas``: of VMAS's ``make_env``, whose worlds
are stepped together by VMAS's own random actions, and all reset at the time limit.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from multiprocessing.queues import Queue
from typing import Any

from clock import Clock, Measured


def gymnasium(spec: dict[str, Any], number: int) -> tuple[Any, Any]:
    """Return one of Gymnasium's environments and a thousand random actions."""
    import gymnasium
    import numpy as np

    env: Any = gymnasium.make(spec["key"], disable_env_checker=True)
    env = env if spec.get("wrapped") else env.unwrapped
    rng, box = np.random.default_rng(number), isinstance(env.action_space, gymnasium.spaces.Box)
    if box:
        return env, rng.uniform(env.action_space.low, env.action_space.high, (1000, *env.action_space.shape))
    n_actions = [int(space.n) for space in env.action_space]
    return env, rng.integers(0, n_actions, size=(1000, len(n_actions)))


def football(given: dict[str, Any], number: int) -> tuple[Any, Any]:
    """Return a game of Google Research Football and a thousand random actions of its agents."""
    import numpy as np
    from gfootball.env import create_environment

    n = given["number_of_left_players_agent_controls"]
    return create_environment(**given), np.random.default_rng(number).integers(0, 19, size=(1000, n))


class Vmas:
    """Worlds of VMAS, which count as that many steps."""

    def __init__(self, given: dict[str, Any]) -> None:
        import vmas

        self.env = vmas.make_env(**given, terminated_truncated=True, seed=0)
        self.reset = self.env.reset

    def step(self, actions: None) -> tuple[None, None, bool]:
        """Draw actions and step; no world is ended before the time limit."""
        self.env.step(self.env.get_random_actions())
        return None, None, False


def made(spec: dict[str, Any], number: int) -> tuple[Any, Any]:
    """Return what is played and a thousand actions."""
    if "vmas" in spec:
        return Vmas(spec["vmas"]), [None] * 1000
    return football(spec["football"], number) if "football" in spec else gymnasium(spec, number)


def play(spec: dict[str, Any], number: int, results: Queue[dict[str, float]]) -> None:
    """Step one environment for the warm-up and then for ``seconds``; put what was done into ``results``."""
    env, draws = made(spec, number)
    each = spec.get("vmas", {}).get("num_envs", 1)
    seconds, begun, steps, at = spec["warm_seconds"], 0.0, 0, spec["time_limit"]
    wall, cpu = time.perf_counter(), time.process_time()
    while True:
        if at >= spec["time_limit"]:
            if time.perf_counter() - wall >= seconds:
                if begun:
                    break
                begun, seconds, steps = 1.0, spec["seconds"], 0
                wall, cpu = time.perf_counter(), time.process_time()
            env.reset()
            at = 0
        _, _, done, *_ = env.step(draws[steps // each % 1000])
        steps += each
        at = spec["time_limit"] if done else at + 1
    results.put({"steps": steps, "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu})


def main() -> None:
    """Start the processes and add up what they did."""
    clock = Clock.from_command_line()
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    workers = [
        context.Process(target=play, args=(clock.spec, number, results)) for number in range(clock.spec["processes"])
    ]
    for worker in workers:
        worker.start()
    done = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    wall = max(x["wall"] for x in done)
    clock.facts = {"processes": len(done), "main": os.getpid()}
    with contextlib.suppress(Measured):
        # each at its own rate: they do not end at the same moment
        clock.finish({
            "steps": wall * sum(x["steps"] / x["wall"] for x in done), "wall": wall,
            "cpu": wall * sum(x["cpu"] / x["wall"] for x in done), "cpu_main": 0.0, "iteration": 0.0,
            "learning": 0.0, "updates": 0,
        })  # fmt: skip


if __name__ == "__main__":
    main()
