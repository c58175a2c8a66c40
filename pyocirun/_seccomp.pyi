"""What csrc/seccomp_build.py compiles; pyocirun/libseccomp.py gives its functions types."""

from typing import Any

ffi: Any
lib: Any
