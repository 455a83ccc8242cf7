"""The layers of a run's configuration: default.yaml < environment < algorithm (bases first) < command line.

Under the environment of EPyMARL's own algorithm files lie its default values too (:mod:`.epymarl`).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UserError, nearest
from ..project import page
from . import epymarl, plugins, vocabulary, yamls
from .command_line import Request

CONFIGS = Path(__file__).resolve().parents[2] / "config"
COMMAND_LINE = "command line"


@dataclass(frozen=True)
class Layer:
    """One source of values.

    ``origin`` is default (default.yaml), epymarl (its default values), shipped, user (a YAML by path or of another
    package) or command. ``unused``: keys of the file that were left out of ``values``. ``typed``: of the command line,
    what was typed for values that are not text.
    """

    name: str
    origin: str
    values: dict[str, Any]
    unused: tuple[str, ...] = ()
    typed: Mapping[str, str] = field(default_factory=dict)


def shipped(folder: str) -> dict[str, Path]:
    """Return name -> YAML of ``config/algs`` or ``config/envs``, in alphabetical order."""
    return {path.stem: path for path in sorted((CONFIGS / folder).glob("*.yaml"))}


def tuned() -> dict[str, Path]:
    """Return name -> YAML of algorithms with settings for one map, ``config/algs/<environment>_<map>/<name>.yaml``."""
    return {f"{path.parent.name}/{path.stem}": path for path in sorted((CONFIGS / "algs").glob("*/*.yaml"))}


def _load(given: str, folder: str, kind: str) -> Layer:
    """Load an algorithm or environment by name or by path."""
    if folder == "algs" and given in tuned():
        shown = f"{folder}/{given}.yaml"
        return Layer(shown, "shipped", yamls.load(tuned()[given], shown))
    if "/" in given or os.sep in given or given.endswith((".yaml", ".yml")):
        if folder == "algs" and given[0] not in "./~" and not Path(given).suffix and not Path(given).exists():
            raise UserError(f"Unknown algorithm '{given}', and there is no such file{nearest(given, list(tuned()))}")
        layer = Layer(given, "user", yamls.load(Path(given).expanduser(), given))
        _refuse_swapped(layer, folder)
        return layer
    names = shipped(folder)
    if given in names:
        shown = f"{folder}/{given}.yaml"
        return Layer(shown, "shipped", yamls.load(names[given], shown))
    plugin = plugins.find(kind, given)
    if plugin is None:
        _refuse_swapped_name(given, folder)
        if kind == "algorithm" and (sentence := epymarl.unknown_name(given)):
            raise UserError(sentence)
        every = [*names, *(n for n in plugins.installed(kind) if n not in names)]
        raise UserError(f"Unknown {kind} '{given}': use a path or one of {', '.join(every)}{nearest(given, every)}")
    values, shown = plugins.values(kind, plugin)
    return Layer(shown, "user", values)


def _refuse_swapped(layer: Layer, folder: str) -> None:
    """Refuse an algorithm's file in place of an environment's, and the reverse.

    Raises:
        UserError: naming the flag.
    """
    values = layer.values
    if epymarl.is_defaults(values):
        if folder == "algs":  # the base of a file of one's own
            return
        raise UserError(f"--env-config: the file {layer.name} is EPyMARL's default.yaml, not an environment's.")
    if folder == "envs" and "env" not in values and values.keys() & {"learner", "base"}:
        raise UserError(
            f"--env-config: the file {layer.name} is an algorithm's (it has `learner:` or `base:`, and no `env:`); "
            f"did you mean --config={layer.name}?"
        )
    if folder == "algs" and "env" in values and not values.keys() & {"learner", "base"}:
        raise UserError(
            f"--config: the file {layer.name} is an environment's (it has `env:` and no `learner:` or `base:`); "
            f"did you mean --env-config={layer.name}?"
        )


def _refuse_swapped_name(given: str, folder: str) -> None:
    """Refuse the name of an environment in place of an algorithm's, and the reverse.

    Raises:
        UserError: naming the flag.
    """
    if folder == "algs" and given in shipped("envs"):
        raise UserError(f"--config: '{given}' is an environment; did you mean --env-config={given}?")
    if folder == "envs" and given in shipped("algs"):
        raise UserError(f"--env-config: '{given}' is an algorithm; did you mean --config={given}?")


def environment(given: str) -> Layer:
    """Return what an environment's name, YAML file or ``package.module:Class`` sets (at least ``env``).

    Raises:
        UserError: an unknown name, or a YAML that cannot be read or names no environment.
    """
    if ":" in given and "/" not in given:
        return Layer(given, "user", {"env": given})
    layer = _load(given, "envs", "environment")
    if not layer.values.get("env"):
        raise UserError(f"The file {layer.name} names no environment: it has no `env:`.")
    return layer


def _algorithm(given: str) -> list[Layer]:
    """Return an algorithm's YAML after those that it is based on (``base:``, a name, or a path seen from the file).

    Raises:
        UserError: an unknown one, one that cannot be read, or a file that is based on itself.
    """
    found: list[Layer] = []
    name, wanted, by = Path(given).stem, given, ""
    while True:
        try:
            layer = _load(wanted, "algs", "algorithm")
        except UserError as error:
            raise UserError(f"{by}{error}") from None
        if any(layer.name == above.name for above in found):
            raise UserError(f"The file {layer.name} is based on itself: {' -> '.join(x.name for x in found[::-1])}.")
        values = dict(layer.values)
        base = values.pop("base", None)
        found.insert(0, dataclasses.replace(layer, values=values))
        if base is None:
            break
        if not isinstance(base, str) or not base:
            raise UserError(f"The file {layer.name}: base={base!r} is not allowed: the name or path of an algorithm.")
        by = f"The base of {layer.name}: "
        path = ("/" in base and base not in tuned()) or base.endswith((".yaml", ".yml"))
        wanted = os.path.normpath(os.path.join(os.path.dirname(layer.name), base)) if path else base
    found[-1] = dataclasses.replace(found[-1], values={"name": name, **found[-1].values})
    return found


def _epymarl(chain: list[Layer]) -> tuple[list[Layer], list[Layer]]:
    """Return an algorithm's layers as those below the environment's YAML and those above it.

    Below are EPyMARL's default values, if the algorithm is a file of EPyMARL's or based on one: ``epymarl.yaml``, then
    its default.yaml, which is in ``chain`` or beside the file's folder.

    Raises:
        UserError: its default.yaml alone, which names no learner, or one that cannot be read.
    """
    defaults = [x for x in chain if epymarl.is_defaults(x.values)]
    above = [x for x in chain if not epymarl.is_defaults(x.values)]
    if not defaults and not epymarl.is_algorithm(above[0].values):
        return [], chain
    if not above:
        raise UserError(
            f"The file {chain[-1].name} is EPyMARL's default.yaml, which names no algorithm: use one of the files in "
            "algs/ beside it, which are read with it, or a YAML of yours with `base:` and this file's path."
        )
    if not defaults and above[0].origin == "user":
        defaults = _defaults_beside(Path(above[0].name).expanduser())
    below = [Layer("epymarl.yaml", "epymarl", yamls.load(CONFIGS / "epymarl.yaml", "epymarl.yaml"))]
    below += [dataclasses.replace(x, origin="epymarl") for x in defaults]
    return [below[0], *map(_other_meaning, below[1:])], [
        _other_meaning(x) if epymarl.is_algorithm(x.values) else x for x in above
    ]


def _defaults_beside(algorithm: Path) -> list[Layer]:
    """Return EPyMARL's default.yaml of its algorithm file ``config/algs/NAME.yaml``, if it is ``config/default.yaml``.

    Raises:
        UserError: it cannot be read.
    """
    path = algorithm.parent.parent / "default.yaml"
    if algorithm.parent.name != "algs" or not path.is_file():
        return []
    values = yamls.load(path, str(path))
    return [Layer(str(path), "user", values)] if epymarl.is_defaults(values) else []


def _other_meaning(layer: Layer) -> Layer:
    """Return a layer of EPyMARL's without the keys that mean something else there."""
    unused = tuple(name for name in layer.values if name in epymarl.OTHER_MEANING)
    values = {name: value for name, value in layer.values.items() if name not in unused}
    return dataclasses.replace(layer, values=values, unused=unused)


