"""Training on SMAX with everything on one device, in one command of less than eight minutes.

    python benchmarks/gpu.py --out gpu.json                    # a machine with a GPU
    python benchmarks/gpu.py --cpu                             # small sizes, on the processor cores
    python benchmarks/gpu.py --jaxmarl PATH                    # JaxMARL's own MAPPO beside it

It needs torch, JAX, numpy, PyYAML and JaxMARL, and nothing of this project installed: neither sacred nor gymnasium.
Where JaxMARL is not installed, `--wheels FOLDER` takes it (and what else is missing) from wheels. PATH is a checkout
of JaxMARL, or a bare git directory of it.

First the numbers: a batch and an update on the device are compared with the CPU's. Then iterations of collecting and
learning, end to end, after one that is not timed: steps a second, how the time splits, memory, and the least time that
the device needs for the products and the bytes of an iteration (the floor). What no time is left for is left out, and
listed.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
#: an H100's float32 operations and bytes of memory a second, by NVIDIA's data sheet
PEAK_FLOPS, PEAK_BYTES = 67e12, 3.35e12
EPOCHS, MINIBATCHES, HIDDEN = 4, 4, 128
#: a measurement: method, map, recurrent, slots, matmul_precision
Cell = tuple[str, str, bool, int, str]
#: what matters most comes first; JaxMARL's own MAPPO after each cell of MAPPO with a GRU in float32
GPU_CELLS: list[Cell] = [
    ("mappo", "3m", False, 8192, "float32"), ("mappo", "3m", True, 8192, "float32"),
    ("oappo", "3m", False, 8192, "float32"), ("mappo", "3m", False, 256, "float32"),
    ("mappo", "3m", True, 256, "float32"), ("mappo", "3m", True, 8192, "tf32"),
    ("mappo", "3s5z_vs_3s6z", False, 4096, "float32"), ("mappo", "3s5z_vs_3s6z", True, 4096, "float32"),
    ("mappo", "3m", False, 2048, "float32"), ("mappo", "3m", False, 8192, "tf32"),
    ("mappo", "3m", False, 8192, "bf16"),
    ("oappo", "3s5z_vs_3s6z", False, 2048, "float32"), ("oappo", "3m", False, 256, "float32"),
    ("oappo", "3m", True, 8192, "float32"), ("oappo", "3s5z_vs_3s6z", True, 2048, "float32"),
    ("mappo", "3m", True, 2048, "float32"), ("mappo", "3s5z_vs_3s6z", False, 256, "float32"),
]  # fmt: skip
CPU_CELLS: list[Cell] = [(method, "3m", rnn, 64, "float32") for method, rnn in (
    ("mappo", False), ("mappo", True), ("oappo", False)
)]  # fmt: skip


def importable() -> None:
    """Make this checkout the package `oamarl` where it is not installed."""
    if importlib.util.find_spec("oamarl") is None:
        spec = importlib.util.spec_from_file_location(
            "oamarl", ROOT / "src" / "__init__.py", submodule_search_locations=[str(ROOT / "src")]
        )
        assert spec is not None
        assert spec.loader is not None
        sys.modules["oamarl"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


@contextmanager
def wheels(folder: Path | None) -> Iterator[None]:
    """Unpack wheels of pure Python, and make what is in them importable."""
    with tempfile.TemporaryDirectory() as unpacked:
        for wheel in sorted(folder.glob("*.whl")) if folder else []:
            zipfile.ZipFile(wheel).extractall(unpacked)
        sys.path.append(unpacked)  # behind what is installed
        yield


def build(cell: Cell, length: int, backend: str, device: Any, **more: Any) -> Any:
    """Return runner, controller and learner of a cell; ``more``: further settings."""
    method, map_name, recurrent, slots, precision = cell
    from oamarl.parts import ALWAYS
    from oamarl.settings import resolve
    from oamarl.training.building import build as built
    from oamarl.utils.schema.command_line import Request

    given = {
        "env_args": {"map_name": map_name, "device": "cpu" if device.type == "cpu" else "gpu"},
        "runner": "rollout", "backend": backend, "batch_size_run": slots, "rollout_length": length,
        "t_max": 10**9, "hidden_dim": HIDDEN, "epochs": EPOCHS, "num_minibatches": MINIBATCHES, "use_rnn": recurrent,
        "use_cuda": device.type != "cpu", "seed": 1, "test_nepisode": 0, "matmul_precision": precision, **more,
    }  # fmt: skip
    read = {name: part for name, part in ALWAYS.items() if name != "evaluation"}  # which needs sacred
    runner, mac, learner = built(resolve(Request(method, "smax", given), read), device)
    return runner, mac, learner


def compare(method: str, recurrent: bool, device: Any) -> dict[str, float]:
    """Return how far a batch and an update on the device are from the CPU's, of 16 battles and 32 steps."""
    import torch

    cpu = torch.device("cpu")
    here = build((method, "3m", recurrent, 16, "float32"), 32, "device", device)
    there = build((method, "3m", recurrent, 16, "float32"), 32, "native", cpu)
    (ours, _), (theirs, _) = here[0].run(), there[0].run()
    named = theirs.named()
    same = (ours.actions.cpu() == theirs.actions).float()
    found = {
        "share of equal actions": float(same.mean()), "of the first step": float(same[:, 0].mean()),
        "log_prob, first step": float((ours.log_prob.cpu() - theirs.log_prob)[:, 0].abs().max()),
        "obs, first step": float((ours.obs.cpu() - theirs.obs)[:, 0].abs().max()),
    }  # fmt: skip
    moved = type(theirs).of({name: x.to(device) for name, x in named.items()})
    scalars, expected = here[2].train(moved, 0)[0], there[2].train(theirs, 0)[0]
    off = [abs(float(scalars[k]) - v) / max(abs(v), 1e-3) for k, v in expected.items() if k in scalars]
    found["update, largest relative difference of a figure"] = max(off)
    for runner in (here[0], there[0]):
        runner.close()
    return found


