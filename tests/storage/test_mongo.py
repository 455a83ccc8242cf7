"""Runs in MongoDB, over real connections to a server that is killed, slowed down and started again."""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from oamarl.storage import run_files
from oamarl.storage import sacred_run as experiment
from oamarl.storage.liveness import alive
from oamarl.storage.log import RunLog
from oamarl.storage.mongo import connection as mongo
from oamarl.storage.mongo import mirror as mongo_mirror
from oamarl.storage.mongo.delivery import Delivery
from oamarl.storage.mongo.document import document, storable
from oamarl.storage.mongo.fetch import fetch
from oamarl.storage.records import read_metrics
from oamarl.storage.series import LIMIT, Series
from oamarl.tools.runs import command as runs
from oamarl.tools.runs import export as runs_export
from oamarl.utils.errors import UserError

from child_signals import usual_signals
from conftest import PATIENCE
from mongo_server import MongoServer

DATABASE = "mine"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MongoServer]:
    """A server that runs, named by MONGO_URL; one that answers is waited for, however busy the machine is."""
    patient = {"serverSelectionTimeoutMS": 4000, "connectTimeoutMS": 60_000, "socketTimeoutMS": int(1000 * PATIENCE)}
    monkeypatch.setattr(mongo, "TIMEOUTS", patient)
    monkeypatch.setattr(experiment, "END_WAIT", PATIENCE)
    monkeypatch.setattr(experiment, "END_WAIT_INTERRUPTED", PATIENCE)
    with MongoServer() as started:
        monkeypatch.setenv("MONGO_URL", started.url(f"/{DATABASE}"))
        yield started


def values(folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "name": "oappo",
        "label": "a label",
        "local_results_path": str(folder),
        "beat_interval": 0.05,
        "verbose": False,
        "seed": 1,
        "env": "maze",
        "env_args": {"map_name": "black_red", "share": 0.5},
        **more,
    }


def until(condition: Callable[[], Any], what: str = "it") -> None:
    """Wait for something that another thread does."""
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit, f"{what} did not happen"
        time.sleep(0.01)


def hold(server: MongoServer) -> threading.Event:
    """Let the server begin with its first answer only when the event is set: when the points are there, say."""
    go = threading.Event()
    server.before = lambda name: name.lower() in ("hello", "ismaster") or go.wait(PATIENCE)
    return go


def said(log: RunLog, text: str) -> Callable[[], bool]:
    return lambda: text in (log.folder / "run.log").read_text()


def log_points(log: RunLog, start: int, stop: int) -> None:
    for t in range(start, stop):
        log.scalars({"return_mean": t / 3, "loss": -float(t)}, t)


def stored(server: MongoServer, name: str = "return_mean", run: int = 1, database: str = DATABASE) -> dict[str, Any]:
    with server._store:
        return server.client[database].metrics.find_one({"run_id": run, "name": name}) or {"steps": []}


def the_run(server: MongoServer, database: str = DATABASE) -> dict[str, Any]:
    with server._store:  # the server's thread writes into the same dictionaries
        (found,) = server.client[database].runs.find()
    return found


def the_run_is_whole(server: MongoServer) -> bool:
    """Whether a delivery has come to its end: the last that it sends is what the run says of its metrics."""
    with server._store:
        run = server.client[DATABASE].runs.find_one() or {}
    return bool(run.get("info", {}).get("metrics"))


def file_of(server: MongoServer, file_id: Any, database: str = DATABASE) -> bytes:
    chunks = server.client[database].fs.chunks.find({"files_id": file_id}).sort("n", 1)
    return b"".join(chunk["data"] for chunk in chunks)


def assert_complete(server: MongoServer, folder: Path, database: str = DATABASE) -> dict[str, Any]:
    """The database has all of the one run in it that the folder has: nothing less, and nothing twice."""
    run = the_run(server, database)
    for name, content in document(folder).items():
        if name not in ("experiment", "artifacts", "info"):
            assert repr(run[name]) == repr(content), name
    metrics = list(server.client[database].metrics.find({"run_id": run["_id"]}))
    theirs = json.loads((folder / "metrics.json").read_text())
    assert sorted(m["name"] for m in metrics) == sorted(theirs)
    assert run["info"].pop("metrics") == [{"name": m["name"], "id": str(m["_id"])} for m in metrics]
    assert run["info"] == document(folder)["info"]
    for metric in metrics:
        points = theirs[metric["name"]]
        assert repr(metric["values"]) == repr(points["values"])
        assert metric["steps"] == points["steps"]
        assert [t.isoformat(timespec="milliseconds") for t in metric["timestamps"]] == points["timestamps"]
        assert sorted(metric) == ["_id", "name", "run_id", "steps", "timestamps", "values"]
    (artifact,) = run["artifacts"]
    assert file_of(server, artifact["file_id"], database) == (folder / "run.log").read_bytes()
    assert server.client[database].fs.files.count_documents({"filename": re.compile("^artifact")}) == 1
    names = [name for name, _ in json.loads((folder / "run.json").read_text())["experiment"]["sources"]]
    assert [name for name, _ in run["experiment"]["sources"]] == names
    base = Path(run["experiment"]["base_dir"])
    for name, file_id in run["experiment"]["sources"][:3]:
        assert file_of(server, file_id, database) == (base / name).read_bytes()
    return run


# ---- a server that answers


