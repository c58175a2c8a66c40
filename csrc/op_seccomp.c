/*
 * op_seccomp.c - the seccomp filter, the last thing before execve.
 *
 * A filter may refuse every system call that nsexec could make, so once it is loaded nothing is called but execve. The
 * descriptor by which an agent answers system calls exists only then; a thread sends it that was made before: a filter
 * holds for the thread that loads it.
 */

#include <asm/signal.h>
#include <asm/stat.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/mman.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/time.h>

#include "clone.h"
#include "run.h"

#define SOL_SOCKET_LEVEL 1
#define SCM_RIGHTS_TYPE 1
#define NO_SIGNAL 0x4000
#define SENDER_STACK 8192
#define NOT_YET INT32_MIN
#define WITH_AGENT \
	((uint64_t)(SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV))
#define A_MOMENT 20000 /* ns */

struct sender {
	struct run *r;
	const char *state;
	size_t size;
	int32_t listener; /* descriptor, or -errno, or NOT_YET */
	uint32_t thread;  /* its number; the kernel makes it 0 once the thread has ended */
	unsigned char stack[SENDER_STACK] __attribute__((aligned(16)));
};

/* The descriptor goes along with the first bytes, and with none of the others. */
static int send_listener(const struct sender *s)
{
	struct {
		struct k_cmsghdr header;
		int fd;
		int padding;
	} control = { { sizeof(struct k_cmsghdr) + sizeof(int), SOL_SOCKET_LEVEL, SCM_RIGHTS_TYPE },
		      s->listener,
		      0 };
	size_t done = 0;

	while (done < s->size) {
		struct k_iovec part = { (void *)(uintptr_t)(s->state + done), s->size - done };
		struct k_msghdr message = { .iov = &part, .iov_length = 1 };
		int sent;

		if (!done) {
			message.control = &control;
			message.control_length = sizeof(control);
		}
		sent = sys3(__NR_sendmsg, s->r->agent, &message, NO_SIGNAL);
		if (sent < 0 && sent != -EINTR)
			return sent;
		done += sent > 0 ? (size_t)sent : 0;
	}
	return 0;
}

/*
 * The thread. It is outside the filter, so it can report what fails, and end the process with it. The descriptors that
 * it closes are nsexec's too: the agent sees the end of what it is told, and is the only one who could answer.
 */
static int sender(void *argument)
{
	struct sender *s = argument;
	struct k_timespec moment = { 0, A_MOMENT };
	int error = 0;

	while (__atomic_load_n(&s->listener, __ATOMIC_ACQUIRE) == NOT_YET)
		sys2(__NR_nanosleep, &moment, NULL);
	if (s->listener >= 0)
		error = at(s->r, STEP_SENDMSG, send_listener(s));
	if (error)
		fail(s->r, s->r->op->index, error);
	close_fd(&s->listener);
	close_fd(&s->r->agent);
	close_fd(&s->r->agent_state);
	for (;;)
		sys1(__NR_exit, 0);
}

static int start_sender(struct sender *s)
{
	struct k_clone_args clone = {
		.flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_SYSVSEM |
			 CLONE_THREAD | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID,
		.parent_tid = (uint64_t)(uintptr_t)&s->thread,
		.child_tid = (uint64_t)(uintptr_t)&s->thread,
		.stack = (uint64_t)(uintptr_t)s->stack,
		.stack_size = sizeof(s->stack),
	};
	long thread = clone3_run(&clone, sizeof(clone), sender, s);

	return thread < 0 ? (int)thread : 0;
}

static int map_state(struct run *r, struct sender *s)
{
	struct stat about;
	int error = at(r, STEP_STAT, sys2(__NR_fstat, r->agent_state, &about));
	long base;

	if (error)
		return error;
	base = sys6(__NR_mmap, 0, about.st_size, PROT_READ, MAP_PRIVATE, r->agent_state, 0);
	if (base < 0 && base > -4096)
		return at(r, STEP_MMAP, (int)base);
	s->state = (const char *)base;
	s->size = (size_t)about.st_size;
	return 0;
}

/*
 * Waits for the sender's end without a system call: the filter holds here already. The process that comes next never
 * meets the thread, which has no filter.
 */
static int load_with_agent(struct run *r, uint64_t flags, const struct sock_fprog *program)
{
	struct sender s = { .r = r, .listener = NOT_YET };
	int error = r->agent < 0 ? at(r, STEP_PROTOCOL, -EPROTO) : map_state(r, &s);
	int listener;

	if (!error)
		error = at(r, STEP_CLONE, start_sender(&s));
	if (error)
		return error;
	listener = sys3(__NR_seccomp, SECCOMP_SET_MODE_FILTER, flags, program);
	__atomic_store_n(&s.listener, listener, __ATOMIC_RELEASE);
	while (__atomic_load_n(&s.thread, __ATOMIC_ACQUIRE))
		__asm__ volatile("" ::: "memory");
	return listener < 0 ? at(r, STEP_SECCOMP, listener) : 0;
}

static struct sock_fprog program_of(const uint64_t *list)
{
	return (struct sock_fprog){ (unsigned short)list[0],
				    (struct sock_filter *)(uintptr_t)(list + 1) };
}

/*
 * Puts a hook under the filter of the process that comes after it. There is no agent yet: what it would be asked for gets
 * ENOSYS.
 */
int filter_hook(struct run *r)
{
	const struct plan_op *end = r->plan.ops + r->plan.header.op_count;
	int error = at(r, STEP_CAPSET, raise_capability(CAP_SYS_ADMIN));

	for (const struct plan_op *op = r->op + 1; op < end && !error; op++) {
		struct cursor c = { (const uint64_t *)(const void *)(r->plan.base + op->fields) };
		struct sock_fprog program;
		uint64_t flags;

		if (op->code != OP_SECCOMP)
			continue;
		program = program_of(take_list(&c));
		flags = take_u64(&c) & ~WITH_AGENT;
		error = at(r, STEP_SECCOMP,
			   sys3(__NR_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program));
	}
	return error;
}

/*
 * seccomp "nu": the program, an instruction a word; flags of seccomp(2). A process that may still gain privileges needs
 * CAP_SYS_ADMIN to load a filter.
 */
int op_seccomp(struct run *r, struct cursor *c)
{
	const uint64_t *list = take_list(c);
	uint64_t flags = take_u64(c);
	struct sock_fprog program = program_of(list);
	int error;

	if (list[0] == 0 || list[0] > BPF_MAXINSNS)
		return at(r, STEP_SECCOMP, -EINVAL);
	error = at(r, STEP_CAPSET, raise_capability(CAP_SYS_ADMIN));
	if (error)
		return error;
	if (flags & SECCOMP_FILTER_FLAG_NEW_LISTENER)
		return load_with_agent(r, flags, &program);
	return at(r, STEP_SECCOMP, sys3(__NR_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program));
}
