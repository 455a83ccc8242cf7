"""`backend: device`: the batches of other backends within rounding, exact resumes, and what is refused."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oamarl.components.batch import Batch
from oamarl.components.seeding import action_noise, episode_seed
from oamarl.components.streams import draws
from oamarl.components.streams.draws import draw
from oamarl.components.streams.hashing import episode_seeds, stream_states
from oamarl.components.streams.words import Streams
from oamarl.envs.on_device import same_device
from oamarl.main import main
from oamarl.modules.action_selectors import Multinomial
from oamarl.modules.selector_contract import DRAW
from oamarl.runners.device_noise import StreamNoise
from oamarl.runners.on_device import DeviceRolloutRunner
from oamarl.storage import checkpoints
from oamarl.training.building import build
from oamarl.utils.errors import UserError

from run_tools import CPU, assert_same, assert_same_batch, assert_same_run, settings

SHORT = {"time_limit": 17}
GRU = {"use_rnn": True, "obs_last_action": True}


def extra(*packages: str) -> Any:
    return pytest.mark.skipif(not all(map(importlib.util.find_spec, packages)), reason=f"needs {packages}")


SMAX, VMAS = extra("jax", "jaxmarl"), extra("vmas")


if torch.cuda.is_available():  # JAX's other device is what the GPU's numbers are compared with
    os.environ.setdefault("JAX_PLATFORMS", "cuda,cpu")

#: where a test runs: all of this module's run again on a GPU where there is one
HERE = [CPU]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
#: what the environments that have a device of their own call a GPU
GPU = {"smax": "gpu", "vmas": "cuda"}


@pytest.fixture(params=DEVICES, autouse=True)
def here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.HERE", [torch.device(request.param)])


@contextmanager
def parts(env: str, args: dict[str, Any], config: str = "mappo", **overrides: Any) -> Iterator[tuple[Any, Any, Any]]:
    (here,) = HERE
    on_device = overrides.get("backend", "device") == "device"
    if here.type != "cpu" and env in GPU and on_device:
        args = {**args, "device": GPU[env]}
    values = {"runner": "rollout", "rollout_length": 20, "batch_size_run": 5, "t_max": 10_000, "head_gain": 1.0,
              "backend": "device", **overrides}  # fmt: skip
    made = build(settings(config, env, args, use_cuda=here.type != "cpu", **values), here)
    try:
        yield made
    finally:
        made[0].close()


def clone(batch: Batch) -> Batch:
    return Batch.of({name: x.clone() for name, x in batch.named().items()})


# -- seeds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 7, 2**40 + 3, 2**130 + 5])
def test_seeds_worked_out_as_tensors_are_numpys(seed: int) -> None:
    slots, episodes = [0, 1, 77, 8191], [0, 5, 123_456, 9]
    given = torch.tensor(slots), torch.tensor(episodes)
    for purpose in ("train", "test"):
        expected = [episode_seed(seed, purpose, *x) for x in zip(slots, episodes, strict=True)]
        assert episode_seeds(seed, purpose, *given).tolist() == expected
    states = torch.stack(stream_states(seed, "train", *given), 1)
    for row, where in zip(states, zip(slots, episodes, strict=True), strict=True):
        words = action_noise(seed, "train", *where).bit_generator.seed_seq.generate_state(3, np.uint64)  # type: ignore[attr-defined]
        assert row.tolist() == words.view(np.int64).tolist()


# -- the numbers of other backends -------------------------------------------------------------------------


def compare(env: str, args: dict[str, Any], config: str, batches: int, **overrides: Any) -> None:
    """The same actions, rewards and ends as `native`, and its other numbers within rounding."""
    with (
        parts(env, args, config, backend="native", **overrides) as (native, _, _),
        parts(env, args, config, **overrides) as (device, _, _),
    ):
        assert isinstance(device, DeviceRolloutRunner)
        # a GPU's arithmetic moves VMAS's bodies elsewhere by last digits, which their collisions enlarge
        ended, off = 0, 1e-3 if env == "vmas" and HERE != [CPU] else 1e-5
        for _ in range(batches):
            (expected, played), (found, also) = native.run(), device.run()
            ended += len(played.lengths)
            theirs, ours = expected.named(), found.named()
            assert set(theirs) == set(ours)
            for name, x in theirs.items():
                if x.is_floating_point():
                    torch.testing.assert_close(ours[name], x, rtol=1e-4, atol=off, equal_nan=True)
                else:
                    assert torch.equal(ours[name], x), name
            assert also.lengths == played.lengths
            np.testing.assert_allclose(also.returns, played.returns, rtol=1e-5, atol=off)
            np.testing.assert_allclose(also.metrics, played.metrics, rtol=1e-6, atol=off)
        assert ended > 3, "hardly an episode ended: too dull a test"
        assert (device.t_env, device.episodes, device.agent_steps) == (
            native.t_env, native.episodes, native.agent_steps
        )  # fmt: skip
        assert device.origin(found, 1, 3) == native.origin(expected, 1, 3)


@pytest.mark.parametrize(
    ("config", "overrides"),
    [
        ("mappo", {}),
        ("mappo", {**GRU, "feature_norm": True}),
        ("mappo_ns", {"use_rnn": True, "standardise_obs": True, "reward_scalarisation": "mean"}),
        ("happo", {"layer_norm": True, "activation": "tanh"}),
        ("ippo", {**GRU, "common_reward": False}),
        ("pqn_vdn", {"batch_size": None, "epochs": ..., "critic_epochs": ...}),
        ("mappo", {"agent": "own", "obs_last_action": True, "head_gain": ..., "hidden_dim": ...}),
    ],
    ids=["ff", "gru", "separate", "tanh", "own_rewards", "epsilon_greedy", "module"],
)
def test_maze_batches_are_those_of_native(config: str, overrides: dict[str, Any]) -> None:
    if "agent" in overrides:
        overrides = {**overrides, "agent": f"{__name__}:Memory"}
    compare("maze", SHORT, config, 3, **overrides)


class Memory(torch.nn.Module):
    """A network of the user's own with a memory."""

    def __init__(self, inputs: int, outputs: int, config: Any) -> None:
        super().__init__()
        self.cell, self.head = torch.nn.GRUCell(inputs, 6), torch.nn.Linear(6, outputs)

    def initial_hidden(self, rows: int) -> torch.Tensor:
        return torch.zeros(rows, 6)

    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.cell(x, hidden)
        return self.head(hidden), hidden