def test_a_run_is_in_the_database_while_it_goes_on(tmp_path: Path, server: MongoServer) -> None:
    def body(log: RunLog) -> dict[str, Any]:
        log_points(log, 0, 5)
        until(lambda: len(stored(server)["steps"]) == 5)
        run = the_run(server)
        assert run["status"] == "RUNNING"
        until(lambda: the_run(server)["heartbeat"] is not None)
        log_points(log, 5, 9)
        until(lambda: len(stored(server)["steps"]) == 9)
        print("printed")
        return {"return_mean": 4.0}

    result = experiment.execute(values(tmp_path), [], body, info={"resumed_from": "x"})
    run = assert_complete(server, result.folder)
    assert (run["_id"], run["status"], run["result"]) == (1, "COMPLETED", {"return_mean": 4.0})
    assert "printed" in run["captured_out"]
    assert "this is run 1 of database 'mine'" in run["captured_out"]
    assert run["info"]["resumed_from"] == "x"
    assert run["config"]["env_args"] == {"map_name": "black_red", "share": 0.5}


def test_what_is_no_plain_number_or_key(tmp_path: Path, server: MongoServer) -> None:
    def body(log: RunLog) -> dict[str, Any]:
        log.scalars({"battle.won": math.nan, "$cost": math.inf}, 1)
        return {"battle.won": -math.inf, "$cost": math.nan}

    result = experiment.execute(values(tmp_path, label="a.b=$c \udcff"), [], body)
    assert result.status == "COMPLETED"
    run = assert_complete(server, result.folder)
    assert run["result"]["battle,won"] == -math.inf
    assert math.isnan(run["result"]["@cost"])
    assert math.isnan(stored(server, "battle.won")["values"][0])
    assert stored(server, "$cost")["values"] == [math.inf]
    # what other programs' folders may hold
    assert storable({"a.b": {"$c": 2**70}, "n": [2**63 - 1, True]}) == {
        "a,b": {"@c": str(2**70)},
        "n": [2**63 - 1, True],
    }


def test_the_schema_is_that_of_sacreds_own_observer(tmp_path: Path, server: MongoServer) -> None:
    import sacred
    from sacred.observers import MongoObserver

    stock = sacred.Experiment("oappo", save_git_info=False)
    stock.add_config({"seed": 1})
    stock.observers.append(MongoObserver(server.url(), db_name="stock", failure_dir=str(tmp_path)))

    @stock.main
    def main(_run: Any) -> dict[str, float]:
        for t in range(3):
            _run.log_scalar("return_mean", t / 3, t)
        (tmp_path / "run.log").write_text("text")
        _run.add_artifact(str(tmp_path / "run.log"), content_type="text/plain")
        _run.info["x"] = 1
        return {"return_mean": 1.0}

    stock.run(options={"--capture": "no", "--beat-interval": 60})

    def body(log: RunLog) -> dict[str, Any]:
        log.scalars({"return_mean": 0.5}, 1)
        return {"return_mean": 1.0}

    experiment.execute(values(tmp_path / "ours"), [], body)
    theirs, ours = the_run(server, "stock"), the_run(server)
    assert theirs.keys() == ours.keys()
    assert theirs["format"] == ours["format"]
    assert {k: type(v) for k, v in theirs.items()} == {k: type(v) for k, v in ours.items()}
    for inner in ("experiment", "host"):
        assert theirs[inner].keys() == ours[inner].keys()
    assert theirs["info"]["metrics"][0].keys() == ours["info"]["metrics"][0].keys()
    assert theirs["artifacts"][0].keys() == ours["artifacts"][0].keys()
    assert [type(x) for x in theirs["experiment"]["sources"][0]] == [type(x) for x in ours["experiment"]["sources"][0]]
    for collection in ("metrics", "fs.files", "fs.chunks"):
        a = server.client["stock"][collection].find_one()
        b = server.client[DATABASE][collection].find_one()
        assert a.keys() | {"md5"} == b.keys() | {"md5"}, collection  # md5: what sacred looks for its sources by
        assert all(type(a[k]) is type(b[k]) for k in a), collection
    artifact = next(server.client[DATABASE].fs.files.find({"filename": re.compile("^artifact")}))
    assert artifact["filename"] == "artifact://runs/1/run.log"


def test_sources_are_stored_once_for_all_runs(tmp_path: Path, server: MongoServer) -> None:
    for _ in range(2):
        experiment.execute(values(tmp_path), [], lambda log: {})
    a, b = server.client[DATABASE].runs.find()
    assert a["experiment"]["sources"] == b["experiment"]["sources"]
    assert server.commands.count("insert") < 20  # not one for each file


@pytest.mark.parametrize("how", ["failed", "interrupted"])
def test_runs_that_do_not_complete(tmp_path: Path, server: MongoServer, how: str) -> None:
    def body(log: RunLog) -> dict[str, Any]:
        log.scalars({"a": 1.0}, 1)
        raise ZeroDivisionError("in the middle") if how == "failed" else KeyboardInterrupt

    result = experiment.execute(values(tmp_path, beat_interval=30), [], body)
    run = assert_complete(server, result.folder)
    assert run["status"] == how.upper()
    assert run["stop_time"] >= run["start_time"]
    assert ("in the middle" in str(run.get("fail_trace"))) == (how == "failed")
    assert ("in the middle" if how == "failed" else "the run stops here") in run["captured_out"]


