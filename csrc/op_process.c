/* op_process.c - what the container's process is: its ids, capabilities, directory, descriptors. */

#include <asm/fcntl.h>
#include <asm/stat.h>
#include <asm/statfs.h>
#include <linux/capability.h>
#include <linux/fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <linux/prctl.h>
#include <linux/stat.h>

#include "run.h"

#define NO_ID UINT32_MAX

struct capability_sets {
	uint64_t effective;
	uint64_t permitted;
	uint64_t inheritable;
};

int op_umask(struct run *r, struct cursor *c)
{
	r->umask = (int)take_u64(c);
	sys1(__NR_umask, r->umask);
	return 0;
}

/* A regular file, and none of procfs or sysfs, whose files do something when they are read. */
static int is_plain_file(int fd)
{
	struct stat about;
	struct statfs type;

	return fd >= 0 && !sys2(__NR_fstat, fd, &about) && (about.st_mode & S_IFMT) == S_IFREG &&
	       !sys2(__NR_fstatfs, fd, &type) && type.f_type != PROC_SUPER_MAGIC &&
	       type.f_type != SYSFS_MAGIC;
}

/*
 * Python looks HOME up: it gets the container's /etc/passwd as a descriptor, or none. It is looked at before it is
 * opened: an image cannot make us wait on a FIFO, or open a device. The answer is taken when the next one is, or at the
 * end: nothing before execve needs it.
 */
int op_home(struct run *r, struct cursor *c)
{
	auto_fd named = open_in_root(r, "/etc/passwd", O_PATH, 0);
	auto_fd fd = is_plain_file(named)
			     ? open_in_root(r, "/etc/passwd", O_RDONLY | O_NONBLOCK | O_NOCTTY, 0)
			     : -1;
	int error = send_at(r, 0, is_plain_file(fd) ? fd : -1);

	(void)c;
	r->home_asked = !error;
	r->home_index = r->op->index;
	return error;
}

/* stdio_owner "u": uid. Where the caller's descriptor cannot be given away, the container has to live with it. */
int op_stdio_owner(struct run *r, struct cursor *c)
{
	uint64_t uid = take_u64(c);

	for (int fd = 0; fd <= 2; fd++) {
		struct stat about;
		int error;

		if (sys2(__NR_fstat, fd, &about) || about.st_uid == uid || is_null_device(fd))
			continue;
		error = sys3(__NR_fchown, fd, uid, -1);
		if (error == -EINVAL || error == -EPERM || error == -EROFS)
			continue;
		if (error)
			return at(r, STEP_CHOWN, error);
	}
	return 0;
}

/* The host's /dev/null among 0, 1 and 2 becomes the container's, if that is really the device (CVE-2026-88265). */
int op_reopen_null(struct run *r, struct cursor *c)
{
	(void)c;
	for (int fd = 0; fd <= 2; fd++) {
		auto_fd own = -1;

		if (!is_null_device(fd))
			continue;
		own = open_in_root(r, "/dev/null", O_RDWR | O_NOFOLLOW | O_NOCTTY,
				   RESOLVE_NO_SYMLINKS);
		if (own == -ENOENT)
			return 0;
		if (own < 0 || !is_null_device(own)) {
			warn(r, own < 0 ? own : -ENODEV, STEP_VERIFY);
			return 0;
		}
		sys3(__NR_dup3, own, fd, 0);
	}
	return 0;
}

