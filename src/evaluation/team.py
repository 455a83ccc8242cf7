"""A trained team as a library: ``oamarl.load(run).act(obs, avail)``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import controllers, modules
from ..components.experience import no_action
from ..components.finite import all_finite
from ..components.generators import generator
from ..controllers.actor import act, no_actions
from ..controllers.contract import Controller, preparation_of
from ..envs.base import EnvInfo
from ..envs.vector.playing import within_bounds
from ..modules.options import network_config
from ..settings import NEW_KEYS
from ..storage import checkpoints
from ..utils.errors import UserError
from ..utils.schema import yamls
from ..utils.schema.keys import read
from ..utils.schema.layers import CONFIGS
from ..utils.schema.registry import resolve
from . import zoo

#: Folders of a run in which a checkpoint may be named by its file name alone.
_FOLDERS = (checkpoints.FOLDER, checkpoints.MODELS, checkpoints.BEST)
#: What a name must look like to be called, whatever it is: ``package.module:Class``. Gymnasium's ids have a dash.
_CALLABLE = re.compile(r"[\w.]+:\w+")


def load(
    run: str | Path, *, checkpoint: str | Path = "latest", greedy: bool = True, seed: int = 0, trust: bool = False
) -> Team:
    """Return the trained team of a run.

    Args:
        run: a run's folder, a folder of checkpoints, a checkpoint file, or ``zoo:NAME`` for a team of the zoo.
        checkpoint: which of the run's: ``latest``, ``best`` (by test return) or a file.
        greedy: the default of ``act``: greedy (argmax) actions, or sampled ones.
        seed: of the sampled actions.
        trust: import the classes that the checkpoint names as ``package.module:Class``. Never needed for classes that
            come with this package or are registered by an installed one.

    Raises:
        UserError: there is no such checkpoint, or it cannot be used.
    """
    path = find_checkpoint(run, checkpoint)
    return Team(checkpoints.load(path), path, greedy=greedy, seed=seed, trust=trust)


def find_checkpoint(run: str | Path, which: str | Path = "latest") -> Path:
    """Return the selected intact checkpoint file; arguments as for :func:`load`.

    Raises:
        UserError: there is none.
    """
    if str(run).startswith(zoo.PREFIX):
        return checkpoints.find(zoo.find(str(run)).checkpoint)
    run = Path(run)
    if which == "latest":
        return checkpoints.find(run)
    if which == "best":
        folder = run / checkpoints.BEST
        if not folder.is_dir():
            raise UserError(
                f"{run} has no best checkpoint: a run's folder with {folder.name}/ in it is expected, which a run has "
                "from its first test episodes on."
            )
        return checkpoints.find(folder)
    places = [Path(which), *(run / folder / which for folder in ("", *_FOLDERS))]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise UserError(f"There is no checkpoint '{which}': `latest`, `best` or a checkpoint file is expected.")
    return checkpoints.find(found)


@dataclass
class Memory:
    """The policies' memory of the unfinished episodes."""

    hidden: Tensor  # [B, N, H]
    last: Tensor  # [B, N] or [B, N, D]; -1 or NaN before the first action


