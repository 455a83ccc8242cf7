"""``oamarl config``: the merged configuration with where each value came from, or what a key means."""

from __future__ import annotations

import sys

from ..parts import resolve
from ..settings import Settings
from ..training.seeds import seeds_of
from ..utils.layout import NARROWEST, line_width
from ..utils.schema import yamls
from ..utils.schema.command_line import FLAGS, parse
from ..utils.schema.layers import leaves

USAGE = """usage: oamarl config --config=ALGORITHM --env-config=ENVIRONMENT [--yaml] [with KEY=VALUE ...]
       oamarl config KEY ... [--config=ALGORITHM --env-config=ENVIRONMENT [with KEY=VALUE ...]]

The first form prints the configuration that `oamarl train` would run with the same arguments, one line per key with its
value and source; --yaml prints plain YAML, which --config=FILE reads back.

The second form explains keys, such as lr or env_args.key: meaning, type, allowed values, default, which files set it,
and which algorithms read it; with --config and --env-config also its value there."""


def table(settings: Settings, width: int | None = None) -> list[str]:
    """Return aligned lines ``key  value  source``, in alphabetical order; a source that does not fit goes below."""
    rows = [(k, yamls.inline(v), settings.source[k]) for k, v in sorted(leaves(settings.values))]
    wide, sources = (max(len(row[i]) for row in rows) for i in (0, 2))
    # one long value must not move every source off the screen
    value_wide = min(40, max(len(v) for _, v, _ in rows))
    if width is not None:
        value_wide = max(6, min(value_wide, width - wide - sources - 4))
    lines = []
    for k, v, source in rows:
        line = f"{k:<{wide}}  {v:<{value_wide}}  {source}"
        if width is None or len(line) <= width:
            lines.append(line)
            continue
        value = f"{k:<{wide}}  {v}"
        room = max(width, NARROWEST)
        short = len(value) + 2 + len(source) <= room  # a long value, and still room for its source
        lines += [f"{value}{source:>{room - len(value)}}"] if short else [value.rstrip(), f"{source:>{room}}"]
    return lines


def keys_of(argv: list[str]) -> list[str]:
    """Return the words of the command line that name keys: those before `with` that belong to no flag."""
    found, value = [], False
    for word in argv:
        if word == "with":
            break
        if not (value or word.startswith("-") or "=" in word):
            found.append(word)
        value = word in FLAGS
    return found


def main(argv: list[str]) -> int:
    """Print the configuration, or explain keys; return the exit status.

    Raises:
        UserError: an invalid command line, or a key that does not exist.
    """
    keys = keys_of(argv)
    rest = [word for i, word in enumerate(argv) if word not in keys or (i and argv[i - 1] in FLAGS)]
    request, switches = parse(rest, switches=("--yaml",))
    settings = resolve(request) if rest or not keys else None
    if settings is not None:
        seeds_of(settings)  # refuses what `oamarl train` would
    for notice in settings.notices if settings else ():
        print(notice, file=sys.stderr)
    if keys:
        from .explain import explain, read

        here = None if settings is None else read(settings.values, settings.source)
        told = ["\n".join(explain(key, line_width() or 100, here)) for key in keys]
        print("\n\n".join(told))
    elif settings is not None and "--yaml" in switches:
        text = yamls.dump(settings.values)
        if str(sys.stdout.encoding).startswith("utf"):
            print(text, end="")
        else:  # a file to be read again, not one letter of which may be replaced
            sys.stdout.flush()
            sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
    elif settings is not None:
        print("\n".join(table(settings, line_width())))
    return 0