def notices(found: list[Layer]) -> list[str]:
    """Return a sentence about EPyMARL's default values, where ``found`` has them."""
    theirs = [layer.name for layer in found if layer.origin == "epymarl"]
    if not theirs:
        return []
    lower, user = " and ".join(theirs), [x for x in found if x.origin == "user"]
    here = page("coming-from-epymarl.md")
    said = [f"An algorithm file of EPyMARL's: what it leaves out has EPyMARL's value, of {lower} ({here})."]
    for name in dict.fromkeys(name for layer in user for name in layer.unused):
        said.append(f"'{name}' has no effect in EPyMARL's files: {epymarl.OTHER_MEANING[name]}.")
    return said


def collect(request: Request) -> list[Layer]:
    """Return the sources of a request's values, weakest first, each in this project's vocabulary.

    Raises:
        UserError: no algorithm or environment named, an unknown one, a YAML that cannot be read,
            or keys that are not text.
    """
    yamls.check_keys(request.overrides, f"The {COMMAND_LINE}")
    if request.config is None:
        raise UserError(f"No algorithm is given: add --config=NAME, one of {', '.join(shipped('algs'))}, or a path.")
    below, algorithm = _epymarl(_algorithm(request.config))
    found = [Layer("default.yaml", "default", yamls.load(CONFIGS / "default.yaml", "default.yaml")), *below]
    if request.env_config is not None:
        found.append(_load(request.env_config, "envs", "environment"))
    found += algorithm
    found.append(_command_line(request))
    if not any("env" in layer.values for layer in found):
        raise UserError(
            f"No environment is given: add --env-config=NAME, one of {', '.join(shipped('envs'))}, or a path."
        )
    return [dataclasses.replace(x, values=vocabulary.translate(x.values, x.name)) for x in found]


