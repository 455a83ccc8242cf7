"""The `ray` backend on a real cluster of two nodes: numbers of any other backend, lost nodes, sentences."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oamarl.components.seeding import episode_seed
from oamarl.envs.build import EnvError, make_info
from oamarl.envs.vector.make import make_vec
from oamarl.envs.vector.process import Share
from oamarl.envs.vector.remote import actors
from oamarl.envs.vector.remote.host import Host, Task
from oamarl.training.building import build
from oamarl.utils import ray_cluster, waiting
from oamarl.utils.errors import UserError

from conftest import PATIENCE
from run_tools import CPU, assert_same, assert_same_batch, settings

SMALL = {"num_cpus": 1, "object_store_memory": 80_000_000}
MIXED = {"limit": 7}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head and a second node with one core each, and this process's connection to them."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    module = pytest.importorskip("ray.cluster_utils", reason="ray is not installed: pip install -e '.[ray]'")
    try:
        made = module.Cluster(initialize_head=True, head_node_args={**SMALL, "include_dashboard": False})
        made.second = made.add_node(**SMALL)
    except Exception as error:  # Ray gives a node half a minute
        if "timed out during startup" in str(error):
            pytest.skip("this machine is too busy to start a node of Ray")
        raise
    try:
        made.ray = ray_cluster.connect(made.address, "a test")
        yield made
    finally:
        import ray

        ray.shutdown()
        made.shutdown()


@contextmanager
def runner_of(env: str, env_args: dict[str, Any], **values: Any) -> Iterator[Any]:
    """A runner of MAPPO with a GRU, whose policies are far from uniform."""
    given = {"batch_size_run": 5, "head_gain": 1.0, "use_rnn": True, "obs_last_action": True, **values}
    runner, mac, _ = build(settings("mappo", env, env_args, **given), CPU)
    runner.mac = mac
    try:
        yield runner
    finally:
        runner.close()


def collected(runner: Any, batches: int = 2, tests: int = 7) -> list[Any]:
    """What training and testing get of a runner."""
    found: list[Any] = []
    for _ in range(batches):
        batch, episodes = runner.run()
        found += [{name: x.clone() for name, x in batch.named().items()}, vars(episodes)]
    return [*found, vars(runner.test(tests, greedy=False)) if tests else {}, runner.t_env]


EPISODES = {"runner": "parallel", "batch_size": 10}
SEGMENTS = {"runner": "rollout", "rollout_length": 6}


# -- numbers -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_batches_tests_and_resumed_runs_are_those_of_serial() -> None:
    """Of segments; of whole episodes: test_episodes_of_a_lost_worker_are_played_anew."""
    with runner_of("toy_envs:MixedLength", MIXED, backend="serial", **SEGMENTS) as serial:
        expected = collected(serial)
        state = serial.state_dict()
        after, _ = serial.run()
    with runner_of("toy_envs:MixedLength", MIXED, backend="ray", workers=2, **SEGMENTS) as runner:
        assert_same(collected(runner), expected)
        assert_same(runner.state_dict(), state)
        # in the same environments: a run that is resumed brings them to where they were
        runner.load_state_dict(state)
        assert_same_batch(runner.run()[0], after)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_step_by_step_and_by_policies_without_a_numpy_form() -> None:
    """Five slots in two workers: idle ones, resets one by one, and the arrays in the same memory for ever."""
    rng, five = np.random.default_rng(3), np.arange(5)
    serial = make_vec("toy_envs:Ragged", {}, 5, backend="serial")
    ray = make_vec("toy_envs:Ragged", {}, 5, backend="ray", workers=2)
    shown = ray.arrays.named()
    try:
        for vec in (serial, ray):
            vec.reset(five, five + 50)
        for t in range(12):
            out = serial.arrays
            actions = np.where(out.avail, rng.random(out.avail.shape), -1.0).argmax(-1)
            active = (rng.random(5) < 0.8) & ~(out.terminated | out.truncated)
            over: Any = None
            for vec in (serial, ray):
                vec.step(actions, active)
                over = np.flatnonzero(out.terminated | out.truncated)
            for vec in (serial, ray):
                vec.reset(over, over + 100 * t)
            assert_same(shown, serial.arrays.named())
            assert_same([ray.seeds, ray.steps], [serial.seeds, serial.steps])
        made, seconds = ray.random_throughput(0.05, 1)
        assert made >= 1
        assert seconds >= 0.05
        ray.reset(five, five)
        actors, node = ray._actors, ray._nodes[1]
        actors.kill(node)
        with pytest.raises(actors.ray.exceptions.RayActorError):  # it dies when Ray gets to it
            all(actors.ray.get(node.actor.__ray_ready__.remote()) for _ in range(10_000))
        lost = r"Environment worker 1 on node .* was lost while it stepped \(slots 2 to 4\)"
        for _ in range(2):  # the second time it is said at once
            with pytest.raises(EnvError, match=lost):
                ray.step(np.zeros((5, 2), np.int64), np.ones(5, bool))
    finally:
        ray.close()


# -- losses --------------------------------------------------------------------------------------------------------


def held(folder: Path, slot: int) -> Path:
    """Make slot ``slot`` stay in an episode of two steps or more, its second or a later one; its file once it does."""
    number = next(k for k in range(1, 4) if episode_seed(3, "train", slot, k) % 7 >= 1)
    file = folder / str(episode_seed(3, "train", slot, number))
    file.touch()
    return Path(f"{file}.here")


def when_there(file: Path, act: Any) -> threading.Thread:
    """Do ``act`` in a thread once ``file`` is there."""

    def wait() -> None:
        limit = time.monotonic() + PATIENCE
        while not file.exists() and time.monotonic() < limit:
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_episodes_of_a_lost_worker_are_played_anew(tmp_path: Path) -> None:
    """With the same starts and the same noise: no number changes."""
    args = {"folder": str(tmp_path)}
    with runner_of("faulty_envs:Held", args, backend="serial", **EPISODES) as serial:
        expected = collected(serial)
    with runner_of("faulty_envs:Held", args, backend="ray", workers=2, on_worker_death="restart", **EPISODES) as runner:
        there, node = runner.vec._actors, runner.vec._nodes[1]
        killer = when_there(held(tmp_path, node.first), lambda: there.kill(node))
        assert_same(collected(runner), expected)
        assert runner.worker_restarts == 1
        killer.join()


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_an_environment_that_fails_on_its_node_is_told_with_its_slot(capsys: pytest.CaptureFixture[str]) -> None:
    """The words, the loss and the restart are those of the `process` backend; so are the numbers that follow."""
    args = {"how": "kill", "step": 2, "seeds": [episode_seed(3, "train", 3, 0)], "limit": 6}
    found = []
    for backend in ("process", "ray"):
        with runner_of(
            "faulty_envs:Faulty", args, backend=backend, workers=2, on_worker_death="restart", **EPISODES
        ) as runner:
            found.append((collected(runner), runner.worker_restarts, runner.skipped.tolist()))
    assert_same(*found)
    lines = [x for x in capsys.readouterr().err.splitlines() if "ended unexpectedly" in x]
    assert len(lines) == 2
    for text in lines:
        assert "(signal SIGKILL) in step 2 of slot 3" in text
        assert "it held slots 2 to 4" in text
    assert lines[0].startswith("Environment worker 1 (process")
    assert lines[1].startswith("Environment worker 1 on node")


# -- sentences -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_nodes_that_do_not_fit_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"workers=3 takes 3 processor cores, and the Ray cluster .* has 2"):
        make_vec("toy_envs:Toy", {}, 4, backend="ray", workers=3)
    monkeypatch.setattr(actors, "versions", lambda: {"oamarl": "0.0", "Python": "3.0", "numpy": np.__version__})
    with pytest.raises(UserError, match=r"The Ray node .* has oamarl .* \(here 0.0\) and Python .* \(here 3.0\)"):
        make_vec("toy_envs:Toy", {}, 4, backend="ray", workers=1)
    assert not actors._open


@pytest.mark.slow  # the last with the cluster, which has one node then
def test_a_node_killed_in_the_middle_of_a_batch_changes_no_number(
    cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Segments: its slots are brought back to where their episodes were, and play the batch again elsewhere."""
    args = {"folder": str(tmp_path)}
    with runner_of("faulty_envs:Held", args, backend="serial", **SEGMENTS) as serial:
        expected = collected(serial, 4, 0)
    with runner_of("faulty_envs:Held", args, backend="ray", workers=2, on_worker_death="restart", **SEGMENTS) as runner:
        on_second = runner.vec._actors.connection.places.index(cluster.second.node_id)
        here = held(tmp_path, runner.vec._nodes[on_second].first)
        killer = when_there(here, lambda: cluster.remove_node(cluster.second, allow_graceful=False))
        assert_same(collected(runner, 4, 0), expected)
        killer.join()
        assert runner.worker_restarts >= 1
    said = capsys.readouterr().err
    assert f"Environment worker {on_second} on node" in said
    assert "was lost while it played" in said
    assert "too few processor cores left" in said  # one node is left, whose core is taken


