"""The mounts of a checkpoint that come from the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyocirun.container import external
from pyocirun.container.external import Entry, Row
from pyocirun.errors import CriuError
from pyocirun.spec.linux import Device
from pyocirun.spec.mounts import Mount
from tests.support import minimal_spec

DATA = Mount("/data/", "/srv", "bind", ("bind",))


def test_a_line_of_mountinfo() -> None:
    line = "36 35 98:0 /mnt1 /a\\040b\\134c ro,noatime master:1 - ext3 /dev/root rw,errors=continue\n"

    assert external._row(line) == Row(36, 35, "98:0", "/mnt1", "/a b\\c", True, "ext3")


def test_a_document_is_read_as_it_was_written() -> None:
    found = [Entry("/", readonly=True), Entry("/d", "mount", "/d", "below/it", False)]

    assert external.from_document(external.to_document(found), "x") == found


@pytest.mark.parametrize(
    "document",
    [None, [], {}, {"format": 2, "mounts": []}, {"format": 1, "mounts": [{"point": 3}]}, {"format": 1, "mounts": [3]}],
)
def test_another_document_is_refused(document: object) -> None:
    with pytest.raises(CriuError, match="none of pyocirun's"):
        external.from_document(document, "/i/mounts.json")


def test_sources_come_from_the_configuration_by_destination() -> None:
    spec = minimal_spec(mounts=(Mount("/b", "/two", "bind"), DATA))
    found = [Entry("/"), Entry("/real/data", "mount", "/data"), Entry("/b", "mount", "/b")]

    assert external.sources(found, spec, "/bundle", {}) == [(1, "/srv"), (2, "/two")]


def test_a_relative_source_counts_from_the_bundle() -> None:
    spec = minimal_spec(mounts=(Mount("/b", "two", "bind"),))

    assert external.sources([Entry("/b", "mount", "/b")], spec, "/bundle", {}) == [(0, "/bundle/two")]


def test_devices_and_cgroups_are_those_of_the_host() -> None:
    spec = minimal_spec(devices=(Device("c", "/dev/fuse", 10, 229),))
    found = [Entry("/x", "device", "1:3"), Entry("/dev/fuse", "device", "10:229"), Entry("/c", "cgroup", "cpu")]

    assert external.sources(found, spec, "/bundle", {"cpu": "/cg/box"}) == [
        (0, "/dev/null"),
        (1, "/dev/fuse"),
        (2, "/cg/box"),
    ]


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (Entry("/d", "mount", "/d"), "no bind mount on /d, which the checkpoint has"),
        (Entry("/d", "device", "9:9"), "no device 9:9"),
        (Entry("/d", "cgroup", "cpu"), "no cgroup of the controller 'cpu'"),
        (Entry("/d", "odd"), "unknown kind"),
    ],
)
def test_what_the_configuration_does_not_have_is_refused(entry: Entry, text: str) -> None:
    with pytest.raises(CriuError, match=text):
        external.sources([entry], minimal_spec(), "/bundle", {})


def test_what_the_checkpoint_does_not_have_is_refused() -> None:
    with pytest.raises(CriuError, match="the checkpoint has no bind mount on /data"):
        external.sources([Entry("/")], minimal_spec(mounts=(DATA,)), "/bundle", {})


def test_a_path_below_a_source_may_hold_no_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    spec = minimal_spec(mounts=(Mount("/d", str(tmp_path), "bind"),))

    with pytest.raises(CriuError, match="link is not below"):
        external.sources([Entry("/d/link", "mount", "/d", "link")], spec, "/bundle", {})


@pytest.mark.parametrize("point", ["/a]:/etc", "/a\nb"])
def test_a_path_that_ends_early_in_crius_options_is_refused(point: str) -> None:
    with pytest.raises(CriuError, match="criu cannot be told"):
        external._refuse_unspeakable([Entry(point, "mount", "/a")])


def test_a_place_that_has_become_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")

    external.refuse_links([Entry("/"), Entry("/data"), Entry("/missing")], str(tmp_path))
    with pytest.raises(CriuError, match="the mount on /link would go through a link"):
        external.refuse_links([Entry("/link", "mount", "/link")], str(tmp_path))


def test_names_for_criu_are_numbers() -> None:
    assert external.key(3) == "pyocirun-3"
