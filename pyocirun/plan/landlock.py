"""The annotation of Landlock -> operations. Loaded where a configuration has it."""

from __future__ import annotations

from pyocirun.linux.landlock import FILES, NEWEST, PORTS, SCOPES, bits
from pyocirun.plan import ops
from pyocirun.spec.landlock import AT, parse_landlock
from pyocirun.spec.reader import fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyocirun.spec.landlock import Landlock


def ruleset(annotations: dict[str, str], abi: int) -> list[ops.Op]:
    """What makes the ruleset, in the container's root and with power over all its paths; [] if nothing is restricted.

    abi: of this kernel.  Raises SpecError for a faulty annotation, and for what the kernel does not know, unless
    bestEffort is asked for.
    """
    wanted = _wanted(annotations)
    if wanted is None:
        return []
    if not wanted.best_effort:
        _refuse_unknown(wanted, abi)
    made = ops.LandlockRuleset(
        bits(FILES, wanted.files, abi), bits(PORTS, wanted.ports, abi), bits(SCOPES, wanted.scopes, abi)
    )
    if not (made.files or made.ports or made.scopes):
        return []
    plan: list[ops.Op] = [made]
    for rule in wanted.path_rules:
        if access := bits(FILES, rule.access, abi):
            plan += [ops.LandlockPath(path, access, rule.optional) for path in rule.paths]
    for grant in wanted.port_rules:
        if access := bits(PORTS, grant.access, abi):
            plan += [ops.LandlockPort(port, access) for port in grant.ports]
    return plan


def warnings(annotations: dict[str, str], abi: int) -> list[str]:
    """What bestEffort leaves out on this kernel."""
    wanted = _wanted(annotations)
    missing = list(_unknown(wanted, abi)) if wanted is not None else []
    if not missing:
        return []
    return [f"{AT}: this kernel does not restrict {', '.join(missing)}: {_has(abi)}"]


def _wanted(annotations: dict[str, str]) -> Landlock | None:
    text = annotations.get(ops.LANDLOCK)
    return parse_landlock(text) if text else None


def _refuse_unknown(wanted: Landlock, abi: int) -> None:
    for name in _unknown(wanted, abi):
        raise fault(AT, f'this kernel cannot restrict {name}: {_has(abi)}; with "bestEffort" it is left out')


def _unknown(wanted: Landlock, abi: int) -> Iterator[str]:
    for table, names in ((FILES, wanted.files), (PORTS, wanted.ports), (SCOPES, wanted.scopes)):
        for name in names:
            if table[name][1] > min(abi, NEWEST):
                yield name


def _has(abi: int) -> str:
    return f"it has version {abi} of Landlock" if abi else "it has no Landlock, or it is off (lsm= on its command line)"
