"""Run Kubernetes' tests of the CRI, critest, on a containerd of one's own with a runtime, and say what passed.

    python -m integration.conformance.critest --critest FILE [--runtime COMMAND] [--newer] [-- ARGUMENTS of critest]

FILE is a built critest of github.com/kubernetes-sigs/cri-tools; it is no part of this project. The images that it pulls
are made here, and a registry on the loopback of the engine's own network namespace has them. Prints a line a test, in
the order of their names, so that the output of two runtimes can be compared. Needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from integration.engines import newer, registry
from integration.engines.cri import CONFIG, SOCKET, Cri
from integration.engines.image import compile_box, digest, manifest_of, tar
from integration.engines.machine import BASE, Machine

HERE = Path(__file__).resolve().parent
PORT = 5000
HOSTS = f'server = "http://127.0.0.1:{PORT}"\n[host."http://127.0.0.1:{PORT}"]\n  capabilities = ["pull", "resolve"]\n'
PULLED = f"""
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "{BASE}/certs.d"
[plugins."io.containerd.cri.v1.images"]
  use_local_image_pull = true
"""
PASSWD = (
    "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/sh\n"
    "default-user:x:1000:1000::/home:/bin/sh\nnobody:x:65534:65534::/home:/bin/sh\n"
)
GROUP = (
    "root:x:0:\nwww-data:x:33:\nnobody:x:65534:\ndefault-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n"
)
E2E = "e2e-test-images"
OF_CRITEST = "k8s-staging-cri-tools"
IMAGES: dict[str, dict[str, Any]] = {
    f"{E2E}/busybox:1.29-2": {},
    f"{E2E}/nginx:1.14-2": {"Cmd": ["nginx", "80"]},
    f"{E2E}/httpd:2.4.39-4": {"Cmd": ["httpd", "80"]},
    f"{E2E}/nonewprivs:1.3": {"Cmd": ["nnp"]},
    f"{OF_CRITEST}/hostnet-nginx-amd64:latest": {"Cmd": ["nginx", "12003"]},
    f"{OF_CRITEST}/hostnet-nginx-arm64:latest": {"Cmd": ["nginx", "12003"]},
    f"{OF_CRITEST}/test-image-user-uid:latest": {"User": "1002"},
    f"{OF_CRITEST}/test-image-user-username:latest": {"User": "www-data"},
    f"{OF_CRITEST}/test-image-user-uid-group:latest": {"User": "1003:1004"},
    f"{OF_CRITEST}/test-image-user-username-group:latest": {"User": "www-data:1004"},
    f"{OF_CRITEST}/test-image-predefined-group:latest": {"User": "1000"},
    f"{OF_CRITEST}/test-image-latest:latest": {"Labels": {"number": "0"}},
    f"{OF_CRITEST}/test-image-1:latest": {"Labels": {"number": "1"}},
    f"{OF_CRITEST}/test-image-2:latest": {"Labels": {"number": "2"}},
    f"{OF_CRITEST}/test-image-3:latest": {"Labels": {"number": "3"}},
    f"{OF_CRITEST}/test-image-tag:test": {"Labels": {"tag": "test"}},
    f"{OF_CRITEST}/test-image-tag:all": {"Labels": {"tag": "all"}},
    **{f"{OF_CRITEST}/test-image-tags:{tag}": {"Labels": {"tag": "same"}} for tag in (1, 2, 3)},
    "pause:3.9": {"Cmd": ["sleep", "1000000"]},
}


class Tested(Cri):
    """containerd with the runtime as its default, that finds every image in our registry."""

    def _machine(self) -> Machine:
        files = {
            f"{BASE}/config.toml": CONFIG.format(runtime=self.runtime, systemd="false") + PULLED,
            f"{BASE}/certs.d/_default/hosts.toml": HOSTS,
        }
        files |= self._network()
        return Machine(["containerd", "--config", f"{BASE}/config.toml"], files, newer.environment(self._tree))


def main() -> int:
    arguments = parse_arguments()
    engine = Tested(arguments.runtime, newer.build() if arguments.newer else "")
    try:
        images = f"{engine.machine.scratch}/registry"
        make_images(images, engine.machine.scratch)
        # It ends with the machine.
        engine.machine.begin(sys.executable, registry.__file__, str(PORT), images)
        report = run(engine, arguments.critest, arguments.rest)
    finally:
        engine.close()
    return tell(report)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--critest", required=True, type=os.path.abspath, metavar="FILE")
    parser.add_argument("--runtime", default=shutil.which("pyocirun") or "pyocirun", type=shutil.which)
    parser.add_argument("--newer", action="store_true", help="the containerd of Debian's unstable suite")
    parser.add_argument("rest", nargs="*", help="arguments of critest, as --ginkgo.focus=PATTERN")
    return parser.parse_args()


def make_images(directory: str, scratch: str) -> None:
    """Fill the registry with IMAGES: one root for all, with every command of busybox."""
    layer = tar(root(scratch))
    manifests, blobs = {}, {digest(layer): layer}
    for name, config in IMAGES.items():
        manifest, described = manifest_of(layer, {"Env": ["PATH=/bin"], "Cmd": ["sh"], **config})
        manifests[name] = manifest
        blobs |= {digest(manifest): manifest, digest(described): described}
    registry.store(directory, manifests, blobs)


def root(scratch: str) -> dict[str, tuple[bytes | str | None, int]]:
    program = os.path.join(scratch, "critest-images")
    subprocess.run(["cc", "-static", "-O2", "-o", program, HERE / "critest.c"], check=True)
    served = Path(program).read_bytes()
    busybox = Path(str(shutil.which("busybox"))).read_bytes()
    commands = subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    files: dict[str, tuple[bytes | str | None, int]] = {
        **dict.fromkeys(("bin", "etc", "home", "root", "var", "var/run"), (None, 0o755)),
        "tmp": (None, 0o1777),
        "etc/passwd": (PASSWD.encode(), 0o644),
        "etc/group": (GROUP.encode(), 0o644),
        "bin/box": (compile_box(scratch), 0o755),
        "bin/busybox": (busybox, 0o755),
        "bin/nginx": (served, 0o755),
        "bin/nnp": (served, 0o4755),
    }
    files |= {f"bin/{command}": ("busybox", 0o777) for command in commands if command != "busybox"}
    return files | {"bin/httpd": ("nginx", 0o777)}


def run(engine: Cri, critest: str, more: list[str]) -> list[dict[str, Any]]:
    """What critest reports of each test; its own output goes to ours."""
    report = f"{engine.machine.scratch}/report.json"
    argv = [critest, f"--runtime-endpoint=unix://{SOCKET}", f"--ginkgo.json-report={report}", "--ginkgo.no-color"]
    subprocess.run(engine.machine.entered([*argv, *more]), stdin=subprocess.DEVNULL, stdout=sys.stderr)
    (suite,) = json.loads(Path(report).read_text())
    return list(suite["SpecReports"])


def tell(report: list[dict[str, Any]]) -> int:
    tests = [test for test in report if test["LeafNodeType"] == "It"]
    lines = sorted(
        f"{test['State']:8}{' '.join([*test['ContainerHierarchyTexts'], test['LeafNodeText']])}" for test in tests
    )
    print("\n".join(lines))
    states = [test["State"] for test in tests]
    print(", ".join(f"{states.count(state)} {state}" for state in sorted(set(states))))
    return 1 if "failed" in states else 0


if __name__ == "__main__":
    sys.exit(main())
