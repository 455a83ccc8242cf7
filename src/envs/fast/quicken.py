"""Stock environments stepped by code of ours for the same rules, bit for bit: which module has it for which package."""

from __future__ import annotations

import importlib
from typing import Any

from ..foreign import unwrapped

#: package -> module beside this one with a function ``quicken(env) -> bool``
_MODULES = {"lbforaging": ".lbf", "rware": ".rware"}


def quicken(env: Any) -> bool:
    """Make a Gymnasium environment's innermost environment step quickly, where there is code for exactly what it is.

    It stays the same object with the same attributes, spaces and rendering, and what it does is equal in every bit.
    Another release of its package, a class derived from the package's, or one with replaced methods is left alone.

    Returns whether it now steps quickly.
    """
    module = _MODULES.get(type(unwrapped(env)).__module__.partition(".")[0])
    if module is None:
        return False
    try:
        quicken_it = importlib.import_module(module, __package__).quicken
    except (ImportError, AttributeError):  # a release without the names that the known ones have
        return False
    return bool(quicken_it(env))
