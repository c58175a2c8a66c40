"""Makes tests/support.py importable as tests.support, and keeps hypothesis from measuring a machine that is busy.

The checkout goes to the end of the path: the package under test is the installed one, which has its C parts.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
sys.path.append(str(Path(__file__).resolve().parent.parent))
