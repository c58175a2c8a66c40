"""A buildkitd of one's own, whose builds run their commands by the runtime under test.

Debian has no buildkitd: BUILDKITD is the path of one, and `buildctl` is beside it.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile

from integration.engines.docker import IMAGE
from integration.engines.engine import runtime_path
from integration.engines.image import archive, compile_box, rootfs
from integration.engines.machine import BASE, Ended, Machine

SOCKET = f"unix://{BASE}/buildkitd.sock"
CALLS = f"{BASE}/calls"
CONTEXT = f"{BASE}/context"


def recorder(directory: str) -> str:
    """A program `runc` in a directory: it writes each command line into CALLS, and then is the runtime under test."""
    program = os.path.join(directory, "runc")
    with open(program, "w") as file:
        file.write(f'#!/bin/sh\necho "$*" >>{CALLS}\nexec {runtime_path()} "$@"\n')
    os.chmod(directory, 0o755)
    os.chmod(program, 0o755)
    return program


class BuildKit:
    """buildkitd with an OCI worker alone, and the image as files of an OCI layout."""

    def __init__(self) -> None:
        self._client = os.path.join(os.path.dirname(os.environ["BUILDKITD"]), "buildctl")
        self._directory = tempfile.mkdtemp(prefix="pyocirun-buildkit-")
        daemon = [os.environ["BUILDKITD"], "--root", f"{BASE}/buildkit", "--addr", SOCKET]
        daemon += ["--containerd-worker", "false", "--oci-worker", "true", "--oci-worker-snapshotter", "native"]
        self.machine = Machine([*daemon, "--oci-worker-binary", recorder(self._directory)])
        try:
            self.machine.wait_for(lambda: self("debug", "workers").status == 0, "buildkitd answers")
            image = self.machine.write(f"{BASE}/image.tar", archive(rootfs(compile_box(self.machine.scratch)), IMAGE))
            self.machine("mkdir", f"{BASE}/image").ok()
            self.machine("tar", "--extract", "--file", image, "--directory", f"{BASE}/image").ok()
        except BaseException:
            self.close()
            raise

    def __call__(self, *arguments: str) -> Ended:
        """Run buildctl to its end."""
        return self.machine(self._client, "--addr", SOCKET, *arguments)

    def build(self, *options: str) -> Ended:
        """Of the Dockerfile in CONTEXT, whose image is IMAGE; the root file system becomes the archive made.tar."""
        (entry,) = json.loads(self.machine("cat", f"{BASE}/image/index.json").ok())["manifests"]
        words = ["build", "--progress", "plain", "--frontend", "dockerfile.v0", "--no-cache"]
        words += ["--local", f"context={CONTEXT}", "--local", f"dockerfile={CONTEXT}"]
        words += [
            "--oci-layout",
            f"image={BASE}/image",
            "--opt",
            f"context:{IMAGE}=oci-layout://image@{entry['digest']}",
        ]
        return self(*words, *options, "--output", f"type=tar,dest={BASE}/made.tar")

    def made(self, file: str) -> str:
        """What is in a file of the result."""
        return self.machine("tar", "--extract", "--to-stdout", "--file", f"{BASE}/made.tar", file).ok()

    def close(self) -> None:
        self.machine.stop()
        shutil.rmtree(self._directory)
