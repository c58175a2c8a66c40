/* op_exec.c - finding the program, running hooks, and the end of nsexec: execve. */

#include <asm/fcntl.h>
#include <asm/poll.h>
#include <asm/signal.h>
#include <asm/stat.h>
#include <linux/close_range.h>
#include <linux/fcntl.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/stat.h>
#include <linux/wait.h>

#include "run.h"

#define ACCESS_EXECUTE 1
#define ACCESS_EFFECTIVE 0x200
#define MEMFD_CLOEXEC 1
#define CLOCK_MONOTONIC_ID 1
#define TAIL_BYTES 1024
#define HOOK_FIELDS 7
#define OUTPUTS 2 /* its standard output and error */
#define HOOK_SPAWN_FAILED 255

/* 0, -EACCES, -ENOENT and the like: can this be executed with the ids that we have by now? */
static int is_executable(const char *path)
{
	struct stat about;
	int error = sys4(__NR_newfstatat, AT_FDCWD, path, &about, 0);

	if (error)
		return error;
	if ((about.st_mode & S_IFMT) == S_IFDIR)
		return -EACCES;
	error = sys4(439 /* faccessat2 */, AT_FDCWD, path, ACCESS_EXECUTE, ACCESS_EFFECTIVE);
	if (error == -ENOSYS ||
	    error ==
		    -EPERM) /* an old kernel, or a profile older than the call: let execve decide */
		return about.st_mode & 0111 ? 0 : -EACCES;
	return error;
}

static int has_slash(const char *name)
{
	for (; *name; name++)
		if (*name == '/')
			return 1;
	return 0;
}

/* Tries `name` in one directory of PATH; an empty one is the current directory. */
static int try_directory(struct run *r, const char *directory, size_t length, const char *name)
{
	size_t name_length = text_length(name);
	char *to = r->executable_path;

	if (length + name_length + 3 > sizeof(r->executable_path))
		return -ENAMETOOLONG;
	if (length == 0)
		*to++ = '.';
	copy_bytes(to, directory, length);
	to += length;
	*to++ = '/';
	copy_bytes(to, name, name_length + 1);
	return is_executable(r->executable_path);
}

/*
 * resolve "ss": args[0], PATH. Done before the gate, so that create and not start reports a program that is missing,
 * and with the ids and in the directory of the process.
 */
int op_resolve(struct run *r, struct cursor *c)
{
	const char *name = take_str(c);
	const char *path = take_str(c);
	int refused = 0;

	r->executable = name;
	if (has_slash(name))
		return at(r, STEP_ACCESS, is_executable(name));
	for (;;) {
		size_t length = 0;
		int error;

		while (path[length] && path[length] != ':')
			length++;
		error = try_directory(r, path, length, name);
		if (!error) {
			r->executable = r->executable_path;
			return 0;
		}
		if (error == -EACCES)
			refused = error;
		if (!path[length])
			break;
		path += length + 1;
	}
	return at(r, STEP_LOOKUP, refused ? refused : -ENOENT);
}

/* What a hook prints. The file may be one that others wrote to before: only what comes after `start` is the hook's. */
struct output {
	int fd;
	int64_t start;
};

/* A hook that could not be started. */
struct problem {
	int error; /* -errno; 0: there is none */
	enum step step;
};

/* Never returns on success; the caller reports the error. State JSON is the input. */
static int become_hook(struct run *r, const char *path, const uint64_t *args, const uint64_t *env,
		       const struct output *outputs, uint64_t bits)
{
	int input = r->state_fd;
	int error = sys5(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);

	if (!error)
		error = sys2(__NR_setpgid, 0, 0);

	sys1(__NR_umask, r->umask);
	if (!error && bits & HOOK_IN_ROOT)
		error = sys1(__NR_fchdir, r->root);

	if (input < 0)
		input = sys4(__NR_openat, AT_FDCWD, "/dev/null", O_RDONLY, 0);
	else
		sys3(__NR_lseek, input, 0, 0);
	if (input < 0)
		sys1(__NR_close, 0);
	else if (!error && input != 0)
		error = sys3(__NR_dup3, input, 0, 0);
	for (int i = 0; i < OUTPUTS && error >= 0; i++)
		error = sys3(__NR_dup3, outputs[i].fd, i + 1, 0);
	if (error >= 0)
		error = sys3(NR_CLOSE_RANGE, 3, ~0U, CLOSE_RANGE_CLOEXEC);
	if (error >= 0 && bits & HOOK_UNDER_FILTER)
		error = filter_hook(r);
	return error < 0 ? error : sys3(__NR_execve, path, args + 1, env + 1);
}

