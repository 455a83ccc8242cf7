"""Text on narrow terminals and on those without Unicode."""

from __future__ import annotations

import io

import pytest

from oamarl.tools.tables import table
from oamarl.utils import plain_text
from oamarl.utils.console import duration
from oamarl.utils.errors import listed, sizes_text
from oamarl.utils.layout import entry, fit, hanging, line_width

HELP = """\
usage: oamarl thing RUN [--first N] [--second a|b]
                    [--third FILE]

A paragraph of some words that continues
over two lines.

  --first N   how many there are (100), and some
              more about it
  --second    a: the first
              b: the second
  --third FILE  where"""


def test_fit_leaves_what_fits() -> None:
    assert fit(HELP, None) == HELP
    assert fit(HELP, 80) == HELP


def test_fit_fills_paragraphs_and_keeps_lists() -> None:
    assert fit(HELP, 40).splitlines() == [
        "usage: oamarl thing RUN [--first N]",
        "       [--second a|b] [--third FILE]",
        "",
        "A paragraph of some words that continues",
        "over two lines.",
        "",
        "  --first N   how many there are (100),",
        "              and some more about it",
        "  --second    a: the first",
        "              b: the second",
        "  --third FILE  where",
    ]


def test_entries() -> None:
    assert entry("  name", "text", None, 10) == ["  name    text"]
    assert entry("  a_long_name", "text and more text", 40, 10) == ["  a_long_name", "      text and more text"]
    assert entry("  name", "some words that need two lines here", 40, 10) == [
        "  name    some words that need two lines",
        "          here",
    ]
    assert hanging("/a/path/that/is/longer/than/a/line/is", 20) == ["/a/path/that/is/longer/than/a/line/is"]
    assert hanging("", 20, first="x") == ["x"]


@pytest.mark.parametrize(("told", "found"), [("60", 60), ("5", 20), ("", None), ("0", None), ("-3", None), ("x", None)])
def test_line_width(told: str, found: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", told)
    assert line_width(io.StringIO()) == found


ROWS = [("run", "status", "steps"), ("first", "COMPLETED", "1,000"), ("second", "FAILED", "5")]


def test_tables() -> None:
    assert table(ROWS, "  r").splitlines() == [
        "run     status     steps",
        "first   COMPLETED  1,000",
        "second  FAILED         5",
    ]
    assert table(ROWS, "  r", width=24) == table(ROWS, "  r")
    assert table(ROWS, "  r", width=23).splitlines() == [
        "first", "  status: COMPLETED", "  steps: 1,000", "second", "  status: FAILED", "  steps: 5",
    ]  # fmt: skip
    titled = [("what differs", "", ""), ("a_long_key", "0.0001", "0.0002")]
    assert table(titled, width=22, names=["[1]", "[2]"]).splitlines() == [
        "what differs", "a_long_key", "  [1] 0.0001", "  [2] 0.0002",
    ]  # fmt: skip
    assert table([("one", "two three four five six")], heads=False, width=30).splitlines() == [
        "one  two three four five six",
    ]


def test_short_times() -> None:
    assert [duration(s, short=True) for s in (42, 725, 12_000, 187_200, -1)] == ["0:42", "12:05", "3h20m", "2d4h", "?"]


def test_long_lists() -> None:
    assert listed("abc") == "a, b, c"
    assert listed(range(40)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ..., 39 (40 in all)"
    assert sizes_text((4, 4, 6)) == "[4, 4, 6]"
    assert sizes_text([18] * 40) == "[40 x 18]"
    assert sizes_text([4] * 3 + [6] * 37) == "[3 x 4, 37 x 6]"
    assert sizes_text(range(40)).endswith("1 x 39 (40 in all)]")


# -- without Unicode ---------------------------------------------------------------------------------------------


def written(text: str, encoding: str, **environ: str) -> bytes:
    """What a stream of ``encoding`` gets of ``text``."""
    memory = io.BytesIO()
    stream = io.TextIOWrapper(memory, encoding=encoding)
    plain_text.prepare((stream,), environ)
    stream.write(text)
    stream.flush()
    return memory.getvalue()


def test_ascii_streams() -> None:
    text = "1 ± 2 ≥ 3 ━┄ … é \udcc3\udca9"
    assert written(text, "ascii") == b"1 +- 2 >= 3 =- ... ? \xc3\xa9"
    assert written(text, "latin-1") == b"1 \xb1 2 >= 3 =- ... \xe9 \xc3\xa9"
    assert written(text, "ascii", LC_ALL="C", PYTHONIOENCODING="ascii") == b"1 +- 2 >= 3 =- ... ? \xc3\xa9"


def test_utf8_streams() -> None:
    text = "1 ± 2 é"
    assert written(text, "utf-8", LANG="en_GB.UTF-8") == text.encode()
    assert written(text, "utf-8") == text.encode()  # nothing is said about the terminal
    assert written("\udcc3\udca9", "utf-8") == b"\xc3\xa9"
    # the locale is C: what has a replacement is replaced, and a file's name stays what it is
    assert written(text, "utf-8", LC_ALL="C") == b"1 +- 2 \xc3\xa9"
    assert written(text, "utf-8", LC_ALL="", LANG="POSIX") == b"1 +- 2 \xc3\xa9"
    assert written(text, "utf-8", LC_ALL="C.UTF-8", LANG="C") == text.encode()


def test_streams_of_other_kinds_are_left_alone() -> None:
    plain_text.prepare((io.StringIO(),), {"LC_ALL": "C"})
