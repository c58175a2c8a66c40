/*
 * op_landlock.c - Landlock: what the process may no longer do with files, ports and other processes.
 *
 * Paths are opened beneath the container's root while nsexec is still root there. The ruleset that is made of them is a
 * descriptor, and only the process itself, right before its end as nsexec, puts itself under it.
 */

#include <asm/fcntl.h>
#include <asm/stat.h>
#include <linux/capability.h>
#include <linux/fcntl.h>
#include <linux/stat.h>

#include "run.h"

#define RULE_PATH 1
#define RULE_PORT 2

/* What is not about a directory: execute, write_file, read_file, truncate, ioctl_dev. The kernel refuses the others. */
#define FILE_ACCESS (1ULL << 0 | 1ULL << 1 | 1ULL << 2 | 1ULL << 14 | 1ULL << 15)

struct ruleset {
	uint64_t files;
	uint64_t ports;
	uint64_t scopes;
};

struct path_rule {
	uint64_t access;
	int fd;
} __attribute__((packed));

struct port_rule {
	uint64_t access;
	uint64_t port;
};

/* ruleset "uuu": what is denied, of files, ports, scopes. A kernel that knows none of the last two wants 0. */
int op_ruleset(struct run *r, struct cursor *c)
{
	struct ruleset wanted = { take_u64(c), take_u64(c), take_u64(c) };

	r->ruleset = sys3(NR_LANDLOCK_CREATE_RULESET, &wanted, sizeof(wanted), 0);
	return at(r, STEP_RULESET, r->ruleset < 0 ? r->ruleset : 0);
}

/* allow_path "suu": path in the container, what is allowed beneath it, bits. */
int op_allow_path(struct run *r, struct cursor *c)
{
	const char *path = take_str(c);
	uint64_t access = take_u64(c);
	uint64_t bits = take_u64(c);
	auto_fd fd = open_in_root(r, path, O_PATH, 0);
	struct path_rule rule;
	struct stat about;
	int error;

	if (fd == -ENOENT && bits & RULE_OPTIONAL)
		return 0;
	if (fd < 0)
		return at(r, STEP_OPEN, fd);
	error = at(r, STEP_STAT, sys2(__NR_fstat, fd, &about));
	if (error)
		return error;
	if ((about.st_mode & S_IFMT) != S_IFDIR)
		access &= FILE_ACCESS;
	if (!access)
		return at(r, STEP_RULE, -ENOTDIR);
	rule = (struct path_rule){ access, fd };
	return at(r, STEP_RULE, sys4(NR_LANDLOCK_ADD_RULE, r->ruleset, RULE_PATH, &rule, 0));
}

/* allow_port "uu": a TCP port, what is allowed with it. */
int op_allow_port(struct run *r, struct cursor *c)
{
	struct port_rule rule;

	rule.port = take_u64(c);
	rule.access = take_u64(c);
	return at(r, STEP_RULE, sys4(NR_LANDLOCK_ADD_RULE, r->ruleset, RULE_PORT, &rule, 0));
}

/* restrict: takes no_new_privs, or CAP_SYS_ADMIN. What is open stays open. */
int op_restrict(struct run *r, struct cursor *c)
{
	int error = at(r, STEP_CAPSET, raise_capability(CAP_SYS_ADMIN));

	(void)c;
	if (!error)
		error = at(r, STEP_RESTRICT, sys2(NR_LANDLOCK_RESTRICT_SELF, r->ruleset, 0));
	close_fd(&r->ruleset);
	r->ruleset = -1;
	return error;
}
