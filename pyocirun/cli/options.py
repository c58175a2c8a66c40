"""Every command's options, once, as data; and the quick parser for a well-formed command line.

An option is (name, short, kind, metavar, help, default):
    kind      "flag": given or not, `--name=false` takes it back.  "str": one value, the last one counts.
              "int": the same as "str", a whole number.  "repeat": a list, one value each time, commas are not
              separators.  "ints": the same, whole numbers.
    help      one line; an option without help is accepted but not shown: callers of old may send it.
    default   of a "str" or "int" that is not given.  Flags start as False, lists as [].
A command is (usage, summary, fewest arguments, most arguments (-1: any number), stops, options):
    stops     flags end at the first argument, so that those of a command to be run are not ours.

A command is this table's row and a module of the same name with `run(call, session) -> int`.
`usage.py` builds click's commands, for help, completion and errors, from the same table.
"""

from __future__ import annotations

from pyocirun.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Option = tuple[str, str, str, str, str, str | int | None]
    Command = tuple[str, str, int, int, bool, tuple[Option, ...]]


class Call(Record):
    """A command line that was understood: the values of all options, given or not, by name, and the arguments."""

    global_flags: dict[str, Any]
    command: str
    flags: dict[str, Any]
    args: list[str]


GLOBAL: tuple[Option, ...] = (
    ("debug", "", "flag", "", "log what is done, step by step", None),
    ("log", "", "str", "FILE", "append the log to FILE instead of standard error; or journald:ID, syslog:NAME", None),
    ("log-format", "", "str", "FORMAT", "text or json", "text"),
    ("log-level", "", "str", "LEVEL", "leave out what is less than debug, info, warning or error", "info"),
    ("root", "", "str", "DIR", "keep the state of containers in DIR, best on a tmpfs", None),
    ("timings", "", "str", "FILE", "write where the time went, for Perfetto or about:tracing", None),
    ("systemd-cgroup", "", "flag", "", "let systemd make cgroups; cgroupsPath is then slice:prefix:name", None),
    ("cgroup-manager", "", "str", "NAME", "cgroupfs, systemd or disabled: make no cgroup", "cgroupfs"),
    ("rootless", "", "str", "WHEN", "pass over cgroup permission errors: true, false or auto", "auto"),
    ("criu", "", "str", "FILE", "the criu of checkpoint and restore, a name or a path (default: criu)", None),
    ("version", "v", "flag", "", "print the version and leave", None),
)

_BUNDLE: Option = ("bundle", "b", "str", "DIR", "the bundle (default: the current directory)", None)
_CONFIG: Option = ("config", "f", "str", "FILE", "read FILE instead of the bundle's config.json", None)
_PID_FILE: Option = ("pid-file", "", "str", "FILE", "write the process id to FILE", None)
_DETACH: Option = ("detach", "d", "flag", "", "leave the process running and return", None)
_PRESERVE: Option = ("preserve-fds", "", "int", "N", "pass N descriptors on, from 3 up", 0)
_SOCKET: Option = ("console-socket", "", "str", "SOCKET", "send the master of the terminal to this unix socket", None)
_PIDFD: Option = ("pidfd-socket", "", "str", "SOCKET", "send a pidfd of the process to this unix socket", None)
_SHOW_ENV: Option = ("show-env", "", "flag", "", "print values of environment variables too", None)
_NO_PIVOT: Option = (
    "no-pivot",
    "",
    "flag",
    "",
    "move the root instead of pivot_root(2), for a root on a ramdisk",
    None,
)
_NO_KEYRING: Option = ("no-new-keyring", "", "flag", "", "keep the caller's session keyring", None)
_REGEX: Option = (
    "regex",
    "",
    "flag",
    "",
    "the id is a regular expression, for all containers that it is found in",
    None,
)

_WORK_PATH: Option = (
    "work-path",
    "",
    "str",
    "DIR",
    "put criu's log there, not beside the images",
    None,
)
_CRIU_BOTH: tuple[Option, ...] = (
    ("tcp-established", "", "flag", "", "with TCP connections that are established", None),
    ("ext-unix-sk", "", "flag", "", "with unix sockets whose other end is outside", None),
    ("shell-job", "", "flag", "", "with a terminal or session of the caller's", None),
    ("file-locks", "", "flag", "", "with file locks", None),
    ("manage-cgroups-mode", "", "str", "MODE", "what criu does with cgroups: soft, full, strict or ignore", None),
    ("empty-ns", "", "repeat", "network", "leave the contents of the network namespace to others; always so", None),
    ("auto-dedup", "", "flag", "", "punch holes into older images where memory was written again", None),
    ("lazy-pages", "", "flag", "", "fetch memory when it is used: criu lazy-pages(8) serves it", None),
)

