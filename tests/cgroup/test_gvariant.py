"""Values of properties in GVariant's text format."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyocirun.cgroup.gvariant import parse


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("true", ("b", True)),
        ("boolean false", ("b", False)),
        ("1", ("i", 1)),
        ("-1", ("i", -1)),
        ("+7", ("i", 7)),
        ("0x1f", ("i", 31)),
        ("010", ("i", 8)),
        ("uint64 18446744073709551615", ("t", (1 << 64) - 1)),
        ("@t 5", ("t", 5)),
        ("byte 255", ("y", 255)),
        ("1.5", ("d", 1.5)),
        ("double 2", ("d", 2.0)),
        ("1e3", ("d", 1000.0)),
        ("'text'", ("s", "text")),
        ('"it\'s"', ("s", "it's")),
        (r"'a\'b\n\u00e9\U0001f600'", ("s", "a'b\né😀")),
        ("objectpath '/a'", ("o", "/a")),
        ("['a', 'b']", ("as", ["a", "b"])),
        ("['a', 'b',]", ("as", ["a", "b"])),
        ("@as []", ("as", [])),
        ("@at [1, 2]", ("at", [1, 2])),
        ("[uint64 1, 2]", ("at", [1, 2])),
        ("[byte 1, 2]", ("ay", b"\1\2")),
        ("b'ab'", ("ay", b"ab\0")),
        ("('a', 1)", ("(si)", ("a", 1))),
        ("[('/dev/null', 'rw'), ('char-pts', 'r')]", ("a(ss)", [("/dev/null", "rw"), ("char-pts", "r")])),
        ("@(st) ('a', 1)", ("(st)", ("a", 1))),
        ("  [ 1 , 2 ]  ", ("ai", [1, 2])),
    ],
)
def test_a_value_has_the_type_that_its_text_says(text: str, parsed: tuple[str, object]) -> None:
    assert parse(text) == parsed


@pytest.mark.parametrize(
    "text",
    ["", " ", "word", "1 2", "[1, 'a']", "[]", "[1", "(1", "()", "'a", "'\0'", "@", "@q 65536", "@zz 1", "uint64 -1"]
    + ["2147483648", "byte 1.5", "string 1", "boolean 1", "@as 'a'", "@(s) ('a', 'b')", "{}", "<1>", "inf", "nan"]
    + ["1_0", "--1", r"'\u12'", r"'\ud800'", "@s 1", "[" * 40, "@" + "a" * 40 + "s []", "uint64 uint64"],
)
def test_anything_else_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


@given(st.text())
def test_any_text_is_a_value_or_a_value_error(text: str) -> None:
    try:
        signature, _ = parse(text)
    except ValueError:
        return

    assert signature


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_a_quoted_string_comes_back(text: str) -> None:
    quoted = "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    assert parse(quoted) == ("s", text)
