"""Files of the configuration: what is refused is said in one sentence, whatever the file holds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oamarl.utils.errors import UserError
from oamarl.utils.schema import dialect, yamls


def sentence(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        yamls.load(path, "x.yaml")
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 1000
    return text


def of_text(tmp_path: Path, text: str) -> str:
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    return sentence(tmp_path / "x.yaml")


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 500))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: 1\nlr: 2\nb: 3\nlr: 4\n", "x.yaml, line 4: 'lr' is given twice, in line 2 and in line 4"),
        ("a: {x: 1,\n  y: 2, x: 3}\n", "'x' is given twice, in line 1 and in line 2"),
        ("a: !!int x\n", "line 1: 'x' has the tag !!int and is not a whole number"),
        ("a: !!int 1.5\n", "'1.5' has the tag !!int"),
        ("a: !!float x\n", "'x' has the tag !!float and is not a number"),
        ("a: !!bool yes\n", "'yes' has the tag !!bool and is not a boolean"),
        ("a: !!null x\n", "'x' has the tag !!null"),
        ("a: !!int [1]\n", "has the tag !!int"),
        ("a: !!timestamp x\n", "the tag !!timestamp is not read"),
        ("a: !!binary x\n", "the tag !!binary is not read"),
        ("a: !!set {x}\n", "the tag !!set is not read"),
        ("a: !!omap [x: 1]\n", "the tag !!omap is not read"),
        ("a: !!python/object/apply:os.getcwd []\n", "the tag !!python/object/apply:os.getcwd is not read"),
        ("a: !mine x\n", "the tag !mine is not read"),
        (f"a: {'9' * 5000}\n", "line 1: a number of 5,000 digits is not read"),
        ("a: 1e999\n", "a number above 1.8e308"),
        ("a: " + "[" * 3000 + "]" * 3000 + "\n", "nested more than 50 deep"),
        ("".join(f"{'  ' * i}a:\n" for i in range(300)), "nested more than 50 deep"),
        ("- " * 3000 + "1\n", "nested more than 50 deep"),
        (BOMB, "more than 12,000 values, with those that aliases repeat"),
        (CHAIN, "nested more than 50 deep"),
        ("".join(f"k{i}: 1\n" for i in range(20_000)), "x.yaml, line 2001: more than 2,000 keys"),
        ("a: [" + "1, " * 30_000 + "]\n", "more than 12,000 values"),
        (f"a: {'x' * 400_000}\n", "has more than 300,000 bytes"),
        ("a: &x [*x]\n", "a list holds itself"),
        ("? [a, b]\n: 1\n", "not YAML"),
        (f"{'k' * 5000}: *{'a' * 5000}\n", "not YAML"),
        ("a: \0\n", "not YAML"),
    ],
    ids=lambda x: x[:24],
)
def test_files_that_are_refused(tmp_path: Path, text: str, part: str) -> None:
    assert part in of_text(tmp_path, text)


def test_a_key_that_is_given_again_with_its_value(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: False\nb: {c: 1, c: 1}\na: false\n")
    assert yamls.load(tmp_path / "x.yaml", "x") == {"a": False, "b": {"c": 1}}
    for text in ("a: 1\na: '1'\n", "a: [1]\na: [1]\n", "a: 1\na: 1\na: 2\n", "a: 1\na: 1.0\n"):
        assert "'a' is given twice" in of_text(tmp_path, text)


def test_tags_that_say_what_is_so_anyway_are_read(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: !!str 007\nb: !!int '7'\nc: !!float 3\nd: &x [1]\ne: *x\n! x: 1\n")
    assert yamls.load(tmp_path / "x.yaml", "x") == {"a": "007", "b": 7, "c": 3.0, "d": [1], "e": [1], "x": 1}
    assert type(yamls.load(tmp_path / "x.yaml", "x")["c"]) is float


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "latin").write_bytes(b"a: \xff\n")
    assert "x.yaml cannot be read: it is a pipe or a device, not a file" in sentence(tmp_path / "pipe")
    assert "it is a pipe or a device" in sentence(Path("/dev/zero"))
    assert "it is a pipe or a device" in sentence(Path("/dev/null"))
    assert "Is a directory" in sentence(tmp_path)
    assert "No such file" in sentence(tmp_path / "none")
    assert "symbolic links" in sentence(tmp_path / "loop")
    assert "null byte" in sentence(Path("a\0b"))
    assert "not text in UTF-8" in sentence(tmp_path / "latin")


def test_limits_leave_room(tmp_path: Path) -> None:
    matrix = "[" + ", ".join("[" + ", ".join(["0.25"] * 100) + "]" for _ in range(100)) + "]"
    (tmp_path / "x.yaml").write_text(f"reuse_matrix: {matrix}\ndigits: {'1' * dialect.MOST_DIGITS}\n")
    found = yamls.load(tmp_path / "x.yaml", "x")
    assert found["reuse_matrix"] == [[0.25] * 100] * 100
    assert found["digits"] == int("1" * dialect.MOST_DIGITS)
