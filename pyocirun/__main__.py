"""`python -m pyocirun` is the command `pyocirun`."""

from __future__ import annotations

from pyocirun.cli.main import entry

if __name__ == "__main__":
    entry()
