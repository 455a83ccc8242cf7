"""The fields of a batch that a replay keeps, and where the episodes of its rows begin."""

from __future__ import annotations

import numpy as np

from ..batch import FIRST, Batch

#: fields of a batch that are worked out when it is drawn
_DERIVED = {"filled", "final_index", *FIRST}


def over_steps(batch: Batch) -> dict[str, np.ndarray]:
    """Return the fields of a batch that are tensors over its steps, [B, T or T+1, ...], the extra ones among them."""
    kept = {n: x for n, x in batch.named().items() if n not in _DERIVED and not n.startswith("final_")}
    return {name: x.cpu().numpy() for name, x in kept.items()}


def final(batch: Batch, name: str) -> np.ndarray | None:
    """Return a field's last entries of the episodes that end inside rows, [K, ...], where the batch has them."""
    found = batch.named().get(f"final_{name}")
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
