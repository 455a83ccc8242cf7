"""Updates of several configurations of this project in turn, in one process: ratios that other load hardly disturbs.

    .venv/bin/python benchmarks/in_turn.py happo 'oappo reuse_mode=frequency' 'oappo reuse_mode=sample' -- \\
        --env-config=gymma with env_args.key=lbforaging:Foraging-8x8-5p-3f-v3 env_args.time_limit=50 hidden_dim=128

Each update starts from the configuration's untrained state, on a batch that its own policies played. The table shows
the median and the shortest time, and both divided by the first configuration's: the median of the ratios within rounds.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable


def prepare(words: list[str]) -> Callable[[], float]:
    """Return a function that makes one update and returns the seconds it took."""
    import torch

    from oamarl.parts import resolve
    from oamarl.training.building import build
    from oamarl.utils.schema.command_line import parse

    runner, mac, learner = build(resolve(parse(words)[0]), torch.device("cpu"))
    batch, _ = runner.run()
    runner.close()
    start = copy.deepcopy((mac.state_dict(), learner.state_dict()))

    def update() -> float:
        policies, rest = copy.deepcopy(start)
        mac.load_state_dict(policies)
        learner.load_state_dict(rest)
        began = time.perf_counter()
        learner.train(batch, 0)
        return time.perf_counter() - began

    return update


def table(names: list[str], seconds: list[list[float]]) -> str:
    """Return the table of ``seconds`` [configuration][round]."""
    lines = ["| | ms an update | shortest | ratio | of the shortest |", "|---|---|---|---|---|"]
    for name, own in zip(names, seconds, strict=True):
        ratio = statistics.median(a / b for a, b in zip(own, seconds[0], strict=True))
        lines.append(
            f"| {name} | {statistics.median(own) * 1e3:.1f} | {min(own) * 1e3:.1f} | {ratio:.3f} "
            f"| {min(own) / min(seconds[0]):.3f} |"
        )
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("configurations", nargs="+", help="an algorithm and its own key=value words, in quotes")
    ours, shared = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
    given = parser.parse_args(ours)

    import torch

    from oamarl.components.updates.parallel import use_threads
    from oamarl.utils.machine import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()
    updates = []
    for text in given.configurations:
        name, *own = text.split()
        updates.append(prepare([f"--config={name}", *shared, "seed=1", "use_cuda=False", *own]))
    use_threads(given.threads)
    for update in updates:
        update()
    seconds: list[list[float]] = [[] for _ in updates]
    for _ in range(given.rounds):
        for update, found in zip(updates, seconds, strict=True):
            found.append(update())
    print(table(given.configurations, seconds))


if __name__ == "__main__":
    main(sys.argv[1:])
