/*
 * op_root.c - devices and sysctls, and the way into the root.
 */

#include <asm/stat.h>
#include <linux/fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/stat.h>

#include "run.h"

#define MOUNT_DETACH 2
#define PROC_ROOT_INODE 1

/* An image's /dev that is a link would make us put nodes elsewhere, say into a volume (CVE-2026-41579). */
static uint64_t device_resolve(const char *path)
{
	return text_starts(path, "/dev/") ? RESOLVE_NO_SYMLINKS : 0;
}

/* node "suuuu": path, mode with type, device number, uid, gid. */
int op_node(struct run *r, struct cursor *c)
{
	const char *path = take_str(c);
	uint64_t mode = take_u64(c);
	uint64_t device = take_u64(c);
	uint64_t uid = take_u64(c);
	uint64_t gid = take_u64(c);
	auto_fd parent = make_parent(r, path, device_resolve(path));
	const char *name = last_component(path);
	struct stat about;
	int error;

	if (parent < 0)
		return parent;
	error = sys4(__NR_mknodat, parent, name, mode, device);
	if (error == -EEXIST) {
		error = at(r, STEP_STAT,
			   sys4(__NR_newfstatat, parent, name, &about, AT_SYMLINK_NOFOLLOW));
		if (!error &&
		    ((about.st_mode & S_IFMT) != (mode & S_IFMT) || about.st_rdev != device))
			error = at(r, STEP_VERIFY, -EEXIST);
		return error;
	}
	if (error)
		return at(r, STEP_MKNOD, error);
	if (!uid && !gid)
		return 0;
	return at(r, STEP_CHOWN, sys5(__NR_fchownat, parent, name, uid, gid, AT_SYMLINK_NOFOLLOW));
}

/* symlink "ssu": what it says, path, bits. One that is there already stays, unless it is to be replaced. */
int op_symlink(struct run *r, struct cursor *c)
{
	const char *text = take_str(c);
	const char *path = take_str(c);
	uint64_t bits = take_u64(c);
	auto_fd parent = make_parent(r, path, device_resolve(path));
	const char *name = last_component(path);
	int error;

	if (parent < 0)
		return parent;
	if (bits & SYMLINK_REPLACE)
		sys3(__NR_unlinkat, parent, name, 0);
	error = sys3(__NR_symlinkat, text, parent, name);
	return error == -EEXIST ? 0 : at(r, STEP_SYMLINK, error);
}

/*
 * sysctl "ss": path beneath /proc/sys, value. It comes before pivot_root, so /proc is the host's and nothing that a
 * container mounted; it is checked to be procfs all the same, and nothing mounted inside it is entered (CVE-2025-52881).
 */
int op_sysctl(struct run *r, struct cursor *c)
{
	const char *path = take_str(c);
	const char *value = take_str(c);
	struct stat about;
	auto_fd file = -1;
	auto_fd proc = at(r, STEP_OPEN,
			  openat2(AT_FDCWD, "/proc", O_PATH | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS));
	size_t length = text_length(value);
	int written;

	if (proc < 0)
		return proc;
	if (must_be_procfs(proc) || sys2(__NR_fstat, proc, &about) ||
	    about.st_ino != PROC_ROOT_INODE)
		return at(r, STEP_VERIFY, -EXDEV);
	file = at(r, STEP_OPEN,
		  openat2(proc, path, O_WRONLY, 0,
			  RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS));
	if (file < 0)
		return file;
	written = sys3(__NR_write, file, value, length);
	if (written >= 0 && (size_t)written != length) /* it stops where it has all that it wants */
		written = -EINVAL;
	return at(r, STEP_WRITE, written < 0 ? written : 0);
}

static int open_new_root(struct run *r)
{
	int error = at(r, STEP_CHDIR, sys1(__NR_chdir, "/"));
	int root;

	if (error)
		return error;
	root = at(r, STEP_OPEN, openat2(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0, 0));
	if (root < 0)
		return root;
	if (r->root >= 0)
		sys1(__NR_close, r->root);
	r->root = root;
	return 0;
}

