/*
 * native.c - the Python side of C: what Python's own modules lack, or load too slowly for the start of a runtime.
 *
 * Every function returns a number >= 0, or -errno. None of them touches the process's signal handlers, working
 * directory, environment or other children, and all may be called from any thread.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clone.h"
#include "native.h"
#include "plan.h"

#define LAUNCH_STACK (64 * 1024)
#define MAX_LAUNCH_FDS (3 + PLAN_MAX_FDS + 2)
#define NS_GET_NSTYPE_CALL 0xb703
#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
#define SEAL_EXEC 0x20 /* nobody who gets hold of it can take its x bits away either */
#define MEMFD_EXEC 0x10U
#define MEMFD_NOEXEC_SEAL 8U
#define OPEN_TREE_CLONE_FLAG 1U
#define CALL_OPEN_TREE 428
#define CALL_MOUNT_SETATTR 442
#define RECURSIVE 0x8000U

static int result(long value)
{
	return value < 0 ? -errno : (int)value;
}

const char *pyo_op_name(int code)
{
	return code >= 0 && code < OP_COUNT ? op_types[code].name : NULL;
}

const char *pyo_op_signature(int code)
{
	return code >= 0 && code < OP_COUNT ? op_types[code].signature : NULL;
}

const char *pyo_step_name(int step)
{
	return step >= 0 && step < STEP_COUNT ? step_names[step] : NULL;
}

/* A copy of the plan is checked: the original stays as Python made it. */
int pyo_plan_check(const char *data, size_t size)
{
	struct plan plan;
	uint32_t bad;
	void *copy;
	int error;

	if (!size || size > PLAN_MAX_BYTES)
		return -EPROTO;
	copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (copy == MAP_FAILED)
		return -errno;
	memcpy(copy, data, size);
	error = plan_check(copy, size, &plan, &bad);
	munmap(copy, size);
	return error;
}

static int write_all(int fd, const char *data, size_t size)
{
	while (size) {
		ssize_t written = write(fd, data, size);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return written ? -errno : -EIO;
		data += written;
		size -= (size_t)written;
	}
	return 0;
}

/* Kernels before 6.3 know neither MFD_EXEC nor MFD_NOEXEC_SEAL, and refuse them. */
static int create_memfd(const char *name, int executable)
{
	unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	int fd = memfd_create(name, flags | (executable ? MEMFD_EXEC : MEMFD_NOEXEC_SEAL));

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(name, flags);
	return result(fd);
}

int pyo_sealed_memfd(const char *name, const char *data, size_t size, int executable)
{
	int fd = create_memfd(name, executable);
	int error;

	if (fd < 0)
		return fd;
	error = write_all(fd, data, size);
	if (!error && fcntl(fd, F_ADD_SEALS, SEALS | SEAL_EXEC) < 0)
		error = result(fcntl(fd, F_ADD_SEALS, SEALS)); /* before Linux 6.3 */
	if (!error)
		error = result(lseek(fd, 0, SEEK_SET));
	if (error < 0) {
		close(fd);
		return error;
	}
	return fd;
}

int pyo_shared_memfd(const char *name, size_t size)
{
	int fd = create_memfd(name, 0);

	if (fd >= 0 && ftruncate(fd, (off_t)size) < 0) {
		int error = -errno;

		close(fd);
		return error;
	}
	return fd;
}

int pyo_socketpair(int *ends)
{
	return result(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends));
}

struct launch {
	int executable;
	const int *fds;
	int count;
	int preserve;
	int cgroup;
	int error;
};

/* All are moved above every number that is to be given out first: no target can then overwrite a source. */
static int arrange_fds(const struct launch *l)
{
	int moved[MAX_LAUNCH_FDS + 1];
	int floor = 3 + l->preserve + l->count + 1;

	for (int i = 0; i <= l->count; i++) {
		int from = i < l->count ? l->fds[i] : l->executable;

		moved[i] = from < 0 ? -1 : fcntl(from, F_DUPFD_CLOEXEC, floor);
		if (from >= 0 && moved[i] < 0)
			return -errno;
	}
	for (int i = 0; i < l->count; i++) {
		int to = i < 3 ? i : i + l->preserve;

		if (moved[i] < 0)
			close(to);
		else if (dup2(moved[i], to) < 0)
			return -errno;
	}
	/* What is close-on-exec was opened by this process for itself, and is not for the container. */
	for (int fd = 3; fd < 3 + l->preserve; fd++) {
		int flags = fcntl(fd, F_GETFD);

		if (flags < 0 || flags & FD_CLOEXEC)
			return -EBADF;
	}
	return moved[l->count];
}