int op_no_new_privs(struct run *r, struct cursor *c)
{
	(void)c;
	return at(r, STEP_PRCTL, sys5(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

/* bounding "u": the bits that stay. EPERM: we may not drop any, being without CAP_SETPCAP. */
int op_bounding(struct run *r, struct cursor *c)
{
	uint64_t mask = take_u64(c);

	for (unsigned int number = 0; number < 64; number++) {
		int held =
			mask >> number & 1 ? 0 : sys5(__NR_prctl, PR_CAPBSET_READ, number, 0, 0, 0);
		int error;

		if (held < 0)
			break; /* EINVAL: past the last one that the kernel knows */
		error = held ? sys5(__NR_prctl, PR_CAPBSET_DROP, number, 0, 0, 0) : 0;
		if (error)
			return at(r, STEP_PRCTL, error);
	}
	return 0;
}

/* user "uunu": uid, gid, additional gids, bits. Capabilities survive the change; capabilities or execve end that. */
int op_user(struct run *r, struct cursor *c)
{
	uint64_t uid = take_u64(c);
	uint64_t gid = take_u64(c);
	const uint64_t *list = take_list(c);
	uint64_t bits = take_u64(c);
	uint32_t *groups;
	int error = at(r, STEP_PRCTL, sys5(__NR_prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0));

	if (uid >= NO_ID || gid >= NO_ID) /* cut to 32 bits, it would be root, or no change */
		return at(r, STEP_SETUID, -ERANGE);
	/* Packed in place: the plan is mapped privately. */
	groups = (uint32_t *)(uintptr_t)(list + 1);
	for (uint64_t i = 0; i < list[0]; i++)
		groups[i] = (uint32_t)list[i + 1];
	if (!error && !(bits & USER_KEEP_GROUPS) && (list[0] || !r->groups_denied))
		error = at(r, STEP_SETGROUPS, sys2(__NR_setgroups, list[0], groups));
	if (!error)
		error = at(r, STEP_SETGID, sys3(__NR_setresgid, gid, gid, gid));
	if (!error)
		error = at(r, STEP_SETUID, sys3(__NR_setresuid, uid, uid, uid));
	/* The kernel forgets both at a change of credentials. */
	if (!error)
		error = at(r, STEP_PRCTL, r->report < 0 ? watch_parent_death(r) : 0);
	return error;
}

static uint64_t bounding_set(void)
{
	uint64_t set = 0;

	for (unsigned int number = 0; number < 64; number++) {
		int held = sys5(__NR_prctl, PR_CAPBSET_READ, number, 0, 0, 0);

		if (held < 0)
			break; /* EINVAL: past the last one that the kernel knows */
		set |= (uint64_t)held << number;
	}
	return set;
}

static int capability_call(long number, struct capability_sets *sets)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = {
		{ (uint32_t)sets->effective, (uint32_t)sets->permitted,
		  (uint32_t)sets->inheritable },
		{ (uint32_t)(sets->effective >> 32), (uint32_t)(sets->permitted >> 32),
		  (uint32_t)(sets->inheritable >> 32) },
	};
	int error = sys2(number, &header, data);

	sets->effective = data[0].effective | (uint64_t)data[1].effective << 32;
	sets->permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
	sets->inheritable = data[0].inheritable | (uint64_t)data[1].inheritable << 32;
	return error;
}

/* Makes a permitted capability effective; where it is not permitted nothing changes. */
int raise_capability(unsigned int number)
{
	struct capability_sets held = { 0, 0, 0 };
	uint64_t bit = 1ULL << number;
	int error = capability_call(__NR_capget, &held);

	if (error || held.effective & bit || !(held.permitted & bit))
		return error;
	held.effective |= bit;
	return capability_call(__NR_capset, &held);
}

/* capabilities "uuu": effective, permitted, inheritable. What we do not hold cannot be given: a warning (config.md). */
int op_capabilities(struct run *r, struct cursor *c)
{
	struct capability_sets wanted = { take_u64(c), take_u64(c), take_u64(c) };
	struct capability_sets held = { 0, 0, 0 };
	struct capability_sets given;
	int error = at(r, STEP_CAPGET, capability_call(__NR_capget, &held));

	if (error)
		return error;
	given.permitted = wanted.permitted & held.permitted;
	given.effective = wanted.effective & given.permitted;
	given.inheritable = wanted.inheritable;
	if (wanted.inheritable & ~held.inheritable)
		given.inheritable &= held.inheritable | bounding_set();
	if (given.permitted != wanted.permitted || given.effective != wanted.effective ||
	    given.inheritable != wanted.inheritable)
		warn(r, -EPERM, STEP_GRANT);
	error = at(r, STEP_CAPSET, capability_call(__NR_capset, &given));
	if (!error)
		error = at(r, STEP_PRCTL, sys5(__NR_prctl, PR_SET_KEEPCAPS, 0, 0, 0, 0));
	if (!error && r->report < 0)
		error = at(r, STEP_PRCTL, watch_parent_death(r));
	return error;
}

/* ambient "u": only what is permitted and inheritable can be; the rest is a warning. */
int op_ambient(struct run *r, struct cursor *c)
{
	uint64_t mask = take_u64(c);

	sys5(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (unsigned int number = 0; number < 64; number++) {
		int error = mask >> number & 1 ? sys5(__NR_prctl, PR_CAP_AMBIENT,
						      PR_CAP_AMBIENT_RAISE, number, 0, 0)
					       : 0;

		if (error)
			warn(r, error, STEP_GRANT);
	}
	return 0;
}

/*
 * cwd "su": path, bits. It comes twice, before the change of user and after it, and may be refused once: root may see
 * what the user cannot, and the user what root cannot. The path is resolved without magic links and what came out must lie inside the root: /proc/self/fd/N leads nowhere (CVE-2024-21626).
 * CWD_OF_HOST: for hooks of the host, the bundle; where it is gone they stay where the caller is.
 */
int op_cwd(struct run *r, struct cursor *c)
{
	const char *path = take_str(c);
	uint64_t bits = take_u64(c);
	char seen[PATH_MAX_BYTES];
	auto_fd fd = -1;
	int error;

	if (bits & CWD_OF_HOST) {
		sys1(__NR_chdir, path);
		return 0;
	}
	fd = at(r, STEP_OPEN, open_in_root(r, path, O_PATH | O_DIRECTORY, 0));
	error = fd < 0 ? fd : at(r, STEP_CHDIR, sys1(__NR_fchdir, fd));
	if ((bits & CWD_TOLERANT || r->in_cwd) && (error == -EACCES || error == -EPERM))
		return 0;
	if (error)
		return error;
	error = sys2(__NR_getcwd, seen, sizeof(seen));
	if (error > 0 && seen[0] != '/')
		error = -ENOENT;
	if (error < 0)
		return at(r, STEP_GETCWD, error);
	r->in_cwd = 1;
	return 0;
}

/* rlimit "uuu": resource, soft, hard. For one so low that the set-up itself would suffer: everybody may lower. */
int op_rlimit(struct run *r, struct cursor *c)
{
	uint64_t resource = take_u64(c);
	uint64_t limit[2] = { take_u64(c), take_u64(c) };

	return at(r, STEP_PRLIMIT, sys4(__NR_prlimit64, 0, resource, limit, NULL));
}
