"""The plan of exec: one more process in a container that runs."""

from __future__ import annotations

from pyocirun.linux.namespaces import CLONE_NEWNS, CLONE_NEWUSER
from pyocirun.plan import ops, process
from pyocirun.plan.namespaces import join_cgroups
from pyocirun.spec.linux import Linux

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyocirun.cgroup.unit import Unit
    from pyocirun.spec.process import Process

DEFAULT = Linux()
"""A container whose section says nothing that concerns its later processes."""


def build(
    wanted: Process,
    id: str,
    namespaces: int,
    *,
    linux: Linux = DEFAULT,
    cgroups: tuple[tuple[str, str], ...] = (),
    cgroup_required: bool = False,
    preserve_fds: int = 0,
    no_new_keyring: bool = False,
    keep_groups: bool = False,
    rdt_group: tuple[str, str] = ("", ""),
    unit: Unit | None = None,
    landlock: Sequence[ops.Op] = (),
) -> ops.Plan:
    """The plan that starts `wanted` in a container. namespaces: CLONE_NEW* of those in which init is not where we are.

    unit: of systemd, if nobody else may move a process into the cgroup.
    linux: the container's own section, as far as it is for all of its processes.
    cgroups: (controller, directory) to join; what charges comes last.  cgroup_required: of v2, a refusal is an error.
    landlock: what makes the Landlock ruleset of the container's processes.
    rdt_group: the resctrl group and its monitoring group, "" for none.
    Nothing of ours can be traced from inside: undumpable comes before the first namespace of the container.
    """
    before, after = _affinity(wanted)
    clone = ops.Clone(0, dict(cgroups).get("", ""), cgroup_required)
    plan = [clone, *_pull(unit), *before, *join_cgroups(cgroups, wanted, charged=False), *after]
    if wanted.oom_score_adj is not None:
        plan.append(ops.OomScoreAdj(str(wanted.oom_score_adj)))
    plan.append(ops.Undumpable())
    labelled = bool(wanted.apparmor_profile or wanted.selinux_label)
    if labelled:
        plan.append(ops.PrivateProc())
    if namespaces:
        plan.append(ops.JoinContainer(namespaces))
    plan.append(ops.Fork())
    if namespaces & CLONE_NEWUSER:
        plan.append(ops.BecomeRoot(keep_groups))
    if not no_new_keyring:
        keyring = ops.Keyring(f"_ses.{id}")
        plan += _labelled_keyring(wanted, keyring) if labelled else [keyring]
    terminal = process.terminal(wanted, console=False) if wanted.terminal else []
    if namespaces & CLONE_NEWNS:
        plan += [ops.Chroot("/"), ops.ReopenNull(), *terminal]
    else:  # init's root has no devpts of its own
        plan += [*([ops.Chroot("/"), *terminal] if terminal else []), ops.EnterRoot(), ops.ReopenNull()]
    plan += process.identity(wanted, linux, keep_groups=keep_groups, landlock=landlock)
    plan += join_cgroups(cgroups, wanted, charged=True)
    if rdt_group[0]:
        plan.append(ops.JoinRdtGroup(*rdt_group))
    end: list[ops.Op] = [ops.Exec(wanted.args, process.environment(wanted))]
    if linux.seccomp is not None:
        from pyocirun.plan.seccomp import agent, load

        plan += agent(linux.seccomp)
        end = [*load(linux.seccomp), *end]
    restricted = [ops.LandlockRestrict()] if landlock else []
    return ops.Plan((*plan, ops.Sync("created"), *restricted, ops.Sync("exec"), *end), preserve_fds)


def _pull(unit: Unit | None) -> list[ops.Op]:
    if unit is None:
        return []
    from pyocirun.plan.unit import pull

    return pull(unit)


def _labelled_keyring(wanted: Process, keyring: ops.Op) -> list[ops.Op]:
    from pyocirun.plan import lsm

    return lsm.keyring(wanted, keyring)


def _affinity(wanted: Process) -> tuple[list[ops.Op], list[ops.Op]]:
    """CPUs before the cgroup is joined, and afterwards. Spec: config.md#linux-process, execCPUAffinity"""
    if wanted.exec_cpu_affinity is None:
        return [], [ops.Affinity(optional=True)]
    from pyocirun.plan.scheduling import final_affinity, initial_affinity

    return initial_affinity(wanted.exec_cpu_affinity), final_affinity(wanted.exec_cpu_affinity)
