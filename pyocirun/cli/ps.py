"""pyocirun ps: the processes of a container, as the host's `ps` shows them, or their ids as JSON."""

from __future__ import annotations

from pyocirun.cli.output import print_text, to_json
from pyocirun.errors import Error, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.cli.main import Session
    from pyocirun.cli.options import Call


def run(call: Call, session: Session) -> int:
    container = session.load(call.args[0])
    if call.flags["format"] not in ("table", "json"):
        raise UsageError("invalid format option")
    pids = container.processes()
    if call.flags["format"] == "json":
        # null for none, as runc has it.
        print_text(to_json(pids or None) + "\n")
    else:
        print_text(only(_ps(call.args[1:] or ["-ef"]), set(pids)))
    return 0


def only(table: str, pids: set[int]) -> str:
    """The header of what `ps` printed, and the lines of these processes. Raises Error if no column is called PID."""
    header, *lines = table.splitlines() or [""]
    if "PID" not in header.split():
        raise Error("couldn't find PID field in ps output", hint="have ps print it: -o pid,...", step="ps")
    column = header.split().index("PID")
    kept = [header]
    for line in lines:
        cells = line.split(None, column + 1)
        if len(cells) > column and cells[column].isdigit() and int(cells[column]) in pids:
            kept.append(line)
    return "".join(line + "\n" for line in kept)


def _ps(arguments: list[str]) -> str:
    import subprocess

    try:
        done = subprocess.run(["ps", *arguments], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError as error:
        text = f"cannot run ps: {(error.strerror or '').lower()}"
        raise Error(text, errno=error.errno or 0, hint="--format json needs no ps", step="execve") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
        raise Error(f"ps {' '.join(arguments)}: exit status {done.returncode}: {said}", step="ps")
    return done.stdout.decode("utf-8", "surrogateescape")
