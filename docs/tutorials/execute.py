"""Run the tutorials, and store what they show: ``python docs/tutorials/execute.py [NAME ...]``.

Needs ``pip install -e '.[dev]'``. Outputs are stored without paths of the machine, and with small pictures.
"""

from __future__ import annotations

import base64
import io
import os
import re
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).resolve().parent
#: widest stored picture, in pixels, and its colours
WIDEST, COLOURS = 1200, 64
#: IPython keeps the status of a shell's command, and continues
_CHECKS = """
def _checked(system):
    def run(line):
        system(line)
        status = get_ipython().user_ns["_exit_code"]
        if status:
            raise RuntimeError(f"status {status}: {line}")
    return run
get_ipython().system = _checked(get_ipython().system)
del _checked
"""


def parameters(source: str, values: Mapping[str, Any]) -> str:
    """Return the first cell with other values of its names.

    Args:
        source: lines ``NAME = value``.
        values: what to set.

    Raises:
        ValueError: the cell sets no such name.
    """
    for name, value in values.items():
        source, count = re.subn(rf"^{name} = [^#\n]*?(?= *(#|$))", f"{name} = {value!r}", source, flags=re.M)
        if count != 1:
            raise ValueError(f"The cell of parameters does not set {name}.")
    return source


def executed(path: Path, folder: Path, values: Mapping[str, Any], seconds: int = 3600) -> nbformat.NotebookNode:
    """Run a notebook from its first cell to its last.

    Args:
        path: the notebook.
        folder: it is run in; files that it names relative to itself must be there.
        values: of the names that its first cell sets.
        seconds: limit of one cell.

    Returns:
        The notebook with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised.
        ValueError: a command of the shell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    first = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    first.source = parameters(first.source, values)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(_CHECKS))
    scripts = sysconfig.get_path("scripts")
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{scripts}{os.pathsep}{before}"
    try:
        NotebookClient(notebook, timeout=seconds, resources={"metadata": {"path": str(folder)}}).execute()
    finally:
        os.environ["PATH"] = before
    del notebook.cells[0]
    return notebook


def small(picture: str) -> str:
    """Return a PNG picture (base64) with few colours, no wider than WIDEST."""
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    if image.width > WIDEST:
        image = image.resize((WIDEST, round(image.height * WIDEST / image.width)), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return base64.b64encode(out.getvalue()).decode()


def screen(text: str) -> list[str]:
    """Return the lines that a terminal shows in the end: progress is drawn over itself."""
    lines, row, column = [""], 0, 0
    for piece in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\r|\n)", text):
        if piece == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif up := re.fullmatch(r"\x1b\[(\d*)A", piece):
            row = max(0, row - int(up[1] or 1))
        elif piece == "\x1b[2K":
            lines[row] = ""
        elif piece == "\r":
            column = 0
        elif not piece.startswith("\x1b"):
            line = lines[row].ljust(column)
            lines[row] = line[:column] + piece + line[column + len(piece) :]
            column += len(piece)
    return lines


def plain(text: str) -> str:
    """Return printed text without colours, progress and paths of the machine."""
    lines = [line.rstrip() for line in screen(text)]
    text = "".join(f"{line}\n" for line in lines if line and not set(line) & {"━", "┄"})
    text = re.sub(rf"{re.escape(tempfile.gettempdir())}/oamarl-\w+/?", "", text)
    return re.sub(rf"{re.escape(str(FOLDER.parents[1]))}/?", "", text)


def stored(notebook: nbformat.NotebookNode) -> None:
    """Make the outputs such that they can be kept: see the module's docstring."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        cell.execution_count = None
        cell.metadata = {"tags": cell.metadata.tags} if "tags" in cell.metadata else {}
        for one, other in zip(cell.outputs[-2::-1], cell.outputs[:0:-1], strict=True):  # printed in pieces
            if one.output_type == other.output_type == "stream":
                one.text, other.text = one.text + other.text, ""
        cell.outputs = [output for output in cell.outputs if output.get("text") != ""]
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = None
            if "text" in output:
                output.text = plain(output.text)
            data = output.get("data", {})
            if "image/png" in data:
                data["image/png"] = small(data["image/png"])
                data["text/plain"] = "<picture>"
            for kind in ("text/plain", "text/markdown"):
                if kind in data:
                    data[kind] = plain(data[kind])
            output.get("metadata", {}).pop("image/png", None)


def main(names: list[str]) -> int:
    """Run the notebooks of these names, or all, and write them; return the exit status."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        if names and path.stem not in names:
            continue
        notebook = executed(path, FOLDER, {})
        stored(notebook)
        path.write_text(nbformat.writes(notebook, version=4, ensure_ascii=False) + "\n", encoding="utf-8")
        print(path.name, f"{path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
