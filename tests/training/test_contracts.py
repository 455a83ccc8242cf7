"""Parts of third parties in whole runs, and the one sentence for each that does not keep its contract."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import oamarl
from oamarl import controllers, learners, runners
from oamarl.controllers import contract as mac_contract
from oamarl.learners import contract as learner_contract
from oamarl.main import main
from oamarl.runners import contract as runner_contract
from oamarl.storage import checkpoints
from oamarl.storage.records import read_arrays, read_metrics
from oamarl.training.update import plain_result
from oamarl.utils.errors import UserError
from oamarl.utils.schema.registry import resolve

import foreign_parts
from conftest import Program
from foreign_parts import Reinforce
from run_tools import assert_same, assert_same_run, latest, untimed

#: the whole algorithm of a third party: its YAML
YAML = "# REINFORCE\nlearner: foreign_parts:{learner}\nlr: 0.01\n"
TABLE = YAML + "mac: foreign_parts:{mac}\ntable_gain: 0.5\n"


def words(here: Path, *more: str, yaml: str = YAML, learner: str = "Reinforce", mac: str = "TableMAC") -> list[str]:
    path = here / "mine.yaml"
    path.write_text(yaml.format(learner=learner, mac=mac))
    return latest([
        f"--config={path}", "with", "env=toy_envs:MixedLength", "use_cuda=False", "seed=5", "backend=serial",
        "batch_size_run=4", "hidden_dim=8", "activation=tanh", "t_max=240", "log_interval=20", "checkpoint_interval=60",
        "test_interval=60", "test_nepisode=3", f"local_results_path={here}", *more,
    ])  # fmt: skip


def folders(results: Path) -> list[Path]:
    return sorted((p.parent for p in results.glob("sacred/*/*/*/run.json")), key=lambda p: int(p.name))


def one_sentence(argv: list[str], capsys: pytest.CaptureFixture[str], status: int = 2) -> str:
    assert main(argv) == status
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert err.count("\n") == 1, err
    assert len(err) < 420
    return err


@pytest.mark.parametrize("kind", ["learner", "table"])
def test_a_learner_without_a_critic_from_yaml_to_team(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained, cut, resumed with the same numbers, evaluated, loaded; its controller too may be a third party's."""
    more: dict[str, Any] = {} if kind == "learner" else {"yaml": TABLE, "learner": "TableReinforce"}
    (tmp_path / "long").mkdir()
    (tmp_path / "cut").mkdir()
    assert main(words(tmp_path / "long", **more)) == 0
    assert main(words(tmp_path / "cut", "t_max=120", **more)) == 0
    (long,), (cut,) = folders(tmp_path / "long"), folders(tmp_path / "cut")
    assert main(words(tmp_path / "cut", f"checkpoint_path={cut}", **more)) == 0
    assert_same_run(long, folders(tmp_path / "cut")[-1])
    last = [p["metrics"] for p in read_metrics(long) if "updates" in p["metrics"]][-1]
    assert last["updates"] > 3
    assert last["processed_samples"] > 0
    assert {"loss", "test_return_mean", "test_greedy_return_mean"} <= set().union(
        *(p["metrics"] for p in read_metrics(long))
    )
    assert json.loads((long / "info.json").read_text())["networks"] in (
        ("torch",) if kind == "table" else ("C", "torch")
    )
    if kind == "table":
        _, arrays = read_arrays(long / "logits.arrays")[-1]
        saved = checkpoints.load(checkpoints.find(long))["mac"]["logits"]
        np.testing.assert_array_equal(arrays["now"], saved.numpy())
    capsys.readouterr()
    assert main(["evaluate", str(long), "--episodes", "3", "--trust"]) == 0
    assert "3 greedy episodes" in capsys.readouterr().out
    assert main(words(tmp_path / "long", f"checkpoint_path={long}", "evaluate=True", **more)) == 0
    team = oamarl.load(long, trust=True)
    i = team.info
    assert team.act(np.zeros((i.n_agents, i.obs_size), np.float32)).shape == (i.n_agents,)