def rounding(precision: str, device: Any) -> dict[str, float]:
    """Return what a precision of products does to policies (their ratio to the policies that acted, which are the same
    ones) and to values, of 64 battles and 32 steps."""
    from oamarl.components.updates.precision import use_precision

    runner, mac, learner = build(("mappo", "3m", False, 64, precision), 32, "device", device, head_gain=1.0)
    batch, _ = runner.run()
    it = learner.begin_iteration(batch, 0)
    policy, at, _ = mac.policies(it.samples, it.samples.entries)
    off = (policy.log_prob(it.samples.actions[at]).detach() - it.samples.log_prob[at])[it.samples.valid[at]].abs()
    use_precision("float32", device)
    exact = learner.value.targets(batch).raw
    error = (it.targets.raw - exact).abs().max() / exact.abs().max()
    runner.close()
    return {"largest |log ratio|": float(off.max()), "its mean": float(off.mean()), "values": float(error)}


def sync(device: Any) -> float:
    """Wait for the device; returns the time."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def measure(cell: Cell, length: int, backend: str, seconds: float, device: Any) -> dict[str, Any]:
    """Time whole iterations of a cell for ``seconds``, two of them at least."""
    import torch

    method, map_name, recurrent, slots, precision = cell
    if device.type == "cuda":
        gc.collect()  # what is left of the cell before would count as this one's
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    runner, mac, learner = build(cell, length, backend, device)
    began = sync(device)
    learner.train(runner.run()[0], 0)
    first = sync(device) - began
    collected = learnt = 0.0
    iterations, acting = 0, runner.time_act
    while iterations < 2 or collected + learnt < seconds:
        t0 = sync(device)
        batch, _ = runner.run()
        t1 = sync(device)
        learner.train(batch, runner.t_env)
        t2 = sync(device)
        collected, learnt, iterations = collected + t1 - t0, learnt + t2 - t1, iterations + 1
    steps, total = iterations * slots * length, collected + learnt
    size = sum(x.numel() * x.element_size() for x in batch.named().values())
    found = {
        "method": method, "map": map_name, "network": "GRU" if recurrent else "MLP", "slots": slots, "length": length,
        "precision": precision, "backend": backend, "iterations": iterations,
        "steps_per_second": steps / total, "first_iteration": first,
        "collecting": collected / total, "learning": learnt / total,
        "acting": (runner.time_act - acting) / total, "batch_bytes": size,
        "floor_seconds": floor(mac, learner, runner.info.n_agents, slots * length, size),
        "iteration_seconds": total / iterations,
        "memory_bytes": torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
    }  # fmt: skip
    runner.close()
    return found


def floor(mac: Any, learner: Any, n_agents: int, steps: int, size: int) -> float:
    """Return the least seconds of an iteration on an H100, SMAX's own arithmetic left out.

    Operations: 2 for each parameter and row to evaluate, 4 more to differentiate; policies see each step once to act
    and in each epoch, the critic once for its values and in each epoch. Bytes: the batch is written once, and read once
    in each epoch by policies and critic.
    """
    policy, critic = (x.shape[-1] for x in (mac.network.params, learner.value.network.params))
    rows = steps * n_agents
    flops = rows * policy * (2 + 6 * EPOCHS) + steps * critic * (2 + 6 * EPOCHS)
    return max(flops / PEAK_FLOPS, size * (1 + 2 * EPOCHS) / PEAK_BYTES)


def beside(words: argparse.Namespace, map_name: str, slots: int, length: int, seconds: float) -> float | None:
    """Return what :func:`jaxmarl` says in a process of its own, whose memory and faults are its own too; None: it
    failed or was not done in time, and that was said."""
    task = json.dumps([str(words.jaxmarl), map_name, slots, length, words.updates])
    command = [sys.executable, __file__, "--alone", task, *(["--wheels", str(words.wheels)] if words.wheels else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        print(f"JaxMARL's own MAPPO was not done in {seconds:.0f} seconds.", flush=True)
        return None
    if done.returncode:
        print("JaxMARL's own MAPPO failed: " + (done.stderr.strip().splitlines() or ["?"])[-1], flush=True)
        return None
    return float(done.stdout.strip().splitlines()[-1])


def jaxmarl(checkout: Path, map_name: str, slots: int, length: int, updates: int) -> float:
    """Return the steps a second of JaxMARL's own MAPPO (GRU-128, the same epochs and mini-batches), compilation left
    out."""
    import yaml

    sys.path.insert(0, str(ROOT / "benchmarks"))
    import jaxmarl_mappo as theirs

    config = yaml.safe_load(theirs.file_of(checkout, theirs.SETTINGS, "JaxMARL"))
    config |= {
        "MAP_NAME": map_name, "SEED": 1, "NUM_ENVS": slots, "NUM_STEPS": length, "UPDATE_EPOCHS": EPOCHS,
        "NUM_MINIBATCHES": MINIBATCHES, "TOTAL_TIMESTEPS": slots * length * updates,
    }  # fmt: skip
    records = theirs.train(theirs.file_of(checkout, theirs.PROGRAM, "JaxMARL"), config)
    took = records[-1]["wall_clock"] - records[0]["wall_clock"]
    return (len(records) - 1) * slots * length / took


def line(found: dict[str, Any]) -> str:
    """Return a row of the table."""
    memory = found["memory_bytes"]
    return (
        f"| {found['method']} {found['network']} | {found['map']} | {found['slots']} | "
        f"{found['backend']}, {found['precision']} | "
        f"{found['steps_per_second']:,.0f} | {found['collecting']:.0%} (acting {found['acting']:.0%}) | "
        f"{found['learning']:.0%} | {'' if memory is None else f'{memory / 1e9:.1f} GB'} | "
        f"{found['floor_seconds'] * 1e3:.1f} of {found['iteration_seconds'] * 1e3:,.0f} ms |"
    )


def their_line(found: dict[str, Any]) -> str:
    """Return the row of JaxMARL's own MAPPO."""
    return f"| JaxMARL's MAPPO GRU | {found['map']} | {found['slots']} | | {found['steps_per_second']:,.0f} | | | | |"


