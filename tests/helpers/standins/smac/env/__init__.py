"""A stand-in for the `smac` package: its interface, a game process that hears no signal, and faults as told.

Environment variables: STANDIN_LOG names a file that gets a JSON line for each call; STANDIN_FAULT is ``KIND@EPISODE``,
what goes wrong in step 2 of that episode of a game's (counted from 1): crash, hang, died, or ``missing`` (no game),
``defeat``, ``deathbed`` (it is found dead at a reset), ``refused`` (the start of that number, over all in STANDIN_LOG,
fails as a game that ended at once; 0: every one).

As in SMAC, a reset starts a game as long as no episode has been seen to end, and the largest reward, by which rewards
are divided, grows at each of those resets.
"""

import inspect
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

_GAME = "import signal, time\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\ntime.sleep(600)"


def note(what, **more):
    path = os.environ.get("STANDIN_LOG")
    if path:
        with open(path, "a") as file:
            file.write(json.dumps({"call": what, "pid": os.getpid(), **more}) + "\n")


class ConnectError(Exception):
    """PySC2's."""


class StarCraft2Env:
    """Agent 0 dies in step 2; four attacks win; at step 8 (episode_limit) the time is up."""

    def __init__(
        self, map_name="8m", step_mul=8, move_amount=2, difficulty="7", game_version=None, seed=None,
        continuing_episode=False, obs_all_health=True, obs_own_health=True, obs_last_action=False,
        obs_pathing_grid=False, obs_terrain_height=False, obs_instead_of_state=False, obs_timestep_number=False,
        state_last_action=True, state_timestep_number=False, reward_sparse=False, reward_only_positive=True,
        reward_death_value=10, reward_win=200, reward_defeat=0, reward_negative_scale=0.5, reward_scale=True,
        reward_scale_rate=20, replay_dir="", replay_prefix="", window_size_x=1920, window_size_y=1200,
        heuristic_ai=False, heuristic_rest=False, debug=False,
    ):  # fmt: skip
        names = inspect.signature(StarCraft2Env.__init__).parameters
        given = locals()
        note("construct", arguments={k: given[k] for k in names if k != "self"})
        if map_name == "broken":
            raise KeyError(map_name)
        self.seed_, self.continuing, self.replay = seed, continuing_episode, (replay_dir, replay_prefix)
        self.n_agents, self.n_enemies, self.n_actions, self.episode_limit = 3, 3, 9, 8
        self.force_restarts = self.timeouts = self.episodes = self._episode_count = self.max_reward = 0
        self._sc2_proc = self._obs = None
        kind, _, episode = os.environ.get("STANDIN_FAULT", "").partition("@")
        self.fault, self.when = kind, int(episode or 0)

    def get_env_info(self):
        limit = self.episode_limit
        return {"state_shape": 5, "obs_shape": 4, "n_actions": 9, "n_agents": 3, "episode_limit": limit}

    def _launch(self):
        if self.fault == "missing":
            raise FileNotFoundError(2, "No such file or directory", "/nowhere/StarCraftII/Versions")
        if self.fault == "refused":
            with open(os.environ["STANDIN_LOG"]) as file:
                starts = sum('"launch"' in line or '"refused"' in line for line in file)
            if self.when in (0, starts + 1):
                note("refused")
                raise ConnectError("Failed to connect to the SC2 websocket. Is it up?")
        self._sc2_proc = subprocess.Popen([sys.executable, "-S", "-c", _GAME])
        self.rng = np.random.default_rng(self.seed_)
        self.folder = tempfile.mkdtemp(prefix="sc-")
        note("launch", seed=self.seed_, game=self._sc2_proc.pid, folder=self.folder)

    def reset(self):
        if self._episode_count == 0:
            self._launch()
            self.max_reward += 1
        self.episodes += 1
        note("reset", max_reward=self.max_reward)
        if self.fault == "deathbed" and self.episodes == self.when:
            self.force_restarts += 1
        self.time = self.hits = 0
        self.drawn = self.rng.random()
        return self.get_obs(), self.get_state()

    def step(self, actions):
        assert isinstance(actions, list)
        avail = self.get_avail_actions()
        assert all(avail[i][a] for i, a in enumerate(actions)), "an illegal action"
        reward, over, told = self._play(actions)
        self._episode_count += over
        return reward / (self.max_reward or 1), over, told

    def _play(self, actions):
        self.time += 1
        note("step")
        if self.time == 2 and self.episodes == self.when:
            if self.fault == "crash":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fault == "hang":
                time.sleep(600)
            if self.fault == "died":
                self.force_restarts += 1
                return 0, True, {}
        self.hits += sum(a >= 6 for a in actions)
        told = {"battle_won": False, "dead_allies": int(self.time >= 2), "dead_enemies": min(self.hits, 3)}
        if self.hits >= 4:
            return 20.0, True, {**told, "battle_won": True}
        if self.fault == "defeat" and self.time == self.episode_limit:
            return 0.0, True, {**told, "dead_allies": 3}
        if self.time >= self.episode_limit:
            self.timeouts += 1
            return 0.5, True, {**told, **({"episode_limit": True} if self.continuing else {})}
        return 0.25, False, told

    def _dead(self, i):
        return i == 0 and self.time >= 2

    def get_obs(self):
        return [np.full(4, 0.0 if self._dead(i) else self.drawn) for i in range(3)]

    def get_state(self):
        return np.full(5, self.drawn + self.time)

    def get_avail_actions(self):
        return [[1] + [0] * 8 if self._dead(i) else [0] + [1] * 8 for i in range(3)]

    def save_replay(self):
        folder, prefix = self.replay
        note("save_replay", prefix=prefix)
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, f"{prefix}_{int(time.time())}.SC2Replay"), "wb") as file:
            file.write(b"replay")

    def render(self, mode="human"):
        return np.zeros((4, 6, 3), np.uint8)

    def close(self):
        note("close")
        if self._sc2_proc:
            self._sc2_proc.kill()
            self._sc2_proc.wait()
