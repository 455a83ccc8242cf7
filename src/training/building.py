"""The parts of a run, built in order and checked against their contracts."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from ..components.generators import generator
from ..components.updates.precision import use_precision
from ..controllers.contract import Controller, Prepared, preparation_of
from ..envs.base import EnvInfo
from ..envs.build import make_info
from ..envs.vector.base import VecEnv
from ..learners.contract import Learner
from ..runners.contract import Runner
from ..runners.episode import EpisodeRunner
from ..runners.random_play import random_play
from ..selection import check_part, shipped_class
from ..settings import Settings
from ..storage.payloads import plain
from ..utils.errors import RunError, UserError, first_line, lacks_memory
from .update import learned


class PartError(UserError):
    """A user-supplied part raised an exception while it was built; ``trace`` is the traceback, for the run's log."""

    def __init__(self, what: str, trace: str) -> None:
        super().__init__(what)
        self.trace = trace


def sizes(settings: Settings) -> EnvInfo:
    """Return the environment's sizes, when every part has agreed to them.

    Raises:
        UserError: the environment cannot be built, or the parts contradict one another or the environment.
    """
    info = make_info(settings.values["env"], settings.values["env_args"])
    settings.check(info)
    return info


def build(
    settings: Settings, device: torch.device, prepared: Prepared | None = None, info: EnvInfo | None = None,
    make: Callable[..., VecEnv] | None = None,
) -> tuple[Runner, Controller, Learner]:  # fmt: skip
    """Return runner, controller and learner of a run.

    Args:
        settings: of the run.
        device: of the networks.
        prepared: what was found out before; None: it is found out now, where anything has to be.
        info: the environment's sizes, from :func:`sizes`; None: looked up now.
        make: builds the vectorised environment of the shipped runners; None: they build their own.

    Raises:
        UserError: the parts contradict one another or the environment, or one does not keep its contract.
        PartError: the constructor of a user-supplied part failed.
    """
    values, seed = settings.values, settings.values["seed"]
    use_precision(values["matmul_precision"], device)
    info = sizes(settings) if info is None else info
    net: Any = settings.part(settings.parts["agent"])
    critic: Any = settings.part(settings.parts["critic"]) if "critic" in settings.parts else net
    config = settings.part(settings.mac.Config)
    preparation = preparation_of(settings.mac, values, info)
    if preparation is not None:
        prepared = prepared or preparation.find(partial(random_play, values, info))
        config = replace(config, **prepared.changes())
    mac: Controller = _built(
        settings,
        ("mac", "agent"),
        lambda: settings.mac(config, settings.agent, net, info, generator(seed, "init policies")),
    )
    if hasattr(mac, "select_by"):
        mac.select_by(values)
    mac.to(device)
    learner: Learner = _built(settings, ("learner", "mac", "agent"), lambda: settings.learner(
        settings.part(settings.learner.Config), critic, mac, info,
        common_reward=values["common_reward"], device=device, seed=seed,
    ))  # fmt: skip
    # a runner of the user's own need not know of shared environments
    shared = {"make": make} if make is not None and issubclass(settings.runner, EpisodeRunner) else {}
    runner: Runner = _built(settings, ("runner", "mac"), lambda: settings.runner(
        settings.part(settings.runner.Config), values["env"], values["env_args"], mac, device, seed, **shared
    ))  # fmt: skip
    if prepared is not None:
        runner.t_env += prepared.t_env
        runner.agent_steps += prepared.agent_steps
        runner.time_env += prepared.environment
        runner.time_act += prepared.inference
    return runner, mac, learner


def _built(settings: Settings, kinds: tuple[str, ...], make: Callable[[], Any]) -> Any:
    """Build a part and compare it with its contract.

    Args:
        settings: of the run.
        kinds: the part's own kind, and those of the parts that it is built from.
        make: builds it.

    Raises:
        PartError: one of these classes is not of this package, and the constructor raised.
    """
    kind = kinds[0]
    name, cls = settings.values[kind], getattr(settings, kind)
    try:
        part = make()
    except Exception as error:
        ours = all(shipped_class(getattr(settings, k)) for k in kinds)
        if ours or isinstance(error, (UserError, RunError)) or lacks_memory(error):
            raise
        what = f"{kind}={name}: building a {cls.__name__} failed with {type(error).__name__}: {first_line(error)}."
        raise PartError(what, traceback.format_exc().rstrip()) from error
    check_part(kind, name, part)
    if not shipped_class(cls):
        _check_state(kind, name, part)
    if kind != "runner":
        learned(part)
    return part


def _check_state(kind: str, name: str, part: Any) -> None:
    """Refuse a part whose state cannot be stored now, rather than at its first checkpoint.

    Raises:
        UserError: it is no dict, or holds something else than plain containers, numbers, text, arrays and tensors.
    """
    state = part.state_dict()
    if not isinstance(state, dict):
        raise UserError(f"{kind}={name}: its state_dict() is a {type(state).__name__}, and a dict is expected.")
    try:
        plain(state, "state_dict()")
    except TypeError as error:
        raise UserError(f"{kind}={name}: {first_line(error)}.") from None


def kernel(settings: Settings, device: torch.device) -> str:
    """Return what networks are evaluated by, for their numbers' last digits depend on it: ``C`` or ``torch``."""
    mac, net = settings.mac, settings.part(settings.parts["agent"])  # type: ignore[var-annotated]
    return str(mac.kernel(settings.agent, net, device)) if hasattr(mac, "kernel") else "torch"


@contextlib.contextmanager
def affordable() -> Iterator[None]:
    """Refuse a configuration that needs more memory than there is.

    Raises:
        UserError: what is done inside ran out of memory.
    """
    try:
        yield
    except Exception as error:
        if not lacks_memory(error):
            raise
        raise UserError(f"The configuration asks for more memory than there is: {first_line(error)}.") from None
