"""``oamarl config``: the merged configuration with where each value came from, without running anything."""

from __future__ import annotations

import sys

from ..parts import resolve
from ..settings import Settings
from ..utils.schema import yamls
from ..utils.schema.command_line import parse
from ..utils.schema.layers import leaves

USAGE = """usage: oamarl config --config=ALGORITHM --env-config=ENVIRONMENT [--yaml] [with KEY=VALUE ...]
Prints the configuration that `oamarl train` would run with the same arguments, one line per key with its value and
source; --yaml prints plain YAML, which --config=FILE reads back."""


def table(settings: Settings) -> list[str]:
    """Return aligned lines ``key  value  source``, in alphabetical order."""
    rows = [(k, yamls.inline(v), settings.source[k]) for k, v in sorted(leaves(settings.values))]
    wide = max(len(k) for k, _, _ in rows)
    # one long value must not move every source off the screen
    value_wide = min(40, max(len(v) for _, v, _ in rows))
    return [f"{k:<{wide}}  {v:<{value_wide}}  {source}" for k, v, source in rows]


def main(argv: list[str]) -> int:
    """Print the configuration; return the exit status."""
    request, switches = parse(argv, switches=("--yaml",))
    settings = resolve(request)
    for notice in settings.notices:
        print(notice, file=sys.stderr)
    if "--yaml" in switches:
        print(yamls.dump(settings.values), end="")
    else:
        print("\n".join(table(settings)))
    return 0
