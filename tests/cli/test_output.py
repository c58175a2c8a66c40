from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyocirun.cli.list import table
from pyocirun.cli.output import print_text, to_json
from pyocirun.cli.pidfile import write_pid_file
from pyocirun.errors import Error

HEADER = ("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def test_empty_table_is_the_header_alone() -> None:
    assert table([HEADER]) == "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"


def test_table_columns_grow_with_their_longest_cell() -> None:
    # The layout is the one that runc 1.1.5 printed for a path of this length.
    row = ("cli-x", "5931", "created", "/srv/demo1", "2026-11-22T00:25:42.475676122Z", "root")

    text = table([HEADER, row])

    assert text.splitlines() == [
        "ID          PID         STATUS      BUNDLE       CREATED                          OWNER",
        "cli-x       5931        created     /srv/demo1   2026-11-22T00:25:42.475676122Z   root",
    ]


def test_state_is_laid_out_as_go_does_it() -> None:
    state = {"id": "c1", "pid": 0, "annotations": {"a<b>&": 'é "x"\u2028'}, "list": [1, True, None], "none": {}}

    text = to_json(state, indent="  ")

    assert text == (
        '{\n  "id": "c1",\n  "pid": 0,\n  "annotations": {\n    "a\\u003cb\\u003e\\u0026": "é \\"x\\"\\u2028"\n  },\n'
        '  "list": [\n    1,\n    true,\n    null\n  ],\n  "none": {}\n}'
    )


def test_json_without_indent_has_no_blanks() -> None:
    assert to_json([{"a": 1, "b": []}, "c"]) == '[{"a":1,"b":[]},"c"]'
    assert to_json(None) == "null"


@given(JSON_VALUES, st.sampled_from(["", "  ", "\t"]))
def test_any_json_is_read_back(value: object, indent: str) -> None:
    assert json.loads(to_json(value, indent)) == value


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(TypeError):
        to_json({"a": 1.5})


def test_lone_surrogates_are_printed_as_escapes(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    print_text('"\udc80"')

    assert capfdbinary.readouterr().out == b'"\\udc80"'


def test_pid_file_holds_the_number_alone(tmp_path: Path) -> None:
    write_pid_file(str(tmp_path / "pid"), 4711)

    assert (tmp_path / "pid").read_bytes() == b"4711"
    assert [path.name for path in tmp_path.iterdir()] == ["pid"]


def test_pid_file_replaces_an_older_one(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text("1234567")

    write_pid_file(str(tmp_path / "pid"), 4711)

    assert (tmp_path / "pid").read_text() == "4711"


def test_pid_file_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    write_pid_file("pid", 4711)

    assert (tmp_path / "pid").read_text() == "4711"


def test_pid_file_does_not_follow_what_was_planted_beside_it(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / ".pid").symlink_to("victim")

    with pytest.raises(Error) as caught:
        write_pid_file(str(tmp_path / "pid"), 4711)

    assert ".pid" in caught.value.hint
    assert (tmp_path / "victim").read_text() == "precious"


def test_pid_file_that_cannot_be_renamed_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "pid").mkdir()

    with pytest.raises(Error):
        write_pid_file(str(tmp_path / "pid"), 4711)

    assert [path.name for path in tmp_path.iterdir()] == ["pid"]


def test_pid_file_in_no_directory_names_the_path(tmp_path: Path) -> None:
    path = str(tmp_path / "none" / "pid")

    with pytest.raises(Error) as caught:
        write_pid_file(path, 4711)

    assert (caught.value.path, caught.value.errno) == (path, 2)