/*
 * The old root ends up on top of the new one, and is taken off. It turns into a slave first: taking it off must not
 * reach the host. No descriptor of it stays.
 */
int op_pivot_root(struct run *r, struct cursor *c)
{
	auto_fd old = at(r, STEP_OPEN, openat2(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0, 0));
	int error;

	(void)c;
	if (old < 0)
		return old;
	error = at(r, STEP_CHDIR, sys1(__NR_fchdir, r->root));
	if (!error)
		error = at(r, STEP_PIVOT_ROOT, sys2(__NR_pivot_root, ".", "."));
	if (!error)
		error = at(r, STEP_CHDIR, sys1(__NR_fchdir, old));
	if (!error)
		error = at(r, STEP_MOUNT,
			   sys5(__NR_mount, NULL, ".", NULL, MS_SLAVE | MS_REC, NULL));
	if (!error)
		error = at(r, STEP_UMOUNT, sys2(__NR_umount2, ".", MOUNT_DETACH));
	return error ? error : open_new_root(r);
}

/* A whole procfs or sysfs below the new root would give the host away to a process that climbs out: off with it. */
static int remove_host_mount(struct run *r, const char *path)
{
	int error;

	sys5(__NR_mount, NULL, path, NULL, MS_SLAVE | MS_REC, NULL);
	error = sys2(__NR_umount2, path, MOUNT_DETACH);
	if (error == -EPERM) /* locked by a user namespace: cover it */
		error = sys5(__NR_mount, "tmpfs", path, "tmpfs", MS_RDONLY, "size=0");
	return error == -EINVAL || error == -ENOENT ? 0 : at(r, STEP_UMOUNT, error);
}

/* Where the root is a ramfs, pivot_root fails; moving the mount is weaker (the host stays mounted below). */
int op_move_root(struct run *r, struct cursor *c)
{
	int error = remove_host_mount(r, "/proc");

	(void)c;
	if (!error)
		error = remove_host_mount(r, "/sys");
	if (!error)
		error = at(r, STEP_CHDIR, sys1(__NR_fchdir, r->root));
	if (!error)
		error = at(r, STEP_MOUNT, sys5(__NR_mount, ".", "/", NULL, MS_MOVE, NULL));
	if (!error)
		error = at(r, STEP_CHROOT, sys1(__NR_chroot, "."));
	return error ? error : open_new_root(r);
}

/* chroot "s": for a container that shares the mount namespace. "/" opens the root and changes nothing. */
int op_chroot(struct run *r, struct cursor *c)
{
	const char *path = take_str(c);
	int error = 0;

	if (!text_equal(path, "/")) {
		error = at(r, STEP_CHDIR, sys1(__NR_chdir, path));
		if (!error)
			error = at(r, STEP_CHROOT, sys1(__NR_chroot, "."));
	}
	return error ? error : open_new_root(r);
}

/* enter_root "u": slot of the root directory of a container that shares our mount namespace. */
int op_enter_root(struct run *r, struct cursor *c)
{
	uint64_t slot = take_u64(c);
	int error;

	if (slot >= r->slot_count)
		return at(r, STEP_PROTOCOL, -EPROTO);
	error = at(r, STEP_CHDIR, sys1(__NR_fchdir, r->slots[slot]));
	if (!error)
		error = at(r, STEP_CHROOT, sys1(__NR_chroot, "."));
	return error ? error : open_new_root(r);
}

/* root_propagation "u": MS_* flags for the container's own root. */
int op_root_propagation(struct run *r, struct cursor *c)
{
	return at(r, STEP_MOUNT, sys5(__NR_mount, NULL, "/", NULL, take_u64(c), NULL));
}

/* make_cwd "s" */
int op_make_cwd(struct run *r, struct cursor *c)
{
	auto_fd fd = make_directory(r, take_str(c), 0);

	return fd < 0 ? fd : 0;
}
