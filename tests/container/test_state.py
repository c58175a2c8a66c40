"""state.json and the directory it lies in: round trip, distrust, atomicity, lock."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyocirun.container import state as states
from pyocirun.container.state import State
from pyocirun.errors import ContainerNotExist, Error, InvalidID, StateError
from pyocirun.record import replace

STATE = State(
    1,
    "box",
    "1.2.0",
    "/bundle",
    "/bundle/rootfs",
    "2026-01-02T03:04:05.000000006Z",
    4242,
    777,
    True,
    "systemd",
    {"memory": "/sys/fs/cgroup/memory/box", "": "/sys/fs/cgroup/unified/box"},
    ("pid", "mount"),
    {"a/b": 'c"\n\u00e9'},
    30,
    33,
    ((31, "hook", "/bin/h", 5), (32, "exec", "true", 0)),
    True,
    True,
    False,
)

RUNC_SHAPED: dict[str, Any] = {
    "id": "box",
    "init_process_pid": 4242,
    "init_process_start": 777,
    "created": "2026-01-02T03:04:05.000000006Z",
    "config": {"rootfs": "/bundle/rootfs", "labels": ["bundle=/bundle"], "version": "1.0.2-dev"},
    "rootless": False,
    "cgroup_paths": {"memory": "/sys/fs/cgroup/memory/box"},
    "namespace_paths": {"NEWPID": "/proc/4242/ns/pid"},
    "external_descriptors": ["/dev/null", "/dev/null", "/dev/null"],
    "intel_rdt_path": "",
}


def document(**changes: Any) -> bytes:
    fields = {field: getattr(STATE, field) for field in State._fields}
    return json.dumps({**fields, **changes}).encode()


def saved(root: Path, state: State = STATE) -> Path:
    directory = states.make_directory(str(root), state.id)
    assert directory is not None
    with directory:
        directory.save(state)
    return root / state.id / "state.json"


def test_state_survives_saving(tmp_path: Path) -> None:
    saved(tmp_path)

    assert states.load(str(tmp_path), "box") == STATE


def test_state_is_replaced(tmp_path: Path) -> None:
    path = saved(tmp_path)
    directory = states.open_directory(str(tmp_path), "box")
    assert directory is not None

    with directory:
        directory.save(replace(STATE, init_process_pid=1))

    assert states.load(str(tmp_path), "box").init_process_pid == 1
    assert os.listdir(path.parent) == ["state.json"]


def test_state_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = saved(tmp_path)

    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_state_is_json_for_anybody(tmp_path: Path) -> None:
    path = saved(tmp_path)

    assert json.loads(path.read_bytes())["init_process_pid"] == 4242


def test_bytes_that_are_no_utf8_survive() -> None:
    shown = states.to_json({"path": "/a\udcff", "text": "é\n"})

    assert json.loads(shown) == {"path": "/a\udcff", "text": "é\n"}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=10,
    )
)
def test_json_is_json(value: Any) -> None:
    assert json.loads(states.to_json(value)) == value


WRONG: list[object] = [None, True, 1, 1.5, "x", [], [1], {}, {"a": 1}]


@pytest.mark.parametrize("field", State._fields)
def test_a_field_of_another_type_is_damage(field: str) -> None:
    """list warns of such a container and shows the others; no command trips over it."""
    kind = type(getattr(STATE, field))

    for value in WRONG:
        if type(value) is kind or (kind is tuple and isinstance(value, list)):
            continue

        with pytest.raises(StateError, match=r"damaged|has version"):
            states.parse(document(**{field: value}), "box")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("init_process_pid", 2**31),
        ("init_process_start", 2**80),
        ("created", "x\0y"),
        ("rdt_group", "/a\0"),
        ("annotations", {"a": 1}),
        ("cgroup_paths", {"memory": None}),
        ("behind_gate", [1]),
    ],
)
def test_a_value_that_nothing_can_be_done_with_is_damage(field: str, value: object) -> None:
    with pytest.raises(StateError, match="damaged"):
        states.parse(document(**{field: value}), "box")


def test_json_of_anything_else_is_refused() -> None:
    with pytest.raises(TypeError, match="no JSON for set"):
        states.to_json({"a": {1}})


# Damaged and foreign


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "the state of container box is damaged: "),
        (b"{", "the state of container box is damaged: "),
        (b"\xff", "the state of container box is damaged: "),
        (b"null", "the state of container box was written by another runtime"),
        (b"[]", "the state of container box was written by another runtime"),
        (b"{}", "the state of container box was written by another runtime"),
        (json.dumps(RUNC_SHAPED).encode(), "the state of container box was written by another runtime"),
        (b'{"pyocirun_state_version": 1}', "the state of container box is damaged: "),
        (document(pyocirun_state_version=2), "has version 2; this pyocirun knows version 1"),
        (document(pyocirun_state_version="1"), "has version 1; this pyocirun knows version 1"),
        (document(id=5), "the state of container box is damaged: id is no str"),
        (document(bundle=None), "the state of container box is damaged: bundle is no str"),
        (document(init_process_pid="1"), "the state of container box is damaged: init_process_pid is no int"),
        (document(cgroup_paths=[]), "the state of container box is damaged: cgroup_paths is no dict"),
        (document(namespace_types=5), "the state of container box is damaged: "),
        (document(behind_gate=[5]), "the state of container box is damaged: "),
    ],
)
def test_state_that_cannot_be_used(data: bytes, text: str) -> None:
    with pytest.raises(StateError) as caught:
        states.parse(data, "box", "/r/box/state.json")

    assert text in str(caught.value)
    assert (caught.value.id, caught.value.path) == ("box", "/r/box/state.json")


@pytest.mark.parametrize("field", State._fields)
@pytest.mark.parametrize("value", [5, "x", None, [], {}, [5], {"a": 5}, [[1]], -1])
def test_any_damage_is_an_error_or_harmless(field: str, value: Any) -> None:
    try:
        states.parse(document(**{field: value}), "box")
    except StateError:
        pass


def test_state_cut_anywhere_is_damaged() -> None:
    data = document()

    for length in range(len(data)):
        with pytest.raises(StateError):
            states.parse(data[:length], "box")


def test_foreign_state_hints_at_its_runtime() -> None:
    with pytest.raises(StateError) as caught:
        states.parse(json.dumps(RUNC_SHAPED).encode(), "box")

    assert caught.value.hint == "use the runtime that created it"


def test_unknown_fields_are_passed_over() -> None:
    assert states.parse(document(later="x"), "box") == STATE


@pytest.mark.parametrize("missing", ["directory", "file"])
def test_container_that_does_not_exist(tmp_path: Path, missing: str) -> None:
    if missing == "file":
        (tmp_path / "box").mkdir()

    with pytest.raises(ContainerNotExist, match="container does not exist"):
        states.load(str(tmp_path), "box")


def test_directory_that_is_a_link_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "alias").symlink_to("box")

    with pytest.raises(StateError, match="cannot open the state directory of container alias"):
        states.load(str(tmp_path), "alias")
    with pytest.raises(StateError, match="cannot open the state directory of container alias"):
        states.open_directory(str(tmp_path), "alias")


def test_state_that_is_a_link_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StateError, match="cannot open the state of container box"):
        states.load(str(tmp_path), "box")


def test_state_that_is_a_fifo_does_not_hang(tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()
    os.mkfifo(tmp_path / "box" / "state.json")

    with pytest.raises(StateError, match="damaged"):
        states.load(str(tmp_path), "box")


def test_state_that_is_a_directory_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "box" / "state.json").mkdir(parents=True)

    with pytest.raises(StateError):
        states.load(str(tmp_path), "box")


def test_state_of_another_container_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, replace(STATE, id="other"))
    (tmp_path / "other").rename(tmp_path / "box")

    with pytest.raises(StateError):
        states.load(str(tmp_path), "box")


# Ids and the root directory


@pytest.mark.parametrize("id", ["a", "A-b_c+d.e", "0", "...", "-", "x" * 200, ".x"])
def test_id_that_is_one(id: str) -> None:
    assert states.check_id(id) == id


@pytest.mark.parametrize(
    "id", ["", ".", "..", "a/b", "/", "a b", "a\n", "é", "a\0", "@seccomp", "x" * 1025, "a:b", "٣"]
)
def test_id_that_is_none(id: str) -> None:
    with pytest.raises(InvalidID, match="invalid container ID format"):
        states.check_id(id)


def test_id_that_no_directory_can_have_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(Error):
        states.make_directory(str(tmp_path), states.check_id("x" * 1000))


def test_root_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    states.check_root(str(tmp_path / "a" / "root"), make=True)

    assert (tmp_path / "a" / "root").stat().st_mode & 0o777 == 0o700


def test_missing_root_is_no_error(tmp_path: Path) -> None:
    states.check_root(str(tmp_path / "root"))

    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("mode", [0o777, 0o720, 0o702, 0o1777])
def test_root_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)

    with pytest.raises(StateError, match="is not safe") as caught:
        states.check_root(str(tmp_path))

    assert "chmod 700" in caught.value.hint


@pytest.mark.parametrize("mode", [0o700, 0o711, 0o755])
def test_root_that_others_can_only_read_is_fine(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)

    states.check_root(str(tmp_path))


def test_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("")

    with pytest.raises(StateError, match="is not safe"):
        states.check_root(str(tmp_path / "root"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)

    with pytest.raises(StateError, match="is not safe"):
        states.check_root(str(tmp_path))


# The directory and its lock


def test_directory_is_made_once(tmp_path: Path) -> None:
    first = states.make_directory(str(tmp_path), "box")
    assert first is not None
    first.close()

    assert states.make_directory(str(tmp_path), "box") is None


def test_directory_is_removed_with_its_files(tmp_path: Path) -> None:
    saved(tmp_path)
    directory = states.open_directory(str(tmp_path), "box")
    assert directory is not None

    with directory:
        directory.remove()

    assert os.listdir(tmp_path) == []


def test_lock_is_held_by_one(tmp_path: Path) -> None:
    with _made(tmp_path):
        assert states.open_directory(str(tmp_path), "box", wait=False) is None

    again = states.open_directory(str(tmp_path), "box", wait=False)
    assert again is not None
    again.close()


def _made(root: Path) -> states.Directory:
    directory = states.make_directory(str(root), "box")
    assert directory is not None
    return directory


def test_descriptors_are_given_back(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))

    with _made(tmp_path):
        states.open_directory(str(tmp_path), "box", wait=False)
    for _ in range(3):
        with pytest.raises(ContainerNotExist):
            states.load(str(tmp_path), "box")

    assert len(os.listdir("/proc/self/fd")) == before


WAIT = """
import sys
from pyocirun.container import state
from pyocirun.errors import ContainerNotExist
print("ready", flush=True)
try:
    with state.open_directory(sys.argv[1], "box"):
        print("locked", flush=True)