RUN = f"""
import sys, time
from oamarl.storage import sacred_run as experiment
from oamarl.storage.mongo import connection as mongo
from oamarl.storage.sacred_run import execute
experiment.END_WAIT_INTERRUPTED = {PATIENCE}
mongo.TIMEOUTS = dict.fromkeys(mongo.TIMEOUTS, {int(1000 * PATIENCE)})
def body(log):
    log.scalars({{"a": 1.0}}, 1)
    print("ready", flush=True)
    time.sleep({PATIENCE})
values = {{"name": "x", "label": "", "local_results_path": sys.argv[1], "beat_interval": 30, "seed": 1, "env": "maze"}}
values["verbose"] = False
sys.exit(execute(values, [], body).exit_code)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals(tmp_path: Path, server: MongoServer, number: signal.Signals) -> None:
    """Also one that comes while the threads start that send the run."""
    child = subprocess.Popen(
        [sys.executable, "-c", RUN, str(tmp_path)], stdout=subprocess.PIPE, text=True, preexec_fn=usual_signals
    )
    assert child.stdout is not None
    assert any(line == "ready\n" for line in child.stdout)
    child.send_signal(number)
    child.communicate(timeout=PATIENCE)
    assert child.returncode == 128 + number
    assert assert_complete(server, tmp_path / "sacred/x/maze/1")["status"] == "INTERRUPTED"


def test_a_resumed_run_begins_with_the_earlier_curve(tmp_path: Path, server: MongoServer) -> None:
    position: dict[str, int] = {}

    def first(log: RunLog) -> dict[str, Any]:
        log_points(log, 0, 6)
        position.update(log.checkpoint_position())
        log_points(log, 6, 9)
        return {}

    def second(log: RunLog) -> dict[str, Any]:
        log.carry_over(old, position)
        log_points(log, 6, 8)
        return {}

    old = experiment.execute(values(tmp_path), [], first).folder
    experiment.execute(values(tmp_path), [], second)
    before, after = stored(server), stored(server, run=2)
    assert before["steps"] == list(range(9))
    assert after["steps"] == list(range(8))
    assert after["timestamps"][:6] == before["timestamps"][:6]  # when they were measured


def test_runs_that_start_together_get_different_numbers(tmp_path: Path, server: MongoServer) -> None:
    for i in range(6):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / "info.json").write_text(json.dumps({"uid": f"run {i}"}))
    barrier = threading.Barrier(6)
    where = mongo.address()
    assert where is not None
    numbers = []

    def store(i: int) -> None:
        with mongo.connect(where) as client:
            delivery = Delivery(client[DATABASE], tmp_path / str(i))
            barrier.wait(PATIENCE)
            delivery.send(final=True)
            numbers.append(delivery.id)

    server.delay = 0.02  # all of them have seen the same newest number
    threads = [threading.Thread(target=store, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(numbers) == [1, 2, 3, 4, 5, 6]
    assert len({run["info"]["uid"] for run in server.client[DATABASE].runs.find()}) == 6


def test_runs_of_other_programs_in_the_same_database(tmp_path: Path, server: MongoServer) -> None:
    server.client[DATABASE].runs.insert_many([{"_id": 41}, {"_id": "named"}])
    experiment.execute(values(tmp_path), [], lambda log: {})
    assert {run["_id"] for run in server.client[DATABASE].runs.find()} == {41, 42, "named"}


# ---- a server that does not


def test_down_at_the_start_and_there_later(tmp_path: Path, server: MongoServer) -> None:
    server.stop()

    def body(log: RunLog) -> dict[str, Any]:
        log_points(log, 0, 3)
        until(said(log, "Warning: MongoDB at 127.0.0.1"))
        server.start()
        until(said(log, "answers again and has everything"))
        log_points(log, 3, 5)
        return {}

    result = experiment.execute(values(tmp_path), [], body)
    assert result.status == "COMPLETED"
    run = assert_complete(server, result.folder)
    assert run["captured_out"].count("does not answer. The run continues with its files") == 1
    assert stored(server)["steps"] == list(range(5))


def test_dies_in_the_middle_and_comes_back_twice(tmp_path: Path, server: MongoServer) -> None:
    def body(log: RunLog) -> dict[str, Any]:
        log_points(log, 0, 10)
        until(lambda: len(stored(server)["steps"]) == 10)
        for i in (1, 2):
            server.stop()
            log_points(log, 10 * i, 10 * i + 5)
            until(lambda i=i: (log.folder / "run.log").read_text().count("does not answer") == i)
            log_points(log, 10 * i + 5, 10 * i + 10)
            server.start()
            until(lambda i=i: (log.folder / "run.log").read_text().count("answers again") == i)
        return {}

    result = experiment.execute(values(tmp_path), [], body)
    assert_complete(server, result.folder)
    assert stored(server)["steps"] == list(range(30))


def test_back_just_before_the_end(tmp_path: Path, server: MongoServer, capsys: pytest.CaptureFixture[str]) -> None:
    go = hold(server)

    def body(log: RunLog) -> dict[str, Any]:
        log_points(log, 0, 3)
        go.set()
        until(lambda: the_run_is_whole(server) and len(stored(server)["steps"]) == 3)
        server.stop()  # the connections are of no use any more, and nobody has noticed
        server.start()
        log_points(log, 3, 6)
        return {}

    result = experiment.execute(values(tmp_path, beat_interval=600), [], body)
    assert_complete(server, result.folder)
    assert "MongoDB at" not in capsys.readouterr().err


@pytest.mark.parametrize("command", ["insert", "update", "find", "aggregate"])
def test_an_answer_that_got_lost_changes_nothing(tmp_path: Path, server: MongoServer, command: str) -> None:
    """What the server did before the connection broke is not done twice."""
    lost: list[str] = []

    def cut(name: str) -> bool:
        if name == command and len(lost) < 8:
            lost.append(name)
            return len(lost) % 2 == 0
        return False

    server.cut = cut

    def body(log: RunLog) -> dict[str, Any]:
        for i in range(6):
            log_points(log, 10 * i, 10 * i + 10)
            size = len(server.commands)
            until(lambda size=size: len(server.commands) > size + 2)
        return {}

    result = experiment.execute(values(tmp_path), [], body)
    server.cut = lambda name: False
    # the end may have met a broken connection twice in a row: what is missing then is sent by the export
    assert runs.main(["export", str(result.folder)]) == 0
    assert_complete(server, result.folder)
    assert command == "aggregate" or len(lost) > 3


def test_training_does_not_wait_for_a_server_that_hangs(
    tmp_path: Path, server: MongoServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(mongo.TIMEOUTS, "socketTimeoutMS", 300)
    server.delay = 3600.0  # until it is stopped
    stored_so_far: list[Any] = []

    def body(log: RunLog) -> dict[str, Any]:
        until(lambda: len(server.commands) > 0, "the first command")
        log_points(log, 0, 1000)  # all of it while the server hangs
        stored_so_far.extend(server.client[DATABASE].runs.find())
        return {}

    result = experiment.execute(values(tmp_path, beat_interval=600), [], body)
    assert (result.status, result.exit_code, stored_so_far) == ("COMPLETED", 0, [])
    assert len(read_metrics(result.folder)) == 1000
    err = capsys.readouterr().err
    assert err.count("MongoDB at") == err.count("does not answer: the run is complete in its folder") == 1
    # the sentence is a command that works
    server.stop()
    server.delay = 0.0
    monkeypatch.setitem(mongo.TIMEOUTS, "socketTimeoutMS", int(1000 * PATIENCE))
    server.start()
    (command,) = re.findall(r"`oamarl runs (.*)`", err)
    assert runs.main(command.split()) == 0
    assert_complete(server, result.folder)


def test_a_slow_server_gets_everything(tmp_path: Path, server: MongoServer) -> None:
    server.delay = 0.1

    def body(log: RunLog) -> dict[str, Any]:
        log_points(log, 0, 50)
        return {}

    result = experiment.execute(values(tmp_path, beat_interval=600), [], body)
    assert_complete(server, result.folder)


def test_the_end_waits_for_so_long_and_no_longer(
    tmp_path: Path, server: MongoServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mongo, "TIMEOUTS", dict.fromkeys(mongo.TIMEOUTS, int(1000 * PATIENCE)))
    monkeypatch.setattr(experiment, "END_WAIT", 0.2)
    server.delay = 3600.0
    start = time.monotonic()
    result = experiment.execute(values(tmp_path), [], lambda log: {})
    assert result.status == "COMPLETED"
    assert time.monotonic() - start < PATIENCE  # so long an answer would be waited for
    assert "did not take everything within 0.2 seconds" in capsys.readouterr().err


@pytest.mark.parametrize("error", [None, ZeroDivisionError, KeyboardInterrupt])
def test_gone_at_the_end(
    tmp_path: Path, server: MongoServer, capsys: pytest.CaptureFixture[str], error: type[BaseException] | None
) -> None:
    go = hold(server)

    def body(log: RunLog) -> dict[str, Any]:
        log_points(log, 0, 4)
        go.set()
        until(lambda: the_run_is_whole(server) and len(stored(server)["steps"]) == 4)
        log_points(log, 4, 8)
        server.stop()
        if error:
            raise error
        return {}

    result = experiment.execute(values(tmp_path, beat_interval=600), [], body)
    expected = {None: ("COMPLETED", 0), ZeroDivisionError: ("FAILED", 1), KeyboardInterrupt: ("INTERRUPTED", 130)}[
        error
    ]
    assert (result.status, result.exit_code) == expected
    assert json.loads((result.folder / "run.json").read_text())["status"] == expected[0]
    assert f"`oamarl runs export {result.folder}` sends what is missing." in capsys.readouterr().err
    server.start()
    assert the_run(server)["status"] == "RUNNING"
    assert runs.main(["export", str(result.folder)]) == 0
    assert "brought up to date as run 1 of 127.0.0.1" in capsys.readouterr().out
    assert assert_complete(server, result.folder)["status"] == expected[0]


def test_the_bounds_that_the_documentation_states() -> None:
    page = (Path(__file__).parents[2] / "docs" / "mongodb.md").read_text()
    assert f"at most {mongo_mirror.END_WAIT:g} seconds" in page
    assert f"{mongo_mirror.END_WAIT_INTERRUPTED:g} where it was interrupted" in page
    assert f"{mongo.TIMEOUTS['serverSelectionTimeoutMS'] // 1000} seconds for a server that answers" in page
    assert f"{mongo.TIMEOUTS['socketTimeoutMS'] // 1000} for an answer" in page
    assert f"{LIMIT:,} points" in page


def test_a_server_that_refuses(tmp_path: Path, server: MongoServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.refuse = (13, "not authorized on mine to execute command")
    result = experiment.execute(values(tmp_path), [], lambda log: {})
    assert result.status == "COMPLETED"
    assert "does not let this user write to 'mine'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["aggregate", "insert", "update"])
def test_the_run_was_deleted_meanwhile(
    tmp_path: Path, server: MongoServer, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Just before any command of the last delivery: what it had sent until then is not left behind twice."""
    where = mongo.address()
    assert where is not None
    last: list[str] = []

    def drop(name: str) -> None:
        if last == [] and name == command:
            last.append(name)
            with server._store:
                server.client.drop_database(DATABASE)

    log = RunLog(tmp_path)
    (tmp_path / "run.json").write_text('{"artifacts": ["run.log"]}')
    with mongo.connect(where) as client:
        delivery = Delivery(client[DATABASE], tmp_path)
        log_points(log, 0, 5)
        delivery.send(final=False)
        log_points(log, 5, 7)
        log.close()
        (tmp_path / "run.log").write_text("its last words\n")
        delivery._certain = command != "aggregate"  # a look at what is there sends it
        monkeypatch.setattr(server, "before", drop)
        delivery.send(final=True)
    assert last
    assert stored(server)["steps"] == list(range(7))
    run, db = the_run(server), server.client[DATABASE]
    assert [a["name"] for a in run["artifacts"]] == ["run.log"]
    files = [file["_id"] for file in db.fs.files.find({"filename": re.compile("^artifact")})]
    assert files == [run["artifacts"][0]["file_id"]]
    assert sorted(str(m["_id"]) for m in db.metrics.find()) == sorted(m["id"] for m in run["info"]["metrics"])


