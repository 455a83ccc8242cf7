"""Tables in plain text: a line a row, or where a terminal is too narrow, a few lines."""

from __future__ import annotations

from collections.abc import Sequence

from ..utils.layout import entry, line_width


def table(
    rows: Sequence[Sequence[str]], right: str = "", *, heads: bool = True, names: Sequence[str] = (),
    width: int | None = None,
) -> str:  # fmt: skip
    """Return aligned lines, a row each; on a terminal too narrow for them, each row's cells below its first one.

    Args:
        rows: cells, the same number in each; the first row are headings.
        right: a letter a column: ``r`` for one that is aligned to the right (default: to the left).
        heads: whether the first row are headings; without them the rows are names with their texts.
        names: what to call the columns where each row takes several lines; the first row is a title then.
        width: columns of the terminal; None: of this process's own, if it has one.
    """
    width = line_width() if width is None else width
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if width is None or sum(widths) + 2 * len(widths) - 2 <= width:
        sides = [">" if side == "r" else "<" for side in right.ljust(len(widths))]
        formats = [f"{{:{side}{wide}}}" for side, wide in zip(sides, widths, strict=True)]
        return "\n".join("  ".join(formats).format(*row).rstrip() for row in rows)
    if not heads and len(widths) == 2:
        # the few names that are long have lines of their own
        column = max([len(name) for name, _ in rows if len(name) <= width // 2] or [0]) + 2
        return "\n".join(line for name, text in rows for line in entry(name, text, width, column))
    return "\n".join(_stacked(rows, heads, names, width))


def _stacked(rows: Sequence[Sequence[str]], heads: bool, names: Sequence[str], width: int) -> list[str]:
    """Return each row as its first cell, and below it the others, each after its heading, as many a line as fit."""
    head, *rest = rows if heads else ([""] * len(rows[0]), *rows)
    called = list(names or head[1:])
    called = [name if name.startswith("[") or not name else f"{name}:" for name in called]
    cells = [[f"{name} {cell or '-'}".strip() for name, cell in zip(called, row[1:], strict=True)] for row in rest]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)] if cells else []
    unnamed = not any(row[0] for row in rest)
    lines = [head[0]] if head[0] and (names or unnamed) else []
    for row, pairs in zip(rest, cells, strict=True):
        if not unnamed:
            lines.append(row[0])
        line = ""
        for pair, wide in zip(pairs, widths, strict=True):
            if line and len(line) + wide + 2 > width:
                lines.append(line.rstrip())
                line = ""
            line += f"  {pair:<{wide}}"
        lines.append(line.rstrip())
    return lines
