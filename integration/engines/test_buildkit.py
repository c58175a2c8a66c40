"""Builds by BuildKit run their commands by the runtime: the builder within dockerd, and buildkitd."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from integration.engines.buildkit import CALLS, CONTEXT, BuildKit, recorder
from integration.engines.docker import IMAGE, TOOLS, Docker
from integration.engines.machine import Ended
from integration.engines.test_common import both, runtime_with, tree
from integration.harness import requires


class Dockerd:
    """The builder within dockerd, which runs commands by the program `runc` on dockerd's PATH."""

    def __init__(self, tree: str) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="pyocirun-buildkit-")
        recorder(self._directory.name)
        self.docker = Docker(runtime_with(TOOLS), tree, first_on_path=self._directory.name)
        self.machine = self.docker.machine

    def build(self, *options: str) -> Ended:
        words = ["build", "--progress", "plain", "--no-cache", "--network", "none", "--tag", "made", *options, CONTEXT]
        return self.machine("env", "DOCKER_BUILDKIT=1", *self.docker.command(), *words)

    def made(self, file: str) -> str:
        """What is in a file of the result."""
        return self.docker("run", "--rm", "--network", "none", "made", "sh", "-c", f"cat /{file}; sleep 0.3").ok()

    def close(self) -> None:
        self.docker.close()
        self._directory.cleanup()


@pytest.fixture(scope="module", params=[*both(), pytest.param(None, id="buildkitd", marks=requires("buildkitd"))])
def builder(request: pytest.FixtureRequest) -> Iterator[Dockerd | BuildKit]:
    runtime_with(TOOLS)
    builder = BuildKit() if request.param is None else Dockerd(tree(request.param))
    yield builder
    builder.close()


def _build(builder: Dockerd | BuildKit, *lines: str) -> Ended:
    builder.machine.write(f"{CONTEXT}/Dockerfile", "\n".join([f"FROM {IMAGE}", *lines, ""]))
    builder.machine.write(CALLS, "", 0o666)
    return builder.build()


def _calls(builder: Dockerd | BuildKit) -> list[str]:
    """The command lines that the runtime was called with."""
    return builder.machine("cat", CALLS).ok().splitlines()


def test_the_runtime_runs_the_commands(builder: Dockerd | BuildKit) -> None:
    built = _build(builder, "RUN echo built >/made; id -u >>/made")

    built.ok()
    assert builder.made("made") == "built\n0\n"
    assert any(" run " in call for call in _calls(builder)), _calls(builder)


def test_a_command_that_fails_ends_the_build(builder: Dockerd | BuildKit) -> None:
    built = _build(builder, "RUN exit 5")

    assert built.status != 0
    assert "exit code: 5" in built.stderr


def test_a_command_that_is_not_there(builder: Dockerd | BuildKit) -> None:
    built = _build(builder, 'RUN ["/nope"]')

    assert built.status != 0
    assert "no such file or directory" in built.stderr


def test_output_of_a_command_arrives(builder: Dockerd | BuildKit) -> None:
    built = _build(builder, "RUN echo from inside; sleep 0.5")

    assert "from inside" in built.stderr


def test_a_user_a_directory_and_mounts(builder: Dockerd | BuildKit) -> None:
    built = _build(
        builder,
        "RUN mkdir -m 777 /work",
        "USER 1000:1000",
        "WORKDIR /work",
        "RUN --mount=type=tmpfs,target=/quick id -u >made; pwd >>made; grep -c ' /quick tmpfs' /proc/mounts >>made",
    )

    built.ok()
    assert builder.made("work/made") == "1000\n/work\n1\n"
