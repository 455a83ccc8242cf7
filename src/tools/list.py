"""``oamarl list``: the algorithms and environments that are there, with a line on each."""

from __future__ import annotations

import importlib.util

from ..components import yamls
from ..components.errors import UserError, nearest
from ..components.layers import shipped


def _installed(names: list[str]) -> str:
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    return f"  [not installed: pip install {' '.join(missing)}]" if missing else "  [installed]"


def main(argv: list[str]) -> int:
    """Print both lists, or one (``algorithms``, ``environments``); return the exit status."""
    sections = ("algorithms", "environments")
    if "-h" in argv or "--help" in argv:
        print(f"usage: oamarl list [{'|'.join(sections)}]")
        return 0
    for word in argv:
        if word not in sections:
            raise UserError(
                f"`oamarl list` does not know '{word}': use algorithms or environments{nearest(word, sections)}"
            )
    wanted = argv or list(sections)
    algorithms, environments = shipped("algs"), shipped("envs")
    width = max(map(len, [*algorithms, *environments]), default=0)
    for section, paths in (("algorithms", algorithms), ("environments", environments)):
        if section not in wanted:
            continue
        flag = "--config" if section == "algorithms" else "--env-config"
        print(f"{section} ({flag}=NAME)")
        for name, path in paths.items():
            state = _installed(yamls.needs(path)) if section == "environments" else ""
            print(f"  {name:<{width}}  {yamls.description(path)}{state}")
        print()
    return 0