def test_a_cluster_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install -e '.[ray]'")
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    import ray

    if not ray.is_initialized():
        with pytest.raises(UserError, match=f"The Ray cluster 127.0.0.1:{port} cannot be reached"):
            make_vec("toy_envs:Toy", {}, 2, backend="ray", ray_address=f"127.0.0.1:{port}")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"backend=ray needs the package ray: pip install"):
        make_vec("toy_envs:Toy", {}, 2, backend="ray")
    assert not actors._open


# -- a host, without Ray -------------------------------------------------------------------------------------------


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr(waiting, "_take", waiting._take)  # what a host says goes back with its answers
    made = Host()
    yield made
    made.close()


def task(env: str, args: dict[str, Any], **values: Any) -> Task:
    given = {"step_timeout": 40.0, "reset_timeout": 50.0, "restart": False, **values}
    return Task(env, args, make_info(env, args), 2, Share(slot=6, worker=3, where=" on node x"), **given)


def test_a_host_numbers_its_slots_as_the_run_does(host: Host) -> None:
    args = {"how": "exit", "step": 1, "seeds": [21], "limit": 6}
    host.do("build", task("faulty_envs:Faulty", args, restart=True))
    assert sorted(limit for _, limit in host.vec._limits.values()) == [40.0, 50.0, 50.0]
    answer = host.do("reset", (np.array([0, 1]), np.array([20, 21])))
    assert answer["shown"]["seeds"].tolist() == [20, 21]
    assert not answer["restarts"]
    answer = host.do("step", (np.zeros((2, 2), np.int64), np.ones(2, bool)))
    assert answer["restarts"] == 1
    assert answer["shown"]["lost"].tolist() == [True, True]
    said = "\n".join(answer["said"])
    assert "environment worker 3 on node x: about to exit" in said
    assert "Environment worker 3 on node x (process" in said
    assert "in step 1 of slot 7, episode seed 21; it held slots 6 to 7, episode seeds [20, 21]." in said
    assert host.do("measure", (0.01, 1))["measured"][0] >= 1


@pytest.mark.parametrize(
    ("env", "args", "kind", "says"),
    [
        ("faulty_envs:Faulty", {"how": "raise", "step": 0, "seeds": [21]}, "environment", "failed in reset (slot 7"),
        ("faulty_envs:NoLegal", {"when": 0}, "user", "(slot 6, episode seed 20)"),
        ("faulty_envs:Faulty", {"how": "exit", "step": -1}, "environment", "while it built the environment of slot 6"),
    ],
)
def test_a_failure_is_a_sentence_of_the_answer(
    host: Host, env: str, args: dict[str, Any], kind: str, says: str
) -> None:
    answer = host.do("build", task(env, args))
    if "failed" not in answer:
        answer = host.do("reset", (np.array([0, 1]), np.array([20, 21])))
    assert answer["failed"][0] == kind
    assert says in answer["failed"][1]
