"""Signals: names and numbers on x86_64 and aarch64 (signal(7)), without importing signal, which imports enum."""

from __future__ import annotations

from pyocirun.errors import UsageError

RTMIN = 34
"""First real-time signal for programs: glibc and musl keep 32 and 33 (and musl 34) to themselves."""
RTMAX = 64

SIGNALS: dict[str, int] = {
    "SIGHUP": 1,
    "SIGINT": 2,
    "SIGQUIT": 3,
    "SIGILL": 4,
    "SIGTRAP": 5,
    "SIGABRT": 6,
    "SIGIOT": 6,
    "SIGBUS": 7,
    "SIGFPE": 8,
    "SIGKILL": 9,
    "SIGUSR1": 10,
    "SIGSEGV": 11,
    "SIGUSR2": 12,
    "SIGPIPE": 13,
    "SIGALRM": 14,
    "SIGTERM": 15,
    "SIGSTKFLT": 16,
    "SIGCHLD": 17,
    "SIGCLD": 17,
    "SIGCONT": 18,
    "SIGSTOP": 19,
    "SIGTSTP": 20,
    "SIGTTIN": 21,
    "SIGTTOU": 22,
    "SIGURG": 23,
    "SIGXCPU": 24,
    "SIGXFSZ": 25,
    "SIGVTALRM": 26,
    "SIGPROF": 27,
    "SIGWINCH": 28,
    "SIGIO": 29,
    "SIGPOLL": 29,
    "SIGPWR": 30,
    "SIGSYS": 31,
    "SIGUNUSED": 31,
}


def signal_number(text: str) -> int:
    """The number of a signal given as number ("9"), name ("KILL", "sigkill") or real-time name ("RTMIN+2", "RTMAX-1").

    Numbers from 0 (which only asks whether a process is there) to 64 are taken. Raises UsageError for anything else.
    """
    if text.isascii() and text.isdigit():
        number = int(text) if len(text) <= 4 else RTMAX + 1
    else:
        name = text.upper()
        number = _by_name(name if name.startswith("SIG") else "SIG" + name)
    if not 0 <= number <= RTMAX:
        raise UsageError(f'unknown signal "{text}"')
    return number


def signal_name(number: int) -> str:
    """The name of a signal's number: 9 -> "SIGKILL", 36 -> "SIGRTMIN+2"; a number without a name as itself."""
    for name, known in SIGNALS.items():
        if known == number:
            return name
    if number == RTMIN:
        return "SIGRTMIN"
    if number == RTMAX:
        return "SIGRTMAX"
    if RTMIN < number < RTMAX:
        return f"SIGRTMIN+{number - RTMIN}"
    return str(number)


def _by_name(name: str) -> int:
    """The number of an upper-case name with its SIG, -1 if there is none."""
    if name in SIGNALS:
        return SIGNALS[name]
    for base, start, sign in (("SIGRTMIN", RTMIN, 1), ("SIGRTMAX", RTMAX, -1)):
        if name == base:
            return start
        distance = name.removeprefix(base + ("+" if sign > 0 else "-"))
        if distance != name and distance.isascii() and distance.isdigit() and len(distance) <= 2:
            number = start + sign * int(distance)
            return number if RTMIN <= number <= RTMAX else -1
    return -1
