"""Tables in plain text, as wide as they need."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], right: str = "") -> str:
    """Return aligned lines, a row each.

    Args:
        rows: cells, the same number in each; the first row may be headings.
        right: a letter a column: ``r`` for one that is aligned to the right (default: to the left).
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = [">" if side == "r" else "<" for side in right.ljust(len(widths))]
    formats = [f"{{:{side}{width}}}" for side, width in zip(sides, widths, strict=True)]
    return "\n".join("  ".join(formats).format(*row).rstrip() for row in rows)
