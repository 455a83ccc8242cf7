"""The report: its numbers, that it needs nothing but itself, and how it looks in a real browser."""

from __future__ import annotations

import html.parser
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from oamarl.main import main

from conftest import PATIENCE
from many_runs import make_epymarl_run, make_run

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


class Reader(html.parser.HTMLParser):
    """Everything a page refers to, its tables, and whether its elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.scripts = 0
        self.tables: list[list[list[str]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "data", "action", "srcset")]
        self.scripts += tag == "script" or any(name.startswith("on") for name, _ in attrs)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data

    def table(self, *head: str) -> list[list[str]]:
        """The first table whose head begins so."""
        return next(t[1:] for t in self.tables if t[0][: len(head)] == list(head))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """oappo is clearly above ippo, and not clearly above happo; names that would be HTML."""
    folder = tmp_path_factory.mktemp("report")
    for seed in (1, 2, 3, 4):
        make_run(folder, "oappo", seed, lambda t, s=seed: t / 500 + s / 10, reuse=True, lr=0.001)
        make_run(
            folder, "happo", seed, lambda t, s=seed: t / 500 - 0.1 + s / 10, lr=0.002, label="<script>alert(1)</script>"
        )
        make_run(folder, "ippo", seed, lambda t, s=seed: t / 1000 + s / 100, lr=0.001,
                 info={"versions": {"torch": "2.14"}})  # fmt: skip
        make_run(folder, "oappo", seed, float, task="<b>bold & big</b>".replace("/", "_"), reuse=True)
    for seed in (1, 2):
        make_epymarl_run(folder, "mappo", seed)
    return folder


@pytest.fixture(scope="module")
def page(results: Path) -> Path:
    path = results / "report.html"
    assert main(["report", str(results), "--out", str(path), "--title", "Maze & <more>"]) == 0
    return path


def test_it_needs_nothing_but_itself(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = Reader(text)
    assert found.open == []
    assert found.scripts == 0
    assert {link.partition(",")[0] for link in found.links if not link.startswith("#")} == {"data:image/svg+xml;base64"}
    anchors = {link[1:] for link in found.links if link.startswith("#")}
    assert anchors == set(re.findall(r'<section id="(\w+)"', text))
    assert {"results", "curves", "comparison", "reuse", "configurations", "time", "versions", "runs"} == anchors
    assert "default-src 'none'" in text
    assert "<title>Maze &amp; &lt;more&gt;</title>" in text
    assert "<b>bold" not in text
    assert not re.search(r"url\(|@import", text)


def test_results_and_overlaps(page: Path) -> None:
    found = Reader(page.read_text(encoding="utf-8"))
    (rows,) = (t[1:] for t in found.tables if t[0][1:4] == ["runs", "final: mean", "to the highest"] and len(t) == 4)
    marks = {row[0]: row[3] for row in rows}
    assert marks == {"OAPPO": "highest", "HAPPO": "overlaps", "IPPO": "lower"}
    values = {row[0]: row[2] for row in rows}
    assert values["OAPPO"].startswith("2.25 [2.")  # at step 1000: 2 + (0.1 + ... + 0.4) / 4
    assert values["IPPO"].startswith("1.025 [1.0")
    assert rows[0][6:] == ["1,000", "0.02 M", "0:20"]
    pairs = {(a, b): (p, told) for a, b, p, _, told in found.table("first", "second")}
    assert pairs["OAPPO", "IPPO"] == ("1.00", "yes")
    assert pairs["OAPPO", "HAPPO"][1].startswith("no")


def test_configurations_versions_times_and_runs(page: Path) -> None:
    found = Reader(page.read_text(encoding="utf-8"))
    keys = {row[0]: row[1:] for row in found.table("key", "HAPPO")}
    assert keys["lr"] == ["0.002", "0.001", "-", "0.001"]
    assert "gamma" in keys  # mappo does not tell it
    assert "seed" not in keys
    versions = dict(found.table("what", "version"))
    assert versions["torch"] == "2.13 (12 runs), 2.14 (4 runs)"
    times = {(row[0], row[1]): row[2:] for row in found.table("", "task", "runs", "in all")}
    assert times["OAPPO", "Black and Red maze"] == ["4", "1:20", "0:20", "50"]
    assert len(found.table("", "task", "seed", "status")) == 18
    commands = {(row[0], row[2]): row[3] for row in found.table("", "task", "seed", "command")}
    assert commands["HAPPO", "3"] == "oamarl --config=happo with seed=3"


def test_mistakes(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(results), "--out", "x.pdf"]) == 2
    assert "ends in .html" in capsys.readouterr().err
    (results / "empty").mkdir(exist_ok=True)
    assert main(["report", str(results / "empty")]) == 2
    assert "There is no run in" in capsys.readouterr().err


# -- in a browser ------------------------------------------------------------------------------------------------

PROBE = """<script>
addEventListener("load", () => {
  const images = [...document.images];
  const cells = [...document.querySelectorAll("td, th, h1, h2, h3, p")].filter(e => e.offsetParent !== null);
  const probe = {
    images: images.length,
    drawn: images.filter(i => i.complete && i.naturalWidth > 100 && i.naturalHeight > 100).length,
    wide: document.documentElement.scrollWidth > innerWidth,
    outside: cells.filter(e => !e.closest(".wide") && e.getBoundingClientRect().right > innerWidth + 1).length,
    fetched: performance.getEntriesByType("resource").map(e => e.name).filter(n => !n.startsWith("data:")),
    headings: [...document.querySelectorAll("h2")].map(e => e.textContent),
    font: parseFloat(getComputedStyle(document.querySelector("td")).fontSize),
  };
  const out = document.createElement("pre");
  out.id = "probe";
  out.textContent = JSON.stringify(probe);
  document.body.append(out);
});
</script>"""


def browse(profile: Path, *words: str) -> subprocess.CompletedProcess[str]:
    assert BROWSER is not None
    flags = ["--headless", "--disable-gpu", "--no-first-run", "--hide-scrollbars", f"--user-data-dir={profile}",
             "--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]  # fmt: skip
    return subprocess.run(
        [BROWSER, *flags, *words],
        capture_output=True, text=True, timeout=PATIENCE, check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed (Debian: apt-get install chromium)")
def test_in_a_browser(page: Path, tmp_path: Path) -> None:
    from PIL import Image

    shot = tmp_path / "page.png"
    done = browse(
        tmp_path / "profile",
        "--window-size=1200,3000",
        f"--screenshot={shot}",
        "--enable-logging=stderr",
        page.as_uri(),
    )
    assert "Refused to" not in done.stderr  # by the page's own rule that nothing is fetched
    with Image.open(shot) as image:
        colours = image.convert("RGB").getcolors(1 << 24) or []
    found = {colour for _, colour in colours}
    assert len(found) > 200
    assert {(0, 0x72, 0xB2), (0xD5, 0x5E, 0)} <= found  # lines of the curves are really there

    text = page.read_text(encoding="utf-8")
    probed = tmp_path / "probed.html"
    probed.write_text(
        re.sub(r"<meta http-equiv=.*?>", "", text).replace("</body>", f"{PROBE}</body>"), encoding="utf-8"
    )
    for width in (1200, 700):
        told = browse(tmp_path / "profile", f"--window-size={width},900", "--virtual-time-budget=20000", "--dump-dom",
                      probed.as_uri()).stdout  # fmt: skip
        match = re.search(r'<pre id="probe">(.*?)</pre>', told)
        assert match is not None
        probe = json.loads(match[1])
        assert probe["images"] == probe["drawn"] > 5
        assert probe["fetched"] == []
        assert not probe["wide"]
        assert probe["outside"] == 0
        assert probe["headings"][0] == "Results"
        assert probe["font"] >= 13


def test_paths_below_the_current_folder_name_no_home(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs are found by their whole paths; the page has them as they are found from here."""
    monkeypatch.chdir(results.parent)
    assert main(["report", str(results), "--out", str(tmp_path / "page.html")]) == 0
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert f'<td class="p">{results.name}/' in text
    assert f'<td class="p">{results}' not in text
