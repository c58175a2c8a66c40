"""The image that every engine runs, made here: busybox with the commands the tests use, and /box."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import tarfile
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
COMMANDS = (
    "cat cut date echo env false grep head id ip kill ln ls mkdir mknod mount nc ping ps readlink sh sleep stty tail"
)
COMMANDS += " test touch true tty unshare wc"
PASSWD = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"
GROUP = "root:x:0:\nuser:x:1000:\nmore:x:1001:user\n"


def compile_box(directory: str) -> bytes:
    program = os.path.join(directory, "box")
    subprocess.run(["cc", "-static", "-O2", "-o", program, os.path.join(HERE, "box.c")], check=True)
    with open(program, "rb") as file:
        return file.read()


def rootfs(box: bytes) -> bytes:
    """A tar archive of the image's files. /bin/notes is on PATH and may not be executed."""
    with open(str(shutil.which("busybox")), "rb") as file:
        busybox = file.read()
    files: dict[str, tuple[bytes | str | None, int]] = {
        "box": (box, 0o755),
        "bin": (None, 0o755),
        "bin/busybox": (busybox, 0o755),
        "bin/notes": (b"not a program\n", 0o644),
        "etc": (None, 0o755),
        "etc/passwd": (PASSWD.encode(), 0o644),
        "etc/group": (GROUP.encode(), 0o644),
        "root": (None, 0o700),
        "tmp": (None, 0o1777),
    }
    files.update({f"bin/{command}": ("busybox", 0o777) for command in COMMANDS.split()})
    return tar(files)


def archive(layer: bytes, name: str, command: tuple[str, ...] = ("/box", "echo", "from the image")) -> bytes:
    """An OCI image layout as a tar archive: this one layer, under a name that `ctr images import` takes."""
    manifest, config = manifest_of(layer, {"Env": ["PATH=/bin:/", "FROM_IMAGE=yes"], "Cmd": list(command)})
    named = descriptor("manifest.v1+json", manifest)
    named["annotations"] = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": "latest"}
    files: dict[str, tuple[bytes | str | None, int]] = {
        "oci-layout": (encoded({"imageLayoutVersion": "1.0.0"}), 0o644),
        "index.json": (encoded({"schemaVersion": 2, "manifests": [named]}), 0o644),
    }
    for blob in (layer, config, manifest):
        files["blobs/" + digest(blob).replace(":", "/")] = (blob, 0o644)
    return tar(files)


def manifest_of(layer: bytes, config: dict[str, Any]) -> tuple[bytes, bytes]:
    """The manifest and the configuration of an image of one layer. config: what containers of it run, and as whom."""
    described = encoded(
        {
            "architecture": ARCHITECTURES[platform.machine()],
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
        }
    )
    manifest = encoded(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("config.v1+json", described),
            "layers": [descriptor("layer.v1.tar", layer)],
        }
    )
    return manifest, described


def descriptor(kind: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest(blob), "size": len(blob)}


def digest(blob: bytes) -> str:
    return "sha256:" + hashlib.sha256(blob).hexdigest()


def encoded(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()


def tar(files: dict[str, tuple[bytes | str | None, int]]) -> bytes:
    """An archive of files (bytes), symbolic links (str: what they hold) and directories (None), each with its mode."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as written:
        for name, (content, mode) in files.items():
            member = tarfile.TarInfo(name)
            member.mode = mode
            if content is None:
                member.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
            else:
                member.size = len(content)
            written.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    return buffer.getvalue()