def test_a_preparation_of_a_third_party(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What its controller finds out by play has its steps, its log and its file, and a resumed run has it again."""
    more: dict[str, Any] = {"yaml": TABLE, "learner": "TableReinforce", "mac": "PreparedMAC"}
    asked = ("table_gain=0", "reward_scalarisation=mean")
    for name in ("long", "cut"):
        (tmp_path / name).mkdir()
    assert main(words(tmp_path / "long", *asked, **more)) == 0
    (long,) = folders(tmp_path / "long")
    assert "One batch of random play, to choose the gain." in (long / "run.log").read_text()
    first = read_metrics(long)[0]
    ((t, arrays),) = read_arrays(long / "gain.arrays")
    assert first["t"] == t > 0
    assert first["metrics"] == {"table_gain": arrays["gain"][0]}
    assert "The gain is " in (long / "run.log").read_text()
    assert checkpoints.load(checkpoints.find(long))["mac"]["gain"] == arrays["gain"][0]
    assert read_metrics(long)[-1]["metrics"].keys() >= {"test_return_mean"}
    assert main(words(tmp_path / "cut", *asked, "t_max=120", **more)) == 0
    (cut,) = folders(tmp_path / "cut")
    assert main(words(tmp_path / "cut", *asked, f"checkpoint_path={cut}", **more)) == 0
    assert_same_run(long, folders(tmp_path / "cut")[-1])
    assert oamarl.load(long, trust=True).mac.gain == arrays["gain"][0]


def test_a_learner_in_the_current_folder_from_the_command_line(program: Program, tmp_path: Path) -> None:
    """Its environments are in workers; the program is started anew for each step."""
    (tmp_path / "mine.py").write_text(Path(foreign_parts.__file__).read_text())
    (tmp_path / "mine.yaml").write_text("# REINFORCE\nlearner: mine:Reinforce\nlr: 0.01\n")
    asked = ["--config=mine.yaml", "--env-config=maze", "with", "seed=1", "use_cuda=False", "hidden_dim=8",
             "batch_size_run=4", "workers=2", "backend=process", "test_nepisode=2", "local_results_path=.",
             "checkpoint_interval=100", "log_interval=100"]  # fmt: skip

    def run(*more: str) -> Path:
        done = program(*asked, *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return folders(tmp_path)[-1]

    first = run("t_max=200")
    second = run("t_max=400", f"checkpoint_path={first}")
    evaluated = run("t_max=400", f"checkpoint_path={second}", "evaluate=True")
    assert (evaluated / "evaluation.json").is_file()
    done = program("evaluate", str(second), "--episodes", "2", "--trust", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 greedy episodes of mine" in done.stdout
    assert untimed(read_metrics(second))[0] == untimed(read_metrics(first))[0]
    assert read_metrics(second)[-1]["t"] >= 400


def test_policies_without_a_critic_start_runs_and_are_started_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("mine", "mappo", "back"):
        (tmp_path / name).mkdir()
    assert main(words(tmp_path / "mine")) == 0
    (mine,) = folders(tmp_path / "mine")
    learned = checkpoints.load(checkpoints.find(mine))["mac"]["theta"]
    sizes = words(tmp_path / "mappo")[1:]
    with_critic = latest(["--config=mappo", *sizes, "epochs=1", "t_max=20"])
    capsys.readouterr()
    assert main([*with_critic, f"init_from={mine}"]) == 0
    said = capsys.readouterr().out
    (other,) = folders(tmp_path / "mappo")
    assert f"init_from={mine}: the policies were taken; its critic does not fit and starts anew." in said
    first = read_metrics(other)[0]["metrics"]
    assert (
        first["test_return_mean"]
        == [p["metrics"]["test_return_mean"] for p in read_metrics(mine) if "test_return_mean" in p["metrics"]][-1]
    )
    assert main(words(tmp_path / "back", f"init_from={mine}", "t_max=20", "test_nepisode=0")) == 0
    assert main(words(tmp_path / "back", f"init_from={other}", "t_max=20", "test_nepisode=0")) == 0
    assert "does not fit" not in capsys.readouterr().out
    assert learned.shape == checkpoints.load(checkpoints.find(folders(tmp_path / "back")[-1]))["mac"]["theta"].shape
    said = one_sentence(words(tmp_path / "back", f"init_from={mine}", "hidden_dim=9"), capsys)
    assert f"init_from={mine} holds policies of another shape or kind than this configuration's: parameters " in said
    table = words(tmp_path / "back", f"init_from={mine}", yaml=TABLE, learner="TableReinforce")
    assert "KeyError: 'logits'" in one_sentence(table, capsys)


def test_a_learner_may_have_notices(tmp_path: Path) -> None:
    assert main(words(tmp_path, "t_max=20", learner="Announcing")) == 0
    assert "One update for each batch." in (folders(tmp_path)[-1] / "run.log").read_text()


def test_broken_policies_of_a_learner_without_a_critic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = one_sentence(words(tmp_path, learner="BrokenParameters"), capsys, status=1)
    assert "update 2 left numbers that are not finite: the parameters of the policies" in said


@pytest.mark.parametrize(
    ("yaml", "more", "said"),
    [
        (YAML, {"learner": "NoWeights"},
         "learner=foreign_parts:NoWeights has no method load_weights: every learner needs one (is it 'load_weight'?)."),
        (YAML, {"learner": "OneArgument"},
         "OneArgument: every learner is called as train(batch, t_env), and this one takes (batch)."),
        (YAML, {"learner": "NeedsMore"},
         "every learner is built as NeedsMore(config, net, mac, info, common_reward=..., device=..., seed=...), and "
         "this one takes (config, net, mac, info, critic, common_reward=..., device=..., seed=...)."),
        (YAML, {"learner": "Uncounted"},
         "a built Uncounted has no attribute updates, which every learner needs (is it 'update'?)."),
        (TABLE, {"mac": "NoActor"}, "mac=foreign_parts:NoActor has no method actor: every mac needs one."),
        (TABLE, {"mac": "NoSlots"}, "called as initial_hidden(n_slots), and this one takes ()."),
        (YAML + "mac: foreign_parts:PreparesWrongly\n", {},
         "every mac is called as prepare(values, info), and this one takes (values)."),
        (YAML + "mac: foreign_parts:PreparesAsObject\n", {},
         "every mac is called as prepare(values, info), and this one takes (self, values, info)."),
        (YAML + "runner: foreign_parts:GreedyOnly\n", {},
         "every runner is called as test(n_episodes, greedy), and this one takes (n_episodes)."),
        (YAML, {"learner": "BareParameters"},
         "BareParameters.parameters yields an array of shape (1, 138): pairs of a name and a tensor are expected"),
        (YAML, {"learner": "UnstorableState"},
         "foreign_parts:UnstorableState: state_dict()['stream'] is a Generator, which a checkpoint cannot hold."),
        (YAML, {"learner": "NoState"}, "its state_dict() is a NoneType, and a dict is expected."),
        (YAML, {"learner": "ChecksWrongly"},
         "learner=foreign_parts:ChecksWrongly: its check failed with KeyError: 'gama' (foreign_parts.py, line "),
    ],
)  # fmt: skip
def test_a_part_that_does_not_keep_its_contract_is_one_sentence(
    yaml: str, more: dict[str, str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in one_sentence(words(tmp_path, yaml=yaml, **more), capsys)
    assert not folders(tmp_path)


def test_any_arguments_are_arguments_too(tmp_path: Path) -> None:
    assert main(words(tmp_path, "t_max=20", learner="KeywordsOnly")) == 0


@pytest.mark.parametrize(
    ("yaml", "learner", "said"),
    [
        (YAML, "Breaks", "learner=foreign_parts:Breaks: building a Breaks failed with KeyError: 'width'."),
        (YAML + "mac: foreign_parts:BreaksMAC\n", "Reinforce",
         "mac=foreign_parts:BreaksMAC: building a BreaksMAC failed with RuntimeError: no networks today."),
        (TABLE.replace("foreign_parts:{learner}", "ppo_learner\nbase: mappo"), "PPOLearner",
         "learner=ppo_learner: building a PPOLearner failed with AttributeError: 'TableMAC' object has no attribute"),
    ],
)  # fmt: skip
def test_a_constructor_that_raises_leaves_its_traceback_in_the_log_alone(
    yaml: str, learner: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in one_sentence(words(tmp_path, yaml=yaml, learner=learner), capsys)
    (folder,) = folders(tmp_path)
    log = (folder / "run.log").read_text()
    assert "Traceback" in log
    assert ("foreign_parts.py" if "foreign" in said else "in __init__") in log
    assert said in log
    assert json.loads((folder / "run.json").read_text())["status"] == "FAILED"


@pytest.mark.parametrize(
    ("learner", "said"),
    [
        ("ReturnsNothing", "ReturnsNothing.train returned nothing: a pair is expected"),
        ("ReturnsThree", "ReturnsThree.train returned a tuple of dict, dict, dict: a pair is expected"),
        ("ReturnsText", "ReturnsText.train returned loss=a str: a number is expected of each scalar."),
        ("ReturnsVector", "ReturnsVector.train returned loss=an array of shape (3,): a number is expected"),
        ("ReturnsBareArray", "ReturnsBareArray.train returned arrays with 'weights': an array of shape (3,)"),
    ],
)
def test_what_train_returns_is_checked(
    learner: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in one_sentence(words(tmp_path, "test_nepisode=0", learner=learner), capsys)


def test_numbers_of_every_kind_are_scalars() -> None:
    given = {
        "a": 1, "b": True, "c": 0.5, "d": np.float32(0.25), "e": np.int64(3), "f": np.array([2.0]),
        "g": torch.tensor(4), "h": torch.tensor([0.125], requires_grad=True), "i": float("nan"), "j": np.bool_(True),
    }  # fmt: skip
    scalars, arrays = plain_result(None, (given, {"x": {"y": torch.ones(2), "z": [1, 2]}}))
    assert all(type(x) is float for x in scalars.values())
    assert_same([scalars[k] for k in "abcdefghij"], [1, 1, 0.5, 0.25, 3, 2, 4, 0.125, float("nan"), 1])
    assert all(type(x) is np.ndarray for x in arrays["x"].values())
    for wrong in (1j, "1", None, [1.0], np.array("x"), torch.zeros(0)):
        with pytest.raises(UserError, match="a number is expected"):
            plain_result(None, ({"a": wrong}, {}))
    with pytest.raises(UserError, match="a text is expected"):
        plain_result(None, ({1: 2.0}, {}))


@pytest.mark.parametrize(
    ("package", "kind", "contract"),
    [
        (learners, "learner", learner_contract.Learner), (controllers, "mac", mac_contract.Controller),
        (runners, "runner", runner_contract.Runner),
    ],
)  # fmt: skip
def test_shipped_parts_name_their_arguments_as_their_contracts_do(package: Any, kind: str, contract: type) -> None:
    """What the documentation of a contract says of an argument is then true of every class."""
    for name in package.REGISTRY:
        cls = resolve(package.__name__, package.REGISTRY, name, kind)
        for method, value in vars(contract).items():
            if inspect.isfunction(value) and not method.startswith("_"):
                mine = list(inspect.signature(getattr(cls, method)).parameters)
                assert mine == list(inspect.signature(value).parameters), f"{name}.{method}"


def test_the_smallest_learner_is_short() -> None:
    lines = [x for x in inspect.getsource(Reinforce).splitlines() if x.strip() and not x.strip().startswith('"""')]
    assert len(lines) <= 32
