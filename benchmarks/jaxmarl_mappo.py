"""JaxMARL's own MAPPO on SMAX, kept as a curve file beside those of this project.

    pip install -e '.[smax]'
    .venv/bin/python benchmarks/jaxmarl_mappo.py PATH --map 3m --steps 1000000 --seed 1 --out jaxmarl-seed1.json

PATH is a checkout of JaxMARL, or a bare git directory of it. Its training program (baselines/MAPPO/mappo_rnn_smax.py)
runs unchanged with its own YAML; map, steps and seed alone are set, so that its learning rate reaches 0 at the last
step. hydra, omegaconf and wandb, which only read settings and log, and distrax, of which it uses one distribution, are
replaced by the few lines below: nothing but JaxMARL's own requirements need be installed.

Its returns (2 for a battle won) are stored times 10, as this project's SMAX gives them. Win rates are those of
training, by sampled actions: it has no greedy tests.
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

import numpy as np
import yaml
from peers.programs import file_of, stand_in

from oamarl.storage.curve_files import best_tenth, tenths, thinned, write

PROGRAM, SETTINGS = "baselines/MAPPO/mappo_rnn_smax.py", "baselines/MAPPO/config/mappo_homogenous_rnn_smax.yaml"


class Categorical:
    """distrax.Categorical as far as the program uses it."""

    def __init__(self, logits: Any) -> None:
        import jax

        self.jax, self.logits = jax, jax.nn.log_softmax(logits)

    def sample(self, seed: Any) -> Any:
        return self.jax.random.categorical(seed, self.logits)

    def log_prob(self, actions: Any) -> Any:
        return self.jax.numpy.take_along_axis(self.logits, actions[..., None].astype(int), -1)[..., 0]

    def entropy(self) -> Any:
        p = self.jax.numpy.exp(self.logits)
        return -self.jax.numpy.where(p > 0, p * self.logits, 0.0).sum(-1)


def train(program: str, config: dict[str, Any]) -> list[dict[str, float]]:
    """Return what the program logs, a mapping for each update, with the seconds since the start as ``wall_clock``."""
    records: list[dict[str, float]] = []
    began = time.perf_counter()

    def log(values: dict[str, Any]) -> None:
        scalars = {k: float(v) for k, v in values.items() if np.ndim(v) == 0}
        records.append(scalars | {"wall_clock": time.perf_counter() - began})
        print(f"{scalars['env_step']:10,.0f} steps  win rate {scalars['win_rate']:.3f}", flush=True)

    stand_in("wandb", log=log, init=lambda **_: None)
    stand_in("hydra", main=lambda **_: lambda function: function)
    stand_in("omegaconf", OmegaConf=None)
    stand_in("distrax", Categorical=Categorical)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "jaxmarl_program.py").write_text(program, encoding="utf-8")
        sys.path.insert(0, folder)
        import jax

        module = __import__("jaxmarl_program")
        jax.block_until_ready(jax.jit(module.make_train(config))(jax.random.PRNGKey(config["SEED"])))
    return records


def main() -> None:
    """Train, and write the curve file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("checkout", type=Path, help="checkout of JaxMARL, or a bare git directory of it")
    parser.add_argument("--map", default="3m", help="JaxMARL's name of a map (3m)")
    parser.add_argument("--steps", type=int, default=1_000_000, help="environment steps (1000000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json", help="the curve file")
    words = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    config = yaml.safe_load(file_of(words.checkout, SETTINGS, "JaxMARL"))
    config |= {"MAP_NAME": words.map, "TOTAL_TIMESTEPS": words.steps, "SEED": words.seed}
    records = train(file_of(words.checkout, PROGRAM, "JaxMARL"), config)
    # it logs how many steps were made before the update that it tells of
    steps = np.array([r["env_step"] for r in records], np.int64) + config["NUM_ENVS"] * config["NUM_STEPS"]
    ended = np.array([not np.isnan(r["returns"]) for r in records])
    returns = 10 * np.array([r["returns"] for r in records])
    rate, seconds = (np.array([r[k] for r in records]) for k in ("win_rate", "wall_clock"))
    said = f"--map {words.map} --steps {words.steps} --seed {words.seed}"
    curve = {
        "command": f"python benchmarks/jaxmarl_mappo.py PATH {said}",
        "config": {"name": "jaxmarl-mappo", "env": "smax", "env_args": {"map_name": words.map}, "seed": words.seed,
                   "settings": {k: v for k, v in config.items() if k != "SEED" and "WANDB" not in k}},
        "versions": {name: version(name) for name in ("jaxmarl", "jax", "flax", "optax")},
        "wall_clock": round(float(seconds[-1]), 1), "t_env": int(steps[-1]),
        "tenths": tenths(returns[ended]), "best_tenth": best_tenth(returns[ended]),
        "return_mean": thinned(steps[ended], returns[ended]),
        "metrics": {"battle_won_mean": thinned(steps[ended], rate[ended]),
                    "wall_clock": thinned(steps, seconds, last=True)},
    }  # fmt: skip
    write(words.out, curve)


if __name__ == "__main__":
    main()
