"""``oamarl evaluate``: play a given number of episodes with a trained team, and report their statistics."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..utils.errors import UserError
from ..utils.schema import yamls
from ..utils.schema.command_line import parse
from ..utils.schema.keys import read
from ..utils.schema.layers import CONFIGS
from .arguments import Arguments, at_least
from .tables import table

if TYPE_CHECKING:
    from ..evaluation.play import Plan
    from ..evaluation.team import Team

USAGE = """\
usage: oamarl evaluate RUN [--episodes N] [--seed S] [--greedy | --sample] [--checkpoint latest|best|FILE]
                       [--env-args KEY=VALUE ...] [--video FILE.gif|FILE.mp4] [--render] [--video-episodes N]
                       [--json FILE|-] [--slots B] [--backend auto|serial|process|native|ray] [--workers N] [--trust]

RUN is a run's folder, its path below results/sacred (oappo/black_red/1), a checkpoint, `latest`, or a team of the zoo
(zoo:NAME, see `oamarl zoo list`).

  --episodes N        exact number of episodes (100)
  --seed S            seed of the episodes and of sampled actions (0): the same seed gives the same numbers
  --greedy, --sample  greedy (argmax) actions (default), or sampled ones
  --checkpoint        the run's latest checkpoint, its best by test return, or a file
  --env-args          play in a changed environment of the same sizes: --env-args time_limit=100
  --video FILE        record the first episodes; --render: in the run's folder, videos/
  --video-episodes N  number of recorded episodes (3)
  --json FILE         write all results, episode by episode; `-` prints them instead of the table
  --slots, --backend, --workers   backend used to step environments (as in the run); no number depends on it
  --trust             import the classes (package.module:Class) that the checkpoint names"""


COLUMNS = ("", "mean", "95 % interval", "std", "min", "median", "max")


def parser() -> Arguments:
    """Return the command line's parser."""
    p = Arguments("evaluate", "one run")
    p.add_argument("run", metavar="RUN")
    p.add_argument("--episodes", type=at_least(1), default=100)
    p.add_argument("--seed", type=at_least(0), default=0)
    how = p.add_mutually_exclusive_group()
    how.add_argument("--greedy", action="store_true")
    how.add_argument("--sample", action="store_true")
    p.add_argument("--checkpoint", default="latest")
    p.add_argument("--env-args", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    p.add_argument("--video", type=Path)
    p.add_argument("--render", action="store_true")
    p.add_argument("--video-episodes", type=at_least(1))
    p.add_argument("--json")
    p.add_argument("--slots", type=at_least(1))
    p.add_argument("--backend")
    p.add_argument("--workers", type=at_least(1))
    p.add_argument("--trust", action="store_true")
    return p


def checkpoint_of(word: str, which: str) -> Path:
    """Return the checkpoint file that RUN and ``--checkpoint`` select.

    Raises:
        UserError: there is none.
    """
    from ..analysis.find_run import find_run
    from ..evaluation.team import find_checkpoint
    from ..evaluation.zoo import PREFIX
    from ..settings import results_folder

    path = Path(word)
    if word.startswith(PREFIX):
        return find_checkpoint(word, which)
    if path.is_file() or (path.is_dir() and not (path / "config.json").is_file()):
        return find_checkpoint(path, which)
    return find_checkpoint(find_run(word, Path(results_folder(None))), which)


def changed(env: str, env_args: Mapping[str, Any], words: list[str]) -> dict[str, Any]:
    """Return the ``env_args`` of an environment updated by the ``KEY=VALUE`` of ``words``.

    Raises:
        UserError: a word of another form, or an argument that the environment does not take.
    """
    from ..envs.build import check_env_args

    dotted = [word if word.startswith("env_args.") else f"env_args.{word}" for word in words]
    for word in words:
        if "=" not in word:
            raise UserError(f"--env-args takes KEY=VALUE, such as time_limit=100, and not '{word}'.")
    request = parse(["with", *dotted])[0]
    found = {**env_args, **request.overrides.get("env_args", {})}
    return check_env_args(env, found, request.typed) if words else found


def plan_of(options: argparse.Namespace, team: Team, folder: Path, env_args: dict[str, Any]) -> Plan:
    """Return what to play; rewards are combined as in the run."""
    from ..envs.vector.base import VecConfig
    from ..evaluation.play import VIDEO_EPISODES, Plan
    from ..utils.video import check_target

    video = options.video
    if video is None and options.render:
        how = "sampled" if options.sample else "greedy"
        video = folder / "videos" / f"step{team.step}-{how}-seed{options.seed}.gif"
    if video is None and options.video_episodes is not None:
        raise UserError("--video-episodes sets the length of a video: give --video FILE or --render too.")
    config, shipped = team.config, yamls.load(CONFIGS / "default.yaml", "default.yaml")
    usual = config.get("batch_size_run")
    # games in worker processes, as in the run, end with the program however it ends
    backend = {"backend": options.backend} if options.backend else {}
    if config.get("backend") == "ray" and not backend:
        backend = {"backend": "auto"}  # the run's cluster may be gone, and no number depends on it
    return Plan(
        env=config["env"], env_args=env_args, episodes=options.episodes, seed=options.seed,
        greedy=not options.sample, slots=options.slots or (usual if isinstance(usual, int) else 1),
        stepping=read(VecConfig, {**shipped, **config, "workers": options.workers, **backend}),
        common_reward=bool(config.get("common_reward", True)),
        reward_scalarisation=str(config.get("reward_scalarisation", "sum")),
        video=None if video is None else check_target(video),
        video_episodes=options.video_episodes or VIDEO_EPISODES,
    )  # fmt: skip


def statistics(found: Mapping[str, Any]) -> str:
    """Return a report's statistics as a table."""
    from ..utils.console import number

    def text(value: float | None, size: float) -> str:
        if value is None:
            return "-"
        return number(0.0 if abs(value) < 1e-6 * size else value)  # a rounding error in a sum of rewards

    said = found["statistics"]
    rows = {"team return" if said["agents"] else "return": said["return"]}
    rows |= {f"agent {i}": one for i, one in enumerate(said["agents"])}
    rows |= {"episode length": said["length"], **said["metrics"]}
    lines: list[tuple[str, ...]] = [COLUMNS]
    for name, one in rows.items():
        size = max(abs(one[k] or 0.0) for k in ("min", "max"))
        interval = " .. ".join(text(bound, size) for bound in one["ci95"] or (None,))
        lines.append((name, text(one["mean"], size), interval, *(text(one[k], size) for k in COLUMNS[3:])))
    return table(lines, " rrrrrr")


def show(found: Mapping[str, Any]) -> None:
    """Print a report."""
    how = "greedy" if found["greedy"] else "sampled"
    task = found["env_args"].get("map_name") or found["env_args"].get("key")
    print(f"Checkpoint {found['checkpoint']}, step {found['step']:,}")
    count = f"{found['n_episodes']:,} {how} episode{'s' * (found['n_episodes'] > 1)}"
    print(f"{count} of {found['algorithm']} on {found['env']}{f' ({task})' if task else ''}, seed {found['seed']}")
    print(statistics(found))
    if found["video"]:
        print(f"Video: {found['video']}")


def main(argv: list[str]) -> int:
    """Evaluate; return the exit status.

    Raises:
        UserError: an invalid command line, or a run that cannot be evaluated.
    """
    options = parser().parse_args(argv)
    path = checkpoint_of(options.run, options.checkpoint)

    from ..utils.signals import Stop

    with Stop().listening():  # a signal ends the command after everything has been closed
        play_and_show(options, path)
    return 0


def play_and_show(options: argparse.Namespace, path: Path) -> None:
    """Play with the team of the checkpoint ``path`` as the command line says, and print the results.

    Raises:
        UserError: a run that cannot be evaluated, or not with these options.
        Terminated: a signal arrived.
    """
    from ..evaluation.play import write_report
    from ..utils.video import check_file

    if options.json not in (None, "-"):
        check_file(Path(options.json).expanduser(), "file")
    found = played(options, path)
    if options.json == "-":
        print(json.dumps(found, indent=1))
        return
    show(found)
    if options.json is not None:
        write_report(Path(options.json).expanduser(), found)
        print(f"JSON: {options.json}")


def played(options: argparse.Namespace, path: Path) -> dict[str, Any]:
    """Play with the team of the checkpoint ``path`` as the command line says; return the report.

    Raises:
        UserError: a run that cannot be evaluated, or not with these options.
        Terminated: a signal arrived.
    """
    import torch
    from rich.console import Console
    from rich.progress import Progress

    from ..envs.build import make_info, notices
    from ..evaluation.play import evaluate, report
    from ..evaluation.team import Team, check_names, config_of
    from ..storage import checkpoints
    from ..utils.warn_once import OPPOSED, begin_run

    torch.set_num_threads(1)
    saved = checkpoints.load(path)
    config = config_of(saved, path)
    check_names(config, ("env",), path, options.trust)
    env_args = changed(config["env"], config["env_args"], options.env_args)
    team = Team(saved, path, info=make_info(config["env"], env_args), trust=options.trust)
    run_folder = path.parent.parent if path.parent.parent.joinpath("config.json").is_file() else Path.cwd()
    plan = plan_of(options, team, run_folder, env_args)
    begin_run(known=() if plan.common_reward else (OPPOSED,))
    err = Console(stderr=True)
    for sentence in notices(config["env"], env_args):
        err.print(sentence, markup=False, highlight=False, soft_wrap=True)
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        bar = progress.add_task("episodes", total=plan.episodes)
        episodes = evaluate(team, plan, lambda: progress.advance(bar))
    return report(team, plan, episodes)
