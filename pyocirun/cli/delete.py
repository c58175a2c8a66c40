"""pyocirun delete: remove what a container holds."""

from __future__ import annotations

from pyocirun.errors import ContainerNotExist, InvalidID, StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.cli.main import Session
    from pyocirun.cli.options import Call


def run(call: Call, session: Session) -> int:
    """Engines delete what is gone already, and created containers without --force: both succeed, as with runc."""
    force: bool = call.flags["force"]
    id = session.id(call.args[0])
    factory = session.factory()
    try:
        container = factory.load(id)
    except ContainerNotExist:
        # A create that was killed early leaves a directory and no state.
        factory.remove_leftovers(id)
        if not force:
            raise
        return 0
    except InvalidID:
        raise
    except StateError:
        if not force or not factory.remove_leftovers(id):
            raise
        return 0
    status = "" if force else container.status
    if status not in ("", "created", "stopped"):
        raise StateError(f"cannot delete container {id} that is not stopped: {status}", id=id, status=status)
    try:
        container.delete(force=force or status == "created")
    except ContainerNotExist:
        if not force:
            raise  # another delete was faster
    return 0
