"""pyocirun update: change the limits of a container."""

from __future__ import annotations

from pyocirun.errors import SpecError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyocirun.cli.main import Session
    from pyocirun.cli.options import Call

_SIZES = {
    "memory": "limit",
    "memory-reservation": "reservation",
    "memory-swap": "swap",
    "kernel-memory": "kernel",
    "kernel-memory-tcp": "kernelTCP",
}
_CPU = {
    "cpu-period": "period",
    "cpu-quota": "quota",
    "cpu-burst": "burst",
    "cpu-share": "shares",
    "cpu-rt-period": "realtimePeriod",
    "cpu-rt-runtime": "realtimeRuntime",
    "cpu-idle": "idle",
}
_SIGNED = ("cpu-quota", "cpu-rt-runtime", "cpu-idle")
_LISTS = {"cpuset-cpus": "cpus", "cpuset-mems": "mems"}
_UNIFIED = {"memory-high": "memory.high", "memory-min": "memory.min"}
_SCHEMATA = {"l3-cache-schema": "l3CacheSchema", "mem-bw-schema": "memBwSchema"}
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def run(call: Call, session: Session) -> int:
    flags = call.flags
    container = session.load(call.args[0])
    if flags["resources"]:
        container.update(_read(flags["resources"]))
        return 0
    resources = requested(flags)
    unified = _unified(flags)
    schemata = {name: flags[flag] for flag, name in _SCHEMATA.items() if flags[flag]}
    if not (unified or schemata):
        container.update(resources)
        return 0
    from pyocirun.container.update import update

    update(container, resources, files=unified, schemata=schemata)
    return 0


def requested(flags: dict[str, Any]) -> dict[str, Any]:
    """linux.resources as these flags have it, without `unified`. Raises UsageError."""
    found: dict[str, dict[str, Any]] = {"memory": {}, "cpu": {}, "blockIO": {}, "pids": {}}
    for flag, name in _SIZES.items():
        if flags[flag]:
            found["memory"][name] = size(flags[flag], flag)
    for flag, name in _CPU.items():
        if flags[flag]:
            found["cpu"][name] = _number(flags[flag], flag)
    for flag, name in _LISTS.items():
        if flags[flag]:
            found["cpu"][name] = flags[flag]
    if flags["blkio-weight"]:
        found["blockIO"]["weight"] = flags["blkio-weight"]
    if flags["pids-limit"] is not None:
        found["pids"]["limit"] = flags["pids-limit"]
    return {name: values for name, values in found.items() if values}


def size(text: str, flag: str) -> int:
    """Bytes of "64M", "1.5g", "512", "64 MiB", ...; -1 for "-1". Units are powers of 1024. Raises UsageError."""
    if text == "-1":
        return -1
    number = text.rstrip("kKmMgGtTpPiIbB ")
    unit = text[len(number) :].strip().lower()
    power = unit.removesuffix("b").removesuffix("i")
    whole, _, fraction = number.partition(".")
    if power not in _POWERS or unit in ("i", "ib") or not (whole + fraction).isdigit() or not number.isascii():
        raise UsageError(f'invalid value "{text}" for {flag}: a number of bytes, or one with k, m, g, t or p')
    scale = 1 << 10 * _POWERS[power]
    return int(whole or "0") * scale + int(fraction or "0") * scale // int("1" + "0" * len(fraction))


def _number(text: str, flag: str) -> int:
    digits = text.removeprefix("-") if flag in _SIGNED else text
    if not (digits.isascii() and digits.isdigit()):
        raise UsageError(
            f'invalid value "{text}" for {flag}: not a {"" if flag in _SIGNED else "positive "}whole number'
        )
    return int(text)


def _unified(flags: dict[str, Any]) -> dict[str, str]:
    """Files of cgroup v2 that config.json has no other name for."""
    found = {}
    for flag, name in _UNIFIED.items():
        if flags[flag]:
            bytes_ = size(flags[flag], flag)
            found[name] = "max" if bytes_ < 0 else str(bytes_)
    if flags["memory-oom-group"]:
        if flags["memory-oom-group"] not in ("0", "1"):
            raise UsageError(f'invalid value "{flags["memory-oom-group"]}" for memory-oom-group: 0 or 1')
        found["memory.oom.group"] = flags["memory-oom-group"]
    if flags["io-latency"]:
        found["io.latency"] = _latency(flags["io-latency"])
    return found


def _latency(text: str) -> str:
    device, equals, target = text.partition("=")
    major, colon, minor = device.partition(":")
    if not (equals and colon and major.isdigit() and minor.isdigit() and target.isdigit()):
        raise UsageError(f'invalid value "{text}" for io-latency: MAJOR:MINOR=MICROSECONDS')
    return f"{device} target={target}"


def _read(path: str) -> dict[str, Any]:
    from pyocirun.spec.bundle import read_descriptor, read_file
    from pyocirun.spec.reader import load_json

    what = "standard input" if path == "-" else path
    document = load_json(read_descriptor(0, what) if path == "-" else read_file(path, path), what)
    if not isinstance(document, dict):
        raise SpecError(f"the resources in {what} are no JSON object", path=path)
    return document