/*
 * Runs on a stack of its own in the memory of the parent, whose thread waits: it may only make system calls. errno is
 * the parent thread's, and saved there.
 */
static int in_child(void *argument)
{
	struct launch *l = argument;
	char number[16];
	char *digit = number + sizeof(number) - 1;
	char name[] = "pyocirun-nsexec";
	char *const empty[] = { NULL };
	int base = 3 + l->preserve;
	int executable = arrange_fds(l);

	*digit = 0;
	do
		*--digit = (char)('0' + base % 10);
	while (base /= 10);
	if (executable < 0) {
		l->error = executable;
	} else {
		char *const arguments[] = { name, digit, NULL };

		syscall(SYS_execveat, executable, "", arguments, empty, AT_EMPTY_PATH);
		l->error = -errno;
	}
	_exit(127);
}

/* Old seccomp profiles know no clone3: then clone(2), which cannot put the child into a cgroup. */
static int clone_child(struct launch *launch, uint64_t flags, char *stack, int *pidfd)
{
	struct clone_args args = {
		.flags = flags | CLONE_VM | CLONE_VFORK | CLONE_PIDFD,
		.pidfd = (uint64_t)(uintptr_t)pidfd,
		.exit_signal = SIGCHLD,
		.stack = (uint64_t)(uintptr_t)stack,
		.stack_size = LAUNCH_STACK,
	};
	long pid;

	if (launch->cgroup >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (unsigned int)launch->cgroup;
	}
	pid = clone3_run(&args, sizeof(args), in_child, launch);
	if (pid == -ENOSYS && launch->cgroup < 0)
		pid = result(clone(in_child, stack + LAUNCH_STACK,
				   (int)(flags | CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD),
				   launch, pidfd));
	return (int)pid;
}

int pyo_launch(int executable, uint64_t flags, const int *fds, int count, int preserve, int cgroup,
	       int *pidfd)
{
	struct launch launch = { executable, fds, count, preserve, cgroup, 0 };
	sigset_t all, before;
	char *stack;
	int pid;

	if (count < 3 || count > MAX_LAUNCH_FDS || preserve < 0)
		return -EINVAL;
	stack = mmap(NULL, LAUNCH_STACK, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (stack == MAP_FAILED)
		return -errno;
	/* No handler of the parent may run in the child on the parent's memory. nsexec empties the mask again. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid = clone_child(&launch, flags, stack, pidfd);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	munmap(stack, LAUNCH_STACK);
	if (pid > 0 && launch.error) {
		waitid((idtype_t)P_PIDFD, (id_t)*pidfd, &(siginfo_t){ 0 }, WEXITED | __WALL);
		close(*pidfd);
		return launch.error;
	}
	return pid;
}

int pyo_send(int fd, const char *data, size_t size, const int *fds, int count)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(250 * sizeof(int))];
	} control = { 0 };
	struct iovec part = { (void *)(uintptr_t)data, size };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	ssize_t sent;

	if (count < 0 || count > 250)
		return -EINVAL;
	if (count) {
		struct cmsghdr *head;

		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
		head = CMSG_FIRSTHDR(&message);
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
		memcpy(CMSG_DATA(head), fds, (size_t)count * sizeof(int));
	}
	do
		sent = sendmsg(fd, &message, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return result(sent);
}

/* At most one descriptor comes with a message; *received is -1 if none does. */
int pyo_receive(int fd, char *data, size_t size, int *received)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec part = { data, size };
	struct msghdr message = { .msg_iov = &part,
				  .msg_iovlen = 1,
				  .msg_control = control.bytes,
				  .msg_controllen = CMSG_LEN(sizeof(int)) };
	struct cmsghdr *head;
	ssize_t length;

	*received = -1;
	do /* ECONNRESET: it died with a message of ours unread. That is said once, and what it sent before comes next. */
		length = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
	while (length < 0 && errno == ECONNRESET);
	if (length < 0)
		return -errno;
	head = CMSG_FIRSTHDR(&message);
	if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS)
		memcpy(received, CMSG_DATA(head), sizeof(int));
	return (int)length;
}

enum { EACH_STAT, EACH_MKDIR, EACH_RMDIR, EACH_OPEN };

static int one_of_each(int call, const char *path)
{
	struct stat about;

	switch (call) {
	case EACH_STAT:
		return result(stat(path, &about));
	case EACH_MKDIR:
		return result(mkdir(path, 0755));
	case EACH_RMDIR:
		return result(rmdir(path));
	case EACH_OPEN:
		return result(open(path, O_WRONLY | O_CLOEXEC));
	}
	return -EINVAL;
}

