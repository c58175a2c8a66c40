"""criu's messages: what is encoded is decoded again, and what is damaged is an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyocirun.container import criu_rpc as rpc

VALUES = st.integers(0, 2**64 - 1) | st.binary(max_size=300)


def test_the_bytes_of_a_request() -> None:
    request: list[rpc.Field] = [(rpc.REQUEST_TYPE, rpc.RESTORE), (2, [(1, 300), (13, "/r")]), (3, None)]

    assert rpc.encode(request) == bytes.fromhex("0802120708ac026a022f72")


def test_a_negative_number_takes_64_bits() -> None:
    data = rpc.encode([(1, -1)])

    assert data == b"\x08" + b"\xff" * 9 + b"\x01"
    assert rpc.number(rpc.decode(data), 1) == -1


@given(st.lists(st.tuples(st.integers(1, 500), VALUES)))
def test_what_is_encoded_is_decoded_again(fields: list[tuple[int, int | bytes]]) -> None:
    expected: dict[int, list[int | bytes]] = {}
    for number, value in fields:
        expected.setdefault(number, []).append(value)

    assert rpc.decode(rpc.encode(list(fields))) == expected


@given(st.binary())
def test_any_bytes_are_a_message_or_a_value_error(data: bytes) -> None:
    try:
        found = rpc.decode(data)
    except ValueError:
        return

    assert all(values for values in found.values())


def test_fixed_numbers_are_passed_over() -> None:
    data = b"\x09" + bytes(8) + b"\x15" + bytes(4) + b"\x18\x07"

    assert rpc.number(rpc.decode(data), 3) == 7


@pytest.mark.parametrize("data", [b"\x0a\x05abc", b"\x08", b"\x08" + b"\xff" * 11, b"\x0b"])
def test_what_is_cut_short_or_unknown_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="criu"):
        rpc.decode(data)


def test_of_options_false_and_none_are_left_out_and_a_tuple_is_one_field_each() -> None:
    fields = rpc.options({"pid": 3, "shell_job": False, "root": None, "external": ("a", "b"), "leave_running": True})

    assert fields == [(2, 3), (37, "a"), (37, "b"), (3, True)]
