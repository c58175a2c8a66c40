"""pyocirun delete: remove what a container holds."""

from __future__ import annotations

from pyocirun.errors import ContainerNotExist, InvalidID, StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.cli.main import Session
    from pyocirun.cli.options import Call


def run(call: Call, session: Session) -> int:
    force: bool = call.flags["force"]
    if call.flags["regex"]:
        from pyocirun.cli.matching import for_each

        for_each(session, call.args[0], lambda id: _delete(session, id, force))
    else:
        _delete(session, session.id(call.args[0]), force)
    return 0


def _delete(session: Session, id: str, force: bool) -> None:
    """Engines delete what is gone already, and created containers without --force: both succeed, as with runc."""
    factory = session.factory()
    try:
        container = factory.load(id)
    except ContainerNotExist:
        # A create that was killed early leaves a directory and no state.
        factory.remove_leftovers(id)
        if not force:
            raise
        return
    except InvalidID:
        raise
    except StateError:
        if not force or not factory.remove_leftovers(id):
            raise
        return
    status = "" if force else container.status
    if status not in ("", "created", "stopped"):
        raise StateError(f"cannot delete container {id} that is not stopped: {status}", id=id, status=status)
    try:
        container.delete(force=force or status == "created")
    except ContainerNotExist:
        if not force:
            raise  # another delete was faster