@SMAX
def test_smax_batches_are_those_of_native() -> None:
    """With a GRU; benchmarks/gpu.py, which has a test, compares those of feed-forward policies."""
    compare("smax", {"map_name": "3m"}, "mappo", 2, rollout_length=30, **GRU)


@VMAS
@pytest.mark.parametrize(
    ("args", "overrides"),
    [
        ({"scenario": "balance", "max_steps": 9}, {"common_reward": False}),
        ({"scenario": "simple_tag", "max_steps": 9, "continuous_actions": True}, {}),
    ],
    ids=["discrete", "gaussian"],
)
def test_vmas_batches_are_those_of_native(args: dict[str, Any], overrides: dict[str, Any]) -> None:
    compare("vmas", args, "mappo", 2, rollout_length=12, **overrides)


def test_runs_are_equal_bit_for_bit_and_tests_disturb_nothing() -> None:
    batches = []
    for tested in (False, True):
        with parts("maze", SHORT, **GRU) as (runner, _, learner):
            for _ in range(2):
                batch, _ = runner.run()
                learner.train(batch, 0)
            if tested:
                few, more = runner.test(3, greedy=False), runner.test(7, greedy=False)
                assert_same(vars(few), {name: x[:3] for name, x in vars(runner.test(3, greedy=False)).items()})
                assert len(more.lengths) == 7
            batches.append(clone(runner.run()[0]))
    assert_same_batch(*batches)


def test_tests_are_those_of_native() -> None:
    found = []
    for backend in ("native", "device"):
        with parts("maze", SHORT, backend=backend) as (runner, _, _):
            found.append([vars(runner.test(n, greedy=False)) for n in (3, 7)])
    assert_same(*found)


