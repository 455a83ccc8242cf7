"""Parts of a self-contained HTML page: text, tables, pictures inlined as data. No scripts."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

_CSS = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #1a1a1a; background: #fff; max-width: 1140px;
  margin: 0 auto; padding: 1.2em 1.4em 3em; overflow-wrap: break-word; }
h1 { font-size: 1.7em; margin: .3em 0 .1em; } h2 { font-size: 1.25em; margin: 2em 0 .4em; padding-top: .5em;
  border-top: 1px solid #ccc; } h3 { font-size: 1.05em; margin: 1.4em 0 .3em; }
.sub { color: #555; margin: 0; } nav { margin: 1em 0; } nav a { margin-right: 1.1em; } a { color: #005a94; }
code, pre { font: 13px/1.45 ui-monospace, "DejaVu Sans Mono", monospace; background: #f4f4f4; border-radius: 3px; }
code { padding: .1em .3em; } pre { padding: .6em .8em; white-space: pre-wrap; }
.wide { overflow-x: auto; margin: .6em 0; }
table { border-collapse: collapse; font-size: .93em; font-variant-numeric: tabular-nums; }
th, td { padding: .3em .6em; text-align: left; border-bottom: 1px solid #ddd; vertical-align: top; }
th { border-bottom: 2px solid #888; font-weight: 600; } td.n, th.n { text-align: right; white-space: nowrap; }
td.k { white-space: nowrap; } tr.best td { font-weight: 600; }
td.p { font: 12px/1.45 ui-monospace, "DejaVu Sans Mono", monospace; word-break: break-all; min-width: 15em; }
.cap { color: #555; font-size: .92em; margin: .3em 0 1em; }
figure { margin: .8em 0; } figure img { max-width: 100%; height: auto; } figcaption { color: #555; font-size: .92em; }
.note { border-left: 4px solid #d55e00; padding: .2em .9em; margin: 1em 0; background: #fdf5ef; }
.note li { margin: .2em 0; } summary { cursor: pointer; margin: .5em 0; }
@media print { body { max-width: none; padding: 0; } h2 { break-after: avoid; } figure, tr { break-inside: avoid; }
  nav { display: none; } }
"""


class Html(str):
    """Text that is HTML already."""


def text(value: Any) -> Html:
    """Return a value as HTML; what is HTML already stays as it is."""
    return value if isinstance(value, Html) else Html(html.escape(str(value)))


def table(
    head: Sequence[Any], rows: Sequence[Sequence[Any]], caption: str = "", kinds: str = "", best: int = -1
) -> Html:
    """Return a table.

    Args:
        caption: a sentence below it.
        kinds: a letter a column: ``n`` a number, ``k`` a name that is not broken, ``p`` a path; anything else text.
        best: the row to stress.
    """
    kinds = kinds.ljust(len(head))
    classes = {kind: f' class="{kind}"' for kind in "nkp"}

    def cells(tag: str, row: Sequence[Any]) -> str:
        return "".join(
            f"<{tag}{classes.get(kind, '')}>{text(cell)}</{tag}>" for kind, cell in zip(kinds, row, strict=False)
        )

    stress = {best: ' class="best"'}
    body = "".join(f"<tr{stress.get(k, '')}>{cells('td', row)}</tr>\n" for k, row in enumerate(rows))
    top = f"<thead><tr>{cells('th', head)}</tr></thead>"
    end = f'<p class="cap">{text(caption)}</p>\n' if caption else ""
    return Html(f'<div class="wide"><table>{top}<tbody>\n{body}</tbody></table></div>\n{end}')


def section(name: str, title: str, *parts: str) -> Html:
    """Return a section with an anchor."""
    return Html(f'<section id="{name}">\n<h2>{text(title)}</h2>\n{"".join(parts)}</section>\n')


def paragraph(*parts: Any) -> Html:
    """Return a paragraph."""
    return Html(f"<p>{''.join(text(part) for part in parts)}</p>\n")


def heading(title: str) -> Html:
    """Return a small heading."""
    return Html(f"<h3>{text(title)}</h3>\n")


def notes(sentences: Sequence[str]) -> Html:
    """Return a box with sentences; nothing without any."""
    if not sentences:
        return Html("")
    return Html(f'<div class="note"><ul>{"".join(f"<li>{text(s)}</li>" for s in sentences)}</ul></div>\n')


def folded(title: str, *parts: str) -> Html:
    """Return a section that opens at a click."""
    return Html(f"<details><summary>{text(title)}</summary>\n{''.join(parts)}</details>\n")


def picture(figure: Figure, alt: str, caption: str = "") -> Html:
    """Return a figure as SVG inside the page."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    data = base64.b64encode(file.getvalue()).decode()
    end = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    width = round(figure.get_figwidth() * 96)
    return Html(
        f'<figure><img width="{width}" src="data:image/svg+xml;base64,{data}" alt="{html.escape(alt)}">{end}</figure>\n'
    )


def page(title: str, sub: Sequence[Any], sections: Sequence[tuple[str, str]], body: str) -> str:
    """Return the whole page.

    Args:
        sub: lines below the title.
        sections: anchors and their names, for the list at the top.
    """
    links = "".join(f'<a href="#{name}">{text(shown)}</a>' for name, shown in sections)
    lines = "".join(f'<p class="sub">{text(line)}</p>\n' for line in sub)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # nothing is to be fetched, whatever a name in a run's files says
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        f"<title>{text(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n<h1>{text(title)}</h1>\n"
        f"{lines}<nav>{links}</nav>\n{body}</body>\n</html>\n"
    )