def test_two_processes_store_the_same_run(tmp_path: Path, server: MongoServer) -> None:
    """An export beside the run itself: nothing twice."""
    where = mongo.address()
    assert where is not None
    log = RunLog(tmp_path)
    with mongo.connect(where) as client:
        live, export = (Delivery(client[DATABASE], tmp_path) for _ in range(2))
        for i in range(4):
            log_points(log, 5 * i, 5 * i + 5)
            (live, export)[i % 2].send(final=False)
            assert stored(server)["steps"] == list(range(5 * i + 5))
    log.close()
    assert live.id == export.id == the_run(server)["_id"]


# ---- long runs


def test_long_curves_are_thinned_and_end_with_their_newest_point(tmp_path: Path, server: MongoServer) -> None:
    total = 2 * LIMIT + 7

    def arrived(t: int) -> bool:
        steps = stored(server, "a")["steps"]
        return bool(steps) and steps[-1] > t - 4

    def body(log: RunLog) -> dict[str, Any]:
        start = 0
        for stop in (LIMIT - 10, LIMIT + 20, total):  # before, across and after a thinning
            with (log.folder / "metrics.jsonl").open("ab") as file:
                points = (b'{"t": %d, "time": 1.0, "metrics": {"a": %d.5}}\n' % (t, t) for t in range(start, stop))
                file.write(b"".join(points))
            start = stop
            until(lambda stop=stop: arrived(stop - 1))
        return {}

    result = experiment.execute(values(tmp_path), [], body)
    assert_complete(server, result.folder)
    steps = stored(server, "a")["steps"]
    assert steps == [*range(0, total, 4), total - 1]
    assert stored(server, "a")["values"] == [t + 0.5 for t in steps]
    # sent again from nothing, the same arrives
    assert runs.main(["export", str(result.folder)]) == 0
    assert_complete(server, result.folder)
    server.client.drop_database(DATABASE)
    assert runs.main(["export", str(result.folder)]) == 0
    assert_complete(server, result.folder)


