"""The plan of exec: one more process in a container that runs."""

from __future__ import annotations

from pyocirun.linux.namespaces import CLONE_NEWNS, CLONE_NEWUSER
from pyocirun.plan import ops, process
from pyocirun.plan.namespaces import join_cgroups

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.spec.process import Process


def build(
    wanted: Process,
    id: str,
    namespaces: int,
    *,
    cgroups: tuple[tuple[str, str], ...] = (),
    preserve_fds: int = 0,
    no_new_keyring: bool = False,
    keep_groups: bool = False,
) -> ops.Plan:
    """The plan that starts `wanted` in a container. namespaces: CLONE_NEW* of those in which init is not where we are.

    cgroups: (controller, directory) to join; memory and pids come last. Nothing of ours can be traced from inside:
    undumpable comes before the first namespace of the container.
    """
    plan: list[ops.Op] = [ops.Clone(0, dict(cgroups).get("", "")), *join_cgroups(cgroups, charged=False)]
    if wanted.oom_score_adj is not None:
        plan.append(ops.OomScoreAdj(str(wanted.oom_score_adj)))
    plan.append(ops.Undumpable())
    if namespaces:
        plan.append(ops.JoinContainer(namespaces))
    plan.append(ops.Fork())
    if namespaces & CLONE_NEWUSER:
        plan.append(ops.BecomeRoot(keep_groups))
    if not no_new_keyring:
        plan.append(ops.Keyring(f"_ses.{id}"))
    root = ops.Chroot("/") if namespaces & CLONE_NEWNS else ops.EnterRoot()
    plan += [root, ops.ReopenNull(), *process.identity(wanted, keep_groups=keep_groups)]
    plan += join_cgroups(cgroups, charged=True)
    end = [ops.Sync("created"), ops.Sync("exec"), ops.Exec(wanted.args, process.environment(wanted))]
    return ops.Plan((*plan, *end), preserve_fds)
