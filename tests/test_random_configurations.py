"""Whatever is typed, there is a run or one sentence: no traceback, no storm of warnings, nothing that hangs."""

from __future__ import annotations

import contextlib
import io
import resource
import signal
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from oamarl import settings as settings_module
from oamarl.main import main
from oamarl.utils.schema import layers

from run_tools import ALGORITHMS, DETERMINISTIC, PQN, Q_LEARNING, ROLES, TRANSFER

CONFIG = layers.CONFIGS

#: what fits no key, some, or only by accident
NASTY = (
    "text", "", "null", "-1", "0", "1", "2", "0.5", "1.5", "nan", "inf", "-inf", "1e300", "1e-300", "1e-3",
    "99999999999999999999999", "-99999999999999999999999", "True", "False", "[]", "[1, 2]", "[0, 0]", "[0, 1, 1, 0]",
    "[[0, 1]]", "[[0], [1]]", "[[0.5, 0.5], [0.5, 0.5]]", "[[nan]]", "{a: 1}", "{}", "é☃", "a=b", "../x", "'1'", "[",
    "%", "0x10", "1_000", "2020-01-01", "- a", "a: b", "*x", "&y 1", "!!python/object:os.system",
)  # fmt: skip

#: keys that a value would make costly, or that name places: small values, and some that no machine can follow
LIMITED: dict[str, tuple[str, ...]] = {
    "t_max": ("1", "24", "1e1", "7.5", "0", "-5", "nan", "text"),
    "batch_size_run": ("1", "2", "3", "0", "-1", "1e15", "[2]"),
    "batch_size": ("null", "1", "2", "4", "6", "0", "1e15"),
    "test_nepisode": ("0", "1", "3", "-1", "2.5"),
    "epochs": ("1", "2", "0", "1.5"),
    "critic_epochs": ("1", "2", "null", "0"),
    "hidden_dim": ("1", "3", "16", "0", "1e15"),
    "num_minibatches": ("1", "2", "7", "1000", "1e15", "0"),
    "cg_iters": ("1", "3", "0"),
    "line_search_steps": ("1", "4", "0"),
    "workers": ("1", "2", "null", "0", "-1"),
    "rollout_length": ("1", "3", "20", "0", "1e15"),
    "torch_threads": ("1", "2", "0"),
    "reuse_kl_samples": ("1", "5", "1e15", "0"),
    "reuse_max_rows": ("1", "5", "1e15", "0"),
    "use_cuda": ("False", "True", "maybe"),
    "runner": ("parallel", "episode", "rollout", "nonsense", "3"),
    "backend": ("serial", "native", "auto", "process", "threads"),
    "beat_interval": ("0.001", "30", "1e300", "0", "inf"),
    "local_results_path": ("",),
    "checkpoint_path": ("", "latest", "nowhere", "/dev/null", "/", "3"),
    "init_from": ("", "nowhere", "/dev/zero", "latest"),
    "env": ("maze", "matrix", "gymma", "mzae", "os:path", "os.path:join", "toy_envs:EarlyEnd", "toy_envs:Ragged", ":",
            "a:"),
    "learner": ("ppo_learner", "hatrpo_learner", "oappo_learner", "os:path", "ppo"),
    "mac": ("basic_mac", "reuse_mac", "non_shared_mac", "json:JSONDecoder"),
    "agent": ("rnn", "rnn_ns", "toy_envs:Toy"),
    "name": ("mine", "a/b", "..", "", "é", "3", "a b"),
    "env_args.map": ("null", "3", "[]", "['###', '#S#', '###']", "['######', '#S..G#', '#.RB.#', '######']", "[[1]]"),
    "env_args.time_limit": ("1", "5", "0", "-1", "null", "x"),
    "env_args.agents": ("{red: 1, black: 1}", "{red: 0}", "{}", "{pink: 1}", "{red: -1}", "{red: 1e15}", "3"),
    "env_args.steps": ("1", "3", "0", "x"),
    "env_args.n_agents": ("2", "4", "1", "3", "0", "-2", "1e15"),
    "env_args.key": ("climbing", "penalty", "prop1", "nothing", "ToyRagged-v0", "nomodule:X-v0", "CartPole-v1", ""),
    "reuse_groups": ("[[0, 1], [2, 3]]", "[[0, 1]]", "[[0], [0]]", "[[9]]", "[0]", "null", "[[]]"),
    "reuse_matrix": ("[[1, 0], [0, 1]]", "[[0.5, 0.5], [0.5, 0.5]]", "[[0, 1], [1, 0]]", "[[-1, 2], [0, 1]]", "null",
                     "[[1]]", "[[nan, 1], [1, 0]]"),
    "sharing": ("shared", "separate", "[0, 0]", "[0, 0, 1, 1]", "[5, 5, 5, 9]", "[-1, 0]", "[]", "all"),
    "max_seconds": ("null", "1e-9", "1e9", "0", "-1", "nan"),
    "stop_seconds": ("0", "10", "-1"),
    "evaluate": ("False", "True", "x"),
    "render": ("False", "True"),
}  # fmt: skip


