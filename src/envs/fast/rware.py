"""RWARE's warehouse by the stock package's rules, bit for bit, in a fraction of its time.

A made environment keeps its object, state, spaces, seeding and rendering: only its class becomes a subclass of the
stock one that steps in its own way. What an agent sees are a few slices of ONE buffer with the features of all cells,
in which a step rewrites the cells that changed; and who wins a cell is worked out only where moves touch each other.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

from ..foreign import unwrapped

#: SHA-256 of rware/warehouse.py -> where it is from. Another source may have other rules: it steps itself.
KNOWN = {
    "29ff5910827d8eddfa16a3ed6d595161ece20965bca9939b103abf7b3d12bc98": "2.0.0",
    # the repository after 2.0.0, which renders otherwise
    "dc2a232e456431a5ba630cf820a732ab1c552caeb9c2cae47fdb37934964176d": "6aa887c",
    "aa159f519da0d26f0c16f90842636105bc47c11c82132b133e15866271b68ff2": "4301898",
    "cc1be89dd654cde7928d6f0a813ebf36f070764adeb137fc1b74065f9344d12a": "776c480",
}


def quicken(env: Any) -> bool:
    """Make ``env``'s innermost environment step quickly if it is RWARE's own warehouse, of a known source.

    Returns whether it did; anything else is left as it was.
    """
    inner = unwrapped(env)
    stock = sys.modules.get("rware.warehouse")
    if stock is None or type(inner) is not getattr(stock, "Warehouse", None) or _source(stock) not in KNOWN:
        return False
    from .rware_step import QuickWarehouse  # imports rware

    inner.__class__ = QuickWarehouse
    return True


def _source(module: Any) -> str:
    """Return the SHA-256 of a module's source file, "" where there is none."""
    try:
        return hashlib.sha256(Path(module.__file__).read_bytes()).hexdigest()
    except (OSError, TypeError):
        return ""
