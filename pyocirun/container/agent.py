"""What the agent that answers system calls is told of a process (config-linux.md#containerprocessstate)."""

from __future__ import annotations

from pyocirun import native
from pyocirun.container.state import to_json
from pyocirun.spawn.sync import Answer


def introduction(agent: int, pid: int, metadata: str | None, state: dict[str, object]) -> Answer:
    """For `Sync("seccomp")`: the connection to the agent, and what nsexec sends over it along with the descriptor.

    pid: of the process, in the runtime's pid namespace.  state: of the container, as hooks get it.
    """
    shown = {"ociVersion": state["ociVersion"], "fds": ["seccompFd"], "pid": pid, "state": state}
    if metadata is not None:
        shown["metadata"] = metadata
    document = to_json(shown).encode("utf-8", "surrogateescape")
    return Answer(fds=(agent, native.sealed_memfd("pyocirun-agent", document)))
