"""Signals by number and by name."""

from __future__ import annotations

import signal

import pytest

from pyocirun.errors import UsageError
from pyocirun.linux.signals import SIGNALS, signal_name, signal_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("9", 9),
        ("0", 0),
        ("64", 64),
        ("KILL", 9),
        ("SIGKILL", 9),
        ("sigterm", 15),
        ("Usr1", 10),
        ("RTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("rtmax-2", 62),
        ("SIGRTMAX", 64),
        ("POLL", 29),
    ],
)
def test_signal_is_found(text: str, number: int) -> None:
    assert signal_number(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SIG",
        "FOO",
        "-9",
        "65",
        "99999999999",
        "9.0",
        " 9",
        "SIGSIGKILL",
        "RTMIN+31",
        "RTMIN-1",
        "RTMAX+1",
        "RTMIN+",
        "²",
    ],
)
def test_unknown_signal_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^unknown signal \""):
        signal_number(text)


def test_table_agrees_with_the_interpreter() -> None:
    known = {member.name: int(member) for member in signal.Signals if member.name.startswith("SIG")}

    assert {name: SIGNALS[name] for name in known if name in SIGNALS} == {
        name: number for name, number in known.items() if not name.startswith("SIGRT")
    }


@pytest.mark.parametrize("number", range(1, 65))
def test_name_leads_back_to_the_number(number: int) -> None:
    assert signal_number(signal_name(number)) == number
