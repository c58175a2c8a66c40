"""What an update makes of the linux.resources that a container has. Pure, on documents as JSON has them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Document = dict[str, Any]

_BY_DEVICE = (
    "weightDevice",
    "throttleReadBpsDevice",
    "throttleWriteBpsDevice",
    "throttleReadIOPSDevice",
    "throttleWriteIOPSDevice",
)


def changes(new: Document) -> Document:
    """`new` as it is to be carried out: null is the same as absent, and devices are never changed by an update."""
    return {name: value for name, value in _given(new).items() if name != "devices"}


def merged(old: Document, new: Document) -> Document:
    """The resources after `changes` were made: what `new` does not name stays.

    Lists by block device are changed device by device, hugepageLimits by page size, rdma by device. `unified` is
    replaced. A cpu.idle without cpu.shares takes the shares away, as the kernel does.
    """
    result = _given(old)
    for name, value in new.items():
        before = result.get(name)
        if name == "blockIO":
            result[name] = _block_io(before or {}, value)
        elif name == "hugepageLimits":
            result[name] = _by_key(before or [], value, ("pageSize",))
        elif name in ("unified", "devices") or not isinstance(value, dict):
            result[name] = value
        else:
            result[name] = {**(before or {}), **_given(value)}
    cpu = new.get("cpu")
    if isinstance(cpu, dict) and cpu.get("idle") is not None and cpu.get("shares") is None:
        result["cpu"].pop("shares", None)
    return result


def added(old: dict[str, str], new: dict[str, str]) -> dict[str, str]:
    """`unified` with these files besides. io.latency has a line a block device: those of other devices stay."""
    result = {**old, **new}
    if line := new.get("io.latency"):
        others = [each for each in old.get("io.latency", "").splitlines() if each.split()[:1] != line.split()[:1]]
        result["io.latency"] = "\n".join([*others, line])
    return result


def _block_io(old: Document, new: Document) -> Document:
    result = {**old, **_given(new)}
    for name in _BY_DEVICE:
        if new.get(name) is not None:
            result[name] = _by_key(old.get(name) or [], new[name], ("major", "minor"))
    return result


def _by_key(old: list[Document], new: list[Document], keys: tuple[str, ...]) -> list[Document]:
    """`old` with its entries changed by those of `new` that have the same keys, and the others of `new` behind them."""
    found = {tuple(entry[key] for key in keys): entry for entry in old}
    for entry in new:
        key = tuple(entry[key] for key in keys)
        found[key] = {**found.get(key, {}), **_given(entry)}
    return list(found.values())


def _given(document: Document) -> Document:
    return {name: value for name, value in document.items() if value is not None}
