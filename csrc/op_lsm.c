/*
 * op_lsm.c - the labels of security modules, which are written to /proc/thread-self/attr.
 *
 * A write that lands elsewhere leaves the process without its label, or does something else altogether: a volume over
 * /proc (CVE-2019-16884), a link in its place (CVE-2023-28642), a mount over /proc/self/attr (CVE-2025-52881). So it
 * goes to a procfs that nobody but us has ever seen, or at least to one that nothing is mounted over on the way.
 */

#include <asm/fcntl.h>
#include <asm/stat.h>
#include <asm/statfs.h>
#include <linux/fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/openat2.h>

#include "run.h"

#define PROC_ROOT_INODE 1
#define NOTHING_RUNS (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)

/* A new instance of procfs, mounted nowhere, that has nothing but processes. */
static int new_proc(void)
{
	auto_fd context = sys2(NR_FSOPEN, "proc", FSOPEN_CLOEXEC);
	int error;

	if (context < 0)
		return context;
	sys5(NR_FSCONFIG, context, FSCONFIG_SET_STRING, "subset", "pid", 0);
	error = sys5(NR_FSCONFIG, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	return error ? error : sys3(NR_FSMOUNT, context, FSMOUNT_CLOEXEC, NOTHING_RUNS);
}

/* Without the privilege to mount one: the one that is there. */
static int existing_proc(void)
{
	struct k_open_how how = { O_PATH | O_DIRECTORY | O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS };
	int fd = sys3(NR_OPEN_TREE, AT_FDCWD, "/proc",
		      OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);

	return fd >= 0 ? fd : sys4(NR_OPENAT2, AT_FDCWD, "/proc", &how, sizeof(how));
}

static int is_proc_root(int fd)
{
	struct statfs type;
	struct stat about;

	return !sys2(__NR_fstatfs, fd, &type) && type.f_type == PROC_SUPER_MAGIC &&
	       !sys2(__NR_fstat, fd, &about) && about.st_ino == PROC_ROOT_INODE;
}

/* private_proc: kept for the operations below, up to the gate. It comes while no mount of the container is in sight. */
int op_private_proc(struct run *r, struct cursor *c)
{
	auto_fd fd = new_proc();

	(void)c;
	if (fd < 0)
		fd = at(r, STEP_OPEN, existing_proc());
	if (fd < 0)
		return fd;
	if (!is_proc_root(fd))
		return at(r, STEP_VERIFY, -EXDEV);
	r->proc = keep_fd(&fd);
	return 0;
}

static int open_attribute(const struct run *r, const char *path)
{
	struct k_open_how how = { O_WRONLY | O_CLOEXEC, 0,
				  RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS };

	return sys4(NR_OPENAT2, r->proc, path, &how, sizeof(how));
}

/*
 * attribute "sss": path beneath /proc, another one for where the first is not there or "", value. The kernel takes it
 * from the process itself alone, and with the credentials that opened the file.
 */
int op_attribute(struct run *r, struct cursor *c)
{
	const char *path = take_str(c);
	const char *older = take_str(c);
	const char *value = take_str(c);
	size_t length = text_length(value);
	auto_fd fd = -1;
	int written;

	if (r->proc < 0)
		return at(r, STEP_PROTOCOL, -EPROTO);
	fd = open_attribute(r, path);
	if (fd == -ENOENT && *older)
		fd = open_attribute(r, older);
	if (fd < 0)
		return at(r, STEP_OPEN, fd);
	written = sys3(__NR_write, fd, value, length);
	if (written >= 0 && (size_t)written != length)
		written = -EIO;
	return at(r, STEP_WRITE, written < 0 ? written : 0);
}
