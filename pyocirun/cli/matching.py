"""Commands for several containers at once: those whose ids a regular expression is found in."""

from __future__ import annotations

from pyocirun.errors import ContainerNotExist, Error, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyocirun.cli.main import Session


def for_each(session: Session, expression: str, act: Callable[[str], None]) -> None:
    """Call `act` with the id of each such container; one that is gone meanwhile is passed over.

    One that fails does not stop the others; then the last one's error is raised, and the others are warnings.
    Raises UsageError for what is no expression, StateError if the root directory is missing.
    """
    import re

    try:
        wanted = re.compile(session.id(expression))
    except re.error as error:
        raise UsageError(f'invalid regular expression "{expression}": {error}') from None
    failed: Error | None = None
    for container in session.factory().list():
        if not wanted.search(container.id):
            continue
        try:
            act(container.id)
        except ContainerNotExist:
            continue
        except Error as error:
            if failed is not None:
                session.warn(failed.message)
            failed = error
    if failed is not None:
        raise failed
