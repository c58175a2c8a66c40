/*
 * plan.h - the plan as nsexec reads it: what Python encodes, byte by byte.
 *
 *	header | operations | fields | strings
 *
 * All numbers are little-endian 64-bit words unless the struct says otherwise, everything but the strings is aligned
 * to 8 bytes, all offsets count from the start of the plan. The plan lies in a sealed memfd; nsexec maps it
 * privately, checks all of it, and turns offsets into pointers in place.
 *
 * The table below is the one source of codes, names and signatures: nsexec, the cffi module and, by a test,
 * pyocirun/plan/ops.py read it. Signature letters:
 *	s	offset of a string, which ends in a NUL byte inside the plan
 *	u	a number
 *	n	offset of a list of numbers: a count, then that many words
 *	a	offset of a list of strings: a count, then that many offsets, then a word 0
 */
#ifndef PYOCIRUN_PLAN_H
#define PYOCIRUN_PLAN_H

#include <stddef.h>
#include <stdint.h>

#define PLAN_MAGIC 0x31306e75726f6379ULL /* "ycorun01" */
#define PLAN_MAX_BYTES (8U << 20)
#define PLAN_MAX_OPS 4096
#define PLAN_MAX_FDS 240
#define NO_FD UINT64_MAX

/*  op		name		signature */
#define PLAN_OPS(OP)                                \
	OP(CLONE, clone, "u")                       \
	OP(SYNC, sync, "u")                         \
	OP(JOIN, join, "uu")                        \
	OP(UNSHARE, unshare, "u")                   \
	OP(FORK, fork, "u")                         \
	OP(BECOME_ROOT, become_root, "u")           \
	OP(OOM_SCORE_ADJ, oom_score_adj, "s")       \
	OP(UNDUMPABLE, undumpable, "")              \
	OP(SESSION, session, "")                    \
	OP(KEYRING, keyring, "s")                   \
	OP(JOIN_CGROUP, join_cgroup, "nu")          \
	OP(LOOPBACK, loopback, "")                  \
	OP(PROPAGATION, propagation, "su")          \
	OP(ROOTFS, rootfs, "su")                    \
	OP(MOUNT, mount, "sssusnuuu")               \
	OP(BIND, bind, "ssuuuuunu")                 \
	OP(ATTRIBUTES, attributes, "suunu")         \
	OP(NODE, node, "suuuu")                     \
	OP(SYMLINK, symlink, "ssu")                 \
	OP(SYSCTL, sysctl, "ss")                    \
	OP(PIVOT_ROOT, pivot_root, "")              \
	OP(MOVE_ROOT, move_root, "")                \
	OP(CHROOT, chroot, "s")                     \
	OP(ENTER_ROOT, enter_root, "u")             \
	OP(ROOT_PROPAGATION, root_propagation, "u") \
	OP(REOPEN_NULL, reopen_null, "")            \
	OP(MASK_PATH, mask_path, "s")               \
	OP(READONLY_PATH, readonly_path, "s")       \
	OP(HOSTNAME, hostname, "s")                 \
	OP(DOMAINNAME, domainname, "s")             \
	OP(UMASK, umask, "u")                       \
	OP(HOME, home, "")                          \
	OP(MAKE_CWD, make_cwd, "s")                 \
	OP(STDIO_OWNER, stdio_owner, "u")           \
	OP(NO_NEW_PRIVS, no_new_privs, "")          \
	OP(BOUNDING, bounding, "u")                 \
	OP(USER, user, "uunu")                      \
	OP(CAPABILITIES, capabilities, "uuu")       \
	OP(AMBIENT, ambient, "u")                   \
	OP(CWD, cwd, "su")                          \
	OP(RLIMIT, rlimit, "uuu")                   \
	OP(RESOLVE, resolve, "ss")                  \
	OP(HOOK, hook, "saauuuu")                   \
	OP(EXEC, exec, "aa")                        \
	OP(FINISH, finish, "")                      \
	OP(AFFINITY, affinity, "nu")                \
	OP(SCHEDULER, scheduler, "uuuuuuu")         \
	OP(IO_PRIORITY, io_priority, "u")           \
	OP(PERSONALITY, personality, "u")           \
	OP(MEMORY_POLICY, memory_policy, "un")      \
	OP(PRIVATE_PROC, private_proc, "")          \
	OP(ATTRIBUTE, attribute, "sss")             \
	OP(SECCOMP, seccomp, "nu")                  \
	OP(TERMINAL, terminal, "uuu")               \
	OP(ATTACH, attach, "uuun")                  \
	OP(REMOUNT, remount, "sus")                 \
	OP(RELABEL, relabel, "ss")                  \
	OP(HOLD_TREE, hold_tree, "su")              \
	OP(PASS, pass, "u")                         \
	OP(RULESET, ruleset, "uuu")                 \
	OP(ALLOW_PATH, allow_path, "suu")           \
	OP(ALLOW_PORT, allow_port, "uu")            \
	OP(RESTRICT, restrict, "")

