"""The errors of pyocirun: one base, four facts, and families by what the caller does next.

Raise where most is known; add context only at a border (hook, nsexec, cgroup). Texts that engines match, such as
"container does not exist", stand in `message` as they are.
"""

from __future__ import annotations


class Error(Exception):
    """What every failure of pyocirun tells.

    message: what was tried, on what.  errno: 0 if no system call failed.  path: host view, or "".
    hint: one thing to try, or "".  step: the part of the work that failed: a system call, or what the family has.
    """

    family_step = ""

    def __init__(self, message: str, *, errno: int = 0, path: str = "", hint: str = "", step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.errno = errno
        self.path = path
        self.hint = hint
        self.step = step or self.family_step

    def __str__(self) -> str:
        return self.message


class SpecError(Error):
    """The configuration is wrong: fix config.json.

    pointer: RFC 6901 JSON pointer of the value, "" for the whole document.
    faults: every fault that was found, as (pointer, text); at least this one.
    """

    family_step = "config"

    def __init__(
        self,
        message: str,
        *,
        pointer: str = "",
        faults: list[tuple[str, str]] | None = None,
        errno: int = 0,
        path: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message, errno=errno, path=path, hint=hint)
        self.pointer = pointer
        self.faults = faults if faults is not None else [(pointer, message)]


class UsageError(Error):
    """A command or call got arguments that it cannot take."""

    family_step = "arguments"


class NoSuchCommand(UsageError):
    """The command line names a command that there is not."""


class StateError(Error):
    """The container is not in a state for this: id, and its status, or "" if it has none."""

    family_step = "state"

    def __init__(
        self,
        message: str,
        *,
        id: str = "",
        status: str = "",
        errno: int = 0,
        path: str = "",
        hint: str = "",
        step: str = "",
    ) -> None:
        super().__init__(message, errno=errno, path=path, hint=hint, step=step)
        self.id = id
        self.status = status


class ContainerNotExist(StateError):
    """There is no container with this id."""


class IDInUse(StateError):
    """There is a container with this id already."""


class InvalidID(StateError):
    """This cannot be a container's id."""


class OperationError(Error):
    """nsexec failed at an operation of the plan.

    index: of the operation in the plan.  op: what it does, as `describe()` says.  step: the system call, or part.
    """

    def __init__(
        self,
        message: str,
        *,
        index: int = -1,
        op: str = "",
        step: str = "",
        errno: int = 0,
        path: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message, errno=errno, path=path, hint=hint, step=step)
        self.index = index
        self.op = op


class HookError(Error):
    """A hook failed. hook: its kind and index.  status: wait status, -1 if it never ran.

    stdout, stderr: the end of what it printed.
    """

    def __init__(
        self, message: str, *, hook: str = "", status: int = -1, stdout: str = "", stderr: str = "", path: str = ""
    ) -> None:
        super().__init__(message, path=path, step=hook)
        self.hook = hook
        self.status = status
        self.stdout = stdout
        self.stderr = stderr


class CriuError(Error):
    """criu is missing, too old, or could not do it. log: the end of what it logged, line by line.  path: its log."""

    family_step = "criu"

    def __init__(
        self, message: str, *, log: tuple[str, ...] = (), errno: int = 0, path: str = "", hint: str = ""
    ) -> None:
        super().__init__(message, errno=errno, path=path, hint=hint)
        self.log = log


class CgroupError(Error):
    """The kernel refused something in a cgroup. path: the file or directory.  controller: "" for none."""

    family_step = "cgroup"

    def __init__(self, message: str, *, path: str = "", controller: str = "", errno: int = 0, hint: str = "") -> None:
        super().__init__(message, errno=errno, path=path, hint=hint)
        self.controller = controller
