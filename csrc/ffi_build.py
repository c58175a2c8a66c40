"""Builds pyocirun._native with cffi in API mode, from native.h, native.c and wire.c."""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent


def declarations() -> str:
    """What native.h declares between its two marks."""
    text = (HERE / "native.h").read_text()
    return text.split("/* cffi: begin */")[1].split("/* cffi: end */")[0]


ffibuilder = FFI()
ffibuilder.cdef(declarations())
ffibuilder.set_source(
    "pyocirun._native",
    '#include "native.h"',
    sources=["csrc/native.c", "csrc/wire.c"],
    include_dirs=["csrc"],
    depends=["csrc/clone.h", "csrc/native.h", "csrc/plan.h"],
    extra_compile_args=["-std=gnu17", "-O2"],
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
