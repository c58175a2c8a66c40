"""checkpoint and restore, with a criu that works; and what is said where there is none."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from integration.harness import Bundle, Result, Runtime, eventually, helper, only, requires, wait_for_orphan
from integration.modes import ROOT, Managed, modes
from integration.terminal import Receiver

pytestmark = [requires("root", "busybox")]

COUNT = "i=0; while [ ! -e /data/stop ]; do i=$((i+1)); echo $i >/data/n; sleep 0.1; done; exit 7"

CONNECTED = (
    "(while :; do echo tick; sleep 0.1; done) | busybox nc -l -p 7000 & sleep 0.5; "
    "(while :; do sleep 1000; done) | busybox nc 127.0.0.1 7000 | "
    "while read tick; do i=$((i+1)); echo $i >/data/n; done"
)
"""criu may interrupt a sleep, which then ends: so they stand in loops."""


class Box:
    """A container that counts in a file outside, until there is a file `stop`; it then exits with status 7."""

    def __init__(self, runtime: Runtime, bundle: Bundle) -> None:
        self.runtime, self.bundle = runtime, bundle
        self.data = bundle.path / "data"
        self.data.mkdir()
        self.images = bundle.path / "images"
        bundle.bind(self.data, "/data")
        bundle.shell(COUNT)
        self.id = runtime.new_id()

    def run(self) -> None:
        # criu cannot dump files of the host among the descriptors, such as those that the output of commands goes to.
        self.bundle.process["args"][2] = f"exec </dev/null >/dev/null 2>&1; {self.bundle.process['args'][2]}"
        self.runtime.run(self.bundle, "--detach", id=self.id).ok()
        eventually(lambda: self.count > 2, "it counts")

    @property
    def count(self) -> int:
        file = self.data / "n"
        return int((file.read_text() if file.exists() else "") or 0)

    def checkpoint(self, *options: str, **kwargs: Any) -> Result:
        return self.runtime("checkpoint", "--image-path", str(self.images), *options, self.id, **kwargs)

    def restore(self, *options: str, **kwargs: Any) -> Result:
        path = str(self.bundle.path)
        self.bundle.save()
        return self.runtime("restore", "--bundle", path, "--image-path", str(self.images), *options, self.id, **kwargs)

    def restored(self, *options: str) -> None:
        """Restore it, and see that it counts."""
        before = self.count
        self.restore("--detach", *options).ok()
        eventually(lambda: self.count > before + 2, "it counts on")


@pytest.fixture
def box(runtime: Runtime, bundle: Bundle) -> Box:
    return Box(runtime, bundle)


@pytest.mark.vm
@requires("criu")
def test_a_counter_goes_on_where_it_was(box: Box, runtime: Runtime) -> None:
    box.run()
    box.checkpoint().ok()
    before = box.count
    runtime("state", box.id).fails("does not exist")

    box.restore("--detach", "--pid-file", str(box.bundle.path / "pid"), "-no-subreaper").ok()

    eventually(lambda: box.count > before + 2, "it counts on")
    assert runtime.status(box.id) == "running"
    assert int((box.bundle.path / "pid").read_text()) == runtime.pid(box.id)
    assert before + 3 <= box.count < before + 1000


@requires("criu")
def test_relative_paths_of_a_restore_are_in_the_bundle(box: Box) -> None:
    box.run()
    box.checkpoint().ok()

    box.restored("--image-path", "images", "--work-path", "work")

    assert (box.bundle.path / "work/restore.log").exists()


@requires("criu")
def test_restored_init_is_the_callers_child(box: Box, runtime: Runtime) -> None:
    box.run()
    box.checkpoint().ok()
    box.restored()

    pid = runtime.pid(box.id)

    (box.data / "stop").touch()

    assert wait_for_orphan(pid) == 7


@requires("criu")
def test_in_the_foreground_the_exit_status_comes_back(box: Box, runtime: Runtime) -> None:
    box.run()
    box.checkpoint().ok()
    (box.data / "stop").touch()

    result = box.restore()

    assert result.status == 7
    runtime("state", box.id).fails("does not exist")


@requires("criu")
def test_leave_running_lets_it_go_on(box: Box, runtime: Runtime) -> None:
    box.run()

    box.checkpoint("--leave-running").ok()

    before = box.count
    assert runtime.status(box.id) == "running"
    eventually(lambda: box.count > before, "it counts on")
    assert (box.images / "descriptors.json").exists()


@requires("criu")
def test_a_paused_container_is_paused_after_it_with_leave_running(box: Box, runtime: Runtime) -> None:
    box.run()
    runtime("pause", box.id).ok()

    box.checkpoint("--leave-running", "--file-locks", "--work-path", str(box.bundle.path / "work")).ok()

    assert runtime.status(box.id) == "paused"
    runtime("resume", box.id).ok()
    before = box.count
    eventually(lambda: box.count > before, "it counts on")
    assert (box.bundle.path / "work/dump.log").exists()


@requires("criu")
def test_a_paused_container_comes_back(box: Box, runtime: Runtime) -> None:
    box.run()
    runtime("pause", box.id).ok()
    box.checkpoint().ok()

    box.restore("--detach").ok()

    if runtime.status(box.id) == "paused":
        runtime("resume", box.id).ok()
    before = box.count
    eventually(lambda: box.count > before, "it counts on")


@requires("criu")
def test_what_the_container_mounts_on_a_bind_is_its_own_again(box: Box, runtime: Runtime) -> None:
    (box.data / "tmp").mkdir()
    box.bundle.mount("/data/tmp", "tmpfs", options=("size=64k",))
    box.bundle.process["args"][2] = f"echo kept >/data/tmp/file; {COUNT}"
    box.run()
    box.checkpoint().ok()

    box.restored()

    assert runtime.exec(box.id, "/bin/cat", "/data/tmp/file").ok().stdout == "kept\n"


@requires("criu", "memtrack")
def test_a_dump_builds_on_the_pre_dump_before(box: Box, runtime: Runtime) -> None:
    box.run()
    parent = box.bundle.path / "parent"
    runtime("checkpoint", "--pre-dump", "--image-path", str(parent), box.id).ok()
    assert runtime.status(box.id) == "running"

    box.checkpoint("--parent-path", "../parent").ok()

    assert (box.images / "parent").resolve() == parent
    box.restored()


@requires("criu")
def test_the_container_can_be_entered_and_checkpointed_again(box: Box, runtime: Runtime) -> None:
    box.run()
    box.checkpoint().ok()
    box.restored()

    entered = runtime.exec(box.id, "/bin/cat", "/data/n").ok()
    box.checkpoint().ok()
    box.restored()

    assert int(entered.stdout) > 0


@requires("criu")
def test_the_root_is_read_only_and_paths_are_masked_as_before(box: Box, runtime: Runtime) -> None:
    box.bundle.bind(box.bundle.path, "/ro", "ro")
    box.run()
    before = mounted(runtime.pid(box.id))
    box.checkpoint().ok()

    box.restored()

    assert before["/"] and before["/ro"] and not before["/data"]
    assert mounted(runtime.pid(box.id)) == before


@modes(*ROOT)
@requires("criu")
def test_limits_and_cgroups_are_as_before(box: Box, runtime: Managed) -> None:
    box.bundle.linux["resources"]["pids"] = {"limit": 77}
    box.run()
    before = runtime.cgroup(box.id)
    box.checkpoint().ok()
    assert not before.exists()

    box.restored()

    assert runtime.cgroup(box.id) == before
    assert runtime.limit(box.id, "pids.limit") == 77


@requires("criu")
def test_a_connection_goes_on(box: Box) -> None:
    network = helper("unshare", "--net", "sh", "-c", "ip link set lo up; exec sleep 600")
    eventually(lambda: Path(f"/proc/{network.pid}/comm").read_text() == "sleep\n", "there is a network")
    box.bundle.with_namespace("network", f"/proc/{network.pid}/ns/net")
    box.bundle.shell(CONNECTED)
    box.run()
    box.checkpoint().fails("criu failed: type")
    before = box.count
    eventually(lambda: box.count > before, "it goes on")

    box.checkpoint("--tcp-established").ok()

    box.restored("--tcp-established")
    network.kill()
    network.wait()


@requires("criu")
def test_a_lock_of_a_file_is_held_again(box: Box, runtime: Runtime) -> None:
    box.bundle.args("/bin/sh", "-c", "exec </dev/null >/dev/null 2>&1; exec /bin/probe lock /data/lock 600").save()
    runtime.run(box.bundle, "--detach", id=box.id).ok()
    eventually(lambda: is_locked(box.data / "lock"), "it holds the lock")
    box.checkpoint().fails("criu failed: type")

    box.checkpoint("--file-locks").ok()

    assert not is_locked(box.data / "lock")
    box.restore("--detach", "--file-locks").ok()
    assert is_locked(box.data / "lock")


@requires("criu")
def test_a_socket_of_the_host_is_connected_again(box: Box, runtime: Runtime) -> None:
    box.bundle.without_namespace("network")
    box.bundle.bind(box.data, str(box.data))
    box.bundle.process["args"][2] = "exec </dev/null >/dev/null 2>&1; while :; do echo tick >&3; sleep 0.1; done"
    box.bundle.save()
    address = str(box.data / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as outside:
        outside.bind(address)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as inside:
            inside.connect(address)
            argv = [*runtime.command, "--root", str(runtime.root), "run", "--detach", "--preserve-fds", "1"]
            third = {"pass_fds": (3,), "preexec_fn": lambda: os.dup2(inside.fileno(), 3)}
            assert spawn([*argv, "--bundle", str(box.bundle.path), box.id], -3, -3, **third) == 0
        assert outside.recv(10) == b"tick\n"
        box.checkpoint().fails("criu failed: type")

        box.checkpoint("--ext-unix-sk").ok()

        empty(outside)
        box.restore("--detach", "--ext-unix-sk").ok()
        outside.settimeout(30)
        assert outside.recv(10) == b"tick\n"


@requires("criu")
def test_a_terminal_of_the_caller_is_that_of_a_job(box: Box, runtime: Runtime) -> None:
    box.bundle.process["args"][2] = f"exec >/dev/null 2>&1; {COUNT}"
    box.bundle.save()
    master, slave = os.openpty()
    argv = [*runtime.command, "--root", str(runtime.root), "run", "--detach", "--bundle", str(box.bundle.path)]
    assert spawn([*argv, box.id], slave, -3) == 0
    eventually(lambda: box.count > 2, "it counts")
    box.checkpoint("--leave-running").fails()

    box.checkpoint("--leave-running", "--shell-job").ok()

    for descriptor in (master, slave):
        os.close(descriptor)
    before = box.count
    eventually(lambda: box.count > before, "it counts on")


@requires("criu")
def test_a_file_that_has_lost_the_name_it_was_opened_by(box: Box) -> None:
    box.bundle.process["args"][2] = (
        "echo kept >/data/first; ln /data/first /data/second; exec 3</data/first; rm /data/first; "
        "while [ ! -e /data/go ]; do i=$((i+1)); echo $i >/data/n; sleep 0.1; done; cat <&3 >/data/read; exit 7"
    )
    box.run()
    box.checkpoint().fails()

    box.checkpoint("--link-remap").ok()

    box.restored()
    (box.data / "go").touch()
    eventually(lambda: (box.data / "read").exists() and (box.data / "read").read_text() == "kept\n", "it is read")


@requires("criu")
def test_what_has_been_restored_may_be_taken_from_the_images(box: Box) -> None:
    box.run()
    box.checkpoint().ok()
    before = stored(box.images)

    box.restored("--auto-dedup")

    assert stored(box.images) < before


@requires("criu")
def test_memory_goes_to_a_page_server(box: Box) -> None:
    box.run()
    elsewhere = box.bundle.path / "elsewhere"
    elsewhere.mkdir()
    port = free_port()
    server = subprocess.Popen(
        ["criu", "page-server", "--images-dir", str(elsewhere), "--address", "127.0.0.1", "--port", str(port)],
        stdin=subprocess.DEVNULL,
    )
    eventually(lambda: is_listening(port), "the page server listens")

    box.checkpoint("--page-server", f"127.0.0.1:{port}").ok()

    assert server.wait(30) == 0
    assert list(elsewhere.glob("pages-*.img"))
    assert not list(box.images.glob("pages-*.img"))
    for file in elsewhere.glob("*.img"):
        shutil.copy(file, box.images)
    box.restored()


@requires("criu")
def test_the_status_descriptor_tells_when_memory_can_be_fetched(box: Box, runtime: Runtime) -> None:
    box.run()
    port = free_port()

    leaving, reading = leave(box, runtime, port)

    assert os.read(reading, 2) == b"\0"
    os.close(reading)
    eventually(lambda: is_listening(port), "memory can be fetched")
    socket.create_connection(("127.0.0.1", port)).close()  # it wants nothing more
    assert leaving.wait(60) == 0
    runtime("state", box.id).fails("does not exist")


@requires("criu", "lazypages")
def test_memory_follows_when_it_is_needed(box: Box, runtime: Runtime) -> None:
    box.run()
    port = free_port()
    leaving, reading = leave(box, runtime, port)
    assert os.read(reading, 2) == b"\0"
    os.close(reading)
    words = ["criu", "lazy-pages", "--page-server", "--address", "127.0.0.1", "--port", str(port)]
    fetching = subprocess.Popen([*words, "--images-dir", str(box.images)], stdin=subprocess.DEVNULL)
    eventually(lambda: (box.images / "lazy-pages.socket").exists(), "somebody fetches memory")
    before = box.count
    left, box.id = box.id, runtime.new_id()
    box.bundle.linux["cgroupsPath"] = f"/{box.id}"

    box.restore("--detach", "--lazy-pages", "--work-path", str(box.images), "--manage-cgroups-mode", "ignore").ok()

    assert (leaving.wait(60), fetching.wait(60)) == (0, 0)
    eventually(lambda: box.count > before + 2, "it counts on")
    runtime("state", left).fails("does not exist")


@requires("criu")
def test_an_empty_network_namespace_is_made_anew(box: Box, runtime: Runtime) -> None:
    box.run()
    box.checkpoint("--empty-ns", "network").ok()

    box.restored("--empty-ns", "network", "--shell-job")

    lines = Path(f"/proc/{runtime.pid(box.id)}/net/dev").read_text().splitlines()[2:]
    assert [line.split(":")[0].strip() for line in lines] == ["lo"]


@requires("criu")
@pytest.mark.parametrize("managing", ["soft", "full", "ignore"])
def test_modes_of_managing_cgroups(box: Box, runtime: Runtime, managing: str) -> None:
    box.run()
    box.checkpoint("--manage-cgroups-mode", managing).ok()

    box.restored("--manage-cgroups-mode", managing)

    assert box.id in Path(f"/proc/{runtime.pid(box.id)}/cgroup").read_text()


@requires("criu")
def test_hooks_of_the_runtime_run_again(box: Box, runtime: Runtime) -> None:
    told = box.bundle.path / "told"
    script = f"cat >>{told}; echo >>{told}"
    for kind in ("prestart", "createRuntime", "poststop"):
        box.bundle.hook(kind, "/bin/sh", "-c", f"echo {kind} >>{told}; {script}")
    box.run()
    told.write_text("")
    box.checkpoint().ok()
    assert told.read_text().splitlines()[0] == "poststop"
    told.write_text("")

    box.restored()

    lines = told.read_text().splitlines()
    assert [line for line in lines if not line.startswith("{")] == ["prestart", "createRuntime"]
    assert {json.loads(line)["pid"] for line in lines if line.startswith("{")} == {runtime.pid(box.id)}


@requires("criu")
def test_a_hook_that_fails_takes_the_restore_back(box: Box, runtime: Runtime) -> None:
    box.run()
    box.checkpoint().ok()
    box.bundle.hook("createRuntime", "/bin/false")

    box.restore("--detach").fails()

    runtime("state", box.id).fails("does not exist")


@requires("criu")
def test_a_pipe_is_replaced_by_the_new_one(box: Box, runtime: Runtime) -> None:
    box.bundle.shell("while :; do echo tick; sleep 0.1; done")
    box.bundle.save()
    reading, writing = os.pipe()
    null = os.open(os.devnull, os.O_RDWR)
    command = [*runtime.command, "--root", str(runtime.root)]
    run = [*command, "run", "--detach", "--bundle", str(box.bundle.path), box.id]
    restore = [*command, "restore", "--detach", "--bundle", str(box.bundle.path), "--image-path", str(box.images)]
    try:
        assert spawn(run, null, writing) == 0
        assert os.read(reading, 5) == b"tick\n"
        box.checkpoint().ok()
        second_reading, second_writing = os.pipe()
        try:
            status = spawn([*restore, box.id], null, second_writing)
        finally:
            os.close(second_writing)

        assert status == 0
        assert os.read(second_reading, 5) == b"tick\n"
        os.close(second_reading)
    finally:
        for fd in (reading, writing, null):
            os.close(fd)


@requires("criu")
def test_a_terminal_comes_back_over_a_console_socket(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["terminal"] = True
    box = Box(runtime, bundle)
    bundle.shell("while read line; do echo got $line; done")
    first, second = (Receiver(bundle.path / name) for name in ("first.sock", "second.sock"))
    runtime.run(bundle, "--detach", "--console-socket", str(first.path), id=box.id).ok()
    os.write(first.received(), b"once\n")
    first.read_until("got once")
    box.checkpoint().ok()
    first.close()

    box.restore("--detach", "--console-socket", str(second.path)).ok()

    os.write(second.received(), b"again\n")
    second.read_until("got again")
    second.close()


@requires("criu", "userns")
def test_a_user_namespace_comes_back(box: Box, runtime: Runtime) -> None:
    box.bundle.map_users(200000)
    os.chown(box.data, 200000, 200000)
    box.run()
    box.checkpoint().ok()

    box.restored()

    assert Path(f"/proc/{runtime.pid(box.id)}/uid_map").read_text().split() == ["0", "200000", "65536"]


@only("pyocirun")
@requires("criu")
def test_a_program_checkpoints_and_restores_and_gets_the_exit_status(box: Box) -> None:
    from pyocirun import CriuOptions, Factory

    box.run()
    factory = Factory(str(box.runtime.root))
    options = CriuOptions(image_path=str(box.images))
    factory.load(box.id).checkpoint(options)
    null = os.open(os.devnull, os.O_RDWR)

    container = factory.restore(
        box.id, str(box.images), str(box.bundle.path), options, stdin=null, stdout=null, stderr=null
    )

    os.close(null)
    assert container.status == "running"
    (box.data / "stop").touch()
    assert container.wait(30) == 7
    container.delete()


# ---- mounts that are not what they were ----------------------------------------------------------


@pytest.mark.vm
@requires("criu")
def test_a_destination_that_has_become_a_link_is_refused(box: Box, runtime: Runtime) -> None:
    secret = box.bundle.path / "secret"
    secret.mkdir()
    box.bundle.bind(secret, "/secret", "ro")
    box.run()
    box.checkpoint().ok()
    (box.bundle.rootfs / "secret").rmdir()
    (box.bundle.rootfs / "secret").symlink_to("data")

    box.restore("--detach").fails()

    runtime("state", box.id).fails("does not exist")


@only("pyocirun")
@requires("criu")
def test_two_mounts_in_one_place_are_refused(box: Box, runtime: Runtime) -> None:
    secret = box.bundle.path / "secret"
    secret.mkdir()
    (box.bundle.rootfs / "data").mkdir()
    (box.bundle.rootfs / "link").symlink_to("data")
    box.bundle.config["mounts"].insert(
        -1, {"destination": "/link", "type": "bind", "source": str(secret), "options": ["bind", "ro"]}
    )
    box.run()

    box.checkpoint().fails("are in one place")

    assert runtime.status(box.id) == "running"


@only("pyocirun")
@requires("criu")
def test_a_destination_that_criu_cannot_be_told_of_is_refused(box: Box, runtime: Runtime) -> None:
    box.bundle.bind(box.data, "/a]:x")
    box.run()

    box.checkpoint().fails("criu cannot be told of a mount on '/a]:x'")


@requires("criu")
def test_what_a_link_of_the_image_leads_to_is_mounted_again(box: Box, runtime: Runtime) -> None:
    (box.bundle.rootfs / "real").mkdir()
    (box.bundle.rootfs / "link").symlink_to("real")
    box.bundle.config["mounts"][-1]["destination"] = "/link/data"
    (box.bundle.rootfs / "data").symlink_to("/link/data")
    box.run()
    box.checkpoint().ok()

    box.restored()


@only("pyocirun")
@requires("criu")
def test_a_mount_that_the_configuration_no_longer_has_is_refused(box: Box, runtime: Runtime) -> None:
    box.run()
    box.checkpoint().ok()
    box.bundle.config["mounts"].pop()

    box.restore("--detach").fails("the configuration has no bind mount on /data, which the checkpoint has")


@only("pyocirun")
@requires("criu")
def test_a_mount_that_was_not_there_is_refused(box: Box, runtime: Runtime) -> None:
    box.run()
    box.checkpoint().ok()
    box.bundle.bind(box.data, "/more")

    box.restore("--detach").fails("the checkpoint has no bind mount on /more, which the configuration has")


@requires("criu")
def test_what_is_mounted_below_the_source_comes_back(box: Box, runtime: Runtime, place: Path) -> None:
    from integration.harness import MS_PRIVATE, mount, umount

    tree = place / "tree"
    (tree / "below").mkdir(parents=True)
    (place / "other").mkdir()
    (place / "other/file").write_text("found")
    mount(str(tree), tree, flags=4096)
    mount("none", tree, flags=MS_PRIVATE)
    mount(str(place / "other"), tree / "below", flags=4096)
    box.bundle.bind(tree, "/tree", "rbind")
    try:
        box.run()
        box.checkpoint().ok()

        box.restored()

        assert runtime.exec(box.id, "/bin/cat", "/tree/below/file").ok().stdout == "found"
    finally:
        runtime.clean()
        umount(tree)


# ---- errors --------------------------------------------------------------------------------------


@requires("criu")
def test_a_dump_that_fails_says_why_in_its_first_line(box: Box, runtime: Runtime) -> None:
    box.bundle.shell("while :; do sleep 100; done")
    id = runtime.created(box.bundle)  # its output goes to files of the test
    runtime.start(id).ok()

    failed = runtime("checkpoint", "--image-path", str(box.images), id).fails("criu failed: type ")

    if runtime.name == "pyocirun":
        first, second, *tail = failed.error.splitlines()
        assert "Can't" in first
        assert second == f"the end of {box.images}/dump.log:"
        assert "Dumping FAILED" in tail[-1]
    assert runtime.status(id) == "running"


@requires("criu")
def test_a_configuration_file_of_criu_is_read(box: Box) -> None:
    settings = box.bundle.path / "criu.conf"
    settings.write_text("log-file other.log\n")
    box.bundle.config["annotations"] = {"org.criu.config": str(settings)}
    box.run()

    box.checkpoint("--leave-running").ok()

    assert (box.images / "other.log").exists()


@pytest.mark.parametrize("status", ["created", "stopped"])
def test_only_a_running_container_can_be_checkpointed(runtime: Runtime, bundle: Bundle, status: str) -> None:
    id = runtime.created(bundle)
    if status == "stopped":
        runtime.stop(id)

    result = runtime("checkpoint", "--image-path", str(bundle.path / "images"), id)

    result.fails(f"Container cannot be checkpointed in {status} state")


def test_a_path_of_parents_is_relative(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    result = runtime("checkpoint", "--image-path", str(bundle.path / "images"), "--parent-path", "/parent", id)

    result.fails("--parent-path")


@only("pyocirun")
def test_without_criu_the_error_says_what_is_needed(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    result = runtime("checkpoint", id, options=("--criu", "/nowhere/criu"), cwd=bundle.path)

    result.fails("criu cannot be executed: /nowhere/criu: no such file or directory")
    assert "install criu 3.0 or newer" in result.stderr
    assert runtime.status(id) == "running"


@only("pyocirun")
def test_a_program_that_is_no_criu_is_found_out(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    result = runtime("checkpoint", id, options=("--criu", "/bin/true"), cwd=bundle.path)

    result.fails("/bin/true does not tell its version: it is older than 3.0, or no criu")


@only("pyocirun")
def test_a_directory_without_a_checkpoint_is_refused_and_nothing_is_left(runtime: Runtime, bundle: Bundle) -> None:
    bundle.save()
    (bundle.path / "images").mkdir()
    id = runtime.new_id()

    result = runtime("restore", "--bundle", str(bundle.path), "--image-path", str(bundle.path / "images"), id)

    result.fails()
    runtime("state", id).fails("does not exist")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--page-server", "nowhere"), "Use --page-server ADDRESS:PORT to specify page server"),
        (("--page-server", "::1:x"), "Invalid port number"),
        (("--empty-ns", "ipc"), 'namespace "ipc" is not supported'),
        (("--manage-cgroups-mode", "odd"), "Invalid manage-cgroups-mode value"),
    ],
)
@only("pyocirun")
def test_bad_options_are_refused(runtime: Runtime, bundle: Bundle, options: tuple[str, ...], text: str) -> None:
    id = runtime.running(bundle)

    runtime("checkpoint", *options, id, cwd=bundle.path).fails(text)


def test_help_is_there_for_those_who_probe(runtime: Runtime) -> None:
    assert runtime("checkpoint", "--help").status == 0
    assert runtime("restore", "--help").status == 0


def leave(box: Box, runtime: Runtime, port: int) -> tuple[subprocess.Popen[bytes], int]:
    """A checkpoint whose memory is left behind, to be fetched from this port; and the end of a pipe that tells when."""
    reading, writing = os.pipe()
    words = ["checkpoint", "--lazy-pages", "--page-server", f"127.0.0.1:{port}", "--status-fd", str(writing)]
    words += ["--manage-cgroups-mode", "ignore", "--image-path", str(box.images), box.id]
    null = subprocess.DEVNULL
    argv = [*runtime.command, "--root", str(runtime.root), *words]
    leaving = subprocess.Popen(argv, stdin=null, stdout=null, stderr=null, pass_fds=(writing,))
    os.close(writing)
    return leaving, reading


def stored(images: Path) -> int:
    """How many blocks the memory in these images takes."""
    return sum(file.stat().st_blocks for file in images.glob("pages-*.img"))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def is_listening(port: int) -> bool:
    """By /proc, as a page server takes the first connection for its client."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(line[3] == "0A" and line[1].endswith(f":{port:04X}") for line in lines)


def is_locked(path: Path) -> bool:
    if not path.exists():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def empty(receiver: socket.socket) -> None:
    """Read all that has come."""
    receiver.setblocking(False)
    try:
        while True:
            receiver.recv(100)
    except BlockingIOError:
        receiver.setblocking(True)


def mounted(pid: int) -> dict[str, bool]:
    """What is mounted where in a container, and whether read-only."""
    lines = [line.split(" ") for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    return {line[4]: "ro" in line[5].split(",") for line in lines}


def spawn(command: list[str], stdin: int, output: int, **more: Any) -> int:
    """Exit status of a command whose output goes there."""
    return subprocess.run(command, stdin=stdin, stdout=output, stderr=stdin, timeout=60, check=False, **more).returncode
