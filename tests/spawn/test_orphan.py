"""A process that was killed while it forked, and the child that it could not tell of."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pyocirun.spawn.orphan import reap_forked
from tests.support import compile_c

PROGRAM = r"""
#define _GNU_SOURCE
#include <linux/sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct clone_args args = { .flags = CLONE_PARENT };

	(void)argv;
	if (syscall(SYS_clone3, &args, sizeof(args)))
		kill(getpid(), SIGKILL);
	if (argc > 1)
		for (;;)
			pause();
	usleep(50000);
	return 0;
}
"""


def children() -> set[int]:
    return set(map(int, Path("/proc/thread-self/children").read_text().split()))


@pytest.fixture
def forker(tmp_path: Path) -> Path:
    """A program that forks a brother of itself, and is killed."""
    if not os.path.exists("/proc/thread-self/children"):
        pytest.skip("needs a kernel with /proc/PID/task/TID/children")
    source = tmp_path / "forker.c"
    source.write_text(PROGRAM)
    return compile_c(tmp_path / "forker", [source])


def start(program: Path, *args: str) -> int:
    """The pid of a program that has ended, and is not reaped. args: any, if its brother is to stay."""
    pid = os.posix_spawn(program, [str(program), *args], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


def test_the_child_that_was_not_announced_is_reaped(forker: Path) -> None:
    before = children()
    pid = start(forker)
    assert len(children() - before) == 2

    reap_forked(pid)

    assert children() - before == {pid}
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL


def test_a_child_that_stays_is_left_alone(forker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would have ended, were it the one."""
    monkeypatch.setattr("pyocirun.spawn.orphan.PATIENCE_MS", 20)
    before = children()
    pid = start(forker, "stay")

    reap_forked(pid)

    (brother,) = children() - before - {pid}
    os.kill(brother, signal.SIGKILL)
    os.waitpid(brother, 0)
    os.waitpid(pid, 0)


def test_other_children_are_left_alone(forker: Path) -> None:
    other = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    pid = start(forker)
    later = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])

    reap_forked(pid)

    assert other.poll() is None
    assert later.poll() is None
    os.waitpid(pid, 0)
    for process in (other, later):
        process.kill()
        process.wait()


def test_nothing_is_done_for_a_process_that_is_gone() -> None:
    reap_forked(2**22 + 1)
