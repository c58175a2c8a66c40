"""What the installed command runs: puts the package's own directory on sys.path, and goes on in a compiled module.

With -I -S there is no site directory; this file knows where it lies, and so where the package and mostly cffi are.
"""

import sys

sys.path.insert(0, __file__.rpartition("/pyocirun/")[0])

from pyocirun.cli.elsewhere import look_elsewhere
from pyocirun.cli.main import entry

look_elsewhere(sys.path[0])
entry()
