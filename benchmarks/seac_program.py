"""SEAC's own program on today's LBF and RWARE, kept as a curve file beside those of this project.

    .venv/bin/python benchmarks/seac_program.py PATH --key lbforaging:Foraging-8x8-2p-3f-v3 --seed 1 --out FILE.json

PATH is a checkout of the SEAC paper's code, or a bare git directory of it. Its training program (seac/train.py) runs
unchanged with its own settings; task, steps, seed and how often it logs alone are set. It was written for gym 0.18 and
stable-baselines3 of 2020: their vector of environments and their wrappers are replaced by :class:`Slots` below, which
steps today's Gymnasium environments one after another and, as they did, starts ended episodes anew at once, and reports
an episode's rewards at its end. tensorboard, which only logs, is left out.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from peers.programs import file_of, stand_in

from oamarl.storage.curve_files import best_tenth, tenths, thinned, write

MODULES = ("a2c", "distributions", "model", "storage", "train", "utils")
#: environment steps of an update
PER_UPDATE = 4 * 5


class Slots:
    """The environments of one run, as the program sees them.

    Args:
        key: Gymnasium id of an LBF or RWARE task.
        seed: of the first environment; the next ones follow.
        n: how many.
        time_limit: steps of an episode, None: the task's own.
    """

    def __init__(self, key: str, seed: int, n: int, time_limit: int | None) -> None:
        module, _, _ = key.rpartition(":")
        if module:
            __import__(module)
        options = {} if time_limit is None else {"max_episode_steps": time_limit}
        self.envs = [gymnasium.make(key.rpartition(":")[2], disable_env_checker=True, **options) for _ in range(n)]
        self.observation_space, self.action_space = self.envs[0].observation_space, self.envs[0].action_space
        self._seeds: list[int | None] = [seed + i for i in range(n)]
        self._rewards = np.zeros((n, len(self.action_space)))
        self._lengths = np.zeros(n)

    def _reset(self, i: int) -> Any:
        obs, _ = self.envs[i].reset(seed=self._seeds[i])
        self._seeds[i], self._rewards[i], self._lengths[i] = None, 0.0, 0
        return obs

    def reset(self) -> list[torch.Tensor]:
        """Start an episode everywhere: each agent's observations [n, O]."""
        return self._by_agent([self._reset(i) for i in range(len(self.envs))])

    @staticmethod
    def _by_agent(seen: list[Any]) -> list[torch.Tensor]:
        return [torch.from_numpy(np.stack(own)).float() for own in zip(*seen, strict=True)]

    def step(self, actions: Any) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor, list[dict[str, Any]]]:
        """Step with each agent's actions [n, 1]: observations, rewards [n, N], ends [n], and infos."""
        joint = np.stack([own.squeeze(-1).numpy() for own in actions], 1)
        seen, paid, ended, infos = [], [], [], []
        for i, env in enumerate(self.envs):
            obs, reward, terminated, truncated, _ = env.step([int(a) for a in joint[i]])
            reward = np.asarray(reward, np.float64)
            self._rewards[i] += reward
            self._lengths[i] += 1
            info: dict[str, Any] = {}
            if terminated or truncated:
                info = {"episode_reward": self._rewards[i].copy(), "episode_length": self._lengths[i]}
                info["TimeLimit.truncated"] = truncated and not terminated
                obs = self._reset(i)
            seen.append(obs)
            paid.append(reward)
            ended.append(bool(terminated or truncated))
            infos.append(info)
        return self._by_agent(seen), torch.tensor(np.stack(paid)).float(), torch.tensor(ended).float(), infos

    def close(self) -> None:
        """Release the environments."""
        for env in self.envs:
            env.close()


class Nothing:
    """Takes every call."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __getattr__(self, _: str) -> Any:
        return lambda *_, **__: None


def train(checkout: Path, words: argparse.Namespace) -> list[tuple[int, float, float]]:
    """Return (environment steps, mean episode reward of the team, seconds) as often as the program logs."""
    for name, module in (("gym", gymnasium), ("gym.spaces", gymnasium.spaces)):
        sys.modules[name] = module
    sys.modules["gym.spaces.utils"] = gymnasium.spaces.utils
    stand_in("torch.utils.tensorboard", SummaryWriter=Nothing)
    stand_in("robotic_warehouse")
    stand_in("wrappers", RecordEpisodeStatistics=None, SquashDones=None)
    limit = words.time_limit
    stand_in("envs", make_vec_envs=lambda name, seed, _, n, *__, **___: Slots(words.key, seed, n, limit))
    points: list[tuple[int, float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in MODULES:
            (Path(folder) / f"{name}.py").write_text(file_of(checkout, f"seac/{name}.py", "SEAC"), encoding="utf-8")
        sys.path.insert(0, folder)
        os.chdir(folder)  # it writes a folder results/
        program = __import__("train")
        program.ex.observers.clear()
        began = time.perf_counter()

        def record(name: str, value: Any, step: int) -> None:
            if name == "episode_reward":
                points.append((step * PER_UPDATE, float(value), time.perf_counter() - began))
                print(f"{step * PER_UPDATE:10,} steps  episode reward {float(value):.3f}", flush=True)

        changes = {
            "env_name": words.key, "num_env_steps": words.steps, "seed": words.seed, "loss_dir": None,
            "log_interval": 500, "save_interval": None, "eval_interval": None,
        }  # fmt: skip
        run = program.ex._create_run(config_updates=changes)
        run.log_scalar = record
        run()
        os.chdir(os.path.expanduser("~"))
    return points


def main() -> None:
    """Train, and write the curve file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("checkout", type=Path, help="checkout of the SEAC paper's code, or a bare git directory of it")
    parser.add_argument("--key", default="lbforaging:Foraging-8x8-2p-3f-v3", help="Gymnasium id of a task")
    parser.add_argument("--time-limit", type=int, default=None, help="steps of an episode (the task's own)")
    parser.add_argument("--steps", type=int, default=1_000_000, help="environment steps (1000000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json", help="the curve file")
    words = parser.parse_args()
    out = words.out.absolute()
    points = train(words.checkout.absolute(), words)
    steps, returns, seconds = (np.array(x) for x in zip(*points, strict=True))
    said = f"--key {words.key} --steps {words.steps} --seed {words.seed}"
    said += f" --time-limit {words.time_limit}" if words.time_limit else ""
    args = {"key": words.key} | ({"time_limit": words.time_limit} if words.time_limit else {})
    curve = {
        "command": f"python benchmarks/seac_program.py PATH {said}",
        "config": {"name": "seac-authors", "env": "gymma", "env_args": args, "seed": words.seed},
        "versions": {name: version(name) for name in ("torch", "gymnasium", words.key.partition(":")[0])},
        "wall_clock": round(float(seconds[-1]), 1), "t_env": int(steps[-1]),
        "tenths": tenths(returns), "best_tenth": best_tenth(returns),
        "return_mean": thinned(steps.astype(np.int64), returns),
        "metrics": {"wall_clock": thinned(steps.astype(np.int64), seconds, last=True)},
    }  # fmt: skip
    write(out, curve)


if __name__ == "__main__":
    main()
