"""What a resctrl group may use, and uses, of caches and of memory bandwidth. Loaded for containers that have one.

Kernel documentation: Documentation/filesystems/resctrl.rst
"""

from __future__ import annotations

import os

from pyocirun.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class CacheInfo(Record):
    """cbm_mask: hexadecimal, a bit for each part of the L3 cache.  closids: how many groups there can be."""

    cbm_mask: str = ""
    min_cbm_bits: int = 0
    closids: int = 0


class BandwidthInfo(Record):
    """In percent. closids: how many groups there can be.  delay_linear: 1 if the scale is linear."""

    granularity: int = 0
    delay_linear: int = 0
    least: int = 0
    closids: int = 0


class NodeTraffic(Record):
    """Bytes that went to memory since the group was made, in all and to the node's own."""

    total: int = 0
    local: int = 0


class RdtStats(Record):
    """Of a group. cache, bandwidth: None where the processor has no such control.

    cache_schema, bandwidth_schema: the group's lines, and those of the group of all; "" for none.  schemata: all lines
    of the group.  traffic: by L3 cache; None where the processor does not count it.  occupancy: bytes of L3 cache, the
    same.
    """

    cache: CacheInfo | None = None
    cache_schema: str = ""
    cache_schema_root: str = ""
    bandwidth: BandwidthInfo | None = None
    bandwidth_schema: str = ""
    bandwidth_schema_root: str = ""
    schemata: tuple[str, ...] = ()
    traffic: tuple[NodeTraffic, ...] | None = None
    occupancy: tuple[int, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """As runc has it, what is 0 or empty being left out where runc does."""
        shown: dict[str, Any] = {}
        if self.cache is not None:
            info = self.cache
            shown["l3_cache_info"] = _filled(
                cbm_mask=info.cbm_mask, min_cbm_bits=info.min_cbm_bits, num_closids=info.closids
            )
        if self.bandwidth is not None:
            shown["mem_bw_info"] = _filled(
                bandwidth_gran=self.bandwidth.granularity,
                delay_linear=self.bandwidth.delay_linear,
                min_bandwidth=self.bandwidth.least,
                num_closids=self.bandwidth.closids,
            )
        shown |= _filled(
            l3_cache_schema_root=self.cache_schema_root,
            l3_cache_schema=self.cache_schema,
            mem_bw_schema_root=self.bandwidth_schema_root,
            mem_bw_schema=self.bandwidth_schema,
            schemata=list(self.schemata),
        )
        if self.traffic is not None:
            shown["mbm_stats"] = [{"mbm_total_bytes": one.total, "mbm_local_bytes": one.local} for one in self.traffic]
        if self.occupancy is not None:
            shown["cmt_stats"] = [{"llc_occupancy": bytes_} for bytes_ in self.occupancy]
        return shown


def read(group: str, monitor: str) -> RdtStats:
    """The readings of a group. monitor: the monitoring group below it that counts for the container, "" for none.

    What is missing, or cannot be read, is as in an empty record.
    """
    top = group if os.path.isdir(f"{group}/info") else os.path.dirname(group)
    info = f"{top}/info"
    lines, of_all = _lines(f"{group}/schemata"), _lines(f"{top}/schemata")
    found: dict[str, Any] = {"schemata": tuple(lines)}
    if os.path.isdir(f"{info}/L3"):
        found["cache"] = CacheInfo(
            _text(f"{info}/L3/cbm_mask"), _number(f"{info}/L3/min_cbm_bits"), _number(f"{info}/L3/num_closids")
        )
        found |= {"cache_schema": _last(lines, "L3"), "cache_schema_root": _last(of_all, "L3")}
    if os.path.isdir(f"{info}/MB"):
        names = ("bandwidth_gran", "delay_linear", "min_bandwidth", "num_closids")
        found["bandwidth"] = BandwidthInfo(*(_number(f"{info}/MB/{name}") for name in names))
        found |= {"bandwidth_schema": _last(lines, "MB"), "bandwidth_schema_root": _last(of_all, "MB")}
    return RdtStats(**found, **_counted(f"{monitor or group}/mon_data", _lines(f"{info}/L3_MON/mon_features")))


def _counted(directory: str, features: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    caches = _directories(directory)
    if not {"mbm_total_bytes", "mbm_local_bytes"}.isdisjoint(features):
        found["traffic"] = tuple(
            NodeTraffic(_number(f"{cache}/mbm_total_bytes"), _number(f"{cache}/mbm_local_bytes")) for cache in caches
        )
    if "llc_occupancy" in features:
        found["occupancy"] = tuple(_number(f"{cache}/llc_occupancy") for cache in caches)
    return found


def _directories(path: str) -> list[str]:
    try:
        return [f"{path}/{name}" for name in sorted(os.listdir(path)) if os.path.isdir(f"{path}/{name}")]
    except OSError:
        return []


def _last(lines: list[str], resource: str) -> str:
    """The line of a resource; of several, as caches have them for code and for data, the last."""
    return next((line for line in reversed(lines) if resource in line.partition(":")[0]), "")


def _lines(path: str) -> list[str]:
    return [line.strip() for line in _text(path).splitlines()]


def _number(path: str) -> int:
    """0 for words such as "Unavailable"."""
    text = _text(path)
    return int(text) if text.isascii() and text.isdigit() else 0


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def _filled(**members: Any) -> dict[str, Any]:
    """Those members that are not 0 or empty."""
    return {name: value for name, value in members.items() if value}