COMMANDS: dict[str, Command] = {
    "checkpoint": (
        "<container-id>",
        "write a running container to files, and remove it",
        1,
        1,
        False,
        (
            ("image-path", "", "str", "DIR", "directory of the images (default: checkpoint)", None),
            _WORK_PATH,
            ("parent-path", "", "str", "DIR", "images of the pre-dump before, relative to --image-path", None),
            ("leave-running", "", "flag", "", "let the container go on afterwards", None),
            ("pre-dump", "", "flag", "", "write memory alone, and let the container go on", None),
            *_CRIU_BOTH,
            ("tcp-skip-in-flight", "", "flag", "", "without TCP connections that are being made", None),
            ("link-remap", "", "flag", "", "with files that were removed and are open, by a new link", None),
            ("status-fd", "", "int", "N", "write a NUL byte to this descriptor once --lazy-pages can be served", -1),
            ("page-server", "", "str", "ADDRESS:PORT", "send memory to a page server, criu page-server(8)", None),
        ),
    ),
    "completion": ("<shell>", "print a script that makes bash, zsh or fish complete command lines", 1, 1, False, ()),
    "create": (
        "<container-id>",
        "create a container, ready to be started",
        1,
        1,
        False,
        (
            _BUNDLE,
            _CONFIG,
            _SOCKET,
            _PIDFD,
            _PID_FILE,
            _NO_PIVOT,
            _NO_KEYRING,
            _PRESERVE,
            ("dry-run", "", "flag", "", "print what would be done here, and change nothing", None),
            ("format", "", "str", "FORMAT", "of --dry-run: text or json", "text"),
            _SHOW_ENV,
            ("no-subreaper", "", "flag", "", "", None),
        ),
    ),
    "delete": (
        "<container-id>",
        "remove what a container holds",
        1,
        1,
        False,
        (("force", "f", "flag", "", "kill the container first if it still runs", None), _REGEX),
    ),
    "events": (
        "<container-id>",
        "print what happens to a container, and what it uses, as lines of JSON",
        1,
        1,
        False,
        (
            ("interval", "", "str", "DURATION", "time between two readings, such as 500ms or 1m30s", "5s"),
            ("stats", "", "flag", "", "print one reading and leave", None),
            ("full", "", "flag", "", "with counters that runc does not have", None),
        ),
    ),
    "exec": (
        "<container-id> [<command> [<argument>...]]",
        "run one more process in a container",
        1,
        -1,
        True,
        (
            _SOCKET,
            _PIDFD,
            ("cwd", "", "str", "DIR", "working directory in the container", None),
            ("env", "e", "repeat", "NAME=VALUE", "set an environment variable", None),
            ("tty", "t", "flag", "", "give the process a terminal", None),
            ("user", "u", "str", "UID[:GID]", "numbers of user and group", None),
            ("additional-gids", "g", "ints", "GID", "add a group", None),
            ("process", "p", "str", "FILE", "take the process from this JSON file", None),
            _DETACH,
            _PID_FILE,
            ("process-label", "", "str", "LABEL", "SELinux label of the process", None),
            ("apparmor", "", "str", "PROFILE", "AppArmor profile of the process", None),
            ("no-new-privs", "", "flag", "", "set no_new_privs", None),
            ("cap", "c", "repeat", "CAP", "add a capability", None),
            _PRESERVE,
            ("cgroup", "", "repeat", "[CTRL[,CTRL]:]PATH", "run in this sub-cgroup of the container", None),
            ("ignore-paused", "", "flag", "", "go ahead in a paused container", None),
            ("no-subreaper", "", "flag", "", "", None),
        ),
    ),
    "explain": (
        "[<bundle>]",
        "print what create would do for a bundle, without doing it",
        0,
        1,
        False,
        (
            _CONFIG,
            ("id", "", "str", "ID", "the container's id", None),
            ("format", "", "str", "FORMAT", "text or json", "text"),
            _SHOW_ENV,
            _NO_PIVOT,
        ),
    ),
    "features": ("", "print what this runtime can do, as JSON", 0, 0, False, ()),
    "info": (
        "",
        "show this runtime and this machine on one page",
        0,
        0,
        False,
        (("format", "", "str", "FORMAT", "text or json", "text"),),
    ),
    "kill": (
        "<container-id> [<signal>]",
        "send a signal (default: SIGTERM) to a container's init process",
        1,
        2,
        True,
        (("all", "a", "flag", "", "", None), _REGEX),
    ),
    "list": (
        "",
        "list the containers of a root directory",
        0,
        0,
        False,
        (
            ("format", "f", "str", "FORMAT", "table or json", "table"),
            ("quiet", "q", "flag", "", "print ids only", None),
        ),
    ),
    "pause": ("<container-id>", "freeze all processes of a container", 1, 1, False, ()),
    "ps": (
        "<container-id> [<ps-option>...]",
        "list the processes of a container",
        1,
        -1,
        True,
        (("format", "f", "str", "FORMAT", "table (of the host's ps) or json (process ids)", "table"),),
    ),
    "restore": (
        "<container-id>",
        "let a container go on from what checkpoint wrote",
        1,
        1,
        False,
        (
            _BUNDLE,
            ("image-path", "", "str", "DIR", "directory of the images (default: checkpoint)", None),
            _WORK_PATH,
            _SOCKET,
            _DETACH,
            _PID_FILE,
            ("no-subreaper", "", "flag", "", "do not adopt and reap the container's orphans", None),
            ("no-pivot", "", "flag", "", "", None),
            *_CRIU_BOTH,
            ("lsm-profile", "", "str", "TYPE:NAME", "profile of a security module, such as apparmor:NAME", None),
            ("lsm-mount-context", "", "str", "CONTEXT", "SELinux context of its mounts", None),
        ),
    ),
    "resume": ("<container-id>", "let the processes of a paused container go on", 1, 1, False, ()),
    "run": (
        "<container-id>",
        "create and start a container, and wait for it",
        1,
        1,
        False,
        (
            _BUNDLE,
            _CONFIG,
            _SOCKET,
            _PIDFD,
            _DETACH,
            ("keep", "", "flag", "", "do not delete the container when it has ended", None),
            _PID_FILE,
            ("no-subreaper", "", "flag", "", "do not adopt and reap the container's orphans", None),
            _NO_PIVOT,
            _NO_KEYRING,
            _PRESERVE,
        ),
    ),
    "spec": (
        "",
        "write a config.json to start from",
        0,
        0,
        False,
        (
            ("bundle", "b", "str", "DIR", "write it there (default: the current directory)", None),
            ("rootless", "", "flag", "", "for a container of a user who is not root", None),
        ),
    ),
    "start": ("<container-id>", "start the process of a created container", 1, 1, False, ()),
    "state": ("<container-id>", "print the state of a container as JSON", 1, 1, False, ()),
    "validate": (
        "[<bundle>]",
        "list every fault of a config.json, and what cannot be done here",
        0,
        1,
        False,
        (
            _CONFIG,
            ("strict", "", "flag", "", "properties that the specification does not have are faults", None),
            ("format", "", "str", "FORMAT", "text or json", "text"),
        ),
    ),
    "update": (
        "<container-id>",
        "change the limits of a container",
        1,
        1,
        False,
        (
            ("resources", "r", "str", "FILE", "take linux.resources from FILE, - for standard input; only them", None),
            ("blkio-weight", "", "int", "WEIGHT", "share of block I/O, 10 to 1000", None),
            ("cpu-period", "", "str", "MICROSECONDS", "period of --cpu-quota", None),
            ("cpu-quota", "", "str", "MICROSECONDS", "processor time in each period, -1 for no limit", None),
            ("cpu-burst", "", "str", "MICROSECONDS", "time saved up that may be used at once", None),
            ("cpu-share", "", "str", "SHARES", "share of processor time beside other containers", None),
            ("cpu-rt-period", "", "str", "MICROSECONDS", "period of --cpu-rt-runtime", None),
            ("cpu-rt-runtime", "", "str", "MICROSECONDS", "realtime in each period", None),
            ("cpu-idle", "", "str", "0|1", "1: run only when nothing else wants to", None),
            ("cpuset-cpus", "", "str", "LIST", "processors, such as 0-2,7", None),
            ("cpuset-mems", "", "str", "LIST", "memory nodes", None),
            ("kernel-memory", "", "str", "", "", None),
            ("kernel-memory-tcp", "", "str", "", "", None),
            ("memory", "", "str", "SIZE", "memory, such as 64M; -1 for no limit", None),
            ("memory-reservation", "", "str", "SIZE", "memory that is kept for it as far as possible", None),
            ("memory-swap", "", "str", "SIZE", "memory and swap together, -1 for no limit", None),
            ("memory-high", "", "str", "SIZE", "cgroup v2: slow down and reclaim above this", None),
            ("memory-min", "", "str", "SIZE", "cgroup v2: never reclaim below this", None),
            ("memory-oom-group", "", "str", "0|1", "cgroup v2: 1: lack of memory kills all processes or none", None),
            ("io-latency", "", "str", "MAJOR:MINOR=MICROSECONDS", "cgroup v2: aim at this latency", None),
            ("pids-limit", "", "int", "N", "number of processes, -1 for no limit", None),
            ("l3-cache-schema", "", "str", "SCHEMA", "Intel RDT: L3 cache", None),
            ("mem-bw-schema", "", "str", "SCHEMA", "Intel RDT: memory bandwidth", None),
        ),
    ),
    "wait": ("<container-id>", "wait for the end of a container, and print its exit status", 1, 1, False, ()),
}