enum op_code {
#define OP(code, name, signature) OP_##code,
	PLAN_OPS(OP)
#undef OP
		OP_COUNT
};

/* What failed inside an operation. Names go to Python through the cffi module. */
#define PLAN_STEPS(STEP)                       \
	STEP(NONE, "")                         \
	STEP(PLAN, "plan")                     \
	STEP(PROTOCOL, "protocol")             \
	STEP(OPEN, "open")                     \
	STEP(CREATE, "create")                 \
	STEP(MKDIR, "mkdir")                   \
	STEP(STAT, "stat")                     \
	STEP(MOUNT, "mount")                   \
	STEP(OPEN_TREE, "open_tree")           \
	STEP(MOVE_MOUNT, "move_mount")         \
	STEP(MOUNT_SETATTR, "mount_setattr")   \
	STEP(PIVOT_ROOT, "pivot_root")         \
	STEP(UMOUNT, "umount2")                \
	STEP(CHROOT, "chroot")                 \
	STEP(CHDIR, "chdir")                   \
	STEP(GETCWD, "getcwd")                 \
	STEP(MKNOD, "mknod")                   \
	STEP(SYMLINK, "symlink")               \
	STEP(CHOWN, "chown")                   \
	STEP(CHMOD, "chmod")                   \
	STEP(WRITE, "write")                   \
	STEP(READ, "read")                     \
	STEP(SETNS, "setns")                   \
	STEP(UNSHARE, "unshare")               \
	STEP(CLONE, "clone3")                  \
	STEP(SETGROUPS, "setgroups")           \
	STEP(SETGID, "setresgid")              \
	STEP(SETUID, "setresuid")              \
	STEP(CAPGET, "capget")                 \
	STEP(CAPSET, "capset")                 \
	STEP(PRCTL, "prctl")                   \
	STEP(PRLIMIT, "prlimit")               \
	STEP(SETSID, "setsid")                 \
	STEP(KEYCTL, "keyctl")                 \
	STEP(IOCTL, "ioctl")                   \
	STEP(SOCKET, "socket")                 \
	STEP(SETHOSTNAME, "sethostname")       \
	STEP(SETDOMAINNAME, "setdomainname")   \
	STEP(EXECVE, "execve")                 \
	STEP(ACCESS, "access")                 \
	STEP(LOOKUP, "lookup")                 \
	STEP(VERIFY, "verify")                 \
	STEP(WAIT, "wait")                     \
	STEP(TIMEOUT, "timeout")               \
	STEP(FSTYPE, "statfs")                 \
	STEP(GRANT, "grant")                   \
	STEP(SETAFFINITY, "sched_setaffinity") \
	STEP(SETATTR, "sched_setattr")         \
	STEP(IOPRIO, "ioprio_set")             \
	STEP(PERSONALITY, "personality")       \
	STEP(MEMPOLICY, "set_mempolicy")       \
	STEP(SECCOMP, "seccomp")               \
	STEP(MMAP, "mmap")                     \
	STEP(SENDMSG, "sendmsg")               \
	STEP(SETXATTR, "fsetxattr")            \
	STEP(RULESET, "create_ruleset")        \
	STEP(RULE, "add_rule")                 \
	STEP(RESTRICT, "restrict_self")

