"""Gymnasium environments with list-like agents: observations, actions and rewards one an agent (LBF, RWARE, ...)."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..components.errors import UserError, nearest
from .base import Arrays, EnvInfo

#: module that registers ids -> its package on PyPI; of an unknown module nobody should install a guess
_PACKAGES = {"lbforaging": "lbforaging", "rware": "rware"}
#: an environment's own step limit, under the names that environments give it
_LIMIT_NAMES = ("_max_episode_steps", "max_steps")
_OWN = ("key", "time_limit", "pretrained_wrapper")
#: the registered scheme of LBF's ids; numbers beyond the registered ones are as good
_FORAGING = re.compile(
    r"Foraging(?P<partial>-2s)?-(?P<rows>\d+)x(?P<columns>\d+)-(?P<players>\d+)p-(?P<food>\d+)f(?P<coop>-coop)?-v3"
)


class Gymma:
    """One multi-agent Gymnasium environment; agents of different sizes are padded, and what is padded is illegal."""

    def __init__(
        self, key: str, time_limit: int | None = None, pretrained_wrapper: str | None = None, **kwargs: Any
    ) -> None:
        """Make the environment.

        Args:
            key: Gymnasium id, with the module that registers it: ``lbforaging:Foraging-8x8-2p-3f-v3``.
            time_limit: steps until an episode is cut; the environment's own limit holds where that is less, and
                alone where this is None.
            pretrained_wrapper: EPyMARL's word; only null is supported.
            kwargs: further arguments of the environment itself.

        Raises:
            UserError: missing package, unknown id or argument, or an environment that is not of this kind.
        """
        import gymnasium

        if pretrained_wrapper is not None:
            raise UserError(f"env_args.pretrained_wrapper={pretrained_wrapper!r} is not supported: only null is.")
        if time_limit is not None and time_limit < 1:
            raise UserError(f"env_args.time_limit={time_limit} is out of range: at least 1 is allowed.")
        spec = _find_spec(key)
        _check_kwargs(spec, key, kwargs)
        try:
            # without gymnasium's checkers, which know rewards that are one number only, and without its TimeLimit
            self._env = gymnasium.make(spec.id, disable_env_checker=True, max_episode_steps=-1, **kwargs)
        except (TypeError, ValueError, AssertionError) as exc:
            raise UserError(f"The environment '{key}' could not be made from these env_args: {exc}") from exc
        obs_spaces, action_sizes = _spaces(self._env, key)
        self._obs_spaces = obs_spaces
        sizes = tuple(int(gymnasium.spaces.flatdim(s)) for s in obs_spaces)
        self._flatten = gymnasium.spaces.flatten
        self._boxes = [isinstance(s, gymnasium.spaces.Box) for s in obs_spaces]
        self._starts = [int(s.start) for s in self._env.action_space]  # type: ignore[attr-defined]
        own_limit = _lift_own_limit(self._env.unwrapped)
        limits = [v for v in (time_limit, spec.max_episode_steps, own_limit) if v is not None]
        if not limits:
            raise UserError(f"The environment '{key}' has no step limit of its own: set env_args.time_limit.")
        n, width = len(sizes), max(sizes)
        self.info = EnvInfo(
            name=key,
            n_agents=n,
            obs_size=width,
            state_size=n * width,
            n_actions=max(action_sizes),
            episode_limit=min(limits),
            obs_sizes=sizes,
            action_sizes=action_sizes,
        )
        self._avail = np.arange(max(action_sizes)) < np.array(action_sizes)[:, None]  # [N, A]
        self._only_first = np.arange(max(action_sizes)) == 0  # what an agent that has ended may do
        self._time = 0

    def _see(self, observations: Any, out: Arrays) -> None:
        if len(observations) != self.info.n_agents:
            raise ValueError(f"{len(observations)} observations came for {self.info.n_agents} agents")
        for i, one in enumerate(observations):
            flat = np.asarray(one).ravel() if self._boxes[i] else self._flatten(self._obs_spaces[i], one)
            size = self.info.obs_sizes[i]
            if flat.size != size:
                raise ValueError(f"agent {i} sees {flat.size} numbers, and its observation space says {size}")
            out.obs[i, :size] = flat
        out.state[...] = out.obs.ravel()

    def reset(self, seed: int, out: Arrays) -> None:
        """Start the episode of ``seed``."""
        observations, _ = self._env.reset(seed=seed)
        self._time = 0
        out.obs[...] = 0
        self._see(observations, out)
        out.avail[...] = self._avail
        out.alive[...] = True
        for field in (out.reward, out.terminated, out.truncated, out.agent_terminated):
            field[...] = 0

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        """Apply ``actions`` [N].

        Raises:
            ValueError: an action that is padding for its agent.
        """
        chosen = actions.tolist()
        for i, (action, size) in enumerate(zip(chosen, self.info.action_sizes, strict=True)):
            if not 0 <= action < size:
                raise ValueError(f"agent {i} has no action {action}: it has {size}")
        moves = [a + start for a, start in zip(chosen, self._starts, strict=True)]
        observations, reward, terminated, truncated, _ = self._env.step(moves)
        self._time += 1
        self._see(observations, out)
        rewards = np.asarray(reward, np.float32)
        if rewards.size != self.info.n_agents:
            raise ValueError(f"{rewards.size} rewards came for {self.info.n_agents} agents")
        out.reward[...] = rewards.ravel()
        # one flag means all agents, a list says it agent by agent; who has ended stays ended
        out.agent_terminated |= np.asarray(terminated, bool)
        ended = out.agent_terminated
        if ended.any():
            out.alive[...] = ~ended
            out.avail[ended] = self._only_first
        cut = bool((ended | np.asarray(truncated, bool)).all()) or self._time >= self.info.episode_limit
        out.terminated[...] = ended.all()
        out.truncated[...] = cut and not ended.all()

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


def _find_spec(key: str) -> Any:
    """Return the registered spec of an id, importing the module that registers it.

    Raises:
        UserError: no such package, or no such id.
    """
    import gymnasium

    module, _, name = key.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as exc:
            missing = exc.name or module
            how = (
                f": `pip install {_PACKAGES[missing]}`."
                if missing in _PACKAGES
                else nearest(missing, _PACKAGES) or ": install the package that has it."
            )
            raise UserError(f"The environment '{key}' needs the module '{missing}', which is missing{how}") from exc
        except ImportError as exc:
            raise UserError(f"The environment '{key}' cannot be used: importing '{module}' fails: {exc}.") from exc
    spec = gymnasium.registry.get(name)
    if spec is None and module == "lbforaging":
        spec = _register_foraging(name)
    if spec is None:
        # ids given without their module are the common slip
        home = module or ("lbforaging" if name.startswith("Foraging") else "rware" if name.startswith("rware") else "")
        if home and not module and importlib.util.find_spec(home):
            importlib.import_module(home)
        known = [i for i, s in gymnasium.registry.items() if str(s.entry_point).startswith(home)]
        near = nearest(f"{home}:{name}" if home else name, [f"{home}:{i}" if home else i for i in known])
        raise UserError(f"env_args.key='{key}' is not a registered Gymnasium id{near or '.'}")
    return spec


def _register_foraging(name: str) -> Any:
    """Register an LBF id that follows the registered scheme with other numbers; return its spec or None."""
    import gymnasium

    match = _FORAGING.fullmatch(name)
    if match is None:
        return None
    rows, columns, players, food = (int(match[g]) for g in ("rows", "columns", "players", "food"))
    if min(rows, columns) < 4 or players < 1 or food < 1:
        return None
    # what the package's own registered ids say, but for the numbers in the name
    pattern = gymnasium.registry["Foraging-8x8-2p-1f-v3"]
    gymnasium.register(
        id=name,
        entry_point=pattern.entry_point,
        kwargs={
            **pattern.kwargs,
            "players": players,
            "field_size": (rows, columns),
            "max_num_food": food,
            "sight": 2 if match["partial"] else max(rows, columns),
            "force_coop": match["coop"] is not None,
        },
    )
    return gymnasium.registry[name]


def _check_kwargs(spec: Any, key: str, kwargs: Mapping[str, Any]) -> None:
    """Check further env_args against the environment's own constructor.

    Raises:
        UserError: an argument that it does not have.
    """
    from gymnasium.envs.registration import load_env_creator

    if not kwargs:  # looking at the constructor imports the environment's code
        return
    creator = spec.entry_point if callable(spec.entry_point) else load_env_creator(spec.entry_point)
    parameters = inspect.signature(creator).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for name in kwargs:
        if name == "max_episode_steps":
            raise UserError("env_args.max_episode_steps is spelt env_args.time_limit here.")
        if name not in parameters:
            raise UserError(
                f"env_args.{name} is not an argument of gymma or of '{key}'"
                + (nearest(name, [*_OWN, *parameters]) or f": it takes {', '.join([*_OWN, *parameters])}.")
            )


def _spaces(env: Any, key: str) -> tuple[Sequence[Any], tuple[int, ...]]:
    """Return each agent's observation space and number of actions.

    Raises:
        UserError: the spaces are not one entry an agent, or the actions are not discrete.
    """
    from gymnasium import spaces

    obs, actions = env.observation_space, env.action_space
    if not isinstance(obs, spaces.Tuple) or not isinstance(actions, spaces.Tuple) or len(obs) != len(actions):
        raise UserError(
            f"The environment '{key}' is not multi-agent in gymma's sense: its observation and action spaces must be "
            "gymnasium Tuples with one entry an agent."
        )
    for i, space in enumerate(actions):
        if not isinstance(space, spaces.Discrete):
            raise UserError(
                f"The environment '{key}' cannot be used: agent {i} has the action space {type(space).__name__}, "
                "and only Discrete is supported."
            )
    for i, space in enumerate(obs):
        if not space.is_np_flattenable:
            raise UserError(
                f"The environment '{key}' cannot be used: the observations of agent {i} ({type(space).__name__}) have "
                "no fixed size."
            )
    return list(obs), tuple(int(s.n) for s in actions)


def _lift_own_limit(env: Any) -> int | None:
    """Take away an environment's own step limit and return it, or None where it has none.

    LBF and RWARE report their limit as a termination; only without it does their flag mean a real end.
    """
    limit = None
    for name in _LIMIT_NAMES:
        value = vars(env).get(name)
        if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value > 0:
            limit = int(value) if limit is None else min(limit, int(value))
            setattr(env, name, 2**62)
    return limit
