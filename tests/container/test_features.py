"""What this build says of itself."""

from __future__ import annotations

from pyocirun.container.features import features


def test_every_way_to_manage_cgroups_is_there() -> None:
    cgroup = features()["linux"]["cgroup"]

    assert cgroup == {"v1": True, "v2": True, "systemd": True, "systemdUser": True, "rdma": True}
