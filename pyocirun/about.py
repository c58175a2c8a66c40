"""What this build is: the version of the specification it follows, and what the build wrote down about itself."""

from __future__ import annotations

SPEC_VERSION = "1.3.0"
"""The newest version of the runtime specification whose fields are read."""

OLDEST_SPEC_VERSION = "1.0.0"


def commit() -> str:
    """The commit this was built from; "" if the build did not know it."""
    return _noted("COMMIT")


def no_interpreter() -> str:
    """Why the command that was built has no interpreter inside; "" if it has one."""
    return _noted("NO_INTERPRETER")


def no_snapshot() -> str:
    """Why the command that was built has no snapshot of an interpreter; "" if it has one."""
    return _noted("NO_SNAPSHOT")


def libseccomp() -> str:
    """Version of the library that compiles seccomp filters; "" if this build or this machine has none."""
    try:
        from pyocirun.libseccomp import version
    except ImportError:
        return ""
    return version()


def _noted(name: str) -> str:
    try:
        info = __import__("pyocirun._build_info", fromlist=(name,))
    except ImportError:
        return ""
    return str(getattr(info, name))