def rows(results: dict[str, Any]) -> list[str]:
    """Return the rows of a file's table."""
    return [line(found) for found in results["cells"]] + [their_line(found) for found in results["jaxmarl"]]


def run(words: argparse.Namespace, device: Any) -> dict[str, Any]:
    """Measure everything that there is time for."""
    import torch

    began, cells, length = time.perf_counter(), CPU_CELLS if words.cpu else GPU_CELLS, 32 if words.cpu else 128
    backends = ("native", "device") if words.cpu else ("device",)
    results: dict[str, Any] = {"numbers": {}, "rounding": {}, "cells": [], "jaxmarl": [], "left_out": []}

    def asked(recurrent: bool) -> bool:
        return words.network in (None, "GRU" if recurrent else "MLP")

    for method, recurrent in (("mappo", False), ("mappo", True), ("oappo", False)):
        if not asked(recurrent):
            continue
        name = f"{method} {'GRU' if recurrent else 'MLP'}"
        results["numbers"][name] = found = compare(method, recurrent, device)
        print(f"{name}: " + ", ".join(f"{k} {v:.2g}" for k, v in found.items()), flush=True)
    for precision in ("float32", "tf32", "bf16")[: 1 if words.cpu else 3] if asked(False) else ():
        results["rounding"][precision] = found = rounding(precision, device)
        print(f"{precision}: " + ", ".join(f"{k} {v:.2g}" for k, v in found.items()), flush=True)
    print("\n| method | map | slots | how | steps/s | collecting | learning | memory | floor |\n" + "|---" * 9 + "|")

    def left() -> float:
        return float(words.budget - (time.perf_counter() - began))

    for cell in [x for x in cells if asked(x[2])][: words.cells]:
        for backend in backends:
            if left() < 40:
                results["left_out"].append([*cell, backend])
                continue
            found = measure(cell, length, backend, words.seconds, device)
            results["cells"].append(found)
            print(line(found), flush=True)
        method, map_name, recurrent, slots, precision = cell
        beside_it = (method, recurrent, precision) == ("mappo", True, "float32")
        if beside_it and words.jaxmarl is not None and left() > 70:
            if device.type == "cuda":
                torch.cuda.empty_cache()
            speed = beside(words, map_name, slots, length, left() - 10)
            if speed is not None:
                kept = {"map": map_name, "slots": slots, "length": length, "steps_per_second": speed}
                results["jaxmarl"].append(kept)
                print(their_line(kept), flush=True)
        if words.out is not None:
            words.out.write_text(json.dumps(results, indent=1), encoding="utf-8")
    if words.jaxmarl is None:
        print("\nJaxMARL's own MAPPO is left out: no --jaxmarl.")
    if results["left_out"]:
        print(f"No time was left for: {results['left_out']}")
    return results