/* The same call for `count` paths, one behind the other, each with its NUL. What comes of each is in `results`. */
int pyo_each(int call, const char *paths, int count, int *results)
{
	for (int i = 0; i < count; i++) {
		results[i] = one_of_each(call, paths);
		paths += strlen(paths) + 1;
	}
	return 0;
}

int pyo_poll(int first, int second, int timeout_ms)
{
	struct pollfd fds[2] = { { first, POLLIN, 0 }, { second, POLLIN, 0 } };
	int ready = poll(fds, second >= 0 ? 2 : 1, timeout_ms);

	if (ready < 0)
		return -errno;
	return (fds[0].revents ? 1 : 0) | (second >= 0 && fds[1].revents ? 2 : 0);
}

/* Blocks all signals but the `kept` ones for the calling thread, and hands them over as a descriptor: signalfd(2). */
int pyo_signals(const int *kept, int count)
{
	sigset_t set;

	sigfillset(&set);
	for (int i = 0; i < count; i++)
		sigdelset(&set, kept[i]);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	return result(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

/* The next signal that came, 0 if there is none. */
int pyo_next_signal(int fd)
{
	struct signalfd_siginfo about;
	ssize_t length = read(fd, &about, sizeof(about));

	if (length < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	return length == sizeof(about) ? (int)about.ssi_signo : result(length);
}

int pyo_namespace_type(int fd)
{
	return result(ioctl(fd, NS_GET_NSTYPE_CALL));
}

/* The version of Landlock that the kernel speaks; -ENOSYS or -EOPNOTSUPP: it is not built in, or off. */
int pyo_landlock_abi(void)
{
	return result(syscall(SYS_landlock_create_ruleset, NULL, 0, 1));
}

int64_t pyo_fs_type(const char *path)
{
	struct statfs about;

	return statfs(path, &about) < 0 ? -errno : (int64_t)about.f_type;
}

int pyo_prlimit(int pid, int resource, uint64_t soft, uint64_t hard)
{
	struct rlimit limit = { (rlim_t)soft, (rlim_t)hard };

	return result(prlimit(pid, (enum __rlimit_resource)resource, &limit, NULL));
}

int pyo_flock(int fd, int wait)
{
	int locked;

	do
		locked = flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB));
	while (locked < 0 && errno == EINTR && wait);
	return result(locked);
}

int pyo_pidfd_send_signal(int pidfd, int signal)
{
	return result(syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0));
}

/* 0: still running, else 1 with *status as waitpid's. __WALL: a child may have no exit signal. */
int pyo_wait(int pidfd, int block, int *status)
{
	siginfo_t about = { 0 };
	int error;

	do
		error = waitid((idtype_t)P_PIDFD, (id_t)pidfd, &about,
			       WEXITED | __WALL | (block ? 0 : WNOHANG));
	while (error < 0 && errno == EINTR && block);
	if (error < 0)
		return -errno;
	if (!about.si_pid)
		return 0;
	*status = about.si_code == CLD_EXITED ? about.si_status : -about.si_status;
	return 1;
}

/* A file of an image: links lead nowhere else, and a pipe does not keep us waiting. */
int pyo_open_in_root(int root, const char *path)
{
	struct open_how how = {
		.flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};

	return result(syscall(SYS_openat2, root, path, &how, sizeof(how)));
}

int pyo_open_tree(const char *path, int recursive)
{
	unsigned int flags = OPEN_TREE_CLONE_FLAG | O_CLOEXEC | (recursive ? RECURSIVE : 0);

	return result(syscall(CALL_OPEN_TREE, AT_FDCWD, path, flags));
}

/* userns: for MOUNT_ATTR_IDMAP, a descriptor of the user namespace with the maps. */
int pyo_mount_setattr(int fd, uint64_t set, uint64_t clear, uint64_t propagation, int userns,
		      int recursive)
{
	struct {
		uint64_t set, clear, propagation, userns_fd;
	} attributes = { set, clear, propagation, (uint64_t)userns };
	unsigned int flags = AT_EMPTY_PATH | (recursive ? RECURSIVE : 0);

	return result(syscall(CALL_MOUNT_SETATTR, fd, "", flags, &attributes, sizeof(attributes)));
}

