"""``evaluate=True`` on the command line of a run: EPyMARL's way to evaluate, logged as a run of its own."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..controllers.basic_mac import MACConfig
from ..envs.build import factory, make_info
from ..envs.build import notices as env_notices
from ..envs.vector.base import VecConfig
from ..settings import Settings
from ..storage import checkpoints, sacred_run, snapshots
from ..storage.log import RunLog
from ..storage.tested_actions import GREEDILY, MARK, SAMPLED
from ..storage.trackers import TrackersConfig
from ..training.seeds import refuse
from ..utils.errors import UserError
from ..utils.schema.keys import key
from .play import Plan, evaluate, logged_metrics, report, write_report
from .team import Team, config_of

#: What is written in the run's folder.
RESULT_FILE, GREEDY_FILE, VIDEO_FILE = "evaluation.json", "evaluation-greedy.json", "evaluation.gif"


@dataclass(frozen=True)
class EvaluationConfig:
    """The keys of a run that evaluates instead of training."""

    evaluate: bool = key(
        "Play a test of test_nepisode episodes (sampled ones and, with test_greedy, greedy ones) with the policies of "
        "checkpoint_path, log the metrics of a test, and train nothing."
    )
    render: bool = key("With evaluate: record the first episodes as a video in the run's folder.")
    save_replay: bool = key(
        "With evaluate: keep StarCraft II's replays, one per episode, in the run's folder, replays/."
    )


def asked(settings: Settings) -> bool:
    """Return whether ``settings`` request an evaluation instead of training.

    Raises:
        UserError: keys that contradict an evaluation.
    """
    config, values = settings.part(EvaluationConfig), settings.values
    if config.save_replay and "save_replay" not in inspect.signature(factory(values["env"])).parameters:
        raise UserError(
            f"save_replay=True: the environment '{values['env']}' has no replays, which are StarCraft II's; "
            "`oamarl evaluate --video` records episodes."
        )
    if not config.evaluate:
        if config.save_replay:
            raise UserError("save_replay=True keeps replays of evaluations: use it with evaluate=True.")
        if config.render:
            raise UserError(
                "render=True records evaluations: use it with evaluate=True, or `oamarl evaluate RUN --render` later."
            )
        return False
    if not values["checkpoint_path"]:
        raise UserError("evaluate=True needs the policies to play with: checkpoint_path=RUN (a folder or a file).")
    if values["test_nepisode"] < 1:
        raise UserError(f"evaluate=True with test_nepisode={values['test_nepisode']} has nothing to play.")
    return True


def run(settings: Settings) -> int:
    """Evaluate as ``settings`` say, in one sacred run of its own; returns the exit status.

    The metrics are those of a test in training, at the checkpoint's step; ``evaluation.json`` of the sampled episodes,
    ``evaluation-greedy.json`` of the greedy ones (and with ``render`` a video) lie in the run's folder.

    Raises:
        UserError: there is no such checkpoint, or it does not fit the configuration.
    """
    refuse(settings, "an evaluation is of one run")
    values, notices = settings.values, list(settings.notices)
    torch.set_num_threads(values["torch_threads"])
    chosen = snapshots.at_step(values["checkpoint_path"], values["load_step"], notices.append)
    path = checkpoints.find(chosen, notices.append)
    saved = checkpoints.load(path)
    # the command line names the classes: no class named by the checkpoint is imported
    check_same_policies(settings, saved, path)
    team = Team(saved, path, info=make_info(values["env"], values["env_args"]), trust=True)
    if settings.source.get("seed") == "worked out" and isinstance(team.config.get("seed"), int):
        values["seed"] = team.config["seed"]
    notices += env_notices(values["env"], values["env_args"])
    notices.append(f"Evaluation of {path}, step {team.step:,}.")

    def body(log: RunLog) -> dict[str, Any]:
        found: dict[str, float] = {}
        # videos and replays are of the greedy episodes where there are any: they show the learned behaviour best
        for greedy, file in ((False, RESULT_FILE), *([(True, GREEDY_FILE)] if values["test_greedy"] else [])):
            shown = greedy == values["test_greedy"]
            plan = Plan(
                values["env"], with_replays(values, log.folder) if shown else dict(values["env_args"]),
                values["test_nepisode"], values["seed"], greedy, values["batch_size_run"], settings.part(VecConfig),
                values["common_reward"], values["reward_scalarisation"],
                log.folder / VIDEO_FILE if values["render"] and shown else None,
            )  # fmt: skip
            episodes = evaluate(team, plan)
            found |= logged_metrics(episodes, plan, team.info)
            write_report(log.folder / file, report(team, plan, episodes))
            if plan.video is not None:
                log.info(f"Video: {plan.video} ({GREEDILY if greedy else SAMPLED})")
        log.scalars(found, team.step)
        log.table(team.step)
        return {"t_env": float(team.step), **found}

    info, trackers = {"evaluated": str(path), **MARK}, settings.part(TrackersConfig)
    return sacred_run.execute(values, notices, body, info=info, trackers=trackers).exit_code


def with_replays(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the environment's arguments; requested replays go to ``folder`` unless another folder is given."""
    args = dict(values["env_args"])
    if values["save_replay"]:
        args |= {"save_replay": True, "replay_dir": args.get("replay_dir") or str(folder / "replays")}
    return args


def check_same_policies(settings: Settings, saved: Mapping[str, Any], path: Path) -> None:
    """Refuse a configuration whose policies are not built like the checkpoint's.

    Raises:
        UserError: naming the keys that differ.
    """
    trained, values = config_of(saved, path), settings.values
    read = {f.name for cls in (MACConfig, settings.parts["agent"]) for f in dataclasses.fields(cls)}
    read -= {"head_gain", "log_std_init"}
    differ = [k for k in ("mac", "agent", *sorted(read)) if k in trained and trained[k] != values.get(k)]
    if differ:
        shown = ", ".join(f"{k}={values.get(k)!r} (trained with {trained[k]!r})" for k in differ[:4])
        raise UserError(
            f"The policies of {path} are not of this configuration: {shown}; give the --config and the keys that it "
            "was trained with, or use `oamarl evaluate`, which takes them from the checkpoint."
        )