LISTS = ("repeat", "ints")
NUMBERS = ("int", "ints")

COMPLETION = "_PYOCIRUN_COMPLETE"
"""Environment variable with which the shell's completion script, made by click, calls."""

BOOLEANS: dict[str, bool] = {
    **dict.fromkeys(("", "1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}
"""The values of `--flag=value`, as Go reads them; `--flag=` is `--flag`."""


def parse(argv: list[str]) -> Call | None:
    """What a well-formed command line asks for; None for anything else, help included: then `usage.understand` knows.

    argv: without the program's name.  `--version` is the command "version".
    """
    found = take_flags(GLOBAL, argv, subcommands=True)
    if found is None:
        return None
    global_flags, rest = found
    if global_flags["version"]:
        return Call(global_flags, "version", {}, [])
    if not rest or rest[0] not in COMMANDS:
        return None
    _, _, fewest, most, stops, options = COMMANDS[rest[0]]
    found = take_flags(options, rest[1:], stops=stops)
    if found is None:
        return None
    flags, args = found
    if len(args) < fewest or (most != -1 and len(args) > most):
        return None
    return Call(global_flags, rest[0], flags, args)


def take_flags(
    options: tuple[Option, ...], argv: list[str], *, stops: bool = False, subcommands: bool = False
) -> tuple[dict[str, Any], list[str]] | None:
    """The values of `options` and the arguments between and behind them; None if that is not all there is in `argv`.

    The grammar is the one that callers of runc know: -name is --name, short names do not cluster, and a token such
    as -9 ends the flags as `--` does, but stays.  subcommands: the first argument and all behind it are left alone.
    """
    known: dict[str, Option] = {}
    flags: dict[str, Any] = {}
    for option in options:
        name, short, kind, _, _, default = option
        known[name] = option
        if short:
            known[short] = option
        flags[name] = [] if kind in LISTS else False if kind == "flag" else default
    args: list[str] = []
    index = 0
    while index < len(argv):
        token = argv[index]
        index += 1
        if token == "--":
            return flags, args + argv[index:]
        if (stops and args) or (token[:1] == "-" != token and token[1] != "-" and not token[1].isalpha()):
            return flags, args + argv[index - 1 :]
        if token[:1] != "-" or token == "-":
            if subcommands:
                return flags, argv[index - 1 :]
            args.append(token)
            continue
        name, equals, value = token[2 if token[1] == "-" else 1 :].partition("=")
        if name not in known:
            return None
        name, _, kind, *_ = known[name]
        if kind == "flag":
            if value not in BOOLEANS:
                return None
            flags[name] = BOOLEANS[value]
            continue
        if not equals:
            if index == len(argv):
                return None
            value = argv[index]
            index += 1
        if kind == "repeat":
            flags[name].append(value)
        elif kind == "str":
            flags[name] = value
        elif not is_number(value):
            return None
        elif kind == "ints":
            flags[name].append(int(value))
        else:
            flags[name] = int(value)
    return flags, args


def is_number(text: str) -> bool:
    """Whether `text` is a whole number that fits 64 bits, in decimal digits."""
    digits = text[1:] if text[:1] in ("-", "+") else text
    return digits.isascii() and digits.isdigit() and len(digits) <= 18