class Team:
    """Trained policies.

    Args:
        saved: a checkpoint's payload.
        path: its file, for messages.
        info: sizes of the environment to act in; None: of the one it was trained in.
        greedy, seed, trust: see :func:`load`.

    Attributes:
        info: sizes of the environment.
        config: the run's configuration.
        step: environment steps that the policies were trained for.
        path: the checkpoint's file.

    Raises:
        UserError: the checkpoint holds no policies, or others than ``info`` needs.
    """

    def __init__(
        self,
        saved: Mapping[str, Any],
        path: Path,
        *,
        info: EnvInfo | None = None,
        greedy: bool = True,
        seed: int = 0,
        trust: bool = False,
    ) -> None:
        self.path, self.greedy = Path(path), greedy
        self.config = config_of(saved, path)
        try:
            self.step, weights = int(saved["runner"]["t_env"]), dict(saved["mac"])
        except (KeyError, TypeError, ValueError):
            raise UserError(f"The checkpoint {path} holds no policies of a run.") from None
        trained = _info_of(saved, path)
        if info is not None:
            check_fits(info, trained)
        self.info = info or trained
        selector = ("action_selector",) if self.config.get("action_selector") is not None else ()
        check_names(self.config, ("mac", "agent", *selector), path, trust)
        self.mac = _policies(self.config, self.info, weights, path)
        self._memory: Memory | None = None
        self.actor = self.mac.actor()
        self.seed(seed)

    # -- playing ---------------------------------------------------------------------------------------------

    def act(self, obs: np.ndarray, avail: np.ndarray | None = None, *, greedy: bool | None = None) -> np.ndarray:
        """Choose actions at the next step of the unfinished episodes.

        The policies' memory (a GRU's hidden state, the last actions) is kept between calls: call
        :meth:`reset` where an episode begins.

        Args:
            obs: [N, O], or [B, N, O] for B episodes side by side.
            avail: legal actions, [N, A] or [B, N, A] bool; None: all that the agent has.
            greedy: greedy (argmax) or sampled actions; None: as given to :func:`load`.

        Returns:
            [N] or [B, N] int64; continuous ones [N, D] or [B, N, D] float32, within the bounds.

        Raises:
            ValueError: a wrong shape, a number that is not finite, or an agent without a legal action.
        """
        seen, legal = self._checked(obs, avail)
        b = len(seen)
        if self._memory is None:
            self._memory = self.begin(b)
        if len(self._memory.last) != b:
            raise ValueError(
                f"obs holds {b} episodes and {len(self._memory.last)} are under way: call reset() to begin others"
            )
        uniform = None
        if not (self.greedy if greedy is None else greedy):
            width = self.actor.width
            uniform = torch.rand(b, self.info.n_agents, width, generator=self._generator)
        actions = self.decide(torch.from_numpy(seen), torch.from_numpy(legal), self._memory, uniform).numpy()
        actions = within_bounds(self.info)(actions).copy()
        return actions[0] if np.ndim(obs) == 2 else actions

    def reset(self, rows: np.ndarray | None = None) -> None:
        """Begin new episodes.

        Args:
            rows: [B] bool: in these rows alone; None: in all, and their number B may change.

        Raises:
            ValueError: ``rows`` has another shape.
        """
        if rows is None or self._memory is None:
            self._memory = None
            return
        chosen = np.asarray(rows)
        if chosen.shape != (len(self._memory.last),) or chosen.dtype != bool:
            raise ValueError(f"rows must be [{len(self._memory.last)}] bool, not {chosen.shape} {chosen.dtype}")
        where = torch.from_numpy(chosen)
        self._memory.hidden[where], self._memory.last[where] = 0.0, no_action(self.info)

    def seed(self, seed: int) -> None:
        """Restart the random stream of sampled actions."""
        self._generator = generator(seed, "team")

    def begin(self, n: int) -> Memory:
        """Return the memory of ``n`` episodes before their first step."""
        return Memory(self.mac.initial_hidden(n), no_actions(self.info, n))

    def decide(self, obs: Tensor, avail: Tensor, memory: Memory, uniform: Tensor | None) -> Tensor:
        """Return actions [B, N] and update ``memory``; arguments are not checked.

        Args:
            obs: [B, N, O] float32.
            avail: [B, N, A] bool.
            memory: of these B episodes.
            uniform: [B, N, W] noise in [0, 1) (W: the actor's width), or None for greedy (argmax) actions.
        """
        memory.last, _, memory.hidden = act(self.actor, obs, avail, memory.last, memory.hidden, uniform)
        return memory.last

    def _checked(self, obs: Any, avail: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return [B, N, O] float32 and [B, N, A] bool."""
        i = self.info
        seen = np.asarray(obs, np.float32)
        if seen.ndim not in (2, 3) or seen.shape[-2:] != (i.n_agents, i.obs_size):
            raise ValueError(
                f"obs has shape {seen.shape}: [{i.n_agents}, {i.obs_size}] or [B, {i.n_agents}, {i.obs_size}] is "
                "expected"
            )
        if not np.isfinite(seen).all():
            raise ValueError("obs holds numbers that are not finite")
        if avail is None:
            own = np.arange(i.n_actions) < np.asarray(i.action_sizes)[:, None]
            legal = np.broadcast_to(own, (*seen.shape[:-1], i.n_actions))
        else:
            legal = np.asarray(avail).astype(bool)
        if legal.shape != (*seen.shape[:-1], i.n_actions):
            raise ValueError(f"avail has shape {legal.shape}: {(*seen.shape[:-1], i.n_actions)} is expected beside obs")
        if not legal.any(-1).all():
            raise ValueError("avail leaves an agent without a legal action")
        rows = seen.shape if seen.ndim == 3 else (1, *seen.shape)
        return seen.reshape(rows).copy(), legal.reshape(*rows[:2], i.n_actions).copy()


def config_of(saved: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the configuration of a checkpoint's run; ``env_args`` is always a mapping.

    Raises:
        UserError: it holds none.
    """
    config = saved.get("config")
    if not isinstance(config, Mapping):
        raise UserError(f"The checkpoint {path} holds no policies of a run.")
    env_args = config.get("env_args")
    return {**config, "env_args": dict(env_args) if isinstance(env_args, Mapping) else {}}


def check_names(config: Mapping[str, Any], names: tuple[str, ...], path: Path, trust: bool) -> None:
    """Refuse to import classes that a checkpoint names as ``package.module:Class``, unless its user trusts it.

    A checkpoint is data, often from other people: with such a name (and arguments) it could call any function.

    Args:
        names: keys to check; with ``env`` its arguments too.

    Raises:
        UserError: naming the key.
    """
    values = {name: config.get(name) for name in names}
    for name, value in values.items():
        if value is None and name == "mac" and isinstance(config.get("learner"), str):
            raise UserError(
                f"The checkpoint {path} is of '{config.get('name')}', which learned tables: they cannot be loaded."
            )
        if not isinstance(value, str):
            raise UserError(f"The checkpoint {path} does not say which {name} it was trained with.")
    if "env" in names:
        values |= {f"env_args.{k}": v for k, v in config["env_args"].items() if isinstance(v, str)}
    for name, value in values.items():
        if not trust and _CALLABLE.fullmatch(str(value).strip()):
            raise UserError(
                f"The checkpoint {path} was trained with {name}={value}, code that does not come with oamarl: say "
                "that you trust it (`oamarl evaluate --trust`, oamarl.load(..., trust=True)) to have it imported."
            )


def check_fits(info: EnvInfo, trained: EnvInfo) -> None:
    """Refuse an environment whose sizes are not the trained ones.

    Raises:
        UserError: naming both.
    """
    names = {"n_agents": "agents", "obs_size": "numbers seen", "n_actions": "actions"}
    differ = [f"{getattr(info, k)} {word} (trained: {getattr(trained, k)})" for k, word in names.items()
              if getattr(info, k) != getattr(trained, k)]  # fmt: skip
    if differ:
        raise UserError(f"The team cannot play in '{info.name}': it has {', '.join(differ)}.")


def _info_of(saved: Mapping[str, Any], path: Path) -> EnvInfo:
    """Return the sizes of the environment that a checkpoint was trained in.

    Raises:
        UserError: it does not say.
    """
    stored = saved.get("info")
    known = {f.name for f in fields(EnvInfo)}
    # older checkpoints lack the newer fields, which have defaults
    needed = {f.name for f in fields(EnvInfo) if f.default is MISSING}
    if not isinstance(stored, Mapping) or not needed <= set(stored) <= known:
        raise UserError(f"The checkpoint {path} does not say what its environment's sizes are.")
    return EnvInfo(**stored)


def _policies(values: Mapping[str, Any], info: EnvInfo, weights: Mapping[str, Any], path: Path) -> Controller:
    """Return the controller with its trained parameters.

    Raises:
        UserError: they are not of this shape.
    """
    # keys that came after the checkpoint was written have the value under which nothing changes
    values = {**yamls.load(CONFIGS / "default.yaml", "default.yaml"), **NEW_KEYS, **values}
    mac = resolve(controllers.__name__, controllers.REGISTRY, values["mac"], "mac")
    agent = resolve(modules.__name__, modules.REGISTRY, values["agent"], "agent")
    config, preparation = read(mac.Config, values), preparation_of(mac, values, info)
    if preparation is not None:
        config = replace(config, **preparation.stored(weights, str(path)).changes())
    try:
        net: Any = read(network_config(agent), values)
        built: Controller = mac(config, agent, net, info, generator(0, "weights follow"))
        if hasattr(built, "select_by"):
            built.select_by(values)
        built.load_state_dict(weights)
    except (LookupError, ValueError, TypeError, AttributeError, RuntimeError):
        raise UserError(
            f"The policies in {path} do not fit the sizes of '{info.name}': {info.n_agents} agents, {info.obs_size} "
            f"numbers seen, {info.n_actions} actions."
        ) from None
    if not all_finite(x for _, x in built.parameters()):
        raise UserError(f"The policies in {path} hold numbers that are not finite: take an earlier checkpoint.")
    return built
