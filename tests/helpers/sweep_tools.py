"""Small sweeps of real runs for tests, of a learner that can be told to fail or to take its time."""

from __future__ import annotations

from pathlib import Path

MAIN = Path(__file__).resolve().parents[2] / "src" / "main.py"

FILE = """
algorithms: {ours: {config: ./mine.yaml}}
environments:
  tiny: {config: maze, with: {env_args.map: ["S...", ".#R.", ".#K.", "...G"], env_args.agents: {red: 1, black: 1}}}
seeds: SEEDS
retries: 1
with: {t_max: T_MAX, log_interval: 100, test_nepisode: 0, checkpoint_interval: 100, batch_size_run: 4,
       env_args.time_limit: 8, hidden_dim: 8, epochs: 2}
curves: curves
"""

LEARNER = """
import os, pathlib, time
from oamarl.learners.ppo import PPOLearner

class Frail(PPOLearner):
    "Kills its process once (seed 1), or always raises (seed 2)."

    def __init__(self, *args, seed, **kwargs):
        super().__init__(*args, seed=seed, **kwargs)
        self.of = seed

    def train(self, batch, t_env):
        mark = pathlib.Path("died")
        if self.of == 1 and t_env > 300 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), 9)
        if self.of == 2 and t_env > 200:
            raise ZeroDivisionError("no way on")
        return super().train(batch, t_env)

class Slow(PPOLearner):
    "Takes its time until there is a file `go`."

    def train(self, batch, t_env):
        if not pathlib.Path("go").exists():
            time.sleep(0.4)
        return super().train(batch, t_env)
"""


def prepare(folder: Path, learner: str, t_max: int, seeds: str = "1-2") -> None:
    """Write the learners, an algorithm with one of them, and `two.yaml`."""
    (folder / "own_learners.py").write_text(LEARNER)
    shipped = (MAIN.parent / "config" / "algs" / "ippo.yaml").read_text(encoding="utf-8")
    mine = shipped.replace("name: ippo", "name: mine").replace("ppo_learner", f"own_learners:{learner}")
    (folder / "mine.yaml").write_text(mine)
    (folder / "two.yaml").write_text(FILE.replace("T_MAX", str(t_max)).replace("SEEDS", seeds))


def with_checkpoints(folder: Path) -> int:
    """Return how many runs have a checkpoint."""
    return len({path.parent for path in folder.glob("results/sacred/mine/*/*/checkpoints/*.pt")})


def runs(folder: Path) -> list[Path]:
    """Return the folders of all runs."""
    return sorted(p.parent for p in folder.glob("results/sacred/mine/black_red/*/config.json"))
