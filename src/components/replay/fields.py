"""The fields of a batch that a replay keeps, and where the episodes of its rows begin."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from torch import Tensor

from ..batch import Batch

#: fields of a batch that are worked out when it is drawn
_DERIVED = {"filled", "final_index", "hidden", "before"}
#: fields of which an episode's last one is kept too
FINAL = ("obs", "state", "avail")
#: name of an extra field in the replay
EXTRA = "extra."


def over_steps(batch: Batch) -> dict[str, np.ndarray]:
    """Return the fields of a batch that are tensors over its steps, [B, T or T+1, ...], extra ones under their name."""
    left_out = _DERIVED | {f"final_{name}" for name in FINAL}
    named = {f.name: getattr(batch, f.name) for f in fields(batch) if f.name not in left_out}
    extra = {f"{EXTRA}{name}": x for name, x in (named.pop("extra", None) or {}).items()}
    return {name: x.cpu().numpy() for name, x in (named | extra).items() if isinstance(x, Tensor)}


def final(batch: Batch, name: str) -> np.ndarray | None:
    """Return a field's last entries of the episodes that end inside rows, [K, ...], where the batch has them."""
    if name.startswith(EXTRA):
        found = (getattr(batch, "final_extra", None) or {}).get(name.removeprefix(EXTRA))
    else:
        found = getattr(batch, f"final_{name}", None)
    return None if found is None else found.cpu().numpy()


def beginnings(batch: Batch, row: np.ndarray, begin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the actions before the first steps of episodes, and whether those are whole.

    Args:
        row, begin, end: [E] row, first and last step of each.
    """
    dtype = batch.actions.cpu().numpy().dtype
    none = np.array(-1 if dtype.kind == "i" else np.nan, dtype)  # as batches have them
    if batch.before is None:
        return np.full((len(row), *batch.actions.shape[2:]), none), np.ones(len(row), bool)
    given = batch.before.cpu().numpy()[row]
    before = np.where((begin == 0).reshape(-1, *[1] * (given.ndim - 1)), given, none)
    over = (batch.terminated | batch.truncated).cpu().numpy()[row, end]
    absent = before < 0 if dtype.kind == "i" else np.isnan(before)
    return before, over & absent.reshape(len(row), -1).all(1)