/*
 * Starts the hook in a process group of its own. Returns its pid once execve has happened (the pipe closed), or -errno.
 */
static int start_hook(struct run *r, const char *path, const uint64_t *args, const uint64_t *env,
		      const struct output *outputs, uint64_t bits, int *pidfd)
{
	struct k_clone_args clone = { .flags = CLONE_PIDFD,
				      .pidfd = (uint64_t)(uintptr_t)pidfd,
				      .exit_signal = SIGCHLD };
	int ends[2];
	struct problem problem = { 0, STEP_EXECVE };
	int pid = at(r, STEP_CREATE, sys2(__NR_pipe2, ends, O_CLOEXEC));

	if (pid < 0)
		return pid;
	pid = at(r, STEP_CLONE, sys2(NR_CLONE3, &clone, sizeof(clone)));
	if (pid == 0) {
		r->step = STEP_EXECVE;
		problem.error = become_hook(r, path, args, env, outputs, bits);
		problem.step = r->step;
		sys3(__NR_write, ends[1], &problem, sizeof(problem));
		leave(HOOK_SPAWN_FAILED);
	}
	sys1(__NR_close, ends[1]);
	if (pid > 0)
		sys3(__NR_read, ends[0], &problem, sizeof(problem));
	sys1(__NR_close, ends[0]);
	if (pid > 0 && problem.error) {
		sys4(__NR_wait4, pid, NULL, __WALL, NULL);
		sys1(__NR_close, *pidfd);
		return at(r, problem.step, problem.error);
	}
	return pid;
}

static int64_t now_ms(void)
{
	struct k_timespec now = { 0, 0 };

	sys2(__NR_clock_gettime, CLOCK_MONOTONIC_ID, &now);
	return now.seconds * 1000 + now.nanoseconds / 1000000;
}

/* Waits for the hook; 0 ms: for ever. -ETIME after killing its process group: a grandchild must not hold us up. */
static int await_hook(int pid, int pidfd, uint64_t timeout_ms, int *status)
{
	int64_t until = now_ms() + (int64_t)timeout_ms;
	int timed_out = 0;
	int result;

	while (timeout_ms && !timed_out) {
		struct k_pollfd wait = { pidfd, POLLIN, 0 };
		int64_t left = until - now_ms();
		struct k_timespec limit = { left > 0 ? left / 1000 : 0,
					    left > 0 ? left % 1000 * 1000000 : 0 };

		result = sys5(__NR_ppoll, &wait, 1, &limit, NULL, 0);
		if (result > 0)
			break;
		timed_out = result == 0;
	}
	if (timed_out) {
		sys2(__NR_kill, -pid, SIGKILL);
		sys4(__NR_pidfd_send_signal, pidfd, SIGKILL, NULL,
		     0); /* it may have left its group */
	}
	do
		result = sys4(__NR_wait4, pid, status, __WALL, NULL);
	while (result == -EINTR);
	return timed_out ? -ETIME : result < 0 ? result : 0;
}

static int64_t size_of(int fd)
{
	struct stat about;

	return sys2(__NR_fstat, fd, &about) ? 0 : about.st_size;
}

/* slot: of a file that was asked for; without one, the output is kept in memory while the hook runs. */
static int open_output(struct run *r, uint64_t slot, struct output *output)
{
	int fd = slot != NO_FD ? slot_fd(r, slot)
			       : at(r, STEP_CREATE,
				    sys2(__NR_memfd_create, "hook-output", MEMFD_CLOEXEC));

	if (fd < 0)
		return fd;
	output->fd = fd;
	output->start = size_of(fd);
	return 0;
}

static uint32_t read_tail(const struct output *output, char *to)
{
	int64_t size = size_of(output->fd);
	int64_t start = size - TAIL_BYTES > output->start ? size - TAIL_BYTES : output->start;
	int length = sys4(__NR_pread64, output->fd, to, TAIL_BYTES, start);

	return length > 0 ? (uint32_t)length : 0;
}

