"""Makes tests/support.py importable as tests.support.

The checkout goes to the end of the path: the package under test is the installed one, which has its C parts.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))
