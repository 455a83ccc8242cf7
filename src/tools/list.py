"""``oamarl list``: the available algorithms and environments, with one line on each."""

from __future__ import annotations

from collections.abc import Mapping

from ..utils.errors import UserError, nearest
from ..utils.layout import entry, hanging, line_width
from ..utils.project import pages_note
from ..utils.schema import plugins, yamls
from ..utils.schema.layers import shipped, tuned

#: section -> (folder of the shipped YAMLs, kind of entry point, flag)
SECTIONS = {"algorithms": ("algs", "algorithm", "--config"), "environments": ("envs", "environment", "--env-config")}
USAGE = f"usage: oamarl list [{'|'.join(SECTIONS)}]"


def _installed(names: list[str], command: str) -> str:
    lacks = yamls.absent(names)
    return f"  [not installed: {command or ' '.join(['pip install', *lacks])}]" if lacks else "  [installed]"


def _offered(entries: tuple[plugins.Plugin, ...], ours: Mapping[str, object]) -> str:
    """Describe what other packages offer under one name; a damaged YAML of theirs does not stop the list."""
    file, whose = plugins.yaml_of(entries[0]), " and ".join(e.package for e in entries)
    try:
        line = yamls.description(file) if file else entries[0].target
    except (OSError, UnicodeDecodeError):
        line = f"{file} cannot be read"
    if entries[0].name in ours:
        return f"{line}  [{whose}; not reachable by this name, which is oamarl's own]"
    return f"{line}  [{whose}{'; the name is taken twice: uninstall one' if len(entries) > 1 else ''}]"


def main(argv: list[str]) -> int:
    """Print both lists, or one (``algorithms``, ``environments``); return the exit status."""
    for word in argv:
        if word not in SECTIONS:
            raise UserError(
                f"`oamarl list` does not know '{word}': use algorithms or environments{nearest(word, SECTIONS)}"
            )
    ours = {section: shipped(folder) for section, (folder, _, _) in SECTIONS.items()}
    ours["algorithms"] |= tuned()
    theirs = {section: plugins.installed(kind) for section, (_, kind, _) in SECTIONS.items()}
    names = [name for section in SECTIONS for name in (*ours[section], *theirs[section])]
    width = line_width()
    # where lines are short, long names stand on lines of their own
    column = max((len(name) for name in names if width is None or width >= 100 or len(name) <= 12), default=0) + 4
    for section, (_, _, flag) in SECTIONS.items():
        if argv and section not in argv:
            continue
        print(f"{section} ({flag}=NAME)")
        for name, path in ours[section].items():
            state = _installed(yamls.needs(path), yamls.how_to_install(path)) if section == "environments" else ""
            print(*entry(f"  {name}", f"{yamls.description(path)}{state}", width, column), sep="\n")
        for name, entries in theirs[section].items():
            print(*entry(f"  {name}", _offered(entries, ours[section]), width, column), sep="\n")
        print()
    if note := pages_note():
        print(*hanging(note, width), sep="\n")
    return 0
