/* op_sched.c - how the process is scheduled, and where its memory comes from. */

#include "run.h"

#define MOST_CPUS 8192
#define IO_OF_PROCESS 1

/* struct sched_attr of Linux 5.3; linux/sched/types.h has names that those of the C library clash with */
struct k_sched_attr {
	uint32_t size;
	uint32_t policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime;
	uint64_t deadline;
	uint64_t period;
	uint32_t util_min;
	uint32_t util_max;
};

/*
 * affinity "nu": words of a CPU mask, none: every CPU; bits. Every CPU is cut down to what the cpuset allows, now and
 * whenever that changes; the mask that a service manager gave the caller would stay otherwise.
 */
int op_affinity(struct run *r, struct cursor *c)
{
	const uint64_t *list = take_list(c);
	uint64_t bits = take_u64(c);
	uint64_t every[MOST_CPUS / 64];
	int error;

	for (size_t i = 0; i < MOST_CPUS / 64; i++)
		every[i] = ~0ULL;
	error = sys3(__NR_sched_setaffinity, 0, list[0] ? list[0] * 8 : sizeof(every),
		     list[0] ? list + 1 : every);
	if (error < 0 && bits & AFFINITY_OPTIONAL) {
		warn(r, error, STEP_SETAFFINITY);
		return 0;
	}
	return at(r, STEP_SETAFFINITY, error);
}

/* scheduler "uuuuuuu": policy, flags, nice, priority, runtime, deadline, period. */
int op_scheduler(struct run *r, struct cursor *c)
{
	struct k_sched_attr wanted = { .size = sizeof(wanted) };

	wanted.policy = (uint32_t)take_u64(c);
	wanted.flags = take_u64(c);
	wanted.nice = (int32_t)take_u64(c);
	wanted.priority = (uint32_t)take_u64(c);
	wanted.runtime = take_u64(c);
	wanted.deadline = take_u64(c);
	wanted.period = take_u64(c);
	return at(r, STEP_SETATTR, sys3(__NR_sched_setattr, 0, &wanted, 0));
}

/* io_priority "u": class and level, as ioprio_set(2) has them. */
int op_io_priority(struct run *r, struct cursor *c)
{
	return at(r, STEP_IOPRIO, sys3(__NR_ioprio_set, IO_OF_PROCESS, 0, take_u64(c)));
}

/* personality "u" */
int op_personality(struct run *r, struct cursor *c)
{
	int before = sys1(__NR_personality, take_u64(c));

	return at(r, STEP_PERSONALITY, before < 0 ? before : 0);
}

/* memory_policy "un": mode with flags, words of a node mask. The kernel takes the number of bits, plus one, for its size. */
int op_memory_policy(struct run *r, struct cursor *c)
{
	uint64_t mode = take_u64(c);
	const uint64_t *nodes = take_list(c);
	uint64_t size = nodes[0] ? nodes[0] * 64 + 1 : 0;

	return at(r, STEP_MEMPOLICY,
		  sys3(__NR_set_mempolicy, mode, nodes[0] ? nodes + 1 : NULL, size));
}
