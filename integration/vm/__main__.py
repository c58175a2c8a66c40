"""Runs things in the guest: see image.py and machine.py.

python -m integration.vm build                    make the image, if it is missing or out of date
python -m integration.vm run [--user] COMMAND...  run a command there; its output and exit status come back
python -m integration.vm test [--user] [ARGS...]  run pytest there on integration/scenarios, or what ARGS say
python -m integration.vm test --part 2/4          the second of four parts of all scenarios
"""

from __future__ import annotations

import argparse
import os
import signal
import sys

from integration.vm import image, machine

KNOBS = ("PYOCIRUN_KILL_ROUNDS", "PYOCIRUN_PATIENCE", "PYOCIRUN_RACE_SECONDS")
"""Variables that go into the guest as they are here; see CONTRIBUTING.md."""


def main() -> int:
    args = _parser().parse_args()
    if lacking := image.missing():
        must = os.environ.get("PYOCIRUN_MUST_WORK") == "1"
        text = "" if must else "Skipped: "
        print(f"{text}the virtual machine needs {', '.join(lacking)}: see integration/prepare.sh vm", file=sys.stderr)
        return int(must)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was begun is cleaned up
    if args.verb == "build":
        print(image.build(force=args.force))
        print(image.install())
        return 0
    command = args.command[args.command[:1] == ["--"] :]
    if args.verb == "test":
        command = [*pytest(), *(command or part(args.part))]
    env = {"RUNTIME": args.runtime} | {name: os.environ[name] for name in KNOBS if name in os.environ}
    try:
        return machine.run(
            command, user=args.user, timeout=args.timeout, append=args.append, env=env, engines=args.engines
        )
    except machine.VMError as error:
        print(error, file=sys.stderr)
        return error.status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    build = verbs.add_parser("build")
    build.add_argument("--force", action="store_true", help="even if the image is up to date")
    for verb in (verbs.add_parser("run"), verbs.add_parser("test")):
        verb.add_argument("--engines", action="store_true", help="in the larger guest, that has docker and more")
        verb.add_argument("--user", action="store_true", help="as an ordinary user with a systemd session")
        verb.add_argument("--timeout", type=float, default=3600, metavar="SECONDS", help="the boot included")
        verb.add_argument("--runtime", default="/usr/bin/pyocirun", help="what RUNTIME is there")
        verb.add_argument("--append", default="", help="more words for the kernel's command line")
        verb.add_argument("--part", default="1/1", metavar="N/ALL", help="this part of all scenarios")
        verb.add_argument("command", nargs=argparse.REMAINDER)
    return parser


def part(text: str) -> list[str]:
    """The files of one part of all scenarios, relative to the checkout. text: "2/4" for the second of four.

    A file's length tells roughly how long it takes: the longest go to the parts in turn.
    """
    number, _, parts = text.partition("/")
    scenarios = image.CHECKOUT / "integration/scenarios"
    files = sorted(scenarios.glob("test_*.py"), key=lambda path: (-path.stat().st_size, path.name))
    return sorted(str(path.relative_to(image.CHECKOUT)) for path in files[int(number) - 1 :: int(parts)])


def pytest() -> list[str]:
    """The command that runs tests in the guest. -P: `import pyocirun` finds what is installed, not the checkout."""
    left_out = ("cacheprovider", "hypothesispytest")  # what is not needed takes seconds to be imported there
    return ["python3", "-P", "-m", "pytest", "-q", *(f"-pno:{name}" for name in left_out), "--rootdir=/mnt/checkout"]


if __name__ == "__main__":
    sys.exit(main())
