"""`oamarl install` against a server of our own: broken connections, wrong files, full disks, no network."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import shutil
import stat
import subprocess
import threading
import zipfile
from collections import namedtuple
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from oamarl.main import main
from oamarl.tools.install import command as install
from oamarl.tools.install import downloads
from oamarl.utils.errors import UserError

CONTENT = os.urandom(300_000)


class Server(ThreadingHTTPServer):
    """Serves ``files`` by name; ``break_after`` bytes of each of the next ``breaks`` replies the line goes dead."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.etag, self.ranges, self.breaks, self.break_after, self.failing = '"one"', True, 0, 0, 0
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        s, name = self.server, self.path.rpartition("/")[2]
        s.asked.append((name, self.headers.get("Range")))
        if s.failing:
            s.failing -= 1
            self.send_error(503)
            return
        if name not in s.files:
            self.send_error(404)
            return
        data, first = s.files[name], 0
        if s.ranges and self.headers.get("If-Range") == s.etag and (given := self.headers.get("Range")):
            first = int(given.removeprefix("bytes=").rstrip("-"))
        if first >= len(data) and first:
            self.send_error(416)
            return
        self.send_response(206 if first else 200)
        self.send_header("ETag", s.etag)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - first))
        self.end_headers()
        if s.breaks:
            s.breaks -= 1
            data = data[: first + s.break_after]
        self.wfile.write(data[first:])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(downloads, "_PAUSE", 0.0)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as made:
        made.files["a.bin"] = CONTENT
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def fetch(server: Server, folder: Path, sha256: str | None = None) -> dict[str, Any]:
    return downloads.download(f"{server.url}/a.bin", folder / "a.bin", sha256)


# -- downloads ---------------------------------------------------------------------------------------------------


