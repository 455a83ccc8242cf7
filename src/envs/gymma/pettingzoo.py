"""PettingZoo environments whose agents act at once, may leave early, and may differ in their spaces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ...utils.errors import UserError
from ..base import Arrays, EnvInfo
from ..foreign import close
from ..info_metrics import InfoSource
from ..pictures import gymnasium_frame
from ..spaces import AgentSpaces
from .protocol import as_rewards, of_reset, of_step, refuse_old_reset, refuse_strangers


class PettingZoo(InfoSource):
    """One parallel environment; agent i is ``possible_agents[i]`` throughout.

    | an agent that | alive | agent_terminated | sees and may do |
    |---|---|---|---|
    | takes part | True | False | its own observation and legal actions |
    | ended by the rules | False | True, for the rest of the episode | its last observation, action 0 |
    | was cut off (truncated) | False | False | its last observation, action 0 |
    | has not come yet | False | False | zeros, action 0 |

    One that comes back after it ended by the rules stays ended; one that was cut off takes part again.
    The episode is over when no agent is left: terminated where every agent that took part ended by the rules,
    otherwise truncated. The state is the environment's own ``state()`` where it has one, else all observations.
    """

    def __init__(self, env: Any, name: str, time_limit: int | None, own_limit: int | None, team_reward: bool) -> None:
        """Wrap a parallel environment, or one of agents in turn (AEC) that PettingZoo can convert.

        Args:
            env: the environment.
            name: how messages call it.
            time_limit: steps after which an episode is cut, or None.
            own_limit: the limit that it keeps itself, or None.
            team_reward: each agent's reward already is the team's.

        Raises:
            UserError: agents that act in turn, no list of agents, no step limit, or spaces of another kind.
        """
        self._env = _parallel(env, name)
        agents = list(getattr(self._env, "possible_agents", ()))
        if not agents:
            raise UserError(f"The environment '{name}' cannot be used: it does not say its possible_agents.")
        limits = [v for v in (time_limit, own_limit) if v is not None]
        if not limits:
            raise UserError(f"The environment '{name}' has no step limit that is known here: set env_args.time_limit.")
        refuse_old_reset(self._env, name)
        self.agents, self._name = agents, name
        self._index = {agent: i for i, agent in enumerate(agents)}
        try:
            spaces = [(_space(self._env, "observation", a), _space(self._env, "action", a)) for a in agents]
        except (KeyError, AttributeError, NotImplementedError, TypeError) as exc:
            raise UserError(f"The environment '{name}' cannot be used: an agent has no space ({exc!r}).") from exc
        self.spaces = AgentSpaces(name, agents, [o for o, _ in spaces], [a for _, a in spaces])
        s, n = self.spaces, len(agents)
        self._own_state = self._state_size(name)
        self.info = EnvInfo(
            name=name, n_agents=n, obs_size=s.obs_size, state_size=self._own_state or n * s.obs_size,
            n_actions=s.n_actions, episode_limit=min(limits), obs_sizes=s.obs_sizes, action_sizes=s.action_sizes,
            team_reward=team_reward, obs_shape=s.obs_shape, action_low=s.action_low, action_high=s.action_high,
        )  # fmt: skip
        self._time = 0
        self._took_part = np.zeros(n, bool)
        self._parting: dict[Any, dict[Any, Any]] = {}  # agent that has left -> its last info

    def _state_size(self, name: str) -> int:
        """Return the size of the environment's own state, 0 where it has none; only an episode can tell."""
        try:
            self._env.reset(seed=0)
        except Exception as exc:
            raise UserError(f"The environment '{name}' fails in reset(seed=0): {type(exc).__name__}: {exc}") from exc
        try:
            state = self._env.state()
        except (NotImplementedError, AttributeError, TypeError):  # rock-paper-scissors has a dict of this name
            return 0
        if state is None or isinstance(state, (Mapping, str)):
            return 0
        found = np.asarray(state)
        if found.dtype.kind not in "biuf":
            raise UserError(
                f"The environment '{name}' cannot be used: its state() gives a {type(state).__name__} that is "
                "no array of numbers."
            )
        return int(found.size)

    def reset(self, seed: int, out: Arrays) -> None:
        """Start the episode of ``seed``."""
        observations, infos = of_reset(self._env.reset(seed=seed), self._name)
        self._refuse_strangers(observations, "shows an observation of")
        self._refuse_strangers(self._env.agents, "plays with")
        self._time = 0
        self._took_part[:] = False
        self._parting.clear()
        for field in (out.obs, out.reward, out.terminated, out.truncated, out.agent_terminated):
            field[...] = 0
        self._see(observations, infos, set(self._env.agents), out)

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        """Apply ``actions`` [N], continuous ones [N, D]; those of agents that are not there are left out.

        Raises:
            ValueError: an action that is padding for its agent, or numbers of other sizes than declared.
        """
        chosen, i_of = actions if self.spaces.continuous else actions.tolist(), self._index
        acting = {a: self.spaces.move(i_of[a], chosen[i_of[a]]) for a in self._env.agents}
        found = of_step(self._env.step(acting), self._name)
        observations, rewards, terminations, truncations, returned = found
        self._refuse_strangers(observations, "shows an observation of")
        self._refuse_strangers(rewards, "rewards")
        self._refuse_strangers(self._env.agents, "plays with")
        infos: Mapping[Any, Any] = returned if isinstance(returned, Mapping) else {}
        self._time += 1
        out.reward[...] = 0
        for agent, reward in rewards.items():
            value = as_rewards(reward, f"of agent {agent} ")
            if value.size != 1:
                raise ValueError(f"agent {agent} is rewarded with {value.size} numbers, and one is needed")
            out.reward[i_of[agent]] = value.item()
        before, left = out.agent_terminated.copy(), set(self._env.agents)
        for agent in acting:
            cut = bool(truncations.get(agent, False))
            if terminations.get(agent, False) or (agent not in left and not cut):  # gone without a word: ended
                out.agent_terminated[i_of[agent]] = True
            if cut or terminations.get(agent, False):
                left.discard(agent)
            if agent not in left and isinstance(infos.get(agent), Mapping):
                self._parting[agent] = dict(infos[agent])
        left -= self._returned(left, before)
        self._see(observations, infos, left, out)
        took_part = self._took_part
        over, ended = not left, bool(out.agent_terminated[took_part].all())
        out.terminated[...] = over and ended
        out.truncated[...] = (over and not ended) or (not over and self._time >= self.info.episode_limit)
        if self.listener is not None and (out.terminated or out.truncated):
            last = self._parting | {a: infos[a] for a in acting if a in infos}
            self.listener.infos([last[a] for a in self.agents if a in last])

    def _refuse_strangers(self, given: Iterable[Any], what: str) -> None:
        """Refuse agents that are not among the possible ones; see :func:`~.protocol.refuse_strangers`."""
        if not self._index.keys() >= set(given):
            refuse_strangers(given, self._index, self._name, what)

    def _returned(self, there: set[Any], ended: np.ndarray) -> set[Any]:
        """Return the agents that are ``there`` again although they had ``ended`` [N]."""
        back = {a for a in there if ended[self._index[a]]} if ended.any() else set()
        if back and self.listener is not None:
            self.listener.end_taken_back(next(a for a in self.agents if a in back))
        return back

    def _see(self, observations: Mapping[Any, Any], infos: Any, there: set[Any], out: Arrays) -> None:
        """Write observations, masks, alive agents and the state."""
        for i, agent in enumerate(self.agents):
            inside = None
            if agent in observations:
                out.obs[i] = 0
                inside = self.spaces.observe(i, observations[agent], out.obs[i])
            if agent not in there:
                out.alive[i] = False
                out.avail[i] = self.spaces.at_end[i]
                continue
            out.alive[i] = self._took_part[i] = True
            info = infos.get(agent) if isinstance(infos, Mapping) else None
            outside = info.get("action_mask") if isinstance(info, Mapping) else None
            self.spaces.mask(i, outside if outside is not None else inside, out.avail[i])
        if self._own_state:
            self._see_state(bool(there), out)
        else:
            out.state[...] = out.obs.ravel()

    def _see_state(self, someone_left: bool, out: Arrays) -> None:
        try:
            state = np.asarray(self._env.state())
        except Exception:
            # with no agent left some environments have no state any more: the last one stays
            if someone_left:
                raise
            return
        if state.size != self._own_state:
            if someone_left:
                raise ValueError(f"the state has {state.size} numbers, and had {self._own_state} at first")
            return
        out.state[...] = state.ravel()

    def render(self) -> np.ndarray:
        """Return a picture of this moment, uint8 [H, W, 3]."""
        picture: np.ndarray = gymnasium_frame(self._env)
        return picture

    def close(self) -> None:
        """Close the environment."""
        close(self._env)


def _space(env: Any, kind: str, agent: Any) -> Any:
    """Return an agent's space: by the method of PettingZoo's API, or from a mapping of its name, as older ones have."""
    found = getattr(env, f"{kind}_space")
    if found is None:
        found = getattr(env, f"{kind}_spaces")
    return found[agent] if isinstance(found, Mapping) else found(agent)


def _parallel(env: Any, name: str) -> Any:
    """Return a parallel environment, converting one whose agents act one after another where that is the same.

    Raises:
        UserError: it is not the same.
    """
    if not hasattr(env, "agent_iter"):
        return env
    from pettingzoo.utils import aec_to_parallel

    try:
        return aec_to_parallel(env)
    except AssertionError as exc:
        raise UserError(
            f"The environment '{name}' cannot be used: its agents act in turn (AEC) and it does not say "
            "is_parallelizable, and here all agents act at once."
        ) from exc
