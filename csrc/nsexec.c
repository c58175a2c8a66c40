/*
 * nsexec.c - runs a plan, operation by operation, and ends in execve of the container's process.
 *
 *	nsexec BASE	BASE: number of the control socket; BASE + 1: the plan; from BASE + 2 on: the plan's descriptors
 *
 * It runs from a sealed copy in memory, without a C library, without allocation. Order, names, texts and looking
 * things up are Python's: what is decided here is only how one operation is done safely.
 */

#include <asm/signal.h>
#include <asm/stat.h>
#include <linux/close_range.h>
#include <linux/mman.h>
#include <linux/prctl.h>
#include <linux/time.h>

#include "run.h"

#define SIGNALS 64

void *memset(void *to, int value, size_t length);
void *memcpy(void *to, const void *from, size_t length);
_Noreturn void start(const long *stack);

/* The compiler may call these two. The first clears 28 KiB at the start of each run. */
void *memset(void *to, int value, size_t length)
{
#if defined(__x86_64__)
	void *t = to;

	__asm__ volatile("rep stosb" : "+D"(t), "+c"(length) : "a"(value) : "memory");
#else
	volatile unsigned char *t = to;

	for (size_t i = 0; i < length; i++)
		t[i] = (unsigned char)value;
#endif
	return to;
}

void *memcpy(void *to, const void *from, size_t length)
{
	volatile unsigned char *t = to;
	const unsigned char *f = from;

	for (size_t i = 0; i < length; i++)
		t[i] = f[i];
	return to;
}

static int (*const op_functions[OP_COUNT])(struct run *, struct cursor *) = {
#define OP(code, name, signature) op_##name,
	PLAN_OPS(OP)
#undef OP
};

static int parse_number(const char *text)
{
	int number = 0;

	if (!*text)
		return -1;
	for (; *text; text++) {
		if (*text < '0' || *text > '9' || number > 100000)
			return -1;
		number = number * 10 + (*text - '0');
	}
	return number;
}

/* Python ignores SIGPIPE and SIGXFSZ, and a caller may block signals: the container starts with a clean slate. */
static void reset_signals(void)
{
	struct {
		void *handler;
		unsigned long flags;
		void *restorer;
		unsigned long mask;
	} action = { NULL, 0, NULL, 0 };
	unsigned long mask = 0;

	for (int number = 1; number <= SIGNALS; number++)
		sys4(__NR_rt_sigaction, number, &action, NULL, sizeof(mask));
	sys4(__NR_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(mask));
}

static int map_plan(struct run *r, int fd, uint32_t *bad)
{
	struct stat about;
	long base;

	if (sys2(__NR_fstat, fd, &about) < 0 || about.st_size <= 0 ||
	    about.st_size > PLAN_MAX_BYTES)
		return -EPROTO;
	base = sys6(__NR_mmap, 0, (long)about.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	sys1(__NR_close, fd);
	if (base < 0 && base > -4096)
		return (int)base;
	return plan_check((void *)base, (size_t)about.st_size, &r->plan, bad);
}

/* Whatever else the caller had open is not for the container; what nsexec needs closes at execve. */
static int adopt_fds(struct run *r)
{
	uint32_t count = r->plan.header.fd_count;
	int first = r->first_fd;
	int error;

	if (first != 3 + (int)r->plan.header.preserve_fds)
		return -EPROTO;
	error = sys3(NR_CLOSE_RANGE, first + 2 + (int)count, ~0U, 0);
	if (!error)
		error = sys3(NR_CLOSE_RANGE, first, ~0U, CLOSE_RANGE_CLOEXEC);
	if (error)
		return error;
	for (uint32_t i = 0; i < count; i++)
		r->slots[r->slot_count++] = first + 2 + (int)i;
	return 0;
}

static void map_stamps(struct run *r)
{
	uint32_t slot = r->plan.header.stamps_slot;
	long base;

	if (slot == UINT32_MAX)
		return;
	base = sys6(__NR_mmap, 0, PLAN_MAX_OPS * 8, PROT_READ | PROT_WRITE, MAP_SHARED,
		    r->slots[slot], 0);
	if (base > 0 || base < -4096)
		r->stamps = (uint64_t *)base;
}

static void stamp(struct run *r)
{
	struct k_timespec now;

	if (!r->stamps)
		return;
	sys2(__NR_clock_gettime, 1 /* CLOCK_MONOTONIC */, &now);
	r->stamps[r->op->index] = (uint64_t)now.seconds * 1000000000U + (uint64_t)now.nanoseconds;
}

static void run_plan(struct run *r)
{
	for (uint32_t i = 0; i < r->plan.header.op_count; i++) {
		struct cursor fields;
		int error;

		r->op = &r->plan.ops[i];
		r->step = STEP_NONE;
		fields.word = (const uint64_t *)(const void *)(r->plan.base + r->op->fields);
		stamp(r);
		error = op_functions[r->op->code](r, &fields);
		if (error < 0)
			fail(r, r->op->index, error);
	}
}

void start(const long *stack)
{
	struct run run = { .socket = -1,
			   .report = -1,
			   .gate = -1,
			   .root = -1,
			   .null = -1,
			   .proc = -1,
			   .ruleset = -1,
			   .covered = -1,
			   .tree = -1,
			   .place = -1,
			   .state_fd = -1,
			   .agent = -1,
			   .agent_state = -1 };
	struct run *r = &run;
	const char *const *argv = (const char *const *)(stack + 1);
	uint32_t bad = UINT32_MAX;
	int error;

	if (stack[0] != 2 || parse_number(argv[1]) < 3)
		leave(125);
	r->first_fd = parse_number(argv[1]);
	r->socket = r->first_fd;
	reset_signals();
	r->umask = sys1(__NR_umask, 0);
	error = map_plan(r, r->first_fd + 1, &bad);
	if (!error)
		error = adopt_fds(r);
	if (!error)
		error = watch_parent_death(r);
	r->step = STEP_PLAN;
	if (error)
		fail(r, bad, error);
	map_stamps(r);
	run_plan(r);
	leave(0);
}

#if defined(__x86_64__)
__asm__(".global _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall "
	"start\n\thlt\n");
#elif defined(__aarch64__)
__asm__(".global _start\n_start:\n\tmov x29, #0\n\tmov x30, #0\n\tmov x0, sp\n\tb start\n");
#endif
