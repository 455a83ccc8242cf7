"""The program: ``python src/main.py``, ``python -m oamarl`` and ``oamarl`` are all this.

``oamarl --config=A --env-config=E with key=value ...`` trains; ``oamarl COMMAND ...`` runs a tool.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

EXAMPLE = "oamarl --config=oappo --env-config=maze with seed=1"


def as_package() -> None:
    """Make ``oamarl`` mean the folder of this file, and take that folder off ``sys.path``.

    ``python src/main.py`` puts ``src/`` first on the path: every module could then be imported a second
    time under another name, with its own classes and registries. Spawned workers run this file again
    (as ``__mp_main__``) before anything is unpickled, so they come through here too.
    """
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry or os.curdir).resolve() != here]
    found = importlib.util.find_spec("oamarl")
    if found is not None and found.origin and Path(found.origin).resolve() == here / "__init__.py":
        return
    spec = importlib.util.spec_from_file_location(
        "oamarl", here / "__init__.py", submodule_search_locations=[str(here)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["oamarl"] = package
    spec.loader.exec_module(package)


def usage() -> str:
    """Return the help text."""
    from .tools import COMMANDS
    from .utils.project import checkout

    same = "`python src/main.py` and `python -m oamarl` are" if checkout() else "`python -m oamarl` is"
    commands = "\n".join(f"  {name:<10} {line}" for name, (_, line) in COMMANDS.items())
    return f"""\
usage: oamarl [train] --config=ALGORITHM --env-config=ENVIRONMENT [with KEY=VALUE ...]
       oamarl COMMAND ...
({same} the same program.)

commands:
  train      train (may be left out)
{commands}

`oamarl COMMAND --help` says more of each.

example:
  {EXAMPLE}"""


def train_usage() -> str:
    """Return the help text of training."""
    from .utils.project import page

    return f"""\
usage: oamarl [train] --config=ALGORITHM --env-config=ENVIRONMENT [with KEY=VALUE ...]

Trains a team, and stores the run below results/sacred: its configuration, curves, log and checkpoints.

  --config      algorithm: a name (`oamarl list algorithms`) or a YAML file of yours (./mine.yaml)
  --env-config  environment: a name (`oamarl list environments`) or a YAML file of yours
  with          settings: seed=3 lr=1e-3 env_args.map_name=black_red reuse_groups='[[0, 2], [1]]'

Often set (`oamarl config KEY` explains a key, {page("configuration.md")} all of them):

  seed=N                seed of everything random; without one it is drawn
  t_max=N               environment steps to train for
  verbose=True          a table of all metrics at each log interval, in place of one line
  checkpoint_path=RUN   resume a run (its folder, or `latest`)
  evaluate=True         with checkpoint_path: play test episodes, and train nothing
  label=TEXT            kept with the run, to find it again

`oamarl config` with the same words shows the whole configuration, and runs nothing.
Exit status: 0 done, 1 failed, 2 a mistake of the request, 124 max_seconds, 128 + N signal N; a signalled run saves a
checkpoint.

example:
  {EXAMPLE}"""


def train(argv: Sequence[str]) -> int:
    """Train the run that ``argv`` requests; return the exit status."""
    from .parts import resolve
    from .utils.schema.command_line import parse

    request, _ = parse(argv)
    settings = resolve(request)
    if settings.alone:
        from .tabular.run import run as train_tables

        return int(train_tables(settings))
    from . import run  # last, since they load torch
    from .evaluation import command as evaluation_run

    return int(evaluation_run.run(settings) if evaluation_run.asked(settings) else run.run(settings))


#: programs of EPyMARL's -> the command in their place
_EPYMARLS = {"search": "sweep", "plot_results": "plot"}


def dispatch(argv: Sequence[str]) -> int:
    """Choose the command and run it; ``UserError`` passes through."""
    from . import __version__
    from .tools import COMMANDS, load
    from .utils.errors import UserError, nearest
    from .utils.layout import fit, line_width

    first = argv[0] if argv else "--help"
    if first == "--version":
        print(f"oamarl {__version__}")
        return 0
    if first in ("-h", "--help", "help"):
        print(fit(usage(), line_width()))
        return 0
    if first in COMMANDS:
        return int(load(first)(list(argv[1:])))
    if first == "train" or first.startswith("-") or first == "with":
        rest = argv[1:] if first == "train" else argv
        if "-h" in rest or "--help" in rest:
            print(fit(train_usage(), line_width()))
            return 0
        return train(rest)
    known = ["train", *COMMANDS]
    here = _EPYMARLS.get(first)
    hint = f"; EPyMARL's {first}.py is `oamarl {here}` here." if here else nearest(first, known)
    raise UserError(f"Unknown command '{first}': use {', '.join(known)}{hint}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status: 0 done, 1 failed, 2 a user error, 130 interrupted.

    Args:
        argv: the words of the command line; None: this process's own, which then ends soon after this.
    """
    if argv is not None:
        return _status(argv)
    from .utils import plain_text, waiting

    plain_text.prepare()
    waiting.begin()
    status = 1
    try:
        status = _status(sys.argv[1:])
    finally:  # also with a traceback: threads that an environment has started may be left
        waiting.leave(status)
    return status


def _status(argv: Sequence[str]) -> int:
    """Run the command of ``argv``, and return the exit status."""
    from .utils.errors import RunError, UserError, sentence_of, too_few_files

    try:
        return dispatch(argv)
    except UserError as error:
        print(sentence_of(error), file=sys.stderr)
        return 2
    except RunError as error:  # raised before a run has begun: later ones are reported by the run itself
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:  # or another signal, which its message names
        print(str(error) or "Interrupted.", file=sys.stderr)
        return int(getattr(error, "exit_code", 130))
    except BrokenPipeError:
        # `oamarl list | head`: the reader has ended; without this, the interpreter's last flush would print an error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, ImportError) as error:
        sentence = too_few_files(error)
        if not sentence:
            raise
        print(sentence, file=sys.stderr)
        return 1


if __name__ in ("__main__", "__mp_main__") and not __package__:
    as_package()
    if __name__ == "__main__":
        sys.exit(importlib.import_module("oamarl.main").main())
