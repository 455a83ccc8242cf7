"""``oamarl check-env ENV``: play random actions in an environment and report everything that is wrong with it."""

from __future__ import annotations

import sys
from typing import Any

from ..envs.build import check_env_args, notices
from ..envs.conformance.report import Report, Stop
from ..envs.conformance.suite import Conformance
from ..envs.info_metrics import logging_notices
from ..utils import signals
from ..utils.errors import UserError, counted, sizes_text
from ..utils.layout import hanging, line_width
from ..utils.schema import vocabulary, yamls
from ..utils.schema.command_line import parse
from ..utils.schema.layers import environment
from .arguments import Arguments, at_least

USAGE = """usage: oamarl check-env ENVIRONMENT [--episodes=N] [--seed=N] [with env_args.KEY=VALUE ...]
Plays random actions in an environment and prints each error as one sentence. ENVIRONMENT is a name (see `oamarl list`),
a YAML file, or package.module:Factory. Exit status: 0 nothing is wrong, 1 something is, 2 a user error on the command
line. Warnings (properties that may be intended) do not change it."""


def asked(argv: list[str]) -> tuple[str, dict[str, Any], dict[str, int]]:
    """Return the environment, its arguments (checked), and the numbers of the flags.

    Raises:
        UserError: an invalid command line.
    """
    p = Arguments("check-env")
    p.add_argument("--episodes", type=at_least(0), default=3)
    p.add_argument("--seed", type=at_least(0), default=0)
    numbers, words = p.parse_known_args(argv)
    at = words.index("with") if "with" in words else len(words)
    names = [word for word in words[:at] if not word.startswith("-")]
    request, _ = parse([word for word in words[:at] if word.startswith("-")] + words[at:])
    names += [request.env_config] if request.env_config else []
    if len(names) != 1:
        raise UserError(f"`oamarl check-env` takes one environment, {'none' if not names else ', '.join(names)} given.")
    for name in request.overrides:
        if name != "env_args":
            raise UserError(
                f"'{name}' is not an argument of an environment: only env_args.KEY=VALUE may follow `with`."
            )
    layer = environment(names[0])
    args = {**(layer.values.get("env_args") or {}), **request.overrides.get("env_args", {})}
    for name in [n for n in vocabulary.REFUSED if n.startswith("env_args.") and n[9:] in args]:
        vocabulary.refuse(name, args.pop(name[9:]), "command line", {})
    return str(layer.values["env"]), check_env_args(str(layer.values["env"]), args, request.typed), vars(numbers)


def main(argv: list[str]) -> int:
    """Check an environment; return the exit status."""
    if not argv:
        raise UserError("`oamarl check-env` needs an environment: a name, a YAML file or package.module:Factory.")
    env, args, numbers = asked(argv)
    report = Report()
    checks = Conformance(env, args, numbers["seed"], numbers["episodes"], report)
    for sentence in notices(env, args):
        report.warn(sentence, sentence)
    try:
        with signals.Stop().listening():
            player = checks.run()
    except Stop:
        player = None
    said = [f"{env}  {yamls.inline(args) if args else ''}".rstrip()]
    if player is not None:
        i, lengths = player.info, [len(s) - 1 for s in checks.reference.values()]
        said.append(
            f"{counted(i.n_agents, 'agent')}, observations {sizes_text(i.obs_sizes)}, actions "
            f"{sizes_text(i.action_sizes)}, state {i.state_size}, at most {i.episode_limit} steps; episodes of "
            f"{min(lengths)} to {max(lengths)} steps at random, {checks.steps_per_second:,.0f} steps a second."
        )
        said += logging_notices(player.summary)
    width = line_width()
    for sentence in said:
        print("\n".join(hanging(sentence, width)))
    for kind, sentences in (("wrong: ", report.findings), ("note:  ", report.warnings)):
        for sentence in sentences:
            print("\n".join(hanging(sentence, width, 7, kind)))
    print(f"{len(report.findings)} wrong, {len(report.warnings)} to note.")
    sys.stdout.flush()
    return 1 if report.findings else 0
