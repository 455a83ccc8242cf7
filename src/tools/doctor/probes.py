"""Parts of the machine and packages, each really used once. A probe returns what there is to say of what works."""

from __future__ import annotations

import glob
import importlib
import importlib.util
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from ...utils.errors import NotInstalled, first_line

_SIZE = 64  # rows and columns of the products that devices are tried with


class NotHere(Exception):
    """Nothing is wrong: the machine lacks it, or nobody asked for it. The message is a sentence."""


class Broken(Exception):
    """It is there and does not work. The message is a sentence."""


def version(module: Any) -> str:
    """Return the version that a package says of itself."""
    return str(getattr(module, "__version__", "of an unknown version"))


# -- what training needs -----------------------------------------------------------------------------------------


def torch() -> str:
    """Take a gradient on the CPU.

    Raises:
        Broken: it is wrong.
    """
    import torch

    _gradient(torch, "cpu")
    return version(torch)


def _gradient(torch: Any, device: str) -> None:
    """Differentiate the sum of a product on ``device`` and compare it with its formula."""
    a = torch.arange(_SIZE * _SIZE, dtype=torch.float32, device=device).reshape(_SIZE, _SIZE).div(_SIZE)
    x = a.clone().requires_grad_()
    (a @ x).sum().backward()
    wanted = a.cpu().sum(0)[:, None].expand(_SIZE, _SIZE)
    if x.grad is None or not torch.allclose(x.grad.cpu(), wanted, rtol=1e-3):
        raise Broken(f"A gradient on {device} is wrong.")


def sacred() -> str:
    """Import sacred, which needs an older setuptools."""
    module = importlib.import_module("sacred")
    return version(module)


# -- devices and the compiler ------------------------------------------------------------------------------------


def compiler() -> str:
    """Compile the networks' C code anew, and load it.

    Raises:
        NotInstalled: there is no compiler.
        NotHere: none is wanted.
        Broken: it does not compile, or what comes out does not run.
    """
    import ctypes

    from ...modules.kernels import build

    if os.environ.get(build.VARIABLE, "").strip() == "0":
        raise NotHere(f"{build.VARIABLE}=0: networks run by torch's own operations.")
    words = build.find_compiler()
    if words is None:
        raise NotInstalled("There is no C compiler, with which updates are quicker: run `apt-get install -y gcc`.")
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "network.so"
        try:
            build.compile_library(Path(build.__file__).with_name("network.c"), words, built)
            lanes = ctypes.CDLL(str(built)).network_lanes()
        except subprocess.CalledProcessError as error:
            said = (error.stderr or b"").decode(errors="replace").strip().splitlines()
            raise Broken(f"{words[0]} does not compile network.c: {said[-1] if said else error}.") from error
        except (OSError, subprocess.SubprocessError) as error:
            raise Broken(f"network.c, compiled by {words[0]}, cannot be used: {first_line(error)}.") from error
    return f"{' '.join(words)}: network.c, {lanes} numbers at a time"


def cuda() -> str:
    """Take a gradient on every CUDA device.

    Raises:
        NotHere: there is none, or torch is built without CUDA.
        Broken: there is one that torch cannot use.
    """
    import torch

    there = bool(glob.glob("/dev/nvidia[0-9]*") or glob.glob("/dev/kfd"))
    built = torch.version.cuda or getattr(torch.version, "hip", None)
    if not built:
        more = " There is a GPU: a torch built with CUDA would use it (use_cuda=True)." if there else ""
        raise NotHere(f"torch {version(torch)} is built without CUDA: networks are on the CPU.{more}")
    if not torch.cuda.is_available():
        if there:
            raise Broken(
                f"There is a GPU that torch {version(torch)} cannot use: its driver does not fit CUDA {built}?"
            )
        raise NotHere("There is no GPU: networks are on the CPU.")
    found = []
    for i in range(torch.cuda.device_count()):
        _gradient(torch, f"cuda:{i}")
        facts = torch.cuda.get_device_properties(i)
        found.append(f"{facts.name} ({facts.total_memory / 2**30:.0f} GiB)")
    return f"{', '.join(found)}; use_cuda=True trains there"


def mps() -> str:
    """Take a gradient on Apple's GPU.

    Raises:
        NotHere: there is none.
    """
    import torch

    backend = getattr(torch.backends, "mps", None)
    if backend is None or not backend.is_available():
        raise NotHere("There is no GPU of Apple's.")
    _gradient(torch, "mps")
    return "torch computes there; oamarl trains on the CPU or CUDA alone"


def jax() -> str:
    """Add numbers on every device of JAX.

    Raises:
        NotInstalled: there is no JAX.
        UserError: it cannot be imported.
        Broken: a device computes something else.
    """
    from ...envs.smax.jax_start import missing

    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # others use the GPU too
    try:
        jax: Any = importlib.import_module("jax")
    except ImportError as error:
        raise missing("jax", "smax", error) from None
    devices = jax.devices()
    for device in devices:
        if float(jax.device_put(jax.numpy.arange(4.0), device).sum()) != 6.0:
            raise Broken(f"JAX's {device} adds wrongly.")
    return f"{version(jax)} on {', '.join(map(str, devices))}"


# -- servers and extras ------------------------------------------------------------------------------------------


def mongodb() -> str:
    """Connect to the database that the variable names.

    Raises:
        NotHere: none is named.
        UserError: it does not answer, or refuses.
    """
    from ...storage.mongo import connection
    from ..runs.export import database

    if connection.address() is None:
        raise NotHere(f"{connection.VARIABLE} is not set: runs are kept in folders alone.")
    with database() as (where, db):
        db["runs"].find_one({}, {"_id": 1})  # the user may read there
        return f"{where} answers"


def ray() -> str:
    """Import Ray, and ask for the cluster that RAY_ADDRESS names; none is started."""
    from ...utils.ray_cluster import import_ray, reach

    module, address = import_ray("--ray"), os.environ.get("RAY_ADDRESS")
    reach(address)
    return f"{version(module)}; {address} answers" if address and ":" in address else version(module)


def optuna() -> str:
    """Ask a study for a trial and tell its value."""
    from ..sweep.search import import_optuna

    module = import_optuna()
    module.logging.set_verbosity(module.logging.ERROR)
    study = module.create_study()
    trial = study.ask()
    trial.suggest_float("lr", 1e-4, 1e-3, log=True)
    study.tell(trial, 1.0)
    return version(module)


def tensorboard() -> str:
    """Write a scalar."""
    from ...storage import trackers

    trackers.require("tensorboard")
    writing = importlib.import_module("torch.utils.tensorboard")
    with tempfile.TemporaryDirectory() as folder:
        writer = writing.SummaryWriter(folder)
        writer.add_scalar("return_mean", 1.0, 1)
        writer.close()
    return version(importlib.import_module("tensorboard"))


def wandb() -> str:
    """Import Weights & Biases; nothing is sent."""
    from ...storage import trackers

    trackers.require("wandb")
    return version(importlib.import_module("wandb"))
