"""What `events` and `ps` make of text."""

from __future__ import annotations

import pytest

from pyocirun.cli.events import duration
from pyocirun.cli.ps import only
from pyocirun.errors import Error, UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5.0),
        ("500ms", 0.5),
        ("1m30s", 90.0),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("1us", 1e-6),
        ("1µs", 1e-6),
        ("-2s", -2.0),
        ("0", 0.0),
        ("+1s", 1.0),
    ],
)
def test_a_duration_is_read_as_go_reads_it(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "5x", "1.2.3s", "five", "-", ".s", "1m30"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="invalid duration"):
        duration(text)


def test_the_lines_of_a_table_with_these_processes() -> None:
    table = "UID        PID  PPID CMD\nroot        12     1 /bin/sh -c 13\nroot        13    12 sleep 12\n"

    assert only(table, {13}) == "UID        PID  PPID CMD\nroot        13    12 sleep 12\n"


def test_a_table_without_process_ids_is_refused() -> None:
    with pytest.raises(Error, match="couldn't find PID field in ps output"):
        only("UID CMD\nroot sh\n", {1})