except ContainerNotExist:
    print("gone", flush=True)
"""

SAVE = """
import sys
from pyocirun.container import state
from pyocirun.record import replace
first = state.load(sys.argv[1], "box")
with state.open_directory(sys.argv[1], "box") as directory:
    print("ready", flush=True)
    for number in range(1, 1 << 30):
        directory.save(replace(first, init_process_pid=number, annotations={"a": str(number) * 2000}))
"""


def _child(program: str, root: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-I", "-c", program, str(root)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/")
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def test_another_process_waits_for_the_lock(tmp_path: Path) -> None:
    with _made(tmp_path):
        child = _child(WAIT, tmp_path)
        time.sleep(0.1)
        waits = child.poll() is None

    assert waits
    assert child.communicate(timeout=10)[0] == "locked\n"


def test_who_waited_for_a_container_that_went_away_learns_it(tmp_path: Path) -> None:
    with _made(tmp_path) as directory:
        child = _child(WAIT, tmp_path)
        time.sleep(0.1)
        directory.remove()

    assert child.communicate(timeout=10)[0] == "gone\n"


def test_who_waited_gets_the_new_directory_of_that_name(tmp_path: Path) -> None:
    with _made(tmp_path) as directory:
        child = _child(WAIT, tmp_path)
        time.sleep(0.1)
        directory.remove()
        with _made(tmp_path):
            directory.close()
            time.sleep(0.1)
            waits = child.poll() is None

    assert waits
    assert child.communicate(timeout=10)[0] == "locked\n"


def test_kill_during_save_leaves_a_whole_state(tmp_path: Path) -> None:
    saved(tmp_path)

    for attempt in range(8):
        child = _child(SAVE, tmp_path)
        time.sleep(0.003 * attempt)
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=10)

        state = states.load(str(tmp_path), "box")
        number = state.init_process_pid
        assert state == STATE or state.annotations == {"a": str(number) * 2000}


def test_reader_sees_whole_states_while_another_process_writes(tmp_path: Path) -> None:
    saved(tmp_path)
    child = _child(SAVE, tmp_path)

    seen: set[int] = set()
    reads, end = 0, time.monotonic() + 60
    while reads < 300 or (len(seen) < 2 and time.monotonic() < end):  # a busy machine lets the child write late
        seen.add(states.load(str(tmp_path), "box").init_process_pid)
        reads += 1

    child.kill()
    child.communicate(timeout=10)
    assert len(seen) > 1


def test_leftover_of_a_killed_save_is_removed_with_the_directory(tmp_path: Path) -> None:
    path = saved(tmp_path)
    path.with_name(".state.json.999").write_text("{")
    directory = states.open_directory(str(tmp_path), "box")
    assert directory is not None

    with directory:
        directory.remove()

    assert os.listdir(tmp_path) == []


def test_save_goes_to_the_directory_that_was_opened(tmp_path: Path) -> None:
    with _made(tmp_path) as directory:
        (tmp_path / "box").rename(tmp_path / "moved")
        (tmp_path / "box").mkdir()
        directory.save(STATE)

    assert os.listdir(tmp_path / "moved") == ["state.json"]
    assert os.listdir(tmp_path / "box") == []


def test_planted_link_is_not_followed_by_save(tmp_path: Path) -> None:
    with _made(tmp_path) as directory:
        (tmp_path / "box" / f".state.json.{os.getpid()}").symlink_to(tmp_path / "victim")
        with pytest.raises(OSError):
            directory.save(STATE)

    assert not (tmp_path / "victim").exists()