def keys() -> dict[str, list[str]]:
    """Every key of the shipped YAMLs, with the values that they give it."""
    found: dict[str, set[str]] = {}
    for path in (CONFIG / "default.yaml", *CONFIG.glob("*/*.yaml")):
        for name, value in layers.leaves(yaml.safe_load(path.read_text())):
            if name != "env_args":
                found.setdefault(name, set()).add("null" if value is None else str(value))
    for name in (
        "mixer",
        "epsilon_start",
        "buffer_size",
        "use_tensorboard",
        "evaluation_epsilon",
        "no_such_key",
        "env_args.x",
    ):
        found.setdefault(name, {"1"})
    return {name: sorted(values) for name, values in sorted(found.items())}


KEYS = keys()
#: the usual ones come more often, or nearly nothing would ever run
BASE = {
    "t_max": "24", "batch_size_run": "2", "hidden_dim": "4", "epochs": "1", "test_nepisode": "1", "backend": "serial",
    "use_cuda": "False", "seed": "3", "log_interval": "8",
}  # fmt: skip


#: environment -> its own arguments; those of the others are no arguments, which is soon known
ARGUMENTS = {
    env: [f"env_args.{name}" for name in yaml.safe_load((CONFIG / "envs" / f"{env}.yaml").read_text())["env_args"]]
    for env in ("matrix", "maze", "gymma")
}


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A shipped method and game, tiny, with one to five keys set to something: often a value that they may have."""
    config = draw(st.sampled_from(ALGORITHMS + Q_LEARNING + PQN + DETERMINISTIC + TRANSFER + ROLES))
    env = draw(st.sampled_from(["matrix", "maze", "gymma"]))
    chosen = dict(BASE) | ({"env_args.time_limit": "6"} if env == "maze" else {})
    if env == "gymma":
        chosen["env_args.key"] = "toy_gym:ToyRagged-v0"
    names = [name for name in KEYS if not name.startswith("env_args.")] + ARGUMENTS[env] * 2
    for _ in range(draw(st.integers(1, 5))):
        name = draw(st.sampled_from(names if draw(st.integers(0, 19)) else list(KEYS)))
        values = LIMITED.get(name) or KEYS[name] + list(NASTY if draw(st.booleans()) else ())
        chosen[name] = draw(st.sampled_from(values))
    return [f"--config={config}", f"--env-config={env}", "with", *(f"{k}={v}" for k, v in chosen.items())]


@dataclass
class Outcome:
    status: int
    out: str
    err: str
    warned: list[str]


@contextlib.contextmanager
def guarded(seconds: int, memory: int) -> Iterator[None]:
    """A run that hangs, or asks for more memory than a test may have, is an error here and harms nobody."""

    def late(number: int, frame: Any) -> None:
        raise AssertionError(f"still at work after {seconds} seconds")

    before = signal.signal(signal.SIGALRM, late)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (memory, hard))
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)


def call(words: list[str]) -> Outcome:
    out, err = io.StringIO(), io.StringIO()
    # as in a process of its own, where each place warns once
    with warnings.catch_warnings(record=True) as caught, guarded(120, 24 * 2**30):
        warnings.simplefilter("default")
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(words)
    return Outcome(status, out.getvalue(), err.getvalue(), [str(w.message) for w in caught])


def check(words: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if not any(w.startswith("local_results_path=") for w in words):
            words = [*words, f"local_results_path={folder}"]
        note(" ".join(words))
        folder_of = settings_module.results_folder
        # an empty path means the checkout's own results, which are the user's
        with mock.patch.object(settings_module, "results_folder", lambda value: folder_of(value or folder)):
            found = call(words)
        written = list(Path(folder).rglob("*.tmp"))
    note(f"status {found.status}\n{found.err}")
    assert "Traceback" not in found.out + found.err
    assert found.status in (0, 1, 2, 124)
    lines = [line for line in found.err.splitlines() if not line.startswith("Warning: ")]
    assert len(lines) == (1 if found.status in (1, 2) else 0), found.err
    if found.status == 1:  # the one thing that only the run itself can find out: numbers that grow beyond bounds
        assert ("Stopped at step " in lines[0] and "not finite" in lines[0]) or "not enough memory" in lines[0]
    if lines:
        assert len(lines[0]) < 2000
    assert len(found.warned) <= 3, found.warned
    assert not written


quiet = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@settings(quiet, max_examples=60)
@given(command_lines())
def test_a_run_or_one_sentence(words: list[str]) -> None:
    check(words)


# a few times as many as above; what the first 250 examples do not meet the next 250 rarely do
@pytest.mark.slow
@settings(quiet, max_examples=250)
@given(command_lines())
def test_a_run_or_one_sentence_at_length(words: list[str]) -> None:
    check(words)


WORDS = (
    "with", "--config=oappo", "--env-config=matrix", "--help", "train", "config", "list", "a=b", "lr=", "=", "--", "-h",
    "env_args.=1", ".=1", "a..b=1", "lr.x=1", "--config", "--env-config=", "lr=[[", "seed=1", "with=1",
)  # fmt: skip


@settings(quiet, max_examples=200)
@given(st.lists(st.one_of(st.text(max_size=12), st.sampled_from(WORDS)), max_size=5))
def test_any_words_are_answered(words: list[str]) -> None:
    """Nothing is run here (`config` shows): what is no command line is one sentence, whatever it is."""
    found = call(["config", *words])
    note(f"status {found.status}\n{found.err}")
    assert "Traceback" not in found.out + found.err
    assert found.status in (0, 2)
    assert len(found.err.splitlines()) == (1 if found.status else 0), found.err