/* The ends of what the hook printed travel in the payload of FAILED: the length of the first, both. */
static void keep_tails(struct run *r, const struct output *outputs)
{
	char *payload = r->message.payload;
	uint32_t first = read_tail(&outputs[0], payload + sizeof(first));

	copy_bytes(payload, &first, sizeof(first));
	r->tail_length = sizeof(first) + first;
	r->tail_length += read_tail(&outputs[1], payload + r->tail_length);
}

/* Where HOME was looked up, the plan has an entry "HOME=..." for it. The plan is mapped privately, so it may change. */
static void put_home(struct run *r, uint64_t *env)
{
	for (uint64_t i = 1; r->home[0] && i <= env[0]; i++)
		if (text_starts((const char *)(uintptr_t)env[i], "HOME="))
			env[i] = (uint64_t)(uintptr_t)r->home;
}

static int run_hook(struct run *r, struct cursor *c, const struct output *outputs)
{
	const char *path = take_str(c);
	const uint64_t *args = take_list(c);
	const uint64_t *env = take_list(c);
	uint64_t timeout_ms = take_u64(c);
	uint64_t bits = take_u64(c);
	int pidfd = -1;
	int status = 0;
	int error = at(r, STEP_ACCESS, is_executable(path));
	int pid;

	if (error)
		return error;
	if (bits & HOOK_HAS_PROCESS_ENV)
		put_home(r, (uint64_t *)(uintptr_t)env);
	pid = start_hook(r, path, args, env, outputs, bits, &pidfd);
	if (pid < 0)
		return pid;
	error = await_hook(pid, pidfd, timeout_ms, &status);
	sys1(__NR_close, pidfd);
	r->value = status;
	if (error || status)
		keep_tails(r, outputs);
	if (error)
		return at(r, error == -ETIME ? STEP_TIMEOUT : STEP_WAIT, error);
	if (status)
		return at(r, STEP_WAIT, -ECHILD);
	r->value = 0;
	return 0;
}

/*
 * hook "saauuuu": path, args, env, timeout in ms (0: none), bits, slots of files for its output. FAILED carries its wait
 * status in `value`, and -1 there if it could not be started.
 */
int op_hook(struct run *r, struct cursor *c)
{
	const uint64_t *slots = c->word + HOOK_FIELDS - OUTPUTS;
	struct output outputs[OUTPUTS] = { { -1, 0 }, { -1, 0 } };
	int error = 0;

	r->value = -1;
	for (int i = 0; i < OUTPUTS && !error; i++)
		error = open_output(r, slots[i], &outputs[i]);
	if (!error)
		error = run_hook(r, c, outputs);
	for (int i = 0; i < OUTPUTS; i++)
		if (slots[i] == NO_FD)
			close_fd(&outputs[i].fd);
	return error;
}

/* Whether a hook behind the operation that runs now prints to what is in this slot. */
int serves_later_hook(const struct run *r, uint32_t slot)
{
	const struct plan_op *end = r->plan.ops + r->plan.header.op_count;

	for (const struct plan_op *op = r->op + 1; op < end; op++) {
		const uint64_t *fields =
			(const uint64_t *)(const void *)(r->plan.base + op->fields);

		for (int i = HOOK_FIELDS - OUTPUTS; op->code == OP_HOOK && i < HOOK_FIELDS; i++)
			if (fields[i] == slot)
				return 1;
	}
	return 0;
}

/* exec "aa": args, env. */
int op_exec(struct run *r, struct cursor *c)
{
	const uint64_t *args = take_list(c);
	const uint64_t *env = take_list(c);

	put_home(r, (uint64_t *)(uintptr_t)env);
	return at(r, STEP_EXECVE, sys3(__NR_execve, r->executable, args + 1, env + 1));
}

/* pass "u": the program that is executed keeps this slot, under the number that it has here. */
int op_pass(struct run *r, struct cursor *c)
{
	uint64_t slot = take_u64(c);

	if (slot >= r->slot_count)
		return at(r, STEP_PROTOCOL, -EPROTO);
	return at(r, STEP_OPEN, sys3(__NR_fcntl, r->slots[slot], F_SETFD, 0));
}

/* finish: for a plan that starts nothing, such as the hooks of the host's side. */
int op_finish(struct run *r, struct cursor *c)
{
	int error = send_at(r, 0, -1);

	(void)c;
	if (error)
		return error;
	leave(0);
}
