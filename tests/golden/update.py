"""Writes plan.txt of every golden case anew, to be read as a diff: python tests/golden/update.py"""

from __future__ import annotations

import sys
from pathlib import Path

# Plans take no C: the one that is written is the checkout's, also where an older pyocirun is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))


def main() -> None:
    """Write the plans."""
    from tests.support import golden_cases, golden_text

    for case in golden_cases():
        (case / "plan.txt").write_text(golden_text(case))
        print(case / "plan.txt")


if __name__ == "__main__":
    main()
