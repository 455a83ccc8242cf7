"""How teams fight on SMAX's 3m: scripts, and trained teams by greedy (argmax) actions.

    pip install -e '.[smax]'
    .venv/bin/python benchmarks/smax_tactics.py                                  # the scripts
    .venv/bin/python benchmarks/smax_tactics.py results/sacred/mappo/3m/1 ...    # and these runs
    .venv/bin/python benchmarks/smax_tactics.py --battles 1024 --map 8m

Columns: battles won; of the moments in which two or more fire, those in which all fire at one enemy; of an agent's
steps with an enemy in range, those in which it fires; allies alive after a victory; steps. Runs must be of the map.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

import oamarl
from oamarl.envs.base import Arrays
from oamarl.envs.smax.smax import Smax

#: moves before the attacks: up, right, down, left, stop
MOVES = 5
STEPS = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]])
Policy = Callable[[Arrays], np.ndarray]


def script(env: Smax, hold: bool, together: bool) -> Policy:
    """Return a policy [B, N, O] -> [B, N]: fire at an enemy in range, else go on (or wait until one is seen).

    Args:
        hold: wait at the place of the start until an enemy is seen.
        together: of the enemies in range, that which most allies have in range, the weakest of these; else the closest.
    """
    n, kinds = env.info.n_agents, env.info.n_actions - MOVES
    features = (env.info.obs_size - 10) // (n + kinds - 1)  # own: health, position, cooldown, six types

    def act(shown: Arrays) -> np.ndarray:
        others = shown.obs[:, :, : features * (n + kinds - 1)].reshape(len(shown.obs), n, -1, features)
        health, place = others[:, :, n - 1 :, 0], others[:, :, n - 1 :, 1:3]
        legal = shown.avail[:, :, MOVES:]
        distance = np.linalg.norm(place, axis=-1)
        cost = health - 10.0 * legal.sum(1, keepdims=True) + 0.01 * np.arange(kinds) if together else distance
        target = np.where(legal, cost, np.inf).argmin(-1)
        near = np.where(health > 0, distance, np.inf).argmin(-1)
        toward = (np.take_along_axis(place, near[..., None, None], 2)[..., 0, :] @ STEPS.T).argmax(-1)
        moves = np.where((health > 0).any(-1), toward, 4 if hold else 1)
        return np.where(legal.any(-1), MOVES + target, np.where(shown.alive, moves, 4))

    return act


def play(env: Smax, n_slots: int, policy: Policy, first_seed: int) -> list[float]:
    """Return what the columns say of one battle in each slot."""
    shown = Arrays.allocate(env.info, n_slots)
    env.reset(np.arange(n_slots), np.arange(first_seed, first_seed + n_slots), shown)
    active, won, steps = np.ones(n_slots, bool), np.zeros(n_slots, bool), np.zeros(n_slots)
    volleys = together = chances = shots = survivors = 0
    while active.any():
        actions = policy(shown)
        legal, alive = shown.avail[:, :, MOVES:].any(-1), shown.alive & active[:, None]
        fires = (actions >= MOVES) & alive
        chances, shots = chances + int((legal & alive).sum()), shots + int(fires.sum())
        several = fires.sum(1) > 1
        highest = np.where(fires, actions, 0).max(1)
        same = highest == np.where(fires, actions, env.info.n_actions).min(1)
        volleys, together = volleys + int(several.sum()), together + int((several & same).sum())
        env.step(actions, active, shown)
        steps += active
        over = active & (shown.terminated | shown.truncated)
        won[over] = shown.metrics[over, 0] > 0
        survivors += int(shown.alive[over & won].sum())
        active &= ~over
    return [
        won.mean(),
        together / max(volleys, 1),
        shots / max(chances, 1),
        survivors / max(won.sum(), 1),
        steps.mean(),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("runs", nargs="*", type=Path, help="folders of runs")
    parser.add_argument("--battles", type=int, default=1024, help="for each row (1024)")
    parser.add_argument("--map", default="3m")
    parser.add_argument("--seed", type=int, default=0, help="of the first battle (0)")
    words = parser.parse_args()
    env = Smax(words.battles, map_name=words.map)
    rows: list[tuple[str, Policy]] = [
        (f"script: {where}, {whom}", script(env, hold, together))
        for where, hold in (("advances", False), ("waits", True))
        for whom, together in (("closest enemy", False), ("one enemy together", True))
    ]
    for run in words.runs:
        team = oamarl.load(run)
        rows.append((str(run), lambda shown, team=team: team.act(shown.obs, shown.avail)))
    print("| team, greedy (argmax) actions | won | one enemy | fires | alive | steps |\n|---|---|---|---|---|---|")
    for name, policy in rows:
        won, one, fires, alive, steps = play(env, words.battles, policy, words.seed)
        print(f"| {name} | {won:.3f} | {one:.2f} | {fires:.2f} | {alive:.2f} | {steps:.1f} |", flush=True)


if __name__ == "__main__":
    main()
