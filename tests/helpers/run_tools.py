"""Whole runs for tests: settings from the shipped YAMLs, the training loop without sacred, and comparisons of runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from oamarl.components.batch import Batch
from oamarl.parts import resolve
from oamarl.settings import Settings
from oamarl.storage import checkpoints
from oamarl.storage.log import RunLog
from oamarl.storage.records import read_arrays, read_metrics
from oamarl.training.building import build
from oamarl.training.loop import Training
from oamarl.training.run_config import RunConfig
from oamarl.utils.schema.command_line import Request

CPU = torch.device("cpu")

#: all YAMLs in src/config/algs, by what their learners do
PPO = ("ippo", "ippo_ns", "mappo", "mappo_ns", "seps")
CLIPPED = (*PPO, "happo", "oappo")
OFF_AGENT = ("oappo", "oatrpo")
A2C = ("ia2c", "ia2c_shared", "maa2c", "maa2c_ns", "seac", "snac")
#: policy gradients by critics of action values
ACTION_CRITICS = ("coma", "coma_ns", "pac", "pac_ns", "pac_dcg_ns")
#: learners that use a batch once
ONE_PASS = (*A2C, *ACTION_CRITICS)
ALGORITHMS = (*PPO, "happo", "hatrpo", "oappo", "oatrpo", *ONE_PASS)
#: learners of action values from a replay
JOINT = ("vdn", "vdn_ns", "qmix", "qmix_ns", "qtran")
Q_LEARNING = ("iql", "iql_ns", *JOINT, "seql")
#: the same without a replay
PQN = ("pqn", "pqn_vdn")
#: learners of deterministic policies from a replay
DETERMINISTIC = ("maddpg", "maddpg_ns", "matd3", "ddpg", "td3", "dvm")
#: agents of one space that follow one another's feed-forward policies, on PPO and on MADDPG
TRANSFER = ("maptf_mappo", "maptf_maddpg")
#: QMIX with networks of roles
ROLES = ("roma",)
#: methods with tables, which need an environment with countable observations
TABULAR = ("iql_tabular", "pr_tabular")
#: what learners that use a batch once and whole do not read
PASSES = ("epochs", "critic_epochs", "num_minibatches", "value_clip")

#: small and quick, for every algorithm
SMALL: dict[str, Any] = {
    "seed": 3, "use_cuda": False, "hidden_dim": 8, "batch_size_run": 4, "epochs": 2, "backend": "serial",
    "log_interval": 1, "test_interval": 20, "test_nepisode": 3, "checkpoint_interval": 1_000_000,
}  # fmt: skip

#: of learners from a replay: an update after each batch
REPLAY: dict[str, Any] = {"batch_size": 4, "buffer_size": 20, "updates_per_step": None}

#: of an algorithm alone: SEPS plays one batch at random before it trains, DVM distils soon
OWN: dict[str, dict[str, Any]] = {
    "seps": {"seps_steps": 1, "seps_epochs": 1, "seps_hidden_dim": 4, "seps_latent_dim": 2, "seps_batch_size": 16},
    "dvm": {"distill_interval": 20, "distill_updates": 2},
    "maptf_mappo": {"option_updates": 2, "option_batch_size": 16},
}  # fmt: skip


def settings(config: str, env: str, env_args: Mapping[str, Any] | None = None, **overrides: Any) -> Settings:
    """Settings of a shipped algorithm in ``env``: a shipped YAML's name, or ``toy_envs:Class``.

    Whole episodes for every algorithm, unless ``overrides`` say otherwise; without the keys that it does not read, and
    those whose value is ``...``.
    """
    own = ":" in env
    given = {
        **SMALL,
        **OWN.get(config, {}),
        **({"env": env} if own else {}),
        "env_args": dict(env_args or {}),
        **overrides,
    }
    if config in (*Q_LEARNING, *ROLES):
        given = {**REPLAY, **{k: v for k, v in given.items() if k not in PASSES}}
    if config in (*DETERMINISTIC, "maptf_maddpg"):
        given = {
            **REPLAY,
            "runner": "parallel",
            "warmup_steps": 0,
            **{k: v for k, v in given.items() if k not in PASSES},
        }
    if config in ONE_PASS:
        given = {"runner": "parallel", **{k: v for k, v in given.items() if k not in PASSES}}
    given = {k: v for k, v in given.items() if v is not ...}
    return resolve(Request(config, None if own else env, given))


@dataclass
class Trained:
    """A run that is over: its log's points, its result and its parts."""

    folder: Path
    asked: Settings
    points: list[dict[str, Any]]
    result: dict[str, float]
    loop: Training

    def last(self, name: str) -> float:
        """The newest value of a metric."""
        return next(p["metrics"][name] for p in reversed(self.points) if name in p["metrics"])

    def arrays(self, name: str) -> list[tuple[int, dict[str, np.ndarray]]]:
        """The records of an array log."""
        return read_arrays(self.folder / f"{name}.arrays")


