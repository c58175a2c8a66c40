"""Where the system keeps Python packages: for what this package needs, if pip left it there.

The command runs without `site`, and looks for modules beside its own package and in the standard library. pip does not
put there what the system has already: Debian's packages lie in another directory than what pip installs.
"""

from __future__ import annotations

import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

_MOST = 4096


def look_elsewhere(site: str) -> None:
    """From now on a module that is found nowhere is looked for in `directories(site)` too."""
    sys.meta_path.append(_Elsewhere(site))


def directories(site: str) -> list[str]:
    """Other than `site`, which this package lies in; none for a virtual environment that is closed to them."""
    try:
        sites = __import__("pyocirun._build_info", fromlist=("SITES",)).SITES
    except ImportError:
        return []
    prefix = site.rpartition("/lib/")[0]
    if "include-system-site-packages=false" in _read(prefix + "/pyvenv.cfg").replace(" ", ""):
        return []
    return [directory for directory in sites if directory != site]


class _Elsewhere:
    """The last finder. Adds the directories to sys.path when it is asked for the first time, and has them searched."""

    def __init__(self, site: str) -> None:
        self._site = site

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if path is not None:
            return None
        if self._site:
            sys.path += directories(self._site)
            self._site = ""
        specs = (finder.find_spec(name, None) for finder in sys.meta_path if not isinstance(finder, _Elsewhere))
        return next((spec for spec in specs if spec is not None), None)


def _read(path: str) -> str:
    """The beginning of a file, "" if it cannot be had."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return posix.read(fd, _MOST).decode(errors="replace")
    finally:
        posix.close(fd)
