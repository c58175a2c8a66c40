"""What csrc/ffi_build.py compiles; pyocirun/native.py gives its functions types."""

from typing import Any

ffi: Any
lib: Any