def main() -> None:
    """Measure, print the table, and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cpu", action="store_true", help="small sizes on the CPU, beside backend=native")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each cell (6)")
    parser.add_argument("--budget", type=float, default=440.0, help="seconds of everything (440)")
    parser.add_argument("--network", choices=("MLP", "GRU"), help="cells of this network alone")
    parser.add_argument("--cells", type=int, default=None, help="so many cells alone")
    parser.add_argument("--jaxmarl", type=Path, metavar="PATH", help="checkout of JaxMARL, or a bare git directory")
    parser.add_argument("--updates", type=int, default=6, help="of JaxMARL's own MAPPO (6)")
    parser.add_argument("--wheels", type=Path, metavar="FOLDER", help="wheels of what is not installed")
    parser.add_argument("--table", type=Path, metavar="FILE.json", help="print the rows of a file, and measure nothing")
    parser.add_argument("--alone", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    words = parser.parse_args()
    if words.table:
        print("\n".join(rows(json.loads(words.table.read_text(encoding="utf-8")))))
        return
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    # the CPU is JAX's second device on a GPU machine: the numbers are compared with it
    os.environ.setdefault("JAX_PLATFORMS", "cpu" if words.cpu else "cuda,cpu")
    with wheels(words.wheels):
        importable()
        if words.alone:
            checkout, *rest = words.alone
            print(jaxmarl(Path(checkout), *rest))
            return
        import torch

        if not words.cpu and not torch.cuda.is_available():
            sys.exit("torch finds no GPU here: use --cpu for small sizes on the processor cores.")
        device = torch.device("cpu" if words.cpu else "cuda")
        if words.cpu:
            torch.set_num_threads(1)
        results = run(words, device)
        results["machine"] = torch.cuda.get_device_name() if device.type == "cuda" else f"{os.cpu_count()} cores"
        results["versions"] = {"torch": torch.__version__, "jax": version("jax"), "python": platform.python_version()}
    if words.out is not None:
        words.out.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