/* What `path` names with `root` for /; without links, one on the way is -ELOOP. O_PATH: nothing is done to it. */
int pyo_open_beneath(int root, const char *path, int links)
{
	struct open_how how = { .flags = O_PATH | O_CLOEXEC,
				.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };

	if (!links)
		how.resolve |= RESOLVE_NO_SYMLINKS;
	return result(syscall(SYS_openat2, root, path, &how, sizeof(how)));
}

/*
 * The calling thread makes files as these ids from now on, and keeps its capabilities: setfsuid(2) alone takes those
 * for files away with uid 0. Neither of the two calls tells of failure: ask again with an id that is none.
 */
int pyo_act_as(uint32_t uid, uint32_t gid)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct before[2], after[2];

	if (syscall(SYS_capget, &head, before) < 0)
		return -errno;
	syscall(SYS_setfsgid, gid);
	syscall(SYS_setfsuid, uid);
	if ((uint32_t)syscall(SYS_setfsuid, -1) != uid ||
	    (uint32_t)syscall(SYS_setfsgid, -1) != gid)
		return -EPERM;
	if (syscall(SYS_capget, &head, after) < 0)
		return -errno;
	for (int i = 0; i < 2; i++)
		after[i].effective |= before[i].effective & after[i].permitted;
	return result(syscall(SYS_capset, &head, after));
}

int pyo_mount(const char *source, const char *target, const char *fstype, uint64_t flags,
	      const char *data)
{
	return result(mount(source, target, fstype, flags, data));
}

int pyo_unmount(const char *target)
{
	return result(umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW));
}

/* The calling thread alone: whoever calls ends it soon. */
int pyo_enter_netns(int namespace)
{
	return result(setns(namespace, CLONE_NEWNET));
}

/*
 * bpf(2). Kernels from 6.17 on answer a query beyond the end of the struct that older ones know, so each call gets a
 * zeroed buffer that is larger than any of them.
 */
union bpf_buffer {
	union bpf_attr attr;
	char room[1024];
};

static int bpf_call(int command, union bpf_buffer *buffer)
{
	return result(syscall(SYS_bpf, command, buffer, sizeof(buffer->attr)));
}

int pyo_bpf_load(const char *code, size_t size)
{
	union bpf_buffer buffer = { .room = { 0 } };

	buffer.attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
	buffer.attr.insns = (uint64_t)(uintptr_t)code;
	buffer.attr.insn_cnt = (uint32_t)(size / sizeof(struct bpf_insn));
	buffer.attr.license = (uint64_t)(uintptr_t) "Apache-2.0";
	memcpy(buffer.attr.prog_name, "pyocirun_dev", sizeof("pyocirun_dev"));
	return bpf_call(BPF_PROG_LOAD, &buffer);
}

int pyo_bpf_attach(int cgroup, int program, int replaced)
{
	union bpf_buffer buffer = { .room = { 0 } };

	buffer.attr.target_fd = (uint32_t)cgroup;
	buffer.attr.attach_bpf_fd = (uint32_t)program;
	buffer.attr.attach_type = BPF_CGROUP_DEVICE;
	buffer.attr.attach_flags = BPF_F_ALLOW_MULTI;
	if (replaced >= 0) {
		buffer.attr.attach_flags |= BPF_F_REPLACE;
		buffer.attr.replace_bpf_fd = (uint32_t)replaced;
	}
	return bpf_call(BPF_PROG_ATTACH, &buffer);
}

int pyo_bpf_detach(int cgroup, int program)
{
	union bpf_buffer buffer = { .room = { 0 } };

	buffer.attr.target_fd = (uint32_t)cgroup;
	buffer.attr.attach_bpf_fd = (uint32_t)program;
	buffer.attr.attach_type = BPF_CGROUP_DEVICE;
	return bpf_call(BPF_PROG_DETACH, &buffer);
}

int pyo_bpf_query(int cgroup, uint32_t *ids, int count)
{
	union bpf_buffer buffer = { .room = { 0 } };
	int error;

	buffer.attr.query.target_fd = (uint32_t)cgroup;
	buffer.attr.query.attach_type = BPF_CGROUP_DEVICE;
	buffer.attr.query.prog_ids = (uint64_t)(uintptr_t)ids;
	buffer.attr.query.prog_cnt = (uint32_t)count;
	error = bpf_call(BPF_PROG_QUERY, &buffer);
	return error < 0 ? error : (int)buffer.attr.query.prog_cnt;
}

int pyo_bpf_open(uint32_t id)
{
	union bpf_buffer buffer = { .room = { 0 } };

	buffer.attr.prog_id = id;
	return bpf_call(BPF_PROG_GET_FD_BY_ID, &buffer);
}