def train(folder: Path, config: str, env: str, env_args: Mapping[str, Any] | None = None, **overrides: Any) -> Trained:
    """Train in this process, with everything but sacred; the environments are closed again."""
    asked = settings(config, env, env_args, **overrides)
    torch.set_num_threads(1)
    runner, mac, learner = build(asked, CPU)
    log = RunLog(folder)
    try:
        loop = Training(asked.part(RunConfig), asked.values, runner, mac, learner)
        result = loop.run(log, None)
    finally:
        log.close()
        runner.close()
    return Trained(folder, asked, read_metrics(folder), result, loop)


def untimed(points: list[dict[str, Any]]) -> list[tuple[int, dict[str, float]]]:
    """(step, metrics) of every point, without what a clock measured."""
    return [
        (p["t"], {k: v for k, v in p["metrics"].items() if k != "wall_clock" and not k.startswith("time_")})
        for p in points
    ]


def assert_same(a: Any, b: Any, where: str = "") -> None:
    """Nested containers with equal numbers, bit for bit (a NaN equals a NaN)."""
    if isinstance(a, Mapping):
        assert list(a) == list(b), where
        for key in a:
            assert_same(a[key], b[key], f"{where}[{key!r}]")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    elif isinstance(a, (torch.Tensor, np.ndarray)):
        x, y = (each.numpy(force=True) if isinstance(each, torch.Tensor) else each for each in (a, b))
        np.testing.assert_array_equal(x, y, err_msg=where, strict=True)
    else:
        assert a == b or (a != a and b != b), f"{where}: {a!r} and {b!r}"


def assert_same_batch(a: Batch, b: Batch) -> None:
    """Batches equal bit for bit."""
    for f in fields(Batch):
        assert_same(getattr(a, f.name), getattr(b, f.name), f.name)


def final_state(folder: Path) -> dict[str, Any]:
    """Weights, optimisers, streams and counters at a run's end, and nothing that a clock measured."""
    saved = checkpoints.load(checkpoints.find(folder))
    return {name: saved[name] for name in ("mac", "learner", "runner")}


def assert_same_run(a: Path, b: Path) -> None:
    """Two runs' folders hold the same curve, the same arrays and the same final state."""
    points = untimed(read_metrics(a))
    assert points, f"nothing was logged in {a}"
    assert_same(points, untimed(read_metrics(b)), "metrics.jsonl")
    assert sorted(p.name for p in a.glob("*.arrays")) == sorted(p.name for p in b.glob("*.arrays"))
    for path in a.glob("*.arrays"):
        assert_same(read_arrays(path), read_arrays(b / path.name), path.name)
    assert_same(final_state(a), final_state(b))


def latest(words: Iterable[str]) -> list[str]:
    """Return a command line without the words ``key=value`` that a later word gives another value."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, _ = word.partition("=")
        name = name if equals else word
        found.pop(name, None)
        found[name] = word
    return list(found.values())