enum step {
#define STEP(code, name) STEP_##code,
	PLAN_STEPS(STEP)
#undef STEP
		STEP_COUNT
};

/* Bits of the last field of mount, bind and attributes, and of the first of home, symlink, cwd. */
#define TARGET_PLAIN_DIRECTORY \
	1U /* no symbolic link on the way to the target (procfs, sysfs, devices) */
#define BIND_RECURSIVE 2U
#define ATTR_RECURSIVE 4U
#define BIND_OPTIONAL 8U
#define MOUNT_COPY_MODE 16U /* tmpfs: the mode of the directory that it covers, if there was one */
#define BIND_PROC_ONLY \
	32U /* the source must be a procfs: anything else there would fake it (CVE-2019-16884) */
#define SYMLINK_REPLACE 1U
#define CWD_TOLERANT 1U
#define CWD_OF_HOST 2U
#define USER_KEEP_GROUPS 1U
#define USER_KEEP_IF_DENIED 2U
#define JOIN_ATTEMPT (1ULL << 63)
#define CGROUP_OPTIONAL 1U
#define HOOK_IN_ROOT 1U
#define HOOK_HAS_PROCESS_ENV 2U /* HOME in it is what was looked up */
#define HOOK_UNDER_FILTER 4U    /* the one that the seccomp operation of this plan loads */
#define AFFINITY_OPTIONAL 1U
#define TERMINAL_IS_CONSOLE 1U
#define TARGET_IN_PROC 64U /* the target may be one of the files of procfs that may be covered */
#define BIND_LOCKED 128U   /* what the source's mount forbids may not be allowed again */
#define MOUNT_COPY_UP 256U /* keep the mount and its place: they are filled and attached later */
#define MOUNT_OR_ELSE \
	512U /* if the kernel does not permit it, the bind that follows takes its place */
#define BIND_INSTEAD 1024U /* only if the mount before it was not permitted */
#define BIND_INSIDE 2048U  /* the source is a path in the container's root */
#define BIND_HELD 4096U    /* the source is what hold_tree opened */
#define RULE_OPTIONAL 1U

struct plan_header {
	uint64_t magic;
	uint32_t size; /* of the whole plan, in bytes */
	uint32_t op_count;
	uint32_t fd_count;     /* descriptors handed over at launch, after socket and plan */
	uint32_t preserve_fds; /* descriptors from 3 on that the container keeps */
	uint32_t gate_slot;    /* which of them is the gate, and the report; UINT32_MAX: none */
	uint32_t report_slot;
	uint32_t stamps_slot; /* shared page for the start times of operations; UINT32_MAX: none */
	uint32_t reserved;
};

struct plan_op {
	uint16_t code;
	uint16_t index;  /* in the plan that a person sees: Python's own operations count too */
	uint32_t fields; /* offset of the fields, one word each */
};

struct plan {
	struct plan_header header;
	const struct plan_op *ops;
	unsigned char *base;
};

struct op_type {
	const char *name;
	const char *signature;
};

extern const struct op_type op_types[OP_COUNT];
extern const char *const step_names[STEP_COUNT];

/*
 * Checks a whole plan and turns its offsets into pointers. base: 8-byte aligned and writable.
 * Returns 0, or -EPROTO with *bad set to the number of the operation in question (UINT32_MAX: none).
 */
int plan_check(void *base, size_t size, struct plan *plan, uint32_t *bad);

#endif
