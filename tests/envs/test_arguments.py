"""Arguments of environments: checked and converted by the types that their constructors declare or show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oamarl.envs.base import Arrays
from oamarl.envs.build import check_env_args, make_env, make_info, notices
from oamarl.envs.gymma import gymma
from oamarl.envs.vector.make import make_vec
from oamarl.run import run as train
from oamarl.utils.errors import UserError
from oamarl.utils.schema import yamls

from conftest import Program
from run_tools import settings
from toy_args import Colour, Kind, Level, Mode, Twin

RWARE = "rware:rware-tiny-2ag-v2"
LBF = "lbforaging:Foraging-8x8-2p-3f-v3"
SPREAD = "pz-mpe-simple-spread-v3"


def got(key: str, **args: str) -> tuple[dict[str, Any], list[str]]:
    """What the constructor of ``key`` got for arguments as they are typed, and what is said of them."""
    read = {name: yamls.scalar(text) for name, text in args.items()}
    env: Any = gymma(key, 5, **read)
    return env._env.unwrapped.got, notices("gymma", {"key": key, "time_limit": 5, **read})


def same(a: Any, b: Any) -> bool:
    if isinstance(b, np.ndarray):
        return isinstance(a, np.ndarray) and a.dtype == b.dtype and a.tolist() == b.tolist()
    return type(a) is type(b) and a == b


def delivery(quick: bool, **args: Any) -> list[float]:
    """The rewards of a delivery of RWARE's first agent."""
    env: Any = gymma(RWARE, 50, quick=quick, **args)
    out = Arrays.allocate(env.info, 1).slot(0)
    env.reset(1, out)
    game = env._env.unwrapped
    agent, shelf, (x, y) = game.agents[0], game.request_queue[0], game.goals[0]
    agent.x = shelf.x = x
    agent.y = shelf.y = y
    agent.carrying_shelf = shelf
    game._recalc_grid()
    env.step(np.zeros(2, np.int64), out)
    paid: list[float] = out.reward.tolist()
    return paid


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize(
    ("given", "paid"),
    [("global", [1, 1]), ("GLOBAL", [1, 1]), ("RewardType.GLOBAL", [1, 1]), (0, [1, 1]), ("individual", [1, 0]),
     (1, [1, 0]), ("Two_Stage", [0.5, 0])],
)  # fmt: skip
def test_rware_pays_by_the_reward_type_that_was_named(quick: bool, given: Any, paid: list[float]) -> None:
    assert delivery(quick, reward_type=given) == paid


@pytest.mark.parametrize("cls", ["Declared", "Undeclared"])
@pytest.mark.parametrize("text", ["007", "1e3", "null", "[v2]", "True"])
def test_text_that_is_written_like_something_else(cls: str, text: str) -> None:
    """As it was typed, where the argument takes text and nothing else; numbers stay numbers."""
    env, typed = f"toy_args:{cls}", {"env_args.text": text, "env_args.count": "007"}
    found = check_env_args(env, {"text": yamls.scalar(text), "count": 7}, typed)
    assert found == {"text": text, "count": 7}
    assert check_env_args(env, found) == found
    if text == "007":
        with pytest.raises(UserError, match=r"env_args\.text=7 has the wrong type.*in quotes, such as '7'"):
            check_env_args(env, {"text": 7})


@pytest.mark.parametrize("text", ["007", "1e3", "123_456", "True"])
def test_text_for_a_constructor_of_another_package(text: str) -> None:
    """Through gymma too; what cannot be looked at yet is left as it is."""
    args, typed = {"text": yamls.scalar(text), "count": 7}, {"env_args.text": text, "env_args.count": "007"}
    found = check_env_args("gymma", {"key": "toy_args:Declared", **args}, typed)
    assert (found["text"], found["count"]) == (text, 7)
    found = check_env_args("gymma", {"key": "nowhere:Game", **args}, typed)
    assert found["text"] == args["text"]


