"""Words of the command line: what is typed is what a run gets, and what is written can be typed."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oamarl.utils.errors import UserError
from oamarl.utils.schema import yamls
from oamarl.utils.schema.command_line import Request, parse
from oamarl.utils.schema.keys import as_typed, check_value


def read(*words: str) -> dict[str, Any]:
    return parse(["with", *words])[0].overrides


def sentence(*words: str) -> str:
    with pytest.raises(UserError) as caught:
        read(*words)
    text = str(caught.value)
    assert len(text) < 1000
    return text


@pytest.mark.parametrize(
    "text",
    [
        "./exp #2", "run #3", "#3", " #", "&a", "*a", "--- a", "...", "!x", "!!int x", "%TAG", "@a", "`a`", "a\nb",
        "a: b", "a:", ": a", "? a", "- a", "| a", "> a", "a\tb", " a ", "  ", "'", '"', "'a' and 'b'", '"a" "b"', "[",
        "]", "[a", "{a", "(a", "[a] b]", "[v1] and [v2]", "[a #b]", "[./exp #2, ./b]", "[&a [1], *a]", "[!!int x]",
        "{a: !x 1}", "[a\nb]", "[1, # one\n2]", "1 2", "1,5", "0x10", "1e", "e3", "½", "٣", "C:\\x", "\\n", "$HOME",
        "{", "a, b",
        "https://x.org/a?b=c#d", "true false", "no", "12:30", "2020-01-01", "\u2028", "\x1b[0m", "=", "a=b=c", "[]]",
        "<<",
    ],
)  # fmt: skip
def test_all_but_scalars_and_brackets_is_text_as_it_was_typed(text: str) -> None:
    assert read(f"k={text}") == {"k": text}
    assert yamls.scalar(yamls.inline(text)) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'007'", "007"), ("'it''s'", "it's"), ("''", ""), ('"a\\nb"', "a\nb"), ("'a\nb'", "a\nb"), ('"a\nb"', "a\nb"),
        ("'null'", "null"), ("'[1]'", "[1]"), ("'#3'", "#3"), (" 3 ", 3), ("[1, '#2']", [1, "#2"]), ("[]", []),
        ("{}", {}), ("()", []), ("((0, 1), (2,))", [[0, 1], [2]]), ("[(0, 1), (2, 3)]", [[0, 1], [2, 3]]),
        ("[a (b), c]", ["a (b)", "c"]),
        ("('(', 2)", ["(", 2]), ("[1,\n 2]", [1, 2]), ("[a: 1]", [{"a": 1}]),
        ("{a: {b: [1, null]}}", {"a": {"b": [1, None]}}),
    ],
)  # fmt: skip
def test_quotes_and_brackets_are_read(text: str, value: object) -> None:
    found = read(f"k={text}")["k"]
    assert found == value
    assert type(found) is type(value)


leaves = (
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=("Cs",)))
    | st.text(st.sampled_from("0179eE_.+-[]{}(),:#&*!'\" \n\tntrue"))
)  # fmt: skip
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, min_size=1, max_size=3),
    max_leaves=8,
)


@given(values)
def test_what_is_written_for_a_value_is_read_as_this_value(value: Any) -> None:
    assert yamls.scalar(yamls.inline({"k" * 2000: value})) == {"k" * 2000: value}
    for text in (yamls.inline(value), yamls.word("k", value).partition("=")[2]):
        found = yamls.scalar(text)
        assert found == value
        assert repr(found) == repr(value)  # True is not 1, and -0.0 not 0.0
        assert "\n" not in text


names = st.from_regex(r"[a-z]{1,3}(\.[a-z]{1,2})?", fullmatch=True)


@given(st.dictionaries(names, st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"))))
def test_a_command_that_is_stored_and_typed_again_asks_for_the_same(texts: dict[str, str]) -> None:
    words = ["with", *(f"{name}={text}" for name, text in texts.items())]
    try:
        first = parse(words)[0]
    except UserError:
        return
    again = parse(shlex.split(shlex.join(words)))[0]
    assert repr((again, again.typed)) == repr((first, first.typed))


@given(st.dictionaries(st.text("abc", min_size=1), values, max_size=4))
def test_overrides_written_as_words_are_read_back(overrides: dict[str, Any]) -> None:
    written = shlex.join(["with", *(yamls.word(name, value) for name, value in overrides.items())])
    assert repr(parse(shlex.split(written))[0].overrides) == repr(overrides)


# -- text that is written like a number ----------------------------------------------------------


@pytest.mark.parametrize("text", ["007", "1e3", "123_456", "null", "True", "[v2]", "{x}", "{a: 1}", "(try)", " 3 "])
def test_a_key_that_takes_text_takes_what_was_typed(text: str) -> None:
    request = parse(["with", f"label={text}"])[0]
    value = as_typed(request.overrides["label"], str, request.typed["label"])
    assert check_value("label", value, str, {}) == text


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("007", int, 7), ("007", int | str, 7), ("1e3", int, 1000), ("null", str | None, None),
        ("null", float | None, None),
        ("007", str | None, "007"), ("[1, 2]", list[int] | str, [1, 2]), ("[a]", list[int] | str, "[a]"),
        ("true", bool | str, True), ("1", str | float, 1.0),
    ],
)  # fmt: skip
def test_where_a_value_is_taken_what_was_typed_is_not(text: str, hint: Any, value: object) -> None:
    found = check_value("k", as_typed(yamls.scalar(text), hint, text), hint, {})
    assert found == value
    assert type(found) is type(value)


def test_what_was_typed_is_kept_for_values_that_are_no_text() -> None:
    request = parse(["with", "a=007", "b=x", "c.d=[1]", "e='3'"])[0]
    assert request.typed == {"a": "007", "c.d": "[1]"}
    assert request == Request(None, None, {"a": 7, "b": "x", "c": {"d": [1]}, "e": "3"})


# -- given twice ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("lr=0.1", "lr=0.2"), ("'lr' is given twice", "'0.1' and '0.2'")),
        (("lr=1", "lr=true"), ("'lr' is given twice", "'1' and 'true'")),
        (("label=a", "label=b"), ("'label' is given twice", "'a' and 'b'")),
        (("env_args.a=1", "env_args={a: 2}"), ("'env_args.a' is given twice",)),
        (("env_args={a: 2}", "env_args.a=1"), ("'env_args.a' is given twice",)),
        (("env_args={a: {b: 2}}", "env_args.a.b=1"), ("'env_args.a.b' is given twice",)),
        (("env_args={a: 2}", "env_args.a.b=1"), ("contradict",)),
        (("env_args.a.b=1", "env_args={a: 2}"), ("contradict", "env_args.a.b")),
        (("env_args=null", "env_args.a=1"), ("contradict",)),
        (("env_args.a=1", "env_args=null"), ("contradict",)),
        (("env_args={a: 1, a: 2}",), ("'a' is given twice",)),
    ],
)
def test_two_values_of_one_key_are_refused(words: tuple[str, ...], parts: tuple[str, ...]) -> None:
    text = sentence(*words)
    assert all(part in text for part in parts), text


def test_one_word_twice_is_one_and_mappings_add_up() -> None:
    assert read("lr=1e-3", "lr=1e-3", "label=a", "label=a") == {"lr": 1e-3, "label": "a"}
    assert read("env_args.a=1", "env_args={b: 2}", "env_args.c=3") == {"env_args": {"a": 1, "b": 2, "c": 3}}
    assert read("env_args={}", "env_args.a=1") == {"env_args": {"a": 1}}


# -- limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("9" * 5000, "a number of 5,000 digits is not read: at most 300 are"),
        ("-" + "9" * 5000, "a number of 5,000 digits"),
        (f"[{'9' * 5000}]", "a number of 5,000 digits"),
        ("1e999", "a number above 1.8e308"),
        ("[" * 3000 + "]" * 3000, "nested more than 50 deep"),
        ("(" * 3000 + ")" * 3000, "nested more than 50 deep"),
        ("{a: " * 3000 + "}" * 3000, "nested more than 50 deep"),
        ("[" + "1, " * 30_000 + "1]", "more than 12,000 values"),
        ("{" + ", ".join(f"k{i}: 1" for i in range(20_000)) + "}", "more than 2,000 keys"),
    ],
    ids=lambda x: x[:12],
)
def test_words_beyond_what_is_read(text: str, part: str) -> None:
    said = sentence(f"lr={text}")
    assert part in said
    assert said.startswith("lr=")
    assert "in quotes it is text" in said
    assert read(f"lr='{text}'") == {"lr": text}


def test_bytes_that_are_no_text() -> None:
    assert "is not text in UTF-8" in sentence("label=\udcff")


def test_keys_beyond_what_is_read() -> None:
    assert "20,001 words: at most 2,000 are read" in sentence(*(f"k{i}=1" for i in range(20_000)))
    assert "more than 50 dots" in sentence(".".join("a" * 3000) + "=1")
