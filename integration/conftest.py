"""Fixtures for everything under integration/: see harness.py."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Behind site-packages: `pyocirun` is the installed one, which has its C parts.
sys.path.append(str(Path(__file__).resolve().parent.parent))

from integration import modes
from integration.differences import KNOWN_DIFFERENCES
from integration.harness import (
    NATURE,
    NEEDS,
    Bundle,
    build_probe,
    children,
    isolate,
    mounts,
    remove_tree,
    runtime_command,
    runtime_name,
    session_directory,
)
from integration.terminal import Receiver


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "requires(*needs): skip where one is missing; fail if PYOCIRUN_MUST_WORK=1")
    config.addinivalue_line("markers", "vm: among those that `make test` runs in the virtual machine")
    config.addinivalue_line("markers", "only(name): for this runtime alone")
    config.addinivalue_line("markers", "modes(*names): once for each way to manage cgroups, or for each of these")
    config.addinivalue_line("markers", "asks(feature): skip for an engine that has it not")
    config.addinivalue_line("markers", "of(id): with this parameter alone, where an engine is one")
    config.addinivalue_line("markers", "full: for `make engines` alone, not among what CI runs")
    config.addinivalue_line(
        "markers", "newer: with the engines of newer.py, in `make engines` alone unless it is `short` too"
    )
    config.addinivalue_line(
        "markers", "guest: an engine of `make vm-engines`, of which it runs what has the mark cgroups"
    )
    config.addinivalue_line("markers", "cgroups: about the driver of cgroups")
    config.addinivalue_line("markers", "with_systemd: an engine whose driver of cgroups is systemd")
    config.addinivalue_line("markers", "short: among what CI runs with the newer engines")
    if NEEDS["root"]():
        isolate()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if marker := metafunc.definition.get_closest_marker("modes"):
        metafunc.parametrize(
            "mode", modes.here(*marker.args), ids=lambda mode: mode.name, indirect=True, scope="function"
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    runtime = runtime_name()
    for item in items:
        bare, _, rest = item.name.partition("[")
        mode = re.split(r"[-\]]", rest)[0]
        for name in dict.fromkeys((item.name, f"{bare}[{mode}]", bare)):
            if reason := KNOWN_DIFFERENCES.get((name, runtime)):
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("only"):
        if runtime_name() not in marker.args:
            pytest.skip(f"for {marker.args[0]} only")
    for marker in item.iter_markers("requires"):
        for need in marker.args:
            if not NEEDS[need]():
                _missing(need)


def _missing(need: str) -> None:
    if os.environ.get("PYOCIRUN_MUST_WORK") == "1" and need not in NATURE:
        pytest.fail(f"{need} is missing, and PYOCIRUN_MUST_WORK=1")
    pytest.skip(f"needs {need}")


@pytest.fixture(scope="session")
def session_path() -> Iterator[Path]:
    yield from session_directory()


@pytest.fixture(scope="session")
def probe(session_path: Path) -> Path:
    """The probe's program file."""
    return build_probe(session_path / "probe")


_serial = iter(range(1, 1_000_000))


@pytest.fixture
def place(session_path: Path) -> Iterator[Path]:
    """A directory for one test, that every user may enter."""
    path = session_path / f"t{next(_serial)}"
    path.mkdir(mode=0o755)
    yield path
    remove_tree(path)


@pytest.fixture
def mode(request: pytest.FixtureRequest) -> modes.Mode:
    """How cgroups are managed: the host's plain way, where no mark says otherwise."""
    mode: modes.Mode = getattr(request, "param", None) or modes.plain()
    return mode


@pytest.fixture
def runtime(request: pytest.FixtureRequest, place: Path, mode: modes.Mode) -> Iterator[modes.Managed]:
    """The runtime under test. Afterwards nothing may be left of its containers once they are deleted."""
    command = runtime_command()
    if not NEEDS["root"]():
        _missing("root")
    if not command:
        _missing("a runtime")
    base = place / "runtime"
    base.mkdir()
    before = mounts()
    runtime = modes.Managed(mode, command, base, f"scn{os.getpid()}-{place.name}")
    yield runtime
    runtime.clean()
    left = [trace for trace in runtime.traces() if not trace.startswith("process")]
    left += [f"mount {line}" for line in mounts() if line not in before and str(place) not in line]
    left += [f"process {pid}" for pid in children()]
    runtime.sweep()
    if request.node.get_closest_marker("xfail") or runtime.name == "crun":
        return  # crun 1.8 leaves cgroups of v1 at every turn: it is here to compare with, not to be judged
    assert not left, f"left behind: {left}"


@pytest.fixture
def bundle(place: Path, probe: Path, mode: modes.Mode) -> Bundle:
    """A bundle for one test, with a config such as `runc spec` writes."""
    return mode.dress(Bundle(place / "bundle", probe))


@pytest.fixture
def other_bundle(place: Path, probe: Path, mode: modes.Mode) -> Bundle:
    """A second bundle, for tests with two containers."""
    return mode.dress(Bundle(place / "other", probe))


@pytest.fixture
def receivers() -> Iterator[Callable[[Path], Receiver]]:
    """Makes listeners on unix sockets, each for one descriptor; they are closed after the test."""
    made: list[Receiver] = []

    def listen(path: Path) -> Receiver:
        made.append(Receiver(path))
        return made[-1]

    yield listen
    for receiver in made:
        receiver.close()
