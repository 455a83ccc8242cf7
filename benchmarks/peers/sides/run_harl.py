"""HARL's own training program on this project's Multi-Agent MuJoCo: ``python run_harl.py SPEC.json``, in HARL's venv.

``folder`` of the specification is HARL's source, ``tuned`` one of its files of tuned settings in there, and ``given``
what the command line changes of it. HARL's runner, buffers and learners are as they are; the module of its environment
is :mod:`harl_mamujoco`.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import runpy
import sys
import types
from pathlib import Path
from typing import Any

from clock import Clock, Measured

#: what HARL imports its environment from
THEIR_MODULE = "harl.envs.mamujoco.multiagent_mujoco.mujoco_multi"


def main() -> None:
    """Train as the specification says, until the clock ends it."""
    clock = Clock.from_command_line()
    folder = Path(clock.spec["folder"])
    sys.path.insert(0, str(folder))
    provide_oamarl(Path(__file__).resolve().parents[3] / "src")
    # its workers inherit the module that stands in for its own
    multiprocessing.set_start_method("fork")
    replaced()
    from harl.runners import RUNNER_REGISTRY

    for cls in {RUNNER_REGISTRY[name] for name in ("happo", "hatrpo", "mappo")}:
        clocked(cls, clock)
    sys.argv = [str(folder / "examples" / "train.py"), *command_line(clock.spec)]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except Measured:
        sys.exit(0)


def command_line(spec: dict[str, Any]) -> list[str]:
    """Return HARL's command line: a file of settings, and what is changed of it (HARL evaluates each value)."""
    given = {**spec["given"], "log_dir": str(Path(spec["out"]).parent / "results")}
    changed = [word for key, value in given.items() for word in (f"--{key}", str(value))]
    return ["--load_config", str(Path(spec["folder"]) / spec["tuned"]), *changed]


def provide_oamarl(source: Path) -> None:
    """Make ``source`` importable as the package ``oamarl``, which the venv does not hold."""
    spec = importlib.util.spec_from_file_location(
        "oamarl", source / "__init__.py", submodule_search_locations=[str(source)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["oamarl"] = module
    spec.loader.exec_module(module)


def replaced() -> None:
    """Put this project's environment in the place of HARL's, and an empty ``uu`` where Python has it no more."""
    import harl_mamujoco

    sys.modules[THEIR_MODULE] = harl_mamujoco
    if importlib.util.find_spec("uu") is None:  # HARL imports its Error, from Python 3.13 on in vain
        sys.modules["uu"] = types.ModuleType("uu")
        sys.modules["uu"].Error = ValueError


def clocked(cls: Any, clock: Clock) -> None:
    """Let a runner tell the clock of each iteration and of each update."""
    collect, train = cls.prep_rollout, cls.train
    iterations = 0

    def collected(self: Any) -> None:
        nonlocal iterations
        sizes = self.algo_args["train"]
        clock.facts["threads"] = self.algo_args["device"]["torch_threads"]
        clock.iteration(iterations * sizes["episode_length"] * sizes["n_rollout_threads"])
        iterations += 1
        collect(self)

    def trained(self: Any) -> Any:
        if clock.spec["kind"] == "learner":
            clock.repeat(lambda: train(self))
        return clock.learn(lambda: train(self)) or ([{}] * self.num_agents, {})

    cls.prep_rollout, cls.train = collected, trained


if __name__ == "__main__":
    main()
