"""process.apparmorProfile and selinuxLabel. Loaded where one is set."""

from __future__ import annotations

from pyocirun.errors import SpecError
from pyocirun.plan import ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.spec.process import Process


def refuse_absent(process: Process, modules: tuple[str, ...], at: str = "/process") -> None:
    """Raises SpecError for a label of a security module that is not among those of this kernel.

    modules: "apparmor", "selinux".  at: JSON pointer of the process.
    """
    if process.apparmor_profile and "apparmor" not in modules:
        text = f'apparmor profile "{process.apparmor_profile}" is specified in config, but AppArmor is not enabled'
        raise _absent(f"{at}/apparmorProfile", text, "/sys/module/apparmor/parameters/enabled tells; see apparmor(7)")
    if process.selinux_label and "selinux" not in modules:
        text = "selinux label is specified in config, but selinux is disabled or not supported"
        raise _absent(f"{at}/selinuxLabel", text, "no selinuxfs is mounted on /sys/fs/selinux")


def keyring(process: Process, make: ops.Op) -> list[ops.Op]:
    """The operation that makes the keyring, so that the keyring has the label of the process."""
    if not process.selinux_label:
        return [make]
    return [ops.KeyringLabel(process.selinux_label), make, ops.KeyringLabel("")]


def labels(process: Process) -> list[ops.Op]:
    """What execve(2) is to change to. It holds for startContainer hooks too, which are programs of the container."""
    plan: list[ops.Op] = []
    if process.apparmor_profile:
        plan.append(ops.AppArmorProfile(process.apparmor_profile))
    if process.selinux_label:
        plan.append(ops.SelinuxLabel(process.selinux_label))
    return plan


def _absent(pointer: str, text: str, hint: str) -> SpecError:
    return SpecError(f"{pointer}: {text}", pointer=pointer, hint=hint)