def _command_line(request: Request) -> Layer:
    """Return the command line's layer. Only ``env_args`` are a mapping: for any other key, braces are text."""
    values = {
        name: request.typed[name] if isinstance(value, dict) and name != "env_args" and name in request.typed else value
        for name, value in request.overrides.items()
    }
    return Layer(COMMAND_LINE, "command", values, typed=request.typed)


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of a nested mapping; an empty mapping is a value itself."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def merge(found: list[Layer]) -> tuple[dict[str, Any], dict[str, Layer]]:
    """Lay the layers over one another; return the nested values and the layer of each dotted leaf."""
    values: dict[str, Any] = {}
    origin: dict[str, Layer] = {}

    def lay(below: dict[str, Any], above: Mapping[str, Any], layer: Layer, prefix: str) -> None:
        for name, value in above.items():
            dotted = prefix + name
            if isinstance(value, Mapping):
                inner = below.get(name)
                if not isinstance(inner, dict):
                    below[name] = inner = {}
                    origin.pop(dotted, None)
                lay(inner, value, layer, f"{dotted}.")
                if not inner:
                    origin[dotted] = layer
                else:
                    origin.pop(dotted, None)
            else:
                if isinstance(below.get(name), dict):
                    for stale in [k for k in origin if k.startswith(f"{dotted}.")]:
                        del origin[stale]
                below[name] = value
                origin[dotted] = layer

    for layer in found:
        lay(values, layer.values, layer, "")
    return values, origin
