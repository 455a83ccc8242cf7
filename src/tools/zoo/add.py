"""``oamarl zoo add``: a team of the zoo from a finished run."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...analysis.names import task_name
from ...evaluation import zoo
from ...storage.run_files import INFO_FILE, read_json, task_of
from ...utils.errors import UserError
from .. import evaluate
from ..arguments import Arguments, at_least

USAGE = """\
usage: oamarl zoo add RUN [--name NAME] [--checkpoint latest|best|FILE] [--episodes N] [--seed S] [--to DIR]
                      [--command TEXT]

Makes a team of the zoo from a finished run: its policies without optimisers and critics, its curve, the command that
trains such a team, versions, and its score by an evaluation with greedy and with sampled actions.

  --name NAME     name of the team (default: task and algorithm)
  --checkpoint    the run's latest checkpoint (default), its best by test return, or a file
  --episodes N    episodes of each evaluation (100)
  --seed S        seed of the evaluations (0)
  --to DIR        folder of teams (default: the zoo)
  --command TEXT  the command line that trains such a team (default: the run's own, without its folder)"""


def main(argv: list[str]) -> int:
    """Make a team; return the exit status.

    Raises:
        UserError: an invalid command line, a run without policies or curve, or a name that is taken.
    """
    from ...utils.signals import Stop

    parser = Arguments("zoo add", "one run")
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--name")
    parser.add_argument("--checkpoint", default="latest")
    parser.add_argument("--episodes", type=at_least(zoo.FIRST), default=100)
    parser.add_argument("--seed", type=at_least(0), default=0)
    parser.add_argument("--to", type=Path)
    parser.add_argument("--command")
    options = parser.parse_args(argv)
    with Stop().listening():
        team = add(options)
    size = sum(path.stat().st_size for path in team.folder.iterdir()) / 1e6
    score = team.facts["score"]
    print(f"{team.folder}: {size:.2f} MB, mean return {score['greedy']['mean']:.4g} with greedy actions, "
          f"{score['sampled']['mean']:.4g} with sampled ones")  # fmt: skip
    return 0


def add(options: argparse.Namespace) -> zoo.Entry:
    """Make a team of the zoo, as the command line says.

    Raises:
        UserError: the run has no policies, no curve or no command, names classes of its own, or the name is taken.
    """
    from ...analysis.find_run import find_run
    from ...evaluation.team import Team, check_names, find_checkpoint
    from ...settings import learned, results_folder
    from ...storage import checkpoints, curve_files

    source = find_run(options.run, Path(results_folder(None)))
    path = find_checkpoint(source, options.checkpoint)
    saved = checkpoints.load(path)
    team = Team(saved, path)  # refuses what is no checkpoint of policies, and classes that do not come with oamarl
    check_names(team.config, ("env",), path, trust=False)
    config, facts = learned(team.config), read_json(source / INFO_FILE)
    target = (options.to or zoo.folder()) / (options.name or default_name(config))
    if target.exists():
        raise UserError(f"There is a team {target} already: give another --name.")
    command = options.command or plain_command(str(facts.get("command_line") or ""))
    if "--config" not in command:
        raise UserError(f"The run {source} does not say which command trained it: give it by --command TEXT.")
    curve = curve_files.content(source, command, config)
    kept = {
        "config": config, "info": saved["info"], "mac": saved["mac"], "runner": {"t_env": team.step},
    }  # fmt: skip
    target.mkdir(parents=True)
    try:
        checkpoint = checkpoints.save(target, team.step, kept)
        score, versions = {}, {}
        for how in ("greedy", "sampled"):
            words = [str(checkpoint), "--episodes", str(options.episodes), "--seed", str(options.seed), "--sample"]
            found = evaluate.played(evaluate.parser().parse_args(words[: 5 + (how == "sampled")]), checkpoint)
            score[how], versions = summary(found), found["versions"]
        content = {
            "algorithm": config["name"], "env": config["env"], "env_args": config["env_args"], "seed": config["seed"],
            "step": team.step, "command": command, "commit": facts.get("commit"),
            "trained_with": facts.get("versions", {}), "evaluated_with": versions, "score": score,
        }  # fmt: skip
        curve_files.write(target / zoo.CURVE_FILE, {**curve, "machine": {}})
        (target / zoo.TEAM_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except BaseException:
        shutil.rmtree(target)
        raise
    return zoo.read(target)


def default_name(config: Mapping[str, Any]) -> str:
    """Return a name made of task and algorithm, of small letters, digits and dashes."""
    words = f"{task_name(str(task_of(config)), config)} {config['name']}".lower()
    return re.sub(r"[^a-z0-9]+", "-", words).strip("-")


def plain_command(line: str) -> str:
    """Return the command line that trained a run without what does not decide its numbers, such as its folder."""
    from ...settings import NON_LEARNING_KEYS

    words = shlex.split(line)
    start = next((k for k, word in enumerate(words) if word.startswith("--")), len(words))
    kept = [word for word in words[start:] if word.partition("=")[0] not in NON_LEARNING_KEYS]
    return shlex.join(["oamarl", *kept])


def summary(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what team.json keeps of an evaluation's report."""
    said = found["statistics"]
    mean = {name: one["mean"] for name, one in said["metrics"].items()}
    return {
        "seed": found["seed"], "episodes": found["n_episodes"],
        **{k: said["return"][k] for k in ("mean", "ci95", "std")}, "length": said["length"]["mean"], "metrics": mean,
        "first": [one["return"] for one in found["episodes"][: zoo.FIRST]],
    }  # fmt: skip
