"""The zoo: each team plays as well as is stored, and a team is made from a finished run, listed, copied and loaded."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import oamarl
import oamarl.tools.list  # hides the builtin in its package
from oamarl.evaluation import zoo
from oamarl.main import main
from oamarl.storage import checkpoints
from oamarl.tools.zoo.add import default_name, plain_command
from oamarl.tools.zoo.evaluate import replay
from oamarl.utils.errors import NotInstalled, UserError

from conftest import ROOT

TEAMS = zoo.entries()
#: all teams together
MOST_BYTES = 20_000_000


def test_the_zoo_is_small_and_whole() -> None:
    assert len(TEAMS) >= 13
    files = [path for path in (ROOT / "zoo").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES
    assert {path.parent.name for path in files} == {team.name for team in TEAMS}
    for team in TEAMS:
        kept = checkpoints.load(team.checkpoint)
        assert set(kept) == {"config", "info", "mac", "runner"}, "policies alone"
        assert kept["runner"]["t_env"] == team.facts["step"]
        assert kept["config"]["name"] == team.facts["algorithm"]
        # settings for one task are in a folder: smax_3m/oappo
        config = rf"oamarl --config=(\w+/)?{team.facts['algorithm']} --env-config="
        assert re.match(config, team.facts["command"])
        assert "results" not in team.facts["command"]
        curve = json.loads((team.folder / zoo.CURVE_FILE).read_text(encoding="utf-8"))
        assert curve["command"] == team.facts["command"]
        assert curve["config"] == kept["config"]
        for path in team.folder.glob("*.json"):
            assert not re.search(r"/(work|home|root|tmp|Users)/", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("team", TEAMS, ids=lambda team: team.name)
def test_a_team_plays_as_well_as_is_stored(team: zoo.Entry, capfd: pytest.CaptureFixture[str]) -> None:
    for sampled in (False, True):
        try:
            found, verdict = replay(team, zoo.FIRST, sampled)
        except NotInstalled as missing:
            pytest.skip(str(missing))
        stored = team.facts["score"]["sampled" if sampled else "greedy"]
        assert verdict in ("equal", "within bounds"), (found["statistics"]["return"], stored)
        assert found["step"] == team.facts["step"]


# -- how a score is compared ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returns", "verdict"),
    [
        ([1.0, 0.0], "equal"),
        ([1.0, 0.0, 1.0, 0.0], "equal"),
        ([1.0, 0.0, 1.0, 1.0], "within bounds"),  # mean 0.75, bound 3 * 0.5 / 2 = 0.75
        ([0.0, 1.0], "within bounds"),
        ([1.5, 1.5, 1.5, 1.5], "differs"),  # 1.0 away
    ],
)
def test_agreement(returns: list[float], verdict: str) -> None:
    stored = {"mean": 0.5, "std": 0.5, "episodes": 4, "first": [1.0, 0.0, 1.0, 0.0]}
    assert zoo.agreement(stored, returns) == verdict


def test_a_score_without_spread_has_no_room() -> None:
    stored = {"mean": 2.6, "std": 0.0, "episodes": 4, "first": [2.6] * 4}
    assert zoo.agreement(stored, [2.6 + 1e-7] * 4) == "equal"
    assert zoo.agreement(stored, [2.6, 2.6, 2.6, 2.55]) == "differs"


# -- the commands --------------------------------------------------------------------------------------------------


def test_list_get_and_load(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["zoo"]) == 0
    assert all(team.name in capsys.readouterr().out for team in TEAMS[:1])
    assert main(["zoo", "list", "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == [team.name for team in TEAMS]
    name = "maze-black-red-oappo"
    assert main(["zoo", "get", name]) == 0
    assert f"oamarl.load('{name}')" in capsys.readouterr().out
    assert main(["zoo", "get", name]) == 2
    assert "exists already" in capsys.readouterr().err
    mine, theirs = oamarl.load(name), oamarl.load(f"zoo:{name}")
    obs = np.zeros((4, mine.info.obs_size), np.float32)
    assert mine.step == theirs.step
    assert (mine.act(obs) == theirs.act(obs)).all()
    assert main(["evaluate", f"zoo:{name}", "--episodes", "2"]) == 0
    assert "2.6" in capsys.readouterr().out
    assert main(["zoo", "evaluate", name, "--episodes", "2"]) == 0
    assert "equal" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gte"], "did you mean 'get'"),
        (["get", "maze-black-red-oapo"], "did you mean 'maze-black-red-oappo'"),
        (["get"], "NAME"),
        (["list", "--jsn"], "did you mean '--json'"),
        (["evaluate", "--episodes", "0"], "a whole number from 1 on"),
        (["add", "nothing/here"], "There is no run"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo", *words]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told


def test_a_finished_run_becomes_a_team(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [f"local_results_path={tmp_path}", "seed=1", "t_max=320", "test_nepisode=0", "hidden_dim=8"]
    assert main(["--config=ippo", "--env-config=matrix", "with", *options]) == 0
    (run,) = (p.parent for p in tmp_path.glob("sacred/ippo/*/1/config.json"))
    place = tmp_path / "teams"
    words = ["zoo", "add", str(run), "--to", str(place), "--episodes", "20"]
    assert main(words) == 2, "it was started by a test"
    assert "give it by --command" in capsys.readouterr().err
    command = "oamarl --config=ippo --env-config=matrix with seed=1"
    assert main([*words, "--command", command]) == 0
    (team,) = zoo.entries(place)
    assert team.facts["command"] == command
    assert team.facts["score"]["greedy"]["episodes"] == 20
    assert len(team.facts["score"]["sampled"]["first"]) == zoo.FIRST
    for sampled in (False, True):
        assert replay(team, 20, sampled)[1] == "equal"
    capsys.readouterr()
    assert main([*words, "--command", command]) == 2
    assert "There is a team" in capsys.readouterr().err
    shutil.rmtree(run / checkpoints.FOLDER)
    assert main(["zoo", "add", str(run), "--to", str(place), "--name", "other"]) == 2
    assert "There is no checkpoint" in capsys.readouterr().err
    assert not (place / "other").exists()


def test_names_and_commands() -> None:
    lbf: dict[str, Any] = {"env": "gymma", "env_args": {"key": "lbforaging:Foraging-8x8-2p-3f-v3"}, "name": "happo"}
    assert default_name(lbf) == "lbf-8x8-2p-3f-happo"
    assert default_name({"env": "smax", "env_args": {"map_name": "3m"}, "name": "oappo_paper"}) == "smax-3m-oappo-paper"
    line = (
        "python /a/src/main.py --config=happo --env-config=maze with seed=2 workers=2 local_results_path=/a 'label=b c'"
    )
    assert plain_command(line) == "oamarl --config=happo --env-config=maze with seed=2"
    assert plain_command("") == "oamarl"


def test_a_damaged_entry_is_named(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    with pytest.raises(UserError, match=r"team\.json cannot be read"):
        zoo.read(tmp_path / "one")
    (tmp_path / "one" / zoo.TEAM_FILE).write_text('{"env": "maze"}')
    with pytest.raises(UserError, match="it lacks algorithm, command"):
        zoo.entries(tmp_path)