def test_what_breaks_off_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    server.breaks, server.break_after = 3, 70_000
    facts = fetch(server, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert facts == {
        "url": f"{server.url}/a.bin", "size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest(),
    }  # fmt: skip
    assert [r for _, r in server.asked] == [None, "bytes=70000-", "bytes=140000-", "bytes=210000-"]
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_later_call_goes_on_too(server: Server, tmp_path: Path) -> None:
    server.breaks, server.break_after = 1, 70_000
    real = downloads.urllib.request.urlopen
    with pytest.MonkeyPatch.context() as patch:
        calls: list[Any] = []

        def once(*args: Any, **more: Any) -> Any:
            calls.append(1)
            if len(calls) > 1:
                raise downloads.urllib.error.URLError(OSError(errno.ENETUNREACH, "Network is unreachable"))
            return real(*args, **more)

        patch.setattr(downloads.urllib.request, "urlopen", once)
        with pytest.raises(UserError, match=r"cannot be fetched .*unreachable.*\(70,000 bytes\) is kept"):
            fetch(server, tmp_path)
    fetch(server, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.asked[-1] == ("a.bin", "bytes=70000-")


@pytest.mark.parametrize("how", ["another file", "no ranges"])
def test_the_rest_of_another_file_is_never_taken(how: str, server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(b"x" * 1000)
    facts = {"url": f"{server.url}/a.bin", "validator": '"old"' if how == "another file" else '"one"', "size": 10}
    (tmp_path / "a.bin.part.json").write_text(json.dumps(facts))
    server.ranges = how == "another file"
    fetch(server, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_part_that_is_whole(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    facts = {"url": f"{server.url}/a.bin", "validator": '"one"', "size": len(CONTENT)}
    (tmp_path / "a.bin.part.json").write_text(json.dumps(facts))
    fetch(server, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not the file that was expected: its sha256 is"):
        fetch(server, tmp_path, "0" * 64)
    assert os.listdir(tmp_path) == []
    fetch(server, tmp_path, hashlib.sha256(CONTENT).hexdigest().upper())


def test_servers_that_fail(server: Server, tmp_path: Path) -> None:
    server.failing = 2
    fetch(server, tmp_path)
    with pytest.raises(UserError, match=r"the server answers 404 Not Found\."):
        downloads.download(f"{server.url}/b.bin", tmp_path / "b.bin")
    server.failing = 100
    with pytest.raises(UserError, match="the server answers 503"):
        fetch(server, tmp_path)
    assert len(server.asked) == 3 + 1 + downloads._TRIES


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "_PAUSE", 0.0)
    with pytest.raises(UserError, match="its host is not found: is there a network"):
        downloads.download("http://no-such-host.invalid/a.zip", tmp_path / "a.zip")


@pytest.mark.parametrize("url", ["htp://x/a.zip", "a.zip", "http:///a.zip", "http://x/a b", ""])
def test_what_is_no_address(url: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^The address "):
        downloads.download(url, tmp_path / "a.zip")


def test_nothing_is_kept_where_nothing_came(server: Server, tmp_path: Path) -> None:
    server.failing = 100
    with pytest.raises(UserError, match=r"cannot be fetched \(the server answers 503 [A-Za-z ]+\)\.$"):
        fetch(server, tmp_path)


def test_no_space(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: usage(10**6, 9 * 10**5, 10**5))
    with pytest.raises(UserError, match=r"does not fit: .* has 0\.00 GB free"):
        fetch(server, tmp_path)


def test_a_disk_that_fills_up(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(downloads, "_pieces", full)
    with pytest.raises(UserError, match=r"Cannot write into .*: No space left on device"):
        fetch(server, tmp_path)
    assert len(server.asked) == 1


# -- archives ----------------------------------------------------------------------------------------------------


def zipped(files: dict[str, bytes]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, data in files.items():
            member = zipfile.ZipInfo(name)
            member.external_attr = 0o755 << 16
            archive.writestr(member, data)
    return held.getvalue()


def without_unzip(monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.which
    monkeypatch.setattr(downloads.shutil, "which", lambda name: None if name == "unzip" else real(name))


@pytest.mark.parametrize("program", [True, False])
def test_unpacking(program: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not program:
        without_unzip(monkeypatch)
    elif shutil.which("unzip") is None:
        pytest.skip("unzip is not installed")
    archive = tmp_path / "a.zip"
    archive.write_bytes(zipped({"in/run": b"#!", "in/data": b"1"}))
    downloads.unpack(archive, tmp_path / "out", "secret")
    assert (tmp_path / "out/in/data").read_bytes() == b"1"
    assert os.access(tmp_path / "out/in/run", os.X_OK)
    archive.write_bytes(archive.read_bytes().replace(b"#!", b"##"))
    with pytest.raises(UserError, match=r"cannot be unpacked .*: delete it and try again"):
        downloads.unpack(archive, tmp_path / "out2")


@pytest.mark.parametrize("program", [False, True])
@pytest.mark.parametrize(
    ("kind", "what"), [(stat.S_IFLNK, "a link"), (stat.S_IFIFO, "neither a file nor"), (stat.S_IFCHR, "neither a file")]
)
def test_an_archive_with_links_is_not_unpacked(
    kind: int, what: str, program: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a link to a folder elsewhere, what follows it in the archive would be written there, and moved away."""
    if not program:
        without_unzip(monkeypatch)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine").write_text("mine")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in/data", b"1")
        member = zipfile.ZipInfo("in/Maps")
        member.external_attr = (kind | 0o777) << 16
        archive.writestr(member, str(tmp_path / "elsewhere"))
        archive.writestr("in/Maps/mine", b"theirs")
    with pytest.raises(UserError, match=f"a.zip is not unpacked: its entry 'in/Maps' is {what}"):
        downloads.unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "elsewhere" / "mine").read_text() == "mine"


@pytest.mark.skipif(shutil.which("zip") is None, reason="zip is not installed")
@pytest.mark.parametrize("program", [True, False])
def test_unpacking_what_is_encrypted(program: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not program:
        without_unzip(monkeypatch)
    (tmp_path / "f").write_bytes(CONTENT)
    subprocess.run(["zip", "-q", "-P", install.AGREED, "a.zip", "f"], cwd=tmp_path, check=True)
    downloads.unpack(tmp_path / "a.zip", tmp_path / "out", install.AGREED)
    assert (tmp_path / "out/f").read_bytes() == CONTENT
    with pytest.raises(UserError, match="cannot be unpacked"):
        downloads.unpack(tmp_path / "a.zip", tmp_path / "out", "wrong")


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil"])
def test_an_archive_that_writes_elsewhere(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({name: b"1"}))
    with pytest.raises(UserError, match="would lie outside"):
        downloads.unpack(tmp_path / "a.zip", tmp_path / "out")


# -- the command -------------------------------------------------------------------------------------------------

GAME = {"StarCraftII/Versions/Base75689/SC2_x64": b"#!/bin/sh\n", "StarCraftII/Maps/Melee/a.SC2Map": b"melee"}
PACKAGE = f"smac-{install.TARGETS['sc2'].commit}.zip"
MAPS = {"SMAC_Maps/3m.SC2Map": b"3m", "SMAC_Maps/8m.SC2Map": b"8m", "__MACOSX/SMAC_Maps/._3m.SC2Map": b"no"}


@pytest.fixture
def mirror(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The archives of everything; pip is only listened to."""
    server.files |= {"SC2.4.10.zip": zipped(GAME), "smac-SMAC_Maps.zip": zipped(MAPS), PACKAGE: b"smac"}
    monkeypatch.delenv("SC2PATH", raising=False)
    return server


@pytest.fixture
def pipped(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(install, "pip", lambda *words: calls.append(words))
    return calls


def test_the_whole_game(
    mirror: Server, pipped: list[tuple[str, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    game = tmp_path / "games" / "sc2"
    mirror.breaks, mirror.break_after = 1, 100
    words = ["install", "sc2", "--accept-licence", f"--path={game}", f"--from={mirror.url}"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert os.access(game / "Versions/Base75689/SC2_x64", os.X_OK)
    assert sorted(p.relative_to(game / "Maps").as_posix() for p in (game / "Maps").rglob("*.SC2Map")) == [
        "Melee/a.SC2Map", "SMAC_Maps/3m.SC2Map", "SMAC_Maps/8m.SC2Map",
    ]  # fmt: skip
    assert (game / "Maps/SMAC_Maps/3m.SC2Map").read_bytes() == b"3m"
    assert os.listdir(game / install.FOLDER) == []  # archives are gone
    assert f"sha256 {hashlib.sha256(zipped(GAME)).hexdigest()} (not compared)" in said
    assert f"export SC2PATH={game}" in said
    assert pipped[0][:2] == ("install", "absl-py")
    assert pipped[1][:2] == ("install", "--no-deps")
    assert pipped[1][-1].endswith(f"/{PACKAGE}")
    assert not Path(pipped[1][-1]).exists()
    # again: the game stays as it is, and so does what is named by a checksum that is not the archive's
    asked = len(mirror.asked)
    mirror.files["smac-SMAC_Maps.zip"] = zipped({"SMAC_Maps/3m.SC2Map": b"other"})
    assert main([*words, "--sha256", f"smac-SMAC_Maps.zip={hashlib.sha256(zipped(MAPS)).hexdigest()}"]) == 2
    assert "smac-SMAC_Maps.zip is not the file that was expected" in capsys.readouterr().err
    assert [name for name, _ in mirror.asked[asked:]] == ["smac-SMAC_Maps.zip"]
    assert (game / "Maps/SMAC_Maps/3m.SC2Map").read_bytes() == b"3m"


def damaged(files: dict[str, bytes]) -> bytes:
    """A zip file whose first member has another byte than its checksum says."""
    first = next(iter(files.values()))
    return zipped(files).replace(first, first[:-1] + b"?", 1)


def game_words(server: Server, game: Path) -> list[str]:
    return ["install", "sc2", "--only=game", "--accept-licence", f"--path={game}", f"--from={server.url}"]


@pytest.mark.parametrize("deleted", [True, False])
def test_a_damaged_archive_does_not_stand_in_the_way_of_a_good_one(
    deleted: bool, mirror: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, mirror.files["SC2.4.10.zip"] = mirror.files["SC2.4.10.zip"], damaged(GAME)
    words, archive = game_words(mirror, tmp_path), tmp_path / install.FOLDER / "SC2.4.10.zip"
    assert main(words) == 2
    assert f"{archive} cannot be unpacked" in capsys.readouterr().err
    mirror.files["SC2.4.10.zip"] = good
    if not deleted:  # it came whole: the sentence stands until it is deleted
        assert main(words) == 2
        assert len(mirror.asked) == 1
    archive.unlink()
    assert main(words) == 0


def test_an_archive_of_something_else(mirror: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, mirror.files["SC2.4.10.zip"] = mirror.files["SC2.4.10.zip"], zipped({"other": b"1"})
    words = game_words(mirror, tmp_path)
    assert main(words) == 2
    assert "SC2.4.10.zip has no Versions/Base*/SC2_x64 in it." in capsys.readouterr().err
    mirror.files["SC2.4.10.zip"] = good
    assert main(words) == 0


def test_another_version_of_the_game(mirror: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = game_words(mirror, tmp_path)
    assert main(words) == 0
    for again in (words, [*words, "--game-version=4.10"]):
        assert main(again) == 0
    assert capsys.readouterr().out.count(f"StarCraft II is in {tmp_path}.") == 2
    assert main([*words, "--game-version=4.6.2"]) == 2
    assert capsys.readouterr().err.endswith(
        f"StarCraft II in {tmp_path} is another version than 4.6.2 (Base75689, not Base69232): give it a folder of its "
        "own (--path).\n"
    )
    assert len(mirror.asked) == 1
    # one that was there before, and nobody asks for a version
    (tmp_path / "Versions/Base75689").rename(tmp_path / "Versions/Base80000")
    assert main(words) == 0
    assert main([*words, "--game-version=4.10"]) == 2


@pytest.mark.parametrize("right", [True, False])
def test_checksums_of_packages(
    right: bool, mirror: Server, pipped: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    value = hashlib.sha256(b"smac" if right else b"other").hexdigest()
    words = ["install", "sc2", "--only=package", f"--from={mirror.url}", "--sha256", f"{PACKAGE}={value}"]
    assert main(words) == (0 if right else 2)
    assert len(pipped) == (2 if right else 0)
    assert ("is not the file that was expected" in capsys.readouterr().err) == (not right)


def test_a_checksum_of_the_publishers_package(pipped: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []

    def fetched(url: str, target: Path, sha256: str | None) -> dict[str, Any]:
        asked.append((url, sha256))
        target.write_bytes(b"")
        return {"url": url, "size": 0, "sha256": sha256}

    monkeypatch.setattr(install, "download", fetched)
    assert main(["install", "sc2", "--only=package", "--sha256", f"{PACKAGE}={'0' * 64}"]) == 0
    assert asked == [(install.TARGETS["sc2"].url, "0" * 64)]
    assert pipped[1][-1].endswith(f"/{PACKAGE}")


@pytest.mark.parametrize("stop", ["no space", "Ctrl-C"])
def test_an_archive_that_came_whole_is_not_fetched_again(
    stop: str, mirror: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: Any) -> None:
        raise UserError("no space") if stop == "no space" else KeyboardInterrupt

    words = game_words(mirror, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(install, "unpack", stopped)
        if stop == "no space":
            assert main(words) == 2
        else:
            with pytest.raises(KeyboardInterrupt):
                install.main(words[1:])
    assert main(words) == 0
    assert len(mirror.asked) == 1
    assert "came whole before: it is not fetched again" in capsys.readouterr().out
    assert os.listdir(tmp_path / install.FOLDER) == []


def test_an_archive_that_is_not_the_one_of_the_checksum_is_fetched(mirror: Server, tmp_path: Path) -> None:
    data = mirror.files["SC2.4.10.zip"]
    (tmp_path / install.FOLDER).mkdir()
    (tmp_path / install.FOLDER / "SC2.4.10.zip").write_bytes(b"other")
    sums = f"--sha256=SC2.4.10.zip={hashlib.sha256(data).hexdigest().upper()}"
    assert main([*game_words(mirror, tmp_path), sums]) == 0
    assert len(mirror.asked) == 1


def test_a_disk_that_is_full_is_not_the_archives_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(GAME))
    monkeypatch.setattr(downloads.shutil, "which", lambda name: name)
    full = subprocess.CompletedProcess([], 50, "", "write error (disk full?)")
    monkeypatch.setattr(downloads.subprocess, "run", lambda *_, **__: full)
    with pytest.raises(UserError, match=r"Cannot write into .*: No space left on device\.$"):
        downloads.unpack(tmp_path / "a.zip", tmp_path / "out")


def test_a_folder_of_archives(
    pipped: list[tuple[str, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/SC2.4.6.2.69232.zip").write_bytes(zipped(GAME))
    (tmp_path / "a/smacv2-SMAC_Maps.zip").write_bytes(zipped(MAPS))
    common = ["install", "sc2v2", f"--path={tmp_path / 'g'}", f"--from={tmp_path / 'a'}"]
    assert main([*common, "--only=game", "--accept-licence", "--game-version=4.6.2"]) == 0
    assert main([*common, "--only=maps"]) == 0
    assert (tmp_path / "g/Maps/SMAC_Maps/8m.SC2Map").is_file()
    assert len(list((tmp_path / "a").iterdir())) == 2  # the user's own archives stay
    capsys.readouterr()
    assert main([*common, "--only=package"]) == 2
    assert "has no smacv2-" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "needs a name: use sc2, sc2v2, smaclite or football"),
        (["sc3"], "did you mean 'sc2'?"),
        (["sc2", "--acept-licence"], "did you mean '--accept-licence'?"),
        (["sc2", "--game-version=4.9"], "use 4.10, 4.6.2"),
        (["sc2", "--only=map"], "did you mean 'maps'?"),
        (["smaclite", "--only=maps"], "smaclite is a package alone"),
        (["sc2", "--sha256", "SC2.4.10.zip=12"], "64 hexadecimal digits"),
        (["sc2", "--sha256", f"SC3.zip={'0' * 64}"], "names 'SC3.zip', which this command does not fetch"),
        (["sc2", "--sha256", f"SC2.4.1.zip={'0' * 64}"], "did you mean 'SC2.4.10.zip'?"),
        (["sc2", "--only=maps", "--sha256", f"SC2.4.10.zip={'0' * 64}"], "it fetches smac-SMAC_Maps.zip"),
        (["sc2", "--only=maps", "--game-version=4.10"], "`oamarl install sc2 --only maps` leaves it as it is."),
        (["smaclite", "--game-version=4.10"], "`oamarl install smaclite` leaves it as it is."),
        (["sc2", "--from=htp://x"], "--from htp://x begins with 'htp:': use an address such as https://host/folder"),
        (["sc2", "--from=htp://x"], "(http, https, ftp) or a folder; did you mean 'http'?"),
        (["sc2", "--from="], "--from is given nothing"),
        (["sc2", "--from=file:/x"], "--from file:/x begins with 'file:'"),
        (["sc2", "--from=http:/x"], "--from http:/x names no host"),
        (["sc2", "--from=http://[::1"], "--from http://[::1 is malformed (Invalid IPv6 URL): use"),
        (["sc2", "--from=http://x:port/"], "is malformed (Port could not be cast"),
        (["sc2", "--from=http://x/my files"], "has ' ' in it: write it as %20."),
        (["sc2", "--from=http://x/f\u00fcr"], "has '\u00fc' in it: write it as %C3%BC."),
        (["sc2", "--path=PATH"], "must be accepted: read http"),
        (["sc2", "--path=PATH", "--only=maps"], "There is no StarCraft II in"),
        (["sc2", "--path=PATH", "--accept-licence", "--from=/nowhere"], "--from /nowhere has no SC2.4.10.zip."),
        (["sc2", "--path=/proc/x", "--accept-licence"], "Cannot write into /proc/x"),
    ],
)
def test_mistakes(words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [w.replace("PATH", str(tmp_path)) for w in words]
    assert main(["install", *given]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(("answer", "status"), [("iagreetotheeula", 0), ("yes", 2), ("", 2)])
def test_the_licence_is_asked_for(
    answer: str, status: int, mirror: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{answer}\n"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    words = ["install", "sc2", "--only=game", f"--path={tmp_path / 'g'}", f"--from={mirror.url}"]
    assert main(words) == status
    out, err = capsys.readouterr()
    assert install.LICENCE in out
    assert bool(mirror.asked) == (status == 0)
    assert ("nothing was fetched" in err) == (status == 2)


def test_a_package_alone(pipped: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install", "smaclite"]) == 0
    assert pipped[1] == (
        "install", "--no-deps", f"https://github.com/uoe-agents/smaclite/archive/{install.TARGETS['smaclite'].commit}.zip"
    )  # fmt: skip
    assert "Try: oamarl --config=oappo --env-config=smaclite with env_args.map_name=2s3z" in capsys.readouterr().out


def test_pip_that_fails_is_one_sentence() -> None:
    with pytest.raises(UserError, match="failed with exit status"):
        install.pip("no-such-command")


# -- containers --------------------------------------------------------------------------------------------------


def recipe(name: str, accepted: str) -> str:
    """The shell commands of a container's recipe that install the game."""
    text = (Path(__file__).parents[2] / "containers" / name).read_text()
    if name.endswith(".def"):
        arguments = dict(re.findall(r"^ +(\w+)=(\S+)$", text.partition("%arguments")[2].partition("%files")[0], re.M))
        arguments["ACCEPT_LICENCE"] = accepted or arguments["ACCEPT_LICENCE"]
        post = text.partition("%post")[2].partition("%runscript")[0]
        return re.sub(r"{{ (\w+) }}", lambda found: arguments[found[1]], post)
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", text, re.M))
    arguments["ACCEPT_LICENCE"] = accepted or arguments["ACCEPT_LICENCE"]
    given = "".join(f"{key}={value}\n" for key, value in arguments.items())
    return given + re.findall(r"^RUN ((?:.*\\\n)*.*)", text, re.M)[-1]


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
@pytest.mark.parametrize("accepted", ["", "no", "yes"])
@pytest.mark.parametrize("name", ["sc2.Dockerfile", "sc2.def"])
def test_containers_ask_for_the_licence_and_bring_both_packages_and_their_maps(
    name: str, accepted: str, tmp_path: Path
) -> None:
    for program in ("apt-get", "rm", "pip", "oamarl"):  # the only ones that are found
        (tmp_path / program).write_text(f'#!/bin/sh\necho "{program} $*" >> "{tmp_path}/log"\n')
        (tmp_path / program).chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", "-c", recipe(name, accepted)],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    log = (tmp_path / "log").read_text() if (tmp_path / "log").exists() else ""
    if accepted != "yes":
        assert done.returncode == 1
        assert "Add --build-arg ACCEPT_LICENCE=yes" in done.stdout
        assert not log
        return
    assert (done.returncode, done.stderr) == (0, "")
    assert [line for line in log.splitlines() if line.startswith("oamarl")] == [
        "oamarl install sc2 --accept-licence --game-version 4.10",
        "oamarl install sc2v2 --only maps",
        "oamarl install sc2v2 --only package",
    ]