def test_of_much_output_the_document_has_the_end(tmp_path: Path, server: MongoServer) -> None:
    result = experiment.execute(values(tmp_path), [], lambda log: log.note("x" * 999 + "\n" * 2000) or {})
    (result.folder / "run.log").open("a").write(20_000_000 * "y" + "\nthe end\n")
    assert runs.main(["export", str(result.folder)]) == 0
    run = the_run(server)
    assert len(run["captured_out"]) < 1_100_000
    assert run["captured_out"].endswith("the end\n")
    assert re.match(r"\[the first [\d,]+ bytes are in run\.log\]\n", run["captured_out"])
    assert file_of(server, run["artifacts"][0]["file_id"]) == (result.folder / "run.log").read_bytes()


def test_series_keep_evenly_spaced_points_and_the_newest() -> None:
    for total in range(1, 100):
        series = Series(limit=8)
        for t in range(total):
            series.append(t, t / 2, 1000 * t)
        steps, values_, times = series.points()
        assert len(steps) <= 8
        assert len(steps) == total or len(steps) >= 4
        assert steps[-1] == total - 1
        assert steps[:-1] == [i * series.stride for i in range(len(steps) - 1)]
        assert values_ == [t / 2 for t in steps]
        assert times == [1000 * t for t in steps]
        again = Series(limit=8)  # what was thinned once stays as it is
        for point in zip(steps, values_, times, strict=True):
            again.append(*point)
        assert again.points() == (steps, values_, times)


