"""Builds pyocirun._seccomp with cffi in API mode: the few calls of libseccomp that make a filter."""

from __future__ import annotations

from cffi import FFI

ffibuilder = FFI()
ffibuilder.cdef(
    """
    struct scmp_version { unsigned int major; unsigned int minor; unsigned int micro; };
    struct scmp_arg_cmp { unsigned int arg; int op; uint64_t datum_a; uint64_t datum_b; };

    const struct scmp_version *seccomp_version(void);
    void *seccomp_init(uint32_t def_action);
    void seccomp_release(void *ctx);
    int seccomp_attr_set(void *ctx, int attr, uint32_t value);
    uint32_t seccomp_arch_resolve_name(const char *arch_name);
    uint32_t seccomp_arch_native(void);
    int seccomp_arch_add(void *ctx, uint32_t arch_token);
    int seccomp_syscall_resolve_name(const char *name);
    int seccomp_syscall_resolve_name_arch(uint32_t arch_token, const char *name);
    int seccomp_rule_add_array(void *ctx, uint32_t action, int syscall, unsigned int arg_cnt,
                               const struct scmp_arg_cmp *arg_array);
    int seccomp_export_bpf(void *ctx, int fd);
    """
)
# Attributes and operators are enums there: declared as int, C converts them.
ffibuilder.set_source(
    "pyocirun._seccomp",
    "#include <seccomp.h>",
    libraries=["seccomp"],
    extra_compile_args=["-std=gnu17", "-O2"],
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
