"""JSON from bytes, and what is refused."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyocirun.errors import SpecError
from pyocirun.spec import reader
from pyocirun.spec.reader import load_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_document_is_what_json_reads(document: Any) -> None:
    data = json.dumps(document, indent=1).encode()

    assert load_json(data, "config.json") == document


@given(st.binary(max_size=40) | st.text(alphabet='{}[]",:0123 e-\\nulltrue', max_size=30).map(str.encode))
def test_any_bytes_are_read_as_json_reads_them_or_refused(data: bytes) -> None:
    try:
        document = load_json(data, "config.json")
    except SpecError:
        return

    assert document == json.loads(data.decode())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "config.json is not valid JSON: line 1, column 1: a JSON value is missing here"),
        (b'{"a": 1,\n "b": }', "config.json is not valid JSON: line 2, column 7: "),
        (b'{"a": 1,\n "b" 2}', "config.json is not valid JSON: line 2, column 6: "),
        (b'{"a": "x', "config.json is not valid JSON: line 1, column 7: "),
        (b'{"a": "\n"}', "config.json is not valid JSON: line 1, column 8: "),
        (b'\n{"a": "\xff"}', "config.json is not valid JSON: line 2, column 8: this is not UTF-8"),
        (b"\xef\xbb\xbf{}", "config.json is not valid JSON: line 1, column 1: "),
        (b"{}\n {}", "config.json is not valid JSON: line 2, column 2: there is something after the end"),
        (b'{"a": NaN}', "config.json is not valid JSON: NaN is not JSON"),
        (b'{"a": -Infinity}', "config.json is not valid JSON: -Infinity is not JSON"),
        (b'{"a": 1e999}', "config.json is not valid JSON: the number 1e999 is too large"),
        (b'{"a": {"b/c": [0, {"d": 1, "e": 2, "d": 3}]}}', '/a/b~1c/1: the key "d" is there twice'),
        (b'{"d": 1, "d": 3}', 'the key "d" is there twice'),
        (b"9" * 5000, "config.json is not valid JSON: "),
    ],
)
def test_what_is_no_json_is_refused_with_its_place(data: bytes, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_json(data, "config.json")

    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_nesting_is_limited(opening: str, closing: str) -> None:
    def nested(levels: int) -> bytes:
        return (opening * levels + "1" + closing * levels).encode()

    assert load_json(nested(reader.MAX_DEPTH), "c")
    for levels in (reader.MAX_DEPTH + 1, 5000, 1_000_000):
        with pytest.raises(SpecError, match="c is nested too deeply"):
            load_json(nested(levels), "c")


def test_many_brackets_side_by_side_are_no_nesting() -> None:
    assert len(load_json(b"[" + b"[[]]," * 1000 + b"[]]", "c")) == 1001


def test_size_is_limited() -> None:
    data = b" " * reader.MAX_SIZE + b"1"

    with pytest.raises(SpecError, match="c is too large: 16777217 bytes, at most 16777216 are read"):
        load_json(data, "c")


def test_the_json_package_serves_where_the_scanner_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "_json", None)

    assert load_json(b' {"a": [1, 2.5, null]} ', "c") == {"a": [1, 2.5, None]}
    for data in (b'{"a": 1, "a": 2}', b"NaN", b"1e999", b"", b"{", b"[" * 5000, b"{} {}"):
        with pytest.raises(SpecError):
            load_json(data, "c")


@pytest.mark.parametrize(
    ("key", "pointer"),
    [("a", "/x/a"), ("a/b", "/x/a~1b"), ("m~n", "/x/m~0n"), ("~/", "/x/~0~1"), ("", "/x/"), (3, "/x/3")],
)
def test_pointer_is_escaped(key: str | int, pointer: str) -> None:
    assert reader.child("/x", key) == pointer


def test_message_stays_in_one_line() -> None:
    error = reader.fault("/annotations/a\nb", "must not be \x1b[2J\ud800é")

    assert str(error) == "/annotations/a\\nb: must not be \\x1b[2J\\ud800é"
    assert error.pointer == "/annotations/a\nb"


@pytest.mark.parametrize("value", ["a\0b", "\ud800"])
def test_string_that_the_kernel_cannot_take_is_refused(value: str) -> None:
    parent = {"one": value, "many": ["x", value], "map": {"k": value}, "keys": {value: "v"}}

    for key, read, pointer in (
        ("one", reader.string, "/at/one"),
        ("many", reader.strings, "/at/many/1"),
        ("map", reader.string_map, "/at/map/k"),
        ("keys", reader.string_map, "/at/keys"),
    ):
        with pytest.raises(SpecError) as caught:
            read(parent, key, "/at")
        assert caught.value.pointer == pointer