def test_arguments_of_an_evaluation_are_read_as_those_of_a_run() -> None:
    from oamarl.tools.evaluate import changed

    before = {"text": "a", "count": 2}
    assert changed("toy_args:Declared", before, ["text=007", "env_args.count=3"]) == {"text": "007", "count": 3}
    assert changed("toy_args:Declared", before, ["text=./exp #2"]) == {"text": "./exp #2", "count": 2}
    with pytest.raises(UserError, match=r"env_args\.txt is not an argument.*did you mean 'text'"):
        changed("toy_args:Declared", before, ["txt=1"])


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"key": RWARE, "reward_type": "globl"}, "use GLOBAL, INDIVIDUAL or TWO_STAGE; did you mean 'GLOBAL'"),
        ({"key": RWARE, "reward_type": 3}, "use GLOBAL, INDIVIDUAL or TWO_STAGE"),
        ({"key": RWARE, "reward_type": True}, "use GLOBAL, INDIVIDUAL or TWO_STAGE"),
        ({"key": RWARE, "reward_type": None}, "use GLOBAL, INDIVIDUAL or TWO_STAGE"),
        ({"key": RWARE, "reward_typ": "global"}, "did you mean 'reward_type'"),
        ({"key": RWARE, "normalised_coordinates": "no"}, "bool is expected; did you mean False"),
        ({"key": RWARE, "sensor_range": 1.5}, "int is expected"),
        ({"key": RWARE, "image_observation_layers": ["shelves", "agnts"]}, "list of SHELVES, .*did you mean 'AGENTS'"),
        ({"key": LBF, "force_coop": "off"}, "env_args.force_coop='off'.*bool is expected; did you mean False"),
        ({"key": LBF, "players": "many"}, "env_args.players='many' has the wrong type: int is expected"),
        ({"key": LBF, "penalty": "high"}, "float is expected"),
        ({"key": LBF, "field_size": "8x8"}, "list of int or float is expected"),
        ({"key": SPREAD, "continuous_actions": "no"}, "bool is expected; did you mean False"),
        ({"key": SPREAD, "continuous_actions": 0}, "bool is expected; did you mean False"),
        ({"key": SPREAD, "n": 4}, "env_args.n is not an argument of gymma or of 'pz-mpe-simple-spread-v3'"),
        ({"key": SPREAD, "local_ration": 1}, "did you mean 'local_ratio'"),
        ({"key": "mpe2.simple_tag_v3:env", "num_god": 2}, "did you mean 'num_good'"),
        ({"key": "mpe2.simple_tag_v3:raw_env", "num_good": "two"}, "int is expected"),
        ({"key": "toy_args:Team", "mode": "globe"}, "use GLOBAL or LOCAL; did you mean 'GLOBAL'"),
        ({"key": "toy_args:Team", "cames": 2}, "did you mean 'comes'"),
        ({"key": "CartPole-v1", "sutton_barto_reward": "no"}, "bool is expected"),
        ({"key": "CartPole-v1", "id": "x"}, "it is gymnasium.make's"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_told_in_a_sentence(args: dict, says: str) -> None:
    if "mpe" in args["key"]:
        pytest.importorskip("mpe2")
    with pytest.raises(UserError, match=says) as caught:
        make_vec("gymma", args, 2, backend="process", workers=2)
    assert "\n" not in str(caught.value)


def test_arguments_of_real_packages_are_converted() -> None:
    env: Any = gymma(LBF, penalty=1, max_num_food=2.0, field_size=[9, 9], min_player_level=[1, 2])
    game = env._env.unwrapped
    assert (type(game.penalty), type(game.max_num_food), game.field.shape) == (float, int, (9, 9))
    assert game.min_player_level.tolist() == [1, 2]  # it takes a list too, and shows it nowhere
    assert "min_player_level" in notices("gymma", {"key": LBF, "min_player_level": [1, 2]})[0]
    assert notices("gymma", {"key": LBF, "max_food_level": None}) == []
    pytest.importorskip("mpe2")
    assert make_info("gymma", {"key": SPREAD, "N": 2.0, "local_ratio": 1, "num_agent_neighbors": None}).n_agents == 2


@pytest.mark.parametrize(
    ("name", "typed", "value"),
    [
        ("mode", "global", Mode.GLOBAL), ("mode", "0", Mode.GLOBAL), ("maybe", "local", Mode.LOCAL),
        ("maybe", "null", None), ("either", "global", Mode.GLOBAL), ("either", "7", 7),
        ("modes", "[global, LOCAL]", [Mode.GLOBAL, Mode.LOCAL]), ("by_name", "{a: global}", {"a": Mode.GLOBAL}),
        ("unknown", "True", True), ("choice", "y", "y"), ("choice", "3", 3), ("pair", "[3, 4.0]", (3, 4)),
        ("pair", "(3, 4)", (3, 4)), ("array", "[1, 2]", np.array([1, 2], np.float32)), ("numbers", "[1]", [1.0]),
        ("kind", "FANCY", Kind.FANCY), ("kind", "beta", Kind.FANCY), ("level", "high", Level.HIGH), ("level", "7", 7),
        ("colour", "RED|BLUE", Colour.RED | Colour.BLUE), ("colour", "[red, blue]", Colour.RED | Colour.BLUE),
        ("colour", "2", Colour.BLUE), ("twin", "a", Twin.a), ("twin", "A", Twin.A), ("ratio", "3", 3.0),
        ("count", "1e1", 10), ("implied", "null", None), ("implied", "4", 4), ("flag", "True", True),
        ("text", "no", "no"),
    ],
)  # fmt: skip
def test_what_is_declared(name: str, typed: str, value: Any) -> None:
    found, said = got("toy_args:Declared", **{name: typed})
    assert same(found[name], value)
    assert said == []


@pytest.mark.parametrize(
    ("name", "typed", "says"),
    [
        ("mode", "x", "use GLOBAL or LOCAL"), ("maybe", "globl", "use GLOBAL, LOCAL or null; did you mean 'GLOBAL'"),
        ("either", "x", "use GLOBAL, LOCAL or int"), ("modes", "[x]", "use list of GLOBAL or LOCAL"),
        ("by_name", "{a: globe}", "did you mean 'GLOBAL'"), ("unknown", "no", "bool is expected"),
        ("choice", "z", "use x, y or 3"), ("pair", "[3]", r"list of 2 \(int, int\) is expected"),
        ("array", "x", "list of numbers or null"), ("array", "[[1], [1, 2]]", "list of numbers"),
        ("numbers", "abc", "list of float"), ("kind", "c", "use PLAIN or FANCY"),
        ("level", "x", "use LOW, HIGH or int"),
        ("colour", "8", "use RED or BLUE"), ("twin", "b", "use a or A"), ("ratio", "x", "float is expected"),
        ("count", "2.5", "int is expected"), ("count", "null", "int is expected"), ("flag", "on", "did you mean True"),
        ("flag", "y", "bool is expected"), ("text", "3", "str is expected"),
    ],
)  # fmt: skip
def test_what_is_declared_and_is_not_given(name: str, typed: str, says: str) -> None:
    with pytest.raises(UserError, match=rf"env_args.{name}=.*{says}"):
        got("toy_args:Declared", **{name: typed})


@pytest.mark.parametrize(
    ("name", "typed", "value", "said"),
    [
        ("flag", "True", True, False), ("count", "2.0", 2, False), ("ratio", "2", 2.0, False),
        ("mode", "global", Mode.GLOBAL, False), ("pair", "[3, 4]", (3, 4), False),
        ("flags", "[False]", (False,), False),
        ("config", "{noisy: True}", {"noisy": True}, False), ("text", "no", "no", False),
        ("pair", "[3, 4.5, 5]", (3, 4.5, 5), False), ("pairs", "[[3, 4]]", [(3, 4)], False),
        ("array", "[1, 2]", np.array([1.0, 2.0]), False), ("open", "null", None, False),
        # what a default leaves open
        ("flag", "1", 1, True), ("count", "2.5", 2.5, True), ("count", "[1, 2]", [1, 2], True),
        ("count", "null", None, True), ("pair", "3", 3, True), ("open", "no", "no", True), ("open", "3", 3, True),
        ("pair", "[null, 1]", [None, 1], True),
    ],
)  # fmt: skip
def test_what_a_default_tells(name: str, typed: str, value: Any, said: bool) -> None:
    found, sentences = got("toy_args:Undeclared", **{name: typed})
    assert same(found[name], value)
    assert [s.split()[0] for s in sentences] == [f"env_args.{name}"] * said


@pytest.mark.parametrize(
    ("name", "typed", "says"),
    [
        ("flag", "no", "did you mean False"), ("flag", "2", "bool is expected"), ("flag", "null", "bool is expected"),
        ("count", "x", "int is expected"), ("count", "True", "int is expected"), ("ratio", "no", "float is expected"),
        ("mode", "globl", "did you mean 'GLOBAL'"), ("mode", "null", "use GLOBAL or LOCAL"), ("text", "3", "str is"),
        ("pair", "x", "list of int or float is"), ("flags", "[no]", "list of bool"),
        ("pair", "[1, no]", "list of int or float"), ("pair", "[True, 2]", "list of int"),
        ("pairs", "[[1, x]]", "list of"), ("pairs", "[1, 2]", "list of list of"), ("array", "x", "list of numbers"),
        ("config", "{noisy: no}", "env_args.config.noisy='no' has the wrong type: bool"), ("config", "x", "mapping is"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_beside_a_default(name: str, typed: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        got("toy_args:Undeclared", **{name: typed})


def test_entries_that_the_default_of_a_mapping_lacks_are_said() -> None:
    found, said = got("toy_args:Undeclared", config="{noisy: True, m: 2}")
    assert found["config"] == {"noisy": True, "m": 2}
    assert len(said) == 1
    assert said[0].startswith("env_args.config.m is passed to 'toy_args:Undeclared' as it is: the default of")


def test_a_boolean_word_where_text_is_allowed_too_is_said() -> None:
    assert got("toy_args:picking", wind="gusts") == ({"where": None, "mode": Mode.LOCAL, "wind": "gusts"}, [])
    found, said = got("toy_args:picking", wind="no")
    assert found["wind"] == "no"
    assert said == [
        "env_args.wind is passed to 'toy_args:picking' as the text 'no': its constructor takes text and booleans; "
        "False is the boolean."
    ]


def test_paths_of_any_class_and_members_out_of_kwargs() -> None:
    found, said = got("toy_args:picking", where="/a/b", mode="global")
    assert (found, said) == ({"where": Path("/a/b"), "mode": Mode.GLOBAL, "wind": True}, [])
    with pytest.raises(UserError, match="did you mean 'GLOBAL'"):
        got("toy_args:picking", mode="globl")


@pytest.mark.parametrize("make", ["Passing", "twice", "shorthand", "imported", "partial"])
def test_arguments_are_followed_to_where_they_go(make: str) -> None:
    found, said = got(f"toy_args:{make}", mode="global", size="4.0", slippery="True")
    assert (found, said) == ({"size": 4, "slippery": True, "mode": Mode.GLOBAL}, [])
    for wrong, says in (
        ({"slippery": "no"}, "bool is expected"),
        ({"slipery": "True"}, "did you mean 'slippery'"),
        ({"mode": "globl"}, "did you mean 'GLOBAL'"),
    ):
        with pytest.raises(UserError, match=says):
            got(f"toy_args:{make}", **wrong)


def test_names_that_a_constructor_picks_out_of_its_kwargs() -> None:
    assert got("toy_args:Picking", flag="True", n="2.0") == ({"flag": True, "n": 2}, [])
    with pytest.raises(UserError, match="bool is expected"):
        got("toy_args:Picking", flag="no")
    with pytest.raises(UserError, match="did you mean 'flag'"):
        got("toy_args:Picking", flg="True")


def test_what_an_id_is_registered_with_tells_too() -> None:
    key = "toy_args:ToyRegistered-v0"
    found, said = got(key, mode="global", players="2.0")
    assert (found["mode"], found["players"], found["wide"], said) == (Mode.GLOBAL, 2, False, [])
    with pytest.raises(UserError, match="use GLOBAL or LOCAL"):
        got(key, mode="globl")
    with pytest.raises(UserError, match="did you mean False"):
        got(key, wide="no")
    with pytest.raises(UserError, match=r"spelt env_args\.time_limit"):
        got(key, max_episode_steps="3")


def test_a_name_that_is_swallowed_is_said() -> None:
    _, said = got("toy_args:Swallowing", playrs="three")
    assert said == [
        "env_args.playrs is passed to 'toy_args:Swallowing' as it is, the text 'three': its constructor names no such "
        "argument and takes any; did you mean 'players'?"
    ]


@pytest.mark.parametrize("backend", ["serial", "process"])
def test_environments_of_ones_own_get_members_in_every_process(backend: str) -> None:
    args = check_env_args("toy_args:Own", {"mode": "global", "corner": [1, 2.0], "ratio": 2})
    # what is stored is what YAML and JSON have
    assert json.loads(json.dumps(args)) == args == {"mode": "global", "corner": [1, 2.0], "ratio": 2.0}
    assert check_env_args("toy_args:Own", args) == args
    vec = make_vec("toy_args:Own", args, 2, backend=backend, workers=2)
    try:
        vec.reset(np.arange(2), np.arange(2))
        vec.step(np.zeros((2, 2), np.int64), np.ones(2, bool))
        assert vec.arrays.reward.tolist() == [[1, 1], [1, 1]]
    finally:
        vec.close()


def test_environments_of_ones_own_are_followed_and_told() -> None:
    made: Any = make_env("toy_args:OwnLoose", {"mode": "global"})
    assert made.pays
    assert notices("toy_args:OwnLoose", {"mode": "global"}) == []
    assert notices("toy_args:OwnLoose", {"hint": "no"}) == [
        "env_args.hint is passed to 'toy_args:OwnLoose' as it is, the text 'no': its constructor declares no type for "
        "it."
    ]
    for args, says in (
        ({"mod": "global"}, "env_args.mod is not an argument of environment 'toy_args:OwnLoose'.*did you mean 'mode'"),
        ({"mode": "globl"}, "use GLOBAL or LOCAL; did you mean 'GLOBAL'"),
        ({"ratio": "no"}, "float is expected"),
    ):
        with pytest.raises(UserError, match=says):
            make_env("toy_args:OwnLoose", args)


def test_a_run_says_once_what_it_passes_on_and_stores_plain_values(tmp_path: Path) -> None:
    from oamarl.storage import sacred_run as experiment

    small = {"t_max": 8, "test_nepisode": 1, "batch_size_run": 2, "local_results_path": str(tmp_path)}
    asked = settings("ippo", "toy_args:OwnLoose", {"mode": "global", "hint": "no"}, **small)
    assert train(asked) == 0
    folder = next(p for p in experiment.run_parent(asked.values).iterdir() if p.name.isdigit())
    stored = json.loads((folder / "config.json").read_text())
    assert stored["env_args"] == {"mode": "global", "hint": "no"}
    assert (folder / "run.log").read_text().count("env_args.hint is passed to") == 1


def test_the_program_refuses_before_anything_is_built(program: Program, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"env: gymma\nenv_args:\n  key: {RWARE}\n  time_limit: 5\n  reward_type: globl\n")
    done = program("--config=mappo", f"--env-config={file}", "with", f"local_results_path={tmp_path}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "env_args.reward_type='globl' is not allowed: use GLOBAL, INDIVIDUAL or TWO_STAGE; did you mean 'GLOBAL'?\n"
    )
    assert not (tmp_path / "sacred").exists()


def test_check_env_notes_what_is_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    from oamarl.tools.check_env import main

    words = ["toy_args:OwnLoose", "--episodes=1", "with", "env_args.hint=no", "env_args.mode=global"]
    assert main(words) == 0
    assert capsys.readouterr().out.count("note:  env_args.hint is passed to") == 1
    with pytest.raises(UserError, match="use GLOBAL or LOCAL"):
        main(["toy_args:OwnLoose", "with", "env_args.mode=globl"])