def test_metrics_json_stays_small_and_is_not_written_at_every_beat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, written = [0.0], []
    real = run_files.write_json

    def slow(path: Path, *args: Any, **kwargs: Any) -> None:
        if path.name == "metrics.json":
            written.append(clock[0])
            clock[0] += 1.0  # what it takes
        real(path, *args, **kwargs)

    monkeypatch.setattr(run_files, "write_json", slow)
    monkeypatch.setattr(run_files.time, "monotonic", lambda: clock[0])
    files = run_files.RunFiles(tmp_path / "runs", tmp_path / "sources", {}, print)
    files.started_event({"sources": [], "base_dir": ""}, "main", {}, dt.datetime(2026, 1, 1), {}, {}, None)
    lines = b"".join(b'{"t": %d, "time": 1.5, "metrics": {"a": 0.5}}\n' % t for t in range(100))
    for _ in range(200):
        with (files.folder / "metrics.jsonl").open("ab") as file:
            file.write(lines)
        files.heartbeat_event({}, "", dt.datetime(2026, 1, 1), None)
        clock[0] += 1.0
    assert len(written) <= 3  # of 200 beats: one part in a hundred of the time
    files.completed_event(dt.datetime(2026, 1, 1), {})
    points = json.loads((files.folder / "metrics.json").read_text())["a"]
    assert LIMIT / 2 <= len(points["steps"]) <= LIMIT
    assert (files.folder / "metrics.json").stat().st_size < 60 * LIMIT


CHILD = """
import json, time
from oamarl.storage.liveness import this_process
print(json.dumps(this_process()), flush=True)
time.sleep(3600)
"""


def test_dead_or_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    process = json.loads(child.stdout.readline())
    now = dt.datetime.now(dt.timezone.utc).replace(tzinfo=None)
    assert alive(process, now, 30.0) is True
    assert alive({**process, "started": "another boot 1"}, now, 30.0) is False  # the number was given away again
    child.kill()
    until(lambda: alive(process, now, 30.0) is False)  # also while nobody has asked how it ended
    child.wait()
    assert alive(process, now, 30.0) is False
    # of another machine its heartbeat tells
    assert alive({**process, "host": "elsewhere"}, now, 30.0) is True
    assert alive({**process, "host": "elsewhere"}, now - dt.timedelta(hours=1), 30.0) is False
    assert alive(None, None, 30.0) is None


# ---- secrets


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mongodb://host", "host/oamarl"),
        ("mongodb://host:27018/results", "host:27018/results"),
        ("mongodb://me:pa%40ss@a:1,b:2/db?replicaSet=x", "a:1,b:2/db"),
        ("mongodb+srv://me:secret@cluster.example.org/db?w=majority", "cluster.example.org/db"),
        ("mongodb://me:secret@[::1]:27017/?authSource=admin", "[::1]:27017/oamarl"),
    ],
)
def test_addresses(url: str, shown: str) -> None:
    where = mongo.address({"MONGO_URL": url})
    assert str(where) == shown
    assert "secret" not in repr(where) + str(where)


@pytest.mark.parametrize(
    "url",
    [
        "host:27017", "http://me:secret@host", "mongodb://me:sec/ret@host", "mongodb://me:sec@ret@host", "mongodb://",
        "mongodb://me:secret@host:port", "mongodb://me:secret@host/a b", "mongodb://me:sec%ret@host/db",
        "mongodb://me:secret@host/db?unknown", "mongodb://me:secret@host/db.runs",
    ],
)  # fmt: skip
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(UserError, match=r"^MONGO_URL (is not the address of|names a database)") as caught:
        mongo.address({"MONGO_URL": url})
    assert "sec" not in str(caught.value)
    assert "ret" not in str(caught.value)


