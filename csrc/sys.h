/*
 * sys.h - system calls without a C library.
 *
 * nsexec links nothing: it is small (a waiting init costs little memory), it has no hidden state such as locale,
 * atexit handlers or thread descriptors, and every call returns -errno. Kernel structures come from the kernel's own
 * headers; the few that those lack are declared here with the prefix k_.
 */
#ifndef PYOCIRUN_SYS_H
#define PYOCIRUN_SYS_H

#include <asm/unistd.h>
#include <linux/types.h>
#include <stddef.h>
#include <stdint.h>

#define NR_OPEN_TREE 428
#define NR_MOVE_MOUNT 429
#define NR_FSOPEN 430
#define NR_FSCONFIG 431
#define NR_FSMOUNT 432
#define NR_CLONE3 435
#define NR_CLOSE_RANGE 436
#define NR_OPENAT2 437
#define NR_MOUNT_SETATTR 442
#define NR_LANDLOCK_CREATE_RULESET 444
#define NR_LANDLOCK_ADD_RULE 445
#define NR_LANDLOCK_RESTRICT_SELF 446

#define PATH_MAX_BYTES 4096

struct k_iovec {
	void *base;
	size_t length;
};

struct k_msghdr {
	void *name;
	int name_length;
	struct k_iovec *iov;
	size_t iov_length;
	void *control;
	size_t control_length;
	unsigned int flags;
};

struct k_cmsghdr {
	size_t length;
	int level;
	int type;
};

struct k_pollfd {
	int fd;
	short events;
	short revents;
};

struct k_timespec {
	int64_t seconds;
	int64_t nanoseconds;
};

struct k_mount_attr {
	uint64_t set;
	uint64_t clear;
	uint64_t propagation;
	uint64_t userns_fd;
};

struct k_open_how {
	uint64_t flags;
	uint64_t mode;
	uint64_t resolve;
};

struct k_clone_args {
	uint64_t flags;
	uint64_t pidfd;
	uint64_t child_tid;
	uint64_t parent_tid;
	uint64_t exit_signal;
	uint64_t stack;
	uint64_t stack_size;
	uint64_t tls;
	uint64_t set_tid;
	uint64_t set_tid_size;
	uint64_t cgroup;
};

#if defined(__x86_64__)
static inline long sys6(long number, long a, long b, long c, long d, long e, long f)
{
	long result;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}
#elif defined(__aarch64__)
static inline long sys6(long number, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc 0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
}
#else
#error "pyocirun runs on x86_64 and aarch64"
#endif

/* An int, since all that is called here returns 0, a small number or -errno. Its result may be ignored. */
static inline int sys_int(long number, long a, long b, long c, long d, long e)
{
	return (int)sys6(number, a, b, c, d, e, 0);
}

#define SYS_ARG(value) ((long)(value))
#define sys0(n) sys_int(n, 0, 0, 0, 0, 0)
#define sys1(n, a) sys_int(n, SYS_ARG(a), 0, 0, 0, 0)
#define sys2(n, a, b) sys_int(n, SYS_ARG(a), SYS_ARG(b), 0, 0, 0)
#define sys3(n, a, b, c) sys_int(n, SYS_ARG(a), SYS_ARG(b), SYS_ARG(c), 0, 0)
#define sys4(n, a, b, c, d) sys_int(n, SYS_ARG(a), SYS_ARG(b), SYS_ARG(c), SYS_ARG(d), 0)
#define sys5(n, a, b, c, d, e) \
	sys_int(n, SYS_ARG(a), SYS_ARG(b), SYS_ARG(c), SYS_ARG(d), SYS_ARG(e))

static inline void close_fd(const int *fd)
{
	if (*fd >= 0)
		sys1(__NR_close, *fd);
}

/* A descriptor that is closed when it goes out of scope. */
#define auto_fd int __attribute__((cleanup(close_fd)))

/* Hands a descriptor out of the scope of its auto_fd. */
static inline int keep_fd(int *fd)
{
	int kept = *fd;

	*fd = -1;
	return kept;
}

static inline size_t text_length(const char *text)
{
	size_t length = 0;

	while (text[length])
		length++;
	return length;
}

static inline int text_equal(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

static inline int text_starts(const char *text, const char *start)
{
	while (*start && *text == *start) {
		text++;
		start++;
	}
	return !*start;
}

static inline void copy_bytes(void *to, const void *from, size_t length)
{
	unsigned char *t = to;
	const unsigned char *f = from;

	for (size_t i = 0; i < length; i++)
		t[i] = f[i];
}

#endif