@pytest.mark.parametrize(
    ("kind", "count", "steps"), [("uniform", 9, 5), ("gumbel", 24, 60), ("normal", 8, 80), ("normal", 33, 20)]
)
def test_draws_worked_out_as_tensors_are_numpys(kind: Any, count: int, steps: int) -> None:
    slots = torch.arange(60, device=HERE[0])
    streams = Streams.seeded(*stream_states(5, "train", slots, 3 * slots))
    expected = np.stack([DRAW[kind](action_noise(5, "train", b, 3 * b), (steps, count)) for b in range(60)])
    for t in range(steps):
        numbers, streams, short = draw(streams, count, kind)
        assert not short.any()
        np.testing.assert_allclose(numbers.cpu().numpy(), expected[:, t], rtol=1e-6, atol=2e-6)


def test_too_few_words_are_noticed() -> None:
    value, length = torch.arange(6.0).repeat(2, 1), torch.tensor([[1, 2, 1, 1, 1, 1], [1, 1, 1, 1, 1, 2]])
    found = torch.tensor([[True, False, True, True, True, True], [True] * 6])
    numbers, read, short = draws._parsed(value, length, found, 5)
    assert short.tolist() == [True, False], "a word is skipped, and five are left of six"
    assert numbers[1].tolist() == [0, 1, 2, 3, 4]
    assert read[1] == 5
    numbers, read, short = draws._parsed(value, length, found, 4)
    assert (numbers[0].tolist(), read.tolist(), short.tolist()) == ([0, 3, 4, 5], [6, 4], [False, False])


@pytest.mark.parametrize("config", ["mappo", "pqn_vdn"])
def test_noise_drawn_on_the_device_gives_the_same_batches_and_resumes(
    config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: numpy's streams as tensors."""
    monkeypatch.setattr("oamarl.runners.on_device.device_noise", StreamNoise)
    more = {"epochs": ..., "critic_epochs": ...} if config == "pqn_vdn" else {}
    compare("maze", SHORT, config, 3, **more)
    with parts("maze", SHORT, config, **more) as (runner, _, _):
        runner.run()
        state, following = runner.state_dict(), clone(runner.run()[0])
    with parts("maze", SHORT, config, **more) as (again, _, _):
        again.load_state_dict(state)
        assert_same_batch(following, again.run()[0])


# -- state -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "args"),
    [
        ("maze", SHORT),
        pytest.param("smax", {"map_name": "3m"}, marks=SMAX),
        pytest.param("vmas", {"max_steps": 9}, marks=VMAS),
    ],
)
def test_a_resumed_runner_collects_the_same_batches(env: str, args: dict[str, Any]) -> None:
    with parts(env, args, rollout_length=7, **GRU) as (runner, _, _):
        runner.run()
        runner.run()
        state = runner.state_dict()
        assert int(state["slots"]["step"].max()) > 0
        expected = [clone(runner.run()[0]) for _ in range(2)]
    with parts(env, args, rollout_length=7, **GRU) as (again, _, _):
        assert again.load_state_dict(state) == []
        for batch in expected:
            assert_same_batch(batch, again.run()[0])
    if HERE != [CPU] and env in GPU:
        return  # the environment's own arithmetic differs in last digits there
    with parts(env, args, rollout_length=7, backend="native", **GRU) as (native, _, _):
        assert native.load_state_dict(state) == [], "a checkpoint is of any backend"
        assert torch.equal(native.run()[0].actions, expected[0].actions)


def test_a_native_checkpoint_is_taken_over() -> None:
    with parts("maze", SHORT, backend="native") as (native, _, _):
        first = native.state_dict()
        native.run()
        state, following = native.state_dict(), clone(native.run()[0])
    for saved, steps in ((state, 1), (first, 2)):
        with parts("maze", SHORT) as (runner, _, _):
            assert runner.load_state_dict(saved) == []
            for _ in range(steps):
                batch, _ = runner.run()
            assert torch.equal(batch.actions, following.actions)


