"""make demo: one container from what the package itself ships, with everything a person wants to see of it."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyocirun
from pyocirun import Container, Factory
from pyocirun.spec.example import default_config

BUSYBOX = ("/bin/busybox", "/usr/bin/busybox")
APPLETS = ("sh", "ls", "ps", "cat", "sleep", "id", "mount", "true")


def main() -> int:
    if os.geteuid() != 0:
        print(
            "The demo makes namespaces, mounts and cgroups, so it needs root. Run:\n    sudo make demo", file=sys.stderr
        )
        return 1
    with tempfile.TemporaryDirectory(prefix="pyocirun-demo-") as place:
        bundle = make_bundle(Path(place) / "bundle")
        demonstrate(Factory(f"{place}/state", warn=lambda text: print(f"  warning: {text}")), bundle)
    return 0


def make_bundle(bundle: Path) -> Path:
    """A bundle whose image is the package's probe, and busybox where the host has a static one."""
    programs = bundle / "rootfs" / "bin"
    programs.mkdir(parents=True)
    shutil.copy(Path(pyocirun.__file__).parent / "bin" / "probe", programs / "probe")
    for busybox in filter(os.path.exists, BUSYBOX):
        shutil.copy(busybox, programs / "busybox")
        for applet in APPLETS:
            (programs / applet).symlink_to("busybox")
        break
    config: dict[str, Any] = default_config()
    config["hostname"] = "demo"
    config["process"].update(terminal=False, args=["/bin/probe", "human", "stay"])
    config["linux"]["resources"].update(memory={"limit": 64 << 20}, pids={"limit": 100}, cpu={"shares": 512})
    (bundle / "config.json").write_text(json.dumps(config, indent=2))
    return bundle


def demonstrate(factory: Factory, bundle: Path) -> None:
    plan = factory.plan(str(bundle), id="demo")
    heading(f"The plan has {len(plan.ops)} operations; these are some of them (pyocirun explain shows all)")
    for op in plan.ops[2:60:8]:
        print(f"  {op.describe()}")
    container: Container | None = None
    try:
        with told("create"):
            container = factory.create("demo", str(bundle))
        heading("The container's own report")
        with told("start"):
            container.start()
        time.sleep(0.3)
        heading("pyocirun state, while it runs")
        print("  " + json.dumps(container.state(), indent=2).replace("\n", "\n  "))
        heading("pyocirun exec: one more process inside")
        with told("exec"):
            process = container.exec(args=["/bin/probe", "exit", "7"])
        print(f"  its exit status: {process.wait()}")
        heading("Its end")
        with told("kill and wait"):
            container.kill(9)
            status = container.wait()
        print(f"  ended by signal {-status}; status is now {container.status!r}")
    finally:
        if container is not None:
            with told("delete"):
                container.delete(force=True)


def heading(text: str) -> None:
    print(f"\n{text}", flush=True)


@contextmanager
def told(step: str) -> Iterator[None]:
    """Say how long a step took."""
    start = time.perf_counter()
    yield
    print(f"  [{step}: {(time.perf_counter() - start) * 1000:.1f} ms]", flush=True)


if __name__ == "__main__":
    sys.exit(main())