@pytest.mark.parametrize("option", ["tlsCAFile", "tlsCertificateKeyFile", "tlsCRLFile"])
def test_a_tls_file_that_cannot_be_read(option: str, tmp_path: Path) -> None:
    """Before a run begins, and without the address."""
    for place, why in ((tmp_path / "none.pem", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(UserError) as caught:
            mongo.address({"MONGO_URL": f"mongodb://me:secret@h/x?tls=true&{option}={place}"})
        assert str(caught.value) == f"MONGO_URL: the TLS file of {option} cannot be read: {why}."


def test_no_address_no_mongo() -> None:
    assert mongo.address({}) is None
    assert mongo.address({"MONGO_URL": " "}) is None
    code = "import oamarl.storage.sacred_run, sys; sys.exit('pymongo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_password_is_nowhere(
    tmp_path: Path, server: MongoServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MONGO_URL", server.url("/mine").replace("//", "//me:pa%40ssword@"))

    def body(log: RunLog) -> dict[str, Any]:
        until(said(log, "MongoDB at"))
        return {}

    result = experiment.execute(values(tmp_path), [], body)
    assert result.status == "COMPLETED"
    with pytest.raises(UserError) as caught:
        runs.main(["export", str(result.folder)])
    out, err = capfd.readouterr()
    files = [p.read_text(errors="replace") for p in result.folder.rglob("*") if p.is_file()]
    for text in (out, err, str(caught.value), *files):
        assert "pa%40ss" not in text
        assert "pa@ss" not in text
    assert "MongoDB at 127.0.0.1" in err
    where = mongo.address()
    assert where is not None
    assert where.redact("at mongodb: pa@ssword, pa%40ssword") == "at mongodb: ***, ***"


# ---- the command


def live(tmp_path: Path, points: int = 7) -> Path:
    def body(log: RunLog) -> dict[str, Any]:
        log_points(log, 0, points)
        log.scalars({"test_return_mean": math.nan}, points)
        for value in (1.0, 2.0):  # at one step, and often in one millisecond
            log.scalars({"twice": value}, points + 1)
        return {"test_return_mean": 2.5}

    return experiment.execute(values(tmp_path), ["A notice."], body).folder


def comparable(server: MongoServer, database: str) -> dict[str, Any]:
    """A database's content with ids replaced by what they stand for."""
    db = server.client[database]
    files = {f["_id"]: (f["filename"], f["md5"], f.get("contentType"), f["length"]) for f in db.fs.files.find()}
    metrics = {str(m["_id"]): {k: repr(v) for k, v in m.items() if k != "_id"} for m in db.metrics.find()}
    found = the_run(server, database)
    found["info"]["metrics"] = [{"name": m["name"], "is": metrics[m["id"]]} for m in found["info"]["metrics"]]
    found["artifacts"] = [(a["name"], files[a["file_id"]]) for a in found["artifacts"]]
    found["experiment"]["sources"] = [(name, files[i]) for name, i in found["experiment"]["sources"]]
    return {"run": found, "files": sorted(map(repr, files.values())), "metrics": sorted(map(repr, metrics.values()))}


def test_export_equals_the_run_that_was_observed(
    tmp_path: Path, server: MongoServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = live(tmp_path)
    monkeypatch.setenv("MONGO_URL", server.url("/other"))
    assert runs.main(["export", str(folder)]) == 0
    assert f"{folder}: stored as run 1 of 127.0.0.1:{server.port}/other" in capsys.readouterr().out
    assert comparable(server, "other") == comparable(server, DATABASE)
    before = comparable(server, "other")
    assert runs.main(["export", str(folder), str(folder), "--to=mongo"]) == 0  # again, and twice
    assert capsys.readouterr().out.count("brought up to date as run 1 ") == 2
    assert comparable(server, "other") == before


def test_files_from_the_database_and_the_database_from_those(
    tmp_path: Path, server: MongoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, target = live(tmp_path), tmp_path / "copies"
    for _ in range(2):  # again: nothing changes
        assert runs.main(["export", "1", "--to", "files", str(target)]) == 0
        copy = target / "1"
        for name in ("config.json", "info.json", "metrics.json"):
            assert repr(json.loads((copy / name).read_text())) == repr(json.loads((folder / name).read_text())), name
        for name in ("cout.txt", "run.log"):
            assert (copy / name).read_bytes() == (folder / name).read_bytes()
        a, b = (json.loads((path / "run.json").read_text()) for path in (folder, copy))
        for name in ("start_time", "stop_time", "heartbeat"):
            assert a.pop(name)[:23] == b.pop(name)[:23]  # milliseconds are what MongoDB keeps
        for run, path in ((a, folder), (b, copy)):
            run["experiment"]["sources"] = [
                [name, (path.parent / place).read_bytes()] for name, place in run["experiment"]["sources"]
            ]
        assert a == b
        ours, theirs = read_metrics(folder), read_metrics(copy)
        assert repr([(r["t"], r["time"]) for r in ours]) == repr([(r["t"], r["time"]) for r in theirs])
        for mine, its in zip(ours, theirs, strict=True):
            assert repr(sorted(mine["metrics"].items())) == repr(sorted(its["metrics"].items()))
    monkeypatch.setenv("MONGO_URL", server.url("/other"))
    assert runs.main(["export", str(target / "1")]) == 0
    assert comparable(server, "other") == comparable(server, DATABASE)
    # the same run: the copy brings the first one's document up to date, and adds none
    monkeypatch.setenv("MONGO_URL", server.url(f"/{DATABASE}"))
    assert runs.main(["export", str(target / "1")]) == 0
    assert server.client[DATABASE].runs.count_documents({}) == 1


def test_a_folder_of_another_run_is_left_alone(tmp_path: Path, server: MongoServer) -> None:
    live(tmp_path)
    live(tmp_path)
    runs.main(["export", "1", "--to", "files", str(tmp_path / "copies")])
    (tmp_path / "copies" / "1").rename(tmp_path / "copies" / "2")
    with pytest.raises(UserError, match="holds another run"):
        runs.main(["export", "2", "--to", "files", str(tmp_path / "copies")])


def test_folders_of_plain_sacred(tmp_path: Path, server: MongoServer) -> None:
    """A run that only sacred's own file observer wrote, and one that only its MongoObserver wrote."""
    import sacred
    from sacred.observers import FileStorageObserver, MongoObserver

    stock = sacred.Experiment("mappo", save_git_info=False)
    stock.add_config({"seed": 1, "env_args": {"key": "x"}})
    stock.observers.append(FileStorageObserver(tmp_path / "files"))
    stock.observers.append(MongoObserver(server.url(), db_name="stock", failure_dir=str(tmp_path)))

    @stock.main
    def main(_run: Any) -> float:
        for t in range(3):
            _run.log_scalar("return_mean", t / 3, t)
        _run.info["note"] = "n"
        return 1.0

    stock.run(options={"--capture": "no", "--beat-interval": 60})
    for _ in range(2):
        assert runs.main(["export", str(tmp_path / "files" / "1")]) == 0
    ours, theirs = the_run(server), the_run(server, "stock")
    for name in ("config", "host", "status", "command", "meta", "result"):
        assert ours[name] == theirs[name]
    assert abs((ours["start_time"] - theirs["start_time"]).total_seconds()) < 0.002
    assert stored(server)["steps"] == stored(server, database="stock")["steps"] == [0, 1, 2]
    where = mongo.address()
    assert where is not None
    with mongo.connect(where) as client:
        copy = fetch(client["stock"], 1, tmp_path / "copies")
    assert [r["t"] for r in read_metrics(copy)] == [0, 1, 2]
    assert json.loads((copy / "info.json").read_text()) == {"note": "n"}


def test_names_in_a_database_lead_nowhere_else(tmp_path: Path, server: MongoServer) -> None:
    live(tmp_path)
    db = server.client[DATABASE]
    (artifact,) = the_run(server)["artifacts"]
    names = ["../../evil", "/etc/evil", "config.json", "..", "run.log"]
    db.runs.update_one({"_id": 1}, {"$set": {"artifacts": [{**artifact, "name": name} for name in names]}})
    source = the_run(server)["experiment"]["sources"][0][1]
    db.runs.update_one({"_id": 1}, {"$set": {"experiment.sources": [["../../../evil.py", source]]}})
    before = {p for p in tmp_path.rglob("*") if "copies" not in p.parts}
    runs.main(["export", "1", "--to", "files", str(tmp_path / "copies")])
    copy = tmp_path / "copies" / "1"
    assert json.loads((copy / "config.json").read_text())["name"] == "oappo"
    assert {"_.._evil", ".._.._evil", "_etc_evil"} & {p.name for p in copy.iterdir()}
    assert {p for p in tmp_path.rglob("*") if "copies" not in p.parts} == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["exprot"], r"does not know 'exprot': use .*export; did you mean 'export'\?"),
        (["export"], "needs a run"),
        (["export", "1", "--to", "fils", "x"], r"--to needs mongo or files DIR, not 'fils'; did you mean 'files'\?"),
        (["export", "1", "--to", "files"], "needs the folder to write to"),
        (["export", "one", "--to", "files", "x"], "'one' is not the number of a run in"),
        (["export", "7", "--to", "files", "x"], "There is no run 7 in the database 'mine'"),
        (["export", "nowhere/at/all"], "There is no run at 'nowhere/at/all'"),
        (["export", "--form", "x"], r"has no flag '--form'"),
    ],
)
def test_mistakes_on_the_command_line(server: MongoServer, words: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        runs.main(words)


def test_the_command_without_a_server(
    tmp_path: Path, server: MongoServer, monkeypatch: pytest.MonkeyPatch, program: Any
) -> None:
    folder = live(tmp_path)
    server.stop()
    done = program("runs", "export", str(folder))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"MongoDB at 127.0.0.1:{server.port} does not answer.\n"
    monkeypatch.delenv("MONGO_URL")
    with pytest.raises(UserError, match="MONGO_URL is not set"):
        runs.main(["export", str(folder)])
    done = program("runs", "export", "--help")
    assert done.stdout.startswith("usage: oamarl runs export")


def test_the_words_of_export() -> None:
    assert runs_export.parse(["a", "b"]) == (["a", "b"], None)
    assert runs_export.parse(["--to", "mongo", "a"]) == (["a"], None)
    assert runs_export.parse(["1", "--to=files", "dir", "2"]) == (["1", "2"], Path("dir"))


@pytest.mark.slow
def test_training_and_resuming_from_the_command_line(tmp_path: Path, server: MongoServer, program: Any) -> None:
    def train(*more: str) -> None:
        words = ["seed=1", "batch_size_run=4", "hidden_dim=8", "epochs=1", "test_nepisode=2", "log_interval=100"]
        done = program("--config=ippo", "--env-config=maze", "with", *words, f"local_results_path={tmp_path}", *more)
        assert done.returncode == 0, done.stderr

    train("t_max=400")
    first = tmp_path / "sacred/ippo/black_red/1"
    train("t_max=800", f"checkpoint_path={first}")
    one, two = server.client[DATABASE].runs.find().sort("_id", 1)
    assert [one["status"], two["status"]] == ["COMPLETED", "COMPLETED"]
    assert "resumed_from" in two["info"]
    before, after = stored(server, "return_mean", 1), stored(server, "return_mean", 2)
    shared = [t for t in before["steps"] if t < 400]
    assert shared
    assert after["steps"][: len(shared)] == shared
    assert after["values"][: len(shared)] == before["values"][: len(shared)]
    assert max(after["steps"]) >= 800


# ---- a server of the user's


@pytest.mark.skipif("OAMARL_TEST_MONGO_URL" not in os.environ, reason="MONGO_URL names no server to test with")
def test_a_real_server(tmp_path: Path) -> None:
    """A run there and back, in a database of its own that is dropped again."""
    where = mongo.address({"MONGO_URL": os.environ["OAMARL_TEST_MONGO_URL"]})
    assert where is not None
    folder = tmp_path / "run"
    log = RunLog(folder)
    log_points(log, 0, 20)
    log.scalars({"a.b": math.nan, "$c": math.inf}, 20)
    (folder / "run.json").write_text(json.dumps({"status": "RUNNING", "artifacts": []}))
    with mongo.connect(where) as client:
        db = client[f"oamarl_test_{uuid.uuid4().hex[:12]}"]
        try:
            delivery = Delivery(db, folder)
            delivery.send(final=False)
            log_points(log, 20, 30)
            log.close()
            (folder / "run.json").write_text(json.dumps({"status": "COMPLETED", "artifacts": ["run.log"]}))
            delivery.send(final=True)
            Delivery(db, folder).send(final=True)
            assert db.runs.count_documents({}) == 1
            assert db.runs.find_one()["status"] == "COMPLETED"  # type: ignore[index]
            assert db.metrics.find_one({"name": "loss"})["steps"] == list(range(30))  # type: ignore[index]
            copy = fetch(db, 1, tmp_path / "copies")
            assert (copy / "run.log").read_bytes() == (folder / "run.log").read_bytes()
            assert len(read_metrics(copy)) == len(read_metrics(folder))
        finally:
            client.drop_database(db.name)