def test_an_episode_that_cannot_be_found_again_begins_anew() -> None:
    with parts("maze", SHORT, rollout_length=7) as (runner, _, _):
        runner.run()
        state = runner.state_dict()
        state["slots"]["seen"][2] = "something else"
    with parts("maze", SHORT, rollout_length=7) as (again, _, _):
        (notice,) = again.load_state_dict(state)
        assert notice.startswith("1 of 5 environments could not be brought back")
        batch, _ = again.run()
        assert batch.begins[:, 0].tolist() == [False, False, True, False, False]


def test_a_run_stopped_in_the_middle_of_episodes_goes_on_exactly(tmp_path: Path) -> None:
    def words(t_max: int, *more: str) -> list[str]:
        given = {
            "env_args.time_limit": 23, "seed": 5, "use_cuda": HERE != [CPU], "runner": "rollout", "rollout_length": 10,
            "batch_size_run": 3, "hidden_dim": 8, "t_max": t_max, "log_interval": 30, "test_interval": 60,
            "test_nepisode": 2, "checkpoint_interval": 45, "backend": "device", "lr_schedule": "constant",
            "use_rnn": True, "local_results_path": tmp_path,
        }  # fmt: skip
        return ["--config=mappo", "--env-config=maze", "with", *(f"{k}={v}" for k, v in given.items()), *more]

    assert main(words(240)) == 0
    assert main(words(120)) == 0
    whole, half = sorted((p.parent for p in tmp_path.glob("sacred/*/*/*/run.json")), key=lambda p: int(p.name))
    assert max(checkpoints.load(checkpoints.find(half))["runner"]["slots"]["step"].tolist()) > 0
    assert main(words(240, f"checkpoint_path={half}")) == 0
    assert_same_run(whole, whole.parent / "3")


@pytest.mark.parametrize("config", ["mappo", "happo", "oappo", "hatrpo", "pqn_vdn"])
def test_a_run_of_a_gpu_continues_on_the_cpu(config: str, tmp_path: Path) -> None:
    if HERE == [CPU]:
        pytest.skip("needs a GPU")

    def words(t_max: int, use_cuda: bool, *more: str) -> list[str]:
        given = {"env_args.time_limit": 23, "seed": 5, "use_cuda": use_cuda, "runner": "rollout", "rollout_length": 10,
                 "batch_size_run": 4, "hidden_dim": 8, "t_max": t_max, "test_nepisode": 0, "checkpoint_interval": 40,
                 "backend": "device", "local_results_path": tmp_path}  # fmt: skip
        return [f"--config={config}", "--env-config=maze", "with", *(f"{k}={v}" for k, v in given.items()), *more]

    assert main(words(160, True)) == 0
    assert main(words(320, False, "checkpoint_path=latest")) == 0
    assert main(words(480, True, "checkpoint_path=latest")) == 0
    assert len(list(tmp_path.glob("sacred/*/*/*/run.json"))) == 3


# -- what is refused ---------------------------------------------------------------------------------------


class OwnSelector(Multinomial):
    """Written in numpy."""


@pytest.mark.parametrize(
    ("env", "overrides", "message"),
    [
        ("maze", {"runner": "parallel", "rollout_length": ...}, "backend=device plays segments, with runner=rollout"),
        ("matrix", {}, "backend=device is not offered by environment 'matrix'"),
        ("maze", {"action_selector": f"{__name__}:OwnSelector"}, "written in numpy: use a shipped selector"),
        ("maze", {"backend": "devcie"}, "device"),
        ("maze", {"batch_size_run": 10**7}, r"asks for more memory than there is: .* batch_size_run=10000000"),
    ],
)
def test_what_a_device_cannot_do_is_one_sentence(env: str, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message), parts(env, {}, **overrides):
        pass


def test_an_environment_elsewhere_than_the_networks_is_refused() -> None:
    same_device("cpu", CPU)
    same_device("cuda", torch.device("cuda"))
    with pytest.raises(
        UserError, match=r"the networks are on 'cuda' and env_args.device=cpu; use env_args.device=cuda"
    ):
        same_device("cpu", torch.device("cuda"))


def test_a_missing_legal_action_names_slot_and_step() -> None:
    with parts("maze", SHORT) as (runner, _, _):
        runner.slots._tables["avail"][:] = False
        with pytest.raises(UserError, match=r"without a legal action \(slot 0, step 0 of the batch\)"):
            runner.run()
